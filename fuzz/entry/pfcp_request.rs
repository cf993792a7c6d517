//! One PFCP datagram, and what must hold of any.

use upf_ctl::pfcp::wire::{WireError, read_message};

/// Reads the datagram twice: the same each time, and a refusal never carries an acceptance.
pub fn pfcp_request(data: &[u8]) {
    let received = read_message(data);
    assert_eq!(received, read_message(data));
    if let Err(WireError::Refused { refusal, header, .. }) = received {
        assert!(!refusal.cause.is_acceptance());
        assert!(!refusal.message.is_empty());
        assert!(header.sequence < 1 << 24);
    }
}
