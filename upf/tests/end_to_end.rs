//! Users' traffic through the whole UPF: sessions over PFCP, packets through GTP-U, both families inside and outside.

#[macro_use]
mod scene;

use scene::{
    Scene, assert_reaches, dl_teid, eventually, installed, receive_numbers, send_numbers, ue_v4, ue_v6, uplink_gpdu,
};
use smf_sim::modification::QerUpdate;
use smf_sim::rules::{BitRates, Gate};
use smf_sim::session::{FlowQos, SESSION_QER};
use smf_sim::{ModificationSpec, SessionSpec, UeIps};
use std::net::IpAddr;
use std::num::NonZero;
use std::time::Duration;
use upf::lab::traffic::{Iperf, Transport, curl, iperf, ping};
use upf::lab::{DN, DN_V6, GNB, GNB_V6, Lab, Side, Target, WebServer};

/// This program's labs.
const NAME: &str = "t-e2e";

on_each_target! {
    ipv4_ipv6_and_dual_stack_ues_reach_the_data_network_and_are_reached,
    an_ipv6_gnb_carries_ipv4_and_ipv6_ues,
    iperf3_runs_tcp_and_udp_both_ways,
    an_mbr_polices_its_flow_only_and_what_it_drops_is_not_charged,
    a_closed_gate_blocks_its_flow_and_opens_again,
    traffic_that_no_pdr_matches_is_dropped_silently_and_counted,
    a_foreign_inner_source_is_dropped_as_spoofed_and_not_charged,
    deletion_reports_exactly_what_the_gnb_counted,
    a_changed_mbr_holds_from_its_acceptance_on,
}
const V4: IpAddr = IpAddr::V4(DN);
const V6: IpAddr = IpAddr::V6(DN_V6);

fn measure(lab: &Lab, ue: usize, to: (IpAddr, u16), transport: Transport, downlink: bool) -> Iperf {
    iperf(lab, ue, to, transport, downlink, 1).unwrap_or_else(|error| panic!("{error}"))
}

fn ipv4_ipv6_and_dual_stack_ues_reach_the_data_network_and_are_reached(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    scene.attach_v4(1);
    let v6 = SessionSpec::basic(UeIps::v6(ue_v6(2)), GNB.into(), dl_teid(2));
    scene.attach(2, &[ue_v6(2).into()], v6);
    let dual = UeIps {
        v4: Some(ue_v4(3)),
        v6: Some(ue_v6(3)),
    };
    scene.attach(
        3,
        &[ue_v4(3).into(), ue_v6(3).into()],
        SessionSpec::basic(dual, GNB.into(), dl_teid(3)),
    );

    for (ue, dn, at) in [
        (1, V4, IpAddr::V4(ue_v4(1))),
        (2, V6, IpAddr::V6(ue_v6(2))),
        (3, V4, IpAddr::V4(ue_v4(3))),
        (3, V6, IpAddr::V6(ue_v6(3))),
    ] {
        assert_reaches(&scene.lab, Side::Ue(ue), dn);
        assert_reaches(&scene.lab, Side::Dn, at);
    }

    let _web = WebServer::start(&scene.lab.namespaces).unwrap();
    for (ue, host) in [(1, DN.to_string()), (2, format!("[{DN_V6}]")), (3, DN.to_string())] {
        assert_eq!(
            curl(&scene.lab, ue, &format!("http://{host}:8080/500000")).unwrap(),
            500_000
        );
    }
}

fn an_ipv6_gnb_carries_ipv4_and_ipv6_ues(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let gnb = scene.lab.gnb(GNB_V6).unwrap();
    let dual = UeIps {
        v4: Some(ue_v4(1)),
        v6: Some(ue_v6(1)),
    };
    let spec = SessionSpec::basic(dual, GNB_V6.into(), dl_teid(1));
    let ue = scene.attach_to(&gnb, 1, &[ue_v4(1).into(), ue_v6(1).into()], spec);
    assert!(
        ue.session.uplink_addr().is_some_and(|a| a.is_ipv6()),
        "the UPF offers the family it is asked for"
    );
    assert_reaches(&scene.lab, Side::Ue(1), V4);
    assert_reaches(&scene.lab, Side::Ue(1), V6);
    assert_reaches(&scene.lab, Side::Dn, ue_v4(1));
    let _web = WebServer::start(&scene.lab.namespaces).unwrap();
    assert_eq!(
        curl(&scene.lab, 1, &format!("http://[{DN_V6}]:8080/500000")).unwrap(),
        500_000
    );
    let counted = gnb.counters();
    assert_eq!(counted.malformed, 0);
    assert_eq!(counted.ue(&ue.name).unwrap().downlink.without_qfi, 0);
}

fn iperf3_runs_tcp_and_udp_both_ways(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    if !installed("iperf3") {
        return;
    }
    scene.attach_v4(1);
    let v6 = SessionSpec::basic(UeIps::v6(ue_v6(2)), GNB.into(), dl_teid(2));
    scene.attach(2, &[ue_v6(2).into()], v6);
    for (ue, to) in [(1, V4), (2, V6)] {
        for downlink in [false, true] {
            let tcp = measure(&scene.lab, ue, (to, 5201), Transport::Tcp, downlink);
            assert!(tcp.received_bps > 1e6, "TCP, UE {ue}, downlink {downlink}: {tcp:?}");
            let udp = measure(&scene.lab, ue, (to, 5201), Transport::Udp(5), downlink);
            assert!(
                udp.lost_percent < 10.0,
                "UDP at 5 Mbit/s, UE {ue}, downlink {downlink}: {udp:?}"
            );
        }
    }
}

fn an_mbr_polices_its_flow_only_and_what_it_drops_is_not_charged(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    if !installed("iperf3") {
        return;
    }
    let mbr = Some(BitRates {
        uplink_kbps: 4_000,
        downlink_kbps: 4_000,
    });
    let filter = format!("permit out 17 from {DN} 5202 to assigned");
    let spec = SessionSpec::basic(UeIps::v4(ue_v4(1)), GNB.into(), dl_teid(1)).with_sdf(
        100,
        &filter,
        FlowQos {
            qfi: Some(5),
            mbr,
            ..FlowQos::default()
        },
    );
    let ue = scene.attach(1, &[ue_v4(1).into()], spec);
    for downlink in [false, true] {
        let free = measure(&scene.lab, 1, (V4, 5201), Transport::Udp(8), downlink);
        let limited = measure(&scene.lab, 1, (V4, 5202), Transport::Udp(8), downlink);
        assert!(
            free.lost_percent < 10.0,
            "no rate applies, downlink {downlink}: {free:?}"
        );
        let share = limited.received_bps / 4e6;
        assert!(
            (0.4..1.5).contains(&share),
            "{share:.2} of the MBR came through, downlink {downlink}: {limited:?}"
        );
    }
    let policed = scene.drops("policed");
    assert!(policed > 0);
    let tunnel = scene.tunnel(&ue);
    assert!(
        tunnel.downlink.qfis.iter().any(|q| q.qfi == 5 && q.packets > 100),
        "{:?}",
        tunnel.downlink.qfis
    );
    assert!(
        tunnel.downlink.qfis.iter().any(|q| q.qfi == 9 && q.packets > 100),
        "{:?}",
        tunnel.downlink.qfis
    );

    let usage = scene.delete(&ue);
    let tunnel = scene.tunnel(&ue);
    let volume = usage[0].volume.unwrap();
    assert_eq!(
        volume.downlink,
        Some(tunnel.downlink.bytes),
        "charged is what left for the gNB"
    );
    assert!(
        volume.uplink < Some(tunnel.uplink.bytes),
        "policed uplink is not charged: {volume:?}, {tunnel:?}"
    );
}

fn a_closed_gate_blocks_its_flow_and_opens_again(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    let (dn, at_ue) = scene.udp_pair(1, V4, ue_v4(1).into(), 7000);
    for socket in [&dn, &at_ue] {
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    }
    let passes = |from, to| {
        send_numbers(from, 1..4, Duration::ZERO);
        receive_numbers(to, 3).len()
    };
    assert_eq!((passes(&at_ue, &dn), passes(&dn, &at_ue)), (3, 3));
    scene.modify(&ue, &ModificationSpec::gate(SESSION_QER, Gate::Closed, Gate::Open));
    assert_eq!((passes(&at_ue, &dn), passes(&dn, &at_ue)), (0, 3), "uplink closed");
    scene.modify(&ue, &ModificationSpec::gate(SESSION_QER, Gate::Open, Gate::Closed));
    assert_eq!((passes(&at_ue, &dn), passes(&dn, &at_ue)), (3, 0), "downlink closed");
    scene.modify(&ue, &ModificationSpec::gate(SESSION_QER, Gate::Open, Gate::Open));
    assert_eq!((passes(&at_ue, &dn), passes(&dn, &at_ue)), (3, 3), "open again");
    assert_eq!(scene.drops("gate_closed"), 6);
    assert_eq!(
        scene.gnb.counters().error_indications,
        0,
        "filtered traffic is no unknown tunnel"
    );
}

fn traffic_that_no_pdr_matches_is_dropped_silently_and_counted(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let mut spec = SessionSpec::basic(UeIps::v4(ue_v4(1)), GNB.into(), dl_teid(1)).with_sdf(
        100,
        &format!("permit out 1 from {DN} to assigned"),
        FlowQos::default(),
    );
    spec.pdrs.retain(|pdr| !pdr.pdi.sdf_filters.is_empty());
    let ue = scene.attach(1, &[ue_v4(1).into()], spec);
    assert_reaches(&scene.lab, Side::Ue(1), V4);
    let (dn, at_ue) = scene.udp_pair(1, V4, ue_v4(1).into(), 7000);
    send_numbers(&at_ue, 0..5, Duration::ZERO);
    send_numbers(&dn, 0..5, Duration::ZERO);
    eventually("10 packets of no PDR", || scene.drops("no_pdr") == 10);
    assert_eq!(scene.gnb.counters().error_indications, 0);
    let before = scene.tunnel(&ue).downlink.packets;
    assert_reaches(&scene.lab, Side::Ue(1), V4);
    assert!(
        scene.tunnel(&ue).downlink.packets > before,
        "what a PDR matches goes on"
    );
}

fn a_foreign_inner_source_is_dropped_as_spoofed_and_not_charged(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    scene.attach_v4(2);
    let foreign = "10.60.0.77";
    let tun = scene
        .lab
        .run(Side::Ue(1), &["ip", "-o", "-4", "addr", "show", "to", "10.60.0.0/16"])
        .unwrap();
    let tun = tun.split_whitespace().nth(1).expect("the UE's device").to_owned();
    // One address that is nobody's, and one of another UE with a session.
    for source in [foreign, "10.60.0.2"] {
        let source_32 = format!("{source}/32");
        scene
            .lab
            .run(Side::Ue(1), &["ip", "addr", "add", &source_32, "dev", &tun])
            .unwrap();
        let pinged = scene.lab.run(
            Side::Ue(1),
            &[
                "ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", "-I", source, "10.6.0.2",
            ],
        );
        assert!(pinged.is_err(), "{source} is not the UE's address: {pinged:?}");
    }
    assert_eq!(scene.drops("spoofed"), 6);
    assert_reaches(&scene.lab, Side::Ue(1), V4);
    let usage = scene.delete(&ue);
    let honest = scene.tunnel(&ue).uplink.bytes - 6 * 84;
    assert_eq!(
        usage[0].volume.unwrap().uplink,
        Some(honest),
        "what was spoofed is not charged"
    );
}

fn deletion_reports_exactly_what_the_gnb_counted(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let dual = UeIps {
        v4: Some(ue_v4(1)),
        v6: Some(ue_v6(1)),
    };
    let ue = scene.attach(
        1,
        &[ue_v4(1).into(), ue_v6(1).into()],
        SessionSpec::basic(dual, GNB.into(), dl_teid(1)),
    );
    assert_reaches(&scene.lab, Side::Ue(1), V4);
    assert_reaches(&scene.lab, Side::Dn, ue_v6(1));
    let (dn, at_ue) = scene.udp_pair(1, V4, ue_v4(1).into(), 7000);
    send_numbers(&at_ue, 0..50, Duration::from_millis(1));
    assert_eq!(receive_numbers(&dn, 49), (0..50).collect::<Vec<_>>());
    send_numbers(&dn, 0..30, Duration::from_millis(1));
    assert_eq!(receive_numbers(&at_ue, 29), (0..30).collect::<Vec<_>>());

    let asked = scene.modify(&ue, &ModificationSpec::query_all());
    assert!(asked.usage[0].is_immediate());
    let usage = scene.delete(&ue);
    assert_eq!(usage.len(), 1, "{usage:?}");
    let tunnel = scene.tunnel(&ue);
    // A report counts from the report before it.
    let sum = |of: fn(&smf_sim::VolumeMeasurement) -> Option<u64>| {
        [&asked.usage[0], &usage[0]]
            .into_iter()
            .map(|r| of(&r.volume.unwrap()).unwrap())
            .sum::<u64>()
    };
    assert_eq!(
        sum(|v| v.uplink),
        tunnel.uplink.bytes,
        "uplink octets of the users' IP packets"
    );
    assert_eq!(sum(|v| v.downlink), tunnel.downlink.bytes, "downlink octets");
    assert_eq!(sum(|v| v.total), tunnel.uplink.bytes + tunnel.downlink.bytes, "both");
    assert!(usage[0].is_termination() && usage[0].sequence > asked.usage[0].sequence);
    assert_eq!(scene.ask("/v1/status")["sessions"], 0);
    assert!(
        ping(&scene.lab, Side::Ue(1), V4, 2, 0.05).is_ok_and(|p| p.received == 0),
        "a deleted session is gone"
    );
}

fn a_changed_mbr_holds_from_its_acceptance_on(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    let (dn, at_ue) = scene.udp_pair(1, V4, ue_v4(1).into(), 7000);
    send_numbers(&at_ue, 0..200, Duration::ZERO);
    assert_eq!(receive_numbers(&dn, 199).len(), 200);
    let update = QerUpdate {
        id: SESSION_QER,
        mbr: Some(BitRates {
            uplink_kbps: 8,
            downlink_kbps: 8,
        }),
        ..QerUpdate::default()
    };
    scene.modify(&ue, &ModificationSpec::default().qer(update));
    dn.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    send_numbers(&at_ue, 0..200, Duration::ZERO);
    let came = receive_numbers(&dn, 199).len();
    // A bucket of 3000 bytes and a kilobyte a second, against 200 packets of 32 bytes; the target counts their frames, 90.
    let expected = if on == Target::None { 90..=150 } else { 30..=60 };
    assert!(expected.contains(&came), "{came} of 200 packets came through");
    assert_eq!(scene.drops("policed"), 200 - came as u64);
}

/// All uplink packets of a gNB have the same outer addresses and ports, so that a device puts them into one queue.
#[test]
fn users_of_one_gnb_are_spread_over_lcores_without_loss_or_reordering() {
    const USERS: u8 = 24;
    const PACKETS: u32 = 40;
    if std::thread::available_parallelism().map_or(1, NonZero::get) < 2 {
        return println!("SKIPPED: one CPU, and the test is of two lcores");
    }
    let mut options = scene::options(NAME, Target::None);
    options.lcores = 2;
    options.host_options = "  distribution: software".into();
    options.devices = options.devices.map(|device| format!("{device},qpairs=2"));
    let Some(scene) = Scene::open_with(&options) else {
        return;
    };
    let attached = [1, 2, 3].map(|number| scene.attach_v4(number));
    let others = (10..10 + USERS).map(|number| {
        let ips = UeIps::v4(ue_v4(number));
        let session = scene.establish(SessionSpec::basic(ips, GNB.into(), dl_teid(number.into())));
        (number, session.uplink_teid().unwrap())
    });
    let others: Vec<(u8, u32)> = others.collect();
    let dn = scene.lab.udp(Side::Dn, (V4, 7000)).unwrap();
    for packet in 0..PACKETS {
        for &(number, teid) in &others {
            let datagram = uplink_gpdu(teid, ue_v4(number), &packet.to_be_bytes());
            scene.gnb.send_datagram(&datagram).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut seen = vec![Vec::new(); USERS.into()];
    for _ in 0..PACKETS * u32::from(USERS) {
        let mut number = [0; 4];
        let Ok((4, from)) = dn.recv_from(&mut number) else {
            break;
        };
        let IpAddr::V4(from) = from.ip() else { panic!("{from}") };
        seen[usize::from(from.octets()[3] - 10)].push(u32::from_be_bytes(number));
    }
    for (numbers, (user, _)) in seen.iter().zip(&others) {
        assert_eq!(*numbers, (0..PACKETS).collect::<Vec<_>>(), "of user {user}");
    }
    assert!(
        scene.events("handed_over") > 0,
        "all users belong to the lcore of one queue"
    );
    for (ue, number) in attached.iter().zip(1..) {
        let (dn, at_ue) = scene.udp_pair(ue.number, V4, ue_v4(number).into(), 7001);
        send_numbers(&at_ue, 0..50, Duration::from_millis(1));
        assert_eq!(receive_numbers(&dn, 49), (0..50).collect::<Vec<_>>());
        send_numbers(&dn, 0..50, Duration::from_millis(1));
        assert_eq!(receive_numbers(&at_ue, 49), (0..50).collect::<Vec<_>>());
        let usage = scene.delete(ue);
        let tunnel = scene.tunnel(ue);
        let volume = usage[0].volume.unwrap();
        assert_eq!(volume.uplink, Some(tunnel.uplink.bytes));
        assert_eq!(volume.downlink, Some(tunnel.downlink.bytes));
    }
    assert_eq!(scene.drops("lcore_full"), 0);
}
