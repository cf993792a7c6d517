//! Two-rate three-colour meters (RFC 2698, colour blind), with BMv2's rules.
//!
//! Two token buckets: the committed one is asked first; a packet for which it has not enough tokens is at least yellow,
//! and takes none. BMv2 keeps the *peak* bucket first and stops at the first bucket that has too few tokens: red if the
//! peak bucket lacks them, yellow if only the committed one does.

use crate::control::MeterConfig;

/// What a meter says.
pub(crate) const GREEN: u64 = 0;
pub(crate) const YELLOW: u64 = 1;
pub(crate) const RED: u64 = 2;

/// A meter: rates, bursts, tokens and the time, in one cache line. All zero: not configured, always green.
///
/// Tokens and bursts are in billionths, so that a nanosecond at one per second is one: no division, nothing lost.
/// Bursts beyond 18 billion are cut to that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter<'a>(pub(crate) &'a [u64; 8]);

/// The same, to be changed.
#[derive(Debug)]
pub(crate) struct MeterMut<'a>(pub(crate) &'a mut [u64; 8]);

/// What stands where.
const CIR: usize = 0;
const CBURST: usize = 1;
const PIR: usize = 2;
const PBURST: usize = 3;
const COMMITTED: usize = 4;
const PEAK: usize = 5;
const LAST_NS: usize = 6;
const CONFIGURED: usize = 7;

const SCALE: u64 = 1_000_000_000;

impl Meter<'_> {
    /// The rates.
    pub(crate) fn config(self) -> Option<MeterConfig> {
        let [cir, cburst, pir, pburst, ..] = *self.0;
        (self.0[CONFIGURED] != 0).then_some(MeterConfig {
            cir,
            cburst,
            pir,
            pburst,
        })
    }
}

impl MeterMut<'_> {
    /// Sets the rates and fills the buckets; none: always green.
    pub(crate) fn configure(self, config: Option<MeterConfig>, now_ns: u64) {
        *self.0 = match config {
            None => [0; 8],
            Some(MeterConfig {
                cir,
                cburst,
                pir,
                pburst,
            }) => [
                cir,
                cburst,
                pir,
                pburst,
                cburst.saturating_mul(SCALE),
                pburst.saturating_mul(SCALE),
                now_ns,
                1,
            ],
        };
    }

    /// The colour of a packet of `size` (bytes, or 1), whose tokens are taken.
    #[inline]
    pub(crate) fn execute(self, size: u64, now_ns: u64) -> u64 {
        let meter = self.0;
        if meter[CONFIGURED] == 0 {
            return GREEN;
        }
        let elapsed = now_ns.saturating_sub(meter[LAST_NS]);
        if elapsed > 0 {
            meter[LAST_NS] = now_ns;
            let fill = |tokens: u64, rate: u64, burst: u64| {
                tokens
                    .saturating_add(elapsed.saturating_mul(rate))
                    .min(burst.saturating_mul(SCALE))
            };
            meter[COMMITTED] = fill(meter[COMMITTED], meter[CIR], meter[CBURST]);
            meter[PEAK] = fill(meter[PEAK], meter[PIR], meter[PBURST]);
        }
        let size = size.saturating_mul(SCALE);
        if meter[PEAK] < size {
            return RED;
        }
        meter[PEAK] -= size;
        if meter[COMMITTED] < size {
            return YELLOW;
        }
        meter[COMMITTED] -= size;
        GREEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A meter of these rates at time zero.
    fn meter(cir: u64, cburst: u64, pir: u64, pburst: u64) -> [u64; 8] {
        let mut cell = [0; 8];
        MeterMut(&mut cell).configure(
            Some(MeterConfig {
                cir,
                cburst,
                pir,
                pburst,
            }),
            0,
        );
        cell
    }

    fn execute(cell: &mut [u64; 8], size: u64, now_ns: u64) -> u64 {
        MeterMut(cell).execute(size, now_ns)
    }

    #[test]
    fn an_unconfigured_meter_is_green() {
        assert_eq!(execute(&mut [0; 8], u64::MAX, 0), GREEN);
    }

    #[test]
    fn bursts_and_rates_decide_the_colour() {
        let meter = &mut meter(1000, 100, 2000, 200);
        assert_eq!(execute(meter, 100, 0), GREEN);
        assert_eq!(execute(meter, 100, 0), YELLOW);
        assert_eq!(execute(meter, 1, 0), RED);
        // After 50 ms: 50 committed, 100 peak tokens.
        assert_eq!(execute(meter, 50, 50_000_000), GREEN);
        assert_eq!(execute(meter, 50, 50_000_000), YELLOW);
        assert_eq!(execute(meter, 1, 50_000_000), RED);
    }

    #[test]
    fn slow_rates_lose_no_tokens_to_rounding() {
        let meter = &mut meter(1, 1, 1, 1);
        assert_eq!(execute(meter, 1, 0), GREEN);
        for step in 1..1000u64 {
            assert_eq!(execute(meter, 1, step * 1_000_000), RED);
        }
        assert_eq!(execute(meter, 1, 1_000_000_000), GREEN);
    }
}
