//! A port's rate: a token bucket in the form of virtual scheduling (ITU-T I.371, the generic cell rate algorithm), in one
//! word, so that the lcores that share a port share its rate without a lock.
//!
//! The word is the time at which everything sent so far is through at the rate. A frame may go while that is no more
//! than the tolerance ahead of now; each one moves it on by its own time. In the long run exactly the rate leaves: what
//! a late poll has missed, up to the tolerance, the next one catches up.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the wire needs besides the bytes that a device is given: preamble and start of frame 8, frame check sequence 4,
/// gap between frames 12.
const WIRE_OVERHEAD: u32 = 24;
/// Shorter frames are padded to this, frame check sequence not counted.
const SHORTEST: u32 = 60;
/// Time is counted in 64ths of a nanosecond: at 100 Gbit/s the shortest frame takes 430 of them.
const FRACTION: u32 = 6;
/// The time of one byte has 16 more bits.
const PER_BYTE_FRACTION: u32 = 16;

/// Bytes that a frame takes from the wire's rate.
#[inline]
pub fn wire_bytes(frame: usize) -> u32 {
    (frame as u32).max(SHORTEST) + WIRE_OVERHEAD
}

/// A rate on the wire.
#[derive(Debug)]
pub struct Shaper {
    through: AtomicU64,
    per_byte: u64,
    tolerance: u64,
}

impl Shaper {
    /// At least 1 Mbit/s; `burst_ns` is how much may leave at once after a pause, as time at the rate. One frame always
    /// may.
    pub fn new(bits_per_second: u64, burst_ns: u64) -> Self {
        let per_byte =
            (8_000_000_000u128 << (FRACTION + PER_BYTE_FRACTION)) / u128::from(bits_per_second.max(1_000_000));
        Self {
            through: AtomicU64::new(0),
            per_byte: per_byte as u64,
            tolerance: burst_ns << FRACTION,
        }
    }

    /// When the next frame may go: `now_ns`, or later.
    #[inline]
    pub fn ready_at(&self, now_ns: u64) -> u64 {
        let through = self.through.load(Ordering::Relaxed);
        let ready = through.saturating_sub(self.tolerance).div_ceil(1 << FRACTION);
        ready.max(now_ns)
    }

    /// Take a frame's time, if it is the rate's turn. Any frame may go that [`Self::ready_at`] allows; only another lcore
    /// can come between.
    #[inline]
    pub fn take(&self, now_ns: u64, wire_bytes: u32) -> bool {
        let now = now_ns << FRACTION;
        let cost = (u64::from(wire_bytes) * self.per_byte) >> PER_BYTE_FRACTION;
        let next = |through: u64| (through <= now + self.tolerance).then(|| through.max(now) + cost);
        self.through
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits that leave in `seconds` when the shaper is asked every `poll_ns` for as many frames as it lets go.
    fn bits_shaped(mbps: u64, frame: usize, poll_ns: u64, seconds: u64) -> u64 {
        let shaper = Shaper::new(mbps * 1_000_000, 200_000);
        let start = 1_000_000_000;
        let mut bytes = 0;
        let mut now = start;
        while now < start + seconds * 1_000_000_000 {
            while shaper.take(now, wire_bytes(frame)) {
                bytes += u64::from(wire_bytes(frame));
            }
            now += poll_ns;
        }
        bytes * 8
    }

    #[test]
    fn the_rate_on_the_wire_is_exact_however_long_the_frames_and_however_often_it_is_polled() {
        for mbps in [1, 10, 100, 1_000] {
            for frame in [60, 594, 1_514] {
                for poll_ns in [1_000, 7_777, 150_000] {
                    let seconds = if mbps == 1_000 { 1 } else { 4 };
                    let wanted = (mbps * 1_000_000 * seconds) as f64;
                    let found = bits_shaped(mbps, frame, poll_ns, seconds) as f64;
                    let off = (found / wanted - 1.0).abs();
                    assert!(
                        off < 0.006,
                        "{mbps} Mbit/s, frames of {frame}, polled every {poll_ns} ns: {off:.4} off"
                    );
                }
            }
        }
    }

    #[test]
    fn after_a_pause_no_more_than_the_burst_and_one_frame_leave_at_once() {
        let shaper = Shaper::new(100_000_000, 1_000_000); // a burst of 12,500 bytes
        let now = 5_000_000_000;
        let frames = (0..100).filter(|_| shaper.take(now, 1_538)).count();
        assert_eq!(frames, 12_500 / 1_538 + 1);
        assert!(shaper.ready_at(now) > now);
        let then = shaper.ready_at(now);
        assert!(!shaper.take(then - 1, 1_538) && shaper.take(then, 1_538));
    }
}
