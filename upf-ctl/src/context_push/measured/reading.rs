//! Owns a session's counters as they were read last, and what has come since: plane by plane, rule by rule.
//!
//! A plane counts a rule from zero when it gets it and for as long as it has it. So a rule that was not there before has
//! counted all it has since; one whose count is less than before was taken away and given back meanwhile. Of a plane that
//! was not read before, or has started anew, nothing can be said yet.

use crate::planes::{Measured, PlaneId};
use std::time::{Duration, Instant};
use upf_model::batch::{Count, DelayUsage};
use upf_model::{PdrId, Qfi};

/// Between two readings at least: of less, a rate says little.
const SHORTEST: Duration = Duration::from_millis(500);
/// A plane that does not answer is waited for so long: without its share, a rate would be too low.
const PATIENCE: Duration = Duration::from_secs(3);

/// A session's counters as they were read last.
#[derive(Debug, Clone, Default)]
pub struct Reading(Vec<OfPlane>);

#[derive(Debug, Clone)]
struct OfPlane {
    plane: PlaneId,
    instance: u64,
    at: Instant,
    pdrs: Vec<(PdrId, Count)>,
    delays: Vec<(Qfi, DelayUsage)>,
}

/// What a plane has counted between two readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Increase {
    /// Between them.
    pub seconds: f64,
    /// By each PDR.
    pub pdrs: Vec<(PdrId, Count)>,
    /// By each QoS flow's monitoring.
    pub delays: Vec<(Qfi, DelayUsage)>,
}

impl Reading {
    /// Takes the next reading of every plane that has answered. None: it is too early, or a plane that may answer yet is
    /// missing; nothing has changed then.
    pub fn take(&mut self, measured: &[&Measured], at: Instant) -> Option<Vec<Increase>> {
        let answered = |plane| measured.iter().any(|m| m.plane == plane);
        let waits = |before: &OfPlane| {
            let age = at.saturating_duration_since(before.at);
            age < SHORTEST || (age < PATIENCE && !answered(before.plane))
        };
        if self.0.iter().any(waits) {
            return None;
        }
        let increases = measured.iter().filter_map(|measured| {
            let before = self.0.iter().find(|before| before.plane == measured.plane)?;
            (before.instance == measured.instance).then(|| before.increase(measured, at))
        });
        let increases = increases.collect();
        self.0 = measured.iter().map(|measured| OfPlane::new(measured, at)).collect();
        Some(increases)
    }
}

impl OfPlane {
    fn new(measured: &Measured, at: Instant) -> Self {
        Self {
            plane: measured.plane,
            instance: measured.instance,
            at,
            pdrs: measured.usage.pdrs.clone(),
            delays: measured.usage.delays.clone(),
        }
    }

    fn increase(&self, now: &Measured, at: Instant) -> Increase {
        let pdrs = now.usage.pdrs.iter().map(|(id, count)| {
            let before = before(&self.pdrs, *id).filter(|before| before.packets <= count.packets);
            (*id, count_since(*count, before.unwrap_or_default()))
        });
        let delays = now.usage.delays.iter().map(|(qfi, delay)| {
            let before = before(&self.delays, *qfi).filter(|before| before.answers <= delay.answers);
            (*qfi, delay_since(*delay, before.unwrap_or_default()))
        });
        Increase {
            seconds: (at - self.at).as_secs_f64(),
            pdrs: pdrs.collect(),
            delays: delays.collect(),
        }
    }
}

fn before<K: Copy + PartialEq, V: Copy>(values: &[(K, V)], key: K) -> Option<V> {
    values.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
}

fn count_since(now: Count, before: Count) -> Count {
    Count {
        packets: now.packets.saturating_sub(before.packets),
        bytes: now.bytes.saturating_sub(before.bytes),
    }
}

fn delay_since(now: DelayUsage, before: DelayUsage) -> DelayUsage {
    DelayUsage {
        answers: now.answers.saturating_sub(before.answers),
        downlink_ns: now.downlink_ns.saturating_sub(before.downlink_ns),
        uplink_ns: now.uplink_ns.saturating_sub(before.uplink_ns),
        round_trip_ns: now.round_trip_ns.saturating_sub(before.round_trip_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upf_model::batch::SessionUsage;

    fn count(packets: u64) -> Count {
        Count {
            packets,
            bytes: packets * 100,
        }
    }

    fn measured(plane: PlaneId, instance: u64, pdrs: &[(u16, u64)]) -> Measured {
        let pdrs = pdrs.iter().map(|(id, packets)| (PdrId(*id), count(*packets)));
        Measured {
            plane,
            instance,
            usage: SessionUsage {
                pdrs: pdrs.collect(),
                ..SessionUsage::default()
            },
        }
    }

    /// Packets of each PDR since the reading before, plane by plane; readings are a second apart.
    fn packets(readings: &[&[&Measured]]) -> Vec<Option<Vec<Vec<u64>>>> {
        let (start, mut reading) = (Instant::now(), Reading::default());
        let one = |(i, measured): (usize, &&[&Measured])| {
            let increases = reading.take(measured, start + Duration::from_secs(i as u64))?;
            let of = |increase: Increase| {
                assert!((increase.seconds - 1.0).abs() < 1e-9);
                increase.pdrs.iter().map(|(_, count)| count.packets).collect()
            };
            Some(increases.into_iter().map(of).collect())
        };
        readings.iter().enumerate().map(one).collect()
    }

    #[test]
    fn rules_that_come_and_go_cost_no_traffic_and_invent_none() {
        let found = packets(&[
            &[&measured(0, 1, &[(1, 1_000)])],
            &[&measured(0, 1, &[(1, 1_010), (7, 5)])],
            &[&measured(0, 1, &[(1, 1_020)])],
            &[&measured(0, 1, &[(1, 1_030), (7, 3)])],
            &[&measured(0, 1, &[(1, 1_040), (7, 1)])],
        ]);
        let expected = [
            vec![],
            vec![vec![10, 5]],
            vec![vec![10]],
            vec![vec![10, 3]],
            vec![vec![10, 1]],
        ];
        assert_eq!(found, expected.map(Some));
    }

    #[test]
    fn a_plane_that_has_started_anew_is_read_twice_before_it_says_anything() {
        let found = packets(&[
            &[&measured(0, 1, &[(1, 50)]), &measured(1, 1, &[(1, 500)])],
            &[&measured(0, 2, &[(1, 60)]), &measured(1, 1, &[(1, 501)])],
            &[&measured(0, 2, &[(1, 62)]), &measured(1, 1, &[(1, 503)])],
        ]);
        assert_eq!(found, [vec![], vec![vec![1]], vec![vec![2], vec![2]]].map(Some));
    }

    #[test]
    fn a_plane_that_is_late_is_waited_for_but_not_for_ever() {
        let both = |packets| [measured(0, 1, &[(1, packets)]), measured(1, 1, &[(1, packets)])];
        let (start, mut reading) = (Instant::now(), Reading::default());
        let mut take = |measured: &[&Measured], ms| reading.take(measured, start + Duration::from_millis(ms));
        let [host, p4] = both(0);
        assert_eq!(take(&[&host, &p4], 0), Some(vec![]));
        assert_eq!(take(&[&host, &p4], 499), None, "too early");
        let [host, p4] = both(10);
        assert_eq!(take(&[&host], 1_000), None);
        let increases = take(&[&host, &p4], 2_000).unwrap();
        assert_eq!(increases.iter().map(|i| i.seconds).collect::<Vec<_>>(), [2.0, 2.0]);
        assert_eq!(take(&[&host], 4_000), None);
        assert_eq!(take(&[&host], 5_000).unwrap().len(), 1, "it is away");
    }
}
