//! The targets as processes on veth pairs: packets a second, latency of single packets, and how fast they take rules.
//!
//! ```text
//!   this process         namespace           the target
//!   t1, t2, t3 ─────────── veth ─────────── s1, s2, s3      N3, N6, the host port
//! ```

use super::population::{HOST, N3, N6, Population};
use super::traffic::{Frame, INNER_BYTES, frames, is_right};
use super::wire::{BURST, Wire};
use super::{Effort, Figures, HIT_RATES, Outcome, Program, Resources, target, writes};
use gnb_sim::namespace::{ip, within};
use serde_json::json;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How figures call it.
pub const NAME: &str = "packets a second over veth";
const LIMIT: &str = "no UPF work (limit)";
const P4RUNTIME: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9559));
/// Frames in flight. BMv2's queues hold 64, so the first one must lose nothing.
const WINDOWS: [usize; 3] = [16, 64, 256];
/// A frame that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// One population on every target.
pub fn measure(population: &Population, effort: Effort, resources: &Resources, figures: &mut Figures) -> Outcome<()> {
    let this = std::env::current_exe()?;
    let beside = this.parent().unwrap_or(Path::new(".")).join("p4-switch");
    let targets = [
        (target::P4_SWITCH, Some(beside).filter(|p| p.exists())),
        (target::BMV2, on_path("simple_switch_grpc")),
    ];
    for (subject, program) in targets {
        let Some(program) = program else {
            eprintln!("{subject} over veth: skipped, it is not installed");
            continue;
        };
        let place = Place::make(subject, resources)?;
        let measured = within(Some(&place.namespace), || {
            place.measure(&program, population, effort, figures)
        })?;
        place.end();
        measured?;
    }
    if population.sessions == 1 {
        let place = Place::make("limit", resources)?;
        within(Some(&place.namespace), || place.limit(effort, figures))??;
        place.end();
    }
    Ok(())
}

/// A namespace with the wires in it.
struct Place<'r> {
    namespace: String,
    subject: String,
    resources: &'r Resources,
}

impl<'r> Place<'r> {
    fn make(subject: &str, resources: &'r Resources) -> Outcome<Self> {
        let namespace = format!("bench-p4-{}", std::process::id());
        // Of a target before: gone by now, or it goes now.
        let _ = ip(&["netns", "del", &namespace]);
        ip(&["netns", "add", &namespace])?;
        resources.add_namespace(namespace.clone());
        within(Some(&namespace), || -> Outcome<()> {
            ip(&["link", "set", "lo", "up"])?;
            for port in 1..=3 {
                let (ours, its) = (format!("t{port}"), format!("s{port}"));
                ip(&[
                    "link", "add", &ours, "mtu", "1600", "type", "veth", "peer", "name", &its, "mtu", "1600",
                ])?;
                for end in [&ours, &its] {
                    // The kernel says nothing on these links.
                    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1");
                    ip(&["link", "set", end, "up"])?;
                }
            }
            Ok(())
        })??;
        let subject = subject.to_owned();
        Ok(Self {
            namespace,
            subject,
            resources,
        })
    }

    fn end(&self) {
        let _ = ip(&["netns", "del", &self.namespace]);
    }

    /// Runs inside the namespace.
    fn measure(&self, binary: &Path, population: &Population, effort: Effort, figures: &mut Figures) -> Outcome<()> {
        let log = std::env::temp_dir().join(format!("{}.log", self.namespace));
        let output = File::create(&log)?;
        let mut command = Command::new(binary);
        command.arg("--no-p4").args(["--device-id", "0"]);
        for port in 1..=3 {
            command.args(["-i", &format!("{port}@s{port}")]);
        }
        command.args([
            "--",
            "--grpc-server-addr",
            &P4RUNTIME.to_string(),
            "--priority-queues",
            "8",
        ]);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let pid = self.resources.add_child(command.spawn()?);
        let measured = self.with_target(population, effort, figures);
        self.resources.signal(pid, nix::sys::signal::Signal::SIGKILL);
        measured.map_err(|error| format!("{} over veth: {error}; it wrote {}", self.subject, log.display()).into())
    }

    fn with_target(&self, population: &Population, effort: Effort, figures: &mut Figures) -> Outcome<()> {
        let program = Program::for_sessions(population.sessions)?;
        let runtime = target::runtime()?;
        let client = runtime.block_on(target::connect(P4RUNTIME, &program))?;
        let (updates, took) = runtime.block_on(target::populate(&client, *population, &program))?;
        let params = json!({ "sessions": population.sessions, "updates": updates, "batch": target::PER_WRITE });
        let rate = updates as f64 / took.as_secs_f64();
        figures.add("rule writes a second", &self.subject, params, "1/s", vec![rate]);
        if population.sessions == 10_000 {
            runtime.block_on(writes::measure(&client, &program, &self.subject, effort, figures))?;
        }
        for hit_rate in HIT_RATES {
            let frames = frames(*population, hit_rate);
            let mut tester = Tester::open()?;
            tester.look_at(&frames)?;
            let best = tester.best(&frames, effort)?;
            self.add_rates(population.sessions, hit_rate, best, figures);
            if population.sessions == 10_000 && hit_rate != 90 {
                let path = if hit_rate == 100 {
                    "fast path"
                } else {
                    "to the host port"
                };
                self.add_latencies(path, tester.latencies(&frames, effort)?, figures);
            }
        }
        Ok(())
    }

    /// The same sockets and links, with nobody but a loop that passes frames on.
    fn limit(&self, effort: Effort, figures: &mut Figures) -> Outcome<()> {
        let ended = AtomicBool::new(false);
        let mut passing = [Wire::open("s1")?, Wire::open("s2")?];
        std::thread::scope(|scope| {
            let pass = scope.spawn(|| pass(&mut passing, &ended));
            let measured = (|| {
                let frames = frames(Population::new(10_000), 100);
                let mut tester = Tester::open()?;
                let best = tester.best(&frames, effort)?;
                self.add_rates_of(LIMIT, 10_000, 100, best, figures);
                let latencies = tester.latencies(&frames, effort)?;
                self.add_latencies_of(LIMIT, "fast path", latencies, figures);
                Outcome::Ok(())
            })();
            ended.store(true, Ordering::Relaxed);
            pass.join().map_err(|_| "the passing thread panicked")??;
            measured
        })
    }

    fn add_rates(&self, sessions: u32, hit_rate: u32, best: (usize, Vec<f64>), figures: &mut Figures) {
        self.add_rates_of(&self.subject, sessions, hit_rate, best, figures);
    }

    fn add_rates_of(
        &self,
        subject: &str,
        sessions: u32,
        hit_rate: u32,
        (_, rates): (usize, Vec<f64>),
        figures: &mut Figures,
    ) {
        let params = json!({ "sessions": sessions, "hit_rate": hit_rate, "inner_bytes": INNER_BYTES });
        figures.add(NAME, subject, params, "1/s", rates);
    }

    fn add_latencies(&self, path: &str, latencies: Vec<f64>, figures: &mut Figures) {
        self.add_latencies_of(&self.subject, path, latencies, figures);
    }

    fn add_latencies_of(&self, subject: &str, path: &str, latencies: Vec<f64>, figures: &mut Figures) {
        percentiles(
            "latency over veth",
            subject,
            &json!({ "path": path }),
            latencies,
            figures,
        );
    }
}

/// Median, 99th and 99.9th percentile of samples.
pub fn percentiles(
    name: &str,
    subject: &str,
    params: &serde_json::Value,
    mut samples: Vec<f64>,
    figures: &mut Figures,
) {
    samples.sort_by(f64::total_cmp);
    for (percentile, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let at = ((samples.len() as f64 * share) as usize).min(samples.len().saturating_sub(1));
        let value = samples.get(at).copied().into_iter().collect();
        figures.add(&format!("{name}, {percentile}"), subject, params.clone(), "us", value);
    }
}

fn pass([one, other]: &mut [Wire; 2], ended: &AtomicBool) -> std::io::Result<()> {
    let mut held: Vec<Vec<u8>> = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let mut passed = 0;
        for up in [true, false] {
            let (from, to) = if up {
                (&mut *one, &mut *other)
            } else {
                (&mut *other, &mut *one)
            };
            let mut many = 0;
            from.receive(|frame| {
                if held.len() == many {
                    held.push(Vec::new());
                }
                held[many].clear();
                held[many].extend_from_slice(frame);
                many += 1;
            })?;
            if many > 0 {
                passed += to.send(held[..many].iter().map(Vec::as_slice))?;
            }
        }
        if passed == 0 {
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// The other ends of the target's wires.
struct Tester {
    wires: [Wire; 3],
}

impl Tester {
    fn open() -> std::io::Result<Self> {
        Ok(Self {
            wires: [Wire::open("t1")?, Wire::open("t2")?, Wire::open("t3")?],
        })
    }

    fn receive(&mut self, mut each: impl FnMut(u32, &[u8])) -> std::io::Result<usize> {
        let mut many = 0;
        for (port, wire) in (1..).zip(&mut self.wires) {
            many += wire.receive(|frame| each(port, frame))?;
        }
        Ok(many)
    }

    /// A few frames: each must come out once, at the right port, and right.
    fn look_at(&mut self, frames: &[Frame]) -> Outcome<()> {
        for (ingress, frame) in frames.iter().take(8) {
            self.wires[*ingress as usize - 1].send(std::iter::once(frame.as_slice()))?;
            let mut seen = Vec::new();
            let deadline = Instant::now() + PATIENCE;
            while seen.is_empty() && Instant::now() < deadline {
                self.receive(|port, frame| seen.push((port, frame.to_vec())))?;
            }
            match seen.as_slice() {
                [(HOST, _)] => {}
                [(port, out)] if *port == N3 + N6 - ingress && is_right(*ingress, out) => {}
                other => return Err(format!("of a frame from port {ingress} became {other:02x?}").into()),
            }
        }
        Ok(())
    }

    /// The window with the highest rate among those that lose nothing, and the rates of its repetitions.
    fn best(&mut self, frames: &[Frame], effort: Effort) -> Outcome<(usize, Vec<f64>)> {
        let mut best: Option<(usize, Vec<f64>)> = None;
        let middle = |rates: &[f64]| {
            let mut rates = rates.to_vec();
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        for window in WINDOWS {
            let rates: Outcome<Option<Vec<f64>>> = (0..effort.repetitions)
                .map(|_| self.rate(frames, window, effort.each))
                .collect();
            let Some(rates) = rates? else { continue };
            if best.as_ref().is_none_or(|(_, so_far)| middle(so_far) < middle(&rates)) {
                best = Some((window, rates));
            }
        }
        best.ok_or_else(|| "frames were lost at every window".into())
    }

    /// Frames a second with so many in flight; none if any was lost.
    fn rate(&mut self, frames: &[Frame], window: usize, length: Duration) -> Outcome<Option<f64>> {
        let of_port = |port: u32| frames.iter().filter(move |f| f.0 == port).map(|f| f.1.as_slice());
        let lists: [Vec<&[u8]>; 2] = [of_port(N3).collect(), of_port(N6).collect()];
        let mut next = [0_usize; 2];
        let (mut sent, mut received) = (0_usize, 0_usize);
        let begin = Instant::now();
        let mut last = begin;
        loop {
            let now = Instant::now();
            let sending = now - begin < length;
            if sending {
                for (list, (at, wire)) in lists.iter().zip(next.iter_mut().zip(&self.wires)) {
                    let free = (window + received).saturating_sub(sent).min(BURST).min(window / 2);
                    if free >= window.min(BURST) / 4 {
                        let many = wire.send((0..free).map(|n| list[(*at + n) % list.len()]))?;
                        *at = (*at + many) % list.len();
                        sent += many;
                    }
                }
            }
            let came = self.receive(|_, _| ())?;
            received += came;
            if came > 0 {
                last = now;
            }
            if !sending && received >= sent {
                return Ok(Some(received as f64 / (Instant::now() - begin).as_secs_f64()));
            }
            if now - last > PATIENCE {
                return Ok(None);
            }
            if came == 0 {
                std::thread::yield_now();
            }
        }
    }

    /// Microseconds that single frames take, one after another.
    fn latencies(&mut self, frames: &[Frame], effort: Effort) -> Outcome<Vec<f64>> {
        let mut samples = Vec::with_capacity(effort.samples);
        for (ingress, frame) in frames.iter().cycle().take(effort.samples) {
            let begin = Instant::now();
            self.wires[*ingress as usize - 1].send(std::iter::once(frame.as_slice()))?;
            while self.receive(|_, _| ())? == 0 {
                if begin.elapsed() > PATIENCE {
                    return Err("a frame was lost".into());
                }
            }
            samples.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        Ok(samples)
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}
