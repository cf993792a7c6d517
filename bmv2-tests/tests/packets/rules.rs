//! `rules.p4` and `fars.p4`: what becomes of a packet.

use crate::scene::*;
use bmv2_tests::entry::{Entry, FarAction, RuleAction};
use bmv2_tests::frame::{Tunnel, v4};
use bmv2_tests::on_every_target;
use bmv2_tests::world::*;
use upf_model::punt::PuntReason;

#[test]
fn a_rule_or_far_that_is_missing_punts() {
    on_every_target(|target| {
        usual(target);
        let far = Entry::Far {
            far: UP,
            does: usual_uplink_far(),
        };
        target.delete([far.clone()]);
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::FarMissing);
        let rule = Entry::Rule {
            rule: UP,
            does: RuleAction::Forward(usual_uplink_rule()),
        };
        target.delete([rule.clone()]);
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::RuleMissing);
        target.insert([far, rule]);
        forwards(
            target,
            N3,
            &uplink(&uplink_packet()),
            N6,
            &uplink_packet().aged().bytes(),
        );
    });
}

#[test]
fn a_closed_gate_takes_the_packet_off_the_fast_path_by_its_reason() {
    on_every_target(|target| {
        usual(target);
        target.modify([Entry::Rule {
            rule: DOWN,
            does: RuleAction::GateClosed { cell: DOWN },
        }]);
        punts_of_session(target, N6, &downlink(&downlink_packet()), PuntReason::GateClosed);
        forwards(
            target,
            N3,
            &uplink(&uplink_packet()),
            N6,
            &uplink_packet().aged().bytes(),
        );
    });
}

#[test]
fn every_far_action_has_its_reason() {
    on_every_target(|target| {
        usual(target);
        for (does, reason) in [
            (FarAction::Drop, PuntReason::FarDrop),
            (FarAction::Buffer, PuntReason::Buffer),
            (FarAction::OnHost, PuntReason::FarHost),
        ] {
            target.modify([Entry::Far { far: DOWN, does }]);
            punts_of_session(target, N6, &downlink(&downlink_packet()), reason);
            punts_of_session(target, N6, &downlink(&downlink_packet_v6()), reason);
        }
    });
}

#[test]
fn a_handover_is_the_modify_of_one_far() {
    on_every_target(|target| {
        usual(target);
        let target_gnb = v4("10.3.0.3");
        let far = FarAction::Tunnel {
            instance: ACCESS,
            src: UPF_N3.into(),
            dst: target_gnb.into(),
            teid: 0xdead_beef,
            mark: (0, 0),
        };
        target.modify([Entry::Far { far: DOWN, does: far }]);
        punts_of_session(target, N6, &downlink(&downlink_packet()), PuntReason::NoRoute);
        target.insert([Entry::Route {
            instance: ACCESS,
            prefix: (target_gnb.into(), 32),
            via: vec![hop(N3)],
        }]);
        let tunnel = Tunnel::new(UPF_N3, target_gnb, 0xdead_beef).downlink(9, false, None);
        let packet = tunnel.around(&downlink_packet().aged().bytes());
        forwards(target, N6, &downlink(&downlink_packet()), N3, &packet);
    });
}

#[test]
fn uplink_packets_may_go_into_another_upfs_tunnel() {
    on_every_target(|target| {
        usual(target);
        let far = |teid| FarAction::Tunnel {
            instance: CORE,
            src: UPF_N9.into(),
            dst: OTHER_UPF.into(),
            teid,
            mark: (0, 0),
        };
        target.modify([Entry::Far {
            far: UP,
            does: far(0x900),
        }]);
        let inner = uplink_packet().aged().bytes();
        let kept = Tunnel::new(UPF_N9, OTHER_UPF, 0x900).qfi(9).around(&inner);
        forwards(target, N3, &uplink(&uplink_packet()), N9, &kept);
        let without = Tunnel {
            container: None,
            ..n3_tunnel()
        };
        let plain = Tunnel::new(UPF_N9, OTHER_UPF, 0x900).around(&inner);
        forwards(
            target,
            N3,
            &from(N3, &without.around(&uplink_packet().bytes())),
            N9,
            &plain,
        );
        let marking = bmv2_tests::entry::Rule {
            qfi: Some(5),
            ..usual_uplink_rule()
        };
        target.modify([Entry::Rule {
            rule: UP,
            does: RuleAction::Forward(marking),
        }]);
        let marked = Tunnel::new(UPF_N9, OTHER_UPF, 0x900).qfi(5).around(&inner);
        forwards(target, N3, &uplink(&uplink_packet()), N9, &marked);
        forwards(
            target,
            N3,
            &from(N3, &without.around(&uplink_packet().bytes())),
            N9,
            &marked,
        );
    });
}
