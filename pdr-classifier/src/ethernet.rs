//! Ethernet PDU sessions: the Ethernet packet filters of a PDI (TS 29.244 table 7.5.2.2-3), and what they look at of a
//! frame.
//!
//! Hardly any session has them, so they cost the others nothing: [`PacketFields`](crate::PacketFields) says nothing of a
//! frame's header, which is given beside it ([`crate::Found::classify_frame`]), and a set with such a filter is made into
//! [sections](crate::section), whatever its size, whose rows have a [`HeaderRow`] more. Tags are held as they are on the
//! wire: PCP in bits 13 to 15, DEI in bit 12, VID in bits 0 to 11.

use serde::{Deserialize, Serialize};
use upf_model::SdfFilter;

/// The MAC addresses from `low` to `high`, both included, each in the low 48 bits: one address, or a range with an
/// upper address (TS 29.244 8.2.93).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MacRange {
    /// The first one.
    pub low: u64,
    /// The last one.
    pub high: u64,
}

impl MacRange {
    /// One address.
    pub const fn exact(address: [u8; 6]) -> Self {
        Self::between(address, address)
    }

    /// From one address to another, in the order of their numbers.
    pub const fn between(low: [u8; 6], high: [u8; 6]) -> Self {
        Self {
            low: number(low),
            high: number(high),
        }
    }

    const fn contains(self, address: u64) -> bool {
        self.low <= address && address <= self.high
    }
}

const fn number([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// One MAC address IE (TS 29.244 8.2.93): its parts are AND, an absent part matches everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct MacMatch {
    /// The frame's source address.
    pub source: Option<MacRange>,
    /// Its destination address.
    pub destination: Option<MacRange>,
}

impl MacMatch {
    /// The same for frames of the other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

/// A C-TAG or S-TAG IE (TS 29.244 8.2.94, 8.2.95): the frame has the tag, and its parts are these. An absent part matches
/// everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TagMatch {
    /// Priority code point, three bits.
    pub pcp: Option<u8>,
    /// Drop eligible indicator.
    pub dei: Option<bool>,
    /// VLAN identifier, twelve bits.
    pub vid: Option<u16>,
}

impl TagMatch {
    /// Value and mask of the 16 bits of a tag; `None` if no tag can have such parts.
    fn bits(self) -> Option<(u16, u16)> {
        let fits = self.pcp.is_none_or(|pcp| pcp < 8) && self.vid.is_none_or(|vid| vid < 1 << 12);
        let pcp = self.pcp.map_or((0, 0), |pcp| (u16::from(pcp) << 13, 7 << 13));
        let dei = self.dei.map_or((0, 0), |dei| (u16::from(dei) << 12, 1 << 12));
        let vid = self.vid.map_or((0, 0), |vid| (vid, 0xfff));
        fits.then_some((pcp.0 | dei.0 | vid.0, pcp.1 | dei.1 | vid.1))
    }

    fn matches(self, tag: Option<u16>) -> bool {
        let (Some(tag), Some((value, mask))) = (tag, self.bits()) else {
            return false;
        };
        (tag ^ value) & mask == 0
    }
}

/// One Ethernet packet filter (TS 29.244 table 7.5.2.2-3): its parts are AND, several values of one part are OR, an
/// absent part matches everything that is a frame.
///
/// A bidirectional filter (8.2.99, 5.13.4) is signalled once and named by its id in the PDR of the other direction: who
/// resolves the name puts [`Self::reversed`] there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct EthernetFilter {
    /// One of these.
    pub mac: Vec<MacMatch>,
    /// What the frame carries (8.2.96), behind its tags.
    pub ethertype: Option<u16>,
    /// Its customer tag.
    pub c_tag: Option<TagMatch>,
    /// Its service tag.
    pub s_tag: Option<TagMatch>,
    /// It carries an IP packet that one of these matches.
    pub sdf: Vec<SdfFilter>,
}

impl EthernetFilter {
    /// What a bidirectional filter is for frames of the other direction: source and destination change places. (The ends
    /// of an SDF filter are named by what they are, and stay.)
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            mac: self.mac.iter().map(|mac| mac.reversed()).collect(),
            ..self.clone()
        }
    }
}

/// What Ethernet packet filters can ask of one frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EthernetFields {
    pub(crate) destination: u64,
    pub(crate) source: u64,
    /// See [`header`].
    pub(crate) rest: u64,
}

/// Bits of [`EthernetFields::rest`].
pub(crate) mod header {
    /// Ethertype, bits 0 to 15.
    pub const ETHERTYPE: u64 = 0xffff;
    /// Where the customer tag is.
    pub const C_TAG_SHIFT: u32 = 16;
    /// Where the service tag is.
    pub const S_TAG_SHIFT: u32 = 32;
    /// There is a frame at all.
    pub const IS_FRAME: u64 = 1 << 48;
    /// It has a customer tag.
    pub const C_TAG: u64 = 1 << 49;
    /// It has a service tag.
    pub const S_TAG: u64 = 1 << 50;
    /// It carries an IP packet.
    pub const IP: u64 = 1 << 51;
}

/// The Ethertypes of IPv4 and IPv6.
const IP_ETHERTYPES: [u16; 2] = [0x0800, 0x86dd];

impl EthernetFields {
    /// A frame from `source` to `destination`, and what it carries behind its tags. If that is no IP packet, it goes
    /// together with [`PacketFields::none`](crate::PacketFields::none).
    pub const fn new(destination: [u8; 6], source: [u8; 6], ethertype: u16) -> Self {
        let is_ip = ethertype == IP_ETHERTYPES[0] || ethertype == IP_ETHERTYPES[1];
        Self {
            destination: number(destination),
            source: number(source),
            rest: ethertype as u64 | header::IS_FRAME | if is_ip { header::IP } else { 0 },
        }
    }

    /// Its customer tag, 16 bits as on the wire.
    #[must_use]
    pub const fn with_c_tag(mut self, tag: u16) -> Self {
        self.rest |= header::C_TAG | (tag as u64) << header::C_TAG_SHIFT;
        self
    }

    /// Its service tag, 16 bits as on the wire.
    #[must_use]
    pub const fn with_s_tag(mut self, tag: u16) -> Self {
        self.rest |= header::S_TAG | (tag as u64) << header::S_TAG_SHIFT;
        self
    }

    /// What it carries.
    pub const fn ethertype(&self) -> u16 {
        self.rest as u16
    }
    /// Its customer tag, if it has one.
    pub const fn c_tag(&self) -> Option<u16> {
        if self.rest & header::C_TAG == 0 {
            None
        } else {
            Some((self.rest >> header::C_TAG_SHIFT) as u16)
        }
    }
    /// Its service tag, if it has one.
    pub const fn s_tag(&self) -> Option<u16> {
        if self.rest & header::S_TAG == 0 {
            None
        } else {
            Some((self.rest >> header::S_TAG_SHIFT) as u16)
        }
    }
    /// Whether it carries an IP packet.
    pub const fn carries_ip(&self) -> bool {
        self.rest & header::IP != 0
    }
}

impl std::fmt::Debug for EthernetFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EthernetFields")
            .field("destination", &format_args!("{:012x}", self.destination))
            .field("source", &format_args!("{:012x}", self.source))
            .field("ethertype", &format_args!("{:#06x}", self.ethertype()))
            .field("c_tag", &self.c_tag())
            .field("s_tag", &self.s_tag())
            .finish()
    }
}

/// The part of an Ethernet filter that did not match: the first one in the order of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EthernetMismatch {
    /// The packet is no frame.
    NoFrame,
    /// None of the filter's MAC addresses.
    MacAddress,
    /// Another Ethertype.
    Ethertype,
    /// Another customer tag, or none.
    CTag,
    /// Another service tag, or none.
    STag,
    /// It carries no IP packet, or none of the filter's SDF filters matches it.
    Sdf,
}

/// Why the header does not match, `None` if it does: the meaning of a filter but for its SDF filters.
pub(crate) fn header_mismatch(filter: &EthernetFilter, frame: Option<&EthernetFields>) -> Option<EthernetMismatch> {
    let Some(frame) = frame else {
        return Some(EthernetMismatch::NoFrame);
    };
    let is_in = |range: Option<MacRange>, address: u64| range.is_none_or(|range| range.contains(address));
    let fits = |mac: &MacMatch| is_in(mac.source, frame.source) && is_in(mac.destination, frame.destination);
    if !filter.mac.is_empty() && !filter.mac.iter().any(fits) {
        return Some(EthernetMismatch::MacAddress);
    }
    if filter.ethertype.is_some_and(|ethertype| ethertype != frame.ethertype()) {
        return Some(EthernetMismatch::Ethertype);
    }
    if filter.c_tag.is_some_and(|tag| !tag.matches(frame.c_tag())) {
        return Some(EthernetMismatch::CTag);
    }
    if filter.s_tag.is_some_and(|tag| !tag.matches(frame.s_tag())) {
        return Some(EthernetMismatch::STag);
    }
    None
}

/// What a row asks of a frame's header: two ranges, from the first number the second more, and a value under a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderRow {
    destination: [u64; 2],
    source: [u64; 2],
    rest: [u64; 2],
}

/// The range of all 48-bit addresses.
const EVERY: [u64; 2] = [0, u64::MAX];

impl HeaderRow {
    /// Matches everything, packets without a frame too.
    pub const ANY: Self = Self {
        destination: EVERY,
        source: EVERY,
        rest: [0, 0],
    };

    /// The rows of a filter, but for its SDF filters.
    pub fn of(filter: &EthernetFilter) -> Vec<Self> {
        let mut row = Self::ANY;
        row.require(header::IS_FRAME, header::IS_FRAME);
        if !filter.sdf.is_empty() {
            row.require(header::IP, header::IP);
        }
        if let Some(ethertype) = filter.ethertype {
            row.require(ethertype.into(), header::ETHERTYPE);
        }
        let tags = [
            (filter.c_tag, header::C_TAG, header::C_TAG_SHIFT),
            (filter.s_tag, header::S_TAG, header::S_TAG_SHIFT),
        ];
        for (tag, is_there, shift) in tags {
            let Some(tag) = tag else { continue };
            let Some((value, mask)) = tag.bits() else {
                return Vec::new();
            };
            row.require(
                u64::from(value) << shift | is_there,
                u64::from(mask) << shift | is_there,
            );
        }
        if filter.mac.is_empty() {
            return vec![row];
        }
        let possible = |range: Option<MacRange>| range.is_none_or(|range| range.low <= range.high);
        let span = |range: Option<MacRange>| range.map_or(EVERY, |range| [range.low, range.high - range.low]);
        let macs = filter
            .mac
            .iter()
            .filter(|mac| possible(mac.source) && possible(mac.destination));
        macs.map(|mac| Self {
            destination: span(mac.destination),
            source: span(mac.source),
            ..row
        })
        .collect()
    }

    const fn require(&mut self, value: u64, mask: u64) {
        self.rest[0] |= value;
        self.rest[1] |= mask;
    }

    /// Whether a frame's header agrees.
    #[inline]
    pub fn agrees(&self, frame: Option<&EthernetFields>) -> bool {
        let Some(frame) = frame else {
            return self.rest[1] == 0;
        };
        let is_in = |[low, more]: [u64; 2], address: u64| address.wrapping_sub(low) <= more;
        is_in(self.destination, frame.destination)
            && is_in(self.source, frame.source)
            && (frame.rest ^ self.rest[0]) & self.rest[1] == 0
    }
}

/// Masks over a frame's header: see [`crate::FlowMask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EthernetMask {
    /// Destination address, in the low 48 bits.
    pub destination: u64,
    /// Source address.
    pub source: u64,
    /// Ethertype, tags and what there is: see [`header`].
    pub(crate) rest: u64,
}

impl EthernetMask {
    /// What either looks at.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            destination: self.destination | other.destination,
            source: self.source | other.source,
            rest: self.rest | other.rest,
        }
    }

    /// Bits of the Ethertype that matter.
    pub const fn ethertype(&self) -> u16 {
        self.rest as u16
    }
    /// Bits of the customer tag that matter.
    pub const fn c_tag(&self) -> u16 {
        (self.rest >> header::C_TAG_SHIFT) as u16
    }
    /// Bits of the service tag that matter.
    pub const fn s_tag(&self) -> u16 {
        (self.rest >> header::S_TAG_SHIFT) as u16
    }

    /// Adds what a row looks at.
    pub(crate) const fn look_at(&mut self, row: &HeaderRow) {
        self.destination |= deciding(row.destination);
        self.source |= deciding(row.source);
        self.rest |= row.rest[1];
    }

    /// What it leaves of a frame; without one, nothing.
    pub(crate) fn key(&self, frame: Option<&EthernetFields>) -> [u64; 3] {
        let Some(frame) = frame else { return [0; 3] };
        [
            frame.destination & self.destination,
            frame.source & self.source,
            frame.rest & self.rest,
        ]
    }
}

/// The bits that decide whether an address is in a range: those above the largest aligned blocks that it is made of.
const fn deciding([low, more]: [u64; 2]) -> u64 {
    const ADDRESS: u64 = (1 << 48) - 1;
    if more >= ADDRESS {
        return 0;
    }
    let (zeroes, ones) = (low.trailing_zeros(), (low + more).trailing_ones());
    let n = if zeroes < ones { zeroes } else { ones };
    if n >= 48 { 0 } else { ADDRESS >> n << n }
}
