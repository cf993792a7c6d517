//! What each control of `p4/` does with packets, on every target at hand. Read the modules in the order of a packet's way.

mod scene;

mod station;

mod sessions;

mod flows;

mod rules;

mod routing;

mod ecn;

mod meters;

mod simulated;

mod forward;

mod punt;
