//! Owns writing: in batches, each with its time, counted; and what is deleted once nothing refers to it.

use super::account::Retired;
use super::actor::{Actor, CALL_TIME, WRITE_BATCH, in_time};
use super::lock;
use super::target::{Target, TargetError, WriteFailure};
use crate::placement::ids::Kind;
use crate::placement::{Freed, Key, Write};
use tokio::time::Instant;
use upf_model::SessionId;

/// What is left of an old plan until no packet can be on its way to it.
#[derive(Debug, Default)]
pub(super) struct Cleanup {
    pub keys: Vec<Key>,
    pub freed: Freed,
    pub retired: Vec<(SessionId, Retired)>,
}

impl<T: Target> Actor<T> {
    /// Writes in batches. Returns the places of writes that took no effect; counts entries.
    pub async fn write(&mut self, writes: Vec<Write>) -> Result<Vec<(usize, WriteFailure)>, TargetError> {
        let mut failed = Vec::new();
        for (batch, chunk) in writes.chunks(WRITE_BATCH).enumerate() {
            let start = Instant::now();
            let failures = in_time(CALL_TIME, self.target.write(chunk.to_vec())).await?;
            {
                let mut figures = lock(&self.shared.figures);
                figures.write_latency.record(start.elapsed());
                figures.updates += chunk.len() as u64;
                figures.failed_updates += failures.len() as u64;
            }
            for (place, write) in chunk.iter().enumerate() {
                if failures.iter().any(|(at, _)| *at == place) {
                    continue;
                }
                match write {
                    Write::Insert(entry) => self.used[entry.key.table() as usize] += 1,
                    Write::Delete(key) => {
                        let used = &mut self.used[key.table() as usize];
                        *used = used.saturating_sub(1);
                    }
                    Write::Modify(_) | Write::Meter(..) => {}
                }
            }
            failed.extend(
                failures
                    .into_iter()
                    .map(|(at, failure)| (batch * WRITE_BATCH + at, failure)),
            );
        }
        Ok(failed)
    }

    /// Deletes entries that are there.
    pub async fn delete(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<(), TargetError> {
        let keys: Vec<Key> = keys.into_iter().collect();
        let failed = self.write(keys.iter().map(|key| Write::Delete(*key)).collect()).await?;
        match failed.first() {
            None => Ok(()),
            Some((place, _)) => Err(TargetError::Lost(format!("{:?} was not deleted", keys[*place]))),
        }
    }

    /// Deletes what nothing refers to any more, and takes last readings.
    pub async fn clean_up(&mut self) -> Result<(), TargetError> {
        let now = Instant::now();
        while self.cleanups.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, cleanup)) = self.cleanups.pop_front() else {
                break;
            };
            if let Err(error) = self.clean(&cleanup).await {
                // The synchronisation frees its numbers.
                self.cleanups.push_front((at, cleanup));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn clean(&mut self, cleanup: &Cleanup) -> Result<(), TargetError> {
        self.read_last(&cleanup.retired).await?;
        self.delete(cleanup.keys.iter().copied()).await?;
        if let Some(ids) = &mut self.ids {
            ids.free(cleanup.freed.clone());
            let cells = cleanup.retired.iter().map(|(_, r)| (Kind::Cell, r.cell()));
            ids.free(Freed(cells.collect()));
        }
        Ok(())
    }
}
