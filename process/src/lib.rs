//! What a daemon settles about its own process: the allocator ([`heap`], by being linked), and how soon the scheduler lets
//! its threads run ([`scheduling`]).

pub mod heap;
pub mod scheduling;
