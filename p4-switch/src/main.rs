//! `p4-switch`: the embedded v1model switch as a program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An embedded v1model switch.
#[derive(Debug, Parser)]
#[command(name = "p4-switch", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run STF tests of p4c.
    Stf {
        /// The program's BMv2 JSON.
        #[arg(required_unless_present = "all")]
        program: Option<PathBuf>,
        /// The test.
        #[arg(required_unless_present = "all")]
        test: Option<PathBuf>,
        /// Run every pair of NAME.json and NAME.stf in this directory.
        #[arg(long, conflicts_with_all = ["program", "test"])]
        all: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Stf {
            all: Some(directory), ..
        } => match p4_switch::stf::run_directory(&directory) {
            Ok(summary) => {
                print!("{}", summary.report());
                ExitCode::from(u8::from(!summary.failed.is_empty()))
            }
            Err(error) => {
                eprintln!("{}: {error}", directory.display());
                ExitCode::from(2)
            }
        },
        Command::Stf { program, test, .. } => {
            let (Some(program), Some(test)) = (program, test) else {
                return ExitCode::from(2);
            };
            match p4_switch::stf::run_files(&program, &test) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    eprintln!("{failure}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}
