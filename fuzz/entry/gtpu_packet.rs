//! One UDP payload on the GTP-U port, and what must hold of any.

use gtpu::{ErrorIndication, GPdu, Header, Message, parse_gpdu};

/// Reads it by both ways: the fast one accepts nothing that the other does not, and finds the same.
pub fn gtpu_packet(data: &[u8]) {
    let fast = parse_gpdu(data);
    let Ok(header) = Header::parse(data) else {
        assert!(fast.is_err());
        return;
    };
    let gpdu = GPdu::from_header(&header);
    if let Ok(fast) = fast {
        assert_eq!(gpdu, Ok(fast));
    }
    if let Ok(gpdu) = gpdu {
        assert!(gpdu.header_len + gpdu.payload_len <= data.len());
    }
    assert_eq!(
        header.header_len() + header.payload().len() + header.trailing().len(),
        data.len()
    );
    let octets: usize = header.extensions().map(|extension| extension.content.len() + 2).sum();
    assert!(octets <= header.header_len());
    let _ = header.not_understood(&[]);
    let _ = Message::from_header(&header);
    let _ = ErrorIndication::from_header(&header);
}
