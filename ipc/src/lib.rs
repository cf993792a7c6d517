//! The shared-memory channel between `upf-ctl` and `upf-host`.
//!
//! Exactly one controller and one host share a channel; a name tells the channels of several UPFs on one machine
//! apart. Messages are [`upf_model::batch::ToHost`] downwards and [`upf_model::batch::FromHost`] upwards.
//!
//! # Why a channel of its own
//! The two daemons must survive each other: either may be killed at any instant and started again, and meet the other
//! as if nothing had happened. iceoryx2 0.10.0 was tried first. It carries the messages well (a round trip with both
//! ends asleep in between took 40 us), but twice in about 2,300 kills it was stuck for good: a process that dies between
//! `shm_open` and `ftruncate` of a connection leaves a segment of size zero, and every process started afterwards waits
//! for it without end while it cleans up after the dead (in iceoryx2-cal, `posix_shared_memory::open_impl` does not look
//! at its timeout when the mapping's size is zero), until somebody removes the file by hand. The tests of this crate do
//! the same to this channel. Two ends, two rings and three locks are little to get right, and leave nothing half-made.
//!
//! # Layout
//! One file in [`DEFAULT_DIRECTORY`] (memory, not disk), `upf-NAME.channel`: a header and two rings of 8 MiB, one for
//! each direction. A ring is bytes between two positions that only grow: `head` (read up to here) and `tail` (written
//! up to here). A record is sixteen bytes (length, incarnations of sender and addressee, check) and one rkyv archive.
//! Both processes map each ring twice in a row, so that a record that runs over the end is contiguous all the same.
//!
//! The sender archives its message **right into the ring**; the receiver validates the bytes there (bytecheck) and
//! either reads the archived form in place ([`End::receive_archived`]) or makes an owned value of it
//! ([`End::try_receive`]). No lock is taken and no system call made for the data.
//!
//! # Costs
//! | operation | cost |
//! | --- | --- |
//! | `send` | archiving, one `fcntl` (is the peer alive?), one `futex` if the peer sleeps |
//! | `receive_archived` | validation of the archive; no copy, no allocation, no system call |
//! | `try_receive` | that, and the allocations of the owned value |
//! | `wait` with a message there | one load |
//! | `wait` asleep | ten wake-ups a second, to look whether the peer was killed |
//!
//! Memory: 16 MiB for each channel, reserved when it is made, so that a full machine cannot break it later. A message
//! has at most [`MAX_MESSAGE`] bytes. `cargo run --release -p bench -- ipc` measures it all.
//!
//! # Threads
//! An [`End`] may move between threads, but only one uses it at a time; behind a lock several may, one of which sleeps at the
//! [`Doorbell`] without holding it. A [`Waker`] may be used from any thread. Within one process both ends may be open, for
//! tests and measurements.
//!
//! # Backpressure
//! Nothing is dropped for want of room: [`SendError::Full`] says that the message was not sent, and [`End::wait`]
//! returns once the peer has read half of the ring. A message that fits in no ring is [`SendError::TooLarge`].
//!
//! # What happens when an end dies
//! * Each end holds a lock on its byte of the file as long as it lives; the kernel releases it on any kind of death.
//!   `peer_alive` asks for that lock; `send` then fails with [`SendError::NoPeer`]. `wait` of the survivor returns at
//!   once if the peer left cleanly, within [`DEATH_NOTICE`] if it was killed.
//! * A record half-written at death was never published. Records published before are still delivered, until a
//!   successor attaches.
//! * A successor attaches to the same file as the next **incarnation**. Records from the dead incarnation, or meant
//!   for it, are dropped from then on: every connection starts empty, and with a `Hello`. An answer to a message of the
//!   old one does not reach the new one either: `send` goes to the peer as of the last receive or wait, or nowhere.
//!   Who answers later than at once forgets what was asked when [`End::peer_incarnation`] changes.
//! * If both ends were killed, the file stays and is used again by the next start. A clean end of the last one removes
//!   it. A file that is not of this release is replaced, unless its other end is alive ([`ChannelError::Incompatible`]).
//!
//! # Trust
//! Whoever may write the channel file is one of the two daemons (mode 0660; put it in a directory of your own with
//! [`End::open_in`] to narrow that). Damage is found, reported and skipped, never followed: positions, record headers
//! and every archive are checked. What is not defended against is a peer that rewrites a record *while* it is being
//! read, or truncates the file.
//!
//! # Example
//! ```
//! use ipc::{ControllerEnd, HostEnd};
//! use std::time::Duration;
//! use upf_model::batch::ToHost;
//!
//! let name = format!("example-{}", std::process::id());
//! let mut controller = ControllerEnd::open(&name)?;
//! let mut host = HostEnd::open(&name)?;
//! controller.send(&ToHost::Hello { controller: 7 })?;
//! assert!(host.wait(Duration::from_secs(1)));
//! assert_eq!(host.try_receive()?, Some(ToHost::Hello { controller: 7 }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `end` | the public ends: send, receive, wait |
//! | `ring` | records, cursors, their checks |
//! | `doorbell` | sleeping and waking |
//! | `attach` | the file's life, the locks |
//! | `mapping` | the layout, the pages |

mod attach;
mod doorbell;
mod end;
mod error;
mod mapping;
mod ring;

pub use end::{Controller, ControllerEnd, DEATH_NOTICE, Doorbell, End, Host, HostEnd, Message, Side, Waker};
pub use error::{ChannelError, ReceiveError, SendError};
pub use ring::MAX_MESSAGE;

/// Where channel files lie unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "/dev/shm";
