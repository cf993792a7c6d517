//! Owns conditions as they are evaluated, and times of the day.

use super::file::Weekday;
use crate::context::{Key, Value};

/// A condition with all that its evaluation needs besides facts.
#[derive(Debug, Clone)]
pub(crate) struct When {
    pub(crate) condition: Condition,
    /// How many thresholds with hysteresis there are in it: as many bits of memory are needed.
    pub(crate) latches: u32,
}

/// A condition.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// There is a fact of the key, or (false) there is none.
    Exists(Key, bool),
    /// Its value is one of these.
    In(Key, Vec<Value>),
    Threshold {
        key: Key,
        /// Numbers above the bound count; otherwise those below it.
        above: bool,
        bound: f64,
        /// Where hysteresis ends, and which bit remembers it.
        clear: Option<(f64, u32)>,
    },
    Time(Window),
    Slice(String),
    Dnn(String),
    Subscriber(String),
}

/// A time window of the day, local.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Minutes after midnight.
    pub(crate) from: u64,
    /// Minutes after midnight; not later than `from`: on the next day.
    pub(crate) to: u64,
    /// A bit for each day on which it may begin, from Monday.
    pub(crate) weekdays: u8,
    /// Local time is so many minutes ahead of UTC.
    pub(crate) utc_offset_minutes: i64,
}

const MINUTE_MS: u64 = 60_000;
const DAY: u64 = 24 * 60;

impl Window {
    /// A set of days as bits.
    pub(crate) fn days(weekdays: &[Weekday]) -> u8 {
        if weekdays.is_empty() {
            0x7f
        } else {
            weekdays.iter().fold(0, |bits, day| bits | 1 << *day as u8)
        }
    }

    /// Local minutes since the local midnight with which 1 January 1970 began, a Thursday.
    fn local_minute(&self, now_ms: u64) -> u64 {
        (now_ms / MINUTE_MS).saturating_add_signed(self.utc_offset_minutes)
    }

    /// Whether the window is open.
    pub(crate) fn contains(&self, now_ms: u64) -> bool {
        let minute = self.local_minute(now_ms);
        let (day, time) = (minute / DAY, minute % DAY);
        let begins_on = |day: u64| self.weekdays & 1 << ((day + 3) % 7) != 0;
        if self.from < self.to {
            (self.from..self.to).contains(&time) && begins_on(day)
        } else {
            (time >= self.from && begins_on(day)) || (time < self.to && day > 0 && begins_on(day - 1))
        }
    }

    /// The next time, after now, at which it may open or close.
    pub(crate) fn next_boundary_ms(&self, now_ms: u64) -> u64 {
        let minute = self.local_minute(now_ms);
        let until = |time: u64| match (time + DAY - minute % DAY) % DAY {
            0 => DAY,
            minutes => minutes,
        };
        (now_ms / MINUTE_MS)
            .saturating_add(until(self.from).min(until(self.to)))
            .saturating_mul(MINUTE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 2 January 2023, 00:00 UTC.
    const MONDAY: u64 = 1_672_617_600_000;
    const HOUR: u64 = 3_600_000;

    fn window(from: u64, to: u64, weekdays: &[Weekday], utc_offset_minutes: i64) -> Window {
        Window {
            from: from * 60,
            to: to * 60,
            weekdays: Window::days(weekdays),
            utc_offset_minutes,
        }
    }

    #[test]
    fn a_window_is_open_from_its_first_minute_until_before_its_last_on_its_days() {
        let office = window(9, 17, &[Weekday::Mon], 0);
        assert!(!office.contains(MONDAY + 9 * HOUR - 1));
        assert!(office.contains(MONDAY + 9 * HOUR));
        assert!(office.contains(MONDAY + 17 * HOUR - 1));
        assert!(!office.contains(MONDAY + 17 * HOUR));
        assert!(!office.contains(MONDAY + 34 * HOUR), "not on Tuesday");
        assert_eq!(office.next_boundary_ms(MONDAY), MONDAY + 9 * HOUR);
        assert_eq!(office.next_boundary_ms(MONDAY + 9 * HOUR), MONDAY + 17 * HOUR);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window(22, 6, &[Weekday::Mon], 0);
        assert!(!night.contains(MONDAY + 5 * HOUR), "that would have begun on Sunday");
        assert!(night.contains(MONDAY + 23 * HOUR));
        assert!(night.contains(MONDAY + 29 * HOUR));
        assert!(!night.contains(MONDAY + 30 * HOUR));
    }

    #[test]
    fn local_time_is_ahead_of_utc_by_the_offset() {
        let office = window(9, 17, &[Weekday::Mon], 120);
        assert!(office.contains(MONDAY + 7 * HOUR));
        assert!(!office.contains(MONDAY + 15 * HOUR));
        assert_eq!(office.next_boundary_ms(MONDAY), MONDAY + 7 * HOUR);
    }

    #[test]
    fn a_window_that_ends_when_it_begins_is_open_all_day() {
        let day = window(8, 8, &[Weekday::Mon], 0);
        assert!(!day.contains(MONDAY + 7 * HOUR));
        assert!(day.contains(MONDAY + 8 * HOUR));
        assert!(day.contains(MONDAY + 31 * HOUR));
        assert!(!day.contains(MONDAY + 32 * HOUR));
        assert_eq!(day.next_boundary_ms(MONDAY + 8 * HOUR), MONDAY + 32 * HOUR);
    }
}
