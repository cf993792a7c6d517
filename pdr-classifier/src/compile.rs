//! From rules to what packets are compared with: rows, and the gates that say which of them a packet is compared with.
//!
//! A session has several keys (tunnels in both directions, UE addresses), and a packet that came by one of them may be
//! detected by some of the session's rules only. Keys that are alike to all rules share a *gate*: how a packet must have
//! arrived, and the rows it is let through to. So a packet does not compare keys again, nor interfaces and network
//! instances rule by rule; and a UE address that the key implies is not looked at at all.
//!
//! Where a UE address has to be checked (uplink, usually), it is the session's one plain set of addresses, which the
//! header of the entry holds: rows ask for a bit that says whether the packet's is one of it, and stay the same for all
//! subscribers. Other sets are rare and become rows of their own.

use crate::block::Form;
use crate::order;
use crate::packet::word;
use crate::precedence::Ranking;
use crate::row::{MAX_ROWS, Row, TooManyRows};
use crate::writer::PutError;
use crate::{PacketFields, PdrMatch, RuleIndex, SessionKey};
use upf_model::IpPrefix;

/// Most keys of a session: one bit of a word each, and one for its framed routes.
pub(crate) const MAX_KEYS: usize = 31;
/// The bit that stands for framed routes.
const FRAMED: u32 = 31;
/// Most rules of a session.
pub(crate) const MAX_RULES: usize = 262_144;

/// How a packet must have arrived, and what it is compared with then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Gate {
    /// Interface and network instance, as in [`crate::packet::word::ARRIVAL`]; zero: the rows ask for themselves.
    pub arrival: u32,
    /// Of a block, its rows, one bit each; otherwise the number of a section.
    pub accept: u16,
}

impl Gate {
    /// Lets nothing through.
    pub const SHUT: Self = Self { arrival: 0, accept: 0 };
    /// Whether the packet arrived so. A gate that asks for no arrival has none of its bits: then nothing is compared.
    #[inline(always)]
    pub const fn lets_through(&self, packet: &PacketFields) -> bool {
        let compared = if self.arrival == 0 { 0 } else { self.arrival | 0xffff };
        (packet.0[word::ARRIVAL] ^ self.arrival) & compared == 0
    }

    /// The number of no gate.
    pub const NO_GATE: u8 = u8::MAX;
}

/// The session's one plain set of UE addresses: at most one IPv4 address and one IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OwnUe {
    pub addresses: UeAddresses,
    /// Bit 0: there is an IPv4 address; bit 1: there is an IPv6 prefix.
    pub families: u8,
}

/// An IPv4 address and an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub(crate) struct UeAddresses {
    pub v4: u32,
    pub v6: [u32; 2],
}

impl OwnUe {
    fn of(set: &[IpPrefix]) -> Option<Self> {
        let mut own = Self::default();
        for prefix in set {
            match prefix {
                IpPrefix::V4(p) if p.len() == 32 && !own.has_v4() => {
                    own.addresses.v4 = p.addr().to_bits();
                    own.families |= 1;
                }
                IpPrefix::V6(p) if p.len() == 64 && !own.has_v6() => {
                    let bits = p.addr().to_bits();
                    own.addresses.v6 = [(bits >> 96) as u32, (bits >> 64) as u32];
                    own.families |= 2;
                }
                _ => return None,
            }
        }
        (own.families != 0).then_some(own)
    }

    /// Whether it is that set.
    pub fn is_of(self, set: &[IpPrefix]) -> bool {
        Self::of(set) == Some(self)
    }

    #[inline(always)]
    pub const fn has_v4(&self) -> bool {
        self.families & 1 != 0
    }
    #[inline(always)]
    pub const fn has_v6(&self) -> bool {
        self.families & 2 != 0
    }
}

/// What the rows of a session are made into.
pub(crate) enum Matcher {
    /// One block.
    Block(Form, Vec<Row>),
    /// The rows of each section, in the order of the ranking.
    Sections(Vec<Vec<Row>>, Ranking),
}

/// Compiled rules.
pub(crate) struct Compiled {
    pub gates: Vec<Gate>,
    /// The gate of each key.
    pub gate_of: Vec<u8>,
    /// The gate of packets that were found by a framed route, or [`Gate::NO_GATE`].
    pub framed_gate: u8,
    pub own_ue: OwnUe,
    pub matcher: Matcher,
}

/// A row, and by which keys packets come to it.
struct Piece {
    row: Row,
    keys: u32,
    arrival: u32,
}

impl Compiled {
    /// Compiles the rules of a session with those keys, and framed routes or not.
    pub fn of(keys: &[SessionKey], has_framed: bool, rules: &[PdrMatch]) -> Result<Self, PutError> {
        PutError::limit("keys in a session", MAX_KEYS, keys.len())?;
        PutError::limit("rules in a session", MAX_RULES, rules.len())?;
        let own = own_set(keys, has_framed, rules);
        let mut pieces = Vec::with_capacity(rules.len().max(4));
        for (number, rule) in rules.iter().enumerate() {
            pieces_of(rule, number as RuleIndex, keys, has_framed, own, &mut pieces).map_err(too_many)?;
        }
        // A rule that no packet can match has no rows, but names tunnels all the same.
        let named = rules
            .iter()
            .map(|rule| keys_of(rule, keys, has_framed))
            .map(|of| of.free | of.checked);
        let classes = classes(keys, has_framed, pieces.iter().map(|piece| piece.keys).chain(named));
        let gate_number = |position: u32| {
            let gate = classes.iter().position(|class| class >> position & 1 == 1);
            gate.map_or(Gate::NO_GATE, |gate| gate as u8)
        };
        let gate_of = (0..keys.len() as u32).map(gate_number).collect();
        // The rules of a block's rows are told in 16 bits, and its rows know nothing of headers.
        let fits_block = |piece: &Piece| piece.row.rule <= u16::MAX.into() && !piece.row.asks_for_header();
        let (gates, matcher) = if pieces.len() <= order::MOST && pieces.iter().all(fits_block) {
            block(&classes, pieces)
        } else {
            sections(&classes, pieces, rules).map_err(too_many)?
        };
        Ok(Self {
            gates,
            gate_of,
            framed_gate: gate_number(FRAMED),
            own_ue: own.and_then(OwnUe::of).unwrap_or_default(),
            matcher,
        })
    }
}

fn too_many(TooManyRows: TooManyRows) -> PutError {
    PutError::TooMany {
        what: "combinations of filters, port ranges and UE addresses in the rules of a session",
        limit: MAX_ROWS,
        found: MAX_ROWS + 1,
    }
}

/// The first set of UE addresses that has to be checked and is plain.
fn own_set<'r>(keys: &[SessionKey], has_framed: bool, rules: &'r [PdrMatch]) -> Option<&'r [IpPrefix]> {
    let is_checked = |rule: &&PdrMatch| keys_of(rule, keys, has_framed).checked != 0 && OwnUe::of(&rule.ue).is_some();
    rules.iter().find(is_checked).map(|rule| &*rule.ue)
}

/// By which keys packets come to a rule.
pub(crate) struct RuleKeys {
    /// Whatever the UE's end is: no address is asked for, or the key implies it.
    pub free: u32,
    /// If the UE's end is one of the rule's.
    pub checked: u32,
}

/// By which keys packets come to `rule`, bits by position.
pub(crate) fn keys_of(rule: &PdrMatch, keys: &[SessionKey], has_framed: bool) -> RuleKeys {
    let mut of = RuleKeys { free: 0, checked: 0 };
    for (position, key) in keys.iter().enumerate() {
        match UeCheck::of(rule, *key) {
            UeCheck::Implied => of.free |= 1 << position,
            UeCheck::Needed => of.checked |= 1 << position,
            UeCheck::Hopeless => {}
        }
    }
    if rule.tunnel.is_empty() && has_framed {
        *(if rule.ue.is_empty() {
            &mut of.free
        } else {
            &mut of.checked
        }) |= 1 << FRAMED;
    }
    of
}

/// The keys that lead to a gate, bits by position.
pub(crate) fn keys_of_gate(gate: u8, gate_of: &[u8], framed_gate: u8) -> u32 {
    let bit = |(position, of): (usize, &u8)| u32::from(*of == gate) << position;
    gate_of.iter().enumerate().map(bit).sum::<u32>() | u32::from(framed_gate == gate) << FRAMED
}

fn pieces_of(
    rule: &PdrMatch,
    number: RuleIndex,
    keys: &[SessionKey],
    has_framed: bool,
    own: Option<&[IpPrefix]>,
    pieces: &mut Vec<Piece>,
) -> Result<(), TooManyRows> {
    let RuleKeys { free, checked } = keys_of(rule, keys, has_framed);
    let arrival = arrival(rule);
    let mut rows = Vec::with_capacity(1);
    Row::of(rule, number, &mut rows)?;
    let mut add = |row: Row, keys: u32| pieces.push(Piece { row, keys, arrival });
    for row in &rows {
        if free != 0 {
            add(*row, free);
        }
        if checked == 0 {
            continue;
        }
        if own == Some(&*rule.ue) {
            let mut row = *row;
            row.require_own_ue();
            add(row, checked);
            continue;
        }
        for prefix in &rule.ue {
            let mut row = *row;
            if row.require_prefix(word::UE, *prefix) {
                add(row, checked);
            }
        }
    }
    if pieces.len() > MAX_ROWS {
        Err(TooManyRows)
    } else {
        Ok(())
    }
}

/// How packets of a rule arrive.
pub(crate) fn arrival(rule: &PdrMatch) -> u32 {
    1 << (rule.source_interface as u32 + 16) | u32::from(rule.network_instance.0)
}

/// Keys that are alike to all rules, as sets of bits; tunnels are never like UE addresses.
fn classes(keys: &[SessionKey], has_framed: bool, accepted: impl Iterator<Item = u32>) -> Vec<u32> {
    let bits = |wanted: bool| {
        let bit = |(position, key): (usize, &SessionKey)| u32::from(key.is_tunnel() == wanted) << position;
        keys.iter().enumerate().map(bit).sum::<u32>()
    };
    let mut classes = vec![bits(true), bits(false) | u32::from(has_framed) << FRAMED];
    for accepted in accepted {
        for at in 0..classes.len() {
            let (within, without) = (classes[at] & accepted, classes[at] & !accepted);
            if within != 0 && without != 0 {
                classes[at] = within;
                classes.push(without);
            }
        }
    }
    classes.retain(|class| *class != 0);
    // In the order of the keys: the same sessions get the same gates.
    classes.sort_by_key(|class| class.trailing_zeros());
    classes
}

/// What all of a class's rows say about the arrival, or zero.
fn common_arrival<'p>(mut pieces: impl Iterator<Item = &'p Piece>) -> u32 {
    let Some(first) = pieces.next() else { return 0 };
    if pieces.all(|piece| piece.arrival == first.arrival) {
        first.arrival
    } else {
        0
    }
}

fn block(classes: &[u32], mut pieces: Vec<Piece>) -> (Vec<Gate>, Matcher) {
    let arrivals: Vec<u32> = classes
        .iter()
        .map(|class| common_arrival(pieces.iter().filter(|piece| piece.keys & class != 0)))
        .collect();
    let gate = |(class, arrival): (&u32, &u32)| {
        let accepted = |(row, piece): (usize, &Piece)| u16::from(piece.keys & class != 0) << row;
        Gate {
            arrival: *arrival,
            accept: pieces.iter().enumerate().map(accepted).sum(),
        }
    };
    let gates: Vec<Gate> = classes.iter().zip(&arrivals).map(gate).collect();
    if gates.iter().any(|gate| gate.arrival == 0 && gate.accept != 0) {
        for piece in &mut pieces {
            piece.row.require_arrival(piece.arrival);
        }
    }
    let rows: Vec<Row> = pieces.into_iter().map(|piece| piece.row).collect();
    (gates, Matcher::Block(Form::of(&rows), rows))
}

fn sections(classes: &[u32], mut pieces: Vec<Piece>, rules: &[PdrMatch]) -> Result<(Vec<Gate>, Matcher), TooManyRows> {
    let ranking = Ranking::of(rules.iter().map(|rule| rule.precedence));
    pieces.sort_by_key(|piece| ranking.ranks[piece.row.rule as usize]);
    let (mut gates, mut sections, mut total) = (Vec::new(), Vec::new(), 0);
    for class in classes {
        let of_class = || pieces.iter().filter(|piece| piece.keys & class != 0);
        let arrival = common_arrival(of_class());
        let row = |piece: &Piece| {
            let mut row = piece.row;
            if arrival == 0 {
                row.require_arrival(piece.arrival);
            }
            row
        };
        let rows: Vec<Row> = of_class().map(row).collect();
        total += rows.len();
        if total > MAX_ROWS {
            return Err(TooManyRows);
        }
        gates.push(Gate {
            arrival,
            accept: sections.len() as u16,
        });
        sections.push(rows);
    }
    Ok((gates, Matcher::Sections(sections, ranking)))
}

/// Whether the UE's address is left to check on packets that came by a key.
enum UeCheck {
    /// Every packet of that key passes.
    Implied,
    Needed,
    /// No packet of that key passes.
    Hopeless,
}

impl UeCheck {
    fn of(rule: &PdrMatch, key: SessionKey) -> Self {
        let accepted = if rule.tunnel.is_empty() {
            !key.is_tunnel()
        } else {
            rule.tunnel.contains(&key)
        };
        let holds = |p: &IpPrefix| match (key, p) {
            (SessionKey::UeV4 { addr, .. }, IpPrefix::V4(p)) => p.contains(addr),
            (SessionKey::UeV6 { prefix64, .. }, IpPrefix::V6(p)) => {
                p.len() <= 64 && p.contains(((prefix64 as u128) << 64).into())
            }
            _ => false,
        };
        let touches = |p: &IpPrefix| match (key, p) {
            (SessionKey::FTeid { .. }, _) => true,
            (SessionKey::UeV6 { prefix64, .. }, IpPrefix::V6(p)) => (p.addr().to_bits() >> 64) as u64 == prefix64,
            _ => false,
        };
        match () {
            () if !accepted => Self::Hopeless,
            () if rule.ue.is_empty() || rule.ue.iter().any(holds) => Self::Implied,
            () if rule.ue.iter().any(touches) => Self::Needed,
            () => Self::Hopeless,
        }
    }
}
