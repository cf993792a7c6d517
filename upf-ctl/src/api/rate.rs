//! Token buckets, one a client, of which there are never more than a fixed number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients that are remembered.
const CLIENTS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// So much of each client, and no more.
#[derive(Debug)]
pub struct Limiter<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash + Clone> Limiter<K> {
    /// `burst` at once and `per_second` in the long run, 1 each at least.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            burst: f64::from(burst.max(1)),
            buckets: Mutex::default(),
        }
    }

    /// One more request of this client.
    ///
    /// # Errors
    /// It is too many; after this long it would not be.
    pub fn take(&self, client: &K, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= CLIENTS_MAX && !buckets.contains_key(client) {
            self.make_room(&mut buckets, now);
        }
        let full = Bucket {
            tokens: self.burst,
            filled: now,
        };
        let bucket = buckets.entry(client.clone()).or_insert(full);
        bucket.tokens = self.level(bucket, now);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second))
    }

    fn level(&self, bucket: &Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        (bucket.tokens + passed * self.per_second).min(self.burst)
    }

    /// Full buckets are as good as none. If there are none, half of all are forgotten, the fullest first: those who
    /// flood stay known.
    fn make_room(&self, buckets: &mut HashMap<K, Bucket>, now: Instant) {
        buckets.retain(|_, bucket| self.level(bucket, now) < self.burst);
        if buckets.len() < CLIENTS_MAX {
            return;
        }
        let mut levels: Vec<(f64, K)> = buckets.iter().map(|(k, b)| (self.level(b, now), k.clone())).collect();
        levels.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, client) in levels.into_iter().take(CLIENTS_MAX / 2) {
            buckets.remove(&client);
        }
    }

    /// Clients that are remembered.
    pub fn known(&self) -> usize {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_each_client_has_its_own() {
        let limiter = Limiter::new(10, 3);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take(&"a", start), Ok(()));
        }
        assert_eq!(limiter.take(&"a", start), Err(Duration::from_millis(100)));
        assert_eq!(limiter.take(&"b", start), Ok(()));
        assert_eq!(limiter.take(&"a", start + Duration::from_millis(101)), Ok(()));
        assert!(limiter.take(&"a", start + Duration::from_millis(102)).is_err());
    }

    #[test]
    fn however_many_clients_come_few_are_remembered_and_a_flooder_is_among_them() {
        let limiter = Limiter::new(1, 2);
        let start = Instant::now();
        let flooder = u64::MAX;
        for client in 0..50_000_u64 {
            let _ = limiter.take(&client, start);
            let _ = limiter.take(&flooder, start);
            assert!(limiter.known() <= CLIENTS_MAX);
        }
        assert!(limiter.take(&flooder, start).is_err());
    }
}
