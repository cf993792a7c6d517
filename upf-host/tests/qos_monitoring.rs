//! Packet delay by time stamps in GTP-U (TS 23.501 5.33.3.2): which packets are marked, what answers are taken for.

mod support;

use gtpu::{DownlinkInformation, PduSessionContainer, TimeStamp, UplinkInformation, UplinkTimeStamps};
use support::*;
use upf_host::counters::{DropReason, HostEvent};
use upf_model::batch::DelayUsage;
use upf_model::{Qfi, Session, SessionId};

/// A UPF that marks a packet of each QoS flow every 100 ms.
fn upf(more: &str) -> Upf {
    let mut upf = Upf::resolved(&format!("{CONFIG}qos: {{ delay: {{ every_ms: 100{more} }} }}\n"));
    upf.put(&session());
    upf
}

/// The container of a downlink packet that goes through now.
fn sent(upf: &mut Upf, payload: &[u8]) -> DownlinkInformation {
    let (port, frame) = upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, payload)));
    assert_eq!(port, N3);
    let (_, _, inner) = tunnelled(&frame);
    assert_eq!(&inner[28..], payload, "the user's packet is as it was");
    let message = &ip_of(&frame)[28..];
    match gtpu::Header::parse(message).unwrap().pdu_session_container() {
        Ok(Some(PduSessionContainer::Downlink(information))) => information,
        other => panic!("{other:?}"),
    }
}

fn now(upf: &Upf) -> u64 {
    upf.now.exact_wall_ns()
}

/// What a gNB answers whose clock is `ahead_ns` ahead of ours: a packet that was marked at `sent` reached it after
/// `down_ms`, and was answered after `held_ms` more.
fn answer(sent: TimeStamp, sent_ns: u64, ahead_ns: u64, down_ms: u64, held_ms: u64) -> UplinkInformation {
    let received = sent_ns + ahead_ns + down_ms * 1_000_000;
    UplinkInformation {
        qfi: 9,
        time_stamps: Some(UplinkTimeStamps {
            downlink_sent: sent.0,
            downlink_received: TimeStamp::from_unix_ns(received).0,
            uplink_sent: TimeStamp::from_unix_ns(received + held_ms * 1_000_000).0,
        }),
        ..UplinkInformation::default()
    }
}

/// A frame from the gNB with that container.
fn uplink_with(information: UplinkInformation, inner: &[u8]) -> Vec<u8> {
    let container = PduSessionContainer::Uplink(information);
    let mut message = vec![0; 64];
    let len = gtpu::write_gpdu_header(&mut message, 0x100, inner.len(), Some(&container)).unwrap();
    message.truncate(len);
    message.extend_from_slice(inner);
    gtpu_frame(&message)
}

/// Delay of QoS flow 9: measurements, and milliseconds down, up and there and back.
fn measured(upf: &mut Upf) -> (u64, [u64; 3]) {
    let usage = upf.usage(SessionId(1));
    let [(Qfi(9), delay)] = usage.delays[..] else {
        panic!("{usage:?}")
    };
    let DelayUsage {
        answers,
        downlink_ns,
        uplink_ns,
        round_trip_ns,
    } = delay;
    // A time stamp's fraction of a second is cut off at 2^-32.
    (
        answers,
        [downlink_ns, uplink_ns, round_trip_ns].map(|ns| (ns + 500_000) / 1_000_000),
    )
}

#[test]
fn a_downlink_packet_in_a_while_leaves_with_the_time() {
    let mut upf = upf("");
    let first = sent(&mut upf, b"one");
    assert_eq!(first.sending_time, Some(TimeStamp::from_unix_ns(now(&upf)).0));
    assert_eq!(first.qfi, 9);
    for _ in 0..9 {
        upf.wait_ms(11);
        assert_eq!(sent(&mut upf, b"more").sending_time, None);
    }
    upf.wait_ms(1);
    assert!(sent(&mut upf, b"next").sending_time.is_some());
    assert_eq!(upf.events(HostEvent::MonitoringMarked), 2);
}

#[test]
fn without_configuration_nothing_is_marked_and_answers_measure_nothing() {
    let mut upf = Upf::new();
    upf.put(&session());
    assert_eq!(sent(&mut upf, b"plain").sending_time, None);
    let information = answer(TimeStamp::from_unix_ns(now(&upf)), now(&upf), 0, 0, 0);
    upf.forwarded(N3, &uplink_with(information, &udp(UE, SERVER, 64, b"hello")));
    assert_eq!(upf.events(HostEvent::MonitoringIgnored), 1);
    assert!(upf.usage(SessionId(1)).delays.is_empty());
}

#[test]
fn a_packet_that_a_time_stamp_makes_too_long_is_left_to_the_next_one() {
    let mut upf = upf("");
    // 1,500 bytes of MTU hold 1,456 bytes of user's packet: 20 IPv4, 8 UDP, 16 GTP-U.
    let longest = vec![0; 1_456 - 28];
    assert_eq!(sent(&mut upf, &longest).sending_time, None);
    assert!(sent(&mut upf, &longest[..longest.len() - 8]).sending_time.is_some());
}

#[test]
fn delay_is_n3s_and_the_airs_whatever_the_gnbs_clock_says() {
    let mut upf = upf("");
    let stamp = TimeStamp(sent(&mut upf, b"ping").sending_time.unwrap());
    let sent_ns = now(&upf);
    // 4 ms down, 20 ms until the UE has something to send, 8 ms up.
    upf.wait_ms(32);
    let information = UplinkInformation {
        downlink_delay: Some(10),
        uplink_delay: Some(30),
        ..answer(stamp, sent_ns, 7_777_000_000_000, 4, 20)
    };
    let inner = udp(UE, SERVER, 64, b"pong");
    let (port, frame) = upf.forwarded(N3, &uplink_with(information, &inner));
    assert_eq!(
        (port, &ip_of(&frame)[20..]),
        (N6, &inner[20..]),
        "the user's packet goes on"
    );
    assert_eq!(measured(&mut upf), (1, [6 + 10, 6 + 30, 12 + 40]));
}

#[test]
fn where_clocks_agree_each_way_has_its_own() {
    let mut upf = upf(", clocks_agree: true");
    let stamp = TimeStamp(sent(&mut upf, b"ping").sending_time.unwrap());
    let sent_ns = now(&upf);
    upf.wait_ms(32);
    let inner = udp(UE, SERVER, 64, b"pong");
    upf.forwarded(N3, &uplink_with(answer(stamp, sent_ns, 0, 4, 20), &inner));
    assert_eq!(measured(&mut upf), (1, [4, 8, 12]));
}

#[test]
fn an_answer_without_a_users_packet_is_taken_and_goes_nowhere() {
    let mut upf = upf("");
    let stamp = TimeStamp(sent(&mut upf, b"ping").sending_time.unwrap());
    let sent_ns = now(&upf);
    upf.wait_ms(10);
    let out = upf.receive(N3, &uplink_with(answer(stamp, sent_ns, 0, 5, 0), b""));
    assert!(out.is_empty() && upf.drops().is_empty(), "{:?}", upf.drops());
    assert_eq!(measured(&mut upf), (1, [5, 5, 10]));
    let pdrs = upf.usage(SessionId(1)).pdrs;
    assert_eq!(pdrs[0].1.packets, 0, "no packet of the user's");
    upf.dropped(N3, &uplink(0x100, Some(9), b""), DropReason::InnerNotIp);
}

#[test]
fn answers_that_contradict_themselves_measure_nothing() {
    let mut upf = upf("");
    let sent_ns = now(&upf);
    upf.wait_ms(10);
    let stamp = TimeStamp::from_unix_ns;
    let inner = udp(UE, SERVER, 64, b"pong");
    let wrong = [
        answer(stamp(sent_ns + 11_000_000), sent_ns, 0, 0, 0), // from the future
        answer(stamp(sent_ns - 70_000_000_000), sent_ns, 0, 0, 0), // of more than a minute ago
        answer(stamp(sent_ns), sent_ns, 0, 1, 20),             // held for longer than it was away
        answer(stamp(0), 0, 0, 0, 0),
        UplinkInformation {
            qfi: 5, // of no QoS flow of the session
            ..answer(stamp(sent_ns), sent_ns, 0, 1, 1)
        },
    ];
    for information in wrong {
        upf.forwarded(N3, &uplink_with(information, &inner));
    }
    assert_eq!(upf.events(HostEvent::MonitoringIgnored), wrong.len() as u64);
    assert_eq!(measured(&mut upf), (0, [0, 0, 0]));
}

#[test]
fn a_change_of_rules_measures_on_and_a_new_qos_flow_begins_anew() {
    let mut upf = upf("");
    let stamp = TimeStamp(sent(&mut upf, b"ping").sending_time.unwrap());
    let sent_ns = now(&upf);
    let mut other: Session = session();
    other.qers.push(upf_model::Qer {
        id: upf_model::QerId(2),
        qfi: Some(Qfi(5)),
        ..other.qers[0].clone()
    });
    upf.put(&other);
    assert_eq!(sent(&mut upf, b"not yet").sending_time, None);
    upf.wait_ms(10);
    upf.receive(N3, &uplink_with(answer(stamp, sent_ns, 0, 5, 0), b""));
    let usage = upf.usage(SessionId(1));
    let answers: Vec<(Qfi, u64)> = usage.delays.iter().map(|(qfi, delay)| (*qfi, delay.answers)).collect();
    assert_eq!(answers, [(Qfi(5), 0), (Qfi(9), 1)]);
}
