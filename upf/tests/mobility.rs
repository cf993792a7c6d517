//! A user who goes idle, comes back and moves: buffering, Downlink Data Reports, handover with End Markers.

#[macro_use]
mod scene;

use gnb_sim::NewTunnel;
use scene::{Scene, eventually, options, receive_numbers, send_numbers, ue_v4};
use smf_sim::modification::{FarUpdate, ForwardingUpdate};
use smf_sim::rules::ApplyAction;
use smf_sim::session::DOWNLINK_FAR;
use smf_sim::{ModificationSpec, Report};
use std::collections::BTreeSet;
use std::time::Duration;
use upf::lab::{DN, GNB, GNB2, Target};

/// This program's labs.
const NAME: &str = "t-mob";

on_each_target! {
    downlink_of_an_idle_ue_is_buffered_reported_once_and_drained_in_order,
    a_full_buffer_drops_its_oldest_packets_and_counts_them,
    buffered_packets_are_dropped_on_request,
    a_handover_loses_nothing_and_closes_the_old_path_with_one_end_marker,
    a_handover_without_the_request_for_it_sends_no_end_marker,
}

fn numbers(count: u32) -> Vec<u32> {
    (0..count).collect()
}

fn downlink_of_an_idle_ue_is_buffered_reported_once_and_drained_in_order(on: Target) {
    let Some(mut scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    for round in 1..=2 {
        scene.modify(&ue, &ModificationSpec::to_idle());
        let before = scene.tunnel(&ue).downlink.packets;
        send_numbers(&dn, 0..100, Duration::from_millis(1));
        let report = scene.next_report("Downlink Data Report");
        assert_eq!(report.up_seid, Some(ue.session.up_seid));
        assert!(
            matches!(report.report, Report::DownlinkData { pdr_id: Some(2), .. }),
            "{report:?}"
        );
        eventually("all are buffered", || {
            scene.ask("/v1/counters")["host"]["buffered"]["packets"] == 100
        });
        assert_eq!(scene.tunnel(&ue).downlink.packets, before, "nothing reaches an idle UE");
        assert!(
            scene.reports.try_recv().is_err(),
            "one report for each time of idleness, round {round}"
        );

        // More comes while the buffer is drained: it goes behind.
        let sender = dn.try_clone().unwrap();
        let received = std::thread::scope(|scope| {
            scope.spawn(move || send_numbers(&sender, 100..300, Duration::from_millis(1)));
            let receiving = scope.spawn(|| receive_numbers(&at_ue, 299));
            std::thread::sleep(Duration::from_millis(50));
            scene.modify(&ue, &ModificationSpec::to_active(GNB.into(), scene::dl_teid(1)));
            receiving.join().unwrap()
        });
        if on == Target::None {
            assert_eq!(received, numbers(300), "every packet, in order, round {round}");
        } else {
            // What the host has let go and the target not yet sent may be overtaken by what the target forwards itself.
            let sorted = BTreeSet::from_iter(received.iter().copied());
            assert_eq!(
                (sorted.len(), received.len()),
                (300, 300),
                "every packet once, round {round}"
            );
            assert!(
                received.iter().filter(|&&n| n < 100).is_sorted(),
                "what was buffered is in order: {received:?}"
            );
        }
    }
    assert_eq!(scene.ask("/v1/counters")["host"]["buffered"]["packets"], 0);
}

fn a_full_buffer_drops_its_oldest_packets_and_counts_them(on: Target) {
    let mut small = options(NAME, on);
    small.host_options = "  buffering: { packets_per_session: 8 }".into();
    let Some(mut scene) = Scene::open_with(&small) else {
        return;
    };
    let ue = scene.attach_v4(1);
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    scene.modify(&ue, &ModificationSpec::to_idle());
    send_numbers(&dn, 0..20, Duration::from_millis(1));
    eventually("12 packets too many", || scene.drops("buffer_oldest") == 12);
    scene.next_report("Downlink Data Report");
    scene.modify(&ue, &ModificationSpec::to_active(GNB.into(), scene::dl_teid(1)));
    assert_eq!(
        receive_numbers(&at_ue, 19),
        (12..20).collect::<Vec<_>>(),
        "the newest eight, in order"
    );
    let usage = scene.delete(&ue);
    assert_eq!(
        usage[0].volume.unwrap().downlink,
        Some(8 * 32),
        "what was dropped is not charged"
    );
}

fn buffered_packets_are_dropped_on_request(on: Target) {
    let Some(mut scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    scene.modify(&ue, &ModificationSpec::to_idle());
    send_numbers(&dn, 0..10, Duration::ZERO);
    scene.next_report("Downlink Data Report");
    eventually("all are buffered", || {
        scene.ask("/v1/counters")["host"]["buffered"]["packets"] == 10
    });
    let drobu = ModificationSpec {
        drop_buffered: true,
        ..ModificationSpec::default()
    };
    scene.modify(&ue, &drobu);
    eventually("all are discarded", || scene.drops("buffer_discarded") == 10);
    scene.modify(&ue, &ModificationSpec::to_active(GNB.into(), scene::dl_teid(1)));
    send_numbers(&dn, 50..51, Duration::ZERO);
    assert_eq!(receive_numbers(&at_ue, 50), [50]);
}

fn a_handover_loses_nothing_and_closes_the_old_path_with_one_end_marker(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    let target = scene.lab.gnb(GNB2).unwrap();
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    let teid_ul = ue.session.uplink_teid();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| send_numbers(&dn, 0..300, Duration::from_millis(2)));
        let receiving = scope.spawn(|| receive_numbers(&at_ue, 299));
        std::thread::sleep(Duration::from_millis(200));
        scene
            .gnb
            .move_ue(
                &ue.name,
                &target,
                NewTunnel {
                    teid_dl: 0x2001,
                    teid_ul,
                    upf: None,
                },
            )
            .unwrap();
        scene.modify(&ue, &ModificationSpec::handover(GNB2.into(), 0x2001));
        receiving.join().unwrap()
    });
    assert_eq!(received, numbers(300), "every packet, in order");
    eventually("an End Marker", || scene.tunnel(&ue).downlink.end_markers > 0);
    let old = scene.tunnel(&ue).downlink;
    let new = target.counters().ue(&ue.name).unwrap().downlink.clone();
    assert_eq!((old.end_markers, old.packets_after_end_marker), (1, 0), "{old:?}");
    assert_eq!(
        old.end_markers_seen[0].after_packets, old.packets,
        "the End Marker is the last on the old path"
    );
    assert_eq!((new.end_markers, old.packets + new.packets), (0, 300));
    assert!(old.packets > 0 && new.packets > 0);
    send_numbers(&at_ue, 0..10, Duration::ZERO);
    assert_eq!(receive_numbers(&dn, 9), numbers(10), "uplink comes from the new gNB");
}

fn a_handover_without_the_request_for_it_sends_no_end_marker(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    let target = scene.lab.gnb(GNB2).unwrap();
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    scene
        .gnb
        .move_ue(
            &ue.name,
            &target,
            NewTunnel {
                teid_dl: 0x2001,
                teid_ul: None,
                upf: None,
            },
        )
        .unwrap();
    let quiet = FarUpdate {
        id: DOWNLINK_FAR,
        apply_action: Some(ApplyAction::FORW),
        forwarding: Some(ForwardingUpdate {
            outer_header_creation: Some((0x2001, GNB2.into())),
            ..ForwardingUpdate::default()
        }),
        bar: None,
    };
    scene.modify(&ue, &ModificationSpec::default().far(quiet));
    send_numbers(&dn, 0..10, Duration::ZERO);
    assert_eq!(receive_numbers(&at_ue, 9), numbers(10));
    assert_eq!(scene.tunnel(&ue).downlink.end_markers, 0);
    assert_eq!(scene.events("gtpu_end_marker_sent"), 0);
}
