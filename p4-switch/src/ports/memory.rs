//! Packets in memory, in bursts: for benchmarks and tests that measure.

use crate::memory::prefetch;
use crate::switch::{BURST, Burst, Switch};

/// Packets that are asked for before their turn, as a network card puts what it receives into the caches.
const AHEAD: usize = 4;

/// Runs bursts of packets through a switch. Keeps its buffers.
#[derive(Debug, Default)]
pub struct MemoryPorts {
    burst: Burst,
}

impl MemoryPorts {
    /// Runs packets, each with the port that it enters through; `sent` is called for each that leaves.
    pub fn run(&mut self, switch: &Switch, packets: &[(u32, &[u8])], mut sent: impl FnMut(u32, &[u8])) {
        for piece in packets.chunks(BURST) {
            for (at, (port, bytes)) in piece.iter().enumerate() {
                if let Some((_, later)) = piece.get(at + AHEAD) {
                    later.chunks(64).take(4).for_each(|line| prefetch(&line[0]));
                }
                let mut packet = self.burst.buffer();
                packet.fill(bytes);
                self.burst.received.push((*port, packet));
            }
            switch.burst(&mut self.burst);
            let mut leaving = std::mem::take(&mut self.burst.sent);
            for (port, packet) in leaving.drain(..) {
                sent(port, packet.bytes());
                self.burst.recycle(packet);
            }
            self.burst.sent = leaving;
        }
    }
}
