//! What session requests do, seen by an SMF on the one side and a data plane on the other.

mod smf;

use smf::*;
use std::net::Ipv4Addr;
use std::time::Duration;
use upf_ctl::planes::memory::Failure;
use upf_model::batch::{Change, Count, UrrUsage};
use upf_model::{Disposition, FarId, UrrId};

const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
const OTHER_UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 3);

#[tokio::test]
async fn a_session_is_established_modified_and_deleted_in_the_data_plane() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;

    let established = smf.establish(77, UE).await;
    assert_eq!((established.cause(), established.seid), (ACCEPTED, Some(77)));
    assert_ne!(established.created_teid(), 0);
    let sessions = upf.plane.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].seid.0, established.up_seid());
    assert_eq!(
        sessions[0].pdrs[0].pdi.local_fteid.unwrap().teid.0,
        established.created_teid()
    );

    let change = smf.downlink(FORWARD, 0x1234);
    let modified = smf
        .ask(MODIFICATION_REQUEST, Some(established.up_seid()), &[change])
        .await;
    assert_eq!((modified.cause(), modified.seid), (ACCEPTED, Some(77)));
    let sessions = upf.plane.sessions();
    let tunnel = sessions[0]
        .far(FarId(2))
        .unwrap()
        .forwarding
        .as_ref()
        .unwrap()
        .outer_header_creation
        .unwrap();
    assert_eq!(tunnel.teid.0, 0x1234);

    let deleted = smf.delete(established.up_seid()).await;
    assert_eq!((deleted.cause(), deleted.seid), (ACCEPTED, Some(77)));
    assert!(upf.plane.sessions().is_empty());
    assert_eq!(upf.held().await, (0, 0));
    upf.stop().await;
}

#[tokio::test]
async fn a_retransmitted_request_gets_the_identical_answer_and_runs_once() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let elements = smf.establishment(1, UE);
    let request = smf.message(ESTABLISHMENT_REQUEST, Some(0), &elements);
    smf.send(&request).await;
    let first = smf.response().await;
    for _ in 0..3 {
        smf.send(&request).await;
        assert_eq!(smf.response().await.datagram, first.datagram);
    }
    assert_eq!(upf.plane.sessions().len(), 1);
    upf.stop().await;
}

#[tokio::test]
async fn requests_of_a_burst_are_all_served_and_keep_their_order_within_a_session() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let seid = smf.establish(1, UE).await.up_seid();
    let mut requests = Vec::new();
    for teid in 1..=100 {
        let change = smf.downlink(FORWARD, teid);
        requests.push(smf.message(MODIFICATION_REQUEST, Some(seid), &[change]));
    }
    for request in &requests {
        smf.send(request).await;
    }
    for _ in &requests {
        assert_eq!(smf.response().await.cause(), ACCEPTED);
    }
    let far = upf.plane.sessions()[0].far(FarId(2)).unwrap().clone();
    assert_eq!(far.forwarding.unwrap().outer_header_creation.unwrap().teid.0, 100);
    upf.stop().await;
}

#[tokio::test]
async fn what_a_deletion_gives_back_can_be_had_by_the_request_right_behind_it() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let seid = smf.establish(1, UE).await.up_seid();
    let deletion = smf.message(DELETION_REQUEST, Some(seid), &[]);
    let elements = smf.establishment(2, UE);
    let establishment = smf.message(ESTABLISHMENT_REQUEST, Some(0), &elements);
    smf.send(&deletion).await;
    smf.send(&establishment).await;
    for _ in 0..2 {
        assert_eq!(smf.response().await.cause(), ACCEPTED);
    }
    assert_eq!(upf.held().await, (1, 1));
    upf.stop().await;
}

#[tokio::test]
async fn a_refused_request_names_the_ie_and_leaves_nothing_behind() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;

    // The second PDR names a FAR that is not there; the first one has an F-TEID chosen by then.
    let mut elements = smf.establishment(1, UE);
    elements.retain(|e| e[..2] != 3_u16.to_be_bytes());
    let refused = smf.ask(ESTABLISHMENT_REQUEST, Some(0), &elements).await;
    assert!(refused.cause() >= 64);
    assert_eq!(refused.seid, Some(1));
    assert!(refused.offending_ie().is_some());
    assert_eq!(upf.held().await, (0, 0));
    assert!(upf.plane.sessions().is_empty());

    // A modification that is half good.
    let seid = smf.establish(2, UE).await.up_seid();
    let (before, held) = (upf.plane.sessions(), upf.held().await);
    let good = smf.downlink(FORWARD, 5);
    let bad = group(9, &[pdr_id(99), precedence(1)]);
    let refused = smf.ask(MODIFICATION_REQUEST, Some(seid), &[good, bad]).await;
    assert!(refused.cause() >= 64);
    assert_eq!(upf.plane.sessions(), before);
    assert_eq!(upf.held().await, held);

    // Another session of the same UE address.
    let refused = smf.establish(3, UE).await;
    assert_eq!(refused.cause(), RULE_FAILURE);
    assert_eq!(upf.held().await, held);
    upf.stop().await;
}

#[tokio::test]
async fn what_a_data_plane_refuses_is_undone_everywhere() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;

    upf.plane.fail([Some(Failure::Refuse)]);
    assert_eq!(smf.establish(1, UE).await.cause(), SYSTEM_FAILURE);
    assert_eq!(upf.held().await, (0, 0));

    let seid = smf.establish(1, UE).await.up_seid();
    let before = upf.plane.sessions();
    upf.plane.fail([Some(Failure::Refuse)]);
    let change = smf.downlink(FORWARD, 5);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await.cause(),
        SYSTEM_FAILURE
    );
    assert_eq!(upf.plane.sessions(), before);
    assert_eq!(
        upf.json(&format!("/v1/sessions/{seid}")).await["rules"],
        serde_json::to_value(&before[0]).unwrap()
    );
    upf.stop().await;
}

#[tokio::test]
async fn a_data_plane_whose_answer_is_lost_is_brought_back_to_what_the_smf_was_told() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let seid = smf.establish(1, UE).await.up_seid();
    let before = upf.plane.sessions();
    upf.plane.fail([Some(Failure::LoseAnswer)]);
    let change = smf.downlink(FORWARD, 5);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await.cause(),
        SYSTEM_FAILURE
    );
    // The next request comes after the synchronisation.
    let change = smf.downlink(DROP, 0);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await.cause(),
        ACCEPTED
    );
    assert_eq!(upf.plane.sessions(), before);
    upf.stop().await;
}

#[tokio::test]
async fn what_a_data_plane_is_late_with_is_refused_and_comes_to_nothing() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;

    // Until it has caught up, nothing new is begun.
    upf.plane.fail([Some(Failure::Late)]);
    assert_eq!(smf.establish(1, UE).await.cause(), SYSTEM_FAILURE);
    assert_eq!(upf.held().await, (0, 0));
    assert_eq!(smf.establish(1, UE).await.cause(), CONGESTION);
    upf.plane.take_applied();
    upf.plane.get_on();
    let applied = upf.plane.take_applied();
    assert!(
        matches!(&applied[..], [Change::Put { session, .. }, Change::Remove { id }] if session.id == *id),
        "{applied:?}"
    );
    assert_eq!(upf.plane.sessions(), []);

    let seid = smf.establish(1, UE).await.up_seid();
    let before = upf.plane.sessions();
    upf.plane.fail([Some(Failure::Late)]);
    let change = smf.downlink(FORWARD, 5);
    let answer = smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await;
    assert_eq!(answer.cause(), SYSTEM_FAILURE);
    upf.plane.get_on();
    assert_eq!(upf.plane.sessions(), before);

    // A deletion holds, whenever it gets there. What it held can be had again at once.
    upf.plane.fail([Some(Failure::Late)]);
    assert_eq!(smf.delete(seid).await.cause(), ACCEPTED);
    assert_eq!(upf.held().await, (0, 0));
    assert_eq!(upf.plane.sessions(), before);
    upf.plane.get_on();
    assert_eq!(upf.plane.sessions(), []);
    assert_eq!(smf.establish(2, UE).await.cause(), ACCEPTED);
    assert_eq!(upf.plane.synchronisations(), 1);
    upf.stop().await;
}

#[tokio::test]
async fn one_bad_request_of_a_burst_does_not_take_the_others_with_it() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    // The whole batch is refused, then the first of its requests alone; the others go through.
    upf.plane.fail([Some(Failure::Refuse), Some(Failure::Refuse)]);
    let mut requests = Vec::new();
    for n in 0..5 {
        let elements = smf.establishment(n, Ipv4Addr::new(10, 61, 0, n as u8));
        requests.push(smf.message(ESTABLISHMENT_REQUEST, Some(0), &elements));
    }
    for request in &requests {
        smf.send(request).await;
    }
    let mut accepted = 0;
    for _ in &requests {
        accepted += usize::from(smf.response().await.cause() == ACCEPTED);
    }
    // How the burst is cut into batches is up to the scheduler: one or two of them meet a refusal.
    assert!((3..=4).contains(&accepted), "{accepted}");
    assert_eq!(upf.plane.sessions().len(), accepted);
    assert_eq!(upf.held().await, (accepted as u64, accepted as u64));
    upf.stop().await;
}

#[tokio::test]
async fn without_its_data_plane_the_upf_refuses_new_rules_and_still_deletes() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let first = smf.establish(1, UE).await.up_seid();
    let second = smf.establish(2, OTHER_UE).await.up_seid();
    upf.plane.set_away(true);
    assert_eq!(
        smf.establish(3, Ipv4Addr::new(10, 60, 0, 4)).await.cause(),
        SYSTEM_FAILURE
    );
    let change = smf.downlink(FORWARD, 5);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(first), &[change]).await.cause(),
        SYSTEM_FAILURE
    );
    assert_eq!(smf.delete(first).await.cause(), ACCEPTED);
    // It comes back empty and is filled again, with what is left.
    upf.plane.set_away(false);
    assert_eq!(smf.establish(3, UE).await.cause(), ACCEPTED);
    let seids: Vec<u64> = upf.plane.sessions().iter().map(|s| s.seid.0).collect();
    assert!(seids.contains(&second) && !seids.contains(&first) && seids.len() == 2);
    upf.stop().await;
}

#[tokio::test]
async fn sessions_are_back_after_a_restart_and_the_smf_notices_none() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let established = smf.establish(1, UE).await;
    let seid = established.up_seid();
    let recovery = smf
        .ask(HEARTBEAT_REQUEST, None, &[smf.recovery_time_stamp()])
        .await
        .one(96);
    let (before, held) = (upf.plane.sessions(), upf.held().await);
    upf.stop().await;

    let upf = Upf::start(network, &directory.0).await;
    assert_eq!(
        smf.ask(HEARTBEAT_REQUEST, None, &[smf.recovery_time_stamp()])
            .await
            .one(96),
        recovery
    );
    // Neither a new association nor a new session is needed.
    let change = smf.downlink(DROP, 0);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await.cause(),
        ACCEPTED
    );
    assert_eq!(upf.plane.sessions(), before);
    assert_eq!(upf.held().await, held);
    let other = smf.establish(2, OTHER_UE).await;
    assert_ne!(other.created_teid(), established.created_teid());
    assert_ne!(other.up_seid(), seid);
    upf.stop().await;
}

#[tokio::test]
async fn a_store_as_a_killed_controller_leaves_it_is_whole_and_knows_the_last_answer() {
    let (network, directory, copied) = (network(), Directory::new(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let elements = smf.establishment(1, UE);
    let request = smf.message(ESTABLISHMENT_REQUEST, Some(0), &elements);
    smf.send(&request).await;
    let answer = smf.response().await;
    let before = upf.plane.sessions();
    // What kill -9 leaves: the file as it is at this moment.
    std::fs::copy(directory.0.join("sessions.redb"), copied.0.join("sessions.redb")).unwrap();
    upf.stop().await;

    let upf = Upf::start(network, &copied.0).await;
    smf.send(&request).await;
    assert_eq!(smf.response().await.datagram, answer.datagram);
    assert_eq!(upf.plane.sessions(), before);
    upf.stop().await;
}

#[tokio::test]
async fn a_damaged_store_means_a_new_start_with_a_later_recovery_time_stamp() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let seid = smf.establish(1, UE).await.up_seid();
    let recovery = smf
        .ask(HEARTBEAT_REQUEST, None, &[smf.recovery_time_stamp()])
        .await
        .one(96);
    upf.stop().await;
    std::fs::write(directory.0.join("sessions.redb"), b"no database at all").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    let upf = Upf::start(network, &directory.0).await;
    assert!(
        smf.ask(HEARTBEAT_REQUEST, None, &[smf.recovery_time_stamp()])
            .await
            .one(96)
            > recovery
    );
    assert_eq!(smf.delete(seid).await.cause(), NO_ASSOCIATION);
    assert!(directory.0.join("sessions.redb.unusable").exists());
    upf.stop().await;
}

#[tokio::test]
async fn usage_is_reported_at_deletion_and_on_query_and_survives_the_data_plane() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let seid = smf.establish(1, UE).await.up_seid();
    let id = upf.plane.sessions()[0].id;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    let used = |up: u64, down: u64| UrrUsage {
        uplink: Count {
            packets: up / 100,
            bytes: up,
        },
        downlink: Count {
            packets: down / 100,
            bytes: down,
        },
        first_packet_ns: now,
        last_packet_ns: now,
    };
    // Total, uplink and downlink bytes; UR-SEQN; trigger.
    let read = |report: &[u8]| {
        let parts = elements(report);
        let part = |t: u16| parts.iter().find(|(found, _)| *found == t).unwrap().1.clone();
        let volume: Vec<u64> = part(66)[1..]
            .chunks(8)
            .map(|c| u64::from_be_bytes(c.try_into().unwrap()))
            .collect();
        (volume[..3].to_vec(), part(104), part(63))
    };

    upf.plane.measure(id, UrrId(1), used(1_000, 500));
    let query = group(77, &[urr_id(1)]);
    let modified = smf.ask(MODIFICATION_REQUEST, Some(seid), &[query]).await;
    let (volume, sequence, trigger) = read(&modified.one(78));
    assert_eq!((volume, sequence), (vec![1_500, 1_000, 500], vec![0, 0, 0, 0]));
    assert_eq!(trigger[0], 0x80);

    // The data plane dies after a poll, and counts from zero again.
    upf.plane.measure(id, UrrId(1), used(3_000, 500));
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    upf.plane.set_away(true);
    upf.plane.set_away(false);
    let change = smf.downlink(DROP, 0);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await.cause(),
        ACCEPTED
    );
    upf.plane.measure(id, UrrId(1), used(0, 700));
    let (volume, sequence, trigger) = read(&smf.delete(seid).await.one(79));
    assert_eq!((volume, sequence), (vec![2_700, 2_000, 700], vec![0, 0, 0, 1]));
    assert_eq!(trigger[1], 0x08);
    upf.stop().await;
}

#[tokio::test]
async fn end_markers_go_with_the_change_that_asked_for_them() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let seid = smf.establish(1, UE).await.up_seid();
    let change = smf.downlink(FORWARD, 5);
    smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await;
    upf.plane.take_applied();
    let tunnel = [&[1, 0], 6_u32.to_be_bytes().as_slice(), &[192, 0, 2, 101]].concat();
    let handover = group(10, &[far_id(2), group(11, &[ie(84, &tunnel), ie(49, &[2])])]);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[handover]).await.cause(),
        ACCEPTED
    );
    match upf.plane.take_applied().as_slice() {
        [
            Change::Put {
                session, end_markers, ..
            },
        ] => {
            assert_eq!(end_markers.len(), 1);
            assert_eq!(end_markers[0].teid.0, 5);
            assert_eq!(session.far(FarId(2)).unwrap().action.disposition, Disposition::Forward);
        }
        other => panic!("{other:?}"),
    }
    upf.stop().await;
}

#[tokio::test]
async fn ue_addresses_are_chosen_from_the_pool_until_it_is_empty() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let mut chosen = std::collections::BTreeSet::new();
    let mut last = None;
    // 10.60.0.0/29: eight addresses less network, router and broadcast.
    for n in 1..=6_u64 {
        let mut elements = smf.establishment(n, UE);
        let pdi = group(2, &[ie(20, &[1]), network_instance("internet"), ie(93, &[0x14])]);
        elements[3] = group(1, &[pdr_id(2), precedence(100), pdi, far_id(2), urr_id(1), qer_id(1)]);
        let answer = smf.ask(ESTABLISHMENT_REQUEST, Some(0), &elements).await;
        if n == 6 {
            assert_eq!(answer.cause(), 79);
            break;
        }
        assert_eq!(answer.cause(), ACCEPTED);
        let created = answer
            .all(8)
            .iter()
            .flat_map(|c| smf::elements(c))
            .find(|(t, _)| *t == 93)
            .unwrap()
            .1;
        assert!(chosen.insert(created[1..5].to_vec()));
        last = Some(answer.up_seid());
    }
    assert_eq!(upf.held().await, (5, 5));
    assert_eq!(smf.delete(last.unwrap()).await.cause(), ACCEPTED);
    assert_eq!(upf.held().await, (4, 4));
    upf.stop().await;
}
