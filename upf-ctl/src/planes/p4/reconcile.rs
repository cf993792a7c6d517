//! Synchronisation: the target is read, compared with what it should have, and written the difference.
//!
//! What it should have are the plans that are known, or new ones where there are none. The order is such that no packet
//! meets a mixture, whatever the target had:
//!
//! 1. session entries that should not be there go, and those behind which a rule or FAR is to have another meaning under
//!    its number: their packets are punted;
//! 2. after the packets on their way, what is missing is written: rules and FARs, flows, and at last the session entries,
//!    of which those that have other numbers now are switched by a MODIFY each, as in any change;
//! 3. after the packets on their way, what is left of before goes.
//!
//! A target that kept its state loses nothing by this, and goes on without a gap; where there is no difference, nothing
//! is written. Numbers that a stranger's entries use (those of an earlier start of the controller, for one) are not given
//! out, so that this holds for a controller that starts again as well.

use super::account::Reading;
use super::actor::{Actor, Flow, GRACE, in_time};
use super::lock;
use super::target::{Target, TargetError, WriteFailure};
use crate::placement::ids::Kind;
use crate::placement::{Action, Entry, Freed, HostReason, Key, Planner, SessionPlan, Table, Write};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;
use upf_model::SessionId;

/// The longest that reading one table may take.
const READ_TIME: Duration = Duration::from_secs(30);

const fn is_session_entry(key: &Key) -> bool {
    matches!(
        key.table(),
        Table::UplinkSessions | Table::DownlinkSessionsV4 | Table::DownlinkSessionsV6
    )
}

/// Tables whose entries others refer to come first, and where packets enter comes last.
const fn rank(key: &Key) -> u8 {
    match key.table() {
        Table::NextHops | Table::Reasons | Table::HostPorts => 0,
        Table::Fars | Table::RoutesV4 | Table::RoutesV6 => 1,
        Table::Rules => 2,
        Table::Flows => 3,
        Table::UplinkSessions | Table::DownlinkSessionsV4 | Table::DownlinkSessionsV6 => 4,
        Table::EndpointsV4 | Table::EndpointsV6 => 5,
        Table::MyStation => 6,
    }
}

/// Entries that must go before anything else is written.
fn first_to_go(found: &HashMap<Key, Action>, desired: &HashMap<Key, Action>) -> HashSet<Key> {
    // Numbers that are to mean something else.
    let changes = |key: &Key| match (found.get(key), desired.get(key)) {
        (Some(there), Some(wanted)) => there != wanted,
        _ => false,
    };
    let rule_changes = |rule: u32| {
        changes(&Key::Rule(rule))
            || match found.get(&Key::Rule(rule)) {
                Some(Action::Forward(forward)) => changes(&Key::Far(forward.far)),
                _ => false,
            }
    };
    let flows = found.iter().filter_map(|(key, action)| match (key, action) {
        (Key::Flow { session, epoch, .. }, Action::Flow { rule }) => Some((key, (*session, *epoch), *rule)),
        _ => None,
    });
    let unsafe_epochs: HashSet<(u32, u32)> = flows
        .filter(|(key, _, rule)| rule_changes(*rule) || changes(key))
        .map(|(_, of, _)| of)
        .collect();
    let goes = |key: &Key, action: &Action| match key.table() {
        Table::UplinkSessions | Table::DownlinkSessionsV4 | Table::DownlinkSessionsV6 => {
            !desired.contains_key(key)
                || match action {
                    Action::Direct { rule, .. } => rule_changes(*rule),
                    Action::ByFlow { session, epoch, .. } => unsafe_epochs.contains(&(*session, *epoch)),
                    _ => false,
                }
        }
        Table::Flows => changes(key),
        Table::HostPorts | Table::MyStation | Table::EndpointsV4 | Table::EndpointsV6 | Table::Reasons => {
            !desired.contains_key(key)
        }
        Table::Rules | Table::Fars | Table::RoutesV4 | Table::RoutesV6 | Table::NextHops => false,
    };
    let gone = found.iter().filter(|(key, action)| goes(key, action));
    gone.map(|(key, _)| *key).collect()
}

impl<T: Target> Actor<T> {
    /// Brings the target in step. `fresh`: its program was set just now. `first`: by this task for the first time.
    pub async fn synchronise(&mut self, fresh: bool, first: bool) -> Result<(), TargetError> {
        let mut freed = std::mem::take(&mut self.unfreed);
        freed.0.extend(self.abandon_cleanups().0);
        let outcome = self.bring_in_step(fresh, first, &mut freed).await;
        match (&outcome, &mut self.ids) {
            (Ok(()), Some(ids)) => ids.free(freed),
            // The target may have them still.
            _ => self.unfreed = freed,
        }
        outcome
    }

    async fn bring_in_step(&mut self, fresh: bool, first: bool, freed: &mut Freed) -> Result<(), TargetError> {
        let start = Instant::now();
        for orphan in std::mem::take(&mut self.orphans) {
            self.free_all_of(&orphan, freed);
        }
        if fresh {
            self.virgin = true;
            self.spent.clear();
            self.uncertain.clear();
            self.sessions.values_mut().for_each(|r| r.account.restart());
        }
        let found = if fresh { HashMap::new() } else { self.found().await? };
        if first {
            self.shun(&found);
        }
        self.plan_all(freed).await?;
        let (desired, mut meters) = self.desired();
        if fresh || first {
            meters.extend(self.sizes.iter().flat_map(|sizes| self.world.meters(sizes)));
        }
        self.used = [0; Table::ALL.len()];
        for key in found.keys() {
            self.used[key.table() as usize] += 1;
        }

        // What must not be met while numbers change their meaning, or at all, is punted first.
        let gone = first_to_go(&found, &desired);
        let mut differences = gone.len();
        if !gone.is_empty() {
            self.delete(gone.iter().copied()).await?;
            tokio::time::sleep(GRACE).await;
        }
        self.write(meters).await?;

        let mut missing: BTreeMap<u8, Vec<Write>> = BTreeMap::new();
        for (key, action) in &desired {
            let entry = Entry::new(*key, action.clone());
            let write = match found.get(key).filter(|_| !gone.contains(key)) {
                Some(there) if there == action => continue,
                Some(_) => Write::Modify(entry),
                None => Write::Insert(entry),
            };
            missing.entry(rank(key)).or_default().push(write);
        }
        let mut there: HashSet<Key> = found
            .keys()
            .filter(|k| !gone.contains(k) && desired.contains_key(k))
            .copied()
            .collect();
        let mut homeless: HashSet<Key> = HashSet::new();
        for (_, writes) in missing {
            differences += writes.len();
            // A session some of whose entries found no room does not get the others.
            let without = self.sessions_without(&homeless);
            let writes: Vec<Write> = writes
                .into_iter()
                .filter(|w| w.key().is_none_or(|k| !without.contains(k)))
                .collect();
            let failed = self.write(writes.clone()).await?;
            there.extend(writes.iter().filter_map(|w| w.key().copied()));
            for (place, failure) in failed {
                match (failure, writes[place].key()) {
                    (WriteFailure::Full, Some(key)) if !found.contains_key(key) || gone.contains(key) => {
                        there.remove(key);
                        homeless.insert(*key);
                    }
                    _ => return Err(TargetError::Refused(format!("{:?}", writes[place]))),
                }
            }
        }
        self.evacuate_all(&homeless, &there, freed).await?;

        // No packet finds what is left of before any more, or will soon.
        let stale = found
            .keys()
            .filter(|key| !gone.contains(key) && !desired.contains_key(key));
        let mut stale: Vec<Key> = stale.copied().collect();
        stale.sort_by_key(|key| std::cmp::Reverse(rank(key)));
        differences += stale.len();
        if !stale.is_empty() {
            tokio::time::sleep(GRACE).await;
            self.delete(stale).await?;
        }
        self.infrastructure = self.world.entries().into_iter().map(|e| (e.key, e.action)).collect();
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.iter().for_each(|id| self.show_place(*id));
        let mut figures = lock(&self.shared.figures);
        figures.synchronisations += 1;
        figures.differences += differences as u64;
        let (sessions, took) = (self.sessions.len(), start.elapsed());
        tracing::info!(fresh, sessions, differences, ?took, "the P4 target is synchronised");
        Ok(())
    }

    async fn found(&mut self) -> Result<HashMap<Key, Action>, TargetError> {
        let mut found = HashMap::new();
        for table in Table::ALL {
            let entries = in_time(READ_TIME, self.target.read(table)).await?;
            found.extend(entries.into_iter().map(|entry| (entry.key, entry.action)));
        }
        Ok(found)
    }

    /// Leaves alone what an earlier controller's entries use.
    fn shun(&mut self, found: &HashMap<Key, Action>) {
        let Some(ids) = &mut self.ids else { return };
        for (key, action) in found {
            match key {
                Key::Rule(id) => ids.shun(Kind::Rule, *id),
                Key::Far(id) => ids.shun(Kind::Far, *id),
                _ => {}
            }
            match action {
                Action::Forward(forward) => {
                    ids.shun(Kind::Cell, forward.cell);
                    ids.shun(Kind::Meter, forward.flow_meter);
                    ids.shun(Kind::Meter, forward.session_meter);
                }
                Action::GateClosed { cell } => ids.shun(Kind::Cell, *cell),
                _ => {}
            }
        }
    }

    fn free_all_of(&mut self, plan: &SessionPlan, freed: &mut Freed) {
        let removal = plan.removal();
        freed.0.extend(removal.freed.0);
        for (_, cell) in removal.retired {
            self.uncertain.insert(cell.cell);
            freed.0.push((Kind::Cell, cell.cell));
        }
    }

    /// Every session gets the plan that its rules ask for, as far as there is room.
    async fn plan_all(&mut self, freed: &mut Freed) -> Result<(), TargetError> {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        let mut wanted = [0; Table::ALL.len()];
        for entry in self.world.entries() {
            wanted[entry.key.table() as usize] += 1;
        }
        let (mut fresh_cells, mut followers) = (Vec::new(), Vec::new());
        for id in sessions {
            let (Some(ids), Some(sizes)) = (&mut self.ids, &self.sizes) else {
                break;
            };
            let Some(resident) = self.sessions.get_mut(&id) else {
                continue;
            };
            let planner = Planner {
                world: &self.world,
                burst: self.burst,
            };
            let before = resident.plan.take();
            let mut planned = None;
            for forced in [resident.forced(), Some(HostReason::Full)] {
                let Ok((plan, change)) = planner.plan(resident.session.clone(), forced, before.as_ref(), ids) else {
                    continue;
                };
                let mut with = wanted;
                for entry in plan.entries() {
                    with[entry.key.table() as usize] += 1;
                }
                if Table::ALL.iter().all(|t| with[*t as usize] <= sizes.of(*t)) {
                    wanted = with;
                    planned = Some((plan, change, forced));
                    break;
                }
                ids.free(change.taken);
            }
            resident.stuck = None;
            match planned {
                Some((plan, change, forced)) => {
                    freed.0.extend(change.freed.0);
                    let taken = change.taken.0.iter().filter(|(kind, _)| *kind == Kind::Cell);
                    fresh_cells.extend(taken.map(|(_, cell)| *cell));
                    resident.stuck = forced.filter(|reason| *reason == HostReason::Full);
                    resident.plan = Some(plan);
                    followers.push((id, before));
                }
                None => {
                    resident.stuck = Some(HostReason::Full);
                    if let Some(before) = before {
                        resident.account.follow(Some(&before), None, |_| Reading::default());
                        self.free_all_of(&before, freed);
                    }
                }
            }
        }
        let bases = self.bases(&fresh_cells).await?;
        for (id, before) in followers {
            let Some(resident) = self.sessions.get_mut(&id) else {
                continue;
            };
            let base = |cell: u32| bases.get(&cell).copied().unwrap_or_default();
            for retired in resident.account.follow(before.as_ref(), resident.plan.as_ref(), base) {
                self.uncertain.insert(retired.cell());
                freed.0.push((Kind::Cell, retired.cell()));
            }
            resident.account.keep_only(&resident.session);
        }
        Ok(())
    }

    /// All entries that the target is to have, and rates of sessions' meters. Flows are resolved again.
    fn desired(&mut self) -> (HashMap<Key, Action>, Vec<Write>) {
        let mut desired: HashMap<Key, Action> = self.world.entries().into_iter().map(|e| (e.key, e.action)).collect();
        let mut meters = Vec::new();
        self.clock.clear();
        for (id, resident) in &mut self.sessions {
            let known = std::mem::take(&mut resident.flows);
            let Some(plan) = &resident.plan else { continue };
            desired.extend(plan.entries().into_iter().map(|e| (e.key, e.action)));
            meters.extend(plan.meters());
            for flow in known.into_values() {
                for (entry, _) in plan.flows_of(&flow.packet) {
                    self.clock.push_back((*id, entry.key));
                    desired.insert(entry.key, entry.action);
                    resident.flows.insert(
                        entry.key,
                        Flow {
                            hits: 0,
                            ..flow.clone()
                        },
                    );
                }
            }
        }
        (desired, meters)
    }

    /// Session entries of sessions that miss any of these keys.
    fn sessions_without(&self, missing: &HashSet<Key>) -> HashSet<Key> {
        if missing.is_empty() {
            return HashSet::new();
        }
        let plans = self
            .sessions
            .values()
            .filter_map(|r| r.plan.as_ref())
            .map(SessionPlan::entries);
        let affected = plans.filter(|entries| entries.iter().any(|e| missing.contains(&e.key)));
        let entries = affected.flatten().map(|e| e.key);
        entries.filter(is_session_entry).collect()
    }

    /// Sessions some of whose entries found no room leave the target; flows that found none are forgotten.
    async fn evacuate_all(
        &mut self,
        homeless: &HashSet<Key>,
        there: &HashSet<Key>,
        freed: &mut Freed,
    ) -> Result<(), TargetError> {
        if homeless.is_empty() {
            return Ok(());
        }
        if let Some(key) = homeless
            .iter()
            .find(|key| !is_session_entry(key) && rank(key) != 2 && rank(key) != 3 && !matches!(key, Key::Far(_)))
        {
            return Err(TargetError::Refused(format!(
                "{key:?}: no room for what every session needs"
            )));
        }
        let (mut deletes, mut evacuated) = (Vec::new(), Vec::new());
        for (id, resident) in &mut self.sessions {
            resident.flows.retain(|key, _| !homeless.contains(key));
            let entries = resident.plan.as_ref().map(SessionPlan::entries).unwrap_or_default();
            if entries.iter().any(|e| homeless.contains(&e.key)) {
                let flows = resident.flows.drain().map(|(key, _)| key);
                let keys = entries.iter().map(|e| e.key).chain(flows);
                deletes.extend(keys.filter(|key| there.contains(key)));
                evacuated.push(*id);
            }
        }
        deletes.sort_by_key(|key| std::cmp::Reverse(rank(key)));
        let (entries, others): (Vec<Key>, Vec<Key>) = deletes.into_iter().partition(is_session_entry);
        self.delete(entries).await?;
        tokio::time::sleep(GRACE).await;
        self.delete(others).await?;
        for id in evacuated {
            let plan = self.sessions.get_mut(&id).and_then(|resident| {
                resident.stuck = Some(HostReason::Full);
                let plan = resident.plan.take();
                resident.account.follow(plan.as_ref(), None, |_| Reading::default());
                plan
            });
            if let Some(plan) = plan {
                self.free_all_of(&plan, freed);
            }
        }
        Ok(())
    }

    /// Neighbours came to be known: next hops first, then the routes that name them.
    pub async fn follow_neighbours(&mut self) -> Result<(), TargetError> {
        let mut now: BTreeMap<Key, Action> = self.world.entries().into_iter().map(|e| (e.key, e.action)).collect();
        let mut writes = Vec::new();
        for (key, action) in &now {
            let entry = Entry::new(*key, action.clone());
            match self.infrastructure.get(key) {
                Some(there) if there == action => {}
                Some(_) => writes.push(Write::Modify(entry)),
                None => writes.push(Write::Insert(entry)),
            }
        }
        for same_rank in by_rank(writes).into_values() {
            let failed = self.write(same_rank.clone()).await?;
            for (place, failure) in failed {
                let Some(key) = same_rank[place].key() else { continue };
                if failure == WriteFailure::Unexpected {
                    return Err(TargetError::Lost(format!("{key:?} is not as it was written")));
                }
                // No room for a neighbour: packets to it are punted.
                now.remove(key);
            }
        }
        self.infrastructure = now;
        Ok(())
    }
}

fn by_rank(writes: Vec<Write>) -> BTreeMap<u8, Vec<Write>> {
    let mut ranks: BTreeMap<u8, Vec<Write>> = BTreeMap::new();
    for write in writes {
        ranks.entry(write.key().map_or(0, rank)).or_default().push(write);
    }
    ranks
}
