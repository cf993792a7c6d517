//! `upf demo qos`: two users share a bottleneck; a context lifts one user's call over the other's download, and expires.
//!
//! ```text
//!    0 s            3 s                 8 s            11 s
//!    |  both equal  |  call comes first  |  both equal  |
//!                   PUT .../app.foreground = call       it expires
//! ```

mod plot;
mod stream;

use super::report::Report;
use super::tour::TourError;
use super::{DemoOptions, absolute, finish, programs};
use crate::lab::{DN, GNB, Lab, LabError, LabOptions, Resources, SMF_N4, Side, Target, UPF_N4};
use gnb_sim::UeConfig;
use plot::{Mark, Panel, Series};
use serde_json::json;
use smf_sim::{Established, SessionSpec, Smf, UeIps};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use stream::{Finished, Interval, Shape, Stream, percentile};

/// The port towards the gNB carries so much.
const BOTTLENECK_MBPS: u32 = 20;
/// And so much waits for it in each queue.
const QUEUE_MS: u32 = 60;
/// A voice call: 50 packets a second.
const CALL: Shape = Shape {
    bytes: 160,
    per_second: 50,
};
/// A download by a sender that takes no hint: 1.25 times what the bottleneck carries.
const DOWNLOAD: Shape = Shape {
    bytes: 1_250,
    per_second: 2_500,
};
const CALLER: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
const DOWNLOADER: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
/// When the context is put, how long it lives, and when it is all over.
const EVENT: Duration = Duration::from_secs(3);
const LIFETIME: Duration = Duration::from_secs(5);
const END: Duration = Duration::from_secs(11);
/// Around an event, nobody asks which side of it a packet was on.
const AROUND: Duration = Duration::from_millis(300);
/// Of the plot.
const INTERVAL: Duration = Duration::from_millis(100);

const POLICIES: &str = "# Written for a demo; config/qos.yaml has every field explained.
policies:
  - name: call-first
    when: { key: app.foreground, equals: call }
    effects: { queue: 6, dscp: 46 }
";

/// Run it. `false`: something was not as it should be, which the report says.
///
/// # Errors
/// It could not even be set up.
pub(super) fn show(options: &DemoOptions, resources: &Arc<Resources>) -> Result<bool, LabError> {
    if options.target != Target::None {
        return Err(LabError::BottleneckAtHost);
    }
    let directory = absolute(&options.directory)?;
    let policies = directory.join("qos.yaml");
    std::fs::write(&policies, POLICIES)?;
    let mut lab_options = LabOptions::new("upf-demo", directory.clone(), 2, programs()?, options.target);
    lab_options.sections = format!("qos: {{ policies: '{}' }}", policies.display());
    lab_options.n3_options = Some(format!(
        "egress: {{ rate_mbps: {BOTTLENECK_MBPS}, queue_ms: {QUEUE_MS} }}"
    ));
    let mut report = Report::new(options.json);
    report.heading(&format!(
        "Context-aware QoS: a call and a download share {BOTTLENECK_MBPS} Mbit/s towards the gNB"
    ));
    let lab = Lab::start(&lab_options, resources.clone())?;
    let outcome = lab.namespaces.within(Side::Smf, || story(&lab, &mut report))?;
    if let Err(error) = outcome {
        report.failed("the story stopped early", &error.to_string());
    }
    finish(&mut report, &directory)?;
    Ok(report.all_passed())
}

fn story(lab: &Lab, report: &mut Report) -> Result<(), TourError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let smf = runtime.block_on(Smf::connect(SMF_N4, UPF_N4, SMF_N4.ip()))?;
    runtime.block_on(smf.associate())?;
    let gnb = lab.gnb(GNB)?;
    let mut sessions: Vec<Established> = Vec::new();
    for (number, address) in [(1, CALLER), (2, DOWNLOADER)] {
        let spec = SessionSpec::basic(UeIps::v4(address), GNB.into(), 0x1000 + number);
        let session = runtime.block_on(smf.establish(&spec.with_network_instances("access", "internet")))?;
        let uplink = session.uplink_teid().ok_or(TourError::NoTunnel)?;
        let netns = lab.namespaces.name(Side::Ue(number as usize));
        gnb.add_ue(UeConfig::in_netns(
            &netns,
            &[address.into()],
            uplink,
            0x1000 + number,
            9,
        ))
        .map_err(LabError::from)?;
        report.step(
            &format!("session of ue{number}: {address}"),
            true,
            "established over PFCP",
        );
        sessions.push(session);
    }

    let start = Instant::now();
    let ends = |port: u16, ue: Ipv4Addr| (SocketAddr::from((DN, port)), SocketAddr::from((ue, port)));
    let call = Stream::start(lab, 1, ends(5_060, CALLER), CALL, start)?;
    let download = Stream::start(lab, 2, ends(5_080, DOWNLOADER), DOWNLOAD, start)?;
    sleep(EVENT.saturating_sub(start.elapsed()));
    let put_at = start.elapsed();
    let path = format!("/v1/contexts/address/{CALLER}/app.foreground");
    let answer = lab
        .client()
        .put(&path, &json!({ "value": "call", "ttl_s": LIFETIME.as_secs() }));
    let took = start.elapsed() - put_at;
    report.judge("PUT app.foreground = call for 5 s over HTTP", answer, |answer| {
        (
            answer["outcome"] == "in-effect",
            format!("{answer}, answered in {:.1} ms", took.as_secs_f64() * 1e3),
        )
    });
    let explained = lab
        .client()
        .get(&format!("/v1/sessions/{:#x}/qos", sessions[0].up_seid));
    report.judge("upf qos explain", explained, |explained| {
        (
            explained.to_string().contains("call-first"),
            "names the policy and its effects".into(),
        )
    });
    sleep(END.saturating_sub(start.elapsed()));
    let (call, download) = (call.finish(), download.finish());

    judge(report, &call, &download, put_at);
    draw(lab, report, &call, &download, put_at)?;
    for session in &sessions {
        runtime.block_on(smf.delete(session.up_seid))?;
    }
    gnb.stop();
    Ok(())
}

/// What a user notices in a stretch of time.
struct Noticed {
    p50_ms: f64,
    p99_ms: f64,
    lost: f64,
}

impl Noticed {
    fn of(stream: &Finished, from: Duration, to: Duration) -> Self {
        let (delays, lost) = stream.between(from, to);
        let of = |share| percentile(&delays, share).unwrap_or(f64::INFINITY);
        Self {
            p50_ms: of(0.5),
            p99_ms: of(0.99),
            lost,
        }
    }

    fn text(&self) -> String {
        format!(
            "delay {:.2} ms, p99 {:.2} ms, {:.1} % lost",
            self.p50_ms,
            self.p99_ms,
            self.lost * 100.0
        )
    }
}

fn judge(report: &mut Report, call: &Finished, download: &Finished, put_at: Duration) {
    report.heading("What the users noticed");
    let expiry = put_at + LIFETIME;
    let settled = Duration::from_secs(1); // the queue is full by then
    let before = Noticed::of(call, settled, put_at);
    let during = Noticed::of(call, put_at + AROUND, expiry - AROUND);
    let after = Noticed::of(call, expiry + settled, END - AROUND);
    report.step(
        "before: the call waits behind the download",
        before.p50_ms > 5.0 || before.lost > 0.05,
        &before.text(),
    );
    report.step(
        "during: the call comes first",
        during.p99_ms < before.p50_ms / 2.0 && during.lost == 0.0,
        &during.text(),
    );
    report.step(
        "after: all is as before",
        after.p50_ms > 2.0 * during.p99_ms || after.lost > 0.05,
        &after.text(),
    );
    let rate = |from, to| mean(&download.intervals(INTERVAL, END), from, to);
    let (alone, beside) = (rate(settled, put_at), rate(put_at + AROUND, expiry - AROUND));
    report.step(
        "meanwhile the download goes on",
        beside > 0.9 * alone,
        &format!("{:.1} Mbit/s before, {:.1} during", alone / 1e3, beside / 1e3),
    );
}

/// Mean rate over these intervals, kbit/s.
fn mean(intervals: &[Interval], from: Duration, to: Duration) -> f64 {
    let within = intervals
        .iter()
        .filter(|i| (from.as_secs_f64()..to.as_secs_f64()).contains(&i.at_s));
    let (sum, count) = within.fold((0.0, 0.0), |(sum, count), i| (sum + i.kbps, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// The plot in the terminal and as PNG, and the numbers as JSON.
fn draw(
    lab: &Lab,
    report: &mut Report,
    call: &Finished,
    download: &Finished,
    put_at: Duration,
) -> Result<(), TourError> {
    let users = [
        ("call", call.intervals(INTERVAL, END)),
        ("download", download.intervals(INTERVAL, END)),
    ];
    let panel = |title: &str, value: &dyn Fn(&Interval) -> Option<f64>| Panel {
        title: title.to_owned(),
        series: users
            .iter()
            .map(|(name, intervals)| Series {
                name: (*name).to_owned(),
                points: intervals.iter().map(|i| (i.at_s, value(i))).collect(),
            })
            .collect(),
    };
    let panels = [
        panel("one-way delay, 99th percentile, ms", &|i| i.delay_p99_ms),
        panel("throughput, kbit/s", &|i| Some(i.kbps)),
    ];
    let mark = |at: Duration, what: &str| Mark {
        at_s: at.as_secs_f64(),
        what: what.to_owned(),
    };
    let marks = [
        mark(put_at, "app.foreground = call"),
        mark(put_at + LIFETIME, "it expires"),
    ];
    let picture = lab.directory.join("qos.png");
    plot::png(&picture, &panels, &marks, END.as_secs_f64())?;
    report.note(&plot::terminal(&panels, &marks, END.as_secs_f64(), 66));
    let numbers = json!({
        "bottleneck_mbps": BOTTLENECK_MBPS,
        "offered_kbps": { "call": CALL.kbps(), "download": DOWNLOAD.kbps() },
        "events": [
            { "at_s": put_at.as_secs_f64(), "what": "app.foreground = call" },
            { "at_s": (put_at + LIFETIME).as_secs_f64(), "what": "expires" },
        ],
        "users": users.iter().map(|(name, i)| ((*name).to_owned(), json!(i))).collect::<serde_json::Map<_, _>>(),
    });
    let file = lab.directory.join("qos.json");
    write(&file, &numbers)?;
    report.note(&format!("  {} and {}", picture.display(), file.display()));
    report.table("qos", numbers);
    Ok(())
}

fn write(path: &Path, numbers: &serde_json::Value) -> std::io::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(numbers)?)
}
