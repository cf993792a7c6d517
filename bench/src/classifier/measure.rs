//! Taking the time of lookups and changes, and checking that the answers are right before any of it counts.

use super::contest::{BATCH, Contestant};
use super::rule::Packet;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Packets that are brought into the nearest cache before the clock starts, as a parser leaves them there.
const NEAR: usize = 128;

/// Packets in a circle, so that each repetition goes on with others.
pub struct Traffic {
    packets: Vec<Packet>,
    next: usize,
    clock: Duration,
}

impl Traffic {
    /// At least as many packets as are near at a time.
    pub fn new(mut packets: Vec<Packet>) -> Self {
        let enough = packets
            .iter()
            .copied()
            .cycle()
            .take(packets.len().next_multiple_of(NEAR));
        packets = enough.collect();
        let clock = (0..1_000).map(|_| Instant::now().elapsed()).min().unwrap_or_default();
        Self {
            packets,
            next: 0,
            clock,
        }
    }

    /// Starts over, so that everybody gets the same packets.
    pub const fn rewind(&mut self) {
        self.next = 0;
    }

    /// Nanoseconds per packet, over about as long as `each`.
    pub fn lookup(&mut self, contestant: &mut dyn Contestant, batch: usize, each: Duration) -> f64 {
        let (mut spent, mut packets) = (Duration::ZERO, 0);
        let begin = Instant::now();
        let mut answers = [0; BATCH];
        let mut near: Vec<Packet> = Vec::with_capacity(NEAR);
        while spent < each && begin.elapsed() < each * 4 {
            near.clear();
            near.extend_from_slice(&self.packets[self.next..self.next + NEAR]);
            self.next = (self.next + NEAR) % self.packets.len();
            let start = Instant::now();
            for burst in black_box(&near).chunks(batch) {
                contestant.lookup(burst, &mut answers[..burst.len()]);
                black_box(&answers);
            }
            spent += start.elapsed().saturating_sub(self.clock);
            packets += NEAR;
        }
        spent.as_secs_f64() * 1e9 / packets as f64
    }

    /// Compares up to `at_most` answers with the linear oracle's, one by one and in batches.
    ///
    /// # Errors
    /// One differs.
    pub fn check(&self, contestant: &mut dyn Contestant, at_most: usize) -> Result<(), String> {
        check(contestant, &self.packets[..self.packets.len().min(at_most)])
    }
}

/// Compares the answers for those packets with the linear oracle's.
///
/// # Errors
/// One differs.
pub fn check(contestant: &mut dyn Contestant, packets: &[Packet]) -> Result<(), String> {
    for batch in [1, BATCH] {
        for burst in packets.chunks(batch) {
            let mut answers = [0; BATCH];
            contestant.lookup(burst, &mut answers[..burst.len()]);
            for (packet, answer) in burst.iter().zip(answers) {
                if answer != packet.expected {
                    let (name, expected, fields) = (contestant.name(), packet.expected, packet.tuple);
                    return Err(format!(
                        "{name} gives rule {answer} where the linear oracle gives {expected}: packet {fields:?}, \
                         batches of {batch}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// How many changes were made, and nanoseconds per change of each fifth of them.
pub struct Changes {
    pub made: usize,
    pub times: Vec<f64>,
}

/// Makes the changes in order, for about `patience` at most.
pub fn make_changes<C>(
    changes: &[C],
    patience: Duration,
    mut make: impl FnMut(&C) -> Result<(), String>,
) -> Result<Changes, String> {
    let begin = Instant::now();
    let (mut made, mut times) = (0, Vec::new());
    for part in changes.chunks(changes.len().div_ceil(5).max(1)) {
        let start = Instant::now();
        let mut of_part = 0;
        for change in part {
            make(change)?;
            of_part += 1;
            if of_part % 16 == 1 && begin.elapsed() > patience {
                break;
            }
        }
        times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(of_part));
        made += of_part as usize;
        if begin.elapsed() > patience {
            break;
        }
    }
    Ok(Changes { made, times })
}

/// Bytes that this process has asked for and not given back: what is mapped, less what the allocator keeps free.
pub fn memory_in_use() -> usize {
    // SAFETY: reads the allocator's own counters.
    let counters = unsafe { libc::mallinfo2() };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let data_pages: usize = statm.split(' ').nth(5).and_then(|n| n.parse().ok()).unwrap_or(0);
    (data_pages * 4_096).saturating_sub(counters.fordblks)
}
