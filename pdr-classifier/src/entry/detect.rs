//! What packets do with an entry: through a gate, to the rule that detects them.

use super::{ARRIVAL_BITS, Entry, INLINE_GATES, Many, OPEN_LANE, Way};
use crate::block::{self, Form};
use crate::compile::{Gate, OwnUe, UeAddresses};
use crate::order;
use crate::packet::{octets, word};
use crate::precedence::{Precedences, UPSET};
use crate::row::kind;
use crate::section::Subject;
use crate::sieve::{Left, Plan};
use crate::sync::Ordering;
use crate::vector::{self, Task, Vectors};
use crate::{EthernetFields, Explanation, FlowMask, PacketFields, RuleIndex, SessionKey};
use std::ptr;
use upf_model::Precedence;

impl Entry {
    /// The rule that detects the packet.
    #[inline]
    pub fn classify(&self, gate: u8, packet: &PacketFields, frame: Option<&EthernetFields>) -> Option<RuleIndex> {
        vector::run(Classify {
            entry: self,
            gate,
            packet,
            frame,
        })
    }

    /// A gate, with what is behind it and the order of the moment: once for all packets that come in by it together.
    #[inline(always)]
    pub fn door(&self, gate: u8) -> Door<'_> {
        if self.marks().is_tight() {
            return self.door_of_tight(gate);
        }
        match self.many() {
            Some(many) => self.door_of_many(many, gate),
            None => self.door_of_block(gate),
        }
    }

    /// The same of an entry with sections.
    #[inline(always)]
    fn door_of_many(&self, many: &Many, gate: u8) -> Door<'_> {
        #[cfg(loom)]
        self.witness.with(|_| ());
        let number = usize::from(gate);
        let (gate, way) = match self.arrivals.get(number) {
            Some(arrival) => {
                let gate = Gate {
                    arrival: *arrival,
                    accept: 0,
                };
                // SAFETY: as `Parts::build` has packed it; the entry holds the set that it leads to.
                (gate, unsafe { Way::unpacked(many.ways[number], many.rest[number]) })
            }
            None => self.further_way(gate),
        };
        Door {
            gate,
            way,
            upset: self.outlook().filter(|(_, marks)| marks & UPSET != 0),
            order: 0,
        }
    }

    /// The same of an entry that has no sections.
    #[inline(always)]
    pub fn door_of_block(&self, gate: u8) -> Door<'_> {
        #[cfg(loom)]
        self.witness.with(|_| ());
        Door {
            gate: self.gate(gate),
            way: Way::None,
            upset: None,
            order: self.order(),
        }
    }

    /// The same of a tight entry.
    #[inline(always)]
    pub fn door_of_tight(&self, gate: u8) -> Door<'_> {
        #[cfg(loom)]
        self.witness.with(|_| ());
        let gate = match self.arrivals.get(usize::from(gate)) {
            Some(both) => Gate {
                arrival: both & ARRIVAL_BITS,
                accept: (both >> ARRIVAL_BITS.count_ones()) as u16,
            },
            None => self.further_tight_gate(gate),
        };
        Door {
            gate,
            way: Way::None,
            upset: None,
            order: self.answers.load(Ordering::Acquire).into(),
        }
    }

    #[inline(always)]
    fn gate(&self, gate: u8) -> Gate {
        match (self.wide(), self.arrivals.get(usize::from(gate))) {
            (Some(wide), Some(arrival)) => Gate {
                arrival: *arrival,
                accept: wide.accepts[usize::from(gate) % INLINE_GATES],
            },
            _ => self.further_gate(gate),
        }
    }

    /// The rule that detects a packet that came in there.
    #[inline(always)]
    pub fn detect_by<V: Vectors>(
        &self,
        door: Door<'_>,
        packet: &PacketFields,
        frame: Option<&EthernetFields>,
    ) -> Option<RuleIndex> {
        let kind = self.kind(packet);
        let Some(wide) = self.wide() else {
            if let Some(rows) = self.tight_rows::<V>() {
                return self.detect_tight::<V>(door, rows, packet);
            }
            return if door.gate.lets_through(packet) {
                detect_among_many::<V>(door, Subject { packet, kind, frame })
            } else {
                None
            };
        };
        let accepted = if door.gate.lets_through(packet) {
            u32::from(door.gate.accept)
        } else {
            0
        };
        let (block, form) = (wide.rows.cast::<u32>(), wide.form);
        // SAFETY: `rows` is a block of this form; gates accept rows that exist.
        unsafe {
            let matching = block::matching::<V>(form, block, packet, kind) & accepted;
            if matching == 0 {
                return None;
            }
            let row = if usize::from(form.lanes) == order::ANSWERED {
                order::answer(door.order, matching)
            } else {
                V::least(door.order, matching)
            };
            Some(block::rule(form, block, row).into())
        }
    }

    /// Its rows, if it is tight.
    #[inline(always)]
    pub fn tight_rows<V: Vectors>(&self) -> Option<V::Three> {
        let tight = ptr::from_ref(self.tight()?);
        // SAFETY: a tight body is ten words, the rows first.
        Some(unsafe { V::three(tight.cast()) })
    }

    /// [`Self::detect_by`] among its [tight rows](Self::tight_rows), and the one that asks for nothing.
    #[inline(always)]
    pub fn detect_tight<V: Vectors>(&self, door: Door<'_>, rows: V::Three, packet: &PacketFields) -> Option<RuleIndex> {
        let matching = V::matching_three(rows, packet, self.kind(packet)) | OPEN_LANE;
        let accepted = matching & u32::from(door.gate.accept);
        if accepted == 0 || !door.gate.lets_through(packet) {
            None
        } else {
            Some(order::answer(door.order, accepted))
        }
    }

    /// Its rows, if it has a block of `L` lanes, 4 or 8, that are in the compact form and one for each rule.
    #[inline(always)]
    pub fn usual_rows<V: Vectors, const L: usize>(&self) -> Option<V::Apart<L>> {
        let usual = Form {
            lanes: L as u8,
            ..Form::USUAL
        };
        let wide = self.wide().filter(|wide| wide.form.word() == usual.word())?;
        // SAFETY: `rows` is a block of this form.
        Some(unsafe { V::apart::<L>(wide.rows.cast()) })
    }

    /// [`Self::detect_by`] among its [usual rows](Self::usual_rows).
    #[inline(always)]
    pub fn detect_usual<V: Vectors, const L: usize>(
        &self,
        door: Door<'_>,
        rows: V::Apart<L>,
        packet: &PacketFields,
    ) -> Option<RuleIndex> {
        let matching = V::matching::<L>(rows, packet, self.kind(packet));
        let accepted = matching & u32::from(door.gate.accept);
        if accepted == 0 || !door.gate.lets_through(packet) {
            None
        } else if L == order::ANSWERED {
            Some(order::answer(door.order, accepted))
        } else {
            Some(V::least(door.order, accepted))
        }
    }

    /// [`Self::detect_by`] among rows that are searched in a [planned](Door::plan) way, of so many columns.
    #[inline(always)]
    pub fn detect_planned<V: Vectors, const COLUMNS: usize, const SPREAD: bool>(
        &self,
        door: Door<'_>,
        plan: Plan<'_>,
        packet: &PacketFields,
    ) -> Option<RuleIndex> {
        if door.gate.lets_through(packet) {
            plan.first_by::<V, COLUMNS, SPREAD>(packet, self.kind(packet))
        } else {
            None
        }
    }

    /// The end of the same, of a packet that was let through and whose rows some are left of.
    #[inline(always)]
    pub fn detect_among_left<V: Vectors>(
        &self,
        plan: Plan<'_>,
        left: Left,
        packet: &PacketFields,
    ) -> Option<RuleIndex> {
        let kind = self.kind(packet);
        plan.first_of::<V>(left, packet, |_, sieved| sieved.row.agrees(packet, kind))
    }

    /// The packet's [kind], with what the session knows of its UE's end.
    #[inline(always)]
    fn kind(&self, packet: &PacketFields) -> u32 {
        let kind = kind(packet.0[word::OCTETS]);
        if self.marks().families() == 0 {
            kind
        } else {
            kind | self.own_ue().bit(packet)
        }
    }

    #[cold]
    fn further_gate(&self, gate: u8) -> Gate {
        self.own().gates.get(usize::from(gate)).copied().unwrap_or(Gate::SHUT)
    }

    /// The same of an entry with sections.
    #[cold]
    fn further_way(&self, gate: u8) -> (Gate, Way<'_>) {
        let gate = self.further_gate(gate);
        let section = self.sections().and_then(|set| set.section(gate.accept));
        (gate, section.map_or(Way::None, Way::to))
    }

    /// The same of a tight entry, whose lanes have an order of their own.
    #[cold]
    fn further_tight_gate(&self, gate: u8) -> Gate {
        let Gate { arrival, accept } = self.further_gate(gate);
        Gate {
            arrival,
            accept: self.marks().lanes().gather(accept),
        }
    }

    /// Where its rows are, for asking for them ahead of use.
    #[inline(always)]
    pub fn first_line(&self) -> *const () {
        self.wide().map_or(ptr::from_ref(self).cast(), |wide| wide.rows.cast())
    }

    /// Why [`Self::classify`] says what it says.
    pub fn explain(&self, gate: u8, packet: &PacketFields, frame: Option<&EthernetFields>) -> Explanation {
        let own = self.own();
        // A packet that a framed route led here came plain; the rules ask no more of its key. All keys of one gate are
        // the same to the rules.
        let framed = || SessionKey::ue(packet.network_instance(), packet.ue());
        let by = own.gate_of.iter().position(|of| *of == gate);
        let key = by.map_or_else(framed, |position| own.keys[position]);
        // Precedences decide who wins, and that is asked below; so any will do.
        let rules = own.to_rules(|_| Precedence(0));
        Explanation::of(&rules, key, (packet, frame), self.classify(gate, packet, frame))
    }

    /// What of a packet decides which rule of this gate detects it.
    pub fn flow_mask(&self, gate: u8) -> FlowMask {
        let accept = self.further_gate(gate).accept;
        match self.sections() {
            Some(set) => set.flow_mask(accept),
            None => self.with_block(|block| block::flow_mask(self.form(), block, accept)),
        }
        .with_own_ue(self.own_ue())
    }
}

/// How packets come in, and what is behind.
#[derive(Clone, Copy)]
pub(crate) struct Door<'e> {
    gate: Gate,
    /// Of sections.
    way: Way<'e>,
    /// The present precedences of sections, if the order of the rows is not theirs.
    upset: Option<(&'e Precedences, usize)>,
    /// Of a block.
    order: u64,
}

impl<'e> Door<'e> {
    /// How the rows behind it are searched, if they have the compact form alone and are in order.
    #[inline(always)]
    pub fn plan(self) -> Option<Plan<'e>> {
        match (self.way, self.upset) {
            (Way::Planned(plan), None) => Some(plan),
            _ => None,
        }
    }

    /// Whether a packet arrived as its gate asks.
    #[inline(always)]
    pub fn lets_through(self, packet: &PacketFields) -> bool {
        self.gate.lets_through(packet)
    }
}

#[inline(always)]
fn detect_among_many<V: Vectors>(door: Door<'_>, subject: Subject<'_>) -> Option<RuleIndex> {
    let Some((precedences, marks)) = door.upset else {
        return match door.way {
            Way::None => None,
            Way::Planned(plan) => plan.first::<V>(subject.packet, subject.kind),
            Way::Other(section) => section.first::<V>(subject),
        };
    };
    let mut least = None;
    let mut see = |rule| {
        let candidate = (precedences.get(rule, marks), rule);
        if least.is_none_or(|least| candidate < least) {
            least = Some(candidate);
        }
    };
    match door.way {
        Way::None => {}
        Way::Planned(plan) => plan.each::<V>(subject.packet, |_, sieved| {
            if sieved.row.agrees(subject.packet, subject.kind) {
                see(sieved.rule);
            }
        }),
        Way::Other(section) => section.each::<V>(subject, &mut see),
    }
    least.map(|(_, rule)| rule)
}

/// [`Entry::classify`], within a [`Task`].
struct Classify<'a> {
    entry: &'a Entry,
    gate: u8,
    packet: &'a PacketFields,
    frame: Option<&'a EthernetFields>,
}

impl Task for Classify<'_> {
    type Output = Option<RuleIndex>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Option<RuleIndex> {
        let Self {
            entry,
            gate,
            packet,
            frame,
        } = self;
        if let Some(rows) = entry.tight_rows::<V>() {
            return entry.detect_tight::<V>(entry.door_of_tight(gate), rows, packet);
        }
        if let Some(rows) = entry.usual_rows::<V, 4>() {
            return entry.detect_usual::<V, 4>(entry.door_of_block(gate), rows, packet);
        }
        entry.detect_by::<V>(entry.door(gate), packet, frame)
    }
}

impl OwnUe {
    /// [`octets::OWN_UE`] as a bit of the packet's [kind], if its UE end is one of these. Without branches that depend
    /// on the packet.
    #[inline(always)]
    fn bit(&self, packet: &PacketFields) -> u32 {
        let UeAddresses { v4, v6 } = self.addresses;
        let v4 = self.has_v4() & (packet.0[word::UE] == v4);
        let v6 = self.has_v6() & (packet.0[word::UE] == v6[0]) & (packet.0[word::UE + 1] == v6[1]);
        let is_in = if packet.is_v6() { v6 } else { v4 };
        u32::from(is_in) * (octets::OWN_UE >> 8)
    }
}
