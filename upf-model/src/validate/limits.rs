//! How much of everything one session may have. Beyond it a request is refused with cause 75.
//!
//! The limits bound the memory that one peer can make a session take and the time that one packet can take in
//! it. They lie far above what SMFs send: a PDU session has some ten rules of each sort.

/// Packet detection rules of a session.
pub const PDRS: usize = 1024;
/// Forwarding action rules of a session.
pub const FARS: usize = 1024;
/// QoS enforcement rules of a session.
pub const QERS: usize = 1024;
/// Usage reporting rules of a session.
pub const URRS: usize = 1024;
/// SDF filters of a PDR.
pub const SDF_FILTERS_PER_PDR: usize = 64;
/// Port ranges of either end of a flow description, after merging.
pub const PORT_RANGES: usize = 64;
/// QERs of a PDR: a flow's, a session's, and room for slices.
pub const QERS_PER_PDR: usize = 8;
/// URRs of a PDR.
pub const URRS_PER_PDR: usize = 16;
/// Framed routes of a PDR, both families together.
pub const FRAMED_ROUTES_PER_PDR: usize = 64;
/// Duplicating parameters of a FAR: copies made of one packet.
pub const DUPLICATES_PER_FAR: usize = 4;
/// Buffering action rules of a session: as many as there are identifiers.
pub const BARS: usize = 256;
