//! Addresses of the user plane: F-TEID, UE IP address, Outer Header Creation (TS 29.244 8.2.3, 8.2.62, 8.2.56).

use super::cause::Refusal;
use super::element::Element;
use super::writer::Writer;
use rs_pfcp::ie::IeType;
use upf_model::decoded::{FTeid, OuterHeaderCreation, UeIp};

/// F-TEID flags: V4 bit 1, V6 bit 2, CH bit 3, CHID bit 4. With CH there are neither TEID nor addresses.
pub(super) fn read_fteid(element: &Element<'_>) -> Result<FTeid, Refusal> {
    let mut octets = element.octets();
    let flags = octets.u8()?;
    let (v4, v6, choose, choose_id) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0, flags & 8 != 0);
    let mut fteid = FTeid {
        choose,
        v4,
        v6,
        ..FTeid::default()
    };
    if choose {
        fteid.choose_id = choose_id.then(|| octets.u8()).transpose()?;
    } else {
        fteid.teid = octets.u32()?;
        fteid.ipv4 = octets.ipv4(v4)?;
        fteid.ipv6 = octets.ipv6(v6)?;
    }
    Ok(fteid)
}

/// An allocated F-TEID: the flags follow the addresses that are there.
pub(super) fn write_fteid(writer: &mut Writer, fteid: &FTeid) {
    let flags = u8::from(fteid.ipv4.is_some()) | u8::from(fteid.ipv6.is_some()) << 1;
    writer.element(IeType::Fteid, |w| {
        w.u8(flags).u32(fteid.teid).ipv4(fteid.ipv4).ipv6(fteid.ipv6)
    });
}

/// UE IP Address flags: V6 bit 1, V4 bit 2, S/D bit 3, IPv6D bit 4, CHV4 bit 5, CHV6 bit 6, IP6PL bit 7.
pub(super) fn read_ue_ip(element: &Element<'_>) -> Result<UeIp, Refusal> {
    let mut octets = element.octets();
    let flags = octets.u8()?;
    Ok(UeIp {
        destination: flags & 0x04 != 0,
        choose_v4: flags & 0x10 != 0,
        choose_v6: flags & 0x20 != 0,
        ipv4: octets.ipv4(flags & 0x02 != 0)?,
        ipv6: octets.ipv6(flags & 0x01 != 0)?,
        ipv6_delegation_bits: (flags & 0x08 != 0).then(|| octets.u8()).transpose()?,
        ipv6_prefix_length: (flags & 0x40 != 0).then(|| octets.u8()).transpose()?,
    })
}

/// An assigned UE address.
pub(super) fn write_ue_ip(writer: &mut Writer, ue_ip: &UeIp) {
    let flags = u8::from(ue_ip.ipv6.is_some())
        | u8::from(ue_ip.ipv4.is_some()) << 1
        | u8::from(ue_ip.destination) << 2
        | u8::from(ue_ip.ipv6_delegation_bits.is_some()) << 3
        | u8::from(ue_ip.ipv6_prefix_length.is_some()) << 6;
    writer.element(IeType::UeIpAddress, |w| {
        w.u8(flags)
            .ipv4(ue_ip.ipv4)
            .ipv6(ue_ip.ipv6)
            .optional_u8(ue_ip.ipv6_delegation_bits)
            .optional_u8(ue_ip.ipv6_prefix_length)
    });
}

/// Outer Header Creation. Octet 5: GTP-U/UDP/IPv4 bit 1, GTP-U/UDP/IPv6 bit 2, UDP/IPv4 bit 3, UDP/IPv6 bit 4,
/// IPv4 bit 5, IPv6 bit 6, C-TAG bit 7, S-TAG bit 8. The tags (Ethernet) are left to whoever refuses their bits.
pub(super) fn read_outer_header_creation(element: &Element<'_>) -> Result<OuterHeaderCreation, Refusal> {
    let mut octets = element.octets();
    let description = octets.u16()?;
    let has = |bits: u16| description & (bits << 8) != 0;
    Ok(OuterHeaderCreation {
        description,
        teid: has(0x03).then(|| octets.u32()).transpose()?,
        ipv4: octets.ipv4(has(0x15))?,
        ipv6: octets.ipv6(has(0x2a))?,
        port: has(0x0c).then(|| octets.u16()).transpose()?,
    })
}
