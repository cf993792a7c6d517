//! What the plane asks of a target: written, read and heard in terms of [`crate::placement`]. A P4Runtime server is one
//! ([`super::runtime`]), a map in memory another ([`super::memory`]).

use crate::placement::{Entry, Key, Table, TargetSizes, Write};
use std::future::Future;
use upf_model::batch::Count;
use upf_model::punt::PuntReason;

/// Why a target cannot be used at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is no connection, it broke, or somebody else is primary.
    #[error("no connection: {0}")]
    Lost(String),
    /// It refused a request as a whole.
    #[error("refused: {0}")]
    Refused(String),
    /// It did not answer in time.
    #[error("no answer in time")]
    Late,
    /// It runs a program that this controller cannot use.
    #[error("program: {0}")]
    Program(String),
}

/// Why one write of a batch took no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFailure {
    /// The table is full.
    Full,
    /// Something else: the target is not as it should be.
    Unexpected,
}

/// A target that is connected and has the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The program was set just now: tables are empty, counters zero.
    pub fresh: bool,
    /// How much it holds.
    pub sizes: TargetSizes,
}

/// What the counters of a cell say, as the target counts: bytes are those of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Passed on.
    pub passed: Count,
    /// Dropped by gate, FAR or rate.
    pub dropped: Count,
}

/// Packets that left the fast path for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Which one.
    pub reason: PuntReason,
    /// All of them.
    pub count: Count,
    /// Those that were over a rate, and dropped therefore.
    pub limited: Count,
}

/// What a target says unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetEvent {
    /// These flows had no packet for their idle timeout.
    Idle(Vec<Key>),
    /// The connection broke, or somebody else became primary.
    Lost,
}

/// A target. One task uses it, one call at a time; the caller bounds the time of each call.
pub trait Target: Send + 'static {
    /// Waits until there is a connection over which it can be written. May be dropped and called again.
    fn connected(&mut self) -> impl Future<Output = ()> + Send;

    /// Makes it run the program, unless it does already.
    fn prepare(&mut self) -> impl Future<Output = Result<Ready, TargetError>> + Send;

    /// Writes, in any order. The result has the writes that took no effect, by their places.
    fn write(
        &mut self,
        writes: Vec<Write>,
    ) -> impl Future<Output = Result<Vec<(usize, WriteFailure)>, TargetError>> + Send;

    /// Whether flows that are idle are told of ([`TargetEvent::Idle`]).
    fn tells_idle(&self) -> bool;

    /// All entries of a table.
    fn read(&mut self, table: Table) -> impl Future<Output = Result<Vec<Entry>, TargetError>> + Send;

    /// Whether these entries are there as they are here; by their places, those that are not.
    fn check(&mut self, entries: Vec<Entry>) -> impl Future<Output = Result<Vec<usize>, TargetError>> + Send;

    /// Counters of cells, in their order.
    fn passed(&mut self, cells: &[u32]) -> impl Future<Output = Result<Vec<Passed>, TargetError>> + Send;

    /// Frames with another overhead than usual, by cell, in their order.
    fn odd(&mut self, cells: &[u32]) -> impl Future<Output = Result<Vec<u64>, TargetError>> + Send;

    /// Frames with another overhead than usual whose overhead has bit 0, 1, ... 7; by cell, in their order.
    fn odd_overhead(&mut self, cells: &[u32]) -> impl Future<Output = Result<Vec<[u64; 8]>, TargetError>> + Send;

    /// Packets of flows, in their order.
    fn hits(&mut self, flows: &[Key]) -> impl Future<Output = Result<Vec<u64>, TargetError>> + Send;

    /// Packets that left the fast path.
    fn left(&mut self) -> impl Future<Output = Result<Vec<Left>, TargetError>> + Send;

    /// The next thing it says unasked. May be dropped and called again.
    fn event(&mut self) -> impl Future<Output = TargetEvent> + Send;
}
