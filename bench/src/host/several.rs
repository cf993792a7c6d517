//! Two lcores, each on a CPU of its own: what they do together, and what handing over costs.

use super::rig::{Lane, lanes};
use super::sessions::Filters;
use super::traffic::{Traffic, Way};
use super::{Effort, PER_BURST, PER_LOOK, batches, put, repeated, traffic};
use crate::Outcome;
use crate::figure::Figure;
use crate::progress::doing;
use serde_json::json;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use upf_host::dpdk::{Eal, spawn_worker, tsc_hz};

const SESSIONS: u32 = 10_000;

/// How packets come to the lcores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arriving {
    /// All at one lcore, and no other works.
    OnlyOne,
    /// Each lcore receives its own users' packets, as from a device that spreads by the user's address.
    TheirOwn,
    /// Each receives any user's, as from a device that spreads by anything else.
    Any,
    /// One receives all, as from a device that spreads by outer addresses, with one gNB.
    One,
}

impl Arriving {
    const ALL: [Self; 4] = [Self::OnlyOne, Self::TheirOwn, Self::Any, Self::One];

    const fn name(self) -> &'static str {
        match self {
            Self::OnlyOne => "at the only one",
            Self::TheirOwn => "at their user's",
            Self::Any => "at any",
            Self::One => "all at one",
        }
    }

    const fn lcores(self) -> usize {
        match self {
            Self::OnlyOne => 1,
            Self::TheirOwn | Self::Any | Self::One => LCORES,
        }
    }
}

const LCORES: usize = 2;

/// What an lcore is to do next.
#[derive(Clone, Copy)]
struct Job {
    arriving: Arriving,
    way: Way,
    /// With the pipeline, or bare.
    pipeline: bool,
    each: Duration,
}

/// What it did: packets sent a second.
type Done = Result<f64, String>;

/// Measures all ways of arriving, uplink and downlink; nothing, and says so, on a single CPU.
pub fn run(eal: &Eal, effort: Effort, memory: &'static str) -> Outcome<Vec<Figure>> {
    let cpus = crate::ipc::cpus();
    if cpus.len() < LCORES {
        println!("left out: several lcores; there is one CPU");
        return Ok(Vec::new());
    }
    doing("host", format_args!("{LCORES} lcores, {SESSIONS} sessions"));
    let (mut manager, lanes) = lanes(eal, LCORES)?;
    batches(0..SESSIONS, |number| put(number, 1)).try_for_each(|batch| manager.apply(&batch).map(drop))?;
    let together = Arc::new(Barrier::new(LCORES));
    let mut lcores = Vec::new();
    for (number, (lane, &cpu)) in lanes.into_iter().zip(cpus.iter().rev()).enumerate() {
        let (jobs, jobs_there) = mpsc::channel();
        let (done_there, done) = mpsc::channel();
        let together = together.clone();
        let work = move || serve(lane, number, &together, &jobs_there, &done_there);
        let thread = spawn_worker(eal, cpu, &format!("bench-{number}"), work)?;
        lcores.push((jobs, done, thread));
    }
    let mut figures = Vec::new();
    for way in [Way::Uplink, Way::Downlink] {
        for arriving in Arriving::ALL {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for repetition in 0..=effort.repetitions {
                for (pipeline, rates) in [(true, &mut with), (false, &mut without)] {
                    let each = effort.each;
                    let job = Job {
                        arriving,
                        way,
                        pipeline,
                        each,
                    };
                    let rate = measure(&lcores, job)?;
                    // The first one warms up.
                    if repetition > 0 {
                        rates.push(rate / 1e6);
                    }
                }
            }
            let params = json!({
                "direction": way.name(), "sessions": SESSIONS, "inner_bytes": traffic::INNER_BYTES, "burst": PER_BURST,
                "memory": memory, "lcores": arriving.lcores(), "packets arrive": arriving.name(),
            });
            for (subject, rates) in [("upf-host pipeline", with), ("no UPF work (limit)", without)] {
                let name = ("packets of several cores", subject);
                figures.extend(Figure::of("host", name, params.clone(), "Mpps", rates));
            }
        }
    }
    for (jobs, _, thread) in lcores {
        drop(jobs);
        thread.join().map_err(|_| "a measuring thread panicked")?;
    }
    Ok(figures)
}

/// Packets a second that all lcores together send.
fn measure<T>(lcores: &[(Sender<Job>, Receiver<Done>, T)], job: Job) -> Outcome<f64> {
    // Other work of the machine gets its turn here and not in between.
    std::thread::sleep(job.each / 8);
    for (jobs, ..) in lcores {
        jobs.send(job)?;
    }
    let mut sum = 0.0;
    for (_, done, _) in lcores {
        sum += done.recv()??;
    }
    Ok(sum)
}

fn serve(mut lane: Lane, number: usize, together: &Barrier, jobs: &Receiver<Job>, done: &Sender<Done>) {
    while let Ok(job) = jobs.recv() {
        together.wait();
        let result = work(&mut lane, number, job).map_err(|error| error.to_string());
        let _ = done.send(result);
    }
}

fn work(lane: &mut Lane, number: usize, job: Job) -> Outcome<f64> {
    let receives = number == 0 || matches!(job.arriving, Arriving::TheirOwn | Arriving::Any);
    let works = number < job.arriving.lcores();
    let mut traffic = Traffic::new(job.way, SESSIONS, Filters::None, lane);
    if job.arriving == Arriving::TheirOwn {
        traffic = traffic.share(number as u32, LCORES as u32);
    }
    lane.refresh_neighbours();
    let before = lane.tally(job.way).sent;
    let cycles = repeated(job.each, || {
        match (job.pipeline, job.arriving) {
            _ if !works => std::thread::sleep(job.each),
            (false, _) if receives => drop(lane.pass(&mut traffic, PER_LOOK)?),
            (false, _) => std::thread::sleep(job.each),
            (true, Arriving::OnlyOne | Arriving::TheirOwn) => drop(lane.forward(&mut traffic, PER_LOOK)?),
            (true, Arriving::Any | Arriving::One) => lane.forward_shared(&mut traffic, receives, PER_LOOK)?,
        }
        Ok(())
    })?;
    let sent = lane.tally(job.way).sent - before;
    Ok(sent as f64 * tsc_hz() as f64 / cycles)
}
