//! Rows: a rule as conjunctions of word comparisons, the form that packets are compared with.
//!
//! A rule is an OR of SDF filters, a filter has ORs of port ranges; a row is one combination of them, hence a pure
//! AND. For each of the sixteen words of [`PacketFields`](crate::PacketFields) it has two words `a` and `b`:
//! * a port `p` is in the range from `a` of `b` more if `p - a <= b` (unsigned, wrapping);
//! * any other word `p` agrees with `a` in the bits of `b` if `(p ^ a) & b == 0`.
//!
//! So a range of ports is one comparison, whatever its bounds, and a set of QoS flows is a word of forbidden bits.
//!
//! What most rows ask for (a remote prefix of up to 32 bits, a protocol, what kind of packet it is, one range of remote
//! ports) fits three words, the *compact* form. Words beyond that are *generic* columns, which exist only where a row of
//! the set asks for them. What a row asks of an Ethernet header is a [`HeaderRow`] beside it.

use crate::ethernet::HeaderRow;
use crate::packet::{APPLICATION_SHIFT, LABEL_BITS, octets, word};
use crate::{PacketFields, PdrMatch};
use upf_model::{AddressMatch, IpPrefix, PortRange, SdfFilter};

/// Most rows that the rules of a session may come to (some have lists of ports).
pub(crate) const MAX_ROWS: usize = 524_288;

/// Columns of words, one bit for each. Bit 0 stands for the compact form.
pub(crate) const COMPACT: u16 = 1;

/// One conjunction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub a: [u32; word::COUNT],
    pub b: [u32; word::COUNT],
    pub header: HeaderRow,
    /// Index of its rule as put.
    pub rule: u32,
}

/// More rows than [`MAX_ROWS`].
pub(crate) struct TooManyRows;

impl Row {
    /// Matches everything.
    pub const fn any(rule: u32) -> Self {
        let mut b = [0; word::COUNT];
        b[word::REMOTE_PORT] = u32::MAX;
        b[word::UE_PORT] = u32::MAX;
        Self {
            a: [0; word::COUNT],
            b,
            header: HeaderRow::ANY,
            rule,
        }
    }

    /// Appends the rows of one rule, but for what it says about the packet's arrival and the UE's address.
    pub fn of(rule: &PdrMatch, index: u32, rows: &mut Vec<Self>) -> Result<(), TooManyRows> {
        let mut row = Self::any(index);
        if rule.qfis != 0 {
            row.b[word::QFI_LOW] = !(rule.qfis as u32);
            row.b[word::QFI_HIGH] = !((rule.qfis >> 32) as u32);
            row.a[word::OCTETS] |= octets::QFI;
            row.b[word::OCTETS] |= octets::QFI;
        }
        if let Some(application) = rule.application {
            row.a[word::FLOW_LABEL] = u32::from(application.number()) << APPLICATION_SHIFT;
            row.b[word::FLOW_LABEL] = !LABEL_BITS;
        }
        if rule.ethernet.is_empty() {
            return row.filters(&rule.sdf, rows);
        }
        // A frame's own SDF filters narrow those of the rule.
        let mut of_sdf = Vec::new();
        row.filters(&rule.sdf, &mut of_sdf)?;
        for row in of_sdf {
            for filter in &rule.ethernet {
                for header in HeaderRow::of(filter) {
                    Self { header, ..row }.filters(&filter.sdf, rows)?;
                }
            }
        }
        Ok(())
    }

    /// Appends what is left of `self` under one of the filters, if there are any.
    pub fn filters(self, filters: &[SdfFilter], rows: &mut Vec<Self>) -> Result<(), TooManyRows> {
        if filters.is_empty() {
            rows.push(self);
        }
        for filter in filters {
            self.filter(filter, rows)?;
        }
        if rows.len() > MAX_ROWS {
            Err(TooManyRows)
        } else {
            Ok(())
        }
    }

    /// Appends what is left of `self` under one more filter; nothing if no packet can match.
    fn filter(mut self, filter: &SdfFilter, rows: &mut Vec<Self>) -> Result<(), TooManyRows> {
        if !self.require_fields(filter) {
            return Ok(());
        }
        let Some(flow) = &filter.flow else {
            rows.push(self);
            return Ok(());
        };
        if let Some(protocol) = flow.protocol
            && !self.require(word::OCTETS, u32::from(protocol), octets::PROTOCOL)
        {
            return Ok(());
        }
        let ends = [(word::REMOTE, flow.remote), (word::UE, flow.ue)];
        for (at, address) in ends {
            if let AddressMatch::Prefix(prefix) = address
                && !self.require_prefix(at, prefix)
            {
                return Ok(());
            }
        }
        for remote in alternatives(&flow.remote_ports) {
            for ue in alternatives(&flow.ue_ports) {
                if rows.len() >= MAX_ROWS {
                    return Err(TooManyRows);
                }
                let mut row = self;
                if row.require_port(word::REMOTE_PORT, remote) && row.require_port(word::UE_PORT, ue) {
                    rows.push(row);
                }
            }
        }
        Ok(())
    }

    /// What a filter asks besides a flow; `false` if no packet can match.
    fn require_fields(&mut self, filter: &SdfFilter) -> bool {
        let mut is_possible = true;
        if let Some(tos) = filter.tos {
            let [value, mask] = [tos.value, tos.mask].map(|octet| u32::from(octet) << octets::TOS_SHIFT);
            is_possible &= tos.value & !tos.mask == 0 && self.require(word::OCTETS, value, mask);
        }
        if let Some(spi) = filter.spi {
            is_possible &= self.require(word::SPI, spi, u32::MAX);
            is_possible &= self.require(word::OCTETS, octets::SPI, octets::SPI);
        }
        if let Some(label) = filter.flow_label {
            is_possible &= label <= LABEL_BITS && self.require(word::FLOW_LABEL, label & LABEL_BITS, LABEL_BITS);
            is_possible &= self.require_family(true);
        }
        is_possible
    }

    /// `false` if that contradicts what is required already.
    const fn require(&mut self, word: usize, value: u32, mask: u32) -> bool {
        let contradicts = (self.a[word] ^ value) & self.b[word] & mask != 0;
        self.a[word] |= value;
        self.b[word] |= mask;
        !contradicts
    }

    /// `false` if the other family is required already.
    const fn require_family(&mut self, v6: bool) -> bool {
        self.require(word::OCTETS, if v6 { octets::V6 } else { 0 }, octets::V6)
    }

    /// The address at those words lies in `prefix`; `false` if that contradicts what is required already.
    pub fn require_prefix(&mut self, at: usize, prefix: IpPrefix) -> bool {
        let (value, mask, v6) = match prefix {
            IpPrefix::V4(p) => (u128::from(p.addr().to_bits()) << 96, u128::from(p.mask()) << 96, false),
            IpPrefix::V6(p) => (p.addr().to_bits(), p.mask(), true),
        };
        for i in 0..4 {
            let shift = 96 - 32 * i;
            if !self.require(at + i, (value >> shift) as u32, (mask >> shift) as u32) {
                return false;
            }
        }
        self.require_family(v6)
    }

    /// The UE's end is one of the session's plain UE addresses: see [`octets::OWN_UE`].
    pub fn require_own_ue(&mut self) {
        self.a[word::OCTETS] |= octets::OWN_UE;
        self.b[word::OCTETS] |= octets::OWN_UE;
    }

    /// It arrived from there.
    pub fn require_arrival(&mut self, arrival: u32) {
        self.a[word::ARRIVAL] = arrival;
        self.b[word::ARRIVAL] = arrival | 0xffff;
    }

    /// `false` if no port is left.
    fn require_port(&mut self, at: usize, range: Option<PortRange>) -> bool {
        let Some(PortRange { low, high }) = range else {
            return true;
        };
        let (mut low, mut high) = (u32::from(low), u32::from(high));
        if self.b[at] != u32::MAX {
            (low, high) = (low.max(self.a[at]), high.min(self.a[at] + self.b[at]));
        }
        (self.a[at], self.b[at]) = (low, high.wrapping_sub(low));
        low <= high
    }

    /// The columns that it needs.
    pub fn columns(&self) -> u16 {
        let any = Self::any(self.rule);
        let differs = |w: usize| self.b[w] != any.b[w];
        let is_generic = |w: &usize| match *w {
            word::REMOTE | word::REMOTE_PORT => false,
            word::OCTETS => self.b[word::OCTETS] & octets::TOS != 0,
            w => differs(w),
        };
        let generic = (0..word::COUNT).filter(is_generic).fold(0, |set, w| set | 1 << w);
        let is_compact =
            differs(word::REMOTE) || differs(word::REMOTE_PORT) || self.b[word::OCTETS] & !octets::TOS != 0;
        generic | if is_compact { COMPACT } else { 0 }
    }

    /// Whether it asks anything of an Ethernet header.
    pub fn asks_for_header(&self) -> bool {
        self.header != HeaderRow::ANY
    }

    /// The words that it looks at, one bit each.
    pub fn looked_at(&self) -> u16 {
        let any = Self::any(self.rule);
        (0..word::COUNT)
            .filter(|&w| self.b[w] != any.b[w])
            .fold(0, |set, w| set | 1 << w)
    }

    /// Remote word, kind and remote ports in three words.
    pub fn compact(&self) -> Compact {
        let (a, b) = (&self.a, &self.b);
        let length = b[word::REMOTE].count_ones();
        let ports = match b[word::REMOTE_PORT] {
            u32::MAX => ANY_PORTS,
            more => a[word::REMOTE_PORT] | (a[word::REMOTE_PORT] + more) << 16,
        };
        Compact {
            remote: a[word::REMOTE],
            kind: kind(a[word::OCTETS]) | kind(b[word::OCTETS]) << 12 | (32 - length) << 24,
            ports,
        }
    }

    /// The two words of a generic column.
    pub const fn generic(&self, w: usize) -> [u32; 2] {
        let bits = if w == word::OCTETS { octets::TOS } else { u32::MAX };
        [self.a[w] & bits, self.b[w] & bits]
    }
}

/// The twelve bits of [`word::OCTETS`] that say of which kind a packet is: protocol and what is known.
#[inline(always)]
pub(crate) const fn kind(octets: u32) -> u32 {
    octets & octets::PROTOCOL | octets >> 8 & 0xf00
}

/// Ports from 1 to 0: a difference of 2^32 - 1, which every number is within.
const ANY_PORTS: u32 = 1;

/// The compact form of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Compact {
    /// Leading word of the remote address.
    pub remote: u32,
    /// Bits 0 to 11: [`kind`]; 12 to 23: which of them are looked at; 24 to 31: by how much a word is to be shifted to
    /// the left to be the mask of `remote`.
    pub kind: u32,
    /// First remote port in the low half, last one in the high half.
    pub ports: u32,
}

impl Compact {
    /// That of a row that asks for nothing.
    pub const OPEN: Self = Self {
        remote: 0,
        kind: u32::BITS << 24,
        ports: ANY_PORTS,
    };

    /// Whether it matches every packet.
    pub const fn is_open(&self) -> bool {
        self.kind >> 12 == Self::OPEN.kind >> 12 && self.ports == ANY_PORTS
    }

    /// Whether the row is of IPv6 packets only.
    pub const fn is_v6(&self) -> bool {
        self.kind & kind(octets::V6) != 0
    }

    /// Whether a packet of that kind agrees. The definition of what vector instructions do to many rows.
    #[inline(always)]
    pub fn agrees(&self, packet: &PacketFields, kind: u32) -> bool {
        let mask = u32::MAX.checked_shl(self.kind >> 24).unwrap_or(0);
        let (low, high) = (self.ports & 0xffff, self.ports >> 16);
        let remote = (packet.0[word::REMOTE] ^ self.remote) & mask;
        let kind = (kind ^ self.kind) & (self.kind >> 12) & 0xfff;
        let port = packet.0[word::REMOTE_PORT].wrapping_sub(low);
        (remote | kind == 0) & (port <= high.wrapping_sub(low))
    }
}

/// Whether the packet agrees with a generic column.
#[inline(always)]
pub(crate) fn agrees(packet: &PacketFields, w: usize, [a, b]: [u32; 2]) -> bool {
    let p = packet.0[w];
    if word::RANGES >> w & 1 == 1 {
        p.wrapping_sub(a) <= b
    } else {
        (p ^ a) & b == 0
    }
}

/// The ranges of a list; `None` alone for a list that asks for no port.
fn alternatives(ranges: &[PortRange]) -> impl Iterator<Item = Option<PortRange>> {
    let wanted = ranges.iter().filter(|r| r.low <= r.high).copied().map(Some);
    wanted.chain(ranges.is_empty().then_some(None))
}
