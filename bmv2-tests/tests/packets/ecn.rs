//! `ecn.p4` and the congestion marks in `forward.p4`: RFC 6040, normal mode.

use crate::scene::*;
use bmv2_tests::on_every_target;
use bmv2_tests::world::*;
use upf_model::punt::PuntReason;

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

#[test]
fn congestion_outside_is_carried_inside() {
    on_every_target(|target| {
        usual(target);
        // RFC 6040, figure 4: rows inner, columns outer Not-ECT, ECT(0), ECT(1), CE.
        for (inner, outers) in [
            (ECT_0, [(NOT_ECT, ECT_0), (ECT_0, ECT_0), (ECT_1, ECT_1), (CE, CE)]),
            (ECT_1, [(NOT_ECT, ECT_1), (ECT_0, ECT_1), (ECT_1, ECT_1), (CE, CE)]),
            (CE, [(NOT_ECT, CE), (ECT_0, CE), (ECT_1, CE), (CE, CE)]),
        ] {
            for (outer, expected) in outers {
                for packet in [uplink_packet(), uplink_packet_v6()] {
                    let packet = packet.tos(0xb8 | inner);
                    let frame = from(N3, &n3_tunnel().tos(0x28 | outer).around(&packet.bytes()));
                    forwards(target, N3, &frame, N6, &packet.aged().tos(0xb8 | expected).bytes());
                }
            }
        }
    });
}

#[test]
fn a_packet_that_cannot_carry_the_mark_is_punted_as_it_came() {
    on_every_target(|target| {
        usual(target);
        for packet in [uplink_packet(), uplink_packet_v6()] {
            for outer in [NOT_ECT, ECT_0, ECT_1] {
                let frame = from(N3, &n3_tunnel().tos(outer).around(&packet.bytes()));
                forwards(target, N3, &frame, N6, &packet.aged().bytes());
            }
            let frame = from(N3, &n3_tunnel().tos(CE).around(&packet.bytes()));
            punts_of_session(target, N3, &frame, PuntReason::Ecn);
        }
    });
}

#[test]
fn the_users_mark_is_copied_outside() {
    on_every_target(|target| {
        usual(target);
        for ecn in [NOT_ECT, ECT_0, ECT_1, CE] {
            for packet in [downlink_packet(), downlink_packet_v6()] {
                let packet = packet.tos(0x48 | ecn);
                let tunnelled = gnb_tunnel().tos(ecn).around(&packet.aged().bytes());
                forwards(target, N6, &downlink(&packet), N3, &tunnelled);
            }
        }
    });
}
