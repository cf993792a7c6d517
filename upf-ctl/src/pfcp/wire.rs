//! PFCP on the wire: what a datagram says, and how to say something back (TS 29.244).
//!
//! ```text
//! datagram ──▶ header ──▶ elements ──▶ incoming (+ rules) ──▶ Message, in upf_model::decoded's terms
//! outgoing ──▶ writer ──▶ datagram
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`header`] | version, type, SEID, sequence number |
//! | `element` | splitting into IEs, reading octets, lengths |
//! | [`identity`], [`features`], `address` | IEs that several messages share |
//! | [`subscription`] | whose session it is |
//! | [`incoming`], `rules` | messages and rules that an SMF sends, read |
//! | `unsupported` | which IEs must not be ignored, and which may |
//! | [`outgoing`], [`writer`] | messages that a UPF sends, written |
//! | [`cause`] | refusals of what cannot be decoded |
//!
//! [`read_message`] is total: any octets give a message or an error that says whom to tell what, never a panic,
//! and the work is linear in the datagram's length. `rs-pfcp` does the header and names messages and IEs; rule
//! IEs are read and written here, because several of its typed ones are wrong or lose fields (docs/DEPENDENCIES.md).
//! Decoding here checks the encoding only; what the values mean is validated by `upf_model::validate`.
//!
//! ```
//! use upf_ctl::pfcp::wire::{self, Message, outgoing::HeartbeatResponse, identity::NtpSeconds};
//!
//! let request = [0x20, 1, 0, 12, 0, 0, 7, 0, 0, 96, 0, 4, 0xe1, 0xa4, 0x7d, 0x08];
//! let received = wire::read_message(&request)?;
//! assert!(matches!(received.message, Message::HeartbeatRequest(_)));
//!
//! let response = HeartbeatResponse { recovery_time_stamp: NtpSeconds(1) }.encode(received.header.sequence)?;
//! assert_eq!(response[..8], [0x20, 2, 0, 12, 0, 0, 7, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
pub mod cause;
mod element;
pub mod features;
pub mod header;
pub mod identity;
pub mod incoming;
pub mod outgoing;
mod rules;
pub mod subscription;
mod unsupported;
pub mod writer;

pub use cause::{Cause, Refusal};
pub use features::{CpFunctionFeatures, UpFeature, UpFunctionFeatures};
pub use header::Header;
pub use identity::{FSeid, NodeId, NtpSeconds};
pub use incoming::Message;
pub use subscription::Subscription;
pub use writer::TooLong;

/// A message that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its header.
    pub header: Header,
    /// The rest.
    pub message: Message,
}

/// A datagram that could not be read, by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not even a header: discard it (TS 29.244 7.6.2).
    #[error("{length} octets are too few for a PFCP header")]
    NoHeader {
        /// Of the datagram.
        length: usize,
    },
    /// Another version: answer with [`outgoing::version_not_supported`] (7.6.1).
    #[error("PFCP version {version}, expected 1")]
    Version {
        /// As in the header.
        version: u8,
        /// For the response.
        sequence: u32,
    },
    /// A broken or incomplete body. If it is a request, answer it with the refusal; else discard it (7.6.3 ff.).
    #[error("message of type {}: {refusal}", header.message_type)]
    Refused {
        /// Of the message.
        header: Header,
        /// Where to send the response of a Session Establishment Request, if that much could be read.
        cp_fseid: Option<FSeid>,
        /// Cause and Offending IE.
        refusal: Refusal,
    },
}

/// Reads one datagram.
///
/// # Errors
///
/// See [`WireError`]. The datagram must hold exactly one message: bundling (BUNDL) is not offered.
pub fn read_message(datagram: &[u8]) -> Result<Received, WireError> {
    let Some(framed) = header::read(datagram) else {
        return Err(WireError::NoHeader { length: datagram.len() });
    };
    let header = framed.header;
    if framed.version != header::VERSION {
        return Err(WireError::Version {
            version: framed.version,
            sequence: header.sequence,
        });
    }
    let body = framed.body.map_err(|message| WireError::Refused {
        header,
        cp_fseid: None,
        refusal: cause::invalid_length(None, message),
    })?;
    match incoming::read(&header, body) {
        Ok(message) => Ok(Received { header, message }),
        Err(refusal) => Err(WireError::Refused {
            header,
            cp_fseid: incoming::find_cp_fseid(body),
            refusal,
        }),
    }
}
