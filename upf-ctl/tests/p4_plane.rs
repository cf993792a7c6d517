//! The P4 plane over a target in memory: it follows the session table, whatever the target does, and no packet ever meets
//! a mixture of rules.

mod placement_support;

use placement_support::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use upf_ctl::placement::walk::{By, End, Packet, walk};
use upf_ctl::placement::{Action, HostReason, Key, Place, Table, Write};
use upf_ctl::planes::p4::actor::GRACE;
use upf_ctl::planes::p4::memory::{Failure, MemoryTarget, Tables};
use upf_ctl::planes::p4::target::WriteFailure;
use upf_ctl::planes::p4::{APPLY_TIME, P4Plane};
use upf_ctl::planes::{DataPlane, PlaneEvent, PlaneState};
use upf_model::batch::{Change, Event, Flow, FlowPacket, Neighbour, SessionUsage};
use upf_model::{Epoch, PdrId, Session, SessionId, UrrId};

struct Rig {
    plane: P4Plane,
    target: MemoryTarget,
    sessions: Vec<Session>,
    _events: UnboundedReceiver<PlaneEvent>,
}

impl Rig {
    /// A plane whose target is in step with these sessions.
    async fn with(target: MemoryTarget, sessions: Vec<Session>) -> Self {
        let (events, _events) = upf_ctl::plane_events();
        let plane = P4Plane::start(&config(), target.clone(), 1, events).unwrap();
        let rig = Self {
            plane,
            target,
            sessions,
            _events,
        };
        assert_eq!(rig.plane.state(), PlaneState::Unsynchronised);
        rig.plane
            .synchronise(Box::new(rig.sessions.clone().into_iter()))
            .await
            .unwrap();
        rig
    }

    async fn new(sessions: Vec<Session>) -> Self {
        let rig = Self::with(MemoryTarget::default(), sessions).await;
        rig.ready().await;
        rig
    }

    /// Waits until the target is in step, and what was to be cleaned up is.
    async fn ready(&self) {
        while self.plane.state() != PlaneState::Ready {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.pass(GRACE * 3).await;
    }

    /// Lets time pass, and everything that is due happen.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        // Answered in order: what was asked before is done.
        self.plane.describe(SessionId(u32::MAX)).await.ok();
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<SessionUsage> {
        self.plane.apply(changes).await.unwrap()
    }

    async fn put(&mut self, session: &Session) {
        self.sessions.retain(|s| s.id != session.id);
        self.sessions.push(session.clone());
        self.apply(vec![put(session)]).await;
    }

    async fn place(&self, id: u32) -> Option<Place> {
        self.plane.describe(SessionId(id)).await.unwrap().map(|d| d.place)
    }

    /// The target has what it should have, and nothing else.
    async fn assert_in_step(&self) {
        let mut expected: Tables = world().entries().into_iter().map(|e| (e.key, e.action)).collect();
        let tables = self.target.tables();
        for session in &self.sessions {
            let described = self.plane.describe(session.id).await.unwrap().unwrap();
            expected.extend(described.entries.into_iter().map(|e| (e.key, e.action)));
            for flow in described.flows {
                expected.insert(flow.key, tables[&flow.key].clone());
            }
        }
        let keys = |tables: &Tables| tables.keys().copied().collect::<HashSet<Key>>();
        let (found, wanted) = (keys(&tables), keys(&expected));
        let (more, less): (Vec<_>, Vec<_>) = (found.difference(&wanted).collect(), wanted.difference(&found).collect());
        assert!(
            more.is_empty() && less.is_empty(),
            "too much: {more:?}\nmissing: {less:?}"
        );
        assert_eq!(tables, expected);
    }
}

fn put(session: &Session) -> Change {
    Change::Put {
        session: session.clone(),
        end_markers: Vec::new(),
        discard_buffered: Vec::new(),
    }
}

fn remove(id: u32) -> Change {
    Change::Remove { id: SessionId(id) }
}

/// What becomes of a packet: by which PDR it goes where, or that the host has it.
fn fate(tables: &Tables, packet: &Packet) -> String {
    match walk(|key| tables.get(key), packet).end {
        End::Goes(forward, far) => format!("{} {} {far:?}", forward.mark_qfi, forward.cell),
        End::Leaves(reason) if reason.is_drop() => reason.name().into(),
        End::Leaves(_) => "host".into(),
    }
}

/// An ordinary session with a tunnel and an address of its own: direct in both directions.
fn ordinary(id: u32) -> Session {
    use upf_model::*;
    let ue = UeIpAddress {
        ipv4: Some(std::net::Ipv4Addr::from_bits(0x0a2d_0000 + id)),
        ipv6: None,
    };
    let pdr = |pdr: u16, source_interface, network_instance, local_fteid: Option<LocalFTeid>| Pdr {
        id: PdrId(pdr),
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
        far: FarId(pdr.into()),
        qers: Vec::new(),
        urrs: vec![UrrId(1)],
    };
    let fteid = LocalFTeid {
        teid: Teid(id),
        ipv4: Some("192.0.2.1".parse().unwrap()),
        ipv6: None,
    };
    let far = |far, tunnel: bool| Far {
        id: FarId(far),
        action: Action {
            disposition: Disposition::Forward,
            duplicate: false,
        },
        forwarding: Some(ForwardingParameters {
            destination_interface: Interface::Core,
            network_instance: if tunnel { RAN } else { INTERNET },
            outer_header_creation: tunnel.then(|| OuterHeaderCreation {
                teid: Teid(id),
                peer: "192.0.2.50".parse().unwrap(),
            }),
            transport_level_marking: None,
        }),
        duplicating: Vec::new(),
        bar: None,
    };
    Session {
        id: SessionId(id),
        seid: Seid(id.into()),
        epoch: Epoch(1),
        ue_ips: vec![ue],
        pdrs: vec![
            pdr(1, Interface::Access, RAN, Some(fteid)),
            pdr(2, Interface::Core, INTERNET, None),
        ],
        fars: vec![far(1, false), far(2, true)],
        urrs: vec![Urr {
            id: UrrId(1),
            method: MeasurementMethod {
                volume: true,
                duration: false,
                event: false,
            },
            before_qos: false,
            reporting: Reporting::default(),
        }],
        ..Session::default()
    }
}

/// The same with a rule more for one server: by flow downlink.
fn with_filter(id: u32) -> Session {
    let mut session = ordinary(id);
    let mut special = session.pdrs[1].clone();
    special.id = PdrId(3);
    special.precedence = upf_model::Precedence(10);
    special.far = upf_model::FarId(1);
    special.pdi.sdf = vec![upf_model::SdfFilter {
        flow: Some("permit out 17 from 8.8.8.0/24 53 to assigned".parse().unwrap()),
        ..Default::default()
    }];
    session.pdrs.insert(0, special);
    session
}

fn downlink(id: u32, remote: &str, remote_port: u16) -> Packet {
    Packet {
        by: By::Plain(0),
        flow: FlowPacket {
            uplink: false,
            remote: remote.parse().unwrap(),
            ue: std::net::Ipv4Addr::from_bits(0x0a2d_0000 + id).into(),
            protocol: 17,
            ports: Some((remote_port, 4_000)),
            tos: 0,
            qfi: None,
        },
        complete: true,
    }
}

fn uplink(id: u32) -> Packet {
    let down = downlink(id, "8.8.8.8", 53);
    Packet {
        by: By::Tunnel { endpoint: 0, teid: id },
        flow: FlowPacket {
            uplink: true,
            ..down.flow
        },
        ..down
    }
}

fn told(packet: &Packet, pdr: u16) -> Event {
    let std::net::IpAddr::V4(ue) = packet.flow.ue else {
        panic!("IPv4 in these tests")
    };
    Event::Flow(Flow {
        session: SessionId(ue.to_bits() & 0xffff),
        epoch: Epoch(1),
        pdr: PdrId(pdr),
        packet: packet.flow,
    })
}

fn cell_of(tables: &Tables, packet: &Packet) -> u32 {
    walk(|key| tables.get(key), packet).cell.unwrap()
}

// --- following ------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_session_is_in_the_target_from_its_establishment_to_its_removal() {
    let mut rig = Rig::new(Vec::new()).await;
    rig.put(&ordinary(7)).await;
    assert_eq!(rig.place(7).await, Some(Place::Direct));
    assert!(fate(&rig.target.tables(), &uplink(7)).contains("Plain"));
    assert!(fate(&rig.target.tables(), &downlink(7, "9.9.9.9", 1)).contains("TunnelV4"));
    rig.assert_in_step().await;
    rig.apply(vec![remove(7)]).await;
    rig.sessions.clear();
    rig.pass(GRACE * 3).await;
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_there_already_is_not_written_again_and_strangers_are_removed() {
    let target = MemoryTarget::default();
    Rig::with(target.clone(), vec![ordinary(1), ordinary(2)])
        .await
        .ready()
        .await;
    let stranger = Key::Uplink { endpoint: 0, teid: 99 };
    target.tamper(|tables| {
        tables.insert(stranger, Action::OnHost { session: 99, epoch: 1 });
    });
    let rig = Rig::with(target.clone(), vec![ordinary(1), ordinary(2)]).await;
    rig.ready().await;
    rig.assert_in_step().await;
    let log = target.take_log();
    assert!(log.contains(&Write::Delete(stranger)));
    let stations = log
        .iter()
        .filter(|w| w.key().is_some_and(|k| k.table() == Table::MyStation));
    assert_eq!(stations.count(), 3, "once, by the first controller");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_again_takes_over_without_a_gap() {
    let target = MemoryTarget::default();
    Rig::with(target.clone(), vec![ordinary(1), ordinary(2)])
        .await
        .ready()
        .await;
    let gaps = Arc::new(Mutex::new(0));
    let seen = gaps.clone();
    target.watch(move |tables| {
        let packets = [uplink(1), downlink(1, "8.8.8.8", 53), uplink(2)];
        *seen.lock().unwrap() += packets.iter().filter(|p| fate(tables, p) == "host").count();
    });
    let rig = Rig::with(target, vec![ordinary(1), ordinary(2)]).await;
    rig.ready().await;
    rig.assert_in_step().await;
    assert_eq!(*gaps.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_costs_no_write_if_nothing_changed() {
    let rig = Rig::new(vec![ordinary(1), with_filter(2)]).await;
    rig.target.take_log();
    rig.target.set_up(false);
    rig.pass(Duration::from_millis(5)).await;
    assert_eq!(rig.plane.state(), PlaneState::Away);
    rig.target.set_up(true);
    rig.ready().await;
    let written = rig.target.take_log();
    assert!(written.iter().all(|w| matches!(w, Write::Meter(..))), "{written:?}");
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn changes_while_the_target_is_away_are_made_up_for() {
    let mut rig = Rig::new(vec![ordinary(1), ordinary(2)]).await;
    rig.target.set_up(false);
    rig.pass(Duration::from_millis(5)).await;
    rig.put(&with_filter(1)).await;
    rig.put(&ordinary(3)).await;
    rig.apply(vec![remove(2)]).await;
    rig.sessions.retain(|s| s.id != SessionId(2));
    rig.target.set_up(true);
    rig.ready().await;
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_restarts_is_programmed_again() {
    let rig = Rig::new(vec![ordinary(1), with_filter(2)]).await;
    rig.target.restart();
    rig.pass(Duration::from_millis(5)).await;
    rig.ready().await;
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_lost_is_found_and_written_again() {
    let rig = Rig::new(vec![ordinary(1), ordinary(2)]).await;
    rig.target
        .tamper(|tables| tables.retain(|key, _| !matches!(key, Key::Rule(_))));
    rig.pass(Duration::from_secs(10)).await;
    rig.ready().await;
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_gets_its_route_after_its_next_hop() {
    let rig = Rig::new(Vec::new()).await;
    rig.target.take_log();
    rig.plane.happened(&Event::Neighbour(Neighbour {
        port: 0,
        addr: "192.0.2.50".parse().unwrap(),
        mac: [2, 0, 0, 0, 0, 50],
    }));
    rig.pass(Duration::from_millis(5)).await;
    let tables: Vec<Table> = rig
        .target
        .take_log()
        .iter()
        .filter_map(|w| Some(w.key()?.table()))
        .collect();
    assert_eq!(tables, [Table::NextHops, Table::RoutesV4]);
}

// --- room -----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn sessions_that_do_not_fit_are_the_hosts_until_there_is_room() {
    let target = MemoryTarget::default();
    target.set_size(Table::Rules, 4);
    let mut rig = Rig::with(target, vec![ordinary(1)]).await;
    rig.ready().await;
    for id in 2..5 {
        rig.put(&ordinary(id)).await;
    }
    assert_eq!(rig.place(2).await, Some(Place::Direct));
    for id in 3..5 {
        assert_eq!(rig.place(id).await, Some(Place::OnHost(HostReason::Full)));
        assert_eq!(fate(&rig.target.tables(), &uplink(id)), "host");
    }
    rig.assert_in_step().await;
    rig.apply(vec![remove(1)]).await;
    rig.sessions.retain(|s| s.id != SessionId(1));
    rig.pass(Duration::from_secs(6)).await;
    let placed = [rig.place(3).await, rig.place(4).await];
    assert_eq!(placed.iter().filter(|p| **p == Some(Place::Direct)).count(), 1);
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn without_room_for_its_entry_a_session_is_not_there_at_all() {
    let target = MemoryTarget::default();
    target.set_size(Table::DownlinkSessionsV4, 1);
    let mut rig = Rig::with(target, vec![ordinary(1)]).await;
    rig.ready().await;
    rig.put(&ordinary(2)).await;
    assert_eq!(rig.place(2).await, Some(Place::OnHost(HostReason::Full)));
    assert_eq!(fate(&rig.target.tables(), &uplink(2)), "host");
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_says_it_is_full_is_believed() {
    let mut rig = Rig::new(vec![ordinary(1)]).await;
    // In the prepare phase, then in the switch phase.
    for failures in [
        vec![Some(Failure::Write(1, WriteFailure::Full))],
        vec![None, Some(Failure::Write(0, WriteFailure::Full))],
    ] {
        rig.target.fail(failures);
        rig.put(&ordinary(2)).await;
        assert_eq!(rig.place(2).await, Some(Place::OnHost(HostReason::Full)));
        rig.pass(GRACE * 3).await;
        rig.assert_in_step().await;
        rig.apply(vec![remove(2)]).await;
        rig.sessions.retain(|s| s.id != SessionId(2));
    }
}

// --- time -----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_holds_nobody_up_for_long() {
    let mut rig = Rig::new(vec![ordinary(1)]).await;
    rig.target.fail([Some(Failure::Hangs)]);
    let start = tokio::time::Instant::now();
    rig.put(&with_filter(1)).await;
    for id in 2..10 {
        rig.put(&ordinary(id)).await;
    }
    assert!(
        start.elapsed() <= APPLY_TIME + Duration::from_millis(2),
        "only the first waits"
    );
    rig.pass(Duration::from_secs(3)).await;
    rig.ready().await;
    rig.assert_in_step().await;
}

// --- flows ----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_flow_that_the_host_classified_goes_by_the_target_from_then_on() {
    let rig = Rig::new(vec![with_filter(2)]).await;
    assert_eq!(rig.place(2).await, Some(Place::ByFlow));
    let (dns, web) = (downlink(2, "8.8.8.8", 53), downlink(2, "9.9.9.9", 443));
    assert_eq!(fate(&rig.target.tables(), &dns), "host");
    rig.plane.happened(&told(&dns, 3));
    rig.plane.happened(&told(&web, 2));
    rig.pass(Duration::from_millis(5)).await;
    let tables = rig.target.tables();
    assert!(fate(&tables, &dns).contains("Plain"));
    assert!(fate(&tables, &web).contains("TunnelV4"));
    assert!(
        fate(&tables, &downlink(2, "8.8.8.9", 53)) == fate(&tables, &dns),
        "alike under the mask"
    );
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn hot_flows_stay_on_the_fast_path_when_rules_change() {
    let mut rig = Rig::new(vec![with_filter(2)]).await;
    let dns = downlink(2, "8.8.8.8", 53);
    rig.plane.happened(&told(&dns, 3));
    rig.pass(Duration::from_millis(5)).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let fates = seen.clone();
    rig.target
        .watch(move |tables| fates.lock().unwrap().push(fate(tables, &dns)));
    let mut session = with_filter(2);
    // Now the ordinary rule wins.
    session.pdrs[0].precedence = upf_model::Precedence(900);
    session.pdrs.rotate_left(1);
    session.pdrs[0].pdi.sdf = vec![upf_model::SdfFilter {
        flow: Some("permit out ip from 8.0.0.0/8 to assigned".parse().unwrap()),
        ..Default::default()
    }];
    rig.put(&session).await;
    rig.pass(GRACE * 3).await;
    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().all(|fate| fate != "host"), "{seen:?}");
    assert!(seen.first().unwrap().contains("Plain") || seen.first().unwrap().contains("TunnelV4"));
    assert!(seen.last().unwrap().contains("TunnelV4"));
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn idle_flows_go_by_notification_or_by_their_counters() {
    for tells in [true, false] {
        let target = MemoryTarget::default();
        if !tells {
            target.never_tell_idle();
        }
        let rig = Rig::with(target, vec![with_filter(2)]).await;
        rig.ready().await;
        for port in [53, 54] {
            rig.plane.happened(&told(&downlink(2, "8.8.8.8", port), 2));
        }
        rig.pass(Duration::from_millis(5)).await;
        let flows: Vec<Key> = rig
            .target
            .tables()
            .into_keys()
            .filter(|k| k.table() == Table::Flows)
            .collect();
        assert_eq!(flows.len(), 2);
        if tells {
            rig.target.idle([flows[0]]);
            rig.pass(Duration::from_millis(5)).await;
        } else {
            for _ in 0..60 {
                rig.target.hit(flows[1]);
                rig.pass(Duration::from_secs(1)).await;
            }
        }
        let left: Vec<Key> = rig
            .target
            .tables()
            .into_keys()
            .filter(|k| k.table() == Table::Flows)
            .collect();
        assert_eq!(left, [flows[1]]);
        rig.assert_in_step().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_table_gives_the_place_of_a_quiet_flow_to_a_new_one() {
    let target = MemoryTarget::default();
    target.set_size(Table::Flows, 2);
    let rig = Rig::with(target, vec![with_filter(2)]).await;
    rig.ready().await;
    let packets: Vec<Packet> = [1, 2, 3].map(|port| downlink(2, "8.8.8.8", port)).to_vec();
    for packet in &packets[..2] {
        rig.plane.happened(&told(packet, 2));
        rig.pass(Duration::from_millis(5)).await;
    }
    let tables = rig.target.tables();
    let busy = walk(|key| tables.get(key), &packets[0]).looked_up[1];
    rig.target.hit(busy);
    rig.plane.happened(&told(&packets[2], 2));
    rig.pass(Duration::from_millis(5)).await;
    let tables = rig.target.tables();
    assert_ne!(fate(&tables, &packets[0]), "host", "it had a packet");
    assert_eq!(fate(&tables, &packets[1]), "host");
    assert_ne!(fate(&tables, &packets[2]), "host");
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn one_user_has_no_more_flows_than_a_session_may() {
    let target = MemoryTarget::default();
    target.set_size(Table::Flows, 2_000);
    let rig = Rig::with(target, vec![with_filter(2)]).await;
    rig.ready().await;
    for port in 1..=1_100 {
        rig.plane.happened(&told(&downlink(2, "8.8.8.8", port), 2));
    }
    rig.pass(Duration::from_millis(50)).await;
    let flows = rig
        .target
        .tables()
        .into_keys()
        .filter(|k| k.table() == Table::Flows)
        .count();
    assert_eq!(flows, 1_024);
}

// --- usage ----------------------------------------------------------------------------------------------------

fn volume(usage: &SessionUsage) -> (u64, u64) {
    let urr = usage
        .urrs
        .iter()
        .find(|(id, _)| *id == UrrId(1))
        .map(|(_, u)| *u)
        .unwrap_or_default();
    (urr.uplink.bytes, urr.downlink.bytes)
}

#[tokio::test(start_paused = true)]
async fn usage_is_exact_and_survives_moves_and_restarts() {
    let mut rig = Rig::new(vec![ordinary(2)]).await;
    let usage = async |rig: &Rig| volume(&rig.plane.usage(vec![SessionId(2)]).await.unwrap()[0]);
    let cell = cell_of(&rig.target.tables(), &uplink(2));
    rig.target.count(cell, 100 + 58, 58, 58);
    rig.target.count(cell, 40 + 66, 66, 58);
    assert_eq!(usage(&rig).await, (140, 0));

    // To the host and back: the cell stays.
    rig.plane.near_threshold(vec![(SessionId(2), true)]);
    rig.pass(GRACE * 3).await;
    assert_eq!(rig.place(2).await, Some(Place::OnHost(HostReason::NearThreshold)));
    rig.plane.near_threshold(vec![(SessionId(2), false)]);
    rig.pass(GRACE * 3).await;
    assert_eq!(cell_of(&rig.target.tables(), &uplink(2)), cell);

    // A restart: counters start from zero, the account does not.
    rig.target.count(cell, 10 + 58, 58, 58);
    assert_eq!(usage(&rig).await, (150, 0));
    rig.target.restart();
    rig.pass(Duration::from_millis(5)).await;
    rig.ready().await;
    rig.target.count(cell, 1 + 58, 58, 58);
    assert_eq!(usage(&rig).await, (151, 0));

    // A PDR that nobody charges for any more: what its cell counted until then is charged.
    let mut uncharged = ordinary(2);
    uncharged.pdrs[0].urrs.clear();
    rig.put(&uncharged).await;
    rig.target.count(cell, 2 + 58, 58, 58);
    rig.pass(GRACE * 3).await;
    let cell = cell_of(&rig.target.tables(), &uplink(2));
    rig.target.count(cell, 1_000, 58, 58);
    assert_eq!(usage(&rig).await, (153, 0));

    // The end: with what came last.
    let cell = cell_of(&rig.target.tables(), &downlink(2, "8.8.8.8", 53));
    rig.target.count(cell, 500 + 14, 14, 14);
    let last = rig.apply(vec![remove(2)]).await;
    assert_eq!(volume(&last[0]), (153, 500));
}

// --- no mixtures ----------------------------------------------------------------------------------------------

fn failures() -> impl Strategy<Value = Vec<Option<Failure>>> {
    let failure = prop_oneof![
        8 => Just(None),
        1 => (0..6usize).prop_map(|at| Some(Failure::Write(at, WriteFailure::Full))),
        1 => (0..6usize).prop_map(|at| Some(Failure::Write(at, WriteFailure::Unexpected))),
        1 => (0..6usize).prop_map(|at| Some(Failure::Breaks(at))),
        1 => Just(Some(Failure::Hangs)),
    ];
    prop::collection::vec(failure, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// A session goes through several versions while writes fail in all ways. After every single write, each packet
    /// meets the rules of the version before, of the one after, or the host.
    #[test]
    fn no_packet_meets_a_mixture_however_the_target_fails(
        versions in prop::collection::vec(session(4), 2..5),
        packets in prop::collection::vec(packet(), 12),
        failures in failures(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut rig = Rig::new(Vec::new()).await;
            rig.target.fail(failures);
            let allowed: Arc<Mutex<Vec<HashSet<String>>>> = Arc::new(Mutex::new(vec![HashSet::new(); packets.len()]));
            let wrong = Arc::new(Mutex::new(Vec::new()));
            let (watched, found, seen) = (allowed.clone(), wrong.clone(), packets.clone());
            rig.target.watch(move |tables| {
                for (packet, allowed) in seen.iter().zip(watched.lock().unwrap().iter()) {
                    let fate = fate_without_cell(tables, packet);
                    if fate != "host" && !allowed.contains(&fate) {
                        found.lock().unwrap().push(format!("{fate} is none of {allowed:?}"));
                    }
                }
            });
            for session in &versions {
                // A reading of the version on its own says what it means.
                let alone = Rig::new(vec![session.clone()]).await;
                tell(&alone, session, &packets).await;
                let meant = alone.target.tables();
                for (packet, allowed) in packets.iter().zip(allowed.lock().unwrap().iter_mut()) {
                    allowed.insert(fate_without_cell(&meant, packet));
                }
                rig.put(session).await;
                tell(&rig, session, &packets).await;
                rig.pass(Duration::from_secs(4)).await;
                rig.ready().await;
                // What was promised holds now: only this version is left.
                let now = rig.target.tables();
                for (packet, allowed) in packets.iter().zip(allowed.lock().unwrap().iter_mut()) {
                    let only = fate_without_cell(&meant, packet);
                    let met = fate_without_cell(&now, packet);
                    prop_assert!(met == "host" || met == only, "{met} instead of {only}");
                    allowed.clear();
                    allowed.insert(only);
                }
                rig.assert_in_step().await;
                prop_assert!(wrong.lock().unwrap().is_empty(), "{:?}", wrong.lock().unwrap());
            }
            Ok(())
        })?;
    }
}

fn fate_without_cell(tables: &Tables, packet: &Packet) -> String {
    match walk(|key| tables.get(key), packet).end {
        End::Goes(forward, far) => {
            let (rqi, ppi) = (forward.rqi, forward.ppi);
            format!("{} {rqi} {ppi} {far:?} {}", forward.mark_qfi, forward.usual_overhead)
        }
        End::Leaves(reason) if reason.is_drop() => reason.name().into(),
        End::Leaves(_) => "host".into(),
    }
}

/// The host tells of every packet that it can classify.
async fn tell(rig: &Rig, session: &Session, packets: &[Packet]) {
    for packet in packets {
        if let Some(pdr) = host_pdr(session, packet) {
            rig.plane.happened(&Event::Flow(Flow {
                session: session.id,
                epoch: session.epoch,
                pdr,
                packet: packet.flow,
            }));
        }
    }
    rig.pass(Duration::from_millis(5)).await;
}
