//! Behind a P4 target: what it punts is finished as if it had come by a port of ours, what it should know is reported.

mod support;

use etherparse::PacketBuilder;
use support::*;
use upf_host::counters::{DropReason, HostEvent};
use upf_host::neighbours::PortIndex;
use upf_model::batch::{Change, Event, Flow, FlowPacket, FromHost, Neighbour, ToHost};
use upf_model::*;

fn upf_with(session: &Session) -> Upf {
    let mut upf = Upf::behind_p4();
    upf.put(session);
    upf
}

/// The session as the target knows it after the first `put`.
const KNOWN: Option<(SessionId, Epoch)> = Some((SessionId(1), Epoch(1)));

fn up(payload: &[u8]) -> Vec<u8> {
    uplink(0x100, Some(9), &udp(UE, SERVER, 64, payload))
}

fn down(payload: &[u8]) -> Vec<u8> {
    downlink(&udp(SERVER, UE, 64, payload))
}

fn arp_question(target: [u8; 4]) -> Vec<u8> {
    let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    let sender = [&GNB_MAC[..], &GNB.octets()].concat();
    [&[0xff; 6], &GNB_MAC[..], &fixed, &sender, &[0; 6], &target].concat()
}

/// A frame of every kind that a target punts, and where it came in.
fn frames() -> Vec<(PuntReason, PortIndex, Vec<u8>)> {
    let mut echo = [0; 32];
    let n = gtpu::signalling::write_echo_request(&mut echo, 0x4711).unwrap();
    let mut ping = Vec::new();
    PacketBuilder::ethernet2(DN_MAC, UPF_MAC[1])
        .ipv4(DN.octets(), [10, 6, 0, 1], 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut ping, b"ping")
        .unwrap();
    let mut solicitation = Vec::new();
    let octets = |addr: &str| addr.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let body = [&octets("fd03::1")[..], &[1, 1], &GNB_MAC].concat();
    PacketBuilder::ethernet2(GNB_MAC, [0x33, 0x33, 0xff, 0, 0, 1])
        .ipv6(octets("fd03::2"), octets("ff02::1:ff00:1"), 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut solicitation, &body)
        .unwrap();
    let mut may_be_cut = udp(SERVER, UE, 64, &[7; 1450]);
    may_be_cut[6] = 0;
    let sum = etherparse::Ipv4HeaderSlice::from_slice(&may_be_cut)
        .unwrap()
        .to_header()
        .calc_header_checksum();
    may_be_cut[10..12].copy_from_slice(&sum.to_be_bytes());
    vec![
        (PuntReason::FlowMiss, N3, up(b"hello")),
        (PuntReason::FlowMiss, N6, down(b"hello")),
        (PuntReason::Local, N3, arp_question(UPF_N3.octets())),
        (PuntReason::Local, N3, solicitation),
        (PuntReason::Gtpu, N3, gtpu_frame(&echo[..n])),
        (PuntReason::UnknownUe, N6, ping),
        (
            PuntReason::UnknownTeid,
            N3,
            uplink(0x999, None, &udp(UE, SERVER, 64, b"")),
        ),
        (
            PuntReason::HopLimit,
            N3,
            uplink(0x100, Some(9), &udp(UE, SERVER, 1, b"")),
        ),
        (PuntReason::HopLimit, N6, downlink(&udp(SERVER, UE, 1, b""))),
        (PuntReason::Mtu, N6, down(&[7; 1450])),
        (PuntReason::Mtu, N6, downlink(&may_be_cut)),
        (
            PuntReason::Spoofed,
            N3,
            uplink(0x100, Some(9), &udp(DN, SERVER, 64, b"")),
        ),
    ]
}

#[test]
fn what_is_punted_leaves_reinjected_byte_for_byte_as_ports_of_ours_would_send_it() {
    let (mut ours, mut behind) = (Upf::new(), Upf::behind_p4());
    ours.put(&session());
    behind.put(&session());
    for (reason, port, frame) in frames() {
        let sent = ours.receive(port, &frame);
        let expected: Vec<_> = sent.into_iter().map(|(port, frame)| (p4_port(port), frame)).collect();
        let sent = behind.receive_at_host(&[punted(reason, port, KNOWN, &frame)]);
        let found: Vec<_> = sent.iter().map(|(_, frame)| reinjected(frame)).collect();
        assert_eq!(found, expected, "{}", reason.name());
    }
    assert_eq!(behind.drops(), ours.drops());
    assert_eq!(behind.usage(SessionId(1)), ours.usage(SessionId(1)));
}

#[test]
fn a_burst_from_several_ports_keeps_its_order() {
    let mut upf = upf_with(&session());
    let burst: Vec<_> = (0..60)
        .map(|i: u8| match i % 5 {
            0 | 1 | 3 => punted(PuntReason::HostSession, N3, KNOWN, &up(&[i])),
            _ => punted(PuntReason::HostSession, N6, KNOWN, &down(&[i])),
        })
        .collect();
    let sent = upf.receive_at_host(&burst);
    let order: Vec<u8> = sent.iter().map(|(_, frame)| *frame.last().unwrap()).collect();
    assert_eq!(order, (0..60).collect::<Vec<u8>>());
    assert_eq!(upf.events(HostEvent::Reinjected), 60);
}

#[test]
fn next_hops_are_asked_for_through_the_target_and_told_to_the_controller() {
    let mut upf = Upf::unresolved(&config_behind_p4());
    upf.put(&session());
    let sent = upf.receive_at_host(&[punted(PuntReason::NoNeighbour, N3, KNOWN, &up(b"waits"))]);
    let (port, question) = reinjected(&sent[0].1);
    assert_eq!((port, &question[12..14]), (p4_port(N6), &[8, 6][..]), "ARP");
    let mut answer = question.clone();
    answer[..6].copy_from_slice(&UPF_MAC[1]);
    answer[6..12].copy_from_slice(&DN_MAC);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&DN_MAC);
    answer[28..32].copy_from_slice(&DN.octets());
    let answer = punted(PuntReason::Local, N6, None, &answer);
    let sent = upf.receive_at_host(std::slice::from_ref(&answer));
    let (port, frame) = reinjected(&sent[0].1);
    assert_eq!((port, &frame[..6]), (p4_port(N6), &DN_MAC[..]));

    let neighbour = FromHost::Event(Event::Neighbour(Neighbour {
        port: N6.into(),
        addr: DN.into(),
        mac: DN_MAC,
    }));
    assert_eq!(upf.manager.late(), std::slice::from_ref(&neighbour));
    upf.receive_at_host(&[answer]);
    assert_eq!(upf.manager.late(), [], "told already");
    assert_eq!(upf.manager.handle(ToHost::QueryNeighbours), None);
    assert_eq!(upf.manager.late(), [neighbour]);
}

fn apply(upf: &mut Upf, epoch: u32, session: Session) -> Option<FromHost> {
    let change = Change::Put {
        session: Session {
            epoch: Epoch(epoch),
            ..session
        },
        end_markers: vec![],
        discard_buffered: vec![],
    };
    upf.manager.handle(ToHost::Apply {
        seq: epoch.into(),
        changes: vec![change],
    })
}

fn applied(seq: u64) -> FromHost {
    FromHost::Applied {
        seq,
        error: None,
        removed: vec![],
    }
}

#[test]
fn a_session_that_forwards_again_is_answered_for_when_its_buffer_has_left() {
    let mut idle = session();
    idle.fars[1].action.disposition = Disposition::Buffer { notify: true };
    let mut upf = upf_with(&idle);
    for i in 0..3 {
        let sent = upf.receive_at_host(&[punted(PuntReason::Buffer, N6, KNOWN, &down(&[i]))]);
        assert!(sent.is_empty());
    }
    assert_eq!(apply(&mut upf, 2, session()), None, "not yet");
    assert_eq!(upf.manager.late(), []);
    upf.run_commands();
    let order: Vec<u8> = upf.wire.sent.iter().map(|(_, frame)| *frame.last().unwrap()).collect();
    assert_eq!(order, [0, 1, 2]);
    assert_eq!(upf.manager.late(), [applied(2)]);
    assert_eq!(upf.manager.late(), []);
}

#[test]
fn a_session_with_nothing_in_its_buffer_is_answered_for_at_once() {
    let mut idle = session();
    idle.fars[1].action.disposition = Disposition::Buffer { notify: true };
    let mut upf = upf_with(&idle);
    assert_eq!(apply(&mut upf, 2, session()), Some(applied(2)));
}

#[test]
fn a_controller_that_starts_anew_gets_no_answers_to_what_its_predecessor_asked() {
    let mut idle = session();
    idle.fars[1].action.disposition = Disposition::Buffer { notify: true };
    let mut upf = upf_with(&idle);
    upf.receive_at_host(&[punted(PuntReason::Buffer, N6, KNOWN, &down(b"waits"))]);
    assert_eq!(apply(&mut upf, 2, session()), None);
    upf.manager.handle(ToHost::Hello { controller: 2 });
    upf.run_commands();
    assert_eq!(upf.manager.late(), []);
}

fn uplink_flow() -> Flow {
    Flow {
        session: SessionId(1),
        epoch: Epoch(1),
        pdr: PdrId(1),
        packet: FlowPacket {
            uplink: true,
            remote: SERVER.into(),
            ue: UE.into(),
            protocol: 17,
            ports: Some((53, 4000)),
            tos: 0,
            qfi: Some(Qfi(9)),
        },
    }
}

#[test]
fn a_flow_that_the_target_missed_is_reported_with_its_winner() {
    let mut upf = upf_with(&session());
    let sent = upf.receive_at_host(&[punted(PuntReason::FlowMiss, N3, KNOWN, &up(b"x"))]);
    assert_eq!(sent.len(), 1, "and its packet goes on");
    assert_eq!(upf.reports(), [Event::Flow(uplink_flow())]);
    upf.receive_at_host(&[punted(PuntReason::FlowMiss, N6, KNOWN, &down(b"x"))]);
    let flow = Flow {
        pdr: PdrId(2),
        packet: FlowPacket {
            uplink: false,
            ports: Some((4000, 53)),
            qfi: None,
            ..uplink_flow().packet
        },
        ..uplink_flow()
    };
    assert_eq!(upf.reports(), [Event::Flow(flow)]);
}

#[test]
fn a_flow_is_reported_once_and_again_if_it_goes_on_being_missed() {
    let mut upf = upf_with(&session());
    let missed = punted(PuntReason::FlowMiss, N3, KNOWN, &up(b"x"));
    upf.receive_at_host(&vec![missed.clone(); 5]);
    assert_eq!(upf.reports(), [Event::Flow(uplink_flow())]);
    upf.wait_ms(99);
    upf.receive_at_host(std::slice::from_ref(&missed));
    assert_eq!(upf.reports(), []);
    upf.wait_ms(1);
    upf.receive_at_host(std::slice::from_ref(&missed));
    assert_eq!(upf.reports(), [Event::Flow(uplink_flow())]);
    assert_eq!(upf.events(HostEvent::FlowReported), 2);
    assert_eq!(upf.events(HostEvent::FlowSuppressed), 5);
}

#[test]
fn no_flow_is_reported_that_the_target_could_not_use() {
    let mut upf = upf_with(&session());
    let from_elsewhere = uplink(0x100, Some(9), &udp(DN, SERVER, 64, b""));
    for (what, frame) in [
        ("another reason", punted(PuntReason::HostSession, N3, KNOWN, &up(b""))),
        ("no session", punted(PuntReason::FlowMiss, N3, None, &up(b""))),
        (
            "another session",
            punted(PuntReason::FlowMiss, N3, Some((SessionId(2), Epoch(1))), &up(b"")),
        ),
        (
            "a foreign source",
            punted(PuntReason::FlowMiss, N3, KNOWN, &from_elsewhere),
        ),
        (
            "not a user's packet",
            punted(PuntReason::FlowMiss, N3, KNOWN, &arp_question([10, 3, 0, 9])),
        ),
    ] {
        upf.receive_at_host(&[frame]);
        assert_eq!(upf.reports(), [], "{what}");
    }
}

#[test]
fn each_packet_of_a_burst_is_taken_for_what_it_was_punted_for() {
    let mut upf = upf_with(&session());
    upf.receive_at_host(&[
        punted(PuntReason::HostSession, N3, KNOWN, &up(b"a session of the host")),
        punted(PuntReason::Local, N3, None, &arp_question(UPF_N3.octets())),
        punted(
            PuntReason::FlowMiss,
            N3,
            KNOWN,
            &uplink(0x100, Some(5), &udp(UE, SERVER, 64, b"")),
        ),
        punted(PuntReason::HostSession, N6, KNOWN, &down(b"another port")),
    ]);
    let flow = Flow {
        packet: FlowPacket {
            qfi: Some(Qfi(5)),
            ..uplink_flow().packet
        },
        ..uplink_flow()
    };
    assert_eq!(upf.reports(), [Event::Flow(flow)]);
}

#[test]
fn a_flood_of_flows_is_bounded_and_costs_no_other_report() {
    let mut idle = session();
    idle.fars[1].action.disposition = Disposition::Buffer { notify: true };
    let mut upf = upf_with(&idle);
    for host in 0..200 {
        let inner = udp(UE, std::net::Ipv4Addr::new(198, 51, 100, host), 64, b"");
        upf.receive_at_host(&[punted(PuntReason::FlowMiss, N3, KNOWN, &uplink(0x100, Some(9), &inner))]);
    }
    upf.receive_at_host(&[punted(PuntReason::Buffer, N6, KNOWN, &down(b"wake up"))]);
    let reports = upf.reports();
    assert!(matches!(reports[0], Event::DownlinkData { .. }), "{:?}", reports[0]);
    assert_eq!(reports.len(), 1 + 16, "the queue of the test holds 16 flows");
    assert_eq!(upf.events(HostEvent::EventLost), 200 - 16);
}

#[test]
fn a_flood_of_one_reason_gets_its_rate_of_answers_and_others_are_served() {
    let mut upf = upf_with(&session());
    let unknown = punted(
        PuntReason::UnknownTeid,
        N3,
        None,
        &uplink(0x999, None, &udp(UE, SERVER, 64, b"")),
    );
    let too_old = punted(PuntReason::HopLimit, N6, KNOWN, &downlink(&udp(SERVER, UE, 1, b"")));
    for _ in 0..100 {
        upf.receive_at_host(&vec![unknown.clone(); 20]);
        upf.receive_at_host(&vec![too_old.clone(); 20]);
    }
    assert_eq!(upf.events(HostEvent::ErrorIndicationSent), 100);
    assert_eq!(upf.events(HostEvent::IcmpErrorSent), 1_000);
    let sent = upf.receive_at_host(&[punted(PuntReason::FlowMiss, N3, KNOWN, &up(b""))]);
    assert_eq!(sent.len(), 1);
}

#[test]
fn what_is_no_punted_frame_or_of_no_port_of_ours_is_dropped_under_its_reason() {
    let mut upf = upf_with(&session());
    let good = punted(PuntReason::FlowMiss, N3, KNOWN, &up(b""));
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let not_punted = [
        good[..25].to_vec(),
        up(b"as it came"),
        with(13, 0xb6),
        with(14, 2),
        with(15, 0),
    ];
    assert_eq!(upf.receive_at_host(&not_punted), []);
    assert_eq!(upf.drops(), [("not_punted", 5)]);
    assert_eq!(upf.receive_at_host(&[with(17, 3), with(16, 0xff)]), []);
    assert_eq!(upf.counters.drops(DropReason::PuntPort).packets, 2);
    assert_eq!(upf.receive_at_host(&[good[..26].to_vec()]), [], "no frame in it");
    assert_eq!(upf.counters.drops(DropReason::Malformed).packets, 1);
}

#[test]
fn punts_are_counted_by_reason_with_the_octets_of_the_frames_in_them() {
    let mut upf = upf_with(&session());
    let frame = up(b"counted");
    upf.receive_at_host(&vec![punted(PuntReason::FlowMiss, N3, KNOWN, &frame); 3]);
    let counters = upf.manager.counters();
    assert_eq!(counters.punts.len(), PuntReason::ALL.len());
    let seen: Vec<_> = counters.punts.iter().filter(|(_, n)| n.packets > 0).collect();
    let expected = batch::Count {
        packets: 3,
        bytes: 3 * frame.len() as u64,
    };
    assert_eq!(seen, [&("flow_miss".to_owned(), expected)]);
    assert!(Upf::new().manager.counters().punts.is_empty(), "without a target");
}
