//! The P4Runtime API as tonic and prost generate it from `proto/` (p4lang/p4runtime, Apache-2.0). The three included
//! files are committed, so that nobody needs a protobuf compiler; `tests/generated.rs` checks that they are current.
#![allow(missing_docs, clippy::all, rustdoc::all, unused_qualifications)]

/// `google.*`: what gRPC's error details are made of.
pub mod google {
    /// `google.rpc`.
    pub mod rpc {
        include!("google.rpc.rs");
    }
}

/// `p4.*`.
pub mod p4 {
    /// `p4.v1`: the service and its entities.
    pub mod v1 {
        include!("p4.v1.rs");
    }
    /// `p4.config.*`.
    pub mod config {
        /// `p4.config.v1`: P4Info.
        pub mod v1 {
            include!("p4.config.v1.rs");
        }
    }
}
