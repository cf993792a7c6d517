//! Where packets come from and go to: in memory, capture files, network interfaces; and the loop that runs them.
//!
//! One thread owns all ports and runs packets to completion: a burst from each port in turn, through the switch, out.
//! When nothing comes it waits in `poll`, so that an idle switch costs nothing.

pub mod capture;
pub mod interface;
pub mod memory;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use crate::engine::packet::Packet;
use crate::switch::{BURST, Burst, Switch};

/// A port of the switch.
pub trait Port: Send {
    /// Takes in what has arrived, at most a burst; calls `take` for each frame.
    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<usize>;

    /// Sends frames; what the port cannot take now is dropped. Gives how many were sent.
    fn send(&mut self, frames: &[&[u8]]) -> io::Result<usize>;

    /// What `poll` waits for; none for a port that never has to wait.
    fn descriptor(&self) -> Option<RawFd>;

    /// Nothing will come any more.
    fn is_finished(&self) -> bool {
        false
    }
}

/// Frames of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortCounters {
    /// Received.
    pub received: u64,
    /// Sent.
    pub sent: u64,
    /// Not sent, for the port was full or failed.
    pub send_failed: u64,
}

/// The ports of a switch and the loop over them.
#[derive(Default)]
pub struct Ports {
    ports: BTreeMap<u32, (Box<dyn Port>, PortCounters)>,
    burst: Burst,
    /// Frames for ports that do not exist.
    unknown: u64,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports")
            .field("numbers", &self.ports.keys())
            .finish_non_exhaustive()
    }
}

impl Ports {
    /// No ports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a port; replaces the one that had the number.
    pub fn add(&mut self, number: u32, port: Box<dyn Port>) {
        self.ports.insert(number, (port, PortCounters::default()));
    }

    /// Counters of all ports.
    pub fn counters(&self) -> Vec<(u32, PortCounters)> {
        self.ports
            .iter()
            .map(|(number, (_, counters))| (*number, *counters))
            .collect()
    }

    /// Frames that were to leave through ports that do not exist.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Runs until `stop` is set, or until every port is finished. For a thread of its own.
    pub fn run(&mut self, switch: &Switch, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let received = self.turn(switch)?;
            if received == 0 {
                if !self.ports.is_empty() && self.ports.values().all(|(port, _)| port.is_finished()) {
                    // What waits in queues still leaves.
                    while switch.is_waiting() && !stop.load(Ordering::Relaxed) {
                        self.turn(switch)?;
                    }
                    return Ok(());
                }
                self.wait(switch);
            }
        }
        Ok(())
    }

    /// One burst from each port. Gives how many frames came.
    pub fn turn(&mut self, switch: &Switch) -> io::Result<usize> {
        let mut total = 0;
        let numbers: Vec<u32> = self.ports.keys().copied().collect();
        for number in numbers {
            let Some((port, counters)) = self.ports.get_mut(&number) else {
                continue;
            };
            let burst = &mut self.burst;
            let received = port.receive(&mut |bytes| {
                let mut packet = burst.buffer();
                packet.fill(bytes);
                burst.received.push((number, packet));
            })?;
            counters.received += received as u64;
            total += received;
            if received > 0 {
                self.process(switch);
            }
        }
        if total == 0 {
            // Packets of the controller, queues and timeouts have their turn too.
            self.process(switch);
        }
        Ok(total)
    }

    fn process(&mut self, switch: &Switch) {
        switch.burst(&mut self.burst);
        // In order for each port, a batch at a time.
        let sent = std::mem::take(&mut self.burst.sent);
        let mut rest: &[(u32, Packet)] = &sent;
        while let Some((number, _)) = rest.first() {
            let count = rest.iter().take(BURST).take_while(|(n, _)| n == number).count();
            let (batch, others) = rest.split_at(count);
            rest = others;
            match self.ports.get_mut(number) {
                None => self.unknown += count as u64,
                Some((port, counters)) => {
                    let mut frames: [&[u8]; BURST] = [&[]; BURST];
                    for (frame, (_, packet)) in frames.iter_mut().zip(batch) {
                        *frame = packet.bytes();
                    }
                    let done = port.send(&frames[..count]).unwrap_or(0);
                    counters.sent += done as u64;
                    counters.send_failed += (count - done) as u64;
                }
            }
        }
        let mut sent = sent;
        for (_, packet) in sent.drain(..) {
            self.burst.recycle(packet);
        }
        self.burst.sent = sent;
    }

    /// Until a frame comes, or a millisecond has passed: queues, timeouts and the controller want their turn.
    fn wait(&self, switch: &Switch) {
        let mut polls: Vec<libc::pollfd> = self
            .ports
            .values()
            .filter_map(|(port, _)| port.descriptor())
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        if switch.is_waiting() {
            std::thread::yield_now();
            return;
        }
        // SAFETY: the array lives through the call and has the length given.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, 1) };
    }
}
