//! Owns the token bucket: one atomic word, filled by the passing of time.
//!
//! # Virtual scheduling
//! A bucket of `burst` bytes that fills at `rate` is not kept as a number of tokens with a time of last update (two
//! words, which no single compare-and-swap changes together) but as one word: the *theoretical arrival time* of the
//! generic cell rate algorithm (ITU-T I.371): the time at which the bucket will be full again if nothing more
//! comes. Tokens are time: a packet of `n` bytes costs the time that the rate needs for `n` bytes, and conforms if
//! paying it puts the theoretical arrival time no further than a burst ahead of now:
//!
//! ```text
//!              past │ now                    now + burst
//!   ────────────────┼───────────┼──────────────┼──────▶ time
//!   bucket full here│   t.a.t. ─┘◀─ tokens ───▶│ nothing conforms here
//! ```
//!
//! # Time
//! The caller's clock is in nanoseconds, starts anywhere, may differ between lcores by up to [`SKEW`] and should
//! not run backwards. A word counts 2^-14 ns, so that 20 bytes at 1.6 Tbit/s (0.1 ns) are still 1,638 units, and
//! wraps after 2^50 ns, 13 days. All comparisons are modulo the wrap. Only times up to `burst + SKEW` ahead of now
//! count as future; every other is past and means a full bucket. So a bucket that was idle for a wrap, or for a
//! year, is full as it should be; only one that was idle for a whole number of wraps to within `burst + SKEW` is
//! taken for less full, once in a million wake-ups, and for no longer than that.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Fractional bits of a nanosecond.
const TIME_BITS: u32 = 14;
/// Further fractional bits of the cost of a byte, so that rounding is per packet, not per byte.
const COST_BITS: u32 = 20;
/// Clocks of lcores, or the time stamp of a batch against that of a preempted lcore, may differ by one second.
const SKEW: u64 = 1_000_000_000 << TIME_BITS;
/// The longest burst in time: 39 hours.
const LONGEST: u64 = 1 << 61;

/// A token bucket. See the module.
#[derive(Debug)]
pub(crate) struct Bucket {
    theoretical_arrival: AtomicU64,
    /// Time for one byte, 2^-34 ns; `u64::MAX`: a rate of zero.
    byte_cost: u64,
    /// Time for the whole burst, 2^-14 ns.
    depth: u64,
}

/// What a packet costs in a bucket, to be given back with [`Bucket::refund`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost(u64);

impl Bucket {
    /// A full one. A rate of 0 bit/s lets nothing pass.
    pub(crate) fn new(bits_per_second: u64, burst_bytes: u64, now_ns: u64) -> Self {
        const BYTE_AT_ONE_BIT_PER_SECOND: u128 = (8 * 1_000_000_000) << (TIME_BITS + COST_BITS);
        let byte_cost = match bits_per_second {
            0 => u64::MAX,
            rate => {
                let cost = (BYTE_AT_ONE_BIT_PER_SECOND + u128::from(rate) / 2) / u128::from(rate);
                u64::try_from(cost).unwrap_or(u64::MAX).max(1)
            }
        };
        let depth = match bits_per_second {
            0 => 0,
            _ => u64::try_from((u128::from(byte_cost) * u128::from(burst_bytes)) >> COST_BITS)
                .unwrap_or(LONGEST)
                .min(LONGEST),
        };
        Self {
            theoretical_arrival: AtomicU64::new(now_ns << TIME_BITS),
            byte_cost,
            depth,
        }
    }

    /// Time that the rate needs for so many bytes, rounded to the nearest unit.
    #[inline(always)]
    fn cost(&self, bytes: u32) -> u64 {
        let cost = (u128::from(self.byte_cost) * u128::from(bytes) + (1 << (COST_BITS - 1))) >> COST_BITS;
        // Dearer than the deepest bucket is dear enough.
        if cost > u128::from(LONGEST) {
            LONGEST + 1
        } else {
            cost as u64
        }
    }

    /// How far ahead of now the theoretical arrival time is; 0: the bucket is full.
    #[inline(always)]
    fn ahead(&self, arrival: u64, now: u64) -> u64 {
        let ahead = arrival.wrapping_sub(now);
        if ahead <= self.depth + SKEW { ahead } else { 0 }
    }

    /// Whether a packet conforms now; nothing is spent. Cost: a load, a multiplication.
    #[inline]
    pub(crate) fn conforms(&self, now_ns: u64, bytes: u32) -> bool {
        let ahead = self.ahead(self.theoretical_arrival.load(Relaxed), now_ns << TIME_BITS);
        ahead + self.cost(bytes) <= self.depth
    }

    /// Spends, if the packet conforms. Cost: a load, a multiplication, a compare-and-swap; again for each lcore that
    /// was faster. `ALONE`: nobody else spends, so that a store will do.
    #[inline(always)]
    pub(crate) fn spend<const ALONE: bool>(&self, now_ns: u64, bytes: u32) -> Option<Cost> {
        let now = now_ns << TIME_BITS;
        let cost = self.cost(bytes);
        let mut arrival = self.theoretical_arrival.load(Relaxed);
        loop {
            let ahead = self.ahead(arrival, now) + cost;
            if ahead > self.depth {
                return None;
            }
            if ALONE {
                self.theoretical_arrival.store(now.wrapping_add(ahead), Relaxed);
                return Some(Cost(cost));
            }
            match self
                .theoretical_arrival
                .compare_exchange_weak(arrival, now.wrapping_add(ahead), Relaxed, Relaxed)
            {
                Ok(_) => return Some(Cost(cost)),
                Err(other) => arrival = other,
            }
        }
    }

    /// Gives back what [`Bucket::spend`] took.
    #[inline]
    pub(crate) fn refund(&self, cost: Cost) {
        self.theoretical_arrival.fetch_sub(cost.0, Relaxed);
    }

    /// Takes over how empty another bucket is, in bytes, so that a change of the rate hands out no second burst.
    pub(crate) fn inherit(&self, other: &Self, now_ns: u64) {
        let now = now_ns << TIME_BITS;
        let ahead = other
            .ahead(other.theoretical_arrival.load(Relaxed), now)
            .min(other.depth);
        let ahead = match other.byte_cost {
            u64::MAX => 0,
            cost => (u128::from(ahead) * u128::from(self.byte_cost) / u128::from(cost)).min(self.depth.into()) as u64,
        };
        self.theoretical_arrival.store(now.wrapping_add(ahead), Relaxed);
    }
}
