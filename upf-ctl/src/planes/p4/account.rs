//! Owns what the target's counters mean for PDRs, QERs and URRs.
//!
//! ## Bytes
//! A target counts the bytes of frames; users are charged for the bytes of their packets. Most frames of a rule have the
//! same number of bytes around the user's packet (`usual_overhead`); of the others the program counts the overhead bit by
//! bit. So, exactly:
//! ```text
//!  bytes = passed.bytes - (passed.packets - odd.packets) * usual_overhead - sum over bits b of 2^b * odd_overhead[b]
//! ```
//! The counters cannot be read at one moment. Where `odd` is the same before and after `passed` was read, the reading is
//! whole; otherwise it is read again, a few times at most. What remains is a frame taken for a usual one until the next
//! reading puts it right; the total never goes back meanwhile.
//!
//! ## Attribution
//! A cell belongs to a PDR for as long as the same QERs and URRs count by it ([`crate::placement::plan::Cell`]), so what it
//! counts is theirs, whenever it is read. A cell that its PDR gave up is read a last time once no packet can be on its way
//! to it.
//!
//! `dropped` does not tell why: by a gate if the rule's gate is closed, over a rate if the rule has one meter; with two
//! meters it is not known which, and a FAR that drops is nobody's.

use super::target::{Passed, Target, TargetError};
use crate::placement::SessionPlan;
use crate::placement::plan::Cell;
use std::collections::BTreeMap;
use upf_model::batch::{Count, QerUsage, SessionUsage, UrrUsage};
use upf_model::{PdrId, QerId, Session, SessionId, UrrId};

/// Readings of cells that moved meanwhile are repeated so often.
const READINGS: usize = 4;

/// What the counters of one cell said together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    counts: Passed,
    odd: u64,
    overhead: [u64; 8],
}

impl Reading {
    /// Bytes of the users' packets.
    fn bytes(&self, usual_overhead: u8) -> u64 {
        let usual = self.counts.passed.packets.saturating_sub(self.odd) * u64::from(usual_overhead);
        let bits = self.overhead.iter().enumerate();
        let odd: u64 = bits.map(|(bit, frames)| frames << bit).sum();
        self.counts.passed.bytes.saturating_sub(usual + odd)
    }
}

/// Reads cells. `before`: their last readings; the overhead of odd frames is asked for only where there are new ones.
pub async fn read(target: &mut impl Target, cells: &[u32], before: &[Reading]) -> Result<Vec<Reading>, TargetError> {
    let mut readings = before.to_vec();
    readings.resize(cells.len(), Reading::default());
    let mut open: Vec<usize> = (0..cells.len()).collect();
    for _ in 0..READINGS {
        if open.is_empty() {
            break;
        }
        let asked: Vec<u32> = open.iter().map(|i| cells[*i]).collect();
        let odd = target.odd(&asked).await?;
        let moved: Vec<usize> = (0..open.len()).filter(|i| odd[*i] != readings[open[*i]].odd).collect();
        if !moved.is_empty() {
            let which: Vec<u32> = moved.iter().map(|i| asked[*i]).collect();
            let overhead = target.odd_overhead(&which).await?;
            for (i, overhead) in moved.iter().zip(overhead) {
                readings[open[*i]].overhead = overhead;
            }
        }
        let counts = target.passed(&asked).await?;
        let again = target.odd(&asked).await?;
        for (i, place) in open.iter().enumerate() {
            readings[*place].counts = counts[i];
            readings[*place].odd = odd[i];
        }
        let places = open.iter().enumerate();
        open = places
            .filter(|(i, _)| odd[*i] != again[*i])
            .map(|(_, place)| *place)
            .collect();
    }
    Ok(readings)
}

/// One cell, as it was read last.
#[derive(Debug, Clone)]
struct CellAccount {
    cell: Cell,
    /// What the counters stood at when the cell was given to the PDR, in user's bytes.
    base: (Count, Count),
    last: Reading,
    /// Accounted for already.
    passed: Count,
    dropped: Count,
}

impl CellAccount {
    fn of(cell: Cell, reading: Reading) -> Self {
        let base = totals(&reading, cell.usual_overhead);
        Self {
            cell,
            base,
            last: reading,
            passed: Count::default(),
            dropped: Count::default(),
        }
    }

    /// What came since the last reading: passed and dropped.
    fn take(&mut self, reading: Reading) -> (Count, Count) {
        self.last = reading;
        let (passed, dropped) = totals(&reading, self.cell.usual_overhead);
        let more = |now: Count, base: Count, told: &mut Count| {
            let total = Count {
                packets: now.packets.saturating_sub(base.packets).max(told.packets),
                bytes: now.bytes.saturating_sub(base.bytes).max(told.bytes),
            };
            let more = Count {
                packets: total.packets - told.packets,
                bytes: total.bytes - told.bytes,
            };
            *told = total;
            more
        };
        (
            more(passed, self.base.0, &mut self.passed),
            more(dropped, self.base.1, &mut self.dropped),
        )
    }
}

fn totals(reading: &Reading, usual_overhead: u8) -> (Count, Count) {
    let passed = Count {
        packets: reading.counts.passed.packets,
        bytes: reading.bytes(usual_overhead),
    };
    let dropped = reading.counts.dropped;
    let dropped = Count {
        packets: dropped.packets,
        bytes: dropped
            .bytes
            .saturating_sub(dropped.packets * u64::from(usual_overhead)),
    };
    (passed, dropped)
}

/// What a session has used by way of the target.
#[derive(Debug, Clone, Default)]
pub struct Account {
    live: BTreeMap<PdrId, CellAccount>,
    pdrs: BTreeMap<PdrId, Count>,
    qers: BTreeMap<QerId, QerUsage>,
    urrs: BTreeMap<UrrId, UrrUsage>,
}

/// A cell that its PDR has given up, until its last reading.
#[derive(Debug, Clone)]
pub struct Retired {
    /// Of which PDR.
    pub pdr: PdrId,
    account: CellAccount,
    gate: bool,
    policing: Vec<QerId>,
}

impl Retired {
    /// Its number.
    pub fn cell(&self) -> u32 {
        self.account.cell.cell
    }
    /// Its last reading so far.
    pub fn last(&self) -> Reading {
        self.account.last
    }
}

impl Account {
    /// Follows a plan: cells that are new begin at `base`, cells that are gone are returned for their last reading.
    pub fn follow(
        &mut self,
        before: Option<&SessionPlan>,
        plan: Option<&SessionPlan>,
        base: impl Fn(u32) -> Reading,
    ) -> Vec<Retired> {
        let mut live = BTreeMap::new();
        let mut old = std::mem::take(&mut self.live);
        for (pdr, cell) in plan.into_iter().flat_map(SessionPlan::cells) {
            let kept = old.get(&pdr).is_some_and(|account| account.cell.cell == cell.cell);
            let account = match old.remove(&pdr) {
                Some(account) if kept => account,
                other => {
                    other.map(|account| old.insert(pdr, account));
                    CellAccount::of(cell.clone(), base(cell.cell))
                }
            };
            live.insert(pdr, account);
        }
        self.live = live;
        let retired = old.into_iter().map(|(pdr, account)| Retired {
            pdr,
            gate: before.is_some_and(|b| b.gate_is_closed(pdr)),
            policing: before.map(|b| b.policing(pdr)).unwrap_or_default(),
            account,
        });
        retired.collect()
    }

    /// Counters of rules that are no more are forgotten.
    pub fn keep_only(&mut self, session: &Session) {
        self.pdrs.retain(|id, _| session.pdrs.iter().any(|p| p.id == *id));
        self.qers.retain(|id, _| session.qer(*id).is_some());
        self.urrs.retain(|id, _| session.urr(*id).is_some());
    }

    /// Its cells with their last readings.
    pub fn cells(&self) -> impl Iterator<Item = (u32, Reading)> + '_ {
        self.live.values().map(|account| (account.cell.cell, account.last))
    }

    /// Takes in readings of its cells, in the order of [`Account::cells`].
    pub fn read(&mut self, plan: Option<&SessionPlan>, readings: &[Reading], now_ns: u64) {
        let pdrs: Vec<PdrId> = self.live.keys().copied().collect();
        for (pdr, reading) in pdrs.into_iter().zip(readings) {
            let Some(account) = self.live.get_mut(&pdr) else {
                continue;
            };
            let (passed, dropped) = account.take(*reading);
            let cell = account.cell.clone();
            let gate = plan.is_some_and(|p| p.gate_is_closed(pdr));
            let policing = plan.map(|p| p.policing(pdr)).unwrap_or_default();
            self.add(pdr, &cell, passed, dropped, gate, &policing, now_ns);
        }
    }

    /// Takes in the last reading of a cell that was given up.
    pub fn read_last(&mut self, mut retired: Retired, reading: Reading, now_ns: u64) {
        let (passed, dropped) = retired.account.take(reading);
        let cell = retired.account.cell.clone();
        self.add(
            retired.pdr,
            &cell,
            passed,
            dropped,
            retired.gate,
            &retired.policing,
            now_ns,
        );
    }

    /// The counters have started again from zero.
    pub fn restart(&mut self) {
        for account in self.live.values_mut() {
            *account = CellAccount::of(account.cell.clone(), Reading::default());
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        pdr: PdrId,
        cell: &Cell,
        passed: Count,
        dropped: Count,
        gate: bool,
        policing: &[QerId],
        now_ns: u64,
    ) {
        if passed.packets + dropped.packets + passed.bytes == 0 {
            return;
        }
        let detected = self.pdrs.entry(pdr).or_default();
        *detected += passed;
        *detected += dropped;
        for qer in &cell.qers {
            let usage = self.qers.entry(*qer).or_default();
            usage.passed += passed;
            if gate {
                usage.gated += dropped;
            } else if policing == [*qer] {
                usage.policed += dropped;
            }
        }
        if passed.packets + passed.bytes == 0 {
            return;
        }
        for urr in &cell.urrs {
            let usage = self.urrs.entry(*urr).or_default();
            let volume = if cell.uplink {
                &mut usage.uplink
            } else {
                &mut usage.downlink
            };
            *volume += passed;
            if usage.first_packet_ns == 0 {
                usage.first_packet_ns = now_ns;
            }
            usage.last_packet_ns = now_ns;
        }
    }

    /// As the host reports it.
    pub fn usage(&self, session: SessionId) -> SessionUsage {
        SessionUsage {
            session,
            pdrs: self.pdrs.iter().map(|(id, count)| (*id, *count)).collect(),
            qers: self.qers.iter().map(|(id, usage)| (*id, *usage)).collect(),
            urrs: self.urrs.iter().map(|(id, usage)| (*id, *usage)).collect(),
            ..SessionUsage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_users_whatever_is_around_them() {
        let mut overhead = [0; 8];
        // Two usual frames of 100 + 58, one padded one of 40 + 66.
        for (bit, count) in overhead.iter_mut().enumerate() {
            *count = 66 >> bit & 1;
        }
        let reading = Reading {
            counts: Passed {
                passed: Count {
                    packets: 3,
                    bytes: 158 + 158 + 106,
                },
                dropped: Count::default(),
            },
            odd: 1,
            overhead,
        };
        assert_eq!(reading.bytes(58), 240);
    }

    #[test]
    fn a_reading_that_is_not_whole_makes_no_total_go_back() {
        let cell = Cell {
            cell: 1,
            usual_overhead: 14,
            uplink: false,
            urrs: vec![],
            qers: vec![],
        };
        let mut account = CellAccount::of(cell, Reading::default());
        let seen = |packets, bytes, odd, four| Reading {
            counts: Passed {
                passed: Count { packets, bytes },
                dropped: Count::default(),
            },
            odd,
            overhead: [0, 0, four, 0, four, 0, 0, 0],
        };
        // A frame of 100 + 20, at first taken for one of 106 + 14.
        assert_eq!(account.take(seen(1, 120, 0, 0)).0.bytes, 106);
        assert_eq!(account.take(seen(1, 120, 1, 1)).0.bytes, 0);
        // The next usual frame of 100 + 14 puts it right.
        assert_eq!(account.take(seen(2, 234, 1, 1)).0.bytes, 94);
        assert_eq!(account.passed.bytes, 200);
    }
}
