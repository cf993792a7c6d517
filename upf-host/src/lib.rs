//! The host data plane: packets from DPDK ports to DPDK ports by the rules that upf-ctl sends.
//!
//! ```text
//!   upf-ctl ══ shared memory ══▶ manage ──compile──▶ classifier (RCU) ◀──read── worker: rx ▶ pipeline ▶ tx
//!                                   ▲  ◀── events, counters ──────────────────────┘   one per lcore
//! ```
//! A packet's way: [`worker`] -> [`spread`] -> [`pipeline`]. A rule's way: [`manage`] -> [`compile`] -> the classifier.
//!
//! | module | owns |
//! | --- | --- |
//! | [`host`] | putting it all together: devices, lcores, the channel to upf-ctl |
//! | [`worker`] | an lcore's loop and its idling |
//! | [`spread`] | with several lcores: whose packets are whose |
//! | [`host_port`] | with a P4 target: punted frames in, frames to reinject out |
//! | [`pipeline`] | what happens to a packet |
//! | [`egress`] | how packets leave a busy port: queues, rate, congestion marks |
//! | [`delay`] | packet delay between UPF and UE, by time stamps |
//! | [`reports`] | what lcores tell the management thread |
//! | [`manage`] | the rules: batches whole or not at all, counters |
//! | [`fence`] | answers that wait for the lcores |
//! | [`compile`] | from a validated session to what a packet needs |
//! | [`environment`] | ports, our addresses, routes |
//! | [`neighbours`] | next hops and their hardware addresses |
//! | [`counters`] | what is counted, per lcore |
//! | [`usage`] | what is counted for a session's rules |
//! | [`packet`] | packet buffers as the pipeline sees them |
//! | [`checksum`], [`traffic_class`] | the Internet checksum; DSCP and ECN in place |
//! | [`dpdk`] | safe wrappers of DPDK; the only `unsafe` here |
#![deny(unsafe_code)]

pub mod checksum;
pub mod compile;
pub mod counters;
pub mod delay;
pub mod dpdk;
pub mod egress;
pub mod environment;
pub mod fence;
pub mod host;
pub mod host_port;
pub mod manage;
pub mod neighbours;
pub mod packet;
pub mod pipeline;
pub mod reports;
pub mod spread;
pub mod traffic_class;
pub mod usage;
pub mod worker;
