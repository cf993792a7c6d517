//! A numbered, time-stamped UDP stream from the data network to a UE, and what became of it.
//!
//! Sender and receiver read the same clock, so that delays are one-way and need no synchronisation.

use crate::lab::{Lab, LabError, Side};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// What a datagram begins with: its number and its time, both as eight octets, big endian.
const STAMP: usize = 16;
/// A receiver looks that often whether the stream has ended.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Payload of a datagram, bytes; at least 16.
    pub bytes: usize,
    /// Datagrams a second.
    pub per_second: u32,
}

impl Shape {
    /// Kilobits of payload a second.
    pub fn kbps(self) -> f64 {
        self.bytes as f64 * 8.0 * f64::from(self.per_second) / 1e3
    }
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    number: u64,
    sent: Duration,
    arrived: Duration,
}

/// A stream under way.
pub struct Stream {
    shape: Shape,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Vec<Arrival>>,
}

/// What of a stream was sent within one interval.
#[derive(Debug, Clone, Serialize)]
pub struct Interval {
    /// Its middle, seconds since the beginning.
    pub at_s: f64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that never arrived.
    pub lost: u64,
    /// Payload that arrived, kbit/s.
    pub kbps: f64,
    /// Half of the datagrams that arrived took at most this long, milliseconds; none arrived: none.
    pub delay_p50_ms: Option<f64>,
    /// 99 of 100 took at most this long.
    pub delay_p99_ms: Option<f64>,
}

impl Stream {
    /// Starts sending from `from` in the data network to `to` at UE number `ue`; times are since `start`.
    ///
    /// # Errors
    /// An address is not there, or taken.
    pub fn start(
        lab: &Lab,
        ue: usize,
        (from, to): (SocketAddr, SocketAddr),
        shape: Shape,
        start: Instant,
    ) -> Result<Self, LabError> {
        let (sender, receiver) = (lab.udp(Side::Dn, from)?, lab.udp(Side::Ue(ue), to)?);
        receiver.set_read_timeout(Some(PATIENCE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sender = spawn(move || {
            let mut datagram = vec![0; shape.bytes.max(STAMP)];
            let gap = Duration::from_secs(1) / shape.per_second.max(1);
            let (mut number, mut due) = (0_u64, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                datagram[..8].copy_from_slice(&number.to_be_bytes());
                datagram[8..STAMP].copy_from_slice(&(start.elapsed().as_nanos() as u64).to_be_bytes());
                // A full buffer of ours is a loss like any other: the number is not used again.
                let _ = sender.send_to(&datagram, to);
                number += 1;
                due += gap;
                sleep(due.saturating_duration_since(Instant::now()));
            }
            number
        });
        let stopped = stop.clone();
        let receiver = spawn(move || {
            let (mut datagram, mut arrivals) = (vec![0; 2_048], Vec::new());
            loop {
                match receiver.recv(&mut datagram) {
                    Ok(length) if length >= STAMP => {
                        let word = |at: usize| datagram[at..at + 8].iter().fold(0, |w, o| w << 8 | u64::from(*o));
                        arrivals.push(Arrival {
                            number: word(0),
                            sent: Duration::from_nanos(word(8)),
                            arrived: start.elapsed(),
                        });
                    }
                    Ok(_) => {}
                    // Nothing for a while: what was in queues has come.
                    Err(_) if stopped.load(Ordering::Relaxed) => return arrivals,
                    Err(_) => {}
                }
            }
        });
        Ok(Self {
            shape,
            stop,
            sender,
            receiver,
        })
    }

    /// Ends it, and waits for what is still in queues.
    pub fn finish(self) -> Finished {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that has panicked has sent, or received, nothing that could be told.
        let sent = self.sender.join().unwrap_or_default();
        Finished {
            shape: self.shape,
            sent,
            arrivals: self.receiver.join().unwrap_or_default(),
        }
    }
}

/// A stream that has ended.
pub struct Finished {
    shape: Shape,
    sent: u64,
    arrivals: Vec<Arrival>,
}

impl Finished {
    /// By when they were sent, in intervals of this length. A lost datagram counts where its neighbours say that it was
    /// sent.
    pub fn intervals(&self, length: Duration, whole: Duration) -> Vec<Interval> {
        let count = (whole.as_nanos() / length.as_nanos().max(1)) as usize;
        let mut delays = vec![Vec::new(); count];
        let mut sent = vec![0; count];
        let slot = |sent: Duration| (sent.as_nanos() / length.as_nanos().max(1)) as usize;
        let mut when = vec![None; self.sent as usize];
        for arrival in &self.arrivals {
            if let Some(when) = when.get_mut(arrival.number as usize) {
                *when = Some(arrival.sent);
            }
            if let Some(delays) = delays.get_mut(slot(arrival.sent)) {
                delays.push(arrival.arrived.saturating_sub(arrival.sent).as_secs_f64() * 1e3);
            }
        }
        let gap = Duration::from_secs(1) / self.shape.per_second.max(1);
        let mut last = when.iter().flatten().next().copied().unwrap_or_default();
        for known in when {
            last = known.unwrap_or(last + gap);
            if let Some(sent) = sent.get_mut(slot(last)) {
                *sent += 1;
            }
        }
        let interval = |(at, (mut delays, sent)): (usize, (Vec<f64>, u64))| {
            delays.sort_by(f64::total_cmp);
            Interval {
                at_s: length.as_secs_f64() * (at as f64 + 0.5),
                sent,
                lost: sent.saturating_sub(delays.len() as u64),
                kbps: delays.len() as f64 * self.shape.bytes as f64 * 8e-3 / length.as_secs_f64(),
                delay_p50_ms: percentile(&delays, 0.5),
                delay_p99_ms: percentile(&delays, 0.99),
            }
        };
        delays.into_iter().zip(sent).enumerate().map(interval).collect()
    }

    /// The delays of what was sent between these times, ascending, milliseconds; and how many of it were lost.
    pub fn between(&self, from: Duration, to: Duration) -> (Vec<f64>, f64) {
        let within: Vec<&Arrival> = self.arrivals.iter().filter(|a| (from..to).contains(&a.sent)).collect();
        let mut delays: Vec<f64> = within
            .iter()
            .map(|a| a.arrived.saturating_sub(a.sent).as_secs_f64() * 1e3)
            .collect();
        delays.sort_by(f64::total_cmp);
        let numbers = within.iter().map(|a| a.number);
        let expected = match (numbers.clone().min(), numbers.max()) {
            (Some(first), Some(last)) => last - first + 1,
            _ => 1,
        };
        let lost = 1.0 - delays.len() as f64 / expected as f64;
        (delays, lost)
    }
}

/// Of ascending values.
pub fn percentile(ascending: &[f64], share: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    ascending.get((share * last as f64).round() as usize).copied()
}
