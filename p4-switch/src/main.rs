//! `p4-switch`: the embedded v1model switch as a program.

fn main() {}
