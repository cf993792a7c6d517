//! What upf-ctl's planner writes, in the targets: it is the host's equal, whatever the rules; it means the same everywhere;
//! and it changes at once.

mod host;
mod packet;
mod placed;
mod session;
mod world;

mod equivalence;

mod differential;

mod atomicity;

mod plane;
