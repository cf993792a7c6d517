//! What upf-ctl's planner writes, as entries of these tests.

use bmv2_tests::entry::{self, Entry, FarAction, ReasonAction, RuleAction};
use std::net::{IpAddr, Ipv6Addr};
use upf_ctl::placement::{Action, Entry as Planned, FlowFields, FlowMask, Key};
use upf_model::punt::PuntReason;

/// The entry of these tests. `None`: a combination that the program does not have.
pub fn entry(planned: &Planned) -> Option<Entry> {
    Some(match (planned.key, &planned.action) {
        (Key::HostPort(port), Action::Host) => Entry::HostPort(port),
        (Key::Station { port, vlan, mac }, Action::Station { arrival }) => Entry::Station {
            port,
            vlan,
            mac,
            instance: *arrival,
        },
        (Key::EndpointV4 { arrival, addr }, Action::Endpoint { id }) => endpoint(arrival, addr.into(), *id),
        (Key::EndpointV6 { arrival, addr }, Action::Endpoint { id }) => endpoint(arrival, addr.into(), *id),
        (Key::Uplink { endpoint, teid }, action) => Entry::UplinkSession {
            endpoint,
            teid,
            sources: sources(action),
            session: session(action)?,
        },
        (Key::DownlinkV4 { arrival, ue }, action) => downlink(arrival, ue.into(), session(action)?),
        (Key::DownlinkV6 { arrival, prefix }, action) => downlink(
            arrival,
            Ipv6Addr::from_bits(u128::from(prefix) << 64).into(),
            session(action)?,
        ),
        (Key::Flow { session, epoch, flow }, Action::Flow { rule }) => Entry::Flow {
            session,
            epoch,
            uplink: !flow.downlink,
            ipv6: flow.ipv6,
            fields: fields(flow),
            rule: *rule,
        },
        (Key::Rule(rule), action) => Entry::Rule {
            rule,
            does: rule_action(action)?,
        },
        (Key::Far(far), action) => Entry::Far {
            far,
            does: far_action(action)?,
        },
        (Key::RouteV4 { instance, prefix }, action) => {
            route(instance, (prefix.addr().into(), prefix.len().into()), action)?
        }
        (Key::RouteV6 { instance, prefix }, action) => {
            route(instance, (prefix.addr().into(), prefix.len().into()), action)?
        }
        (
            Key::NextHop(hop),
            &Action::NextHop {
                port,
                dst,
                src,
                vlan,
                mtu,
            },
        ) => Entry::NextHop {
            hop,
            port,
            dst,
            src,
            vlan,
            mtu,
        },
        (Key::Reason(reason), action) => Entry::Reason {
            reason: PuntReason::from_value(reason)?,
            does: reason_action(action)?,
        },
        _ => return None,
    })
}

fn endpoint(instance: u16, address: IpAddr, id: u16) -> Entry {
    Entry::Endpoint { instance, address, id }
}

fn downlink(instance: u16, ue: IpAddr, session: entry::Session) -> Entry {
    Entry::DownlinkSession { instance, ue, session }
}

fn session(action: &Action) -> Option<entry::Session> {
    Some(match *action {
        Action::OnHost { session, epoch } => entry::Session::OnHost { session, epoch },
        Action::Direct {
            session, epoch, rule, ..
        } => entry::Session::Direct { session, epoch, rule },
        Action::ByFlow {
            session, epoch, mask, ..
        } => entry::Session::ByFlow {
            session,
            epoch,
            mask: of_mask(mask),
        },
        _ => return None,
    })
}

fn sources(action: &Action) -> entry::Sources {
    match action {
        Action::Direct { sources: Some(s), .. } | Action::ByFlow { sources: Some(s), .. } if !s.any => {
            entry::Sources::Only(s.v4, s.v6.map(|prefix| Ipv6Addr::from_bits(u128::from(prefix) << 64)))
        }
        _ => entry::Sources::Any,
    }
}

fn fields(flow: FlowFields) -> entry::FlowFields {
    entry::FlowFields {
        remote: flow.remote,
        ue: flow.ue,
        remote_port: flow.remote_port,
        ue_port: flow.ue_port,
        protocol: flow.protocol,
        tos: flow.tos,
        qfi: flow.qfi,
    }
}

fn of_mask(mask: FlowMask) -> entry::FlowFields {
    entry::FlowFields {
        remote: mask.remote,
        ue: mask.ue,
        remote_port: mask.remote_port,
        ue_port: mask.ue_port,
        protocol: mask.protocol,
        tos: mask.tos,
        qfi: mask.qfi,
    }
}

fn rule_action(action: &Action) -> Option<RuleAction> {
    Some(match action {
        Action::GateClosed { cell } => RuleAction::GateClosed { cell: *cell },
        Action::Forward(rule) => RuleAction::Forward(entry::Rule {
            cell: rule.cell,
            far: rule.far,
            flow_meter: rule.flow_meter,
            session_meter: rule.session_meter,
            usual_overhead: rule.usual_overhead,
            queue: rule.queue,
            qfi: (rule.mark_qfi != 0).then_some(rule.mark_qfi & 0x3f),
            rqi: rule.rqi,
            ppi: (rule.ppi != 0).then_some(rule.ppi & 7),
        }),
        _ => return None,
    })
}

fn far_action(action: &Action) -> Option<FarAction> {
    let tunnel = |instance, src: IpAddr, dst: IpAddr, teid, mark| FarAction::Tunnel {
        instance,
        src,
        dst,
        teid,
        mark,
    };
    Some(match *action {
        Action::Plain { instance, marking } => FarAction::Plain {
            instance,
            mark: marking,
        },
        Action::TunnelV4 {
            instance,
            src,
            dst,
            teid,
            marking,
        } => tunnel(instance, src.into(), dst.into(), teid, marking),
        Action::TunnelV6 {
            instance,
            src,
            dst,
            teid,
            marking,
        } => tunnel(instance, src.into(), dst.into(), teid, marking),
        Action::Drop => FarAction::Drop,
        Action::Buffer => FarAction::Buffer,
        Action::FarOnHost => FarAction::OnHost,
        _ => return None,
    })
}

fn route(instance: u16, prefix: (IpAddr, u32), action: &Action) -> Option<Entry> {
    let via = match action {
        Action::Via(hops) => hops.clone(),
        Action::OnLink => Vec::new(),
        _ => return None,
    };
    Some(Entry::Route { instance, prefix, via })
}

/// Without limits: what is limited is not this test's.
fn reason_action(action: &Action) -> Option<ReasonAction> {
    match action {
        Action::Punt { port, .. } => Some(ReasonAction::Punt {
            port: *port,
            limit_users: false,
            limit: None,
        }),
        Action::Discard => Some(ReasonAction::Discard),
        _ => None,
    }
}
