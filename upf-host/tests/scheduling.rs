//! By which queue each packet of the pipeline leaves, and where congestion would be marked in it.

mod support;

use support::*;
use upf_host::egress::Class;
use upf_host::neighbours::PortIndex;
use upf_model::*;

/// The usual session, its packets in this queue.
fn scheduled(scheduling: Scheduling) -> Session {
    let mut s = session();
    s.qers[0].scheduling = scheduling;
    s
}

fn in_queue(queue: u8) -> Session {
    scheduled(Scheduling { queue, l4s: false })
}

fn upf_with(session: &Session) -> Upf {
    let mut upf = Upf::new();
    upf.put(session);
    upf.wire.classes.clear();
    upf
}

/// One frame in; how each that came out because of it is to wait.
fn classes(upf: &mut Upf, port: PortIndex, frame: &[u8]) -> Vec<Class> {
    upf.receive(port, frame);
    std::mem::take(&mut upf.wire.classes)
}

fn up() -> Vec<u8> {
    uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"up"))
}

fn down() -> Vec<u8> {
    downlink(&udp(SERVER, UE, 64, b"down"))
}

#[test]
fn a_packet_leaves_by_the_highest_queue_of_its_pdrs_qers_and_by_the_lowest_if_none_names_one() {
    let mut upf = upf_with(&session());
    assert_eq!(classes(&mut upf, N3, &up()), [Class::queue(0)]);
    let mut s = in_queue(2);
    let second = Qer {
        id: QerId(2),
        scheduling: Scheduling { queue: 5, l4s: false },
        ..s.qers[0].clone()
    };
    s.qers.push(second);
    s.pdrs[0].qers.push(QerId(2));
    let mut upf = upf_with(&s);
    assert_eq!(classes(&mut upf, N3, &up()), [Class::queue(5)]);
    assert_eq!(classes(&mut upf, N6, &down()), [Class::queue(2)]);
}

#[test]
fn a_change_of_queue_holds_from_the_next_packet_on() {
    let mut upf = upf_with(&in_queue(1));
    assert_eq!(classes(&mut upf, N6, &down())[0].queue, 1);
    upf.put(&in_queue(6));
    assert_eq!(classes(&mut upf, N6, &down())[0].queue, 6);
    upf.put(&in_queue(0));
    assert_eq!(classes(&mut upf, N6, &down())[0].queue, 0);
}

#[test]
fn packets_that_waited_for_a_hardware_address_or_in_a_buffer_keep_their_queue() {
    let mut upf = Upf::unresolved(CONFIG);
    upf.put(&in_queue(4));
    assert_eq!(classes(&mut upf, N3, &up()), [Class::OWN], "the question");
    assert!(upf.env.neighbours.learn(N6, DN.into(), DN_MAC, 1_000));
    upf.wait_ms(10);
    assert_eq!(upf.wire.classes, [Class::queue(4)], "the packet");

    let mut s = in_queue(4);
    s.fars[1].action.disposition = Disposition::Buffer { notify: false };
    s.fars[1].forwarding = None;
    let mut upf = upf_with(&s);
    assert_eq!(classes(&mut upf, N6, &down()), []);
    upf.put(&in_queue(3));
    assert_eq!(upf.wire.classes, [Class::queue(3)], "that of the rules it leaves under");
}

#[test]
fn what_keeps_links_and_tunnels_alive_goes_before_users_and_ping_does_not() {
    let mut upf = upf_with(&in_queue(7));
    let mut echo = [0; 32];
    let n = gtpu::signalling::write_echo_request(&mut echo, 0x4711).unwrap();
    assert_eq!(
        classes(&mut upf, N3, &gtpu_frame(&echo[..n])),
        [Class::OWN],
        "GTP-U echo"
    );
    let stranger = uplink(0x999, None, &udp(UE, SERVER, 64, b""));
    assert_eq!(classes(&mut upf, N3, &stranger), [Class::OWN], "Error Indication");
    let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    let sender = [&GNB_MAC[..], &GNB.octets()].concat();
    let question = [&[0xff; 6], &GNB_MAC[..], &fixed, &sender, &[0; 6], &UPF_N3.octets()].concat();
    assert_eq!(classes(&mut upf, N3, &question), [Class::OWN], "ARP");
    let aged = downlink(&udp(SERVER, UE, 1, b""));
    assert_eq!(classes(&mut upf, N6, &aged), [Class::OWN], "ICMP error");
    let mut ping = Vec::new();
    etherparse::PacketBuilder::ethernet2(DN_MAC, UPF_MAC[1])
        .ipv4(DN.octets(), [10, 6, 0, 1], 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut ping, b"ping")
        .unwrap();
    assert_eq!(classes(&mut upf, N6, &ping), [Class::queue(0)], "ping");
}

#[test]
fn an_end_marker_follows_the_packets_of_its_tunnel() {
    let mut upf = upf_with(&in_queue(3));
    let old = OuterHeaderCreation {
        teid: Teid(0x200),
        peer: GNB.into(),
    };
    let mut moved = in_queue(6);
    let to = moved.fars[1].forwarding.as_mut().unwrap();
    to.outer_header_creation = Some(OuterHeaderCreation {
        teid: Teid(0x300),
        peer: GNB.into(),
    });
    upf.put_with(&moved, vec![old], vec![]);
    let class = Class { queue: 3, ..Class::OWN };
    assert_eq!(upf.wire.classes, [class]);
}

#[test]
fn behind_a_p4_target_the_queue_is_in_the_reinject_header() {
    let mut upf = Upf::behind_p4();
    upf.put(&in_queue(5));
    let punted = punted(PuntReason::HostSession, N3, Some((SessionId(1), Epoch(1))), &up());
    let sent = upf.receive_at_host(&[punted]);
    assert_eq!(sent[0].1[15], 5);
    assert_eq!(reinjected(&sent[0].1).0, p4_port(N6));
}

/// The frames of an L4S session, each sent and then marked as its queue would.
fn marked(upf: &mut Upf, port: PortIndex, frame: &[u8]) -> Vec<u8> {
    let (_, mut out) = upf.forwarded(port, frame);
    let class = upf.wire.classes.pop().unwrap();
    assert!(class.marking.expect("a session with L4S").mark(&mut out));
    out
}

fn v4(ecn: u8) -> Vec<u8> {
    let mut ip = udp(SERVER, UE, 64, b"payload of an odd length!");
    upf_host::traffic_class::set(&mut ip, ecn);
    ip
}

fn v6(ecn: u8) -> Vec<u8> {
    let (server, ue) = ("2001:db8::7".parse().unwrap(), "fd60::1:0:0:0:5".parse().unwrap());
    let mut ip = udp6(server, ue, b"payload of an odd length!");
    upf_host::traffic_class::set(&mut ip, ecn);
    ip
}

fn l4s(peer: &str) -> Session {
    let mut s = scheduled(Scheduling { queue: 5, l4s: true });
    s.fars[1].forwarding.as_mut().unwrap().outer_header_creation = Some(OuterHeaderCreation {
        teid: Teid(0x200),
        peer: peer.parse().unwrap(),
    });
    let prefix = Ipv6Prefix::new("fd60:0:0:1::".parse().unwrap(), 64).unwrap();
    s.pdrs[1].pdi.ue_ip.as_mut().unwrap().ipv6 = Some(prefix);
    s.ue_ips[0].ipv6 = Some(prefix);
    s
}

#[test]
fn the_mark_is_in_the_users_header_and_every_checksum_is_right_whatever_carries_it() {
    for peer in ["10.3.0.2", "fd03::2"] {
        for inner in [v4(1), v4(2), v6(1), v6(2)] {
            let mut upf = upf_with(&l4s(peer));
            let frame = marked(&mut upf, N6, &downlink(&inner));
            let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(etherparse::TransportSlice::Udp(outer)) = &sliced.transport else {
                panic!("no tunnel")
            };
            if let Some(etherparse::NetSlice::Ipv6(ip)) = &sliced.net {
                let header = ip.header().to_header();
                let sum = outer.to_header().calc_checksum_ipv6(&header, outer.payload()).unwrap();
                assert_eq!(outer.checksum(), sum, "outer UDP checksum");
            }
            let gpdu = gtpu::parse_gpdu(outer.payload()).unwrap();
            let user = &outer.payload()[gpdu.header_len..];
            assert_eq!(upf_host::traffic_class::of(user), 3);
            assert_eq!(user.len(), inner.len());
            if user[0] >> 4 == 4 {
                let (header, _) = etherparse::Ipv4Header::from_slice(user).unwrap();
                assert_eq!(header.calc_header_checksum(), header.header_checksum);
            }
        }
    }
}

#[test]
fn an_uplink_packet_is_marked_where_it_has_its_only_header() {
    let mut upf = upf_with(&l4s("10.3.0.2"));
    let mut ip = udp(UE, SERVER, 64, b"up");
    upf_host::traffic_class::set(&mut ip, 1);
    let frame = marked(&mut upf, N3, &uplink(0x100, Some(9), &ip));
    let (header, _) = etherparse::Ipv4Header::from_slice(ip_of(&frame)).unwrap();
    assert_eq!(header.ecn.value(), 3);
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
}

#[test]
fn without_l4s_nothing_says_where_to_mark() {
    let mut upf = upf_with(&in_queue(5));
    assert_eq!(classes(&mut upf, N6, &down())[0].marking, None);
}
