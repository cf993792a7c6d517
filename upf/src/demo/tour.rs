//! The demo's story: sessions, traffic both ways, rates, idle and active, a handover, the bill.

use super::report::Report;
use super::{DemoOptions, fast_path, stay};
use crate::inspect;
use crate::lab::traffic::{Iperf, Transport, curl, iperf, ping};
use crate::lab::{DN, DN_V6, GNB, GNB2, Lab, LabError, SMF_N4, Side, Target, UPF_N4, WebServer};
use gnb_sim::{Gnb, NewTunnel, UeConfig};
use serde_json::json;
use smf_sim::session::FlowQos;
use smf_sim::{Established, ModificationSpec, PfcpError, Report as Reported, SessionReport, SessionSpec, Smf, UeIps};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;

/// The server of the flow with its own rate.
const VIDEO: u16 = 5203;
/// Its rate, kbit/s.
const VIDEO_KBPS: u64 = 5_000;
/// The third UE's session rate, kbit/s.
const SESSION_KBPS: u64 = 20_000;

/// What stops the tour.
#[derive(Debug, thiserror::Error)]
pub(super) enum TourError {
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error("PFCP: {0}")]
    Pfcp(#[from] PfcpError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the UPF allocated no uplink tunnel")]
    NoTunnel,
}

/// A UE of the demo.
struct Ue {
    number: usize,
    teid: u32,
    session: Established,
}

const UE1: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
const UE2: Ipv6Addr = Ipv6Addr::new(0xfd60, 0, 0, 2, 0, 0, 0, 1);
const UE3: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 3);

/// Runs on a thread inside the SMF's namespace.
pub(super) fn tour(lab: &Lab, options: &DemoOptions, report: &mut Report) -> Result<(), TourError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let what = match lab.target {
        Target::None => "upf-host forwards, upf-ctl answers, shared memory between them",
        Target::P4Switch | Target::Bmv2 => "the target runs upf.p4, upf-host is behind it, upf-ctl has both",
    };
    report.step(what, true, "ready");
    let n3 = lab.capture(Side::Gnb, "n3", "n3.pcap", "udp port 2152")?;
    let n4 = lab.capture(Side::Smf, "n4", "n4.pcap", "udp port 8805")?;
    let _web = WebServer::start(&lab.namespaces)?;

    report.heading("PFCP: association and three sessions");
    let smf = runtime.block_on(Smf::connect(SMF_N4, UPF_N4, SMF_N4.ip()))?;
    let association = runtime.block_on(smf.associate());
    report.judge("association setup", association, |a| {
        (
            a.ftup() && a.empu(),
            format!("FTUP {}, EMPU {}, UEIP {}", a.ftup(), a.empu(), a.ueip()),
        )
    });
    let mut reports = smf.reports();
    let gnb = lab.gnb(GNB)?;
    let establish =
        |number: usize, spec: SessionSpec, addresses: &[IpAddr], report: &mut Report| -> Result<Ue, TourError> {
            let teid = 0x1000 + number as u32;
            let what = format!("session of ue{number}: {}", addresses[0]);
            let session = runtime.block_on(smf.establish(&spec.with_network_instances("access", "internet")));
            let session = match session {
                Ok(session) => session,
                Err(error) => {
                    report.failed(&what, &error.to_string());
                    return Err(error.into());
                }
            };
            let uplink = session.uplink_teid().ok_or(TourError::NoTunnel)?;
            report.step(
                &what,
                true,
                &format!("{} PDRs, uplink TEID {uplink:#x} chosen by the UPF", spec_pdrs(number)),
            );
            gnb.add_ue(UeConfig::in_netns(
                &lab.namespaces.name(Side::Ue(number)),
                addresses,
                uplink,
                teid,
                9,
            ))
            .map_err(LabError::from)?;
            Ok(Ue { number, teid, session })
        };
    let basic = |ue: UeIps, number: u32| SessionSpec::basic(ue, GNB.into(), 0x1000 + number);
    let ue1 = establish(1, basic(UeIps::v4(UE1), 1), &[UE1.into()], report)?;
    let ue2 = establish(2, basic(UeIps::v6(UE2), 2), &[UE2.into()], report)?;
    let kbps = |rate| {
        Some(smf_sim::rules::BitRates {
            uplink_kbps: rate,
            downlink_kbps: rate,
        })
    };
    let filtered = basic(UeIps::v4(UE3), 3)
        .with_mbr(SESSION_KBPS, SESSION_KBPS)
        .with_sdf(
            100,
            &format!("permit out ip from {DN} {VIDEO} to assigned"),
            FlowQos {
                qfi: Some(5),
                mbr: kbps(VIDEO_KBPS),
                ..FlowQos::default()
            },
        )
        .with_sdf(
            50,
            &format!("permit out 6 from {DN} 8080 to assigned"),
            FlowQos {
                qfi: Some(7),
                closed: true,
                ..FlowQos::default()
            },
        );
    let ue3 = establish(3, filtered, &[UE3.into()], report)?;

    if lab.target != Target::None {
        let seid = |ue: &Ue| (ue.number, ue.session.up_seid);
        fast_path::show(lab, seid(&ue1), seid(&ue3), report);
    }
    reachability(lab, report);
    throughput(lab, options, report);
    policing(lab, options, &gnb, report);
    idle_and_active(lab, &runtime, &smf, &ue1, &mut reports, report)?;
    let gnb2 = lab.gnb(GNB2)?;
    handover(lab, &runtime, &smf, &ue1, (&gnb, &gnb2), report)?;

    report.heading("What was counted");
    let counters = lab.client().get("/v1/counters").unwrap_or_default();
    report.note(&inspect::counters(&counters));
    report.table("counters", counters);
    report.table("gnb", json!([gnb.counters(), gnb2.counters()]));
    if options.keep {
        captures(lab, &n3, &n4, report);
        return Ok(stay(lab, report)?);
    }
    bill(&runtime, &smf, &[ue1, ue2, ue3], report);
    captures(lab, &n3, &n4, report);
    gnb.stop();
    gnb2.stop();
    report.judge("association release", runtime.block_on(smf.release()), |()| {
        (true, "accepted".into())
    });
    Ok(())
}

/// PDRs of each UE's session, for the reader.
const fn spec_pdrs(number: usize) -> usize {
    if number == 3 { 6 } else { 2 }
}

fn reachability(lab: &Lab, report: &mut Report) {
    report.heading("Ping and web, through GTP-U both ways");
    for (number, to) in [(1, IpAddr::V4(DN)), (2, IpAddr::V6(DN_V6)), (3, IpAddr::V4(DN))] {
        report.judge(
            &format!("ue{number} pings {to}"),
            ping(lab, Side::Ue(number), to, 5, 0.2),
            |p| {
                (
                    p.received == p.sent,
                    format!("{}/{} answered, {:.2} ms", p.received, p.sent, p.average_ms),
                )
            },
        );
    }
    for ue in [IpAddr::V4(UE1), IpAddr::V6(UE2)] {
        report.judge(
            &format!("the data network pings {ue}"),
            ping(lab, Side::Dn, ue, 5, 0.2),
            |p| {
                (
                    p.received == p.sent,
                    format!("{}/{} answered, {:.2} ms", p.received, p.sent, p.average_ms),
                )
            },
        );
    }
    for (number, url) in [
        (1, format!("http://{DN}:8080/10000000")),
        (2, format!("http://[{DN_V6}]:8080/10000000")),
    ] {
        report.judge(
            &format!("ue{number} fetches 10 MB with curl"),
            curl(lab, number, &url),
            |&n| (n == 10_000_000, format!("{n} bytes")),
        );
    }
}

fn throughput(lab: &Lab, options: &DemoOptions, report: &mut Report) {
    report.heading("iperf3: TCP and UDP, both ways");
    for (number, to) in [(1, IpAddr::V4(DN)), (2, IpAddr::V6(DN_V6))] {
        for (transport, name) in [(Transport::Tcp, "TCP"), (Transport::Udp(20), "UDP 20 Mbit/s")] {
            for downlink in [false, true] {
                let way = if downlink { "downlink" } else { "uplink" };
                let measure = || iperf(lab, number, (to, 5201), transport, downlink, options.seconds);
                let enough = |i: &Iperf| {
                    let least = if transport == Transport::Tcp { 5e6 } else { 19e6 };
                    i.received_bps > least && i.lost_percent < 1.0
                };
                // Once more on a machine that had something else to do for a moment.
                let got = measure().and_then(|first| if enough(&first) { Ok(first) } else { measure() });
                report.judge(&format!("ue{number} {name} {way}"), got, |i| {
                    (
                        enough(i),
                        format!("{:.1} Mbit/s, {:.2} % lost", i.received_bps / 1e6, i.lost_percent),
                    )
                });
            }
        }
    }
}

fn policing(lab: &Lab, options: &DemoOptions, gnb: &Gnb, report: &mut Report) {
    report.heading("ue3: several SDF filters, a session rate of 20 Mbit/s, a flow rate of 5 Mbit/s, a closed gate");
    let within = |bps: f64, kbps: u64| bps < kbps as f64 * 1_150.0 && bps > kbps as f64 * 700.0;
    let dn = IpAddr::V4(DN);
    for (what, port, offered, kbps) in [
        ("UDP 40 Mbit/s, held to the session's 20", 5201, 40, SESSION_KBPS),
        ("UDP 10 Mbit/s of the video flow, held to its 5", VIDEO, 10, VIDEO_KBPS),
    ] {
        for downlink in [false, true] {
            let way = if downlink { "downlink" } else { "uplink" };
            let got = iperf(lab, 3, (dn, port), Transport::Udp(offered), downlink, options.seconds);
            report.judge(&format!("{what}, {way}"), got, |i| {
                (
                    within(i.received_bps, kbps),
                    format!("{:.1} Mbit/s, {:.0} % policed", i.received_bps / 1e6, i.lost_percent),
                )
            });
        }
    }
    let blocked = curl(lab, 3, &format!("http://{DN}:8080/1000"));
    report.step(
        "web of ue3 is blocked by a closed gate",
        blocked.is_err(),
        if blocked.is_err() {
            "no answer, as it should be"
        } else {
            "it answered"
        },
    );
    let seen = gnb
        .counters()
        .ue(&lab.namespaces.name(Side::Ue(3)))
        .map(|t| t.downlink.qfis.clone())
        .unwrap_or_default();
    let text = seen
        .iter()
        .map(|q| format!("QFI {}: {}", q.qfi, q.packets))
        .collect::<Vec<_>>()
        .join(", ");
    report.step(
        "the gNB saw the flows marked",
        seen.iter().any(|q| q.qfi == 5) && seen.iter().any(|q| q.qfi == 9),
        &text,
    );
}

fn idle_and_active(
    lab: &Lab,
    runtime: &tokio::runtime::Runtime,
    smf: &Smf,
    ue: &Ue,
    reports: &mut Receiver<SessionReport>,
    report: &mut Report,
) -> Result<(), TourError> {
    report.heading("ue1 goes idle: downlink is buffered, the SMF is told once, nothing is lost");
    while reports.try_recv().is_ok() {}
    runtime.block_on(smf.modify(ue.session.up_seid, &ModificationSpec::to_idle()))?;
    let (pinged, notified) = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| ping(lab, Side::Dn, UE1.into(), 5, 0.2));
        let notified = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), reports.recv()).await });
        std::thread::sleep(Duration::from_millis(700)); // the time paging takes
        let active =
            runtime.block_on(smf.modify(ue.session.up_seid, &ModificationSpec::to_active(GNB.into(), ue.teid)));
        let pinged = pinging
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("ping panicked").into()));
        active.map(|_| (pinged, notified))
    })?;
    let told = matches!(&notified, Ok(Ok(r)) if matches!(r.report, Reported::DownlinkData { .. }));
    let more = reports.try_recv().is_ok();
    report.step(
        "one Downlink Data Report",
        told && !more,
        if told { "received" } else { "none came" },
    );
    report.judge("five pings, sent while it was idle, are answered", pinged, |p| {
        (p.received == p.sent, format!("{}/{}", p.received, p.sent))
    });
    Ok(())
}

fn handover(
    lab: &Lab,
    runtime: &tokio::runtime::Runtime,
    smf: &Smf,
    ue: &Ue,
    (from, to): (&Gnb, &Gnb),
    report: &mut Report,
) -> Result<(), TourError> {
    report.heading("ue1 moves to another gNB while it is being pinged");
    let name = lab.namespaces.name(Side::Ue(ue.number));
    let teid_ul = ue.session.uplink_teid().ok_or(TourError::NoTunnel)?;
    let new = NewTunnel {
        teid_ul: Some(teid_ul),
        teid_dl: 0x2001,
        upf: None,
    };
    let pinged = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| ping(lab, Side::Dn, UE1.into(), 20, 0.05));
        std::thread::sleep(Duration::from_millis(400));
        from.move_ue(&name, to, new).map_err(LabError::from)?;
        runtime.block_on(smf.modify(ue.session.up_seid, &ModificationSpec::handover(GNB2.into(), 0x2001)))?;
        Ok::<_, TourError>(
            pinging
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("ping panicked").into())),
        )
    })?;
    report.judge("pings across the handover", pinged, |p| {
        (p.sent - p.received <= 1, format!("{}/{} answered", p.received, p.sent))
    });
    let old = from.counters();
    let old = old.ue(&name).map(|t| &t.downlink);
    let markers = old.map_or(0, |d| d.end_markers);
    let late = old.map_or(0, |d| d.packets_after_end_marker);
    report.step(
        "an End Marker closed the old path",
        markers == 1 && late == 0,
        &format!("{markers} received, {late} packets after it"),
    );
    Ok(())
}

/// Delete the sessions: what the UPF reports for each.
fn bill(runtime: &tokio::runtime::Runtime, smf: &Smf, ues: &[Ue], report: &mut Report) {
    report.heading("Deletion: final usage");
    for ue in ues {
        let usage = runtime.block_on(smf.delete(ue.session.up_seid));
        report.judge(&format!("usage of ue{}", ue.number), usage, |reports| {
            let volumes = reports.iter().filter_map(|r| r.volume);
            let (up, down) = volumes.fold((0, 0), |(up, down), v| {
                (up + v.uplink.unwrap_or(0), down + v.downlink.unwrap_or(0))
            });
            let seconds: u32 = reports.iter().filter_map(|r| r.duration).max().unwrap_or(0);
            (
                up > 0 && down > 0,
                format!(
                    "{:.2} MB up, {:.2} MB down, {seconds} s",
                    up as f64 / 1e6,
                    down as f64 / 1e6
                ),
            )
        });
    }
}

/// Let tshark, which knows nothing of us, read what was on the wire.
fn captures(lab: &Lab, n3: &std::path::Path, n4: &std::path::Path, report: &mut Report) {
    report.heading("The wire, as tshark reads it");
    let (n3, n4) = (n3.display().to_string(), n4.display().to_string());
    for (name, file) in [("N3", &n3), ("N4", &n4)] {
        // The first 20,000 packets are plenty, and quick.
        let read = lab.run(
            Side::Smf,
            &[
                "tshark",
                "-r",
                file,
                "-c",
                "20000",
                "-Y",
                "_ws.malformed",
                "-T",
                "fields",
                "-e",
                "frame.number",
            ],
        );
        report.judge(&format!("{name}: no malformed packet"), read, |text| {
            let bad = text.lines().count();
            (bad == 0, format!("{bad} malformed"))
        });
    }
    let one = lab.run(
        Side::Smf,
        &[
            "tshark",
            "-r",
            &n3,
            "-c",
            "20000",
            "-Y",
            "gtp.ext_hdr.pdu_ses_con.pdu_type == 0 && icmp",
            "-O",
            "ip,udp,gtp",
            "-V",
        ],
    );
    report.judge("one downlink packet on N3, decoded", one, |text| {
        let first: Vec<&str> = text.lines().skip(1).take_while(|l| !l.starts_with("Frame ")).collect();
        (!first.is_empty(), format!("\n      {}", first.join("\n      ")))
    });
}
