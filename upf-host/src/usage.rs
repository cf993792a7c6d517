//! What is counted for the rules of one session: each PDR has a cache line at each lcore, and everything else, of QERs and
//! URRs, is a sum over the PDRs that name them.
//!
//! ```text
//!   a PDR's line          detected │ passed │ refused │ first and last packet
//!   QER passed            = passed, of every PDR that names it
//!   QER gated, policed    = refused, of the PDRs whose gate it closes, or whose rate it bounds
//!   URR, after QoS        = passed and times, of every PDR that names it and forwards
//! ```
//! So a packet writes one line, however many QERs and URRs look at it. Rare PDRs have more lines: for URRs that measure
//! before QoS enforcement, and where several rates may refuse.
//!
//! What a line counts is settled when it is made ([`PdrLines`]). A session whose next version counts the same things
//! keeps its lines; otherwise it gets new ones, and the old ones become plain numbers in its [`Ledger`] once no packet can
//! be counted there any more. A rule that keeps its id keeps its counts; one that is removed and made again starts from
//! zero.

use crate::counters::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use upf_model::batch::{Count, QerUsage, SessionUsage, UrrUsage};
use upf_model::{Disposition, Gate, Pdr, PdrId, Qer, QerId, Session, UrrId};

/// Four cells: one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Line([Cell; 4]);

/// Cells of a PDR's first line.
const DETECTED: usize = 0;
const PASSED: usize = 1;
const REFUSED: usize = 2;
const TIMES: usize = 3;
/// Cells of the line of URRs that measure before QoS enforcement.
const OFFERED: usize = 0;
const OFFERED_TIMES: usize = 1;
/// Cells of a further line, each of one more rate.
const RATES_A_LINE: usize = 4;

/// The lines of one session, at all lcores. Clones share them.
#[derive(Debug, Clone)]
pub struct SessionCounters(Arc<[Line]>);

/// Where the lines of a PDR are: those of an lcore side by side, lcore after lcore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lines {
    /// The first.
    pub start: u32,
    /// How many an lcore has.
    pub each: u32,
}

impl SessionCounters {
    fn new(layout: &[PdrLines], lcores: usize) -> Self {
        let lines = layout.iter().map(PdrLines::lines).sum::<usize>() * lcores;
        Self((0..lines).map(|_| Line::default()).collect())
    }

    /// The first line of a PDR at an lcore. Only that lcore may count there.
    #[inline(always)]
    pub fn line(&self, lines: Lines, lcore: usize) -> &Line {
        self.nth(lines, lcore, 0)
    }

    /// A line of a PDR, the first being 0.
    #[inline(always)]
    fn nth(&self, lines: Lines, lcore: usize, line: usize) -> &Line {
        &self.0[lines.start as usize + lcore * lines.each as usize + line]
    }

    /// A packet that URRs before QoS enforcement measure. Only the owning lcore may call this.
    pub fn offered(&self, lines: Lines, lcore: usize, bytes: u64, wall_ns: u64) {
        let line = self.nth(lines, lcore, 1);
        line.0[OFFERED].count(bytes);
        line.0[OFFERED_TIMES].seen(wall_ns);
    }

    /// A packet that the rate of the PDR's `rate`th metered QER refused. Only the owning lcore may call this.
    pub fn over_rate(&self, lines: Lines, lcore: usize, measures_before: bool, rate: usize, bytes: u64) {
        self.rate(lines, lcore, measures_before, rate).count(bytes);
    }

    fn rate(&self, lines: Lines, lcore: usize, measures_before: bool, rate: usize) -> &Cell {
        match rate.checked_sub(1) {
            None => &self.line(lines, lcore).0[REFUSED],
            Some(more) => {
                let line = 1 + usize::from(measures_before) + more / RATES_A_LINE;
                &self.nth(lines, lcore, line).0[more % RATES_A_LINE]
            }
        }
    }
}

impl Line {
    /// The PDR detected a packet.
    #[inline(always)]
    pub fn detected(&self, bytes: u64) {
        self.0[DETECTED].count(bytes);
    }
    /// It passed the PDR's QERs.
    #[inline(always)]
    pub fn passed(&self, bytes: u64, wall_ns: u64) {
        self.0[PASSED].count(bytes);
        self.0[TIMES].seen(wall_ns);
    }
    /// A closed gate refused it, or the PDR's first rate.
    #[inline]
    pub fn refused(&self, bytes: u64) {
        self.0[REFUSED].count(bytes);
    }
}

/// What the lines of one PDR count, and so what they are good for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PdrLines {
    pdr: PdrId,
    uplink: bool,
    /// Its packets leave, so that URRs count them.
    forwards: bool,
    qers: Box<[QerId]>,
    /// The first of them whose gate is closed.
    closed: Option<QerId>,
    /// Those with a rate.
    rates: Box<[QerId]>,
    after: Box<[UrrId]>,
    before: Box<[UrrId]>,
}

impl PdrLines {
    fn of(session: &Session, pdr: &Pdr) -> Self {
        let uplink = pdr.pdi.source_interface.is_uplink();
        let qers = || pdr.qers.iter().filter_map(|&id| session.qer(id));
        let urrs = |before: bool| {
            let urrs = pdr.urrs.iter().filter_map(|&id| session.urr(id));
            urrs.filter(move |urr| urr.before_qos == before)
                .map(|urr| urr.id)
                .collect()
        };
        let far = session.far(pdr.far);
        Self {
            pdr: pdr.id,
            uplink,
            forwards: far.is_some_and(|far| far.action.disposition != Disposition::Drop),
            qers: qers().map(|qer| qer.id).collect(),
            closed: closed_gate(qers(), uplink),
            rates: qers().filter(|qer| qer.mbr.is_some()).map(|qer| qer.id).collect(),
            after: urrs(false),
            before: urrs(true),
        }
    }

    /// How many an lcore has.
    fn lines(&self) -> usize {
        let more = self.rates.len().saturating_sub(1);
        1 + usize::from(!self.before.is_empty()) + more.div_ceil(RATES_A_LINE)
    }

    /// Everything that was counted here, by what it is of.
    fn read(&self, counters: &SessionCounters, lines: Lines, lcores: usize, mut give: impl FnMut(CellOf, Count)) {
        let measures_before = !self.before.is_empty();
        let volume = |urr| {
            if self.uplink {
                CellOf::UrrUplink(urr)
            } else {
                CellOf::UrrDownlink(urr)
            }
        };
        for lcore in 0..lcores {
            let Line([detected, passed, refused, times]) = counters.line(lines, lcore);
            give(CellOf::Pdr(self.pdr), detected.read());
            for &qer in &self.qers {
                give(CellOf::QerPassed(qer), passed.read());
            }
            match self.closed {
                Some(qer) => give(CellOf::QerGated(qer), refused.read()),
                None => {
                    for (rate, &qer) in self.rates.iter().enumerate() {
                        let cell = counters.rate(lines, lcore, measures_before, rate);
                        give(CellOf::QerPoliced(qer), cell.read());
                    }
                }
            }
            for &urr in self.after.iter().filter(|_| self.forwards) {
                give(volume(urr), passed.read());
                give(CellOf::UrrTimes(urr), times.read());
            }
            if measures_before {
                let line = counters.nth(lines, lcore, 1);
                for &urr in &self.before {
                    give(volume(urr), line.0[OFFERED].read());
                    give(CellOf::UrrTimes(urr), line.0[OFFERED_TIMES].read());
                }
            }
        }
    }
}

/// The first of a PDR's QERs whose gate is closed.
pub fn closed_gate<'s>(mut qers: impl Iterator<Item = &'s Qer>, uplink: bool) -> Option<QerId> {
    let gate = |qer: &Qer| if uplink { qer.gate_uplink } else { qer.gate_downlink };
    qers.find(|qer| gate(qer) == Gate::Closed).map(|qer| qer.id)
}

/// The lines of every PDR, by id: precedences do not matter.
fn layout(session: &Session) -> Vec<PdrLines> {
    let mut layout: Vec<_> = session.pdrs.iter().map(|pdr| PdrLines::of(session, pdr)).collect();
    layout.sort_unstable_by_key(|lines| lines.pdr);
    layout
}

/// Where the lines are of each.
fn places(layout: &[PdrLines], lcores: usize) -> impl Iterator<Item = (&PdrLines, Lines)> {
    let mut start = 0;
    layout.iter().map(move |of| {
        let lines = Lines {
            start,
            each: of.lines() as u32,
        };
        start += lines.each * lcores as u32;
        (of, lines)
    })
}

/// The lines that one version of a session counts in.
pub struct Fitted {
    /// They.
    pub counters: SessionCounters,
    /// Where those of each PDR are.
    places: Vec<(PdrId, Lines)>,
    /// They are those of the version before.
    kept: bool,
}

impl Fitted {
    /// The lines of a PDR of the session.
    pub fn lines(&self, pdr: PdrId) -> Option<Lines> {
        let at = self.places.binary_search_by_key(&pdr, |(id, _)| *id).ok()?;
        Some(self.places[at].1)
    }
}

/// Which rule a number belongs to, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum CellOf {
    /// Packets a PDR detected.
    Pdr(PdrId),
    /// Packets within a QER's gate and rates.
    QerPassed(QerId),
    /// Packets dropped by a QER's gate.
    QerGated(QerId),
    /// Packets dropped over a QER's rate.
    QerPoliced(QerId),
    /// A URR's uplink volume.
    UrrUplink(UrrId),
    /// A URR's downlink volume.
    UrrDownlink(UrrId),
    /// A URR's first and last packet.
    UrrTimes(UrrId),
}

/// A rule that numbers are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    Pdr(PdrId),
    Qer(QerId),
    Urr(UrrId),
}

impl CellOf {
    const fn rule(self) -> Rule {
        match self {
            Self::Pdr(id) => Rule::Pdr(id),
            Self::QerPassed(id) | Self::QerGated(id) | Self::QerPoliced(id) => Rule::Qer(id),
            Self::UrrUplink(id) | Self::UrrDownlink(id) | Self::UrrTimes(id) => Rule::Urr(id),
        }
    }
}

/// The management thread's view of what a session has counted.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The lines of its present version.
    current: Option<SessionCounters>,
    /// What few sessions have: earlier lines, and what they had counted.
    past: Option<Box<Past>>,
}

#[derive(Debug, Default)]
struct Past {
    /// Lines in which a packet may still be counted.
    outgrown: Vec<Outgrown>,
    /// What settled lines had counted.
    settled: HashMap<CellOf, Count>,
}

#[derive(Debug)]
struct Outgrown {
    counters: SessionCounters,
    layout: Vec<PdrLines>,
    /// Rules that have been removed since: what these lines say of them is nobody's.
    gone: HashSet<Rule>,
}

impl Outgrown {
    fn read(&self, mut give: impl FnMut(CellOf, Count)) {
        read(&self.counters, &self.layout, |of, count| {
            if !self.gone.contains(&of.rule()) {
                give(of, count);
            }
        });
    }

    fn forget(&mut self, stays: impl Fn(Rule) -> bool) {
        let rules = self.layout.iter().flat_map(|of| {
            let qers = of.qers.iter().map(|&id| Rule::Qer(id));
            let urrs = of.after.iter().chain(&of.before).map(|&id| Rule::Urr(id));
            std::iter::once(Rule::Pdr(of.pdr)).chain(qers).chain(urrs)
        });
        self.gone.extend(rules.filter(|rule| !stays(*rule)));
    }
}

impl Ledger {
    /// The lines for the next version of a session: those there are if they count the same things. `before` is the
    /// version that this ledger is of.
    pub fn fit(&self, before: Option<&Session>, session: &Session, lcores: usize) -> Fitted {
        let layout = layout(session);
        let same = before.is_some_and(|before| self::layout(before) == layout);
        let kept = self.current.as_ref().filter(|_| same);
        Fitted {
            counters: kept.cloned().unwrap_or_else(|| SessionCounters::new(&layout, lcores)),
            places: places(&layout, lcores).map(|(of, lines)| (of.pdr, lines)).collect(),
            kept: kept.is_some(),
        }
    }

    /// That version has taken the place of the one before.
    pub fn adopt(&mut self, before: Option<&Session>, session: &Session, fitted: Fitted) {
        let old = self.current.replace(fitted.counters);
        if let (Some(old), Some(before), false) = (old, before, fitted.kept) {
            let past = self.past.get_or_insert_default();
            past.outgrown.push(Outgrown {
                counters: old,
                layout: layout(before),
                gone: HashSet::new(),
            });
        }
        if let Some(past) = &mut self.past {
            past.keep_only(session);
        }
    }

    /// No packet is counted anywhere but in the present lines any more: what the others counted is only a number.
    pub fn settle(&mut self) {
        let Some(past) = &mut self.past else { return };
        for outgrown in std::mem::take(&mut past.outgrown) {
            outgrown.read(|of, count| merge(&mut past.settled, of, count));
        }
    }

    /// Everything counted for the rules of `session`, the present version.
    pub fn usage(&self, session: &Session) -> SessionUsage {
        let mut totals = HashMap::new();
        if let Some(past) = &self.past {
            totals.clone_from(&past.settled);
            for outgrown in &past.outgrown {
                outgrown.read(|of, count| merge(&mut totals, of, count));
            }
        }
        if let Some(current) = &self.current {
            read(current, &layout(session), |of, count| merge(&mut totals, of, count));
        }
        let total = |of| totals.get(&of).copied().unwrap_or_default();
        let pdrs = session.pdrs.iter().map(|p| (p.id, total(CellOf::Pdr(p.id))));
        let qers = session.qers.iter().map(|q| {
            let usage = QerUsage {
                passed: total(CellOf::QerPassed(q.id)),
                gated: total(CellOf::QerGated(q.id)),
                policed: total(CellOf::QerPoliced(q.id)),
            };
            (q.id, usage)
        });
        let urrs = session.urrs.iter().map(|u| {
            let times = total(CellOf::UrrTimes(u.id));
            let usage = UrrUsage {
                uplink: total(CellOf::UrrUplink(u.id)),
                downlink: total(CellOf::UrrDownlink(u.id)),
                first_packet_ns: times.packets,
                last_packet_ns: times.bytes,
            };
            (u.id, usage)
        });
        SessionUsage {
            session: session.id,
            pdrs: pdrs.collect(),
            qers: qers.collect(),
            urrs: urrs.collect(),
            buffered: Count::default(),
            delays: Vec::new(),
        }
    }
}

impl Past {
    /// Forget what was counted for rules that `session` does not have.
    fn keep_only(&mut self, session: &Session) {
        let stays = |rule: Rule| match rule {
            Rule::Pdr(id) => session.pdrs.iter().any(|pdr| pdr.id == id),
            Rule::Qer(id) => session.qer(id).is_some(),
            Rule::Urr(id) => session.urr(id).is_some(),
        };
        self.outgrown.iter_mut().for_each(|outgrown| outgrown.forget(stays));
        self.settled.retain(|of, _| stays(of.rule()));
    }
}

/// Everything that is counted in these lines.
fn read(counters: &SessionCounters, layout: &[PdrLines], mut give: impl FnMut(CellOf, Count)) {
    let each: usize = layout.iter().map(PdrLines::lines).sum();
    let lcores = counters.0.len().checked_div(each).unwrap_or(0);
    for (of, lines) in places(layout, lcores) {
        of.read(counters, lines, lcores, &mut give);
    }
}

/// Add one lcore's numbers to a total: sums, or for times the earliest and the latest.
fn merge(totals: &mut HashMap<CellOf, Count>, of: CellOf, cell: Count) {
    let total = totals.entry(of).or_default();
    match of {
        CellOf::UrrTimes(_) => {
            let (first, last) = (cell.packets, cell.bytes);
            if total.packets == 0 || (first != 0 && first < total.packets) {
                total.packets = first;
            }
            total.bytes = total.bytes.max(last);
        }
        _ => *total += cell,
    }
}

#[cfg(test)]
mod tests;
