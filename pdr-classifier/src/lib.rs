//! Which session does a packet belong to, and which of its PDRs detects it?
//!
//! # The problem
//! A UPF holds up to ten million PFCP sessions. For each packet it first finds the session, by the tunnel endpoint
//! that the packet came to or by the UE address that it goes to, and then, among that session's packet detection
//! rules, the one of highest precedence that matches (TS 29.244 5.2.1): several values of one field of a PDI are OR,
//! different fields are AND, an absent field matches everything, the lower precedence value wins. Meanwhile sessions
//! come, go and change, and a context push may change thousands of precedences; packets must not wait for that, must
//! not be lost by it, and must never see half of a change.
//!
//! Two facts shape the answer. *Memory is the cost*: with a million sessions every cache line that a packet touches
//! comes from DRAM, about 10 ns each even if a whole batch of them is fetched at once, and 100 ns or more if not;
//! comparing a few rules costs less than fetching them. And *nobody looks at another's rules*: a global classifier
//! (one tuple space, one decision tree for all PDRs) finds out by searching what the tunnel endpoint says at once, and
//! lets one session's odd masks slow down everybody's packets.
//!
//! # The idea, in growing steps
//! 1. **Exact keys first.** [`SessionKey`]s are hashed into buckets of one cache line ([`index`]): four keys, each
//!    beside a pointer to its session. Framed routes, which are rare, are a trie that is asked only when the exact key
//!    is unknown ([`framed`]).
//! 2. **A session is one immutable [`entry`]**: a header line with all that most packets need, and the payload that
//!    `put` was given. Replacing a session is one pointer store, so that no packet sees a mixture of old and new rules,
//!    or of new rules and an old payload.
//! 3. **Rules become rows** ([`row`]): conjunctions of word comparisons, `(packet ^ a) & b == 0` or, for ports,
//!    `packet - a <= b`; ranges are not expanded. Rows stand in *columns*, sixteen at a time ([`program`]), and vector
//!    instructions compare a packet with all of them at once ([`vector`]): AVX-512, AVX2 or portable code, chosen when
//!    the program starts, the same results.
//! 4. **What can be decided once is not compared per packet.** Rows are grouped by how a packet must have arrived
//!    (interface, network instance, key, set of UE addresses). A packet looks at the rows of its own direction, and a
//!    UE address that the session key implies is not checked again. A session without SDF filters has groups whose
//!    first row wins without any comparison.
//! 5. **Large groups get a [`ladder`]**: tuple-space search in which remote prefixes are rounded down to a few lengths,
//!    so that no choice of masks makes more than a dozen probes, the best step first and with an early end.
//! 6. **Equal rules are stored once** ([`shape`], [`ruleset`]). Thousands of subscribers differ in tunnels, addresses
//!    and precedence values only. Without these, rules are equal, are compiled once, and stay in the cache.
//! 7. **A precedence changes by one store** ([`precedence`]), without compiling anything.
//!
//! # Layout: what a packet touches
//! ```text
//!    key ──hash──▶ bucket (64 B, 4 keys) ──▶ entry: header line │ payload ──▶ program: groups │ columns of rows
//!                  [DRAM]                    [DRAM]                            [shared: cache; private: DRAM]
//! ```
//! [`Guard::sessions`] walks a batch of 32 through these one level at a time and asks for the lines of the next level
//! ahead of use, so that the fetches of 32 packets overlap.
//!
//! # Invariants
//! * A key leads to at most one session; [`Writer::put`] refuses a key that another session has.
//! * An entry, its program and its rule set never change after they are published, but for two pointers: what has taken
//!   the entry's place, and the present precedences.
//! * What a reader can reach within a burst is not freed before the burst ends ([`rcu`]).
//! * The rows of a group are in order of precedence as put; unless the present precedences are marked as upset, the
//!   first row that matches is the answer.
//! * [`oracle`] is the meaning of all this. Every path gives its results, and tests hold them to it.
//!
//! # Costs
//! | operation | cost |
//! | --- | --- |
//! | [`Reader::enter`], leaving | a store and a fence, a store; per burst |
//! | [`Guard::sessions`] | per packet one bucket line, one header line; a second bucket line while the index grows, or for a few per cent of the keys |
//! | [`Found::classify`], no filters | the groups of the session (two, usually): one line |
//! | ... up to 64 rows in a direction | and one comparison of each used column per 16 rows, ending at the first chunk with a match |
//! | ... more | at most 10 (IPv4) or 12 (IPv6) hash probes and the rows of their buckets; at worst, if all rows share a bucket, what comparing all of them costs: the packets of that session pay it |
//! | ... while precedences are upset | the same without early ends |
//! | [`Guard::framed`] | one step per bit of the prefix |
//! | [`Writer::put`] | linear in keys and rules; compiles if the shape of the rules is new |
//! | [`Writer::set_precedence`] | constant; the first of a session allocates |
//! | [`Writer::remove`] | linear in keys |
//! | growth | spread over later changes, a few buckets each; lookups go on |
//! | memory | 27 to 51 bytes per key, about 400 per session, rules once per shape |
//!
//! Limits, each an error and not a slow path: 31 exact keys in a session, 65,535 rules, 131,072 rows.
//!
//! # Threads
//! One control thread has the [`Writer`]. Any number of threads [register](Table::register) a [`Reader`] each. Readers
//! are wait-free: they take no lock, never retry, and write nothing that another thread writes. The writer takes a
//! lock only against readers being registered, and waits for readers only in [`Writer::synchronize`] (and if the index
//! doubles twice within one reader's burst). A reader outside a burst (a sleeping lcore) holds nothing up.
//!
//! # Hostile input
//! Rules come from the network too. The hash of keys is keyed, masks cannot multiply tables, port lists cannot multiply
//! rows beyond a limit that is checked before anything is built, and a costly session costs its own packets only.
//!
//! ```
//! use pdr_classifier::{InterfaceSet, PacketFields, PdrMatch, SessionKey, Table};
//! use upf_model::{EndpointId, Interface, NetworkInstanceId, Precedence, SessionId, Teid};
//!
//! let (table, mut writer) = Table::new();
//! let tunnel = SessionKey::FTeid { endpoint: EndpointId(0), teid: Teid(0x1234) };
//! let uplink = PdrMatch {
//!     precedence: Precedence(255),
//!     source_interface: Interface::Access,
//!     network_instance: NetworkInstanceId(0),
//!     tunnel: vec![tunnel],
//!     ue: vec!["10.45.0.7".parse()?],
//!     qfis: 0,
//!     sdf: vec![],
//! };
//! writer.put(SessionId(1), &[tunnel], &[], &[uplink], "what to do with its packets")?;
//!
//! let mut reader = table.register(); // one for each thread
//! let burst = reader.enter(); // once for each burst of packets
//! let found = burst.session(tunnel).expect("put above");
//! let packet = PacketFields::v4([192, 0, 2, 1].into(), [10, 45, 0, 7].into(), 6, 0)
//!     .arrived(InterfaceSet::of(&[Interface::Access]), NetworkInstanceId(0));
//! assert_eq!(found.classify(&packet), Some(0));
//! assert_eq!(*found.payload(), "what to do with its packets");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the modules are the chapters of the text above"
)]

mod arena;
mod block;
mod compile;
mod entry;
mod explain;
mod flow_mask;
mod framed;
mod index;
mod key;
mod ladder;
mod memory;
pub mod oracle;
mod order;
mod packet;
mod precedence;
mod rcu;
mod row;
mod rule;
mod ruleset;
mod section;
mod shape;
mod slots;
mod table;
mod vector;
mod writer;

pub use explain::{Candidate, Explanation};
pub use key::SessionKey;
pub use oracle::{Mismatch, SdfMismatch};
pub use packet::{InterfaceSet, PacketFields};
pub use rcu::Ticket;
pub use rule::{PdrMatch, SessionKeys};
pub use flow_mask::{FlowKey, FlowMask};
pub use table::{Detection, Found, Guard, Reader, Table};
pub use writer::{ChangeError, PutError, RuleChange, Writer};
