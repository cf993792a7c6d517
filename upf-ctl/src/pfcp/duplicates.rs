//! Requests seen before: a retransmission gets the answer it has lost, and never runs twice (TS 29.244 6.4).
//!
//! A request is known by who sent it (address and port), its sequence number and its type. It is remembered from
//! when it arrives until nobody can be retransmitting it any more (T1 times N1, and a margin), and beyond a
//! bounded number the oldest are forgotten first.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The most requests remembered; about ten seconds of 20,000 a second.
const CAPACITY: usize = 200_000;
/// Requests that there is always room for.
const ROOM: usize = 1_000;

/// What makes two requests the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Who sent it.
    pub peer: SocketAddr,
    /// 24 bits.
    pub sequence: u32,
    /// As on the wire.
    pub message_type: u8,
}

/// What is known of a request that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The first time: it is now remembered as being worked on.
    New,
    /// Being worked on: its answer will come.
    InProgress,
    /// Answered with this datagram.
    Answered(Vec<u8>),
}

/// The requests remembered.
#[derive(Debug)]
pub struct Duplicates {
    keep: Duration,
    answers: HashMap<RequestKey, Option<Box<[u8]>>>,
    order: VecDeque<(Instant, RequestKey)>,
}

impl Duplicates {
    /// Requests are remembered for `keep`.
    pub fn new(keep: Duration) -> Self {
        Self {
            keep,
            answers: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// A request arrives.
    pub fn see(&mut self, key: RequestKey, now: Instant) -> Seen {
        self.forget(now);
        match self.answers.get(&key) {
            Some(Some(answer)) => Seen::Answered(answer.to_vec()),
            Some(None) => Seen::InProgress,
            None => {
                self.answers.insert(key, None);
                self.order.push_back((now, key));
                Seen::New
            }
        }
    }

    /// A request is answered.
    pub fn answer(&mut self, key: RequestKey, datagram: Vec<u8>, now: Instant) {
        if self.answers.insert(key, Some(datagram.into())).is_none() {
            self.order.push_back((now, key));
        }
    }

    /// A request could not be taken in after all: its retransmission is to be a new one.
    pub fn withdraw(&mut self, key: RequestKey) {
        if self.answers.get(&key).is_some_and(Option::is_none) {
            self.answers.remove(&key);
        }
    }

    /// Forgets requests that nobody retransmits any more, and gives back the room that a burst of them has taken.
    pub fn forget(&mut self, now: Instant) {
        while let Some((seen, key)) = self.order.front() {
            if now.duration_since(*seen) < self.keep && self.order.len() <= CAPACITY {
                break;
            }
            self.answers.remove(key);
            self.order.pop_front();
        }
        let used = self.order.len().max(ROOM);
        if self.order.capacity() > 8 * used {
            self.order.shrink_to(2 * used);
            self.answers.shrink_to(2 * used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sequence: u32) -> RequestKey {
        RequestKey {
            peer: ([127, 0, 0, 1], 8805).into(),
            sequence,
            message_type: 50,
        }
    }

    #[test]
    fn a_retransmission_gets_the_same_answer_until_it_is_too_old_to_be_one() {
        let (mut seen, start) = (Duplicates::new(Duration::from_secs(10)), Instant::now());
        assert_eq!(seen.see(key(1), start), Seen::New);
        assert_eq!(seen.see(key(1), start), Seen::InProgress);
        seen.answer(key(1), vec![7], start);
        assert_eq!(
            seen.see(key(1), start + Duration::from_secs(9)),
            Seen::Answered(vec![7])
        );
        assert_eq!(seen.see(key(1), start + Duration::from_secs(11)), Seen::New);
    }

    #[test]
    fn another_peer_sequence_or_type_is_another_request() {
        let (mut seen, now) = (Duplicates::new(Duration::from_secs(10)), Instant::now());
        seen.see(key(1), now);
        assert_eq!(seen.see(key(2), now), Seen::New);
        assert_eq!(
            seen.see(
                RequestKey {
                    message_type: 52,
                    ..key(1)
                },
                now
            ),
            Seen::New
        );
        assert_eq!(
            seen.see(
                RequestKey {
                    peer: ([127, 0, 0, 2], 8805).into(),
                    ..key(1)
                },
                now
            ),
            Seen::New
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut seen, now) = (Duplicates::new(Duration::from_secs(10)), Instant::now());
        for i in 0..(CAPACITY as u32 + 1_000) {
            seen.see(key(i), now);
        }
        assert!(seen.answers.len() <= CAPACITY + 1);
    }

    #[test]
    fn the_room_that_a_burst_has_taken_is_given_back() {
        let (mut seen, now) = (Duplicates::new(Duration::from_secs(10)), Instant::now());
        for i in 0..50_000 {
            seen.see(key(i), now);
        }
        seen.forget(now + Duration::from_secs(11));
        assert!(seen.answers.capacity() < 8 * ROOM && seen.order.capacity() < 8 * ROOM);
        assert_eq!(seen.see(key(0), now + Duration::from_secs(11)), Seen::New);
    }

    #[test]
    fn a_request_that_was_not_taken_in_may_come_again() {
        let (mut seen, now) = (Duplicates::new(Duration::from_secs(10)), Instant::now());
        seen.see(key(1), now);
        seen.withdraw(key(1));
        assert_eq!(seen.see(key(1), now), Seen::New);
    }
}
