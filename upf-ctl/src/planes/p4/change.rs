//! From sessions that changed to what is written, in the phases of [`crate::placement`], and what becomes of failures.
//!
//! All sessions of a request's batch go through a phase together: a handful of Writes, whatever their number.
//!
//! | fails | then |
//! | --- | --- |
//! | a write of the prepare phase | what was prepared for the session is deleted, its entries are switched to the host, and it is tried again later. Its old rules are never left half changed |
//! | a new session entry, for want of room | the session leaves the target altogether, and is tried again later |
//! | anything that should not | the target is not as it should be: it is synchronised at once |
//! | the connection | the plans stand; the synchronisation brings the target to them |

use super::account::Reading;
use super::actor::{Actor, Flow, GRACE, Resident};
use super::target::{Target, TargetError, WriteFailure};
use super::writes::Cleanup;
use crate::placement::ids::Kind;
use crate::placement::plan::Change as Switch;
use crate::placement::{Entry, Freed, HostReason, Key, Planner, SessionPlan, Table, Write};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;
use upf_model::batch::{Change, SessionUsage};
use upf_model::{Session, SessionId};

/// A session on its way from one plan to the next.
struct Move {
    id: SessionId,
    /// None: it leaves the target.
    next: Option<SessionPlan>,
    switch: Switch,
    /// Flows under the new epochs.
    flows: HashMap<Key, (Entry, Flow)>,
    /// Why it did not get what its rules would give it.
    stuck: Option<HostReason>,
    /// It is no more.
    removed: bool,
}

impl Resident {
    /// Its way out of the target.
    fn out(&self, id: SessionId) -> Move {
        Move {
            id,
            next: None,
            switch: self.plan.as_ref().map(SessionPlan::removal).unwrap_or_default(),
            flows: HashMap::new(),
            stuck: None,
            removed: false,
        }
    }
}

impl<T: Target> Actor<T> {
    /// Applies changes of sessions. Returns the final usage of those removed, whatever happens.
    pub async fn apply(&mut self, changes: Vec<Change>) -> (Vec<SessionUsage>, Result<(), TargetError>) {
        let (mut usage, mut outcome) = (Vec::new(), Ok(()));
        let mut rest = changes.into_iter().peekable();
        while rest.peek().is_some() {
            // A session's second change starts from the plan of its first one.
            let (mut seen, mut moves) = (HashSet::new(), Vec::new());
            let mut planned = [0; Table::ALL.len()];
            while let Some(change) = rest.next_if(|change| !seen.contains(&id_of(change))) {
                seen.insert(id_of(&change));
                match change {
                    Change::Put { session, .. } => self.put(Arc::new(session), &mut moves, &mut planned),
                    Change::Remove { id } => moves.extend(self.removal(id)),
                }
            }
            let (ended, result) = self.carry_out(moves).await;
            usage.extend(ended);
            outcome = outcome.and(result);
        }
        (usage, outcome)
    }

    /// Plans these sessions anew, as their rules stand.
    pub async fn replan(&mut self, sessions: &[SessionId]) -> Result<(), TargetError> {
        let mut planned = [0; Table::ALL.len()];
        let moves = sessions
            .iter()
            .filter_map(|id| self.plan_move(*id, &mut planned))
            .collect();
        self.carry_out(moves).await.1
    }

    fn put(&mut self, session: Arc<Session>, moves: &mut Vec<Move>, planned: &mut [u64; Table::ALL.len()]) {
        let id = session.id;
        match self.sessions.get_mut(&id) {
            Some(resident) => resident.session = session,
            None => {
                self.sessions.insert(id, Resident::new(session));
            }
        }
        moves.extend(self.plan_move(id, planned));
    }

    fn removal(&mut self, id: SessionId) -> Option<Move> {
        let out = self.sessions.get(&id)?.out(id);
        Some(Move { removed: true, ..out })
    }

    /// Plans a session: as its rules ask, or at the host, or not at all, whatever there is room for.
    fn plan_move(&mut self, id: SessionId, planned: &mut [u64; Table::ALL.len()]) -> Option<Move> {
        let resident = self.sessions.get(&id)?;
        let (forced, full) = (resident.forced(), Some(HostReason::Full));
        for (forced, stuck) in [(forced, None), (full, full)] {
            if let Some(planned) = self.plan_with(id, forced, stuck, planned) {
                return Some(planned);
            }
        }
        let out = self.sessions.get(&id)?.out(id);
        Some(Move { stuck: full, ..out })
    }

    fn plan_with(
        &mut self,
        id: SessionId,
        forced: Option<HostReason>,
        stuck: Option<HostReason>,
        planned: &mut [u64; Table::ALL.len()],
    ) -> Option<Move> {
        let (ids, sizes) = (self.ids.as_mut()?, self.sizes.as_ref()?);
        let resident = self.sessions.get(&id)?;
        let planner = Planner {
            world: &self.world,
            burst: self.burst,
        };
        let before = resident.plan.as_ref();
        let (next, switch) = planner.plan(resident.session.clone(), forced, before, ids).ok()?;
        let mut wanted = *planned;
        for write in switch.prepare.iter().chain(&switch.switch) {
            if let Write::Insert(entry) = write {
                wanted[entry.key.table() as usize] += 1;
            }
        }
        let fits = |table: &Table| self.used[*table as usize] + wanted[*table as usize] <= sizes.of(*table);
        if !Table::ALL.iter().all(fits) {
            ids.free(switch.taken);
            return None;
        }
        *planned = wanted;
        // Hot flows are resolved under the new rules before packets meet these: make before break.
        let mut flows = HashMap::new();
        let ended = |key: &Key| matches!(key, Key::Flow { epoch, .. } if switch.ended_epochs.contains(epoch));
        for (_, flow) in resident.flows.iter().filter(|(key, _)| ended(key)) {
            for (entry, _) in next.flows_of(&flow.packet) {
                if !resident.flows.contains_key(&entry.key) {
                    let flow = Flow {
                        hits: 0,
                        ..flow.clone()
                    };
                    flows.insert(entry.key, (entry, flow));
                }
            }
        }
        Some(Move {
            id,
            next: Some(next),
            switch,
            flows,
            stuck,
            removed: false,
        })
    }

    /// Takes sessions from their plans to the next ones.
    async fn carry_out(&mut self, mut moves: Vec<Move>) -> (Vec<SessionUsage>, Result<(), TargetError>) {
        if moves.is_empty() {
            return (Vec::new(), Ok(()));
        }
        let mut bases = HashMap::new();
        let mut outcome = self.phases(&mut moves, &mut bases).await;
        if outcome.is_ok() && moves.iter().any(|m| m.removed && self.is_measured(m.id)) {
            // What was on its way to the entries is counted by now.
            tokio::time::sleep(GRACE).await;
        }
        let mut usage = Vec::new();
        for step in moves {
            let (id, removed) = (step.id, step.removed);
            let cleanup = self.settle(step, &bases);
            if removed {
                let (last, result) = self.last_usage(id, cleanup, outcome.is_ok()).await;
                usage.extend(last);
                outcome = outcome.and(result);
            } else {
                self.cleanups.push_back((Instant::now() + GRACE, cleanup));
            }
            self.show_place(id);
        }
        (usage, outcome)
    }

    fn is_measured(&self, id: SessionId) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|r| r.plan.is_some() && !r.session.urrs.is_empty())
    }

    async fn phases(&mut self, moves: &mut [Move], bases: &mut HashMap<u32, Reading>) -> Result<(), TargetError> {
        let taken = moves.iter().flat_map(|m| &m.switch.taken.0);
        let cells: Vec<u32> = taken
            .filter(|(kind, _)| *kind == Kind::Cell)
            .map(|(_, cell)| *cell)
            .collect();
        *bases = self.bases(&cells).await?;

        // Prepare: nothing refers to it.
        let (mut writes, mut owners) = (Vec::new(), Vec::new());
        for (owner, step) in moves.iter().enumerate() {
            for write in &step.switch.prepare {
                writes.push(write.clone());
                owners.push(owner);
            }
        }
        let rules = writes.len();
        for (owner, step) in moves.iter().enumerate() {
            for (entry, _) in step.flows.values() {
                writes.push(Write::Insert(entry.clone()));
                owners.push(owner);
            }
        }
        let mut doubtful = false;
        if !writes.is_empty() {
            let failed = self.write(writes.clone()).await?;
            let mut broken: HashMap<usize, HostReason> = HashMap::new();
            for (place, failure) in &failed {
                if *place >= rules {
                    // A flow less: its packets are punted.
                    if let Some(key) = writes[*place].key() {
                        moves[owners[*place]].flows.remove(key);
                    }
                    continue;
                }
                let reason = match failure {
                    WriteFailure::Full => HostReason::Full,
                    WriteFailure::Unexpected => HostReason::Failed,
                };
                doubtful |= *failure == WriteFailure::Unexpected;
                broken.insert(owners[*place], reason);
            }
            let failed: HashSet<usize> = failed.into_iter().map(|(place, _)| place).collect();
            self.give_up(moves, &broken, &writes, &owners, &failed).await?;
        }

        // Switch: each write takes its packets from the old rules to the new ones.
        let (mut writes, mut owners) = (Vec::new(), Vec::new());
        for (owner, step) in moves.iter().enumerate() {
            for write in &step.switch.switch {
                writes.push(write.clone());
                owners.push(owner);
            }
        }
        if !writes.is_empty() {
            let failed = self.write(writes.clone()).await?;
            let homeless: HashSet<usize> = failed
                .iter()
                .filter(|(place, failure)| *failure == WriteFailure::Full && matches!(writes[*place], Write::Insert(_)))
                .map(|(place, _)| owners[*place])
                .collect();
            doubtful |= failed.iter().any(|(place, _)| !homeless.contains(&owners[*place]));
            let failed: HashSet<usize> = failed.into_iter().map(|(place, _)| place).collect();
            self.evacuate(moves, &homeless, &writes, &owners, &failed).await?;
        }
        if doubtful {
            return Err(TargetError::Lost("a write found the target not as it should be".into()));
        }
        Ok(())
    }

    /// Sessions that could not be prepared: what was prepared goes, and they are switched to the host.
    async fn give_up(
        &mut self,
        moves: &mut [Move],
        broken: &HashMap<usize, HostReason>,
        writes: &[Write],
        owners: &[usize],
        failed: &HashSet<usize>,
    ) -> Result<(), TargetError> {
        if broken.is_empty() {
            return Ok(());
        }
        let done = writes
            .iter()
            .enumerate()
            .filter(|(place, _)| broken.contains_key(&owners[*place]) && !failed.contains(place));
        let undo = done.filter_map(|(_, write)| match write {
            Write::Insert(entry) => Some(entry.key),
            _ => None,
        });
        self.delete(undo.collect::<Vec<Key>>()).await?;
        for (owner, reason) in broken {
            let step = &mut moves[*owner];
            let taken = std::mem::take(&mut step.switch.taken);
            if let Some(ids) = &mut self.ids {
                ids.free(taken);
            }
            let mut planned = [0; Table::ALL.len()];
            let id = step.id;
            let fallback = self.plan_with(id, Some(*reason), Some(*reason), &mut planned);
            let step = &mut moves[*owner];
            match fallback {
                Some(fallback) => *step = fallback,
                None => {
                    let plan = self.sessions.get(&id).and_then(|r| r.plan.as_ref());
                    step.next = None;
                    step.switch = plan.map(SessionPlan::removal).unwrap_or_default();
                }
            }
            step.stuck = Some(*reason);
            step.flows.clear();
        }
        Ok(())
    }

    /// Sessions for an entry of which there was no room: all of theirs go.
    async fn evacuate(
        &mut self,
        moves: &mut [Move],
        homeless: &HashSet<usize>,
        writes: &[Write],
        owners: &[usize],
        failed: &HashSet<usize>,
    ) -> Result<(), TargetError> {
        let mut deletes = Vec::new();
        for owner in homeless {
            let step = &mut moves[*owner];
            let Some(next) = step.next.take() else { continue };
            let new = next.removal();
            // Those of its entries that are there: all that it is to have, but for those that failed.
            let missing: HashSet<Key> = writes
                .iter()
                .enumerate()
                .filter(|(place, _)| owners[*place] == *owner && failed.contains(place))
                .filter_map(|(_, write)| write.key().copied())
                .collect();
            let entries = new.switch.iter().filter_map(|write| write.key().copied());
            deletes.extend(entries.filter(|key| !missing.contains(key)));
            step.switch.cleanup.extend(new.cleanup);
            step.switch.cleanup.extend(step.flows.keys());
            step.switch.freed.0.extend(new.freed.0);
            step.switch.ended_epochs.extend(new.ended_epochs);
            // Its new cells have counted nothing that is not in the old plan's account too.
            let old: HashSet<u32> = step.switch.retired.iter().map(|(_, cell)| cell.cell).collect();
            let kept = self.sessions.get(&step.id).and_then(|r| r.plan.as_ref());
            let held: HashSet<u32> = kept.iter().flat_map(|p| p.cells().map(|(_, c)| c.cell)).collect();
            let fresh = new
                .retired
                .iter()
                .map(|(_, cell)| cell.cell)
                .filter(|c| !old.contains(c) && !held.contains(c));
            step.switch.freed.0.extend(fresh.map(|cell| (Kind::Cell, cell)));
            step.flows.clear();
            step.stuck = Some(HostReason::Full);
        }
        self.delete(deletes).await
    }

    /// The next plan is the session's plan. Returns what is to be cleaned up.
    fn settle(&mut self, step: Move, bases: &HashMap<u32, Reading>) -> Cleanup {
        let Some(resident) = self.sessions.get_mut(&step.id) else {
            return Cleanup::default();
        };
        let base = |cell: u32| bases.get(&cell).copied().unwrap_or_default();
        let retired = resident
            .account
            .follow(resident.plan.as_ref(), step.next.as_ref(), base);
        let mut keys = step.switch.cleanup;
        let live = step.next.as_ref().map(SessionPlan::epochs).unwrap_or_default();
        let ended: Vec<Key> = resident
            .flows
            .keys()
            .filter(|key| matches!(key, Key::Flow { epoch, .. } if !live.contains(epoch)))
            .copied()
            .collect();
        for key in ended {
            resident.flows.remove(&key);
            keys.push(key);
        }
        for (key, (_, flow)) in step.flows {
            self.clock.push_back((step.id, key));
            resident.flows.insert(key, flow);
        }
        resident.plan = step.next;
        resident.stuck = step.stuck;
        resident.account.keep_only(&resident.session);
        Cleanup {
            keys,
            freed: step.switch.freed,
            retired: retired.into_iter().map(|r| (step.id, r)).collect(),
        }
    }

    /// The final usage of a session that is removed.
    async fn last_usage(
        &mut self,
        id: SessionId,
        mut cleanup: Cleanup,
        reachable: bool,
    ) -> (Option<SessionUsage>, Result<(), TargetError>) {
        let measured = self.sessions.get(&id).is_some_and(|r| !r.session.urrs.is_empty());
        let mut outcome = Ok(());
        if reachable && measured {
            outcome = self.read_last(&cleanup.retired).await;
            if outcome.is_ok() {
                let cells = cleanup.retired.drain(..).map(|(_, r)| (Kind::Cell, r.cell()));
                cleanup.freed.0.extend(cells);
            }
        }
        self.cleanups.push_back((Instant::now() + GRACE, cleanup));
        let usage = self.sessions.remove(&id).map(|resident| resident.account.usage(id));
        (usage, outcome)
    }

    /// Everything that waits for its cleanup, at once: for a synchronisation, which deletes what is there too much.
    pub fn abandon_cleanups(&mut self) -> Freed {
        let mut freed = Freed::default();
        for (_, cleanup) in std::mem::take(&mut self.cleanups) {
            freed.0.extend(cleanup.freed.0);
            for (_, retired) in cleanup.retired {
                self.uncertain.insert(retired.cell());
                freed.0.push((Kind::Cell, retired.cell()));
            }
        }
        freed
    }
}

const fn id_of(change: &Change) -> SessionId {
    match change {
        Change::Put { session, .. } => session.id,
        Change::Remove { id } => *id,
    }
}
