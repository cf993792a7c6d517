//! The rules that all contestants can express: five spans of numbers, and what of a packet they are compared with.
//!
//! | field | UPF-shaped sets | ClassBench |
//! | --- | --- | --- |
//! | 0 | the session: its TEID, exact | source address, prefix |
//! | 1 | remote address, prefix | destination address, prefix |
//! | 2 | UE port, range | source port, range |
//! | 3 | remote port, range | destination port, range |
//! | 4 | protocol, exact or any | protocol, exact or any |

use pdr_classifier::{InterfaceSet, PacketFields, PdrMatch, SessionKey};
use std::net::Ipv4Addr;
use upf_model::{
    AddressMatch, EndpointId, Interface, IpFilterRule, IpPrefix, NetworkInstanceId, PortRange, Precedence, SdfFilter,
    Teid,
};

/// How many fields there are.
pub const FIELDS: usize = 5;
/// The answer when no rule matches.
pub const MISS: u32 = u32::MAX;

/// What of a packet is compared: one number per field.
pub type Tuple = [u32; FIELDS];

/// The numbers from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub low: u32,
    pub high: u32,
}

impl Span {
    pub const ADDRESS: Self = Self { low: 0, high: u32::MAX };
    pub const PORT: Self = Self { low: 0, high: 0xffff };
    pub const PROTOCOL: Self = Self { low: 0, high: 0xff };
    /// What each field holds when it is not asked.
    pub const ANY: [Self; FIELDS] = [Self::ADDRESS, Self::ADDRESS, Self::PORT, Self::PORT, Self::PROTOCOL];

    pub const fn exact(value: u32) -> Self {
        Self {
            low: value,
            high: value,
        }
    }

    /// The addresses of a prefix.
    pub const fn prefix(address: u32, length: u32) -> Self {
        let mask = mask(length);
        Self {
            low: address & mask,
            high: address | !mask,
        }
    }

    pub const fn contains(self, value: u32) -> bool {
        self.low <= value && value <= self.high
    }

    pub const fn is_exact(self) -> bool {
        self.low == self.high
    }

    /// The length of the prefix that these addresses are.
    pub const fn prefix_length(self) -> u32 {
        (self.low ^ self.high).leading_zeros()
    }
}

/// The leading bits of an address that a prefix of that length compares.
pub const fn mask(length: u32) -> u32 {
    match length {
        0 => 0,
        _ => u32::MAX << (32 - length),
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub spans: [Span; FIELDS],
    /// The lower value wins.
    pub precedence: u32,
    /// What a lookup answers with.
    pub number: u32,
}

impl Rule {
    pub fn matches(&self, tuple: &Tuple) -> bool {
        self.spans.iter().zip(tuple).all(|(span, value)| span.contains(*value))
    }

    /// The same rule once the session is known.
    #[must_use]
    pub const fn without_session(mut self) -> Self {
        self.spans[0] = Span::ADDRESS;
        self
    }

    /// The same detection as a PDR of a session in that tunnel; field 0 is then the UE's address, if it is asked.
    pub fn to_pdr(self, tunnel: SessionKey) -> PdrMatch {
        let [ue, remote, ue_port, remote_port, protocol] = self.spans;
        let flow = IpFilterRule {
            protocol: protocol.is_exact().then_some(protocol.low as u8),
            remote: address(remote),
            remote_ports: ports(remote_port),
            ue: address(ue),
            ue_ports: ports(ue_port),
        };
        let asks = self.spans != Span::ANY;
        PdrMatch {
            precedence: Precedence(self.precedence),
            source_interface: Interface::Access,
            network_instance: NetworkInstanceId(0),
            tunnel: vec![tunnel],
            ue: Vec::new(),
            qfis: 0,
            application: None,
            ethernet: Vec::new(),
            sdf: asks
                .then(|| SdfFilter {
                    flow: Some(flow),
                    ..SdfFilter::default()
                })
                .into_iter()
                .collect(),
        }
    }
}

fn address(span: Span) -> AddressMatch {
    match (
        span,
        IpPrefix::new(Ipv4Addr::from_bits(span.low).into(), span.prefix_length() as u8),
    ) {
        (Span::ADDRESS, _) | (_, None) => AddressMatch::Any,
        (_, Some(prefix)) => AddressMatch::Prefix(prefix),
    }
}

fn ports(span: Span) -> Vec<PortRange> {
    match span {
        Span::PORT => Vec::new(),
        Span { low, high } => vec![PortRange {
            low: low as u16,
            high: high as u16,
        }],
    }
}

/// The meaning: of the rules that match, the number of the one with the lowest precedence value, the first of equals.
pub fn oracle<'r>(rules: impl IntoIterator<Item = &'r Rule>, tuple: &Tuple) -> u32 {
    let matching = rules.into_iter().filter(|rule| rule.matches(tuple));
    matching
        .min_by_key(|rule| rule.precedence)
        .map_or(MISS, |rule| rule.number)
}

/// A session, as contestants know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    pub id: u32,
    /// The value of field 0 of its packets, where rules name the session.
    pub value: u32,
}

impl Session {
    pub const fn key(self) -> SessionKey {
        SessionKey::FTeid {
            endpoint: EndpointId(0),
            teid: Teid(self.value),
        }
    }
}

/// A packet, parsed for everybody, with the right answer.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub fields: PacketFields,
    pub key: SessionKey,
    pub tuple: Tuple,
    pub expected: u32,
}

impl Packet {
    /// A packet of `session` with those fields.
    pub fn new(session: Session, tuple: Tuple, expected: u32) -> Self {
        let [ue, remote, ue_port, remote_port, protocol] = tuple;
        let fields = PacketFields::v4(remote.into(), ue.into(), protocol as u8, 0)
            .arrived(InterfaceSet::of(&[Interface::Access]), NetworkInstanceId(0))
            .with_ports(remote_port as u16, ue_port as u16);
        Self {
            fields,
            key: session.key(),
            tuple,
            expected,
        }
    }
}
