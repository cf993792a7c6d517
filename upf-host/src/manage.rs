//! The management thread's work: it owns the rules. Batches from upf-ctl are compiled and published here, counters are
//! summed here, and what lcores report leaves from here.
//!
//! A batch takes effect whole or not at all: everything is compiled first; if the classifier refuses one session, those
//! put before it are put back. It is answered when no packet under the old rules is on its way any more; if sessions of
//! it had packets in buffers that go on now, not before those have left.

mod table;

use crate::compile::{Compiled, CompiledSession, Compiler, Destination, Lasting, scheduling_of};
use crate::counters::{DropReason, HostEvent, LcoreCounters};
use crate::environment::Environment;
use crate::fence::{Fence, LateAnswers};
use crate::pipeline::Command;
use crate::pipeline::tunnel::Tunnel;
use pdr_classifier::{Ticket, Writer};
use qos::{BurstPolicy, Direction};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use table::Table;
use upf_model::batch::{Change, Count, Event, FromHost, HostCounters, PortCounters, SessionUsage, ToHost};
use upf_model::packed::Packer;
use upf_model::{Disposition, Far, FarId, OuterHeaderCreation, PuntReason, Scheduling, Seid, Session, SessionId};

/// An lcore that does not finish its burst within this time is stuck; the batch is answered all the same, and said so.
const GRACE: Duration = Duration::from_secs(1);

/// What the manager needs of the ports: their counters, in configuration order, and how many packet buffers are free.
pub trait Hardware {
    /// Counters of every port.
    fn ports(&self) -> Vec<PortCounters>;
    /// Packet buffers not in use.
    fn mempool_free(&self) -> u64;
}

/// The owner of the rules.
pub struct Manager<H> {
    env: Arc<Environment>,
    writer: Writer<CompiledSession>,
    sessions: Table<Managed>,
    packer: Packer,
    lcores: Vec<LcoreHandle>,
    hardware: H,
    burst: BurstPolicy,
    clock: Box<dyn Fn() -> u64 + Send>,
    max_sessions: u32,
    /// Number of this start.
    instance: u64,
    /// Sessions put since `SyncBegin`.
    syncing: Option<HashSet<SessionId>>,
    /// Answers to batches that let buffered packets go.
    late: LateAnswers,
}

/// A batch took effect.
#[derive(Debug)]
pub struct Applied {
    /// Final usage of removed sessions.
    pub removed: Vec<SessionUsage>,
    /// Passed once what its sessions had in buffers has left; none if there was nothing.
    pub drained: Option<Fence>,
}

/// How the manager reaches an lcore.
pub struct LcoreHandle {
    /// To its loop.
    pub commands: Sender<Command>,
    /// What it counts.
    pub counters: Arc<LcoreCounters>,
}

/// What is remembered of a session: for what the next change is made from, to undo a change, to say whose counts are
/// whose.
struct Managed {
    seid: Seid,
    /// Its rules.
    packed: Box<[u8]>,
    lasting: Lasting,
}

impl Managed {
    /// Usage of all its rules. `session` is what is packed.
    fn usage(&self, session: &Session) -> SessionUsage {
        let mut usage = self.lasting.ledger.usage(session);
        usage.buffered = self.lasting.buffered();
        usage.delays = self.lasting.delays.usage();
        usage
    }
}

/// Everything of a [`Manager`] that comes from outside.
pub struct Parts<H> {
    /// Ports and routes.
    pub env: Arc<Environment>,
    /// The classifier's one writer.
    pub writer: Writer<CompiledSession>,
    /// One for each lcore.
    pub lcores: Vec<LcoreHandle>,
    /// Ports and packet pool.
    pub hardware: H,
    /// Depth of token buckets.
    pub burst: BurstPolicy,
    /// The lcores' clock, nanoseconds.
    pub clock: Box<dyn Fn() -> u64 + Send>,
    /// The most sessions.
    pub max_sessions: u32,
    /// Different for every start.
    pub instance: u64,
}

impl<H: Hardware> Manager<H> {
    /// A manager without sessions.
    pub fn new(parts: Parts<H>) -> Self {
        let Parts {
            env,
            writer,
            lcores,
            hardware,
            burst,
            clock,
            max_sessions,
            instance,
        } = parts;
        Self {
            env,
            writer,
            sessions: Table::new(),
            packer: Packer::default(),
            lcores,
            hardware,
            burst,
            clock,
            max_sessions,
            instance,
            syncing: None,
            late: LateAnswers::default(),
        }
    }

    /// What is said when the channel opens.
    pub fn hello(&self) -> FromHost {
        FromHost::Hello {
            host: self.instance,
            max_sessions: self.max_sessions,
        }
    }

    /// Handle a message; the answer, if it has one and not a [late](Self::late) one.
    pub fn handle(&mut self, message: ToHost) -> Option<FromHost> {
        match message {
            ToHost::Hello { controller } => {
                tracing::info!(controller, "controller connected");
                self.syncing = None;
                self.late.forget();
                Some(self.hello())
            }
            ToHost::SyncBegin => {
                self.syncing = Some(HashSet::new());
                None
            }
            ToHost::SyncEnd { seq } => {
                let kept = self.syncing.take();
                let stale = |id: &SessionId| kept.as_ref().is_some_and(|kept| !kept.contains(id));
                let stale = self.sessions.ids().filter(stale);
                let stale: Vec<Change> = stale.map(|id| Change::Remove { id }).collect();
                tracing::info!(
                    sessions = self.sessions.len() - stale.len(),
                    stale = stale.len(),
                    "synchronised"
                );
                if kept.is_some() {
                    self.env.sessions_known.store(true, Ordering::Relaxed);
                }
                self.applied(seq, &stale)
            }
            ToHost::Apply { seq, changes } => self.applied(seq, &changes),
            ToHost::QueryUsage { seq, sessions } => {
                let known = sessions.iter().filter_map(|id| self.usage(*id));
                Some(FromHost::Usage {
                    seq,
                    sessions: known.collect(),
                })
            }
            ToHost::QueryNeighbours => {
                self.env.neighbours.forget_told();
                None
            }
            ToHost::QueryCounters { seq } => Some(FromHost::Counters {
                seq,
                counters: self.counters(),
            }),
        }
    }

    /// What is to be said now besides answers at once: batches whose buffered packets have left, neighbours that became
    /// known.
    pub fn late(&mut self) -> Vec<FromHost> {
        let mut late = self.late.take_due();
        let neighbours = self.env.neighbours.take_news().into_iter().map(Event::Neighbour);
        late.extend(neighbours.map(FromHost::Event));
        late
    }

    fn applied(&mut self, seq: u64, changes: &[Change]) -> Option<FromHost> {
        match self.apply(changes) {
            Ok(Applied { removed, drained }) => {
                let answer = FromHost::Applied {
                    seq,
                    error: None,
                    removed,
                };
                match drained {
                    None => Some(answer),
                    Some(fence) => {
                        self.late.hold(fence, GRACE, answer);
                        None
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "batch refused");
                Some(FromHost::Applied {
                    seq,
                    error: Some(error),
                    removed: Vec::new(),
                })
            }
        }
    }

    /// Apply changes in order, all or none.
    ///
    /// # Errors
    /// In words, which session was refused and why; then nothing has changed.
    pub fn apply(&mut self, changes: &[Change]) -> Result<Applied, String> {
        let new = changes
            .iter()
            .filter(|c| matches!(c, Change::Put { session, .. } if self.sessions.get(session.id).is_none()));
        if self.sessions.len() + new.count() > self.max_sessions as usize {
            return Err(format!(
                "expected at most {} sessions, which there are",
                self.max_sessions
            ));
        }
        let mut undo = Vec::with_capacity(changes.len());
        let mut after = After::default();
        for change in changes {
            let step = match change {
                Change::Put {
                    session,
                    end_markers,
                    discard_buffered,
                } => self.put(session, end_markers, discard_buffered, &mut after),
                Change::Remove { id } => Ok(self.take_out(*id)),
            };
            match step {
                Ok(before) => undo.push(before),
                Err(error) => {
                    self.roll_back(undo);
                    return Err(error);
                }
            }
        }
        let ticket = self.writer.grace_ticket();
        self.wait(ticket);
        Ok(self.finish(undo, after))
    }

    /// Publish one session. How to undo it comes back; what is to be done once the old rules are out of use is added
    /// to `after`.
    fn put(
        &mut self,
        session: &Session,
        end_markers: &[OuterHeaderCreation],
        discard: &[FarId],
        after: &mut After,
    ) -> Result<Undo, String> {
        if let Some(put) = &mut self.syncing {
            put.insert(session.id);
        }
        let packed = self.pack(session);
        match self.sessions.remove(session.id) {
            None => self
                .publish(None, session, packed, Lasting::default(), false)
                .map(|()| Undo::Remove(session.id)),
            // A synchronisation that changes nothing.
            Some(managed) if end_markers.is_empty() && discard.is_empty() && managed.packed == packed => {
                self.sessions.insert(session.id, managed);
                Ok(Undo::Nothing)
            }
            Some(managed) if managed.seid == session.seid => {
                let old = self.unpack(&managed.packed);
                let waiting = managed.lasting.buffered().packets > 0;
                let buffered = old.buffers() || waiting;
                let before = managed.packed.clone();
                self.replace(managed, &old, session, packed, buffered)?;
                if !discard.is_empty() {
                    after.commands.push(Command::Discard(session.seid, discard.to_vec()));
                }
                if buffered {
                    after.commands.push(Command::Drain(session.seid));
                    after.drains |= waiting;
                }
                let tunnels: Vec<(Tunnel, u8)> = end_markers.iter().filter_map(|m| self.tunnel(&old, *m)).collect();
                if !tunnels.is_empty() {
                    after.commands.push(Command::EndMarkers(tunnels));
                }
                Ok(Undo::PutBack(session.id, before))
            }
            // The slot has a new owner: nothing of the old one may be seen by it.
            Some(managed) => {
                self.writer.remove(session.id);
                match self.publish(None, session, packed, Lasting::default(), false) {
                    Ok(()) => Ok(Undo::Reinsert(Box::new(managed))),
                    Err(error) => {
                        self.roll_back(vec![Undo::Reinsert(Box::new(managed))]);
                        Err(error)
                    }
                }
            }
        }
    }

    /// A new version of a session in the place of an old one. On an error the old one stays.
    fn replace(
        &mut self,
        mut managed: Managed,
        old: &Session,
        session: &Session,
        packed: Box<[u8]>,
        drain: bool,
    ) -> Result<(), String> {
        if notifies(session).any(|far| !notifies(old).any(|was| was == far)) {
            managed.lasting.rearm();
        }
        let made = self.compile_and_put(Some(old), session, &mut managed.lasting, drain);
        if made.is_ok() {
            managed.packed = packed;
        }
        self.sessions.insert(session.id, managed);
        made
    }

    /// A session that the classifier does not have. `lasting` is of the version `before`.
    fn publish(
        &mut self,
        before: Option<&Session>,
        session: &Session,
        packed: Box<[u8]>,
        mut lasting: Lasting,
        drain: bool,
    ) -> Result<(), String> {
        self.compile_and_put(before, session, &mut lasting, drain)?;
        let managed = Managed {
            seid: session.seid,
            packed,
            lasting,
        };
        self.sessions.insert(session.id, managed);
        Ok(())
    }

    fn pack(&mut self, session: &Session) -> Box<[u8]> {
        let mut packed = Vec::with_capacity(256);
        self.packer.pack(session.shape(), session, &mut packed);
        packed.as_slice().into()
    }

    fn unpack(&self, packed: &[u8]) -> Session {
        self.packer.unpack(packed)
    }

    fn compile_and_put(
        &mut self,
        before: Option<&Session>,
        session: &Session,
        lasting: &mut Lasting,
        drain: bool,
    ) -> Result<(), String> {
        let compiler = Compiler {
            env: &self.env,
            lcores: self.lcores.len(),
            burst: self.burst,
            now_ns: (self.clock)(),
        };
        let compiled = compiler.compile(before, session, lasting, drain);
        let Compiled {
            keys,
            rules,
            session: payload,
            next,
        } = compiled;
        self.writer
            .put(session.id, &keys.exact, &keys.framed, &rules, payload)
            .map_err(|error| format!("session {:#x}: {error}", session.seid.0))?;
        lasting.adopt(before, session, next);
        Ok(())
    }

    /// Take a session out of the classifier; its counters stay until its last packet is through.
    fn take_out(&mut self, id: SessionId) -> Undo {
        let Some(managed) = self.sessions.remove(id) else {
            return Undo::Nothing;
        };
        self.writer.remove(id);
        Undo::Reinsert(Box::new(managed))
    }

    fn roll_back(&mut self, undo: Vec<Undo>) {
        for step in undo.into_iter().rev() {
            let result = match step {
                Undo::Nothing => Ok(()),
                Undo::Remove(id) => {
                    self.take_out(id);
                    Ok(())
                }
                Undo::PutBack(id, packed) => match self.sessions.remove(id) {
                    Some(refused) => {
                        let (before, session) = (self.unpack(&refused.packed), self.unpack(&packed));
                        self.publish(Some(&before), &session, packed, refused.lasting, true)
                    }
                    None => Ok(()),
                },
                Undo::Reinsert(managed) => {
                    let session = self.unpack(&managed.packed);
                    self.take_out(session.id);
                    let Managed { packed, lasting, .. } = *managed;
                    self.publish(Some(&session), &session, packed, lasting, true)
                }
            };
            if let Err(error) = result {
                // What was there before fits: its keys were free a moment ago.
                tracing::error!(%error, "undoing a refused batch failed");
            }
        }
    }

    /// The old rules are out of use: send what had to wait for that, and sum up what was removed.
    fn finish(&mut self, undo: Vec<Undo>, mut after: After) -> Applied {
        self.writer.try_reclaim();
        let mut removed = Vec::new();
        for step in undo {
            match step {
                Undo::Reinsert(managed) => {
                    let session = self.unpack(&managed.packed);
                    let usage = managed.usage(&session);
                    if usage.buffered.packets > 0 || session.buffers() {
                        after.commands.push(Command::Forget(session.seid));
                    }
                    removed.push(usage);
                }
                Undo::PutBack(id, _) => {
                    if let Some(managed) = self.sessions.get_mut(id) {
                        managed.lasting.ledger.settle();
                        after.drains |= managed.lasting.buffered().packets > 0; // the last under the old rules
                    }
                }
                Undo::Nothing | Undo::Remove(_) => {}
            }
        }
        let drained = after.drains.then(|| Fence::new(self.lcores.len()));
        after.commands.extend(drained.clone().map(Command::Pass));
        for command in after.commands {
            self.tell(command);
        }
        Applied { removed, drained }
    }

    /// Buffers are with every lcore; an End Marker is sent once.
    fn tell(&self, command: Command) {
        let lcores = if matches!(command, Command::EndMarkers(_)) {
            &self.lcores[..1]
        } else {
            &self.lcores[..]
        };
        for lcore in lcores {
            // A worker that is gone takes the whole process with it: nothing to do here.
            let _ = lcore.commands.send(command.clone());
        }
    }

    fn wait(&self, ticket: Ticket) {
        let deadline = Instant::now() + GRACE;
        while !self.writer.passed(ticket) {
            if Instant::now() > deadline {
                tracing::error!("an lcore has not finished its burst for {GRACE:?}");
                return;
            }
            std::thread::yield_now();
        }
    }

    /// The tunnel of an old path, for its End Marker, and the lowest queue that its packets leave by: from there the
    /// marker overtakes none of them, or only between weighted queues.
    fn tunnel(&self, old: &Session, creation: OuterHeaderCreation) -> Option<(Tunnel, u8)> {
        let into_it = |far: &&Far| {
            let parameters = far.forwarding.as_ref();
            parameters.is_some_and(|p| p.outer_header_creation == Some(creation))
        };
        let parameters = old.fars.iter().find(into_it)?.forwarding.as_ref()?;
        let fars: Vec<FarId> = old.fars.iter().filter(into_it).map(|far| far.id).collect();
        let pdrs = old.pdrs.iter().filter(|pdr| fars.contains(&pdr.far));
        let queue = pdrs.map(|pdr| scheduling_of(old, pdr).queue).min().unwrap_or(0);
        let compiler = Compiler {
            env: &self.env,
            lcores: 1,
            burst: self.burst,
            now_ns: 0,
        };
        let forward = compiler.forward(parameters, Direction::Downlink, None, Scheduling::default());
        match forward.to {
            Destination::Tunnel(tunnel) => Some((tunnel, queue)),
            Destination::Plain(_) | Destination::Unreachable => None,
        }
    }

    fn usage(&self, id: SessionId) -> Option<SessionUsage> {
        let managed = self.sessions.get(id)?;
        Some(managed.usage(&self.unpack(&managed.packed)))
    }

    /// Ports, drops and events, summed over lcores.
    pub fn counters(&self) -> HostCounters {
        let lcores = || self.lcores.iter().map(|l| &l.counters);
        let drops = DropReason::ALL.iter().map(|&reason| {
            let sum = lcores().fold(Count::default(), |mut sum, c| {
                sum += c.drops(reason);
                sum
            });
            (reason.name().to_owned(), sum)
        });
        let events = HostEvent::ALL
            .iter()
            .map(|&e| (e.name().to_owned(), lcores().map(|c| c.events(e)).sum()));
        let punts = PuntReason::ALL.iter().filter(|_| self.env.behind_p4).map(|&reason| {
            let sum = lcores().fold(Count::default(), |mut sum, c| {
                sum += c.punts(reason);
                sum
            });
            (reason.name().to_owned(), sum)
        });
        HostCounters {
            ports: self.hardware.ports(),
            drops: drops.collect(),
            punts: punts.collect(),
            events: events.collect(),
            buffered: self.env.buffered.count(),
            sessions: self.sessions.len() as u64,
            mempool_free: self.hardware.mempool_free(),
        }
    }
}

/// What is left to do once the old rules are out of use.
#[derive(Default)]
struct After {
    commands: Vec<Command>,
    /// Packets in buffers go on.
    drains: bool,
}

/// How to take one step of a batch back.
enum Undo {
    /// It changed nothing.
    Nothing,
    /// It made this session.
    Remove(SessionId),
    /// It replaced this version of a session.
    PutBack(SessionId, Box<[u8]>),
    /// It removed this session.
    Reinsert(Box<Managed>),
}

fn notifies(session: &Session) -> impl Iterator<Item = FarId> {
    session
        .fars
        .iter()
        .filter(|f| f.action.disposition == Disposition::Buffer { notify: true })
        .map(|f| f.id)
}
