//! What the architecture itself knows of a program: standard metadata, and the core library's errors.

use super::LoadError;
use super::layout::Layout;
use super::slot::Slot;
use crate::json::Node;

/// Fields that the switch itself reads and writes; absent if the program has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standard {
    pub(crate) ingress_port: Option<Slot>,
    pub(crate) egress_spec: Option<Slot>,
    pub(crate) egress_port: Option<Slot>,
    pub(crate) instance_type: Option<Slot>,
    pub(crate) packet_length: Option<Slot>,
    pub(crate) checksum_error: Option<Slot>,
    pub(crate) parser_error: Option<Slot>,
    pub(crate) mcast_grp: Option<Slot>,
    pub(crate) egress_rid: Option<Slot>,
    pub(crate) ingress_timestamp: Option<Slot>,
    pub(crate) egress_timestamp: Option<Slot>,
    pub(crate) enq_timestamp: Option<Slot>,
    pub(crate) enq_qdepth: Option<Slot>,
    pub(crate) deq_timedelta: Option<Slot>,
    pub(crate) deq_qdepth: Option<Slot>,
    pub(crate) qid: Option<Slot>,
    pub(crate) priority: Option<Slot>,
}

impl Standard {
    /// Those that the program has.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        let all = [
            self.ingress_port,
            self.egress_spec,
            self.egress_port,
            self.instance_type,
            self.packet_length,
            self.checksum_error,
            self.parser_error,
            self.mcast_grp,
            self.egress_rid,
            self.ingress_timestamp,
            self.egress_timestamp,
            self.enq_timestamp,
            self.enq_qdepth,
            self.deq_timedelta,
            self.deq_qdepth,
            self.qid,
            self.priority,
        ];
        all.into_iter().flatten()
    }

    pub(super) fn load(layout: &Layout) -> Self {
        let of = |name: &str| layout.well_known(name);
        let either = |name: &str, other: &str| of(name).or_else(|| of(other));
        Standard {
            ingress_port: of("standard_metadata.ingress_port"),
            egress_spec: of("standard_metadata.egress_spec"),
            egress_port: of("standard_metadata.egress_port"),
            instance_type: of("standard_metadata.instance_type"),
            packet_length: of("standard_metadata.packet_length"),
            checksum_error: of("standard_metadata.checksum_error"),
            parser_error: of("standard_metadata.parser_error"),
            mcast_grp: either("intrinsic_metadata.mcast_grp", "standard_metadata.mcast_grp"),
            egress_rid: either("intrinsic_metadata.egress_rid", "standard_metadata.egress_rid"),
            ingress_timestamp: either(
                "intrinsic_metadata.ingress_global_timestamp",
                "standard_metadata.ingress_global_timestamp",
            ),
            egress_timestamp: either(
                "intrinsic_metadata.egress_global_timestamp",
                "standard_metadata.egress_global_timestamp",
            ),
            enq_timestamp: either("queueing_metadata.enq_timestamp", "standard_metadata.enq_timestamp"),
            enq_qdepth: either("queueing_metadata.enq_qdepth", "standard_metadata.enq_qdepth"),
            deq_timedelta: either("queueing_metadata.deq_timedelta", "standard_metadata.deq_timedelta"),
            deq_qdepth: either("queueing_metadata.deq_qdepth", "standard_metadata.deq_qdepth"),
            qid: of("queueing_metadata.qid"),
            priority: either("intrinsic_metadata.priority", "standard_metadata.priority"),
        }
    }
}

/// Values of the core library's parser errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errors {
    pub(crate) no_error: u64,
    pub(crate) packet_too_short: u64,
    pub(crate) stack_out_of_bounds: u64,
    pub(crate) header_too_short: u64,
    pub(crate) parser_timeout: u64,
    pub(crate) parser_invalid_argument: u64,
}

/// Reads `errors`: the core library's, and all by name.
pub(super) fn load_errors(node: &Node) -> Result<(Errors, Vec<(String, u64)>), LoadError> {
    let mut names = Vec::new();
    for error in node.items()? {
        names.push((error.at(0).str()?.to_owned(), error.at(1).usize()? as u64));
    }
    // What the program does not declare gets a value that nothing else has, as in BMv2.
    let of = |name: &str, spare: u64| names.iter().find(|(n, _)| n == name).map_or(spare, |(_, value)| *value);
    let spare = names.iter().map(|(_, value)| value + 1).max().unwrap_or(1);
    let errors = Errors {
        no_error: of("NoError", 0),
        packet_too_short: of("PacketTooShort", spare),
        stack_out_of_bounds: of("StackOutOfBounds", spare + 1),
        header_too_short: of("HeaderTooShort", spare + 2),
        parser_timeout: of("ParserTimeout", spare + 3),
        parser_invalid_argument: of("ParserInvalidArgument", spare + 4),
    };
    Ok((errors, names))
}
