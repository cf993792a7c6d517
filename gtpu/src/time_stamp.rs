//! Owns the time stamps of QoS monitoring (TS 38.415 5.5.3): NTP's 64-bit format (RFC 5905 6), seconds since 1900 and
//! 2^-32 fractions of one. Seconds begin anew in 2036: only differences mean anything, and they are taken round the turn.

/// Seconds from 1900 to 1970.
const UNIX_EPOCH: u64 = 2_208_988_800;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// A time stamp, as a PDU Session Container carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeStamp(pub u64);

impl TimeStamp {
    /// Of a time in nanoseconds since the UNIX epoch.
    pub const fn from_unix_ns(ns: u64) -> Self {
        let seconds = (ns / NS_PER_SECOND + UNIX_EPOCH) & 0xffff_ffff;
        let fraction = ((ns % NS_PER_SECOND) << 32) / NS_PER_SECOND;
        Self(seconds << 32 | fraction)
    }

    /// Nanoseconds from `earlier` to this, less than zero if it is later; within 68 years either way.
    ///
    /// ```
    /// use gtpu::TimeStamp;
    /// let (sent, received) = (TimeStamp::from_unix_ns(1_500_000_000), TimeStamp::from_unix_ns(1_502_000_000));
    /// assert!((received.ns_since(sent) - 2_000_000).abs() <= 1);
    /// assert!((sent.ns_since(received) + 2_000_000).abs() <= 1);
    /// ```
    pub const fn ns_since(self, earlier: Self) -> i64 {
        let fractions = self.0.wrapping_sub(earlier.0) as i64;
        ((fractions as i128 * NS_PER_SECOND as i128) >> 32) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second_also_when_ntps_era_ends() {
        // 7 February 2036, 06:28:16 UTC: seconds are zero again.
        let turn_ns = ((1 << 32) - UNIX_EPOCH) * NS_PER_SECOND;
        assert_eq!(TimeStamp::from_unix_ns(turn_ns).0, 0);
        let before = TimeStamp::from_unix_ns(turn_ns - NS_PER_SECOND / 2);
        let after = TimeStamp::from_unix_ns(turn_ns + NS_PER_SECOND / 2);
        assert_eq!(after.ns_since(before), NS_PER_SECOND as i64);
    }

    #[test]
    fn the_unix_epoch_is_where_ntp_has_it() {
        assert_eq!(TimeStamp::from_unix_ns(0).0, 0x83aa_7e80_0000_0000);
    }
}
