//! Rows: a rule as conjunctions of word comparisons, the form that packets are compared with.
//!
//! A rule is an OR of SDF filters, a filter has ORs of port ranges; a row is one combination of them, hence a pure
//! AND. For each of the sixteen words of [`PacketFields`](crate::PacketFields) it has two words `a` and `b`:
//! * a port `p` is in the range from `a` of `b` more if `p - a <= b` (unsigned, wrapping);
//! * any other word `p` agrees with `a` in the bits of `b` if `(p ^ a) & b == 0`.
//!
//! So a range of ports is one comparison, whatever its bounds, and a set of QoS flows is a word of forbidden bits.

use crate::packet::{octets, word};
use crate::shape::Shape;
use upf_model::{AddressMatch, IpPrefix, PortRange, SdfFilter};

/// Most rows that the rules of a session may come to (16 bits' worth of rules, some with lists of ports).
pub(crate) const MAX_ROWS: usize = 131_072;

/// Place of a row among those of its session: the rank of its rule above its index. The lowest place wins, and
/// [`Place::NONE`] is no row's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Place(pub u32);

impl Place {
    /// After every row.
    pub const NONE: Self = Self(u32::MAX);

    pub fn new(rank: usize, rule: u16) -> Self {
        Self((rank as u32) << 16 | u32::from(rule))
    }

    /// Index of the rule as put.
    #[inline(always)]
    pub const fn rule(self) -> u16 {
        self.0 as u16
    }
}

/// One conjunction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub a: [u32; word::COUNT],
    pub b: [u32; word::COUNT],
    pub place: Place,
}

/// More rows than [`MAX_ROWS`].
pub(crate) struct TooManyRows;

impl Row {
    /// Matches everything.
    const fn any(place: Place) -> Self {
        let mut b = [0; word::COUNT];
        b[word::REMOTE_PORT] = u32::MAX;
        b[word::UE_PORT] = u32::MAX;
        Self {
            a: [0; word::COUNT],
            b,
            place,
        }
    }

    /// Appends the rows of one rule.
    pub fn of(shape: &Shape<'_>, place: Place, rows: &mut Vec<Self>) -> Result<(), TooManyRows> {
        let mut row = Self::any(place);
        if shape.qfis != 0 {
            row.b[word::QFI_LOW] = !(shape.qfis as u32);
            row.b[word::QFI_HIGH] = !((shape.qfis >> 32) as u32);
            row.require(word::OCTETS, octets::QFI, octets::QFI);
        }
        if shape.sdf.is_empty() {
            rows.push(row);
        }
        for filter in &*shape.sdf {
            row.filter(filter, rows)?;
        }
        if rows.len() > MAX_ROWS {
            Err(TooManyRows)
        } else {
            Ok(())
        }
    }

    /// Appends what is left of `self` under one more filter; nothing if no packet can match.
    fn filter(mut self, filter: &SdfFilter, rows: &mut Vec<Self>) -> Result<(), TooManyRows> {
        if let Some(tos) = filter.tos {
            if tos.value & !tos.mask != 0 {
                return Ok(());
            }
            let shift = octets::TOS_SHIFT;
            self.require(
                word::OCTETS,
                u32::from(tos.value) << shift,
                u32::from(tos.mask) << shift,
            );
        }
        if let Some(spi) = filter.spi {
            self.require(word::SPI, spi, u32::MAX);
            self.require(word::OCTETS, octets::SPI, octets::SPI);
        }
        if let Some(label) = filter.flow_label {
            self.require(word::FLOW_LABEL, label, u32::MAX);
            if !self.require_family(true) {
                return Ok(());
            }
        }
        let Some(flow) = &filter.flow else {
            rows.push(self);
            return Ok(());
        };
        if let Some(protocol) = flow.protocol {
            self.require(word::OCTETS, u32::from(protocol), octets::PROTOCOL);
        }
        if !(self.require_address(word::REMOTE, flow.remote) && self.require_address(word::UE, flow.ue)) {
            return Ok(());
        }
        for remote in alternatives(&flow.remote_ports) {
            for ue in alternatives(&flow.ue_ports) {
                if rows.len() >= MAX_ROWS {
                    return Err(TooManyRows);
                }
                let mut row = self;
                row.require_port(word::REMOTE_PORT, remote);
                row.require_port(word::UE_PORT, ue);
                rows.push(row);
            }
        }
        Ok(())
    }

    fn require(&mut self, word: usize, value: u32, mask: u32) {
        self.a[word] |= value;
        self.b[word] |= mask;
    }

    /// `false` if the other family is required already.
    fn require_family(&mut self, v6: bool) -> bool {
        let known = self.b[word::OCTETS] & octets::V6 != 0;
        if known && (self.a[word::OCTETS] & octets::V6 != 0) != v6 {
            return false;
        }
        self.require(word::OCTETS, if v6 { octets::V6 } else { 0 }, octets::V6);
        true
    }

    fn require_address(&mut self, at: usize, address: AddressMatch) -> bool {
        let (value, mask, v6) = match address {
            AddressMatch::Any | AddressMatch::Assigned => return true,
            AddressMatch::Prefix(IpPrefix::V4(p)) => {
                (u128::from(p.addr().to_bits()) << 96, u128::from(p.mask()) << 96, false)
            }
            AddressMatch::Prefix(IpPrefix::V6(p)) => (p.addr().to_bits(), p.mask(), true),
        };
        for i in 0..4 {
            let shift = 96 - 32 * i;
            self.require(at + i, (value >> shift) as u32, (mask >> shift) as u32);
        }
        self.require_family(v6)
    }

    fn require_port(&mut self, at: usize, range: Option<PortRange>) {
        if let Some(PortRange { low, high }) = range {
            self.a[at] = u32::from(low);
            self.b[at] = u32::from(high.saturating_sub(low));
        }
    }

    /// The words that it looks at, one bit each.
    pub fn columns(&self) -> u16 {
        let any = Self::any(self.place);
        (0..word::COUNT)
            .filter(|&w| self.b[w] != any.b[w])
            .fold(0, |set, w| set | 1 << w)
    }
}

/// The ranges of a list; `None` alone for a list that asks for no port.
fn alternatives(ranges: &[PortRange]) -> impl Iterator<Item = Option<PortRange>> {
    let wanted = ranges.iter().filter(|r| r.low <= r.high).copied().map(Some);
    wanted.chain(ranges.is_empty().then_some(None))
}
