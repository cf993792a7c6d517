//! What the `upf` command is made of; the end-to-end tests use the same parts.
//!
//! | module | owns |
//! | --- | --- |
//! | [`lab`] | a small network on this machine: namespaces, the daemons, a gNB, a data network |
//! | [`demo`] | the tour: sessions over PFCP, traffic through the tunnel, what was counted |
//! | [`run`] | both daemons as one, started again when one dies |
//! | [`client`] | questions to a running upf-ctl |
//! | [`context`] | contexts put, listed, replayed from files; explanations as text |
//! | [`inspect`] | its answers as tables |
//! | [`trace`] | one packet's way through both planes, without sending it |

pub mod client;
pub mod context;
pub mod demo;
pub mod inspect;
pub mod lab;
pub mod run;
pub mod trace;
