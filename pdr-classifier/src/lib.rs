//! Session identification and PDR classification with wait-free readers.

mod entry;
mod explain;
mod framed;
mod index;
mod key;
mod ladder;
mod memory;
pub mod oracle;
mod packet;
mod precedence;
mod program;
mod rcu;
mod row;
mod rule;
mod ruleset;
mod shape;
mod slots;
mod table;
mod vector;
mod writer;

pub use explain::{Candidate, Explanation};
pub use key::SessionKey;
pub use oracle::{Mismatch, SdfMismatch};
pub use packet::{AddressWords, InterfaceSet, PacketFields};
pub use rcu::Ticket;
pub use rule::{PdrMatch, SessionKeys};
pub use table::{Found, Guard, Reader, Table};
pub use writer::{PutError, Writer};
