//! Owns plans: the entries of one session with their numbers. The change that leads from one to the next is in `plan/change.rs`.

mod change;

pub use change::Change;

use super::entry::{Action, Entry, Key, MeterCell, Rates, Write};
use super::ids::{Freed, Ids, Kind};
use super::lookup::{Lookup, Mode, flow_of, lookups};
use super::rules::{self, FarRef, Meters, RuleDraft};
use super::world::World;
use super::{FAR_ON_HOST, HostReason};
use qos::BurstPolicy;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use upf_model::batch::FlowPacket;
use upf_model::{FarId, Pdr, PdrId, QerId, Session, UrrId};

/// Makes plans.
#[derive(Debug, Clone, Copy)]
pub struct Planner<'w> {
    /// Where sessions live.
    pub world: &'w World,
    /// Depth of token buckets, as upf-host has it.
    pub burst: BurstPolicy,
}

/// A PDR's cell of the counters. It stays the PDR's for as long as the same QERs and URRs look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its number.
    pub cell: u32,
    /// Bytes around the user's packet in most frames.
    pub usual_overhead: u8,
    /// Its PDR's direction.
    pub uplink: bool,
    /// Who counts by it.
    pub urrs: Vec<UrrId>,
    /// Who counts by it.
    pub qers: Vec<QerId>,
}

/// A session entry with its epoch.
#[derive(Debug, Clone)]
struct Placed {
    lookup: Lookup,
    epoch: u32,
}

/// A rule with its number.
#[derive(Debug, Clone)]
struct Rule {
    id: u32,
    draft: RuleDraft,
    action: Action,
}

/// A meter of one direction of a QER.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Meter {
    index: u32,
    cell: MeterCell,
    rates: Rates,
}

/// The entries of one session.
#[derive(Debug, Clone)]
pub struct SessionPlan {
    session: Arc<Session>,
    entries: Vec<Placed>,
    rules: BTreeMap<PdrId, Rule>,
    fars: BTreeMap<FarId, (u32, Action)>,
    /// By QER and whether uplink.
    meters: BTreeMap<(QerId, bool), Meter>,
    cells: BTreeMap<PdrId, Cell>,
}

/// Where a session lives, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Every entry is direct.
    Direct,
    /// Some entry is by flow, none on the host.
    ByFlow,
    /// Some entries are on the host.
    Mixed(HostReason),
    /// All are.
    OnHost(HostReason),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::ByFlow => f.write_str("by flow"),
            Self::Mixed(reason) => write!(f, "host in part ({})", reason.name()),
            Self::OnHost(reason) => write!(f, "host ({})", reason.name()),
        }
    }
}

/// Takes numbers, and remembers them in case there are not enough.
struct Taking<'i> {
    ids: &'i mut Ids,
    taken: Freed,
}

impl Taking<'_> {
    fn take(&mut self, kind: Kind) -> Result<u32, HostReason> {
        let id = self.ids.take(kind)?;
        self.taken.0.push((kind, id));
        Ok(id)
    }
}

impl Planner<'_> {
    /// The plan of a session as it is to be, and what leads there from the plan before, if there was one. `forced`: the
    /// host has it, whatever its rules are.
    ///
    /// # Errors
    /// The numbers are used up. Nothing is taken then.
    pub fn plan(
        &self,
        session: Arc<Session>,
        forced: Option<HostReason>,
        before: Option<&SessionPlan>,
        ids: &mut Ids,
    ) -> Result<(SessionPlan, Change), HostReason> {
        let mut taking = Taking {
            ids,
            taken: Freed::default(),
        };
        match self.next(session, forced, before, &mut taking) {
            Ok(next) => {
                let mut change = next.since(before);
                change.taken = taking.taken;
                Ok((next, change))
            }
            Err(reason) => {
                let Taking { ids, taken } = taking;
                ids.free(taken);
                Err(reason)
            }
        }
    }

    fn next(
        &self,
        session: Arc<Session>,
        forced: Option<HostReason>,
        before: Option<&SessionPlan>,
        taking: &mut Taking<'_>,
    ) -> Result<SessionPlan, HostReason> {
        let mut lookups = lookups(self.world, &session);
        if let Some(reason) = forced {
            for lookup in &mut lookups {
                lookup.mode = Mode::OnHost(reason);
                lookup.candidates.clear();
            }
        }
        let placed: BTreeSet<u16> = lookups.iter().flat_map(|l| l.candidates.iter().copied()).collect();
        let pdrs: Vec<&Pdr> = placed.iter().map(|i| &session.pdrs[usize::from(*i)]).collect();
        let cells = cells(&session, &lookups, &placed, before, taking)?;

        let of_direction = |uplink| {
            Meters::of(
                &session,
                pdrs.iter().copied().filter(move |p| rules::is_uplink(p) == uplink),
            )
        };
        let (up, down) = (of_direction(true), of_direction(false));
        let colors = |uplink| if uplink { &up } else { &down };
        let drafts: BTreeMap<PdrId, RuleDraft> = pdrs
            .iter()
            .map(|pdr| (pdr.id, rules::draft(&session, pdr, colors(rules::is_uplink(pdr)))))
            .collect();
        let mut meters = BTreeMap::new();
        for pdr in &pdrs {
            let RuleDraft::Forward {
                flow,
                session: of_session,
                ..
            } = drafts[&pdr.id]
            else {
                continue;
            };
            let uplink = rules::is_uplink(pdr);
            for id in [flow, of_session].into_iter().flatten() {
                let qer = session.qer(id);
                let rates = qer.and_then(|qer| rules::rates(qer, uplink, &self.burst));
                let Some(rates) = rates.filter(|_| !meters.contains_key(&(id, uplink))) else {
                    continue;
                };
                let index = match before.and_then(|b| b.meters.get(&(id, uplink))) {
                    Some(meter) => meter.index,
                    None => taking.take(Kind::Meter)?,
                };
                let cell = if colors(uplink).is_of_session(id) {
                    MeterCell::Session(index)
                } else {
                    MeterCell::Flow(index)
                };
                meters.insert((id, uplink), Meter { index, cell, rates });
            }
        }
        let far_actions: BTreeMap<FarId, Action> = drafts
            .values()
            .filter_map(|draft| match draft {
                RuleDraft::Forward {
                    far: FarRef::Of(id), ..
                } => Some(*id),
                _ => None,
            })
            .filter_map(|id| Some((id, rules::far_action(self.world, session.far(id)?))))
            .collect();

        let same_matching = before.is_some_and(|b| b.matches_as(&session, &lookups));
        // As it is but for the FAR's number.
        let shape = |pdr: PdrId, draft: &RuleDraft, far: &dyn Fn(FarRef) -> u32| {
            let uplink = cells.get(&pdr).is_some_and(|c| c.uplink);
            let cell = cells.get(&pdr).map_or((0, 0), |c| (c.cell, c.usual_overhead));
            let meter = |qer| meters.get(&(qer, uplink)).map_or(0, |m: &Meter| m.index);
            draft.numbered(cell.0, cell.1, far, meter)
        };
        let same_far =
            |id: &FarId, action: &Action| before.and_then(|b| b.fars.get(id)).is_none_or(|(_, a)| a == action);
        let same_rule = |pdr: &PdrId, draft: &RuleDraft| {
            before.and_then(|b| b.rules.get(pdr)).is_none_or(|rule| {
                let blank = |action: &Action| match action.clone() {
                    Action::Forward(forward) => Action::Forward(super::entry::Forward { far: 0, ..forward }),
                    other => other,
                };
                rule.draft == *draft && blank(&rule.action) == blank(&shape(*pdr, draft, &|_| 0))
            })
        };
        let changed = far_actions.iter().filter(|(id, action)| !same_far(id, action)).count()
            + drafts.iter().filter(|(pdr, draft)| !same_rule(pdr, draft)).count();
        let in_place = same_matching && changed <= 1;

        let mut fars = BTreeMap::new();
        for (id, action) in far_actions {
            let kept = before
                .and_then(|b| b.fars.get(&id))
                .filter(|(_, a)| in_place || *a == action);
            let number = match kept {
                Some((number, _)) => *number,
                None => taking.take(Kind::Far)?,
            };
            fars.insert(id, (number, action));
        }
        let far_number = |far: FarRef| match far {
            FarRef::Host => FAR_ON_HOST,
            FarRef::Of(id) => fars.get(&id).map_or(FAR_ON_HOST, |(number, _): &(u32, Action)| *number),
        };
        let mut numbered = BTreeMap::new();
        for (pdr, draft) in drafts {
            let action = shape(pdr, &draft, &far_number);
            let kept = before
                .and_then(|b| b.rules.get(&pdr))
                .filter(|r| in_place || r.action == action);
            let id = match kept {
                Some(rule) => rule.id,
                None => taking.take(Kind::Rule)?,
            };
            numbered.insert(pdr, Rule { id, draft, action });
        }
        let mut plan = SessionPlan {
            session,
            entries: Vec::new(),
            rules: numbered,
            fars,
            meters,
            cells,
        };
        plan.enter(lookups, before, taking.ids);
        Ok(plan)
    }
}

/// Every PDR that is placed gets a cell; one that has a cell keeps it while it is there.
fn cells(
    session: &Session,
    lookups: &[Lookup],
    placed: &BTreeSet<u16>,
    before: Option<&SessionPlan>,
    taking: &mut Taking<'_>,
) -> Result<BTreeMap<PdrId, Cell>, HostReason> {
    let mut cells = BTreeMap::new();
    for (place, pdr) in session.pdrs.iter().enumerate() {
        let place = place as u16;
        let uplink = rules::is_uplink(pdr);
        let kept = before
            .and_then(|b| b.cells.get(&pdr.id))
            .filter(|c| (c.uplink, &c.urrs, &c.qers) == (uplink, &pdr.urrs, &pdr.qers));
        if let Some(cell) = kept {
            cells.insert(pdr.id, cell.clone());
        } else if placed.contains(&place) {
            let lookup = lookups.iter().find(|l| l.candidates.contains(&place));
            let (tagged, over_ipv6) = lookup.map_or((false, false), |l| (l.tagged, l.over_ipv6));
            let ethernet = if tagged { 18 } else { 14 };
            // IP, UDP, GTP-U, and a PDU Session Container with the octets that announce it.
            let tunnel = if over_ipv6 { 40 } else { 20 } + 8 + 8 + 8;
            let cell = Cell {
                cell: taking.take(Kind::Cell)?,
                usual_overhead: if uplink { ethernet + tunnel } else { ethernet },
                uplink,
                urrs: pdr.urrs.clone(),
                qers: pdr.qers.clone(),
            };
            cells.insert(pdr.id, cell);
        }
    }
    Ok(cells)
}

impl SessionPlan {
    /// The session as it was planned.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Cells of its PDRs.
    pub fn cells(&self) -> impl Iterator<Item = (PdrId, &Cell)> {
        self.cells.iter().map(|(pdr, cell)| (*pdr, cell))
    }

    /// What a PDR's rule does to packets that it does not forward.
    pub fn gate_is_closed(&self, pdr: PdrId) -> bool {
        self.rules
            .get(&pdr)
            .is_some_and(|rule| rule.draft == RuleDraft::GateClosed)
    }

    /// QERs that may have dropped what a PDR's rule dropped over a rate.
    pub fn policing(&self, pdr: PdrId) -> Vec<QerId> {
        match self.rules.get(&pdr).map(|rule| rule.draft) {
            Some(RuleDraft::Forward { flow, session, .. }) => flow.into_iter().chain(session).collect(),
            _ => Vec::new(),
        }
    }

    /// Where it lives.
    pub fn place(&self) -> Place {
        let reason = self.entries.iter().find_map(|e| match e.lookup.mode {
            Mode::OnHost(reason) => Some(reason),
            _ => None,
        });
        let is_on_host = |e: &Placed| matches!(e.lookup.mode, Mode::OnHost(_));
        match reason {
            None if self.entries.is_empty() => Place::OnHost(HostReason::NoRule),
            None if self.entries.iter().all(|e| matches!(e.lookup.mode, Mode::Direct(_))) => Place::Direct,
            None => Place::ByFlow,
            Some(reason) if self.entries.iter().all(is_on_host) => Place::OnHost(reason),
            Some(reason) => Place::Mixed(reason),
        }
    }

    /// Modes of its entries, for people.
    pub fn modes(&self) -> impl Iterator<Item = (Key, Mode)> + '_ {
        self.entries.iter().map(|e| (e.lookup.key, e.lookup.mode))
    }

    /// Whether packets are told apart as in these lookups: the same ones win.
    fn matches_as(&self, session: &Session, lookups: &[Lookup]) -> bool {
        self.entries.len() == lookups.len() && lookups.iter().all(|l| self.entry_as(session, l).is_some())
    }

    /// The entry of that key, if it tells packets apart in the same way.
    fn entry_as(&self, session: &Session, lookup: &Lookup) -> Option<&Placed> {
        let placed = self.entries.iter().find(|e| e.lookup.key == lookup.key)?;
        let same_mode = match (placed.lookup.mode, lookup.mode) {
            (Mode::OnHost(_), Mode::OnHost(_)) => return Some(placed),
            (before, now) => before == now,
        };
        let before = placed
            .lookup
            .candidates
            .iter()
            .map(|i| &self.session.pdrs[usize::from(*i)]);
        let now = lookup.candidates.iter().map(|i| &session.pdrs[usize::from(*i)]);
        let same_rules = before.len() == now.len() && before.zip(now).all(|(a, b)| a.id == b.id && a.pdi == b.pdi);
        (same_mode && same_rules && placed.lookup.sources == lookup.sources).then_some(placed)
    }

    /// Gives every lookup its epoch: the one it had if nothing behind it has another number.
    fn enter(&mut self, lookups: Vec<Lookup>, before: Option<&SessionPlan>, ids: &mut Ids) {
        let mut fresh: Vec<Placed> = Vec::new();
        for lookup in lookups {
            let kept = before.and_then(|b| {
                let placed = b.entry_as(&self.session, &lookup)?;
                let same = lookup.candidates.iter().all(|i| {
                    let pdr = self.session.pdrs[usize::from(*i)].id;
                    self.rules.get(&pdr).map(|r| r.id) == b.rules.get(&pdr).map(|r| r.id)
                });
                same.then_some(placed.epoch)
            });
            let epoch = kept.unwrap_or_else(|| {
                // Entries with the same rules, of two families for one, have their flows together.
                let alike = |p: &&Placed| (p.lookup.mode, &p.lookup.candidates) == (lookup.mode, &lookup.candidates);
                fresh.iter().find(alike).map_or_else(|| ids.epoch(), |p| p.epoch)
            });
            let placed = Placed { lookup, epoch };
            if kept.is_none() {
                fresh.push(placed.clone());
            }
            self.entries.push(placed);
        }
    }

    fn action_of(&self, placed: &Placed) -> Action {
        let (session, epoch, sources) = (self.session.id.0, placed.epoch, placed.lookup.sources);
        match placed.lookup.mode {
            Mode::OnHost(_) => Action::OnHost { session, epoch },
            Mode::Direct(pdr) => Action::Direct {
                session,
                epoch,
                sources,
                rule: self.rules.get(&pdr).map_or(0, |rule| rule.id),
            },
            Mode::ByFlow(mask) => Action::ByFlow {
                session,
                epoch,
                sources,
                mask,
            },
        }
    }

    /// Its session entries, uplink first.
    fn session_entries(&self) -> BTreeMap<Key, Action> {
        self.entries.iter().map(|e| (e.lookup.key, self.action_of(e))).collect()
    }

    /// All that the target is to have of it, but for flows.
    pub fn entries(&self) -> Vec<Entry> {
        let fars = self
            .fars
            .values()
            .map(|(id, action)| Entry::new(Key::Far(*id), action.clone()));
        let rules = self
            .rules
            .values()
            .map(|rule| Entry::new(Key::Rule(rule.id), rule.action.clone()));
        let entries = self
            .session_entries()
            .into_iter()
            .map(|(key, action)| Entry::new(key, action));
        fars.chain(rules).chain(entries).collect()
    }

    /// Rates of its meters.
    pub fn meters(&self) -> impl Iterator<Item = Write> + '_ {
        self.meters.values().map(|meter| Write::Meter(meter.cell, meter.rates))
    }

    /// Epochs under which it may have flows.
    pub fn epochs(&self) -> BTreeSet<u32> {
        let by_flow = self.entries.iter().filter(|e| matches!(e.lookup.mode, Mode::ByFlow(_)));
        by_flow.map(|e| e.epoch).collect()
    }

    /// The flow entries of a packet like this: one, unless several entries can be met by it; none where packets like it
    /// are not looked up in `flows`, match nothing, or cannot be told apart there.
    pub fn flows_of(&self, packet: &FlowPacket) -> Vec<(Entry, PdrId)> {
        let mut flows: Vec<(Entry, PdrId)> = Vec::new();
        for placed in &self.entries {
            let Mode::ByFlow(mask) = placed.lookup.mode else {
                continue;
            };
            let found = placed
                .lookup
                .classify(&self.session, packet)
                .and_then(|pdr| Some((pdr, self.rules.get(&pdr)?.id, flow_of(packet, &mask)?)));
            if let Some((pdr, rule, flow)) = found {
                let key = Key::Flow {
                    session: self.session.id.0,
                    epoch: placed.epoch,
                    flow,
                };
                if flows.iter().all(|(entry, _)| entry.key != key) {
                    flows.push((Entry::new(key, Action::Flow { rule }), pdr));
                }
            }
        }
        flows
    }
}
