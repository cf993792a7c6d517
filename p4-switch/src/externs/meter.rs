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

/// A meter's state: unconfigured meters are always green.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    config: Option<MeterConfig>,
    /// Tokens in billionths.
    committed: u128,
    peak: u128,
    last_ns: u64,
}

const SCALE: u128 = 1_000_000_000;

impl Meter {
    /// Sets the rates and fills the buckets; none: always green.
    pub(crate) fn configure(&mut self, config: Option<MeterConfig>, now_ns: u64) {
        self.config = config;
        let config = config.unwrap_or_default();
        self.committed = config.cburst as u128 * SCALE;
        self.peak = config.pburst as u128 * SCALE;
        self.last_ns = now_ns;
    }

    /// The rates.
    pub(crate) fn config(&self) -> Option<MeterConfig> {
        self.config
    }

    /// The colour of a packet of `size` (bytes, or 1), whose tokens are taken.
    #[inline]
    pub(crate) fn execute(&mut self, size: u64, now_ns: u64) -> u64 {
        let Some(config) = &self.config else { return GREEN };
        let elapsed = now_ns.saturating_sub(self.last_ns) as u128;
        if elapsed > 0 {
            self.last_ns = now_ns;
            self.committed = (self.committed + elapsed * config.cir as u128).min(config.cburst as u128 * SCALE);
            self.peak = (self.peak + elapsed * config.pir as u128).min(config.pburst as u128 * SCALE);
        }
        let size = size as u128 * SCALE;
        if self.peak < size {
            return RED;
        }
        self.peak -= size;
        if self.committed < size {
            return YELLOW;
        }
        self.committed -= size;
        GREEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unconfigured_meter_is_green() {
        let mut meter = Meter::default();
        assert_eq!(meter.execute(u64::MAX, 0), GREEN);
    }

    #[test]
    fn bursts_and_rates_decide_the_colour() {
        let mut meter = Meter::default();
        meter.configure(
            Some(MeterConfig {
                cir: 1000,
                cburst: 100,
                pir: 2000,
                pburst: 200,
            }),
            0,
        );
        assert_eq!(meter.execute(100, 0), GREEN);
        assert_eq!(meter.execute(100, 0), YELLOW);
        assert_eq!(meter.execute(1, 0), RED);
        // After 50 ms: 50 committed, 100 peak tokens.
        assert_eq!(meter.execute(50, 50_000_000), GREEN);
        assert_eq!(meter.execute(50, 50_000_000), YELLOW);
        assert_eq!(meter.execute(1, 50_000_000), RED);
    }

    #[test]
    fn slow_rates_lose_no_tokens_to_rounding() {
        let mut meter = Meter::default();
        meter.configure(
            Some(MeterConfig {
                cir: 1,
                cburst: 1,
                pir: 1,
                pburst: 1,
            }),
            0,
        );
        assert_eq!(meter.execute(1, 0), GREEN);
        for step in 1..1000u64 {
            assert_eq!(meter.execute(1, step * 1_000_000), RED);
        }
        assert_eq!(meter.execute(1, 1_000_000_000), GREEN);
    }
}
