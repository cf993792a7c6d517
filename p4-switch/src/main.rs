//! `p4-switch`: the embedded v1model switch as a program, in the place of `simple_switch_grpc`.

mod options;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
