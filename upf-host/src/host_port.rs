//! Owns the host port: with a P4 target, the configured ports are the target's, and all their frames come and go
//! through one device of ours. Nobody behind this file knows.
//!
//! ```text
//!   host device ─▶ punt header off ─▶ as if received at the logical port ─▶ pipeline
//!   host device ◀─ reinject header on ◀───── as if sent at the logical port ◀────┘
//! ```
//! One of these for each lcore. Costs: a table look-up, 26 bytes read and 18 written; nothing is copied or allocated.

use crate::counters::{DropReason, HostEvent, LcoreCounters};
use crate::neighbours::PortIndex;
use crate::packet::Packet;
use crate::pipeline::flows::Missed;
use crate::pipeline::{BURST, Io, Now, Pipeline};
use arrayvec::ArrayVec;
use std::sync::Arc;
use upf_config::Config;
use upf_model::punt::{PUNT_LEN, REINJECT_LEN};
use upf_model::{PuntHeader, PuntReason, ReinjectHeader};

/// The host port, as one lcore uses it.
pub struct HostPort {
    /// By the target's port number.
    logical: Box<[Option<PortIndex>]>,
    /// The target's port number of each logical port.
    egress: Box<[u16]>,
    counters: Arc<LcoreCounters>,
}

impl HostPort {
    /// For the ports of this configuration; none if there is no P4 target.
    pub fn new(config: &Config, counters: Arc<LcoreCounters>) -> Option<Self> {
        config.p4.as_ref()?;
        // Checked when the configuration was loaded: every port is the target's, each number once.
        let numbers: Vec<u16> = config.ports.iter().filter_map(upf_config::Port::p4_port).collect();
        let highest = numbers.iter().copied().max().unwrap_or(0);
        let mut logical = vec![None; usize::from(highest) + 1];
        for (index, &number) in numbers.iter().enumerate() {
            logical[usize::from(number)] = Some(index as PortIndex);
        }
        Some(Self {
            logical: logical.into(),
            egress: numbers.into(),
            counters,
        })
    }

    /// Take frames received at the host port through the pipeline, in order: those from one logical port together, as
    /// far as they came together.
    pub fn receive<P: Packet>(
        &self,
        frames: &mut ArrayVec<P, BURST>,
        pipeline: &mut Pipeline<P>,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        for frame in frames.iter() {
            frame.prefetch();
        }
        let mut run = Run::default();
        for mut frame in frames.drain(..) {
            match self.open(&mut frame) {
                Ok((ingress, missed)) => {
                    if run.ingress != ingress {
                        run.process(pipeline, now, io);
                        run.ingress = ingress;
                    }
                    run.push(frame, missed);
                }
                Err(reason) => self.counters.dropped(reason, frame.bytes().len()),
            }
        }
        run.process(pipeline, now, io);
    }

    /// The logical port and the frame in what was received at the host port; none if it is neither.
    pub fn peek<'f>(&self, frame: &'f [u8]) -> Option<(PortIndex, &'f [u8])> {
        let header = PuntHeader::read(frame).ok()?;
        Some((self.ingress(&header)?, frame.get(PUNT_LEN..)?))
    }

    /// Take the punt header off: where the frame came in, and whether its flow was missed.
    fn open<P: Packet>(&self, frame: &mut P) -> Result<(PortIndex, Missed), DropReason> {
        let header = PuntHeader::read(frame.bytes()).map_err(|_| DropReason::NotPunted)?;
        self.counters.punted(header.reason, frame.bytes().len() - PUNT_LEN);
        let ingress = self.ingress(&header).ok_or(DropReason::PuntPort)?;
        frame.advance(PUNT_LEN);
        frame.forget_checksums();
        let missed = header
            .session
            .filter(|_| header.reason == PuntReason::FlowMiss)
            .map(|(id, _)| id);
        Ok((ingress, missed))
    }

    /// The logical port at which a frame was punted.
    fn ingress(&self, header: &PuntHeader) -> Option<PortIndex> {
        self.logical.get(usize::from(header.ingress_port)).copied().flatten()
    }

    /// Put the reinject header in front of a frame that is to leave by a queue of a logical port. None: no room, which is
    /// counted.
    #[inline]
    pub fn reinject<P: Packet>(&self, port: PortIndex, queue: u8, mut frame: P) -> Option<P> {
        match frame.prepend(REINJECT_LEN) {
            Some(room) => {
                let egress_port = self.egress[usize::from(port)];
                room.copy_from_slice(&ReinjectHeader { egress_port, queue }.to_bytes());
            }
            None => {
                self.counters.dropped(DropReason::NoHeadroom, frame.bytes().len());
                return None;
            }
        }
        self.counters.event(HostEvent::Reinjected);
        Some(frame)
    }
}

/// Consecutive frames of one logical port.
struct Run<P> {
    ingress: PortIndex,
    frames: ArrayVec<P, BURST>,
    missed: ArrayVec<Missed, BURST>,
    any_missed: bool,
}

impl<P> Default for Run<P> {
    fn default() -> Self {
        Self {
            ingress: 0,
            frames: ArrayVec::new(),
            missed: ArrayVec::new(),
            any_missed: false,
        }
    }
}

impl<P: Packet> Run<P> {
    fn push(&mut self, frame: P, missed: Missed) {
        self.frames.push(frame);
        self.missed.push(missed);
        self.any_missed |= missed.is_some();
    }

    /// Nothing is left of it.
    fn process(&mut self, pipeline: &mut Pipeline<P>, now: Now, io: &mut impl Io<P>) {
        if self.frames.is_empty() {
            return;
        }
        if self.any_missed {
            pipeline.process_missed(self.ingress, &mut self.frames, &self.missed, now, io);
        } else {
            pipeline.process(self.ingress, &mut self.frames, now, io);
        }
        self.missed.clear();
        self.any_missed = false;
    }
}
