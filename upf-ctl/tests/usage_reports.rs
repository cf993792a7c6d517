//! Usage reports that nobody asked for: thresholds and periods (TS 29.244 5.2.2.3).

mod smf;

use smf::*;
use std::net::Ipv4Addr;
use std::time::Duration;
use upf_model::batch::{Count, UrrUsage};
use upf_model::{SessionId, UrrId};

const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
/// A poll comes every second.
const POLLED: Duration = Duration::from_millis(1_600);
const REFUSED: u8 = 64;
const CONDITIONAL_IE_MISSING: u8 = 67;
const NOT_SUPPORTED: u8 = 76;

const PERIO: u8 = 1;
const VOLTH: u8 = 2;
const TIMTH: u8 = 4;

fn method(flags: u8) -> Vec<u8> {
    ie(62, &[flags])
}
fn triggers(octet: u8) -> Vec<u8> {
    ie(37, &[octet, 0, 0])
}
fn total_threshold(octets: u64) -> Vec<u8> {
    ie(31, &[&[1], octets.to_be_bytes().as_slice()].concat())
}

/// Establishes a session whose URR 1 consists of its identifier and `urr`.
async fn establish(smf: &mut Smf, urr: &[Vec<u8>]) -> Received {
    let mut elements = smf.establishment(1, UE);
    elements.retain(|element| element[..2] != [0, 6]);
    elements.push(group(6, &[&[urr_id(1)], urr].concat()));
    smf.ask(ESTABLISHMENT_REQUEST, Some(0), &elements).await
}

async fn reporting_at(smf: &mut Smf, upf: &Upf, octets: u64) -> (u64, SessionId) {
    let urr = [method(2), triggers(VOLTH), total_threshold(octets)];
    let seid = establish(smf, &urr).await.up_seid();
    (seid, upf.plane.sessions()[0].id)
}

fn used(uplink: u64, downlink: u64) -> UrrUsage {
    let count = |bytes: u64| Count {
        packets: bytes / 100,
        bytes,
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    UrrUsage {
        uplink: count(uplink),
        downlink: count(downlink),
        first_packet_ns: now,
        last_packet_ns: now,
    }
}

/// What a Usage Report says.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    sequence: u32,
    trigger: [u8; 2],
    /// Total, uplink, downlink.
    volume: Vec<u64>,
}

fn told(report: &[u8]) -> Told {
    let parts = elements(report);
    let part = |t: u16| parts.iter().find(|(found, _)| *found == t).unwrap().1.clone();
    let volume = part(66)[1..]
        .chunks(8)
        .map(|c| u64::from_be_bytes(c.try_into().unwrap()))
        .collect();
    Told {
        sequence: u32::from_be_bytes(part(104).try_into().unwrap()),
        trigger: part(63)[..2].try_into().unwrap(),
        volume,
    }
}

fn volume(sequence: u32, trigger: u8, volume: [u64; 3]) -> Told {
    Told {
        sequence,
        trigger: [trigger, 0],
        volume: volume.to_vec(),
    }
}

/// The next Usage Report that comes in a Session Report Request.
async fn next_report(smf: &mut Smf, time: Duration) -> Option<(Received, Told)> {
    let request = smf.request_within(time).await?;
    assert_eq!((request.message_type, request.one(39)), (REPORT_REQUEST, vec![2]));
    let report = told(&request.one(80));
    Some((request, report))
}

async fn answer(smf: &Smf, request: &Received, cause: u8) {
    let response = message(REPORT_RESPONSE, Some(1), request.sequence, &[ie(19, &[cause])]);
    smf.send(&response).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_volume_threshold_is_reported_once_and_counting_starts_anew() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let (seid, id) = reporting_at(&mut smf, &upf, 1_000).await;
    upf.plane.measure(id, UrrId(1), used(400, 500));
    assert!(next_report(&mut smf, POLLED).await.is_none());
    upf.plane.measure(id, UrrId(1), used(600, 500));
    let (request, report) = next_report(&mut smf, POLLED).await.unwrap();
    assert_eq!(report, volume(0, VOLTH, [1_100, 600, 500]));
    // The same datagram again, as long as there is no answer.
    let again = smf.request_within(Duration::from_millis(500)).await.unwrap();
    assert_eq!(again.datagram, request.datagram);
    answer(&smf, &request, ACCEPTED).await;
    upf.plane.measure(id, UrrId(1), used(1_500, 500));
    assert!(next_report(&mut smf, POLLED).await.is_none());
    upf.plane.measure(id, UrrId(1), used(1_500, 700));
    let (request, report) = next_report(&mut smf, POLLED).await.unwrap();
    assert_eq!(report, volume(1, VOLTH, [1_100, 900, 200]));
    answer(&smf, &request, ACCEPTED).await;
    // The end tells what is left.
    upf.plane.measure(id, UrrId(1), used(1_501, 702));
    let last = told(&smf.delete(seid).await.one(79));
    assert_eq!((last.sequence, last.trigger[1]), (2, 0x08));
    assert_eq!(last.volume, [3, 1, 2]);
    upf.stop().await;
}

#[tokio::test]
async fn what_the_smf_refuses_to_take_is_part_of_the_next_report() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let (seid, id) = reporting_at(&mut smf, &upf, 1_000).await;
    upf.plane.measure(id, UrrId(1), used(1_000, 0));
    let (request, _) = next_report(&mut smf, POLLED).await.unwrap();
    answer(&smf, &request, REFUSED).await;
    upf.plane.measure(id, UrrId(1), used(1_000, 10));
    let query = group(77, &[urr_id(1)]);
    let queried = told(&smf.ask(MODIFICATION_REQUEST, Some(seid), &[query]).await.one(78));
    assert_eq!(queried, volume(1, 0x80, [1_010, 1_000, 10]));
    assert!(next_report(&mut smf, Duration::from_secs(4)).await.is_none());
    upf.stop().await;
}

#[tokio::test]
async fn a_report_without_an_answer_is_told_again_even_by_the_next_controller() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let (_, id) = reporting_at(&mut smf, &upf, 1_000).await;
    upf.plane.measure(id, UrrId(1), used(1_000, 0));
    let (_, report) = next_report(&mut smf, POLLED).await.unwrap();
    assert_eq!(report.sequence, 0);
    upf.stop().await;
    while smf.receive_within(Duration::from_millis(300)).await.is_some() {}
    let upf = Upf::start(network, &directory.0).await;
    // The plane went on counting.
    upf.plane.measure(id, UrrId(1), used(1_000, 0));
    let (request, report) = next_report(&mut smf, POLLED).await.unwrap();
    assert_eq!(report, volume(1, VOLTH, [1_000, 1_000, 0]));
    answer(&smf, &request, ACCEPTED).await;
    assert!(next_report(&mut smf, POLLED).await.is_none());
    upf.stop().await;
}

#[tokio::test]
async fn usage_is_reported_every_period_and_several_rules_share_a_request() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let period = ie(64, &1_u32.to_be_bytes());
    let mut elements = smf.establishment(1, UE);
    elements.retain(|element| element[..2] != [0, 6]);
    for id in [1, 2] {
        elements.push(group(6, &[urr_id(id), method(2), triggers(PERIO), period.clone()]));
    }
    assert_eq!(
        smf.ask(ESTABLISHMENT_REQUEST, Some(0), &elements).await.cause(),
        ACCEPTED
    );
    for sequence in 0..2 {
        let (request, report) = next_report(&mut smf, Duration::from_millis(2_600)).await.unwrap();
        assert_eq!(report, volume(sequence, PERIO, [0; 3]));
        assert_eq!(request.all(80).len(), 2);
        answer(&smf, &request, ACCEPTED).await;
    }
    upf.stop().await;
}

#[tokio::test]
async fn a_time_threshold_is_counted_from_the_first_packet() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let urr = [method(3), triggers(TIMTH), ie(32, &1_u32.to_be_bytes())];
    establish(&mut smf, &urr).await;
    assert!(next_report(&mut smf, Duration::from_millis(2_200)).await.is_none());
    upf.plane.measure(upf.plane.sessions()[0].id, UrrId(1), used(100, 0));
    let (request, report) = next_report(&mut smf, Duration::from_millis(3_000)).await.unwrap();
    assert_eq!(report, volume(0, TIMTH, [100, 100, 0]));
    let duration = elements(&request.one(80))
        .into_iter()
        .find(|(t, _)| *t == 67)
        .unwrap()
        .1;
    assert!((1..=2).contains(&duration[3]), "{duration:?}");
    upf.stop().await;
}

#[tokio::test]
async fn a_threshold_can_be_changed_and_holds_for_what_is_not_reported_yet() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let (seid, id) = reporting_at(&mut smf, &upf, 1_000_000).await;
    upf.plane.measure(id, UrrId(1), used(600, 0));
    assert!(next_report(&mut smf, POLLED).await.is_none());
    let update = group(13, &[urr_id(1), total_threshold(500)]);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[update]).await.cause(),
        ACCEPTED
    );
    let (_, report) = next_report(&mut smf, POLLED).await.unwrap();
    assert_eq!(report, volume(0, VOLTH, [600, 600, 0]));
    upf.stop().await;
}

#[tokio::test]
async fn what_open5gs_and_free5gc_ask_for_is_accepted_and_what_cannot_be_kept_is_refused() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let both = ie(
        31,
        &[&[6], 1_000_u64.to_be_bytes().as_slice(), &2_000_u64.to_be_bytes()].concat(),
    );
    let accepted = [
        // 100 MiB of both directions, as open5gs has it.
        vec![method(2), triggers(VOLTH), total_threshold(104_857_600)],
        // Every ten seconds and thresholds of each direction, packets too, as free5gc has it.
        vec![
            method(2),
            triggers(PERIO | VOLTH),
            ie(64, &10_u32.to_be_bytes()),
            both,
            ie(100, &[0x10]),
        ],
    ];
    for urr in accepted {
        let established = establish(&mut smf, &urr).await;
        assert_eq!(established.cause(), ACCEPTED, "{established:?}");
        smf.delete(established.up_seid()).await;
    }
    let quota = ie(73, &[&[1], 1_000_u64.to_be_bytes().as_slice()].concat());
    let refused = [
        (vec![method(2), triggers(VOLTH)], CONDITIONAL_IE_MISSING, 31),
        (vec![method(1), triggers(TIMTH)], CONDITIONAL_IE_MISSING, 32),
        (vec![method(2), triggers(PERIO)], CONDITIONAL_IE_MISSING, 64),
        (vec![method(2), triggers(VOLTH), total_threshold(0)], 69, 31),
        (vec![method(1), triggers(VOLTH), total_threshold(9)], 69, 37),
        (vec![method(2), triggers(0), quota], NOT_SUPPORTED, 73),
        (vec![method(2), triggers(0x10)], NOT_SUPPORTED, 37),
    ];
    for (urr, cause, offending) in refused {
        let response = establish(&mut smf, &urr).await;
        assert_eq!((response.cause(), response.offending_ie()), (cause, Some(offending)));
    }
    upf.stop().await;
}
