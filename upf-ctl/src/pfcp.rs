//! PFCP, the N4 side (TS 29.244): what is on the wire, how messages travel, and which nodes we know.
//!
//! | module | owns |
//! | --- | --- |
//! | [`wire`] | octets to messages and back |
//! | [`transport`] | the socket, our own requests and their retransmission |
//! | [`duplicates`] | which requests have been answered already, and how |
//! | [`node`] | associations, heartbeats, restarts of peers |

pub mod duplicates;
pub mod node;
pub mod transport;
pub mod wire;
