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
//!    beside a pointer to its session, found by one comparison. Framed routes, which are rare, are a trie that is asked
//!    only when the exact key is unknown ([`framed`]).
//! 2. **A session is one [`entry`]**: a *front*, the cache lines that its packets need, side by side with other sessions'
//!    fronts, and a *back* elsewhere. Replacing a session is one store, so that no packet sees a mixture of old and new
//!    rules, or of new rules and an old payload.
//! 3. **Rules become rows** ([`row`]): conjunctions of word comparisons, `(packet ^ a) & b == 0` or, for ports,
//!    `packet - a <= b`; ranges are not expanded. What most rules ask for fits three words. So three rules, and one that
//!    takes all other packets, fit into the entry's first line, and others are a [`block`] of lines, four rules in each.
//!    Vector instructions compare a packet with up to sixteen at once ([`vector`]): AVX-512, AVX2 or portable code, chosen
//!    when the program starts, the same results.
//! 4. **Who wins is one word** ([`order`]): the ranks of sixteen rows. Rows may stand in any order, and changing
//!    precedences is storing that word.
//! 5. **What can be decided once is not compared per packet** ([`compile`]). Keys that are alike to all rules share a
//!    *gate*: how a packet must have arrived, and which rows it is let through to. A UE address that the session key
//!    implies is not checked again. A session without SDF filters has no rows to fetch.
//! 6. **More rows get an index** ([`section`]): a [`sieve`], a line or a few for each 64 rows, which say what up to three
//!    bytes of the packet leave of them; or, for thousands, a bounded [`ladder`] of merged tuples. Whatever the masks are,
//!    they cannot multiply anything. Ethernet packet filters ([`ethernet`]) are looked at there and nowhere else.
//! 7. **Equal sets are stored once** ([`shape`], [`ruleset`]). Thousands of subscribers differ in tunnels, addresses
//!    and precedence values only. Without these their rules are equal, and stay in the cache.
//! 8. **A rule changes alone** ([`Writer::change`]): the entry is copied, one lane is written, one pointer stored; or the
//!    section is copied, and a row and a few bytes of its sieve are written.
//!
//! # Layout: what a packet touches
//! ```text
//!    key ──hash──▶ bucket (64 B: 4 keys) ──▶ header (64 B) with its rows            up to 3 rows, and one for the rest
//!                  [DRAM]                    [DRAM]    │ own rows (64 B for 4)       one set of one's own
//!                                                      ├▶ shared block [cache]       one of many sessions
//!                                                      └▶ sieve (64 to 384 B for 64 rows) ──▶ 1 or 2 rows   more than 16
//! ```
//! [`Guard::detect`] walks a batch of 32 through these, sixteen at a time, each step asking for the lines of the next one, so
//! that the fetches of many packets overlap, the sieve's and the row's too; packets with the same key that follow each
//! other are searched for once, and the header is read once for them. The payload is one pointer away from the header, for
//! who wants it. What few packets need (keys, the rules as they were put) lies elsewhere, so that headers are dense: a
//! million of them are 64 MB.
//!
//! # Invariants
//! * A key leads to at most one session; [`Writer::put`] refuses a key that another session has.
//! * An entry and its rows never change after they are published, but for two words of the header: whether something has
//!   taken the entry's place, and the order of its rows.
//! * What a reader can reach within a burst is not freed before the burst ends ([`rcu`]).
//! * All precedences of a session change in one store, so that a packet sees an order that the session had.
//! * Loom takes the whole table through what the memory model allows (`interleavings`), and finds none of these broken.
//! * [`oracle`] is the meaning of all this. Every path gives its results, and tests hold them to it.
//!
//! # Costs
//! | operation | cost |
//! | --- | --- |
//! | [`Reader::enter`], leaving | a store and a fence, a store; per burst |
//! | [`Guard::sessions`] | per packet one bucket line, one header line; a second bucket line while the index grows, or for a few per cent of the keys |
//! | [`Found::classify`], no filters | nothing more |
//! | ... up to 3 usual rules and one that asks for nothing | nothing more |
//! | ... up to 16 rows | one to five lines, side by side, for a private set of 4 to 16 usual rules; the same hot ones for a shared set |
//! | ... up to 2,048 rows of a direction | one to six lines per 64 rows, and the rows that are left, usually one or two; at worst all of them, if they are alike in every byte: the packets of that session pay it |
//! | ... more | at most 10 (IPv4) or 12 (IPv6) hash probes and the rows of their buckets, at worst all of them |
//! | ... while precedences of a large set are upset | the same without early ends |
//! | [`Found::flow_mask`] | linear in up to 16 rows, constant for more |
//! | [`Guard::framed`] | one step per bit of the prefix |
//! | [`Writer::put`] | linear in keys and rules |
//! | [`Writer::change`] | linear in the rules; one rule of a small set: a copy of the entry; of up to 2,048 rows: a copy of them and of their sieve |
//! | [`Writer::set_precedence`] | constant; of a large set, the first of a session allocates |
//! | [`Writer::remove`] | linear in keys |
//! | growth | spread over later changes, a few buckets each; lookups go on |
//! | memory | 27 to 51 bytes per key, 64 per session for the writer, an entry of 72 bytes in front and 128 (shared set) or 192 and more (rules of its own) at the back, the payload; of more than 16 rows, 22 bytes a row at most and what a rule is as bytes (some 40) |
//!
//! Limits, each an error and not a slow path: 31 exact keys in a session, 262,144 rules, 524,288 rows.
//!
//! # Threads
//! One control thread has the [`Writer`]. Any number of threads [register](Table::register) a [`Reader`] each. Readers
//! are wait-free: they take no lock, never retry, and write nothing that another thread writes. The writer takes a
//! lock only against readers being registered, and waits for readers only in [`Writer::synchronize`] (and if the index
//! doubles twice within one reader's burst). A reader outside a burst (a sleeping lcore) holds nothing up.
//!
//! # Hostile input
//! Rules come from the network too. The hash of keys is keyed, masks cannot multiply tables, port lists cannot multiply
//! rows beyond a limit that is checked before anything is built, and a costly session costs its own packets only. What
//! one owner of sessions may put is limited by a [`Quota`]. The worst rules a session can have make each of its own packets compare all of them, about 2 ns a row.
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
//!     application: None,
//!     sdf: vec![],
//!     ethernet: vec![],
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
mod ethernet;
mod explain;
mod flow_mask;
mod framed;
mod index;
#[cfg(all(test, loom))]
mod interleavings;
mod key;
mod ladder;
mod memory;
pub mod oracle;
mod order;
mod packet;
mod precedence;
mod quota;
mod rcu;
mod row;
mod rule;
mod ruleset;
mod section;
mod shape;
mod sieve;
mod slots;
mod sync;
mod table;
mod vector;
mod writer;

pub use ethernet::{EthernetFields, EthernetFilter, EthernetMask, EthernetMismatch, MacMatch, MacRange, TagMatch};
pub use explain::{Candidate, Explanation};
pub use flow_mask::{FlowKey, FlowMask};
pub use key::SessionKey;
pub use oracle::{Mismatch, SdfMismatch};
pub use packet::{ApplicationId, InterfaceSet, PacketFields};
pub use quota::{OwnerId, Quota};
pub use rcu::Ticket;
pub use rule::{PdrMatch, RuleIndex, SessionKeys};
pub use table::{Detection, Found, Guard, Reader, Table};
pub use writer::{ChangeError, PutError, RuleChange, Writer};
