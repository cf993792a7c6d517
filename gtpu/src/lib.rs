//! GTPv1-U (TS 29.281) without copies: views of what arrived, builders of what leaves.
//!
//! A tunnel packet is a UDP payload on port [`UDP_PORT`]. Reading one goes down this list until a step takes it:
//!
//! 1. [`parse_gpdu`]: a user's packet with one of the two common headers. Nearly all of them; 3 ns
//!    (`examples/header_cost.rs`).
//! 2. [`Header::parse`]: any message, checked from the first octet to the end of its extension headers.
//! 3. [`GPdu::from_header`] for a user's packet of any shape, [`Message::from_header`] for signalling.
//!
//! Writing: [`GpduTemplate`] for the packets of a tunnel, [`write_gpdu_header`] for one with time stamps or sequence
//! numbers, and a `write_` function for each signalling message.
//!
//! | module | owns |
//! | --- | --- |
//! | [`header`] | mandatory and optional octets, message types |
//! | [`extension`] | the extension header chain and its comprehension rules |
//! | [`container`] | the PDU Session Container (TS 38.415): QFI, RQI, PPI, time stamps |
//! | [`gpdu`] | the hot path, reading and writing |
//! | [`time_stamp`] | the time stamps of QoS monitoring |
//! | [`signalling`] | Echo, Error Indication, End Marker, Supported Extension Headers Notification |
//! | [`error`] | what was wrong, where, what was expected |
//!
//! Everything borrows from the caller's buffer; nothing allocates, nothing panics on any octets, there is no `unsafe`.
//! A reader's arithmetic is bounded by the buffer: no field of a packet makes it work longer than the packet is.
//! Integers in the interface are in host byte order.
#![no_std]
#![forbid(unsafe_code)]

pub mod container;
pub mod error;
pub mod extension;
pub mod gpdu;
pub mod header;
pub mod signalling;
pub mod time_stamp;

pub use container::{DownlinkInformation, PduSessionContainer, PduType, UplinkInformation, UplinkTimeStamps};
pub use error::Error;
pub use extension::{Comprehension, ExtensionHeader, ExtensionHeaders, ExtensionType};
pub use gpdu::{GPdu, GpduTemplate, NotFast, parse_gpdu, write_gpdu_header};
pub use header::{Header, MANDATORY_LEN, MessageType, OPTIONAL_LEN};
pub use signalling::{
    ERROR_INDICATION_MAX_LEN, ErrorIndication, Message, write_echo_request, write_echo_response, write_end_marker,
    write_error_indication, write_supported_extension_headers_notification,
};
pub use time_stamp::TimeStamp;

/// The registered UDP port of GTP-U (TS 29.281 4.4.2).
pub const UDP_PORT: u16 = 2152;
