//! The context push, from the event to the packets: how long a context over HTTP takes to change what leaves the UPF, in
//! each plane; whether packets suffer from it; and how many contexts a second upf-ctl takes.
//!
//! The real programs in a laboratory of network namespaces, with thousands of sessions. A policy gives the packets of a
//! user who has a call another QoS flow, which the tunnel header shows. Downlink packets, numbered, flow to one user
//! after the other; a context is put and taken back while they do, and the gNB's side of N3 sees which is the first of
//! the other flow. A packet of the former flow after it would be a mixture; a number that is missing, a loss.

mod http;

use crate::figure::Figure;
use crate::smf;
use http::Connection;
use process::scheduling::{SHORTEST, set_slice};
use serde_json::{Value, json};
use smf_sim::{SessionSpec, UeIps};
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use upf::lab::probe::{Probe, Seen};
use upf::lab::{Daemon, GNB, Lab, LabOptions, Resources, Side, Target, release_on_signal};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// The QoS flow of a user's packets, and with a call.
pub(crate) const QFIS: [u8; 2] = [9, 7];
const POLICIES: &str = "policies:
  - name: call-first
    when: { key: app.foreground, equals: call }
    effects: { qfi: 7 }
";
/// Contexts in one request of the rate measurement.
const BATCH: usize = 1_000;
/// Applications that each have one context on its way, where a request has no more.
const APPLICATIONS: usize = 32;

/// How much is measured.
struct Effort {
    sessions: usize,
    /// Contexts put and taken back one by one under traffic.
    updates: usize,
    /// Requests of [`BATCH`] contexts.
    batches: usize,
}

/// Measures; without root, or where the programs are missing, says so and gives nothing.
pub fn run(quick: bool) -> Vec<Figure> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("qos-push: skipped, network namespaces need root");
        return Vec::new();
    }
    let effort = if quick {
        Effort {
            sessions: 1_000,
            updates: 100,
            batches: 4,
        }
    } else {
        Effort {
            sessions: 10_000,
            updates: 1_000,
            batches: 20,
        }
    };
    let resources = Arc::new(Resources::default());
    let mut figures = Vec::new();
    if let Err(error) = release_on_signal(&resources) {
        eprintln!("qos-push: {error}");
        return figures;
    }
    for target in [Target::None, Target::P4Switch, Target::Bmv2] {
        crate::progress::doing("qos-push", format_args!("{target}, {} sessions", effort.sessions));
        match measure(target, &effort, &resources) {
            Ok(measured) => figures.extend(measured),
            Err(error) => eprintln!("qos-push, {target}: {error}"),
        }
        resources.release();
    }
    figures
}

fn measure(target: Target, effort: &Effort, resources: &Arc<Resources>) -> Outcome<Vec<Figure>> {
    let programs = std::env::current_exe()?
        .parent()
        .ok_or("this program lies nowhere")?
        .to_owned();
    if let Some(missing) = ["upf-host", "upf-ctl", "p4-switch"]
        .iter()
        .find(|p| !programs.join(p).exists())
    {
        return Err(format!("skipped, {missing} is not beside this program: build the whole workspace").into());
    }
    let name = format!("push{}", std::process::id());
    let directory = std::env::temp_dir().join(format!("upf-bench-{name}"));
    std::fs::create_dir_all(&directory)?;
    let policies = directory.join("qos.yaml");
    std::fs::write(&policies, POLICIES)?;
    let mut options = LabOptions::new(&name, directory.clone(), 0, programs, target);
    options.sections = format!("qos: {{ policies: '{}' }}", policies.display());
    let measured = Lab::start(&options, resources.clone())
        .map_err(Into::into)
        .and_then(|lab| in_lab(&lab, effort));
    let _ = std::fs::remove_dir_all(&directory);
    measured
}

/// The address of a user, by number.
fn user(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 60, 0, 0).to_bits() + 1 + number as u32)
}

fn in_lab(lab: &Lab, effort: &Effort) -> Outcome<Vec<Figure>> {
    let session = |number| {
        let teid = 0x1_0000 + number as u32;
        SessionSpec::basic(UeIps::v4(user(number)), GNB.into(), teid).with_qfi(QFIS[0])
    };
    let sessions = (0..effort.sessions).map(session).collect();
    lab.namespaces.within(Side::Smf, || smf::establish(sessions))??;
    let subject = match lab.target {
        Target::None => "host".to_owned(),
        target => target.to_string(),
    };
    let mut figures = updates(lab, effort, &subject)?;
    if lab.target == Target::None {
        figures.extend(rate(lab, effort, &subject, (BATCH, 1))?);
        figures.extend(rate(lab, effort, &subject, (1, APPLICATIONS))?);
    }
    Ok(figures)
}

/// Contexts one by one, under traffic.
fn updates(lab: &Lab, effort: &Effort, subject: &str) -> Outcome<Vec<Figure>> {
    // The probe shares CPUs with what it watches: it is to see a packet when it comes, not when its turn comes.
    let _ = set_slice(SHORTEST);
    let probe = Probe::open(lab, GNB)?;
    let mut connection = Connection::open(&lab.daemons.socket())?;
    let mut effects = Vec::new();
    let mut seen = Seen::default();
    for update in 0..effort.updates {
        // Users far from each other, so that nothing of the one before is in a cache by chance.
        let user = user(update * 7_919 % effort.sessions);
        let path = format!("/v1/contexts/address/{user}/app.foreground");
        let mut change = |to: usize, method: &str, body: Option<Value>| -> Outcome<Duration> {
            let request = Connection::request(method, &path, body.as_ref());
            let (took, part) = probe.until(user, QFIS[to], || connection.send(&request))?;
            connection.answer()?;
            seen += part;
            Ok(took)
        };
        effects.push(change(1, "PUT", Some(json!({ "value": "call" })))?);
        effects.push(change(0, "DELETE", None)?);
    }
    effects.sort_unstable();
    let params = json!({ "sessions": effort.sessions });
    let at = |share: f64| effects[(share * (effects.len() - 1) as f64) as usize].as_secs_f64() * 1e6;
    let of = |name: &str, unit, value| Figure::of("qos-push", (name, subject), params.clone(), unit, vec![value]);
    let figures = [
        of("event to effect, p50", "us", at(0.5)),
        of("event to effect, p99", "us", at(0.99)),
        of("event to effect, p99.9", "us", at(0.999)),
        of("packets during updates", "", seen.received as f64),
        of("packets lost", "", seen.lost as f64),
        of("packets reordered", "", seen.reordered as f64),
        of("packets of the former flow after one of the new", "", seen.mixed as f64),
    ];
    Ok(figures.into_iter().flatten().collect())
}

/// As many contexts a second as upf-ctl takes, each of which changes a session: with so many in a request, over so many
/// connections, each of which waits for an answer before it asks again.
fn rate(
    lab: &Lab,
    effort: &Effort,
    subject: &str,
    (in_a_request, connections): (usize, usize),
) -> Outcome<Vec<Figure>> {
    let ctl = lab.daemons.pid(Daemon::Ctl).ok_or("upf-ctl is not running")?;
    let open = |_| Connection::open(&lab.daemons.socket());
    let mut connections = (0..connections).map(open).collect::<Outcome<Vec<_>>>()?;
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for batch in 0..effort.batches {
        // A round puts what the round before took back.
        let value = if (batch * BATCH / effort.sessions).is_multiple_of(2) {
            "call"
        } else {
            "idle"
        };
        let step = |i: usize| {
            let about = format!("address/{}", user((batch * BATCH + i) % effort.sessions));
            json!({ "put": { "about": about, "key": "app.foreground", "value": value } })
        };
        let steps: Vec<Value> = (0..BATCH).map(step).collect();
        let request = |steps: &[Value]| Connection::request("POST", "/v1/contexts", Some(&json!({ "steps": steps })));
        let requests: Vec<Vec<u8>> = steps.chunks(in_a_request).map(request).collect();
        let (start, before) = (Instant::now(), crate::idle::cpu_time(ctl)?);
        std::thread::scope(|scope| {
            let shares = requests.chunks(requests.len().div_ceil(connections.len()));
            let each = |(connection, share)| scope.spawn(move || put_one_by_one(connection, share));
            let asked: Vec<_> = connections.iter_mut().zip(shares).map(each).collect();
            let answered =
                |asked: std::thread::ScopedJoinHandle<'_, _>| asked.join().map_err(|_| "a thread panicked")?;
            asked.into_iter().try_for_each(answered)
        })?;
        walls.push(BATCH as f64 / start.elapsed().as_secs_f64());
        cpus.push((crate::idle::cpu_time(ctl)? - before).as_secs_f64());
    }
    let params = json!({
        "sessions": effort.sessions,
        "in a request": in_a_request,
        "connections": connections.len(),
    });
    let all = (effort.batches * BATCH) as f64;
    let of_cpu = all / cpus.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let of = |name: &str, values| Figure::of("qos-push", (name, subject), params.clone(), "1/s", values);
    Ok([
        of("contexts a second", walls),
        of("contexts a CPU second of upf-ctl", vec![of_cpu]),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// Sends a request when the one before is answered.
fn put_one_by_one(connection: &mut Connection, requests: &[Vec<u8>]) -> Result<(), String> {
    for request in requests {
        let answer = connection.send(request).and_then(|()| connection.answer());
        let answer = answer.map_err(|error| error.to_string())?;
        if answer["refused"] != 0 {
            return Err(format!("contexts were refused: {answer}"));
        }
    }
    Ok(())
}
