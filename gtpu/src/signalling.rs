//! Owns GTP-U's signalling: path management and tunnel management messages (TS 29.281 7.2, 7.3).
//!
//! Messages about the path carry TEID 0 and a sequence number (the S flag is set, 5.1); an End Marker carries the
//! peer's TEID and nothing else. Information elements of a type below 128 are TV: their length follows from their
//! type. The others are TLV, with a length of two octets, but for Extension Header Type List, whose length is one.

use crate::header::{FLAG_E, FLAG_S, FLAGS_GTPV1, MANDATORY_LEN, OPTIONAL_LEN};
use crate::{Error, ExtensionType, Header, MessageType};
use core::net::IpAddr;

/// Information element types (TS 29.281 table 8.1-1).
mod element {
    pub const RECOVERY: u8 = 14;
    pub const TEID_DATA_I: u8 = 16;
    pub const PEER_ADDRESS: u8 = 133;
    pub const EXTENSION_HEADER_TYPE_LIST: u8 = 141;
}

/// A message by what it says.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// To be answered with [`write_echo_response`] and the same sequence number.
    EchoRequest {
        /// 0 if the peer sent none.
        sequence_number: u16,
    },
    /// The peer's path is alive.
    EchoResponse {
        /// Of the request it answers.
        sequence_number: u16,
        /// Restart counter: "shall not be used" (8.2), hence ignored; none if the peer left it out.
        recovery: Option<u8>,
    },
    /// The peer does not know a tunnel that we send on.
    ErrorIndication(ErrorIndication),
    /// The extension headers that the peer understands, answering one it did not.
    SupportedExtensionHeadersNotification {
        /// Their types, one octet each: see [`ExtensionType`].
        types: &'a [u8],
    },
    /// Nothing more will come on this path.
    EndMarker {
        /// The receiver's tunnel.
        teid: u32,
    },
    /// A user's packet: see [`crate::GPdu::from_header`].
    GPdu,
    /// Another type, to be ignored (TS 29.281 11: unknown message).
    Other(MessageType),
}

/// Error Indication (TS 29.281 7.3.1): the sender got a G-PDU for a tunnel it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorIndication {
    /// TEID Data I: the TEID of that G-PDU, in the address space of the Error Indication's sender.
    pub teid: u32,
    /// GTP-U Peer Address: the destination address of that G-PDU.
    pub peer: IpAddr,
    /// UDP Port extension header: the source port of that G-PDU, if told.
    pub udp_source_port: Option<u16>,
}

impl<'a> Message<'a> {
    /// What a message says, by its type.
    ///
    /// # Errors
    /// Malformed or missing information elements.
    pub fn from_header(header: &Header<'a>) -> Result<Self, Error> {
        let sequence_number = header.sequence_number().unwrap_or(0);
        Ok(match header.message_type() {
            MessageType::ECHO_REQUEST => Self::EchoRequest { sequence_number },
            MessageType::ECHO_RESPONSE => {
                let recovery = Element::find(header, element::RECOVERY)?.and_then(|value| value.first().copied());
                Self::EchoResponse {
                    sequence_number,
                    recovery,
                }
            }
            MessageType::ERROR_INDICATION => Self::ErrorIndication(ErrorIndication::from_header(header)?),
            MessageType::SUPPORTED_EXTENSION_HEADERS_NOTIFICATION => Self::SupportedExtensionHeadersNotification {
                types: Element::find(header, element::EXTENSION_HEADER_TYPE_LIST)?.ok_or(Error::MissingElement {
                    name: "Extension Header Type List",
                    kind: element::EXTENSION_HEADER_TYPE_LIST,
                })?,
            },
            MessageType::END_MARKER => Self::EndMarker { teid: header.teid() },
            MessageType::G_PDU => Self::GPdu,
            other => Self::Other(other),
        })
    }
}

impl ErrorIndication {
    /// Reads one.
    ///
    /// # Errors
    /// [`Error::MessageType`] if it is none, and malformed or missing information elements.
    pub fn from_header(header: &Header<'_>) -> Result<Self, Error> {
        let actual = header.message_type();
        if actual != MessageType::ERROR_INDICATION {
            return Err(Error::MessageType {
                expected: MessageType::ERROR_INDICATION.0,
                actual: actual.0,
            });
        }
        let missing = |name, kind| Error::MissingElement { name, kind };
        let teid = Element::find(header, element::TEID_DATA_I)?
            .and_then(|value| value.first_chunk::<4>())
            .ok_or(missing("Tunnel Endpoint Identifier Data I", element::TEID_DATA_I))?;
        let peer = Element::find(header, element::PEER_ADDRESS)?
            .ok_or(missing("GTP-U Peer Address", element::PEER_ADDRESS))?;
        let peer = match peer.len() {
            4 => peer.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
            16 => peer.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
            _ => None,
        }
        .ok_or(Error::PeerAddressLength { actual: peer.len() })?;
        let udp_source_port = header
            .extensions()
            .find(|e| e.kind == ExtensionType::UDP_PORT)
            .and_then(|e| e.content.first_chunk::<2>())
            .map(|octets| u16::from_be_bytes(*octets));
        Ok(Self {
            teid: u32::from_be_bytes(*teid),
            peer,
            udp_source_port,
        })
    }
}

/// Walking information elements.
struct Element;

impl Element {
    /// The value of the first element of a type.
    fn find<'a>(header: &Header<'a>, wanted: u8) -> Result<Option<&'a [u8]>, Error> {
        let elements = header.payload();
        let mut at = 0;
        while let Some(&kind) = elements.get(at) {
            let offset = header.header_len() + at;
            let truncated = |expected| Error::Truncated {
                field: "information element",
                offset,
                expected,
                actual: elements.len() - at,
            };
            let (prefix, len) = match kind {
                element::RECOVERY => (1, 1),
                element::TEID_DATA_I => (1, 4),
                element::EXTENSION_HEADER_TYPE_LIST => (2, usize::from(*elements.get(at + 1).ok_or(truncated(2))?)),
                128.. => match elements.get(at + 1..at + 3) {
                    Some(&[high, low]) => (3, usize::from(u16::from_be_bytes([high, low]))),
                    _ => return Err(truncated(3)),
                },
                _ => return Err(Error::UnknownElement { kind, offset }),
            };
            let value = elements
                .get(at + prefix..at + prefix + len)
                .ok_or(truncated(prefix + len))?;
            if kind == wanted {
                return Ok(Some(value));
            }
            at += prefix + len;
        }
        Ok(None)
    }
}

/// Writes an Echo Request (TS 29.281 7.2.1); returns its length, 12.
///
/// # Errors
/// [`Error::BufferTooSmall`]; then nothing is written. So with all that follow.
pub fn write_echo_request(buffer: &mut [u8], sequence_number: u16) -> Result<usize, Error> {
    write_path_message(buffer, MessageType::ECHO_REQUEST, sequence_number, &[], &[])
}

/// Writes an Echo Response (TS 29.281 7.2.2) to the request of that sequence number; returns its length, 14.
/// Its Recovery element is 0, as 8.2 asks.
///
/// # Errors
/// [`Error::BufferTooSmall`].
pub fn write_echo_response(buffer: &mut [u8], sequence_number: u16) -> Result<usize, Error> {
    write_path_message(
        buffer,
        MessageType::ECHO_RESPONSE,
        sequence_number,
        &[],
        &[&[element::RECOVERY, 0]],
    )
}

/// Writes an Error Indication (TS 29.281 7.3.1); returns its length, at most [`ERROR_INDICATION_MAX_LEN`].
///
/// # Errors
/// [`Error::BufferTooSmall`].
pub fn write_error_indication(buffer: &mut [u8], indication: &ErrorIndication) -> Result<usize, Error> {
    let [a, b, c, d] = indication.teid.to_be_bytes();
    let teid = [element::TEID_DATA_I, a, b, c, d];
    let (v4, v6);
    let (len, address): (u8, &[u8]) = match indication.peer {
        IpAddr::V4(address) => {
            v4 = address.octets();
            (4, &v4)
        }
        IpAddr::V6(address) => {
            v6 = address.octets();
            (16, &v6)
        }
    };
    let peer = [element::PEER_ADDRESS, 0, len];
    let extension = indication.udp_source_port.map(|port| {
        let [high, low] = port.to_be_bytes();
        [ExtensionType::UDP_PORT.0, 1, high, low, ExtensionType::NONE.0]
    });
    let extension = extension.as_ref().map_or(&[][..], |octets| &octets[..]);
    write_path_message(
        buffer,
        MessageType::ERROR_INDICATION,
        0,
        extension,
        &[&teid, &peer, address],
    )
}

/// The longest Error Indication: header, UDP Port, TEID Data I, an IPv6 peer address.
pub const ERROR_INDICATION_MAX_LEN: usize = 12 + 4 + 5 + 3 + 16;

/// Writes a Supported Extension Headers Notification (TS 29.281 7.2.3); returns its length. No more than 255 types
/// fit, and there are no more.
///
/// # Errors
/// [`Error::BufferTooSmall`], [`Error::PayloadTooLong`] for more than 255 types.
pub fn write_supported_extension_headers_notification(
    buffer: &mut [u8],
    types: &[ExtensionType],
) -> Result<usize, Error> {
    let mut list = [0; 2 + 255];
    let count = u8::try_from(types.len()).map_err(|_| Error::PayloadTooLong {
        expected: 255,
        actual: types.len(),
    })?;
    list[0] = element::EXTENSION_HEADER_TYPE_LIST;
    list[1] = count;
    for (octet, kind) in list[2..].iter_mut().zip(types) {
        *octet = kind.0;
    }
    let list = &list[..2 + types.len()];
    write_path_message(
        buffer,
        MessageType::SUPPORTED_EXTENSION_HEADERS_NOTIFICATION,
        0,
        &[],
        &[list],
    )
}

/// Writes an End Marker (TS 29.281 7.3.2) for the peer's tunnel; returns its length, 8.
///
/// # Errors
/// [`Error::BufferTooSmall`].
pub fn write_end_marker(buffer: &mut [u8], teid: u32) -> Result<usize, Error> {
    let [a, b, c, d] = teid.to_be_bytes();
    put(buffer, &[&[FLAGS_GTPV1, MessageType::END_MARKER.0, 0, 0, a, b, c, d]])
}

/// Writes a message with TEID 0 and a sequence number. `extension` is empty, or one whole extension header after
/// its type.
fn write_path_message(
    buffer: &mut [u8],
    kind: MessageType,
    sequence_number: u16,
    extension: &[u8],
    elements: &[&[u8]],
) -> Result<usize, Error> {
    let (next, chain) = extension
        .split_first()
        .map_or((ExtensionType::NONE.0, &[][..]), |(next, chain)| (*next, chain));
    let payload_len: usize = elements.iter().map(|e| e.len()).sum();
    let [high, low] = ((OPTIONAL_LEN + chain.len() + payload_len) as u16).to_be_bytes();
    let [seq_high, seq_low] = sequence_number.to_be_bytes();
    let flags = FLAGS_GTPV1 | FLAG_S | if chain.is_empty() { 0 } else { FLAG_E };
    let header: [u8; MANDATORY_LEN + OPTIONAL_LEN] = [flags, kind.0, high, low, 0, 0, 0, 0, seq_high, seq_low, 0, next];
    let expected = header.len() + chain.len() + payload_len;
    let actual = buffer.len();
    let (start, rest) = match buffer.get_mut(..expected) {
        Some(message) => message.split_at_mut(header.len() + chain.len()),
        None => return Err(Error::BufferTooSmall { expected, actual }),
    };
    put(start, &[&header, chain])?;
    put(rest, elements)?;
    Ok(expected)
}

/// Copies the parts one after another, all or nothing; returns how many octets they are.
fn put(buffer: &mut [u8], parts: &[&[u8]]) -> Result<usize, Error> {
    let expected = parts.iter().map(|p| p.len()).sum();
    if buffer.len() < expected {
        return Err(Error::BufferTooSmall {
            expected,
            actual: buffer.len(),
        });
    }
    let mut rest = buffer;
    for part in parts {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    Ok(expected)
}
