//! A target that is a map: for tests of the plane. It can be told to fail, to fill up, to restart, and to count; and it
//! shows its tables after every single write.

use super::target::{Left, Passed, Ready, Target, TargetError, TargetEvent, WriteFailure};
use crate::placement::{Action, Entry, Key, MeterCell, Rates, Table, TargetSizes, Write};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Its entries.
pub type Tables = HashMap<Key, Action>;

/// What sees the tables after each write.
type Watcher = Box<dyn FnMut(&Tables) + Send>;

/// How a coming batch shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The write at this place takes no effect; the others do.
    Write(usize, WriteFailure),
    /// The batch takes effect up to this place, then the connection breaks.
    Breaks(usize),
    /// No answer ever comes; the batch takes no effect.
    Hangs,
}

struct Inner {
    tables: Tables,
    meters: HashMap<MeterCell, Rates>,
    passed: HashMap<u32, Passed>,
    odd: HashMap<u32, u64>,
    odd_overhead: HashMap<u32, [u64; 8]>,
    hits: HashMap<Key, u64>,
    left: Vec<Left>,
    sizes: TargetSizes,
    up: bool,
    has_program: bool,
    lost: bool,
    idle: Vec<Key>,
    /// One for each batch to come; `None`: it ends well.
    failures: VecDeque<Option<Failure>>,
    log: Vec<Write>,
    watcher: Option<Watcher>,
}

/// A target in memory. Clones are the same target: one is the plane's, others are the test's.
#[derive(Clone)]
pub struct MemoryTarget {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

impl std::fmt::Debug for MemoryTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryTarget")
            .field("entries", &self.lock().tables.len())
            .finish()
    }
}

impl Default for MemoryTarget {
    /// There, without a program, with room for 1,000 of everything.
    fn default() -> Self {
        let inner = Inner {
            tables: Tables::new(),
            meters: HashMap::new(),
            passed: HashMap::new(),
            odd: HashMap::new(),
            odd_overhead: HashMap::new(),
            hits: HashMap::new(),
            left: Vec::new(),
            sizes: TargetSizes {
                tables: [1_000; Table::ALL.len()],
                cells: 1_000,
                meters: 1_000,
                punt_users: 4,
                idle_timeout: true,
            },
            up: true,
            has_program: false,
            lost: false,
            idle: Vec::new(),
            failures: VecDeque::new(),
            log: Vec::new(),
            watcher: None,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            changed: Arc::default(),
        }
    }
}

impl MemoryTarget {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the next batches of writes end; `None`: well.
    pub fn fail(&self, failures: impl IntoIterator<Item = Option<Failure>>) {
        self.lock().failures.extend(failures);
    }

    /// It does not tell of idle flows.
    pub fn never_tell_idle(&self) {
        self.lock().sizes.idle_timeout = false;
    }

    /// A table holds so many entries.
    pub fn set_size(&self, table: Table, size: u64) {
        self.lock().sizes.tables[table as usize] = size;
    }

    /// It is reachable, or is not. Tables and counters stay.
    pub fn set_up(&self, up: bool) {
        {
            let mut inner = self.lock();
            inner.up = up;
            inner.lost |= !up;
        }
        self.changed.notify_waiters();
    }

    /// It starts again, empty.
    pub fn restart(&self) {
        {
            let mut inner = self.lock();
            inner.tables.clear();
            inner.meters.clear();
            inner.passed.clear();
            inner.odd.clear();
            inner.odd_overhead.clear();
            inner.hits.clear();
            inner.has_program = false;
            inner.lost = true;
        }
        self.changed.notify_waiters();
    }

    /// Its entries now.
    pub fn tables(&self) -> Tables {
        self.lock().tables.clone()
    }

    /// Rates of its meters now.
    pub fn meters(&self) -> HashMap<MeterCell, Rates> {
        self.lock().meters.clone()
    }

    /// Loses or gets an entry behind the plane's back.
    pub fn tamper(&self, change: impl FnOnce(&mut Tables)) {
        change(&mut self.lock().tables);
    }

    /// Every write since the last call that took effect, in order.
    pub fn take_log(&self) -> Vec<Write> {
        std::mem::take(&mut self.lock().log)
    }

    /// Calls this with the tables after every single write.
    pub fn watch(&self, watcher: impl FnMut(&Tables) + Send + 'static) {
        self.lock().watcher = Some(Box::new(watcher));
    }

    /// Pretends that a cell counted a frame of so many bytes, of which `overhead` are around the user's packet.
    pub fn count(&self, cell: u32, bytes: u64, overhead: u8, usual: u8) {
        let mut inner = self.lock();
        let passed = &mut inner.passed.entry(cell).or_default().passed;
        passed.packets += 1;
        passed.bytes += bytes;
        if overhead != usual {
            *inner.odd.entry(cell).or_default() += 1;
            let bits = inner.odd_overhead.entry(cell).or_default();
            for (bit, count) in bits.iter_mut().enumerate() {
                *count += u64::from(overhead >> bit & 1);
            }
        }
    }

    /// Pretends that a flow had a packet.
    pub fn hit(&self, flow: Key) {
        *self.lock().hits.entry(flow).or_default() += 1;
    }

    /// Pretends that flows were idle.
    pub fn idle(&self, flows: impl IntoIterator<Item = Key>) {
        self.lock().idle.extend(flows);
        self.changed.notify_waiters();
    }

    fn reachable(&self) -> Result<MutexGuard<'_, Inner>, TargetError> {
        let inner = self.lock();
        if inner.up && !inner.lost {
            Ok(inner)
        } else {
            Err(TargetError::Lost("as told".into()))
        }
    }
}

impl Inner {
    fn write(&mut self, write: &Write) -> Result<(), WriteFailure> {
        match write.clone() {
            Write::Insert(entry) => {
                let table = entry.key.table();
                if self.tables.contains_key(&entry.key) {
                    return Err(WriteFailure::Unexpected);
                }
                let used = self.tables.keys().filter(|key| key.table() == table).count() as u64;
                if used >= self.sizes.of(table) {
                    return Err(WriteFailure::Full);
                }
                self.tables.insert(entry.key, entry.action);
            }
            Write::Modify(entry) => match self.tables.get_mut(&entry.key) {
                Some(action) => *action = entry.action,
                None => return Err(WriteFailure::Unexpected),
            },
            Write::Delete(key) => {
                self.tables.remove(&key).ok_or(WriteFailure::Unexpected)?;
                self.hits.remove(&key);
            }
            Write::Meter(cell, rates) => {
                self.meters.insert(cell, rates);
            }
        }
        self.log.push(write.clone());
        if let Some(watcher) = &mut self.watcher {
            watcher(&self.tables);
        }
        Ok(())
    }
}

impl Target for MemoryTarget {
    async fn connected(&mut self) {
        loop {
            let changed = self.changed.clone();
            let changed = changed.notified();
            {
                let mut inner = self.lock();
                if inner.up {
                    inner.lost = false;
                    return;
                }
            }
            changed.await;
        }
    }

    async fn prepare(&mut self) -> Result<Ready, TargetError> {
        let mut inner = self.reachable()?;
        let fresh = !std::mem::replace(&mut inner.has_program, true);
        Ok(Ready {
            fresh,
            sizes: inner.sizes.clone(),
        })
    }

    async fn write(&mut self, writes: Vec<Write>) -> Result<Vec<(usize, WriteFailure)>, TargetError> {
        let failure = self.reachable()?.failures.pop_front().flatten();
        if failure == Some(Failure::Hangs) {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
        let mut inner = self.reachable()?;
        let mut failed = Vec::new();
        for (place, write) in writes.iter().enumerate() {
            match failure {
                Some(Failure::Breaks(at)) if at == place => {
                    inner.lost = true;
                    drop(inner);
                    self.changed.notify_waiters();
                    return Err(TargetError::Lost("as told".into()));
                }
                Some(Failure::Write(at, failure)) if at == place => failed.push((place, failure)),
                _ => failed.extend(inner.write(write).err().map(|failure| (place, failure))),
            }
        }
        Ok(failed)
    }

    fn tells_idle(&self) -> bool {
        self.lock().sizes.idle_timeout
    }

    async fn read(&mut self, table: Table) -> Result<Vec<Entry>, TargetError> {
        let inner = self.reachable()?;
        let entries = inner.tables.iter().filter(|(key, _)| key.table() == table);
        Ok(entries.map(|(key, action)| Entry::new(*key, action.clone())).collect())
    }

    async fn check(&mut self, entries: Vec<Entry>) -> Result<Vec<usize>, TargetError> {
        let inner = self.reachable()?;
        let wrong = entries
            .iter()
            .enumerate()
            .filter(|(_, e)| inner.tables.get(&e.key) != Some(&e.action));
        Ok(wrong.map(|(place, _)| place).collect())
    }

    async fn passed(&mut self, cells: &[u32]) -> Result<Vec<Passed>, TargetError> {
        let inner = self.reachable()?;
        Ok(cells
            .iter()
            .map(|c| inner.passed.get(c).copied().unwrap_or_default())
            .collect())
    }

    async fn odd(&mut self, cells: &[u32]) -> Result<Vec<u64>, TargetError> {
        let inner = self.reachable()?;
        Ok(cells
            .iter()
            .map(|c| inner.odd.get(c).copied().unwrap_or_default())
            .collect())
    }

    async fn odd_overhead(&mut self, cells: &[u32]) -> Result<Vec<[u64; 8]>, TargetError> {
        let inner = self.reachable()?;
        Ok(cells
            .iter()
            .map(|c| inner.odd_overhead.get(c).copied().unwrap_or_default())
            .collect())
    }

    async fn hits(&mut self, flows: &[Key]) -> Result<Vec<u64>, TargetError> {
        let inner = self.reachable()?;
        Ok(flows
            .iter()
            .map(|f| inner.hits.get(f).copied().unwrap_or_default())
            .collect())
    }

    async fn left(&mut self) -> Result<Vec<Left>, TargetError> {
        Ok(self.reachable()?.left.clone())
    }

    async fn event(&mut self) -> TargetEvent {
        loop {
            let changed = self.changed.clone();
            let changed = changed.notified();
            {
                let mut inner = self.lock();
                if inner.lost || !inner.up {
                    return TargetEvent::Lost;
                }
                if !inner.idle.is_empty() {
                    return TargetEvent::Idle(std::mem::take(&mut inner.idle));
                }
            }
            changed.await;
        }
    }
}
