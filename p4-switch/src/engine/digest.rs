//! Digests: samples of packets, collected into lists, sent, and not repeated before they are acknowledged.

use std::collections::HashMap;
use std::time::Duration;

use num_bigint::{BigInt, Sign};

use crate::control::{DigestConfig, DigestId, DigestList, Event, Value};
use crate::program::Program;
use crate::tables::matching::canonical;

/// One digest's lists.
#[derive(Debug, Default)]
struct Digest {
    config: Option<DigestConfig>,
    list: Vec<Vec<Value>>,
    begun_ns: u64,
    next_list: u64,
    /// Sent and not acknowledged: which list, and until when it is not repeated.
    unacknowledged: HashMap<Vec<Value>, (u64, u64)>,
}

/// All digests.
#[derive(Debug)]
pub(crate) struct Digests {
    digests: Vec<Digest>,
    /// Digests in lists that are not sent yet.
    waiting: usize,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Digests {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            digests: (0..count)
                .map(|_| Digest {
                    next_list: 1,
                    ..Digest::default()
                })
                .collect(),
            waiting: 0,
        }
    }

    pub(crate) fn config(&self, digest: DigestId) -> Option<&DigestConfig> {
        self.digests.get(digest.index())?.config.as_ref()
    }

    /// Sets how a digest is sent; none: not at all.
    pub(crate) fn configure(&mut self, digest: DigestId, config: Option<DigestConfig>) {
        let digest = &mut self.digests[digest.index()];
        if config.is_none() {
            self.waiting -= digest.list.len();
            digest.list.clear();
            digest.unacknowledged.clear();
        }
        digest.config = config;
    }

    /// Takes a sample of a packet.
    pub(crate) fn sample(&mut self, program: &Program, list: usize, phv: &[u8], now_ns: u64, events: &mut Vec<Event>) {
        let digest = &mut self.digests[list];
        let Some(config) = &digest.config else { return };
        let (max, timeout) = (config.max_list_size, nanos(config.max_timeout));
        let spans = &program.learn_lists[list].spans;
        let sample: Vec<Value> = spans
            .iter()
            .map(|s| canonical(&BigInt::from_bytes_be(Sign::Plus, &s.bytes(phv))))
            .collect();
        if digest
            .unacknowledged
            .get(&sample)
            .is_some_and(|(_, until)| now_ns < *until)
            || digest.list.contains(&sample)
        {
            return;
        }
        if digest.list.is_empty() {
            digest.begun_ns = now_ns;
        }
        digest.list.push(sample);
        self.waiting += 1;
        if timeout == 0 || max > 0 && digest.list.len() >= max {
            self.waiting -= digest.list.len();
            digest.send(DigestId(list as u32), now_ns, events);
        }
    }

    /// Sends lists whose time is over.
    pub(crate) fn tick(&mut self, now_ns: u64, events: &mut Vec<Event>) {
        if self.waiting == 0 {
            return;
        }
        for (i, digest) in self.digests.iter_mut().enumerate() {
            let timeout = digest.config.as_ref().map_or(0, |c| nanos(c.max_timeout));
            if !digest.list.is_empty() && now_ns.saturating_sub(digest.begun_ns) >= timeout {
                self.waiting -= digest.list.len();
                digest.send(DigestId(i as u32), now_ns, events);
            }
        }
    }

    /// A list has been seen: its digests may be sent again.
    pub(crate) fn acknowledge(&mut self, digest: DigestId, list_id: u64) {
        if let Some(digest) = self.digests.get_mut(digest.index()) {
            digest.unacknowledged.retain(|_, (list, _)| *list != list_id);
        }
    }
}

impl Digest {
    fn send(&mut self, digest: DigestId, now_ns: u64, events: &mut Vec<Event>) {
        let list_id = self.next_list;
        self.next_list += 1;
        let ack = self.config.as_ref().map_or(0, |c| nanos(c.ack_timeout));
        self.unacknowledged.retain(|_, (_, until)| *until > now_ns);
        if ack > 0 {
            let until = now_ns.saturating_add(ack);
            self.unacknowledged
                .extend(self.list.iter().map(|d| (d.clone(), (list_id, until))));
        }
        let data = std::mem::take(&mut self.list);
        events.push(Event::Digest(DigestList {
            digest,
            list_id,
            data,
            timestamp_ns: self.begun_ns,
        }));
    }
}
