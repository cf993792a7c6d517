//! Owns the hot path: reading the header of a user's packet, and writing it.
//!
//! Nearly every G-PDU has one of two headers: eight octets, or sixteen with one PDU Session Container that holds
//! a QFI and no optional field. [`parse_gpdu`] knows these two and nothing else: two loads of eight octets and a
//! handful of compares. What it does not know it leaves to [`crate::Header::parse`] and [`GPdu::from_header`].
//! [`GpduTemplate`] is the same idea for writing: a tunnel's header is built once, and a packet copies it and
//! patches the Length.

use crate::container::MAX_LEN;
use crate::header::{FLAG_E, FLAGS_GTPV1, MANDATORY_LEN, OPTIONAL_LEN};
use crate::{Error, ExtensionType, Header, MessageType, PduSessionContainer, PduType};

/// What forwarding a user's packet needs to know of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GPdu {
    /// The receiver's tunnel.
    pub teid: u32,
    /// Octets before the user's packet.
    pub header_len: usize,
    /// Octets of the user's packet, by the Length field; checked to be there.
    pub payload_len: usize,
    /// QoS flow, 0..=63; none without a PDU Session Container.
    pub qfi: Option<u8>,
    /// Direction that the container claims; none without one.
    pub pdu_type: Option<PduType>,
    /// Reflective QoS indicator; false in uplink packets and without a container.
    pub rqi: bool,
}

/// Not one of the two common headers: another message, another shape, or a broken packet. [`Header::parse`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a G-PDU with one of the two common headers")]
pub struct NotFast;

/// Reads a G-PDU with one of the two common headers.
///
/// Whatever it accepts, [`Header::parse`] accepts too and [`GPdu::from_header`] reads the same from it. Octets
/// beyond the Length field are tolerated.
///
/// ```
/// let packet = [0x34, 0xff, 0, 9, 0, 0, 0x12, 0x34, 0, 0, 0, 0x85, 1, 0x10, 5, 0, 0x45];
/// let gpdu = gtpu::parse_gpdu(&packet).unwrap();
/// assert_eq!((gpdu.teid, gpdu.qfi, gpdu.header_len, gpdu.payload_len), (0x1234, Some(5), 16, 1));
/// ```
///
/// # Errors
/// [`NotFast`]: look again with [`Header::parse`].
#[inline(always)]
pub fn parse_gpdu(udp_payload: &[u8]) -> Result<GPdu, NotFast> {
    const PLAIN: u64 = (FLAGS_GTPV1 as u64) << 8 | MessageType::G_PDU.0 as u64;
    const EXTENDED: u64 = ((FLAGS_GTPV1 | FLAG_E) as u64) << 8 | MessageType::G_PDU.0 as u64;
    // Of octets 9-16: next type 0x85, extension length 1, all flags of the container's first octet clear (only the
    // lowest bit of the PDU type is free), no further extension header.
    const CONTAINER_MASK: u64 = 0x0000_00ff_ffef_00ff;
    const CONTAINER: u64 = 0x0000_0085_0100_0000;

    let Some(octets) = udp_payload.first_chunk::<8>() else {
        return Err(NotFast);
    };
    let first = u64::from_be_bytes(*octets);
    let teid = first as u32;
    let length = usize::from((first >> 32) as u16);
    if length > udp_payload.len() - MANDATORY_LEN {
        return Err(NotFast);
    }
    match first >> 48 {
        EXTENDED => {
            let Some(octets) = udp_payload[MANDATORY_LEN..].first_chunk::<8>() else {
                return Err(NotFast);
            };
            let second = u64::from_be_bytes(*octets);
            let qfi_octet = (second >> 8) as u8;
            let uplink = (second >> 20) as u8 & 1;
            // Downlink: PPP must be clear. Uplink: the N3/N9 delay and new IE flags must be.
            let optional_fields = qfi_octet & (0x80 | uplink << 6);
            if second & CONTAINER_MASK != CONTAINER || optional_fields != 0 || length < 8 {
                return Err(NotFast);
            }
            Ok(GPdu {
                teid,
                header_len: 16,
                payload_len: length - 8,
                qfi: Some(qfi_octet & 0x3f),
                pdu_type: Some(if uplink == 1 {
                    PduType::Uplink
                } else {
                    PduType::Downlink
                }),
                rqi: qfi_octet & 0x40 != 0,
            })
        }
        PLAIN => Ok(GPdu {
            teid,
            header_len: 8,
            payload_len: length,
            qfi: None,
            pdu_type: None,
            rqi: false,
        }),
        _ => Err(NotFast),
    }
}

impl GPdu {
    /// The same from a header of any shape.
    ///
    /// # Errors
    /// [`Error::MessageType`] if it is no G-PDU, and a malformed PDU Session Container's error.
    pub fn from_header(header: &Header<'_>) -> Result<Self, Error> {
        let actual = header.message_type();
        if actual != MessageType::G_PDU {
            return Err(Error::MessageType {
                expected: MessageType::G_PDU.0,
                actual: actual.0,
            });
        }
        let container = header.pdu_session_container()?;
        Ok(Self {
            teid: header.teid(),
            header_len: header.header_len(),
            payload_len: header.payload().len(),
            qfi: container.map(|c| c.qfi()),
            pdu_type: container.map(|c| c.pdu_type()),
            rqi: matches!(container, Some(PduSessionContainer::Downlink(d)) if d.rqi),
        })
    }
}

/// Writes the header of a G-PDU at the start of `buffer`; returns its length, where the user's packet belongs.
///
/// # Errors
/// [`Error::BufferTooSmall`] for the header, [`Error::PayloadTooLong`] for the 16-bit Length field. Then nothing
/// is written.
pub fn write_gpdu_header(
    buffer: &mut [u8],
    teid: u32,
    payload_len: usize,
    container: Option<&PduSessionContainer>,
) -> Result<usize, Error> {
    let mut octets = [0; MAX_LEN];
    let extension = match container {
        Some(container) => {
            let len = container.encode(&mut octets);
            &octets[..len]
        }
        None => &[],
    };
    let optional_len = if extension.is_empty() { 0 } else { OPTIONAL_LEN };
    let header_len = MANDATORY_LEN + optional_len + extension.len();
    let length = length_field(header_len, payload_len)?;
    let actual = buffer.len();
    let header = buffer.get_mut(..header_len).ok_or(Error::BufferTooSmall {
        expected: header_len,
        actual,
    })?;
    let (mandatory, rest) = header.split_at_mut(MANDATORY_LEN);
    mandatory[0] = FLAGS_GTPV1 | if extension.is_empty() { 0 } else { FLAG_E };
    mandatory[1] = MessageType::G_PDU.0;
    mandatory[2..4].copy_from_slice(&length);
    mandatory[4..].copy_from_slice(&teid.to_be_bytes());
    if !extension.is_empty() {
        let (optional, chain) = rest.split_at_mut(OPTIONAL_LEN);
        optional.copy_from_slice(&[0, 0, 0, ExtensionType::PDU_SESSION_CONTAINER.0]);
        chain.copy_from_slice(extension);
    }
    Ok(header_len)
}

/// The Length field of a message with that many octets of header and of payload.
fn length_field(header_len: usize, payload_len: usize) -> Result<[u8; 2], Error> {
    let after_mandatory = header_len - MANDATORY_LEN;
    let longest = usize::from(u16::MAX) - after_mandatory;
    if payload_len > longest {
        return Err(Error::PayloadTooLong {
            expected: longest,
            actual: payload_len,
        });
    }
    Ok(((after_mandatory + payload_len) as u16).to_be_bytes())
}

/// The header of every G-PDU of one tunnel and QoS flow, all but the Length field ready: build once, write often.
///
/// ```
/// let tunnel = gtpu::GpduTemplate::downlink(0x1234, 5, false, None);
/// let mut packet = [0; 16 + 3];
/// let at = tunnel.write(&mut packet, 3).unwrap();
/// packet[at..].copy_from_slice(b"\x45\x00\x00");
/// assert_eq!(gtpu::parse_gpdu(&packet).unwrap().qfi, Some(5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpduTemplate {
    teid: [u8; 4],
    /// The PDU Session Container, with its length in front and the next extension header's type behind.
    container: [u8; Self::LONGEST_CONTAINER],
    len: u8,
}

impl GpduTemplate {
    /// The longest header of a template: with a paging policy indicator.
    pub const MAX_LEN: usize = MANDATORY_LEN + OPTIONAL_LEN + Self::LONGEST_CONTAINER;
    const LONGEST_CONTAINER: usize = 8;
    const WITHOUT_EXTENSION: [u8; 2] = [FLAGS_GTPV1, MessageType::G_PDU.0];
    const WITH_EXTENSION: [u8; 2] = [FLAGS_GTPV1 | FLAG_E, MessageType::G_PDU.0];

    /// Without a PDU Session Container: 8 octets.
    pub fn plain(teid: u32) -> Self {
        Self::new(teid, None)
    }

    /// With a downlink container: 16 octets, 20 with a paging policy indicator.
    pub fn downlink(teid: u32, qfi: u8, rqi: bool, ppi: Option<u8>) -> Self {
        let information = crate::DownlinkInformation {
            qfi,
            rqi,
            ppi,
            ..Default::default()
        };
        Self::new(teid, Some(PduSessionContainer::Downlink(information)))
    }

    /// With an uplink container: 16 octets.
    pub fn uplink(teid: u32, qfi: u8) -> Self {
        Self::new(teid, Some(PduSessionContainer::uplink(qfi)))
    }

    fn new(teid: u32, container: Option<PduSessionContainer>) -> Self {
        let mut octets = [0; Self::MAX_LEN];
        let len = write_gpdu_header(&mut octets, teid, 0, container.as_ref())
            .expect("the three constructors make containers of at most eight octets");
        let [.., a, b, c, d, e, f, g, h] = octets;
        Self {
            teid: teid.to_be_bytes(),
            container: [a, b, c, d, e, f, g, h],
            len: len as u8,
        }
    }

    /// Octets that [`GpduTemplate::write`] writes: 8, 16 or 20.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// The receiver's tunnel.
    pub const fn teid(&self) -> u32 {
        u32::from_be_bytes(self.teid)
    }

    /// The container of the same header with the time at which its packet leaves: a downlink one that asks for QoS
    /// monitoring (TS 38.415 5.5.2.1). None: this is no downlink tunnel with a QoS flow.
    pub fn monitoring(&self, sending_time: crate::TimeStamp) -> Option<PduSessionContainer> {
        let mut octets = [0; Self::MAX_LEN];
        let len = self.write(&mut octets, 0).ok()?;
        let header = Header::parse(&octets[..len]).ok()?;
        match header.pdu_session_container() {
            Ok(Some(PduSessionContainer::Downlink(information))) => {
                Some(PduSessionContainer::Downlink(crate::DownlinkInformation {
                    sending_time: Some(sending_time.0),
                    ..information
                }))
            }
            _ => None,
        }
    }

    /// [`Self::write`] of the usual 16 octets, for a payload that is known to fit. False, and nothing written: the header has
    /// another length.
    #[inline(always)]
    pub fn write_usual(&self, header: &mut [u8; 16], payload_len: u16) -> bool {
        let ([a, b, c, d], [e, f, g, h, ..]) = (self.teid, self.container);
        let [flags, message] = Self::WITH_EXTENSION;
        let [high, low] = payload_len.wrapping_add(8).to_be_bytes();
        let is_usual = self.len() == header.len();
        if is_usual {
            const NEXT: u8 = ExtensionType::PDU_SESSION_CONTAINER.0;
            *header = [flags, message, high, low, a, b, c, d, 0, 0, 0, NEXT, e, f, g, h];
        }
        is_usual
    }

    /// Writes the header for a user's packet of `payload_len` octets; returns its length. Cost: a copy of at most
    /// 20 octets and an addition.
    ///
    /// # Errors
    /// As [`write_gpdu_header`].
    #[inline]
    pub fn write(&self, buffer: &mut [u8], payload_len: usize) -> Result<usize, Error> {
        let len = self.len();
        let [length_high, length_low] = length_field(len, payload_len)?;
        let actual = buffer.len();
        let header = buffer
            .get_mut(..len)
            .ok_or(Error::BufferTooSmall { expected: len, actual })?;
        let [flags, message] = if len > MANDATORY_LEN {
            Self::WITH_EXTENSION
        } else {
            Self::WITHOUT_EXTENSION
        };
        let [a, b, c, d] = self.teid;
        // In steps of constant size, so that each is a move or two and none a call.
        header[..8].copy_from_slice(&[flags, message, length_high, length_low, a, b, c, d]);
        if len > 8 {
            let [a, b, c, d, ..] = self.container;
            header[8..16].copy_from_slice(&[0, 0, 0, ExtensionType::PDU_SESSION_CONTAINER.0, a, b, c, d]);
        }
        if len > 16 {
            header[16..20].copy_from_slice(&self.container[4..]);
        }
        Ok(len)
    }
}
