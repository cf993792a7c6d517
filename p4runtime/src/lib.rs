//! P4Runtime for Rust: the API, a view of P4Info by name, and a client.
//!
//! P4Runtime (<https://p4.org/p4-spec/p4runtime/main/P4Runtime-Spec.html>) is how a controller programs a P4 target: it
//! sets the compiled program, writes and reads the entries of tables and externs, and exchanges packets, digests and
//! idle-timeout notifications over one stream, on which several controllers also elect a primary.
//!
//! | module | owns |
//! | --- | --- |
//! | [`api`] | messages and services, generated from the protos of `proto/` and committed |
//! | [`value`] | canonical byte strings: how a `bit<W>` travels |
//! | [`p4info`] | P4Info as names, widths and kinds of tables, actions and externs |
//! | [`text`] | protobuf's text format, for `.p4info.txt` |
//! | [`entry`] | typed builders of table entries, and what a read entry says by name |
//! | [`entity`] | the other entities, and updates |
//! | [`client`] | connection, arbitration, pipeline, batches, reads, the stream |
//! | [`error`] | what can go wrong, down to the update of a batch |
//!
//! ```
//! use p4runtime::{P4Info, TableEntry};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let info = P4Info::from_text(r#"
//!     tables {
//!       preamble { id: 0x02000001 name: "upf.uplink_sessions" alias: "uplink_sessions" }
//!       match_fields { id: 1 name: "teid" bitwidth: 32 match_type: EXACT }
//!       action_refs { id: 0x01000001 }
//!       size: 1024
//!     }
//!     actions {
//!       preamble { id: 0x01000001 name: "upf.set_session" alias: "set_session" }
//!       params { id: 1 name: "session" bitwidth: 20 }
//!     }"#)?;
//! let entry = TableEntry::new(&info, "uplink_sessions")
//!     .match_exact("teid", 0x1234u32)
//!     .action("set_session")
//!     .param("session", 7u32);
//! let update = entry.insert()?;
//! assert!(TableEntry::new(&info, "uplink_sessions").match_exact("teid", 1u64 << 32).build().is_err());
//! # let _ = update;
//! # Ok(())
//! # }
//! ```

pub mod api;
pub mod client;
pub mod entity;
pub mod entry;
pub mod error;
pub mod p4info;
pub mod text;
pub mod value;

pub use api::p4::v1;
pub use client::{Client, Events, Options, State};
pub use entry::{ActionCall, EntryView, TableEntry};
pub use error::{ClientError, EntryError, P4InfoError, UpdateError, WriteError};
pub use p4info::P4Info;
pub use value::Value;
