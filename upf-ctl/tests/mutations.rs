//! A hundred thousand broken messages against a live controller with sessions: nothing dies, nothing is lost,
//! nothing is half-changed.
//!
//! The messages are made from good ones of every type. What a message may do is bounded by who sends it, so the
//! sessions under watch can be compared afterwards without a model of the mutations:
//! * from a *stranger's* address, session messages carry SEIDs of which ours are none (a mutated one would have
//!   to hit 32 random bits), and node messages concern the stranger;
//! * from the *SMF's own* address, session messages go to one session that is given up for the purpose; it may
//!   change, but must stay what the data plane and the store have, too.

mod smf;

use smf::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const MESSAGES: usize = 100_000;
/// Sent before waiting for the controller to have caught up: stays within its queue and the socket's.
const BURST: usize = 100;

/// xorshift64*: the same messages in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Mutates everything but the header's SEID, whose turn is `spare_seid`'s.
fn mutate(message: &[u8], random: &mut Random, spare_header: bool) -> Vec<u8> {
    let mut octets = message.to_vec();
    let first = if spare_header { 16.min(octets.len()) } else { 0 };
    for _ in 0..1 + random.below(4) {
        let at = first + random.below(octets.len().saturating_sub(first));
        match random.below(6) {
            0 if at < octets.len() => octets[at] ^= 1 << random.below(8),
            1 if at < octets.len() => octets[at] = random.next() as u8,
            2 if at < octets.len() => octets[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => octets.truncate(at.max(first)),
            4 if at < octets.len() => {
                let end = (at + random.below(40)).min(octets.len());
                let copy = octets[at..end].to_vec();
                octets.splice(at..at, copy);
            }
            _ if at < octets.len() => {
                let end = (at + random.below(20)).min(octets.len());
                octets.drain(at..end);
            }
            _ => {}
        }
    }
    // Half of them with a length that is right, so that the mutation is looked at.
    if random.below(2) == 0 && octets.len() >= 4 {
        let length = (octets.len() - 4) as u16;
        octets[2..4].copy_from_slice(&length.to_be_bytes());
    }
    octets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_mutated_messages_neither_kill_nor_change_anything() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    for n in 1..=20_u8 {
        let established = smf.establish(n.into(), Ipv4Addr::new(10, 70, 0, n)).await;
        assert_eq!(established.cause(), ACCEPTED);
    }
    let given_up = smf.establish(99, Ipv4Addr::new(10, 70, 0, 99)).await.up_seid();
    let watched = |upf: &Upf| {
        let mut sessions = upf.plane.sessions();
        sessions.retain(|s| s.seid.0 != given_up && s.ue_ips.iter().any(|ue| is_watched(ue.ipv4)));
        sessions
    };
    let before = watched(&upf);
    assert_eq!(before.len(), 20);

    let mut stranger = Smf::at(SocketAddr::new(host(network, 3).into(), 8805), upf.address).await;
    let change = smf.downlink(FORWARD, 7);
    // A name, so that no mutation makes it the SMF's address.
    let node_id = ie(60, b"\x02\x08stranger\x07example");
    let mut establishment = stranger.establishment(500, Ipv4Addr::new(10, 80, 0, 1));
    establishment[0] = node_id.clone();
    let mut from_stranger = Vec::new();
    for (message_type, seid, elements) in [
        (HEARTBEAT_REQUEST, None, vec![stranger.recovery_time_stamp()]),
        (
            ASSOCIATION_SETUP_REQUEST,
            None,
            vec![node_id.clone(), stranger.recovery_time_stamp()],
        ),
        (ASSOCIATION_UPDATE_REQUEST, None, vec![node_id.clone()]),
        (ASSOCIATION_RELEASE_REQUEST, None, vec![node_id.clone()]),
        (ESTABLISHMENT_REQUEST, Some(0), establishment),
        (MODIFICATION_REQUEST, Some(0x0123_4567_89ab_cdef), vec![change.clone()]),
        (DELETION_REQUEST, Some(0x0123_4567_89ab_cdef), vec![]),
        (REPORT_RESPONSE, Some(1), vec![ie(19, &[1])]),
    ] {
        from_stranger.push(stranger.message(message_type, seid, &elements));
    }
    let query = group(77, &[urr_id(1)]);
    let more = group(
        1,
        &[pdr_id(3), precedence(50), uplink_pdi(&[5, 7]), ie(95, &[0]), far_id(1)],
    );
    let mut from_smf = Vec::new();
    for elements in [
        vec![change],
        vec![query],
        vec![more],
        smf.establishment(7, UE_OF_GIVEN_UP)[2..].to_vec(),
    ] {
        from_smf.push(smf.message(MODIFICATION_REQUEST, Some(given_up), &elements));
    }

    let mut random = Random(0x5eed);
    let mut sent = 0;
    while sent < MESSAGES {
        for _ in 0..BURST {
            let own = random.below(3) == 0;
            let (from, seeds) = if own {
                (&smf, &from_smf)
            } else {
                (&stranger, &from_stranger)
            };
            let mut seed = seeds[random.below(seeds.len())].clone();
            // Another sequence number each time: a duplicate would only be answered from memory.
            let sequence_at = if seed[0] & 1 == 1 { 12 } else { 4 };
            seed[sequence_at..sequence_at + 3].copy_from_slice(&(sent as u32).to_be_bytes()[1..]);
            from.send(&mutate(&seed, &mut random, own)).await;
            sent += 1;
        }
        // The answer to a heartbeat says that the receiving task has seen the burst; a refused deletion, that the
        // controller has.
        loop {
            stranger.sequence = 0x00f0_0000 + sent as u32;
            let probe = stranger.message(DELETION_REQUEST, Some(1), &[]);
            stranger.send(&probe).await;
            let mut answered = false;
            while let Some(answer) = stranger.receive_within(Duration::from_millis(500)).await {
                answered |= answer.sequence == stranger.sequence && answer.message_type == DELETION_REQUEST + 1;
                if answered {
                    break;
                }
            }
            if answered {
                break;
            }
        }
        while smf.receive_within(Duration::ZERO).await.is_some() {}
    }

    // None was lost on the way: each was served or discarded for a reason, and the queue never overflowed.
    let (_, metrics) = upf.get("/metrics").await;
    let counted = metrics.lines().filter(|line| {
        line.starts_with("upf_pfcp_messages_total{direction=\"received\"")
            || line.starts_with("upf_pfcp_discarded_total")
    });
    let counted: usize = counted
        .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert!(counted >= MESSAGES, "{counted} of {MESSAGES}: {metrics}");
    assert!(!metrics.contains("queue-full"), "{metrics}");

    assert_eq!(watched(&upf), before);
    // The controller, the data plane and the store are of one mind about every session there is now.
    let mut listed = Vec::new();
    for session in upf.plane.sessions() {
        let detail = upf.json(&format!("/v1/sessions/{}", session.seid)).await;
        assert_eq!(detail["rules"], serde_json::to_value(&session).unwrap());
        listed.push(session);
    }
    assert_eq!(upf.json("/v1/status").await["sessions"], listed.len());
    upf.stop().await;
    let upf = Upf::start(network, &directory.0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(upf.plane.sessions(), listed);
    upf.stop().await;
}

const UE_OF_GIVEN_UP: Ipv4Addr = Ipv4Addr::new(10, 70, 0, 99);

fn is_watched(ue: Option<Ipv4Addr>) -> bool {
    ue.is_some_and(|a| a.octets()[..3] == [10, 70, 0] && (1..=20).contains(&a.octets()[3]))
}
