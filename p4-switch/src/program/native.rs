//! Straight code as machine code (x86-64): each simple instruction of [`code`](super::code) becomes a few of the
//! processor's, with offsets, shifts and masks as constants. An instruction that is not simple leaves the machine code;
//! the interpreter does that one and comes back.
//!
//! The interpreter alone is enough, and all there is on other processors or where memory may not become executable. The
//! two are held against each other by a property test.
//!
//! # What may go wrong, and why it does not
//! Machine code reads and writes the packet state at the offsets of slots, which the layout has made and which end before
//! the state's padding does; the words of the action's arguments, which are counted before; and the [`Frame`]. It keeps to
//! registers that a C function may change, but for RBX, which it restores. Its memory is written before it becomes
//! executable and never after.

use super::code::REGISTERS;

#[cfg(target_arch = "x86_64")]
mod assembler;
#[cfg(target_arch = "x86_64")]
mod memory;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use absent::{Headers, Native};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Headers, Native};

/// Words of a table's key that a frame has room for.
pub(crate) const KEY: usize = 8;

/// What the code of a packet, machine code above all, keeps from one instruction to another.
#[derive(Debug, Clone)]
#[repr(C)]
pub(crate) struct Frame {
    pub(crate) registers: [u64; REGISTERS],
    /// Where the pipeline goes on after an action.
    pub(crate) then: u64,
    /// By how much the packet's length has changed.
    pub(crate) length: i64,
    /// Longest that the packet may leave.
    pub(crate) truncated: u64,
    /// Where the parser is in the packet, or how far the deparser has come; and where the packet ends. Addresses.
    pub(crate) cursor: u64,
    pub(crate) end: u64,
    /// Parser states that the packet may still go through.
    pub(crate) states_left: u64,
    /// Backward jumps that an action has taken.
    pub(crate) loops: u32,
    /// The key of the table that is applied, if there is room for it.
    pub(crate) key: [u64; KEY],
}

impl Default for Frame {
    #[inline]
    fn default() -> Self {
        Self {
            registers: [0; REGISTERS],
            then: 0,
            length: 0,
            truncated: u64::MAX,
            cursor: 0,
            end: 0,
            states_left: 0,
            loops: 0,
            key: [0; KEY],
        }
    }
}

/// For processors that nothing is translated for.
#[cfg(not(target_arch = "x86_64"))]
mod absent {
    use super::super::Emit;
    use super::super::code::{Code, Label};
    use super::super::parser::Parser;
    use super::Frame;

    /// There is none.
    #[derive(Debug)]
    pub(crate) enum Native {}

    /// There is none.
    #[derive(Debug)]
    pub(crate) enum Headers {}

    impl Headers {
        pub(crate) fn new(_: &Parser, _: &[Emit]) -> Option<Self> {
            None
        }

        /// # Safety
        /// It is never called.
        pub(crate) unsafe fn parse(&self, _: u32, _: &mut [u8], _: &[u8], _: &mut Frame) -> (u32, usize) {
            match *self {}
        }

        /// # Safety
        /// It is never called.
        pub(crate) unsafe fn deparse(&self, _: &mut [u8], _: &mut [u8], _: &mut Frame) -> Option<usize> {
            match *self {}
        }
    }

    impl Native {
        pub(crate) fn new(_: &Code) -> Option<Self> {
            None
        }

        pub(crate) fn enter(&self, _: &mut Frame, _: Label) {
            match *self {}
        }

        /// # Safety
        /// It is never called.
        pub(crate) unsafe fn begin(&self, _: Label, _: &mut [u8], _: &[u64], _: &mut Frame) -> Label {
            match *self {}
        }

        /// # Safety
        /// It is never called.
        pub(crate) unsafe fn resume(&self, _: Label, _: &mut [u8], _: &[u64], _: &mut Frame) -> Label {
            match *self {}
        }
    }
}
