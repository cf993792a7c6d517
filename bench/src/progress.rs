//! What a suite is doing now, on standard error: some take minutes.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::Instant;

/// Says it, with the time since the first time anything was said.
pub fn doing(suite: &str, what: impl Display) {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    eprintln!("[{suite} {:4} s] {what}", elapsed.as_secs());
}
