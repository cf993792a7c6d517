//! Owns the numbers that entries refer to each other by: rules, FARs, cells of counters and meters, epochs.
//!
//! A number is given out again only after everything that used it has been deleted and packets that may still carry it
//! have left, which is for the caller to wait for ([`Ids::free`]). So no entry changes its meaning under a packet.

use super::HostReason;
use std::collections::HashSet;

/// Numbers of one kind, from 1 (or more) to a limit; 0 means none in the program.
#[derive(Debug)]
struct Pool {
    next: u32,
    limit: u32,
    free: Vec<u32>,
    /// In use by entries of unknown origin.
    shunned: HashSet<u32>,
}

impl Pool {
    fn new(first: u32, limit: u32) -> Self {
        Self {
            next: first,
            limit,
            free: Vec::new(),
            shunned: HashSet::new(),
        }
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        while self.next < self.limit && self.shunned.contains(&self.next) {
            self.next += 1;
        }
        (self.next < self.limit).then(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

/// Kinds of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keys of `rules`.
    Rule,
    /// Keys of `fars`.
    Far,
    /// Cells of the counters.
    Cell,
    /// Cells of the meters.
    Meter,
}

/// Numbers that nobody uses any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed(pub Vec<(Kind, u32)>);

/// All numbers.
#[derive(Debug)]
pub struct Ids {
    rules: Pool,
    fars: Pool,
    cells: Pool,
    meters: Pool,
    epoch: u32,
}

impl Ids {
    /// None in use. `cells`, `meters`: how many the target has. Epochs go on from `epoch`: one that the target cannot
    /// have from an earlier controller.
    pub fn new(cells: u64, meters: u64, epoch: u32) -> Self {
        let limit = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            rules: Pool::new(1, u32::MAX),
            fars: Pool::new(super::FAR_ON_HOST + 1, u32::MAX),
            cells: Pool::new(1, limit(cells)),
            meters: Pool::new(1, limit(meters)),
            epoch,
        }
    }

    fn pool(&mut self, kind: Kind) -> &mut Pool {
        match kind {
            Kind::Rule => &mut self.rules,
            Kind::Far => &mut self.fars,
            Kind::Cell => &mut self.cells,
            Kind::Meter => &mut self.meters,
        }
    }

    /// A number that nobody uses.
    ///
    /// # Errors
    /// [`HostReason::Full`].
    pub fn take(&mut self, kind: Kind) -> Result<u32, HostReason> {
        self.pool(kind).take().ok_or(HostReason::Full)
    }

    /// Nobody uses these any more.
    pub fn free(&mut self, freed: Freed) {
        for (kind, id) in freed.0 {
            self.pool(kind).free.push(id);
        }
    }

    /// Never give out this number: an entry that nobody here made uses it.
    pub fn shun(&mut self, kind: Kind, id: u32) {
        self.pool(kind).shunned.insert(id);
    }

    /// An epoch that nothing is under.
    pub fn epoch(&mut self) -> u32 {
        self.epoch = self.epoch.wrapping_add(1);
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_out_once_until_they_are_freed() {
        let mut ids = Ids::new(3, 3, 0);
        assert_eq!((ids.take(Kind::Cell), ids.take(Kind::Cell)), (Ok(1), Ok(2)));
        assert_eq!(ids.take(Kind::Cell), Err(HostReason::Full));
        ids.free(Freed(vec![(Kind::Cell, 1)]));
        assert_eq!(ids.take(Kind::Cell), Ok(1));
    }

    #[test]
    fn a_number_that_a_stranger_uses_is_left_alone() {
        let mut ids = Ids::new(8, 8, 0);
        ids.shun(Kind::Rule, 1);
        ids.shun(Kind::Rule, 2);
        assert_eq!(ids.take(Kind::Rule), Ok(3));
    }
}
