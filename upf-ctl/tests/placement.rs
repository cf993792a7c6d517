//! Plans are right whatever the rules: no packet gets another PDR than the host would give it, and none meets a mixture
//! of old and new rules while one plan becomes the next.

mod placement_support;

use placement_support::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use upf_ctl::placement::walk::{By, End, Packet, walk, walk_from};
use upf_ctl::placement::{Action, Entry, FAR_ON_HOST, HostReason, Key, MeterCell, Place, Rates, SessionPlan, Write};
use upf_model::punt::PuntReason;
use upf_model::{Gate, Interface, PdrId, Precedence, Session};

#[derive(Default, Clone)]
struct Tables {
    entries: HashMap<Key, Action>,
    meters: BTreeMap<MeterCell, Rates>,
}

impl Tables {
    fn new() -> Self {
        let mut tables = Self::default();
        tables.entries.insert(Key::Far(FAR_ON_HOST), Action::FarOnHost);
        tables
    }

    fn insert(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.entries.extend(entries.into_iter().map(|e| (e.key, e.action)));
    }

    /// Strict: what is inserted was not there, what is modified or deleted was.
    fn write(&mut self, write: &Write) {
        match write.clone() {
            Write::Insert(e) => assert_eq!(self.entries.insert(e.key, e.action), None, "{write:?}"),
            Write::Modify(e) => assert!(self.entries.insert(e.key, e.action).is_some(), "{write:?}"),
            Write::Delete(key) => assert!(self.entries.remove(&key).is_some(), "{write:?}"),
            Write::Meter(cell, rates) => {
                self.meters.insert(cell, rates);
            }
        }
    }

    fn get(&self, key: &Key) -> Option<&Action> {
        self.entries.get(key)
    }
}

fn plan(session: &Session) -> SessionPlan {
    let world = world();
    planner(&world).plan(arc(session), None, None, &mut ids()).unwrap().0
}

/// The PDR by which the target forwards or drops a packet; none: it is punted.
fn target_pdr(tables: &Tables, plan: &SessionPlan, packet: &Packet) -> Option<PdrId> {
    let cell = walk(|key| tables.get(key), packet).cell?;
    Some(plan.cells().find(|(_, c)| c.cell == cell).unwrap().0)
}

fn same_as_host(session: &Session, tables: &Tables, plan: &SessionPlan, packet: &Packet) -> Result<(), TestCaseError> {
    let way = walk(|key| tables.get(key), packet);
    let Some(found) = target_pdr(tables, plan, packet) else {
        let dropped = matches!(&way.end, End::Leaves(reason) if reason.is_drop());
        prop_assert!(!dropped, "dropped without a PDR: {:?}", way.end);
        return Ok(());
    };
    prop_assert_eq!(Some(found), host_pdr(session, packet));
    let pdr = session.pdrs.iter().find(|p| p.id == found).unwrap();
    let uplink = pdr.pdi.source_interface == Interface::Access;
    let closed = pdr.qers.iter().filter_map(|q| session.qer(*q)).any(|q| {
        let gate = if uplink { q.gate_uplink } else { q.gate_downlink };
        gate == Gate::Closed
    });
    prop_assert_eq!(closed, way.end == End::Leaves(PuntReason::GateClosed));
    if let End::Goes(forward, _) = way.end {
        prop_assert!(pdr.pdi.local_fteid.is_none() || pdr.outer_header_removal.is_some());
        let limits = |q: &&upf_model::Qer| q.mbr.is_some();
        let metered = pdr.qers.iter().filter_map(|q| session.qer(*q)).filter(limits).count();
        let meters = [forward.flow_meter, forward.session_meter];
        prop_assert_eq!(meters.iter().filter(|m| **m != 0).count(), metered);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_meet_the_pdr_that_the_host_would_choose(
        session in session(8),
        first in prop::collection::vec(packet(), 12),
        later in prop::collection::vec(packet(), 24),
    ) {
        let plan = plan(&session);
        let mut tables = Tables::new();
        tables.insert(plan.entries());
        for packet in &first {
            same_as_host(&session, &tables, &plan, packet)?;
            // The host has classified it and tells.
            let told = host_pdr(&session, packet);
            let flows = plan.flows_of(&packet.flow);
            if told.is_some() {
                tables.insert(flows.into_iter().map(|(entry, _)| entry));
            }
        }
        for packet in first.iter().chain(&later) {
            same_as_host(&session, &tables, &plan, packet)?;
        }
    }

    #[test]
    fn a_session_that_changes_shows_no_packet_a_mixture(
        before in session(5),
        after in session(5),
        keep in prop::collection::vec(any::<bool>(), 6),
        packets in prop::collection::vec(packet(), 16),
    ) {
        // Some of the rules stay.
        let mut after = after;
        if keep[0] { after.fars.clone_from(&before.fars); }
        if keep[1] { after.qers.clone_from(&before.qers); }
        if keep[2] || keep[3] {
            after.pdrs.clone_from(&before.pdrs);
            after.ue_ips.clone_from(&before.ue_ips);
            after.framed_routes.clone_from(&before.framed_routes);
        }
        if keep[2] && keep[4] {
            after = Session { fars: after.fars.clone(), ..before.clone() };
        }
        no_mixture(&before, &after, &packets)?;
    }

    #[test]
    fn a_session_whose_precedences_change_shows_no_packet_a_mixture(
        before in session(6),
        precedences in prop::collection::vec(0..6u32, 6),
        packets in prop::collection::vec(packet(), 16),
    ) {
        let mut after = before.clone();
        for (pdr, precedence) in after.pdrs.iter_mut().zip(precedences) {
            pdr.precedence = Precedence(precedence);
        }
        after.pdrs.sort_by_key(|p| (p.precedence, p.id));
        no_mixture(&before, &after, &packets)?;
    }
}

/// What a packet meets, with numbers that differ between plans taken out.
fn meaning(tables: &Tables, entry: Option<&Action>, packet: &Packet) -> String {
    let way = walk_from(entry, |key| tables.get(key), packet);
    match way.end {
        End::Goes(forward, far) => format!("{forward:?} {far:?}")
            .split("far: ")
            .map(|part| part.split_once(',').map_or(part, |(_, rest)| rest).to_owned())
            .collect(),
        End::Leaves(reason) if reason.is_drop() => format!("{reason:?} {:?}", way.cell),
        End::Leaves(_) => "host".into(),
    }
}

fn no_mixture(before: &Session, after: &Session, packets: &[Packet]) -> Result<(), TestCaseError> {
    let world = world();
    let planner = planner(&world);
    let mut ids = ids();
    let (old, _) = planner.plan(arc(before), None, None, &mut ids).unwrap();
    let (new, change) = planner.plan(arc(after), None, Some(&old), &mut ids).unwrap();

    let flows = |plan: &SessionPlan| -> HashMap<Key, Action> {
        let all = packets.iter().flat_map(|p| plan.flows_of(&p.flow));
        all.map(|(entry, _)| (entry.key, entry.action)).collect()
    };
    let mut tables = Tables::new();
    tables.insert(old.entries());
    tables.entries.extend(flows(&old));
    let mut finished = Tables::new();
    finished.insert(new.entries());
    finished.entries.extend(flows(&new));

    // Flows of the new epochs are prepared with the rules.
    let mut writes = change.prepare.clone();
    let fresh = flows(&new)
        .into_iter()
        .filter(|(key, _)| !tables.entries.contains_key(key));
    writes.extend(fresh.map(|(key, action)| Write::Insert(Entry::new(key, action))));
    writes.extend(change.switch.clone());

    let mut states = vec![tables.clone()];
    for write in &writes {
        tables.write(write);
        states.push(tables.clone());
    }
    let start = states[0].clone();
    for packet in packets {
        let key = packet.session_key();
        let (old, new) = (
            meaning(&start, start.get(&key), packet),
            meaning(&finished, finished.get(&key), packet),
        );
        prop_assert_eq!(&meaning(&tables, tables.get(&key), packet), &new);
        // It finds its session entry at one moment, and everything else at a later one.
        for (at, state) in states.iter().enumerate() {
            for later in &states[at..] {
                let met = meaning(later, state.get(&key), packet);
                prop_assert!(met == old || met == new || met == "host", "{met}\n{old}\n{new}");
            }
        }
    }
    for key in &change.cleanup {
        tables.write(&Write::Delete(*key));
    }
    tables
        .entries
        .retain(|key, _| !matches!(key, Key::Flow { epoch, .. } if change.ended_epochs.contains(epoch)));
    for packet in packets {
        let key = packet.session_key();
        prop_assert_eq!(
            meaning(&tables, tables.get(&key), packet),
            meaning(&finished, finished.get(&key), packet)
        );
    }
    // Entries with the same rules share an epoch: where one of them keeps it, flows that packets of the other had brought
    // stay as well, as true for it as they were.
    let kept = new.epochs();
    let brought =
        |key: &Key| matches!(key, Key::Flow { epoch, .. } if kept.contains(epoch)) && start.get(key).is_some();
    let asked = |key: &Key| finished.get(key).is_some();
    let mut left: Vec<Key> = tables
        .entries
        .into_keys()
        .filter(|key| asked(key) || !brought(key))
        .collect();
    let mut expected: Vec<Key> = finished.entries.keys().copied().collect();
    left.sort_unstable();
    expected.sort_unstable();
    prop_assert_eq!(left, expected);
    Ok(())
}

// --- one by one -----------------------------------------------------------------------------------------------

/// An ordinary session: one PDR up into the network, one down into the tunnel.
fn ordinary() -> Session {
    use upf_model::*;
    let ue = UeIpAddress {
        ipv4: Some("10.45.0.2".parse().unwrap()),
        ipv6: None,
    };
    let pdr = |id: u16, source_interface, network_instance, local_fteid: Option<LocalFTeid>| Pdr {
        id: PdrId(id),
        precedence: Precedence(255),
        pdi: Pdi {
            source_interface,
            network_instance,
            local_fteid,
            ue_ip: Some(ue),
            framed_routes: Vec::new(),
            sdf: Vec::new(),
            qfis: Vec::new(),
        },
        outer_header_removal: local_fteid.map(|_| OuterHeaderRemoval::GtpuUdpIp),
        far: FarId(id.into()),
        qers: vec![QerId(1)],
        urrs: Vec::new(),
    };
    let fteid = LocalFTeid {
        teid: Teid(7),
        ipv4: Some("192.0.2.1".parse().unwrap()),
        ipv6: None,
    };
    let far = |id, tunnel: Option<(u32, &str)>| Far {
        id: FarId(id),
        action: Action {
            disposition: Disposition::Forward,
            duplicate: false,
        },
        forwarding: Some(ForwardingParameters {
            destination_interface: Interface::Core,
            network_instance: if tunnel.is_some() { RAN } else { INTERNET },
            outer_header_creation: tunnel.map(|(teid, peer)| OuterHeaderCreation {
                teid: Teid(teid),
                peer: peer.parse().unwrap(),
            }),
            transport_level_marking: None,
        }),
        duplicating: Vec::new(),
        bar: None,
    };
    Session {
        id: SessionId(5),
        ue_ips: vec![ue],
        pdrs: vec![
            pdr(1, Interface::Access, RAN, Some(fteid)),
            pdr(2, Interface::Core, INTERNET, None),
        ],
        fars: vec![far(1, None), far(2, Some((0x1234, "192.0.2.50")))],
        qers: vec![Qer {
            id: QerId(1),
            correlation_id: None,
            gate_uplink: Gate::Open,
            gate_downlink: Gate::Open,
            mbr: Some(BitRates {
                uplink_kbps: 1_000,
                downlink_kbps: 2_000,
            }),
            gbr: None,
            qfi: Some(Qfi(9)),
            rqi: false,
            ppi: None,
            averaging_window_ms: None,
            scheduling: Scheduling::default(),
        }],
        ..Session::default()
    }
}

#[test]
fn an_ordinary_session_is_direct() {
    let plan = plan(&ordinary());
    assert_eq!(plan.place(), Place::Direct);
    assert_eq!(plan.modes().count(), 2);
}

#[test]
fn a_handover_is_one_modify() {
    let (before, mut after) = (ordinary(), ordinary());
    let tunnel = after.fars[1].forwarding.as_mut().unwrap();
    tunnel.outer_header_creation.as_mut().unwrap().peer = "192.0.2.51".parse().unwrap();
    let world = world();
    let mut ids = ids();
    let (old, _) = planner(&world).plan(arc(&before), None, None, &mut ids).unwrap();
    let (_, change) = planner(&world).plan(arc(&after), None, Some(&old), &mut ids).unwrap();
    let [Write::Modify(entry)] = &change.switch[..] else {
        panic!("{change:?}")
    };
    assert!(matches!(entry.action, Action::TunnelV4 { dst, .. } if dst == std::net::Ipv4Addr::new(192, 0, 2, 51)));
    assert!(change.prepare.is_empty() && change.cleanup.is_empty() && change.ended_epochs.is_empty());
}

#[test]
fn another_rate_is_written_to_the_meters_alone() {
    let (before, mut after) = (ordinary(), ordinary());
    after.qers[0].mbr.as_mut().unwrap().uplink_kbps = 5_000;
    let world = world();
    let mut ids = ids();
    let (old, _) = planner(&world).plan(arc(&before), None, None, &mut ids).unwrap();
    let (_, change) = planner(&world).plan(arc(&after), None, Some(&old), &mut ids).unwrap();
    assert!(matches!(
        change.prepare[..],
        [Write::Meter(MeterCell::Session(_), Rates { pir: 625_000, .. })]
    ));
    assert!(change.switch.is_empty() && change.cleanup.is_empty());
}

#[test]
fn a_session_pulled_to_the_host_and_put_back_keeps_its_counters() {
    let world = world();
    let mut ids = ids();
    let session = arc(&ordinary());
    let (placed, _) = planner(&world).plan(session.clone(), None, None, &mut ids).unwrap();
    let near = Some(HostReason::NearThreshold);
    let (pulled, change) = planner(&world)
        .plan(session.clone(), near, Some(&placed), &mut ids)
        .unwrap();
    assert_eq!(pulled.place(), Place::OnHost(HostReason::NearThreshold));
    assert!(change.retired.is_empty());
    let (back, _) = planner(&world).plan(session, None, Some(&pulled), &mut ids).unwrap();
    assert_eq!(back.place(), Place::Direct);
    assert!(back.cells().eq(placed.cells()));
}

#[test]
fn packets_whose_ports_are_zero_or_cut_off_have_no_flow_where_rules_ask_for_ports() {
    let mut session = ordinary();
    let mut special = session.pdrs[1].clone();
    special.id = PdrId(3);
    special.precedence = Precedence(1);
    special.pdi.sdf = vec![upf_model::SdfFilter {
        flow: Some("permit out 6 from any 0-65535 to assigned".parse().unwrap()),
        ..Default::default()
    }];
    session.pdrs.insert(0, special);
    let plan = plan(&session);
    let with = |ports| upf_model::batch::FlowPacket {
        uplink: false,
        remote: "8.8.8.8".parse().unwrap(),
        ue: "10.45.0.2".parse().unwrap(),
        protocol: 6,
        ports,
        tos: 0,
        qfi: None,
    };
    assert_eq!(plan.flows_of(&with(Some((53, 80)))).len(), 1);
    // To the program these two are one, to the rule they are not.
    assert!(plan.flows_of(&with(Some((0, 80)))).is_empty());
    assert!(plan.flows_of(&with(None)).is_empty());
}

/// Nobody's addresses are the session's, so packets of both families come: what takes all of one family takes none of
/// the other.
#[test]
fn a_rule_of_one_family_is_not_met_by_packets_of_the_other() {
    let mut session = ordinary();
    session.pdrs.truncate(1);
    session.ue_ips.clear();
    let pdi = &mut session.pdrs[0].pdi;
    pdi.ue_ip = None;
    pdi.sdf = vec![upf_model::SdfFilter {
        flow: Some("permit out ip from ::/0 to assigned".parse().unwrap()),
        ..Default::default()
    }];
    let plan = plan(&session);
    let mut tables = Tables::new();
    tables.insert(plan.entries());
    let ends = [("8.8.8.8", "10.45.0.2"), ("2001:db8:8::8", "2001:db8:45:2::1")];
    for ((remote, ue), taken) in ends.into_iter().zip([false, true]) {
        let packet = Packet {
            by: By::Tunnel { endpoint: 0, teid: 7 },
            flow: upf_model::batch::FlowPacket {
                uplink: true,
                remote: remote.parse().unwrap(),
                ue: ue.parse().unwrap(),
                protocol: 6,
                ports: Some((53, 80)),
                tos: 0,
                qfi: None,
            },
            complete: true,
        };
        assert_eq!(host_pdr(&session, &packet).is_some(), taken);
        tables.insert(plan.flows_of(&packet.flow).into_iter().map(|(entry, _)| entry));
        assert_eq!(
            target_pdr(&tables, &plan, &packet),
            host_pdr(&session, &packet),
            "{remote}"
        );
    }
}

#[test]
fn where_there_are_no_cells_left_nothing_is_taken() {
    let world = world();
    let mut few = upf_ctl::placement::Ids::new(2, 8, 0);
    let session = arc(&ordinary());
    for _ in 0..3 {
        let refused = planner(&world).plan(session.clone(), None, None, &mut few);
        assert_eq!(refused.err(), Some(HostReason::Full));
    }
}
