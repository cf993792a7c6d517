//! Answers given again: a POST with an `Idempotency-Key` is done once however often it arrives.
//!
//! Kept for a day, and never more than [`KEYS_MAX`] answers of [`BYTES_MAX`] octets together; the oldest goes first.

use axum::http::{HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Keys remembered.
pub const KEYS_MAX: usize = 10_000;
/// Octets of answers remembered.
pub const BYTES_MAX: usize = 16 << 20;
/// For so long.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its media type.
    pub content_type: Option<HeaderValue>,
    /// Its `Location`.
    pub location: Option<HeaderValue>,
    /// Its body.
    pub body: axum::body::Bytes,
}

/// What is known of a key.
#[derive(Debug)]
pub enum Seen {
    /// Nothing: go on, and say what became of it by [`Keys::finish`] or [`Keys::forget`].
    New,
    /// This was answered.
    Before(Arc<Answer>),
    /// The first request of that key is still under way.
    UnderWay,
    /// The key was used for another request.
    Other,
}

/// A key belongs to a client, a path and a method.
pub type Name = (String, String, String);

#[derive(Debug)]
struct Kept {
    request: [u8; 32],
    answer: Option<Arc<Answer>>,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<Name, Kept>,
    order: VecDeque<(Instant, Name)>,
    bytes: usize,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keys(Mutex<State>);

impl Keys {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request with this key and body has come.
    pub fn begin(&self, name: &Name, body: &[u8], now: Instant) -> Seen {
        let mut request = [0; 32];
        request.copy_from_slice(digest(&SHA256, body).as_ref());
        let mut state = self.state();
        state.expire(now);
        if let Some(kept) = state.kept.get(name) {
            return match &kept.answer {
                _ if kept.request != request => Seen::Other,
                Some(answer) => Seen::Before(answer.clone()),
                None => Seen::UnderWay,
            };
        }
        while state.kept.len() >= KEYS_MAX {
            state.drop_oldest();
        }
        let kept = Kept { request, answer: None };
        state.kept.insert(name.clone(), kept);
        state.order.push_back((now, name.clone()));
        Seen::New
    }

    /// It was answered so.
    pub fn finish(&self, name: &Name, answer: Answer) {
        let mut state = self.state();
        let size = answer.body.len();
        if let Some(kept) = state.kept.get_mut(name) {
            kept.answer = Some(Arc::new(answer));
            state.bytes += size;
        }
        while state.bytes > BYTES_MAX {
            state.drop_oldest();
        }
    }

    /// It came to nothing; trying again is right.
    pub fn forget(&self, name: &Name) {
        let mut state = self.state();
        state.remove(name);
        state.order.retain(|(_, other)| other != name);
    }

    /// Keys and octets kept.
    pub fn size(&self) -> (usize, usize) {
        let state = self.state();
        (state.kept.len(), state.bytes)
    }
}

impl State {
    fn remove(&mut self, name: &Name) {
        if let Some(answer) = self.kept.remove(name).and_then(|kept| kept.answer) {
            self.bytes -= answer.body.len();
        }
    }

    fn drop_oldest(&mut self) {
        match self.order.pop_front() {
            Some((_, name)) => self.remove(&name),
            None => self.bytes = 0,
        }
    }

    fn expire(&mut self, now: Instant) {
        let old = |since: &Instant| now.saturating_duration_since(*since) >= LIFETIME;
        while self.order.front().is_some_and(|(since, _)| old(since)) {
            self.drop_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: usize) -> Name {
        ("client".into(), "POST /v1/contexts".into(), key.to_string())
    }

    fn answer(size: usize) -> Answer {
        Answer {
            status: StatusCode::OK,
            content_type: None,
            location: None,
            body: vec![0; size].into(),
        }
    }

    #[test]
    fn the_same_request_is_answered_again_and_another_is_refused() {
        let (keys, now) = (Keys::default(), Instant::now());
        assert!(matches!(keys.begin(&name(1), b"body", now), Seen::New));
        assert!(matches!(keys.begin(&name(1), b"body", now), Seen::UnderWay));
        keys.finish(&name(1), answer(7));
        assert!(matches!(keys.begin(&name(1), b"body", now), Seen::Before(a) if a.body.len() == 7));
        assert!(matches!(keys.begin(&name(1), b"other", now), Seen::Other));
        assert!(matches!(keys.begin(&name(1), b"other", now + LIFETIME), Seen::New));
        keys.forget(&name(1));
        assert_eq!(keys.size(), (0, 0));
    }

    #[test]
    fn neither_many_keys_nor_long_answers_fill_the_memory() {
        let (keys, now) = (Keys::default(), Instant::now());
        for key in 0..2 * KEYS_MAX {
            keys.begin(&name(key), b"", now);
        }
        assert_eq!(keys.size().0, KEYS_MAX);
        let keys = Keys::default();
        for key in 0..40 {
            keys.begin(&name(key), b"", now);
            keys.finish(&name(key), answer(1 << 20));
        }
        assert_eq!(keys.size(), (16, BYTES_MAX));
    }
}
