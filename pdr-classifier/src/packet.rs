//! The fields of one packet that detection rules look at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::{Interface, NetworkInstanceId, Qfi};

/// A set of interfaces: one port may stand for several (N3 and N9 on one wire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct InterfaceSet(u8);

impl InterfaceSet {
    /// The set of those.
    pub const fn of(interfaces: &[Interface]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < interfaces.len() {
            bits |= 1 << interfaces[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// The same set from its bits: bit `Interface as u8` set.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether it is one of them.
    pub const fn contains(self, interface: Interface) -> bool {
        self.0 >> interface as u8 & 1 == 1
    }
}

/// An address of either family as four words, most significant first. An IPv4 address is the first word, so that a
/// prefix of either family is a mask over leading bits; the family is kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct AddressWords([u32; 4]);

impl From<Ipv4Addr> for AddressWords {
    fn from(a: Ipv4Addr) -> Self {
        Self([a.to_bits(), 0, 0, 0])
    }
}

impl From<Ipv6Addr> for AddressWords {
    fn from(a: Ipv6Addr) -> Self {
        let b = a.to_bits();
        Self([(b >> 96) as u32, (b >> 64) as u32, (b >> 32) as u32, b as u32])
    }
}

impl AddressWords {
    /// As one integer, an IPv4 address in its top 32 bits.
    const fn bits(self) -> u128 {
        let [a, b, c, d] = self.0;
        (a as u128) << 96 | (b as u128) << 64 | (c as u128) << 32 | d as u128
    }
}

/// Where the words of a packet are, and of which kind.
pub(crate) mod word {
    /// The far end, four words.
    pub const REMOTE: usize = 0;
    /// The UE's end, four words.
    pub const UE: usize = 4;
    /// Protocol, ToS and what is known: see [`super::octets`].
    pub const OCTETS: usize = 8;
    /// The far end's port, or [`super::NO_PORT`].
    pub const REMOTE_PORT: usize = 9;
    /// The UE's port, or [`super::NO_PORT`].
    pub const UE_PORT: usize = 10;
    /// Security parameter index.
    pub const SPI: usize = 11;
    /// IPv6 flow label in bits 0 to 19, application in bits 20 to 31.
    pub const FLOW_LABEL: usize = 12;
    /// Network instance in bits 0 to 15, interfaces in bits 16 to 23. No rule compares it as a word.
    pub const ARRIVAL: usize = 13;
    /// QoS flows 0 to 31, one bit each.
    pub const QFI_LOW: usize = 14;
    /// QoS flows 32 to 63.
    pub const QFI_HIGH: usize = 15;
    /// How many words there are.
    pub const COUNT: usize = 16;
    /// The words compared with a range; all others are compared under a mask.
    pub const RANGES: u16 = 1 << REMOTE_PORT | 1 << UE_PORT;
}

/// Bits of [`word::OCTETS`].
pub(crate) mod octets {
    /// Protocol number, bits 0 to 7.
    pub const PROTOCOL: u32 = 0xff;
    /// ToS or traffic class, bits 8 to 15.
    pub const TOS_SHIFT: u32 = 8;
    /// The same as a mask.
    pub const TOS: u32 = 0xff << TOS_SHIFT;
    /// The packet is IPv6.
    pub const V6: u32 = 1 << 16;
    /// It has a security parameter index.
    pub const SPI: u32 = 1 << 17;
    /// Its tunnel header told a QoS flow.
    pub const QFI: u32 = 1 << 18;
    /// Its UE end is one of its session's plain UE addresses. Packets do not have this bit: the lookup finds out.
    pub const OWN_UE: u32 = 1 << 19;
}

/// The bits of [`word::FLOW_LABEL`] that are a flow label.
pub(crate) const LABEL_BITS: u32 = 0xf_ffff;
/// How far the application lies above it.
pub(crate) const APPLICATION_SHIFT: u32 = 20;

/// The application that a packet's flow was found to belong to, by whoever looks for applications: 1 to 4,095. An
/// application identifier of TS 29.244 8.2.6 is a string; who knows the strings numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApplicationId(u16);

impl ApplicationId {
    /// The application of that number; `None` for 0 and for numbers above 4,095.
    pub const fn new(number: u16) -> Option<Self> {
        if number > 0 && number < 1 << 12 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The port number of a packet that has none: outside every range of ports.
pub(crate) const NO_PORT: u32 = 0x1_0000;

/// What detection rules can ask of one packet: its arrival, and the fields of the *inner* IP packet. The ends are
/// named by what they are: the UE's is the source of an uplink packet and the destination of a downlink packet.
///
/// Sixteen words on one cache line, in the form that rules compare them; `Copy`. Fill it in one expression:
/// ```
/// use pdr_classifier::{InterfaceSet, PacketFields};
/// use upf_model::{Interface, NetworkInstanceId, Qfi};
/// let uplink = PacketFields::v4([192, 0, 2, 1].into(), [10, 0, 0, 7].into(), 17, 0xb8)
///     .arrived(InterfaceSet::of(&[Interface::Access]), NetworkInstanceId(0))
///     .with_qfi(Qfi(5))
///     .with_ports(53, 40_000);
/// assert_eq!(uplink.ports(), Some((53, 40_000)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct PacketFields(pub(crate) [u32; word::COUNT]);

impl PacketFields {
    #[inline]
    const fn new(AddressWords(r): AddressWords, AddressWords(u): AddressWords, octets: u32) -> Self {
        let p = NO_PORT;
        Self([
            r[0], r[1], r[2], r[3], u[0], u[1], u[2], u[3], octets, p, p, 0, 0, 0, 0, 0,
        ])
    }

    /// An IPv4 packet: the far end, the UE's end, its protocol and its ToS octet.
    #[inline]
    pub fn v4(remote: Ipv4Addr, ue: Ipv4Addr, protocol: u8, tos: u8) -> Self {
        let octets = protocol as u32 | (tos as u32) << octets::TOS_SHIFT;
        Self::new(remote.into(), ue.into(), octets)
    }

    /// An IPv6 packet: the far end, the UE's end, the protocol behind its extension headers, its traffic class and
    /// its flow label (20 bits).
    #[inline]
    pub fn v6(remote: Ipv6Addr, ue: Ipv6Addr, protocol: u8, traffic_class: u8, flow_label: u32) -> Self {
        let octets = protocol as u32 | (traffic_class as u32) << octets::TOS_SHIFT | octets::V6;
        let mut fields = Self::new(remote.into(), ue.into(), octets);
        fields.0[word::FLOW_LABEL] = flow_label & 0xf_ffff;
        fields
    }

    /// No IP packet: what goes with the header of an Ethernet frame that carries none. (A filter that takes any IPv4 packet
    /// takes it too, unless it is an SDF filter of an [`EthernetFilter`](crate::EthernetFilter).)
    #[inline]
    pub fn none() -> Self {
        const RESERVED: u8 = 255;
        Self::v4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, RESERVED, 0)
    }

    /// Where it arrived: the interfaces its port may stand for, and the network instance.
    #[inline]
    #[must_use]
    pub const fn arrived(mut self, interfaces: InterfaceSet, ni: NetworkInstanceId) -> Self {
        self.0[word::ARRIVAL] = (interfaces.0 as u32) << 16 | ni.0 as u32;
        self
    }

    /// The QoS flow its PDU Session Container names.
    #[inline]
    #[must_use]
    pub const fn with_qfi(mut self, qfi: Qfi) -> Self {
        let set = 1u64 << (qfi.0 & 0x3f);
        self.0[word::QFI_LOW] = set as u32;
        self.0[word::QFI_HIGH] = (set >> 32) as u32;
        self.0[word::OCTETS] |= octets::QFI;
        self
    }

    /// Transport ports. A packet without them (ICMP, a later fragment) matches no rule that asks for ports.
    #[inline]
    #[must_use]
    pub const fn with_ports(mut self, remote: u16, ue: u16) -> Self {
        self.0[word::REMOTE_PORT] = remote as u32;
        self.0[word::UE_PORT] = ue as u32;
        self
    }

    /// The security parameter index of its ESP or AH header.
    #[inline]
    #[must_use]
    pub const fn with_spi(mut self, spi: u32) -> Self {
        self.0[word::SPI] = spi;
        self.0[word::OCTETS] |= octets::SPI;
        self
    }

    /// The application that its flow was found to belong to. A packet of which nothing was found out matches no rule
    /// that asks for one.
    #[inline]
    #[must_use]
    pub const fn with_application(mut self, application: ApplicationId) -> Self {
        self.0[word::FLOW_LABEL] = self.0[word::FLOW_LABEL] & LABEL_BITS | (application.0 as u32) << APPLICATION_SHIFT;
        self
    }

    /// A byte of a word, the least significant one being byte 0. Cost: one load.
    #[inline(always)]
    pub(crate) fn byte(&self, word: usize, byte: usize) -> u8 {
        if cfg!(target_endian = "little") {
            let at = (4 * word + byte) % size_of::<Self>();
            // SAFETY: a word is four bytes, and `at` is within all of them.
            unsafe { self.0.as_ptr().cast::<u8>().add(at).read() }
        } else {
            (self.0[word % word::COUNT] >> (8 * byte)) as u8
        }
    }

    const fn knows(&self, what: u32) -> bool {
        self.0[word::OCTETS] & what != 0
    }

    /// The same packet with its ends exchanged: it turned out to travel the other way.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        let [a, b, c, d, e, f, g, h, octets, remote_port, ue_port, i, j, k, l, m] = self.0;
        Self([e, f, g, h, a, b, c, d, octets, ue_port, remote_port, i, j, k, l, m])
    }

    /// Whether it is IPv6.
    pub const fn is_v6(&self) -> bool {
        self.knows(octets::V6)
    }
    /// The far end.
    pub const fn remote(&self) -> IpAddr {
        self.address(word::REMOTE)
    }
    /// The UE's end.
    pub const fn ue(&self) -> IpAddr {
        self.address(word::UE)
    }
    const fn address(&self, at: usize) -> IpAddr {
        let words = AddressWords([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]]);
        if self.is_v6() {
            IpAddr::V6(Ipv6Addr::from_bits(words.bits()))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(words.0[0]))
        }
    }
    /// Its protocol number.
    pub const fn protocol(&self) -> u8 {
        (self.0[word::OCTETS] & octets::PROTOCOL) as u8
    }
    /// Its ToS octet or traffic class.
    pub const fn tos(&self) -> u8 {
        (self.0[word::OCTETS] >> octets::TOS_SHIFT) as u8
    }
    /// Remote and UE port, if it has ports.
    pub const fn ports(&self) -> Option<(u16, u16)> {
        let (remote, ue) = (self.0[word::REMOTE_PORT], self.0[word::UE_PORT]);
        if remote == NO_PORT {
            None
        } else {
            Some((remote as u16, ue as u16))
        }
    }
    /// Its QoS flow, if known.
    pub const fn qfi(&self) -> Option<Qfi> {
        let set = self.0[word::QFI_LOW] as u64 | (self.0[word::QFI_HIGH] as u64) << 32;
        if self.knows(octets::QFI) {
            Some(Qfi(set.trailing_zeros() as u8))
        } else {
            None
        }
    }
    /// Its security parameter index, if it has one.
    pub const fn spi(&self) -> Option<u32> {
        if self.knows(octets::SPI) {
            Some(self.0[word::SPI])
        } else {
            None
        }
    }
    /// Its flow label, if it is IPv6.
    pub const fn flow_label(&self) -> Option<u32> {
        if self.is_v6() {
            Some(self.0[word::FLOW_LABEL] & LABEL_BITS)
        } else {
            None
        }
    }
    /// Its application, if it was found out.
    pub const fn application(&self) -> Option<ApplicationId> {
        ApplicationId::new((self.0[word::FLOW_LABEL] >> APPLICATION_SHIFT) as u16)
    }
    /// The network instance it arrived from.
    pub const fn network_instance(&self) -> NetworkInstanceId {
        NetworkInstanceId(self.0[word::ARRIVAL] as u16)
    }
    /// The interfaces its port may stand for.
    pub const fn source_interfaces(&self) -> InterfaceSet {
        InterfaceSet((self.0[word::ARRIVAL] >> 16) as u8)
    }
}

impl std::fmt::Debug for PacketFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketFields")
            .field("remote", &self.remote())
            .field("ue", &self.ue())
            .field("protocol", &self.protocol())
            .field("tos", &self.tos())
            .field("ports", &self.ports())
            .field("spi", &self.spi())
            .field("flow_label", &self.flow_label())
            .field("application", &self.application())
            .field("qfi", &self.qfi())
            .field("network_instance", &self.network_instance())
            .field("source_interfaces", &self.source_interfaces())
            .finish()
    }
}
