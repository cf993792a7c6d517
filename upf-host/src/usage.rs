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
use upf_model::{Disposition, Gate, Interface, Pdr, PdrId, Qer, QerId, Session, UrrId};

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
        &self.0[lines.start as usize + lcore * lines.each as usize]
    }

    /// A further line of a PDR.
    #[inline]
    fn further(&self, lines: Lines, lcore: usize, line: usize) -> &Line {
        &self.0[lines.start as usize + lcore * lines.each as usize + line]
    }

    /// A packet that URRs before QoS enforcement measure. Only the owning lcore may call this.
    pub fn offered(&self, lines: Lines, lcore: usize, bytes: u64, wall_ns: u64) {
        let line = self.further(lines, lcore, 1);
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
                &self.further(lines, lcore, line).0[more % RATES_A_LINE]
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
        let uplink = pdr.pdi.source_interface == Interface::Access;
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
                let line = counters.further(lines, lcore, 1);
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
mod tests {
    use super::*;
    use upf_model::{Action, BitRates, Far, FarId, MeasurementMethod, NetworkInstanceId, Pdi, Precedence, Urr};

    const PDR: PdrId = PdrId(1);

    fn urr(id: u32, before_qos: bool) -> Urr {
        Urr {
            id: UrrId(id),
            method: MeasurementMethod {
                volume: true,
                duration: false,
                event: false,
            },
            before_qos,
            reporting: Default::default(),
        }
    }

    fn qer(id: u32) -> Qer {
        Qer {
            id: QerId(id),
            correlation_id: None,
            gate_uplink: Gate::Open,
            gate_downlink: Gate::Open,
            mbr: Some(BitRates {
                uplink_kbps: 1,
                downlink_kbps: 1,
            }),
            gbr: None,
            qfi: None,
            rqi: false,
            ppi: None,
            averaging_window_ms: None,
            scheduling: Default::default(),
        }
    }

    /// One uplink PDR that forwards, with these QERs and URRs.
    fn session(qers: &[u32], urrs: &[Urr]) -> Session {
        Session {
            pdrs: vec![Pdr {
                id: PDR,
                precedence: Precedence(1),
                pdi: Pdi {
                    source_interface: Interface::Access,
                    network_instance: NetworkInstanceId(0),
                    local_fteid: None,
                    ue_ip: None,
                    framed_routes: Vec::new(),
                    sdf: Vec::new(),
                    qfis: Vec::new(),
                },
                outer_header_removal: None,
                far: FarId(1),
                qers: qers.iter().map(|&id| QerId(id)).collect(),
                urrs: urrs.iter().map(|urr| urr.id).collect(),
            }],
            fars: vec![Far {
                id: FarId(1),
                action: Action {
                    disposition: Disposition::Forward,
                    duplicate: false,
                },
                forwarding: None,
                duplicating: Vec::new(),
                bar: None,
            }],
            qers: qers.iter().map(|&id| qer(id)).collect(),
            urrs: urrs.to_vec(),
            ..Session::default()
        }
    }

    /// A ledger at its first version, and that version's lines.
    fn ledger(session: &Session, lcores: usize) -> (Ledger, SessionCounters, Lines) {
        let mut ledger = Ledger::default();
        let (counters, lines) = next(&mut ledger, None, session, lcores);
        (ledger, counters, lines)
    }

    fn next(
        ledger: &mut Ledger,
        before: Option<&Session>,
        session: &Session,
        lcores: usize,
    ) -> (SessionCounters, Lines) {
        let fitted = ledger.fit(before, session, lcores);
        let (counters, lines) = (fitted.counters.clone(), fitted.lines(PDR));
        ledger.adopt(before, session, fitted);
        (counters, lines.unwrap_or(Lines { start: 0, each: 1 }))
    }

    const ONE: Count = Count { packets: 1, bytes: 100 };

    #[test]
    fn one_line_counts_for_the_pdr_its_qers_and_its_urrs() {
        let session = session(&[1, 2], &[urr(1, false), urr(2, false)]);
        let (ledger, counters, lines) = ledger(&session, 2);
        let line = counters.line(lines, 1);
        line.detected(100);
        line.passed(100, 7);
        let usage = ledger.usage(&session);
        assert_eq!(usage.pdrs[0].1, ONE);
        assert!(
            usage
                .qers
                .iter()
                .all(|(_, qer)| qer.passed == ONE && qer.policed == Count::default())
        );
        assert!(
            usage
                .urrs
                .iter()
                .all(|(_, urr)| urr.uplink == ONE && urr.first_packet_ns == 7)
        );
    }

    #[test]
    fn each_rate_has_its_own_refusals_whatever_stands_between() {
        let session = session(&[1, 2, 3, 4, 5, 6], &[urr(1, true)]);
        let (ledger, counters, lines) = ledger(&session, 2);
        for lcore in 0..2 {
            counters.offered(lines, lcore, 100, 7);
            for rate in 0..6 {
                (0..=rate).for_each(|_| counters.over_rate(lines, lcore, true, rate, 10));
            }
        }
        let usage = ledger.usage(&session);
        let policed: Vec<u64> = usage.qers.iter().map(|(_, qer)| qer.policed.packets).collect();
        assert_eq!(policed, [2, 4, 6, 8, 10, 12]);
        assert_eq!(usage.urrs[0].1.uplink.packets, 2);
    }

    #[test]
    fn refusals_are_the_gates_while_it_is_closed() {
        let open = session(&[1], &[]);
        let mut closed = open.clone();
        closed.qers[0].gate_uplink = Gate::Closed;
        let (mut ledger, counters, lines) = ledger(&open, 1);
        counters.over_rate(lines, 0, false, 0, 100);
        let (counters, lines) = next(&mut ledger, Some(&open), &closed, 1);
        counters.line(lines, 0).refused(100);
        let usage = ledger.usage(&closed).qers[0].1;
        assert_eq!((usage.gated, usage.policed), (ONE, ONE));
    }

    #[test]
    fn counts_survive_lines_that_were_outgrown_and_late_packets_count() {
        let (small, large) = (
            session(&[], &[urr(1, false)]),
            session(&[], &[urr(1, false), urr(2, false)]),
        );
        let (mut ledger, old, at) = ledger(&small, 2);
        old.line(at, 1).passed(100, 1);
        let (new, lines) = next(&mut ledger, Some(&small), &large, 2);
        assert!(!Arc::ptr_eq(&old.0, &new.0));
        new.line(lines, 0).passed(50, 2);
        old.line(at, 0).passed(1, 3);
        let expected = Count { packets: 3, bytes: 151 };
        assert_eq!(ledger.usage(&large).urrs[0].1.uplink, expected);
        assert_eq!(ledger.usage(&large).urrs[1].1.uplink, Count { packets: 1, bytes: 50 });
        ledger.settle();
        assert_eq!(ledger.usage(&large).urrs[0].1.uplink, expected);
    }

    #[test]
    fn a_rule_that_was_removed_and_made_again_starts_from_zero() {
        let (with, without) = (session(&[1], &[urr(1, false)]), session(&[1], &[]));
        for settles in [false, true] {
            let (mut ledger, counters, lines) = ledger(&with, 1);
            counters.line(lines, 0).passed(100, 1);
            next(&mut ledger, Some(&with), &without, 1);
            if settles {
                ledger.settle();
            }
            next(&mut ledger, Some(&without), &with, 1);
            assert_eq!(ledger.usage(&with).urrs[0].1, UrrUsage::default());
            assert_eq!(ledger.usage(&with).qers[0].1.passed, ONE, "it stayed");
        }
    }

    #[test]
    fn precedences_tunnels_and_rates_leave_the_lines_as_they_are() {
        let before = session(&[1], &[urr(1, false)]);
        let mut after = before.clone();
        after.pdrs[0].precedence = Precedence(9);
        after.qers[0].mbr.as_mut().unwrap().uplink_kbps = 2;
        after.fars[0].action.disposition = Disposition::Buffer { notify: true };
        let (mut ledger, counters, _) = ledger(&before, 1);
        assert!(Arc::ptr_eq(
            &counters.0,
            &next(&mut ledger, Some(&before), &after, 1).0.0
        ));
        after.fars[0].action.disposition = Disposition::Drop; // what passes is not the URRs' any more
        assert!(!Arc::ptr_eq(
            &counters.0,
            &next(&mut ledger, Some(&before), &after, 1).0.0
        ));
    }

    #[test]
    fn first_and_last_packet_times_are_over_all_lcores() {
        let session = session(&[], &[urr(1, false)]);
        let (ledger, counters, lines) = ledger(&session, 2);
        for (lcore, time) in [(0, 20), (1, 10), (1, 30)] {
            counters.line(lines, lcore).passed(1, time);
        }
        let usage = ledger.usage(&session).urrs[0].1;
        assert_eq!((usage.first_packet_ns, usage.last_packet_ns), (10, 30));
    }
}
