//! Owns reading the target's counters: of sessions when they are polled, of cells that are given out or up, and of
//! packets that left the fast path.

use super::account::{self, Reading, Retired};
use super::actor::{Actor, CALL_TIME, in_time, now_ns};
use super::lock;
use super::target::{Target, TargetError};
use crate::placement::Table;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;
use upf_model::SessionId;
use upf_model::batch::{Count, HostCounters};
use upf_model::punt::PuntReason;

/// A usage poll reads counters for this long, so that requests need not wait longer; sessions go by turns.
const MEASURE_TIME: Duration = Duration::from_millis(250);
/// Sessions whose counters are read at once.
const MEASURED_AT_ONCE: usize = 512;

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

    /// Reads the counters of sessions: of as many as there is time for, those first that were left out last time.
    pub async fn measure(&mut self, sessions: &[SessionId]) -> Result<(), TargetError> {
        let start = Instant::now();
        let mut known: Vec<SessionId> = sessions
            .iter()
            .filter(|id| self.sessions.contains_key(id))
            .copied()
            .collect();
        known.sort_unstable();
        let first = known.partition_point(|id| *id <= self.measured);
        known.rotate_left(first);
        for chunk in known.chunks(MEASURED_AT_ONCE) {
            if start.elapsed() > MEASURE_TIME {
                return Ok(());
            }
            self.measure_all(chunk).await?;
            self.measured = chunk.last().copied().unwrap_or_default();
        }
        self.measured = SessionId(0);
        Ok(())
    }

    async fn measure_all(&mut self, sessions: &[SessionId]) -> Result<(), TargetError> {
        let (mut cells, mut before) = (Vec::new(), Vec::new());
        for id in sessions {
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
        for id in sessions {
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
