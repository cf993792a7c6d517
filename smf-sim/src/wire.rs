//! What stands inside an IE, octet by octet (TS 29.244 8.2). Integers are big-endian; clause numbers are release 17's.
//!
//! `rs-pfcp` frames an IE (type, length, payload); the payloads are ours, because its typed IEs lose or mis-encode
//! some of them (gate status, ToS-only SDF filters, RQI and others).

use crate::rules::{ApplyAction, BitRates, FTeid, Gate, SdfFilter, UeIp};
use rs_pfcp::ie::{Ie, IeType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds from the NTP era's start (1900) to the UNIX epoch: PFCP counts time as NTP does (8.2.65).
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// The addresses of one UE: either family or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct UeIps {
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address or prefix (/64 unless signalled otherwise).
    pub v6: Option<Ipv6Addr>,
}

impl UeIps {
    /// IPv4 only.
    pub fn v4(v4: impl Into<Ipv4Addr>) -> Self {
        Self {
            v4: Some(v4.into()),
            v6: None,
        }
    }
    /// IPv6 only.
    pub fn v6(v6: impl Into<Ipv6Addr>) -> Self {
        Self {
            v4: None,
            v6: Some(v6.into()),
        }
    }
    /// Both families.
    pub fn dual(v4: impl Into<Ipv4Addr>, v6: impl Into<Ipv6Addr>) -> Self {
        Self {
            v4: Some(v4.into()),
            v6: Some(v6.into()),
        }
    }
}

/// Node ID (8.2.38).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeId {
    /// Type 0.
    Ipv4(Ipv4Addr),
    /// Type 1.
    Ipv6(Ipv6Addr),
    /// Type 2, as dotted text.
    Fqdn(String),
}

impl From<IpAddr> for NodeId {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Self::Ipv4(a),
            IpAddr::V6(a) => Self::Ipv6(a),
        }
    }
}

impl From<[u8; 4]> for NodeId {
    fn from(octets: [u8; 4]) -> Self {
        Self::Ipv4(octets.into())
    }
}

impl From<&str> for NodeId {
    /// An address where the text is one, otherwise a name.
    fn from(text: &str) -> Self {
        text.parse::<IpAddr>()
            .map_or_else(|_| Self::Fqdn(text.to_owned()), Self::from)
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ipv4(a) => a.fmt(f),
            Self::Ipv6(a) => a.fmt(f),
            Self::Fqdn(name) => f.write_str(name),
        }
    }
}

/// An IE of any type number with any payload, for requests that the typed rules cannot express. In the vendor range
/// (bit 16 set) the first two octets of `payload` are the Enterprise ID; a shorter payload is padded with zeros.
pub fn raw_ie(type_number: u16, payload: &[u8]) -> Ie {
    if type_number & 0x8000 != 0 {
        let enterprise = u16::from_be_bytes([
            payload.first().copied().unwrap_or(0),
            payload.get(1).copied().unwrap_or(0),
        ]);
        let rest = payload.get(2..).unwrap_or_default().to_vec();
        // The type is in the vendor range, the constructor's only condition.
        return Ie::new_vendor_specific(type_number, enterprise, rest)
            .unwrap_or_else(|_| Ie::new(IeType::Unknown, payload.to_vec()));
    }
    Ie::new_unknown(type_number, payload.to_vec())
        .unwrap_or_else(|_| Ie::new(IeType::from(type_number), payload.to_vec()))
}

/// Seconds since 1900 now, modulo 2^32, as Recovery Time Stamp wants them.
pub fn ntp_now() -> u32 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    // The era's modulus is intended: NTP seconds wrap in 2036.
    (unix + NTP_TO_UNIX_SECONDS) as u32
}

pub(crate) fn u8_ie(t: IeType, v: u8) -> Ie {
    Ie::new(t, vec![v])
}

pub(crate) fn u16_ie(t: IeType, v: u16) -> Ie {
    Ie::new(t, v.to_be_bytes().to_vec())
}

pub(crate) fn u32_ie(t: IeType, v: u32) -> Ie {
    Ie::new(t, v.to_be_bytes().to_vec())
}

pub(crate) fn node_id(id: &NodeId) -> Ie {
    let mut p = Vec::new();
    match id {
        NodeId::Ipv4(a) => {
            p.push(0);
            p.extend(a.octets());
        }
        NodeId::Ipv6(a) => {
            p.push(1);
            p.extend(a.octets());
        }
        NodeId::Fqdn(name) => {
            p.push(2);
            // Labels of up to 63 octets, each after its length, as RFC 1035 3.1 without the final zero.
            for label in name.split('.').map(|l| &l.as_bytes()[..l.len().min(63)]) {
                p.push(label.len() as u8);
                p.extend(label);
            }
        }
    }
    Ie::new(IeType::NodeId, p)
}

/// F-SEID (8.2.37): V6 is bit 1, V4 bit 2.
pub(crate) fn f_seid(seid: u64, addr: IpAddr) -> Ie {
    let mut p = vec![if addr.is_ipv4() { 0x02 } else { 0x01 }];
    p.extend(seid.to_be_bytes());
    push_addr(&mut p, addr);
    Ie::new(IeType::Fseid, p)
}

/// F-TEID (8.2.3): V4 is bit 1, V6 bit 2, CH bit 3, CHID bit 4.
pub(crate) fn f_teid(fteid: FTeid) -> Ie {
    let mut p = Vec::with_capacity(25);
    match fteid {
        FTeid::Choose { v4, v6, choose_id } => {
            p.push(u8::from(v4) | u8::from(v6) << 1 | 0x04 | u8::from(choose_id.is_some()) << 3);
            p.extend(choose_id);
        }
        FTeid::Given { teid, v4, v6 } => {
            p.push(u8::from(v4.is_some()) | u8::from(v6.is_some()) << 1);
            p.extend(teid.to_be_bytes());
            p.extend(v4.iter().flat_map(Ipv4Addr::octets));
            p.extend(v6.iter().flat_map(Ipv6Addr::octets));
        }
    }
    Ie::new(IeType::Fteid, p)
}

/// UE IP Address (8.2.62): V6 bit 1, V4 bit 2, S/D bit 3, IPv6D bit 4, CHV4 bit 5, CHV6 bit 6, IP6PL bit 7.
pub(crate) fn ue_ip(ue: UeIp) -> Ie {
    let mut p = Vec::with_capacity(22);
    match ue {
        UeIp::Given {
            ips,
            destination,
            v6_prefix_length,
        } => {
            p.push(
                u8::from(ips.v6.is_some())
                    | u8::from(ips.v4.is_some()) << 1
                    | u8::from(destination) << 2
                    | u8::from(v6_prefix_length.is_some()) << 6,
            );
            p.extend(ips.v4.iter().flat_map(Ipv4Addr::octets));
            p.extend(ips.v6.iter().flat_map(Ipv6Addr::octets));
            p.extend(v6_prefix_length);
        }
        UeIp::Choose { v4, v6, destination } => {
            p.push(u8::from(destination) << 2 | u8::from(v4) << 4 | u8::from(v6) << 5);
        }
    }
    Ie::new(IeType::UeIpAddress, p)
}

/// SDF Filter (8.2.5): FD bit 1, TTC bit 2, SPI bit 3, FL bit 4, BID bit 5, then a spare octet.
pub(crate) fn sdf_filter(filter: &SdfFilter) -> Ie {
    let flags = u8::from(filter.flow_description.is_some())
        | u8::from(filter.tos.is_some()) << 1
        | u8::from(filter.spi.is_some()) << 2
        | u8::from(filter.flow_label.is_some()) << 3
        | u8::from(filter.filter_id.is_some()) << 4;
    let mut p = vec![flags, 0];
    if let Some(text) = &filter.flow_description {
        p.extend((text.len() as u16).to_be_bytes());
        p.extend(text.as_bytes());
    }
    if let Some((value, mask)) = filter.tos {
        p.extend([value, mask]);
    }
    p.extend(filter.spi.iter().flat_map(|v| v.to_be_bytes()));
    if let Some(label) = filter.flow_label {
        p.extend(&label.to_be_bytes()[1..]);
    }
    p.extend(filter.filter_id.iter().flat_map(|v| v.to_be_bytes()));
    Ie::new(IeType::SdfFilter, p)
}

/// Apply Action (8.2.26): two octets since release 16.
pub(crate) fn apply_action(action: ApplyAction) -> Ie {
    Ie::new(IeType::ApplyAction, action.0.to_le_bytes().to_vec())
}

/// Outer Header Creation (8.2.56): octet 5 bit 1 is GTP-U/UDP/IPv4, bit 2 GTP-U/UDP/IPv6.
pub(crate) fn outer_header_creation(teid: u32, peer: IpAddr) -> Ie {
    let mut p = vec![if peer.is_ipv4() { 0x01 } else { 0x02 }, 0];
    p.extend(teid.to_be_bytes());
    push_addr(&mut p, peer);
    Ie::new(IeType::OuterHeaderCreation, p)
}

/// Gate Status (8.2.7): the uplink gate is bits 3 and 4, the downlink gate bits 1 and 2.
pub(crate) fn gate_status(uplink: Gate, downlink: Gate) -> Ie {
    u8_ie(IeType::GateStatus, (uplink as u8) << 2 | downlink as u8)
}

/// MBR or GBR (8.2.8, 8.2.9): uplink then downlink, 40 bits each; larger rates are sent as the largest one.
pub(crate) fn bit_rates(t: IeType, rates: BitRates) -> Ie {
    let forty = |v: u64| v.min((1 << 40) - 1).to_be_bytes();
    let mut p = Vec::with_capacity(10);
    p.extend(&forty(rates.uplink_kbps)[3..]);
    p.extend(&forty(rates.downlink_kbps)[3..]);
    Ie::new(t, p)
}

fn push_addr(p: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(a) => p.extend(a.octets()),
        IpAddr::V6(a) => p.extend(a.octets()),
    }
}

/// Reads octets from the front; every read fails at the end instead of panicking.
pub(crate) struct Octets<'a>(pub &'a [u8]);

impl Octets<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take().map(|[b]| b)
    }
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
    pub(crate) fn ipv4(&mut self) -> Option<Ipv4Addr> {
        self.take::<4>().map(Ipv4Addr::from)
    }
    pub(crate) fn ipv6(&mut self) -> Option<Ipv6Addr> {
        self.take::<16>().map(Ipv6Addr::from)
    }
}

/// A decoded F-TEID without CHOOSE: TEID and addresses.
pub(crate) fn read_f_teid(payload: &[u8]) -> Option<(u32, Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let mut o = Octets(payload);
    let flags = o.u8()?;
    if flags & 0x04 != 0 {
        return None;
    }
    let teid = o.u32()?;
    let v4 = if flags & 0x01 != 0 { Some(o.ipv4()?) } else { None };
    let v6 = if flags & 0x02 != 0 { Some(o.ipv6()?) } else { None };
    Some((teid, v4, v6))
}

/// A decoded UE IP Address without CHV4 or CHV6.
pub(crate) fn read_ue_ip(payload: &[u8]) -> Option<UeIps> {
    let mut o = Octets(payload);
    let flags = o.u8()?;
    let v4 = if flags & 0x02 != 0 { Some(o.ipv4()?) } else { None };
    let v6 = if flags & 0x01 != 0 { Some(o.ipv6()?) } else { None };
    Some(UeIps { v4, v6 })
}

/// A decoded F-SEID's SEID.
pub(crate) fn read_f_seid(payload: &[u8]) -> Option<u64> {
    let mut o = Octets(payload);
    let _flags = o.u8()?;
    o.u64()
}

/// A decoded Node ID.
pub(crate) fn read_node_id(payload: &[u8]) -> Option<NodeId> {
    let mut o = Octets(payload);
    match o.u8()? & 0x0f {
        0 => o.ipv4().map(NodeId::Ipv4),
        1 => o.ipv6().map(NodeId::Ipv6),
        2 => {
            let mut labels = Vec::new();
            while let Some(len) = o.u8() {
                let (label, rest) = o.0.split_at_checked(usize::from(len))?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                o.0 = rest;
            }
            Some(NodeId::Fqdn(labels.join(".")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected octets are written from TS 29.244 8.2, not from another encoder.
    fn octets(ie: Ie) -> Vec<u8> {
        ie.payload
    }

    #[test]
    fn the_uplink_gate_is_bits_3_and_4_of_gate_status() {
        assert_eq!(octets(gate_status(Gate::Open, Gate::Open)), [0x00]);
        assert_eq!(octets(gate_status(Gate::Closed, Gate::Open)), [0x04]);
        assert_eq!(octets(gate_status(Gate::Open, Gate::Closed)), [0x01]);
        assert_eq!(octets(gate_status(Gate::Closed, Gate::Closed)), [0x05]);
    }

    #[test]
    fn a_chosen_f_teid_has_no_teid_and_carries_its_choose_id() {
        let choose = |v4, v6, choose_id| octets(f_teid(FTeid::Choose { v4, v6, choose_id }));
        assert_eq!(choose(true, false, None), [0x05]);
        assert_eq!(choose(true, true, Some(7)), [0x0f, 7]);
        assert_eq!(choose(false, true, Some(1)), [0x0e, 1]);
    }

    #[test]
    fn a_given_f_teid_is_flags_teid_ipv4_ipv6() {
        let both = FTeid::Given {
            teid: 0x0102_0304,
            v4: Some([192, 0, 2, 1].into()),
            v6: Some(Ipv6Addr::LOCALHOST),
        };
        let mut expected = vec![0x03, 1, 2, 3, 4, 192, 0, 2, 1];
        expected.extend([0; 15]);
        expected.push(1);
        assert_eq!(octets(f_teid(both)), expected);
        assert_eq!(
            read_f_teid(&expected),
            Some((0x0102_0304, Some([192, 0, 2, 1].into()), Some(Ipv6Addr::LOCALHOST)))
        );
    }

    #[test]
    fn ue_ip_address_tells_source_from_destination_and_choose_from_given() {
        let given = |destination, v6_prefix_length| {
            octets(ue_ip(UeIp::Given {
                ips: UeIps::v4([10, 0, 0, 1]),
                destination,
                v6_prefix_length,
            }))
        };
        assert_eq!(given(false, None), [0x02, 10, 0, 0, 1]);
        assert_eq!(given(true, None), [0x06, 10, 0, 0, 1]);
        assert_eq!(
            octets(ue_ip(UeIp::Choose {
                v4: true,
                v6: true,
                destination: true
            })),
            [0x34]
        );
        let v6 = UeIp::Given {
            ips: UeIps::v6(Ipv6Addr::LOCALHOST),
            destination: false,
            v6_prefix_length: Some(56),
        };
        let octets = octets(ue_ip(v6));
        assert_eq!((octets[0], octets.len(), octets[17]), (0x41, 18, 56));
    }

    #[test]
    fn an_sdf_filter_may_be_a_traffic_class_alone() {
        let tos_only = SdfFilter {
            tos: Some((0xb8, 0xfc)),
            ..SdfFilter::default()
        };
        assert_eq!(octets(sdf_filter(&tos_only)), [0x02, 0, 0xb8, 0xfc]);
    }

    #[test]
    fn an_sdf_filter_has_its_parts_in_the_order_of_its_flags() {
        let all = SdfFilter {
            flow_description: Some("permit".into()),
            tos: Some((1, 2)),
            spi: Some(0x0a0b_0c0d),
            flow_label: Some(0xf_ffff),
            filter_id: Some(9),
        };
        let expected = [
            &[0x1f, 0, 0, 6][..],
            b"permit",
            &[1, 2],
            &[0x0a, 0x0b, 0x0c, 0x0d],
            &[0x0f, 0xff, 0xff],
            &[0, 0, 0, 9],
        ];
        assert_eq!(octets(sdf_filter(&all)), expected.concat());
    }

    #[test]
    fn bit_rates_are_uplink_then_downlink_in_forty_bits_each() {
        let rates = BitRates {
            uplink_kbps: 0x01_0203_0405,
            downlink_kbps: u64::MAX,
        };
        assert_eq!(
            octets(bit_rates(IeType::Mbr, rates)),
            [1, 2, 3, 4, 5, 0xff, 0xff, 0xff, 0xff, 0xff]
        );
    }

    #[test]
    fn apply_action_flags_start_in_the_first_octet() {
        assert_eq!(octets(apply_action(ApplyAction::BUFF | ApplyAction::NOCP)), [0x0c, 0]);
    }

    #[test]
    fn outer_header_creation_names_the_family_of_the_peer() {
        assert_eq!(
            octets(outer_header_creation(5, [192, 0, 2, 9].into())),
            [1, 0, 0, 0, 0, 5, 192, 0, 2, 9]
        );
        let v6 = octets(outer_header_creation(5, IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!((&v6[..6], v6.len()), (&[2, 0, 0, 0, 0, 5][..], 22));
    }

    #[test]
    fn node_ids_of_every_type_survive_the_wire() {
        for id in [
            NodeId::from([127, 0, 0, 2]),
            NodeId::from("2001:db8::1"),
            NodeId::from("smf.example.org"),
        ] {
            assert_eq!(read_node_id(&node_id(&id).payload), Some(id));
        }
        assert_eq!(octets(node_id(&NodeId::from("a.bc"))), b"\x02\x01a\x02bc");
    }

    #[test]
    fn raw_ies_take_any_type_number_and_payload() {
        assert_eq!(raw_ie(29, &[]).marshal(), [0, 29, 0, 0]);
        assert_eq!(raw_ie(9999, &[1]).marshal(), [0x27, 0x0f, 0, 1, 1]);
        assert_eq!(
            raw_ie(0x8001, &[0x12, 0x34, 5]).marshal(),
            [0x80, 1, 0, 3, 0x12, 0x34, 5]
        );
    }

    #[test]
    fn readers_refuse_what_is_cut_short() {
        assert_eq!(read_f_teid(&[0x01, 0, 0, 0, 1, 10, 0]), None);
        assert_eq!(read_ue_ip(&[0x02, 10]), None);
        assert_eq!(read_f_seid(&[0x02, 0, 0]), None);
        assert_eq!(read_node_id(&[2, 9, b'a']), None);
        assert_eq!(read_node_id(&[]), None);
    }
}
