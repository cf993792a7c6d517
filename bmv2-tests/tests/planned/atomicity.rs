//! A change of rules takes effect for every later packet at once: no packet is treated by a mixture of old and new rules.
//!
//! One thread sends numbered packets of three flows in both directions without a pause, another takes a session through
//! hundreds of versions by the planner's ordered writes. Whatever is part of a version shows in the bytes that leave:
//!
//! | rule | changed by | seen in |
//! | --- | --- | --- |
//! | FAR: tunnel | handover | TEID and destination |
//! | FAR: marking | a new policy | outer DSCP |
//! | QER | a new QoS flow | QFI of the PDU Session Container |
//! | PDR precedence | a new priority | which of the above |
//! | PDR set | a rule less, a rule more | the same, and direct or by flow |
//!
//! A packet must look as one version makes it: not older than the one in force when it was sent, not newer than the one
//! being written when it was received, and no version may come after a later one.
//! `UPF_ATOMICITY_CHANGES` says how many (default 200).

use crate::placed::Placed;
use crate::world;
use bmv2_tests::frame::{Tunnel, UserPacket, frame};
use bmv2_tests::target::{lock, with_all_targets};
use bmv2_tests::world::HOST;
use bmv2_tests::{Frames, Target};
use p4runtime::v1::update::Type;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use upf_ctl::placement::{Ids, Key, Planner, SessionPlan, World, Write};
use upf_model::batch::FlowPacket;
use upf_model::punt::{PuntHeader, PuntReason};
use upf_model::{
    Action, Disposition, Epoch, Far, FarId, ForwardingParameters, Gate, Interface, LocalFTeid, OuterHeaderCreation,
    OuterHeaderRemoval, Pdi, Pdr, PdrId, Precedence, Qer, QerId, Qfi, SdfFilter, Seid, Session, SessionId, Teid,
    UeIpAddress,
};
use world::{INTERNET, N3, N6, RAN};

const CHANGES: u32 = 200;
const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// The server's ports that tell the flows apart.
pub const PORTS: [u16; 3] = [53, 80, 443];
/// Packets sent between two looks at what has come out.
const BURST: u16 = 12;

#[test]
fn no_packet_is_treated_by_a_mixture_of_old_and_new_rules() {
    with_all_targets(|targets| {
        for target in targets {
            target.clear();
            target.insert(world::world().entries().iter().map(Placed::unlimited));
            run(target, &versions());
        }
    });
}

/// As many as the environment asks for.
pub fn versions() -> Vec<Version> {
    let changes = std::env::var("UPF_ATOMICITY_CHANGES")
        .ok()
        .map(|n| n.parse().expect("UPF_ATOMICITY_CHANGES"));
    (0..=changes.unwrap_or(CHANGES)).map(Version::nth).collect()
}

/// What a version says of one direction. Numbers that differ between versions go into every field that can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Number of the last change of FARs: of both rules; and of the second one alone.
    fars: u32,
    second_far: u32,
    /// Number of the last change of QERs.
    qers: u32,
    /// The rule that takes everything comes first.
    swapped: bool,
    /// There is only the rule that takes everything.
    alone: bool,
    /// Its flows are in the target before it is switched to.
    flows_first: bool,
}

impl Version {
    /// Version 0, or the one before with one thing changed, or all.
    pub fn nth(n: u32) -> Self {
        let mut version = Self {
            fars: 0,
            second_far: 0,
            qers: 0,
            swapped: false,
            alone: false,
            flows_first: true,
        };
        for change in 1..=n {
            let all = change % 7 == 0;
            if all || change % 7 == 1 {
                (version.fars, version.second_far) = (change, change);
            }
            if change % 7 == 2 {
                version.second_far = change; // a handover of one rule: one MODIFY in place
            }
            if all || change % 7 == 3 {
                version.qers = change;
            }
            if all || matches!(change % 7, 4 | 5) {
                version.swapped = !version.swapped;
            }
            if all || change % 7 == 6 {
                version.alone = !version.alone;
            }
            version.flows_first = change % 5 != 0;
        }
        version
    }

    fn far(self, rule: u32) -> u32 {
        if rule == 2 { self.second_far } else { self.fars }
    }

    /// Rules: 1 takes DNS, 2 takes everything.
    fn winner(self, port: u16) -> u32 {
        if port == PORTS[0] && !self.swapped && !self.alone {
            1
        } else {
            2
        }
    }

    fn tunnel(self, rule: u32, uplink: bool) -> (u32, IpAddr, u8, u8) {
        let change = self.far(rule);
        let teid = change << 8 | rule << 4 | u32::from(uplink);
        let peer = match (uplink, change % 2) {
            (true, _) => "10.9.0.2",
            (false, 0) => "10.3.0.2",
            (false, _) => "10.4.1.1",
        };
        let dscp = ((change % 63 + 1) << 2) as u8;
        let qfi = ((self.qers * 2 + rule) % 64) as u8;
        (teid, peer.parse().expect("an address"), dscp, qfi)
    }

    pub fn session(self) -> Session {
        let ue = UeIpAddress {
            ipv4: Some(UE),
            ipv6: None,
        };
        let mut session = Session {
            id: SessionId(5),
            seid: Seid(0xabc),
            epoch: Epoch(1),
            ue_ips: vec![ue],
            ..Session::default()
        };
        for uplink in [true, false] {
            for rule in if self.alone { 2..=2u32 } else { 1..=2 } {
                let id = rule + if uplink { 10 } else { 20 };
                let (teid, peer, dscp, qfi) = self.tunnel(rule, uplink);
                let fteid = LocalFTeid {
                    teid: Teid(7),
                    ipv4: "10.3.0.1".parse().ok(),
                    ipv6: None,
                };
                let dns = SdfFilter {
                    flow: "permit out 17 from any 53 to assigned".parse().ok(),
                    ..SdfFilter::default()
                };
                session.pdrs.push(Pdr {
                    id: PdrId(id as u16),
                    precedence: Precedence(if (rule == 1) != self.swapped { 10 } else { u32::MAX - 5 }),
                    pdi: Pdi {
                        source_interface: if uplink { Interface::Access } else { Interface::Core },
                        network_instance: if uplink { RAN } else { INTERNET },
                        local_fteid: uplink.then_some(fteid),
                        ue_ip: Some(ue),
                        framed_routes: vec![],
                        sdf: if rule == 1 { vec![dns] } else { vec![] },
                        qfis: vec![],
                    },
                    outer_header_removal: uplink.then_some(OuterHeaderRemoval::GtpuUdpIp),
                    far: FarId(id),
                    qers: vec![QerId(id)],
                    urrs: vec![],
                });
                session.fars.push(Far {
                    id: FarId(id),
                    action: Action {
                        disposition: Disposition::Forward,
                        duplicate: false,
                    },
                    forwarding: Some(ForwardingParameters {
                        destination_interface: if uplink { Interface::Core } else { Interface::Access },
                        network_instance: RAN,
                        outer_header_creation: Some(OuterHeaderCreation { teid: Teid(teid), peer }),
                        transport_level_marking: Some((dscp, 0xfc)),
                    }),
                    duplicating: vec![],
                    bar: None,
                });
                session.qers.push(Qer {
                    id: QerId(id),
                    correlation_id: None,
                    gate_uplink: Gate::Open,
                    gate_downlink: Gate::Open,
                    mbr: None,
                    gbr: None,
                    qfi: Some(Qfi(qfi)),
                    rqi: false,
                    ppi: None,
                    averaging_window_ms: None,
                    scheduling: upf_model::Scheduling::default(),
                });
            }
        }
        session.pdrs.sort_by_key(|p| (p.precedence, p.id));
        session
    }

    /// The IP packet that leaves for this one.
    fn sends(self, packet: &UserPacket, port: u16, uplink: bool) -> Vec<u8> {
        let (teid, peer, dscp, qfi) = self.tunnel(self.winner(port), uplink);
        let own = Ipv4Addr::new(10, if uplink { 9 } else { 3 }, 0, 1);
        let tunnel = Tunnel::new(own, peer, teid).tos(dscp);
        let tunnel = if uplink {
            tunnel.qfi(qfi)
        } else {
            tunnel.downlink(qfi, false, None)
        };
        tunnel.around(&packet.aged().bytes())
    }
}

fn run(target: &Target, versions: &[Version]) {
    let world = world::world();
    let mut session = Changing::new(target, &world);
    session.to(&versions[0], || {}, || {});
    watched(target, versions, |progress| {
        for (n, version) in versions.iter().enumerate() {
            session.to(version, || progress.begin(n), || progress.end(n));
        }
    });
    session.end();
}

/// Sends packets and looks at them, for as long as `change` takes the target from version to version.
pub fn watched(target: &Target, versions: &[Version], change: impl FnOnce(&Progress)) {
    let progress = Progress::default();
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(target, versions, &progress));
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(&progress)));
        progress.done.store(true, SeqCst);
        let seen = watching.join();
        if let Err(e) = changed {
            std::panic::resume_unwind(e);
        }
        let seen = seen.unwrap_or_else(|e| std::panic::resume_unwind(e));
        eprintln!("{}: {} changes, {seen:?}", target.name, versions.len() - 1);
        assert!(
            seen.versions > versions.len() / 2,
            "{}: few versions met a packet: {seen:?}",
            target.name
        );
    });
}

/// Versions, by their places.
#[derive(Default)]
pub struct Progress {
    /// The last that is in force for certain.
    in_force: AtomicUsize,
    /// The last that may be.
    begun: AtomicUsize,
    /// All changes are made.
    done: AtomicBool,
    /// Bursts that have been looked at.
    bursts: AtomicUsize,
    /// Nobody looks any more.
    unwatched: AtomicBool,
}

impl Progress {
    /// From now on, this version may be in force.
    pub fn begin(&self, version: usize) {
        self.begun.store(version, SeqCst);
    }

    /// This version is in force. Waits until it has met packets.
    pub fn end(&self, version: usize) {
        self.in_force.store(version, SeqCst);
        let enough = self.bursts.load(SeqCst) + 2;
        while self.bursts.load(SeqCst) < enough && !self.unwatched.load(SeqCst) {
            std::thread::yield_now();
        }
    }
}

/// Says so when nobody looks any more, also after a failure.
struct Watching<'p>(&'p Progress);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.unwatched.store(true, SeqCst);
    }
}

/// The session in the target, taken from version to version.
struct Changing<'t> {
    target: &'t Target,
    planner: Planner<'t>,
    ids: Ids,
    plan: Option<SessionPlan>,
    written: HashMap<Key, Placed>,
}

impl<'t> Changing<'t> {
    fn new(target: &'t Target, world: &'t World) -> Self {
        let planner = Planner {
            world,
            burst: qos::BurstPolicy::default(),
        };
        Self {
            target,
            planner,
            ids: Ids::new(65_536, 65_536, 1_000),
            plan: None,
            written: HashMap::new(),
        }
    }

    /// In the planner's order. `begin` is called before anything can take effect, `end` when everything has.
    fn to(&mut self, version: &Version, begin: impl FnOnce(), end: impl FnOnce()) {
        let planned = self
            .planner
            .plan(Arc::new(version.session()), None, self.plan.as_ref(), &mut self.ids);
        let (plan, change) = planned.unwrap_or_else(|e| panic!("no plan: {}", e.name()));
        let flows = flow_packets().into_iter().flat_map(|packet| plan.flows_of(&packet));
        let flows: Vec<_> = flows
            .map(|(flow, _)| Write::Insert(flow))
            .filter(|_| version.flows_first)
            .collect();
        self.write(change.prepare.into_iter().chain(flows));
        begin();
        for write in change.switch {
            // One request each: within a request a target may order updates as it likes.
            self.write([write]);
        }
        end();
        // Packets that met the entries of before are out when a later one is.
        let barrier = frame([0xff; 6], [2, 0, 0, 0, 2, 0], 0, &packet_of(PORTS[0], false, 0).bytes());
        self.target.send(world::p4_port(N6), &barrier);
        let ended = |key: &Key| matches!(key, Key::Flow { epoch, .. } if change.ended_epochs.contains(epoch));
        let stale: Vec<Key> = self.written.keys().copied().filter(ended).collect();
        self.write(change.cleanup.into_iter().chain(stale).map(Write::Delete));
        self.ids.free(change.freed);
        self.plan = Some(plan);
    }

    fn write(&mut self, writes: impl IntoIterator<Item = Write>) {
        let updates = writes
            .into_iter()
            .filter_map(|write| update(self.target, &mut self.written, write))
            .collect();
        self.target.write(updates);
    }

    fn end(self) {
        self.target.delete(self.written.into_values());
    }
}

fn update(target: &Target, written: &mut HashMap<Key, Placed>, write: Write) -> Option<p4runtime::v1::Update> {
    let (kind, entry) = match write {
        // A flow whose epoch stayed is there already.
        Write::Insert(planned) if written.contains_key(&planned.key) => return None,
        Write::Insert(planned) => (Type::Insert, (planned.key, Placed::unlimited(&planned))),
        Write::Modify(planned) => (Type::Modify, (planned.key, Placed::unlimited(&planned))),
        Write::Delete(key) => (Type::Delete, (key, written.remove(&key)?)),
        Write::Meter(..) => return None,
    };
    if kind != Type::Delete {
        written.insert(entry.0, entry.1.clone());
    }
    target.updates(kind, [entry.1]).pop()
}

pub fn flow_packets() -> Vec<FlowPacket> {
    let packets = PORTS.iter().flat_map(|&port| [(port, true), (port, false)]);
    let packet = |(port, uplink)| FlowPacket {
        uplink,
        remote: SERVER.into(),
        ue: UE.into(),
        protocol: 17,
        ports: Some((port, 4_000)),
        tos: 0,
        qfi: uplink.then_some(Qfi(1)),
    };
    packets.map(packet).collect()
}

/// A packet with its number in it.
pub fn packet_of(port: u16, uplink: bool, number: u32) -> UserPacket {
    let packet = if uplink {
        UserPacket::udp(UE, SERVER, 4_000, port)
    } else {
        UserPacket::udp(SERVER, UE, port, 4_000)
    };
    UserPacket {
        payload: number.to_be_bytes().to_vec(),
        ..packet
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    forwarded: usize,
    punted: usize,
    /// Versions that the last packet of a burst was treated by.
    versions: usize,
}

/// Sends packets and looks at what becomes of them, until the changes are done.
fn watch(target: &Target, versions: &[Version], progress: &Progress) -> Seen {
    let _watching = Watching(progress);
    let wires = target.wires();
    let mut seen = Seen::default();
    let mut number = 0;
    // By direction: the version of the last packet.
    let mut last = [0; 2];
    while !progress.done.load(SeqCst) {
        let burst: Vec<(u16, bool, u32)> = (0..BURST)
            .map(|i| (PORTS[usize::from(i / 2) % 3], i % 2 == 0, number + u32::from(i)))
            .collect();
        number += u32::from(BURST);
        let frames: Frames = burst
            .iter()
            .map(|&(port, uplink, n)| arriving(port, uplink, n))
            .collect();
        let oldest = progress.in_force.load(SeqCst);
        let out = lock(&*wires)
            .exchange(&frames)
            .unwrap_or_else(|e| panic!("{}: {e}", target.name));
        let newest = progress.begun.load(SeqCst);
        let before = last;
        for (egress, bytes) in out {
            if egress == HOST {
                let why = PuntHeader::read(&bytes).map(|header| header.reason);
                let missed = why == Ok(PuntReason::FlowMiss);
                assert!(
                    missed,
                    "{}: punted for {why:?} between versions {oldest} and {newest}",
                    target.name
                );
                seen.punted += 1;
                continue;
            }
            let ip = if bytes[12..14] == [0x81, 0] { 18 } else { 14 };
            let n = u32::from_be_bytes(bytes[bytes.len() - 4..].try_into().expect("four bytes"));
            let &(port, uplink, _) = burst.iter().find(|(_, _, m)| *m == n).expect("a packet of this burst");
            let packet = packet_of(port, uplink, n);
            let last = &mut last[usize::from(uplink)];
            let treated = |v: &usize| versions[*v].sends(&packet, port, uplink) == bytes[ip..];
            match (oldest.max(*last)..=newest).find(treated) {
                Some(version) => *last = version,
                None => {
                    let any = (0..versions.len()).find(treated);
                    panic!(
                        "{}: packet {n} to port {port} is treated by no version from {oldest} (last {last}) to {newest}, \
                         but by {any:?}: {:02x?}",
                        target.name,
                        &bytes[ip..]
                    );
                }
            }
            seen.forwarded += 1;
        }
        seen.versions += usize::from(last != before);
        progress.bursts.fetch_add(1, SeqCst);
    }
    seen
}

pub fn arriving(port: u16, uplink: bool, number: u32) -> (u16, Vec<u8>) {
    let packet = packet_of(port, uplink, number).bytes();
    let at = if uplink { N3 } else { N6 };
    let packet = if uplink {
        Tunnel::new(Ipv4Addr::new(10, 3, 0, 2), Ipv4Addr::new(10, 3, 0, 1), 7)
            .qfi(1)
            .around(&packet)
    } else {
        packet
    };
    let to = world::our_mac(at);
    (
        world::p4_port(at),
        frame(to, [2, 0, 0, 0, 2, 0], world::vlan(at), &packet),
    )
}
