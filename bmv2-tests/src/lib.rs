//! Packet tests of `p4/`: the same entries and packets on every P4 target at hand.
//!
//! A P4 program has as many meanings as there are targets that run it, and a test on one of them proves nothing about
//! the next. So a test here is written once, against [`Target`]: it writes entries through P4Runtime, lets frames in at
//! ports, and says which frames must come out of which ports. [`on_every_target`] runs it on
//!
//! | target | at hand | frames go |
//! | --- | --- | --- |
//! | `p4-switch` | always; in this process | through memory |
//! | BMv2 | where `simple_switch_grpc` is on PATH, as root | over veth pairs, in a network namespace of its own |
//! | any other | where `UPF_P4_TARGET=HOST:PORT` and `UPF_P4_PORTS=1=veth1,2=veth2,...` are set | over these interfaces |
//!
//! and says which of them it had to leave out, and why. The target of the environment needs ports 1 to 4 and 8 priority
//! queues; the interfaces named are this machine's ends of its links, `UPF_P4_DEVICE_ID` its device (1 if unset). With
//! `UPF_P4_BMV2_LOG=trace` BMv2 tells all it does with each packet, in a file of the temporary directory.
//!
//! | module | owns |
//! | --- | --- |
//! | [`target`] | a target as tests see it; all targets at hand |
//! | [`entry`] | the tables of `p4/` as types |
//! | [`frame`] | frames as users, gNBs and data networks send them |
//! | [`world`] | the addresses and entries that the tests begin with |
//! | [`program`] | the compiled program |
//!
//! No test waits for time to pass. That nothing came out is known because a later frame did, see
//! [`wires`](target::wires).

pub mod entry;
pub mod frame;
pub mod program;
pub mod target;
pub mod world;

pub use entry::Entry;
pub use target::{Frames, Target, on_every_target};
