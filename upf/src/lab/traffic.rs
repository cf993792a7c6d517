//! Traffic by the tools people know, and what they say of it.

use super::{Lab, LabError, Side};
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::time::Duration;

/// What `ping` said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// Echo requests sent.
    pub sent: u32,
    /// Echo replies received.
    pub received: u32,
    /// Median is not told by ping: this is its average, milliseconds.
    pub average_ms: f64,
}

/// `count` echo requests at `interval` seconds, from one side to an address.
///
/// # Errors
/// ping does not start, or prints nothing that can be read.
pub fn ping(lab: &Lab, from: Side, to: IpAddr, count: u32, interval: f64) -> Result<Ping, LabError> {
    let (count_text, interval_text, to) = (count.to_string(), interval.to_string(), to.to_string());
    let command = ["ping", "-n", "-c", &count_text, "-i", &interval_text, "-W", "2", &to];
    let text = match lab.run(from, &command) {
        Ok(text) => text,
        // Lost replies make ping fail, and are for the caller to judge.
        Err(LabError::Command { reason, .. }) if reason.contains("packets transmitted") => reason,
        Err(error) => return Err(error),
    };
    let unreadable = || LabError::Command {
        command: command.join(" "),
        reason: text.clone(),
    };
    let counts = text
        .lines()
        .find(|l| l.contains("packets transmitted"))
        .ok_or_else(unreadable)?;
    let mut numbers = counts
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    let (sent, received) = (
        numbers.next().ok_or_else(unreadable)?,
        numbers.next().ok_or_else(unreadable)?,
    );
    let times = text
        .lines()
        .find(|l| l.starts_with("rtt"))
        .and_then(|l| l.split('/').nth(4)?.parse().ok());
    Ok(Ping {
        sent,
        received,
        average_ms: times.unwrap_or(f64::NAN),
    })
}

/// What `iperf3` said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iperf {
    /// Arrived, bit/s.
    pub received_bps: f64,
    /// UDP datagrams lost, percent.
    pub lost_percent: f64,
}

/// Which transport iperf3 uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// As fast as it goes.
    Tcp,
    /// At this many Mbit/s.
    Udp(u32),
}

/// `iperf3` for `seconds` between a UE and a server in the data network at `to`; `downlink` reverses it. The server is
/// this measurement's own: one that serves several clients is now and then still busy with the one before.
///
/// # Errors
/// iperf3 fails.
pub fn iperf(
    lab: &Lab,
    ue: usize,
    (to, port): (IpAddr, u16),
    transport: Transport,
    downlink: bool,
    seconds: u32,
) -> Result<Iperf, LabError> {
    let (to, port, seconds) = (to.to_string(), port.to_string(), seconds.to_string());
    let mut command = vec![
        "iperf3",
        "-J",
        "-c",
        &to,
        "-p",
        &port,
        "-t",
        &seconds,
        "--connect-timeout",
        "3000",
    ];
    let rate;
    if let Transport::Udp(mbps) = transport {
        rate = format!("{mbps}M");
        command.extend(["-u", "-b", &rate, "-l", "1200"]);
    }
    if downlink {
        command.push("-R");
    }
    let server = lab.spawn(Side::Dn, &["iperf3", "-s", "-p", &port], "iperf3-server.log")?;
    let measured = patiently(|| lab.run(Side::Ue(ue), &command));
    lab.signal(server, Signal::SIGKILL);
    let text = measured?;
    let unreadable = || LabError::Command {
        command: command.join(" "),
        reason: text.clone(),
    };
    let report: serde_json::Value = serde_json::from_str(&text).map_err(|_| unreadable())?;
    let received = &report["end"]["sum_received"];
    let received_bps = received["bits_per_second"].as_f64().ok_or_else(unreadable)?;
    let lost_percent = match transport {
        Transport::Tcp => 0.0,
        Transport::Udp(_) => received["lost_percent"].as_f64().ok_or_else(unreadable)?,
    };
    Ok(Iperf {
        received_bps,
        lost_percent,
    })
}

/// Again while the server does not listen yet: with `-J`, iperf3 says so in its report, and some versions end well then.
fn patiently(mut measure: impl FnMut() -> Result<String, LabError>) -> Result<String, LabError> {
    for _ in 0..50 {
        match measure() {
            Ok(report) if report.contains("Connection refused") => std::thread::sleep(Duration::from_millis(100)),
            Err(error) if error.to_string().contains("Connection refused") => {
                std::thread::sleep(Duration::from_millis(100));
            }
            done => return done,
        }
    }
    measure()
}

/// `curl` from a UE; how many bytes came.
///
/// # Errors
/// curl fails.
pub fn curl(lab: &Lab, ue: usize, url: &str) -> Result<u64, LabError> {
    let command = [
        "curl",
        "-sS",
        "-g",
        "--connect-timeout",
        "2",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
        url,
    ];
    let text = lab.run(Side::Ue(ue), &command)?;
    text.trim().parse().map_err(|_| LabError::Command {
        command: command.join(" "),
        reason: text,
    })
}
