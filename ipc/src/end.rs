//! An end of the channel: sending, receiving, waiting, and knowing whether anybody is there.

use crate::attach::{Attachment, Role};
use crate::error::{ChannelError, ReceiveError, SendError};
use crate::ring::{Address, Consumer, MAX_MESSAGE, Producer};
use crate::{DEFAULT_DIRECTORY, doorbell};
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error as ArchiveError;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::writer::Buffer;
use rkyv::{Archive, Deserialize, Portable, Serialize};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use upf_model::batch::{FromHost, ToHost};

/// How long a killed peer may go unnoticed by [`End::wait`]: the dead ring no doorbell.
pub const DEATH_NOTICE: Duration = Duration::from_millis(100);

/// A message type that crosses the channel.
pub trait Message:
    Sized
    + Archive<
        Archived: Portable
                      + for<'a> CheckBytes<HighValidator<'a, ArchiveError>>
                      + Deserialize<Self, HighDeserializer<ArchiveError>>,
    > + for<'b, 'a> Serialize<HighSerializer<Buffer<'b>, ArenaHandle<'a>, ArchiveError>>
{
}

impl<T> Message for T where
    T: Archive<
            Archived: Portable
                          + for<'a> CheckBytes<HighValidator<'a, ArchiveError>>
                          + Deserialize<T, HighDeserializer<ArchiveError>>,
        > + for<'b, 'a> Serialize<HighSerializer<Buffer<'b>, ArenaHandle<'a>, ArchiveError>>
{
}

mod sealed {
    pub trait Sealed {
        const ROLE: crate::attach::Role;
    }
}

/// Which end: [`Controller`] or [`Host`].
pub trait Side: sealed::Sealed {
    /// What this end sends.
    type Outgoing: Message;
    /// What this end receives.
    type Incoming: Message;
}

/// `upf-ctl`'s side.
#[derive(Debug)]
pub enum Controller {}

/// `upf-host`'s side.
#[derive(Debug)]
pub enum Host {}

impl sealed::Sealed for Controller {
    const ROLE: Role = Role::Controller;
}
impl sealed::Sealed for Host {
    const ROLE: Role = Role::Host;
}
impl Side for Controller {
    type Outgoing = ToHost;
    type Incoming = FromHost;
}
impl Side for Host {
    type Outgoing = FromHost;
    type Incoming = ToHost;
}

/// `upf-ctl`'s end: sends [`ToHost`], receives [`FromHost`].
pub type ControllerEnd = End<Controller>;
/// `upf-host`'s end: sends [`FromHost`], receives [`ToHost`].
pub type HostEnd = End<Host>;

/// One end of a channel. At most one process at a time holds each end of a name.
///
/// It can be moved to another thread, but one thread at a time uses it: there is one producer and one consumer to
/// each ring. To interrupt its `wait` from elsewhere, take a [`Waker`]; to share it behind a lock, a [`Doorbell`].
#[derive(Debug)]
pub struct End<S: Side> {
    outgoing: Producer,
    incoming: Consumer,
    /// The peer as of the last receive or wait: whom `send` sends to. None: whoever is there.
    known_peer: Option<u32>,
    /// The peer as `wait` last reported it.
    reported_peer: Option<u32>,
    /// A send was refused for want of room, and `wait` has not yet reported that there is room again.
    starved: bool,
    poked: Arc<AtomicBool>,
    // Dropped last: it detaches.
    attachment: Attachment,
    side: PhantomData<fn() -> S>,
}

/// Interrupts an end's `wait` from any thread of the same process.
#[derive(Debug, Clone)]
pub struct Waker {
    mapping: Arc<crate::mapping::Mapping>,
    role: Role,
    poked: Arc<AtomicBool>,
}

impl Waker {
    /// Makes the running or else the next `wait` return true at once. Cost: tens of nanoseconds if the end is awake,
    /// a system call if it sleeps.
    pub fn wake(&self) {
        self.poked.store(true, Ordering::SeqCst);
        doorbell::ring(&self.mapping.header().ends[self.role.index()]);
    }
}

/// Where the thread of an end sleeps. One thread at a time may.
#[derive(Debug)]
pub struct Doorbell {
    mapping: Arc<crate::mapping::Mapping>,
    role: Role,
}

impl Doorbell {
    /// Sleeps until `has_reason` says so ([`End::has_reason`], asked before each sleep), at most `timeout`. A killed peer
    /// is noticed within [`DEATH_NOTICE`].
    pub fn wait(&self, timeout: Duration, mut has_reason: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + timeout.min(Duration::from_secs(86_400));
        let own = &self.mapping.header().ends[self.role.index()];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return has_reason();
            }
            if doorbell::sleep_unless(own, left.min(DEATH_NOTICE), &mut has_reason) {
                return true;
            }
        }
    }
}

impl<S: Side> End<S> {
    /// Attaches to the channel of that name on this machine, making it if need be.
    ///
    /// # Errors
    /// [`ChannelError::InUse`] if another process (or another `End` here) holds this end; a bad name; a channel of
    /// another release in use; the system's refusal, for instance for want of memory.
    pub fn open(name: &str) -> Result<Self, ChannelError> {
        Self::open_in(Path::new(DEFAULT_DIRECTORY), name)
    }

    /// As [`End::open`], with the channel file in `directory`, which should lie in memory (tmpfs) and belong to those
    /// who may take part.
    ///
    /// # Errors
    /// As [`End::open`].
    pub fn open_in(directory: &Path, name: &str) -> Result<Self, ChannelError> {
        let (attachment, outgoing, incoming) = Attachment::new(directory, name, S::ROLE)?;
        let end = Self {
            outgoing,
            incoming,
            known_peer: None,
            reported_peer: None,
            starved: false,
            poked: Arc::default(),
            attachment,
            side: PhantomData,
        };
        end.ring_peer();
        Ok(end)
    }

    /// Sends a message: archives it right into the ring.
    ///
    /// Messages of one end arrive once and in order, or not at all if an end is restarted in between. They are meant
    /// for the peer as it was when this end last received or waited: if another has taken its place since, nothing is
    /// sent, so that no answer to the old one ever reaches the new one. Cost: about a microsecond and the archiving;
    /// one system call to ask for the peer, one more if it sleeps.
    ///
    /// # Errors
    /// Nothing was sent: [`SendError`] says why.
    pub fn send(&mut self, message: &S::Outgoing) -> Result<(), SendError> {
        let to = self
            .attachment
            .peer()
            .filter(|&to| self.known_peer.is_none_or(|known| known == to));
        let to = to.ok_or(SendError::NoPeer)?;
        self.known_peer = Some(to);
        let address = Address {
            from: self.attachment.incarnation,
            to,
        };
        let archive = |room: &mut [u8]| {
            rkyv::api::high::to_bytes_in::<_, ArchiveError>(message, Buffer::from(room))
                .ok()
                .map(|b| b.len())
        };
        match self.outgoing.push(address, archive) {
            Ok(()) => {
                self.ring_peer();
                Ok(())
            }
            Err(no_room) if no_room.waiting == 0 => Err(SendError::TooLarge { limit: MAX_MESSAGE }),
            Err(no_room) => {
                self.starved = true;
                self.outgoing.starve();
                Err(SendError::Full {
                    waiting: no_room.waiting,
                })
            }
        }
    }

    /// Receives the next message, if there is one, as an owned value. Cost: validation and a copy.
    ///
    /// # Errors
    /// [`ReceiveError`]: the damaged part is skipped, the next call goes on behind it.
    pub fn try_receive(&mut self) -> Result<Option<S::Incoming>, ReceiveError> {
        let owned = |bytes: &[u8]| rkyv::from_bytes::<S::Incoming, ArchiveError>(bytes).map_err(|e| invalid(bytes, &e));
        self.pop(owned)?.transpose()
    }

    /// Lets `read` look at the next message, if there is one, where it lies in shared memory: validated, not copied.
    /// The message is gone when `read` returns.
    ///
    /// # Errors
    /// As [`End::try_receive`].
    pub fn receive_archived<R>(
        &mut self,
        read: impl FnOnce(&<S::Incoming as Archive>::Archived) -> R,
    ) -> Result<Option<R>, ReceiveError> {
        let in_place = |bytes: &[u8]| {
            rkyv::access::<<S::Incoming as Archive>::Archived, ArchiveError>(bytes)
                .map(read)
                .map_err(|e| invalid(bytes, &e))
        };
        self.pop(in_place)?.transpose()
    }

    fn pop<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, ReceiveError> {
        let (attachment, own) = (&self.attachment, self.attachment.incarnation);
        // A peer that left cleanly has made its number even; what it had sent is still good.
        let address = || Address {
            from: attachment.peer_state().wrapping_sub(1) | 1,
            to: own,
        };
        let present = attachment.peer_state();
        let popped = self.incoming.pop(address, read);
        if let Some(from) = match &popped {
            Ok(Some((_, from))) => Some(*from),
            _ => Some(present).filter(|p| p & 1 == 1),
        } {
            self.known_peer = Some(from);
        }
        if self.incoming.feeds_the_starved() {
            self.ring_peer();
        }
        popped
            .map(|found| found.map(|(message, _)| message))
            .map_err(|damaged| ReceiveError::Damaged { lost: damaged.lost })
    }

    /// Sleeps until there is something to do, at most `timeout`. True if [`End::has_reason`]; false if the time has passed.
    /// Cost while asleep: ten system calls per second.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        self.incoming_or_poked() || self.doorbell().wait(timeout, || self.has_reason())
    }

    fn incoming_or_poked(&self) -> bool {
        !self.incoming.is_empty() || self.poked.swap(false, Ordering::SeqCst)
    }

    /// Whether there is something to do:
    /// * a message has arrived,
    /// * the peer has come, gone or been restarted since this last said so,
    /// * there is room again after a send was refused as [`SendError::Full`],
    /// * or a [`Waker`] was used.
    ///
    /// Cost: a few loads if there is; one system call, to ask for the peer, if not.
    pub fn has_reason(&mut self) -> bool {
        if self.incoming_or_poked() {
            return true;
        }
        if self.starved && self.outgoing.starve() {
            self.starved = false;
            return true;
        }
        let peer = self.attachment.peer();
        if peer.is_some() {
            self.known_peer = peer;
        }
        std::mem::replace(&mut self.reported_peer, peer) != peer
    }

    /// Whether a living process is attached at the other end. Cost: one system call.
    pub fn peer_alive(&self) -> bool {
        self.attachment.peer().is_some()
    }

    /// Number of the living peer's attachment: a different one means that the peer was restarted.
    pub fn peer_incarnation(&self) -> Option<u32> {
        self.attachment.peer()
    }

    /// Bytes sent and not yet read by the peer, headers included.
    pub fn outgoing_bytes(&self) -> usize {
        self.outgoing.waiting()
    }

    /// The channel file.
    pub fn path(&self) -> &Path {
        self.attachment.path()
    }

    /// A handle to wait without holding this end, for ends that several threads share behind a lock.
    pub fn doorbell(&self) -> Doorbell {
        Doorbell {
            mapping: self.attachment.mapping.clone(),
            role: S::ROLE,
        }
    }

    /// A handle that interrupts `wait` from any thread of this process.
    pub fn waker(&self) -> Waker {
        Waker {
            mapping: self.attachment.mapping.clone(),
            role: S::ROLE,
            poked: self.poked.clone(),
        }
    }

    fn ring_peer(&self) {
        doorbell::ring(&self.attachment.mapping.header().ends[S::ROLE.peer().index()]);
    }
}

impl<S: Side> Drop for End<S> {
    fn drop(&mut self) {
        self.attachment.leave();
        self.ring_peer();
    }
}

fn invalid(bytes: &[u8], error: &ArchiveError) -> ReceiveError {
    ReceiveError::Invalid {
        bytes: bytes.len(),
        why: error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
