//! The `p4` suite: `p4/upf.p4` on p4-switch, beside BMv2 where it is installed.
//!
//! ```text
//!   in memory    frames of random sessions ─▶ Switch ─▶ counted           one core, no ports
//!   over veth    packet socket ─ veth ─▶ the program's process ─ veth ─▶ packet socket
//!   whole UPF    data network ─▶ p4-switch ─▶ gNB, and by way of upf-host: latency of both paths
//! ```
//! A session is what upf-ctl makes of one with two PDRs and a rate: six entries and its meters. Frames are half uplink
//! and half downlink, of sessions drawn uniformly; a share of them, the misses, is of users that the tables do not know
//! and leaves by the host port. Every frame is answered by exactly one, or the run ends: what is measured is work done.
//! Over veth the sender keeps a window of frames in flight, so nothing is lost and both targets are asked for what they
//! can do; the limit beside them is the same sockets and veth pairs with nobody in between.
//!
//! BMv2 reserves all cells of an array at its start, so both targets run the small profile, and for more sessions the
//! full one with its arrays cut to what is used.

mod latency;
mod memory;
mod population;
mod program;
mod target;
mod traffic;
mod veth;
mod wire;
mod writes;

use crate::Outcome;
use crate::figure::{Bound, Figure};
use crate::progress::doing;
use population::Population;
use program::Program;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use upf::lab::{Resources, with_resources};

/// How many sessions there are.
const POPULATIONS: [u32; 3] = [1, 10_000, 100_000];
/// Per cent of the frames that the tables know.
const HIT_RATES: [u32; 3] = [100, 90, 0];
/// Packets a second that p4-switch must reach on one core, in memory, at 10,000 sessions with hits only.
const MEMORY_BAR: f64 = 1.5;
/// How many times BMv2 it must be, over the same veth pairs.
const VETH_BAR: f64 = 8.0;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
struct Effort {
    repetitions: usize,
    each: Duration,
    samples: usize,
}

/// Measures everything.
///
/// # Errors
/// Frames got lost, or came out wrong: then no figure would mean anything.
pub fn run(quick: bool) -> Outcome<Vec<Figure>> {
    let effort = match quick {
        true => Effort {
            repetitions: 3,
            each: Duration::from_millis(100),
            samples: 2_000,
        },
        false => Effort {
            repetitions: 7,
            each: Duration::from_millis(400),
            samples: 20_000,
        },
    };
    let mut figures = Figures(Vec::new());
    with_resources(|resources| measure(effort, resources, &mut figures))?;
    figures.bars();
    Ok(figures.0)
}

fn measure(effort: Effort, resources: &Arc<Resources>, figures: &mut Figures) -> Outcome<()> {
    for sessions in POPULATIONS {
        doing("p4", format_args!("in memory, {sessions} sessions"));
        memory::measure(&Population::new(sessions), effort, figures)?;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("p4 over veth, rule writes, latency: skipped, network namespaces need root");
        return Ok(());
    }
    for sessions in POPULATIONS {
        doing("p4", format_args!("over veth, {sessions} sessions"));
        veth::measure(&Population::new(sessions), effort, resources, figures)?;
    }
    doing("p4", "latency of the whole UPF");
    latency::measure(effort, resources, figures)
}

/// What has been measured so far.
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, name: &str, subject: &str, params: Value, unit: &'static str, values: Vec<f64>) {
        self.0.extend(Figure::of("p4", (name, subject), params, unit, values));
    }

    fn value(&self, name: &str, subject: &str, sessions: u32, hit_rate: u32) -> Option<f64> {
        let matches = |f: &&Figure| {
            let (of_sessions, of_rate) = (&f.params["sessions"], &f.params["hit_rate"]);
            (f.name.as_str(), f.subject.as_str()) == (name, subject) && *of_sessions == sessions && *of_rate == hit_rate
        };
        self.0.iter().find(matches).map(|f| f.value)
    }

    /// Which bars hold.
    fn bars(&mut self) {
        let of = |name: &str, subject: &str| self.value(name, subject, 10_000, 100);
        let over_veth = of(veth::NAME, target::P4_SWITCH).zip(of(veth::NAME, target::BMV2));
        let bars = [
            (
                "Mpps of p4-switch in memory, 10,000 sessions, hits only",
                MEMORY_BAR,
                of(memory::NAME, target::P4_SWITCH),
            ),
            (
                "times BMv2 over veth, 10,000 sessions, hits only",
                VETH_BAR,
                over_veth.map(|(ours, bmv2)| ours / bmv2),
            ),
        ];
        for (what, bound, measured) in bars {
            let Some(measured) = measured else {
                eprintln!("{what}: not measured here");
                continue;
            };
            let bar = Figure::bar("p4", what, Bound::AtLeast(bound), measured, "", "");
            self.0.extend(bar);
        }
    }
}
