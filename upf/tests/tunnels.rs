//! What GTP-U and ICMP demand besides forwarding: path management, unknown tunnels, hop limits, packets too big.

#[macro_use]
mod scene;

use scene::{Scene, assert_reaches, dl_teid, eventually, ue_v4, ue_v6, uplink_gpdu};
use smf_sim::{Report, SessionSpec, UeIps};
use std::net::IpAddr;
use upf::lab::traffic::ping;
use upf::lab::{DN, DN_V6, GNB, GNB_V6, LabError, Side, Target, UPF_N3, UPF_N3_V6};

/// This program's labs.
const NAME: &str = "t-tun";

on_each_target! {
    an_echo_request_is_answered_over_ipv4_and_ipv6,
    a_packet_for_an_unknown_teid_is_answered_with_an_error_indication,
    a_deleted_session_leaves_an_unknown_teid,
    an_error_indication_of_the_gnb_is_reported_to_the_smf,
    a_hop_limit_that_runs_out_is_told_to_the_ue_and_to_the_data_network,
    a_packet_too_big_for_the_tunnel_is_refused_with_the_mtu_that_fits,
    a_packet_that_may_be_fragmented_is_and_fragments_of_a_ue_pass,
}
/// IPv4 outside: IPv4, UDP, GTP-U and a PDU Session Container.
const ROOM: u32 = 1500 - (20 + 8 + 16);

/// What a ping says that is expected to fail.
fn failing_ping(scene: &Scene, from: Side, options: &[&str]) -> String {
    let command = [&["ping", "-n", "-c", "1", "-W", "5"], options].concat();
    match scene.lab.run(from, &command) {
        Err(LabError::Command { reason, .. }) => reason,
        other => panic!("expected {command:?} to fail, found {other:?}"),
    }
}

fn an_echo_request_is_answered_over_ipv4_and_ipv6(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let v6 = scene.lab.gnb(GNB_V6).unwrap();
    for gnb in [&scene.gnb, &v6] {
        gnb.send_echo_request(7).unwrap();
        eventually("an Echo Response", || gnb.counters().echo_responses == 1);
        assert_eq!(gnb.counters().malformed, 0);
    }
    assert_eq!(scene.events("gtpu_echo_answered"), 2);
}

fn a_packet_for_an_unknown_teid_is_answered_with_an_error_indication(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let v6 = scene.lab.gnb(GNB_V6).unwrap();
    for (gnb, upf) in [(&scene.gnb, IpAddr::V4(UPF_N3)), (&v6, IpAddr::V6(UPF_N3_V6))] {
        gnb.send_datagram(&uplink_gpdu(0xdead_beef, ue_v4(1), b"lost")).unwrap();
        eventually("an Error Indication", || gnb.counters().error_indications == 1);
        let seen = gnb.counters().last_error_indications[0];
        assert_eq!((seen.teid, seen.peer, seen.from.ip()), (0xdead_beef, upf, upf));
    }
    assert_eq!(scene.drops("unknown_teid"), 2);
}

fn a_deleted_session_leaves_an_unknown_teid(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    let teid = ue.session.uplink_teid().unwrap();
    let dn = scene.lab.udp(Side::Dn, (DN, 7000)).unwrap();
    scene.gnb.send_datagram(&uplink_gpdu(teid, ue_v4(1), b"known")).unwrap();
    assert_eq!(dn.recv(&mut [0; 64]).expect("the packet of the session"), 5);
    assert_eq!(scene.gnb.counters().error_indications, 0);
    scene.delete(&ue);
    scene
        .gnb
        .send_datagram(&uplink_gpdu(teid, ue_v4(1), b"unknown"))
        .unwrap();
    eventually("an Error Indication", || scene.gnb.counters().error_indications == 1);
}

fn an_error_indication_of_the_gnb_is_reported_to_the_smf(on: Target) {
    let Some(mut scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    assert_reaches(&scene.lab, Side::Dn, ue_v4(1));
    scene.gnb.close_tunnel(dl_teid(1));
    let lost = ping(&scene.lab, Side::Dn, ue_v4(1).into(), 1, 0.05).unwrap();
    assert_eq!(lost.received, 0);
    let report = scene.next_report("Session Report Request");
    assert_eq!(report.up_seid, Some(ue.session.up_seid));
    assert_eq!(
        report.report,
        Report::ErrorIndication {
            teid: dl_teid(1),
            v4: Some(GNB),
            v6: None
        }
    );
}

fn a_hop_limit_that_runs_out_is_told_to_the_ue_and_to_the_data_network(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let dual = UeIps {
        v4: Some(ue_v4(1)),
        v6: Some(ue_v6(1)),
    };
    scene.attach(
        1,
        &[ue_v4(1).into(), ue_v6(1).into()],
        SessionSpec::basic(dual, GNB.into(), dl_teid(1)),
    );
    for (from, to, words) in [
        (Side::Ue(1), IpAddr::V4(DN), "Time to live exceeded"),
        (Side::Ue(1), IpAddr::V6(DN_V6), "Hop limit"),
        (Side::Dn, IpAddr::V4(ue_v4(1)), "Time to live exceeded"),
        (Side::Dn, IpAddr::V6(ue_v6(1)), "Hop limit"),
    ] {
        let said = failing_ping(&scene, from, &["-t", "1", &to.to_string()]);
        assert!(said.contains(words), "{from:?} to {to}: {said}");
    }
    assert_eq!(scene.drops("hop_limit"), 4);
}

fn a_packet_too_big_for_the_tunnel_is_refused_with_the_mtu_that_fits(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let dual = UeIps {
        v4: Some(ue_v4(1)),
        v6: Some(ue_v6(1)),
    };
    scene.attach(
        1,
        &[ue_v4(1).into(), ue_v6(1).into()],
        SessionSpec::basic(dual, GNB.into(), dl_teid(1)),
    );
    for (to, header) in [(IpAddr::V4(ue_v4(1)), 20 + 8), (IpAddr::V6(ue_v6(1)), 40 + 8)] {
        let (fits, too_big) = ((ROOM - header).to_string(), (ROOM - header + 1).to_string());
        let to = to.to_string();
        let said = failing_ping(&scene, Side::Dn, &["-M", "do", "-s", &too_big, &to]);
        assert!(
            said.to_lowercase().contains(&format!("mtu={ROOM}")) || said.contains(&format!("mtu = {ROOM}")),
            "{said}"
        );
        // The whole tunnel is used, and the data network's kernel has learnt the path's MTU by now.
        let filling = ["ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", &fits, &to];
        eventually("a packet that fills the tunnel passes", || {
            scene.lab.run(Side::Dn, &filling).is_ok()
        });
    }
    assert_eq!(scene.drops("too_big"), 2);
}

fn a_packet_that_may_be_fragmented_is_and_fragments_of_a_ue_pass(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    scene.attach_v4(1);
    for side in [Side::Dn, Side::Ue(1)] {
        // Linux asks for no fragmentation by default: sockets made from here on do not.
        scene
            .lab
            .run(side, &["sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1"])
            .unwrap();
    }
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    // Downlink: a packet that fills N6's MTU and is too big for the tunnel. Uplink: three fragments on the UE's link.
    for (from, to, size) in [(&dn, &at_ue, 1500 - 28), (&at_ue, &dn, 3000)] {
        let sent: Vec<u8> = (0..size).map(|i| i as u8).collect();
        from.send(&sent).unwrap();
        let mut received = vec![0; 8000];
        let length = to.recv(&mut received).expect("a datagram, whole again");
        assert!(received[..length] == sent[..], "{length} octets of {size}");
    }
    assert_eq!(scene.events("fragmented"), 1);
}
