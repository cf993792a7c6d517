//! Owns reading the target's counters: of sessions when they are polled, of cells that are given out or up, and of
//! packets that left the fast path.

use super::account::{self, Reading, Retired};
use super::actor::{Actor, CALL_TIME, in_time, now_ns};
use super::lock;
use super::target::{Target, TargetError};
use crate::placement::Table;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use upf_model::SessionId;
use upf_model::batch::{Count, HostCounters, SessionUsage};
use upf_model::punt::PuntReason;

/// A usage poll reads counters for this long; sessions go by turns.
const MEASURE_TIME: Duration = Duration::from_millis(250);
/// Sessions whose counters are read at once: a request waits for that long at most.
const MEASURED_AT_ONCE: usize = 64;

/// A usage poll under way.
pub(super) struct Measuring {
    /// Those asked about.
    sessions: Vec<SessionId>,
    /// Those not yet read, in order.
    left: VecDeque<SessionId>,
    start: Instant,
    reply: oneshot::Sender<Vec<SessionUsage>>,
}

impl<T: Target> Actor<T> {
    /// Takes the last readings of cells that were given up.
    pub async fn read_last(&mut self, retired: &[(SessionId, Retired)]) -> Result<(), TargetError> {
        if retired.is_empty() {
            return Ok(());
        }
        let cells: Vec<u32> = retired.iter().map(|(_, r)| r.cell()).collect();
        let before: Vec<Reading> = retired.iter().map(|(_, r)| r.last()).collect();
        let readings = in_time(CALL_TIME, account::read(&mut self.target, &cells, &before)).await?;
        let now = now_ns();
        for ((id, retired), reading) in retired.iter().zip(readings) {
            self.spent.insert(retired.cell(), reading);
            self.uncertain.remove(&retired.cell());
            if let Some(resident) = self.sessions.get_mut(id) {
                resident.account.read_last(retired.clone(), reading, now);
            }
        }
        Ok(())
    }

    /// Begins to read the counters of sessions, those first that were left out last time; what is asked of the target
    /// meanwhile goes before ([`Self::measure_some`]).
    pub fn begin_measuring(&mut self, sessions: Vec<SessionId>, reply: oneshot::Sender<Vec<SessionUsage>>) {
        self.end_measuring();
        let mut left: Vec<SessionId> = sessions
            .iter()
            .filter(|id| self.sessions.contains_key(id))
            .copied()
            .collect();
        left.sort_unstable();
        let first = left.partition_point(|id| *id <= self.measured);
        left.rotate_left(first);
        self.measuring = Some(Measuring {
            sessions,
            left: left.into(),
            start: Instant::now(),
            reply,
        });
    }

    /// Reads the counters of the next few sessions; answers when all are read, or there is no time for more.
    pub async fn measure_some(&mut self) -> Result<(), TargetError> {
        let Some(measuring) = &mut self.measuring else {
            return Ok(());
        };
        let next = measuring.left.len().min(MEASURED_AT_ONCE);
        let chunk: Vec<SessionId> = measuring.left.drain(..next).collect();
        let (is_last, is_late) = (measuring.left.is_empty(), measuring.start.elapsed() > MEASURE_TIME);
        self.measure_all(&chunk).await?;
        self.measured = chunk.last().copied().filter(|_| !is_last).unwrap_or(SessionId(0));
        if is_last || is_late {
            self.end_measuring();
        }
        Ok(())
    }

    /// Answers with what is known.
    pub fn end_measuring(&mut self) {
        if let Some(Measuring { sessions, reply, .. }) = self.measuring.take() {
            let known = sessions.iter().filter_map(|id| Some((id, self.sessions.get(id)?)));
            // Whoever asked may have given up.
            let _ = reply.send(known.map(|(id, resident)| resident.account.usage(*id)).collect());
        }
    }

    async fn measure_all(&mut self, sessions: &[SessionId]) -> Result<(), TargetError> {
        let (mut cells, mut before) = (Vec::new(), Vec::new());
        // Some may have gone since they were asked about.
        let sessions: Vec<SessionId> = sessions
            .iter()
            .filter(|id| self.sessions.contains_key(id))
            .copied()
            .collect();
        for id in &sessions {
            for (cell, last) in self.sessions[id].account.cells() {
                cells.push(cell);
                before.push(last);
            }
        }
        if cells.is_empty() {
            return Ok(());
        }
        let readings = in_time(CALL_TIME, account::read(&mut self.target, &cells, &before)).await?;
        let (now, mut at) = (now_ns(), 0);
        for id in &sessions {
            let Some(resident) = self.sessions.get_mut(id) else {
                continue;
            };
            let count = resident.account.cells().count();
            resident
                .account
                .read(resident.plan.as_ref(), &readings[at..at + count], now);
            at += count;
        }
        Ok(())
    }

    /// What counters stand at that cells are given out with.
    pub async fn bases(&mut self, cells: &[u32]) -> Result<HashMap<u32, Reading>, TargetError> {
        let (mut bases, mut unknown) = (HashMap::new(), Vec::new());
        for cell in cells {
            if self.uncertain.contains(cell) {
                unknown.push(*cell);
            } else if let Some(reading) = self.spent.get(cell) {
                bases.insert(*cell, *reading);
            } else if self.virgin {
                bases.insert(*cell, Reading::default());
            } else {
                unknown.push(*cell);
            }
        }
        if !unknown.is_empty() {
            let readings = in_time(CALL_TIME, account::read(&mut self.target, &unknown, &[])).await?;
            bases.extend(unknown.into_iter().zip(readings));
        }
        Ok(bases)
    }

    /// In the form of the host's: what the target dropped and what it punted, by reason.
    pub fn counters(&self) -> HostCounters {
        let used: BTreeMap<_, _> = Table::ALL.iter().map(|t| (t.name(), self.used[*t as usize])).collect();
        let mut figures = lock(&self.shared.figures);
        figures.flows = self.used[Table::Flows as usize];
        figures.entries = used;
        let mut counters = HostCounters {
            sessions: self.sessions.values().filter(|r| r.plan.is_some()).count() as u64,
            ..HostCounters::default()
        };
        let mut limited = Count::default();
        for left in &figures.left {
            if left.reason.is_drop() {
                counters.drops.push((left.reason.name().into(), left.count));
            } else {
                let punted = Count {
                    packets: left.count.packets.saturating_sub(left.limited.packets),
                    bytes: left.count.bytes.saturating_sub(left.limited.bytes),
                };
                counters.punts.push((left.reason.name().into(), punted));
            }
            limited += left.limited;
        }
        counters.drops.push((PuntReason::Limited.name().into(), limited));
        counters
    }
}
