//! `upf trace`: one packet's way through both planes, without sending it.
//!
//! ```text
//!   frame ─▶ p4 ──▶ every table it meets: key, entry, action ──▶ forwarded | punted because | dropped because
//!         └▶ host ─▶ its session, every PDR judged, FAR and QERs ─▶ what becomes of it there
//! ```
//! Nothing is put into the live system. The entries that the packet meets are read from the P4 target by P4Runtime and
//! the target's own program runs with them in an embedded switch of this process ([`p4`]); the session's rules are asked
//! from upf-ctl and judged by the classifier's own explanation ([`host`]). So the answer holds for the moment at which
//! it was asked. Meters are not read: a trace says where a packet would go if its rates let it.

pub mod frame;
pub mod host;
pub mod p4;
mod show;

use crate::client::{Client, ClientError};
use frame::{Frame, PacketArguments};
use host::{Arrived, HostTrace};
use p4::TargetTrace;
use serde::Serialize;
use upf_config::Config;
use upf_model::Session;

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The arguments do not make a packet.
    #[error("expected {0}")]
    Missing(&'static str),
    /// Not hexadecimal.
    #[error("expected the frame as pairs of hexadecimal digits")]
    Hex,
    /// No such port.
    #[error("the configuration has no port {0:?} to take the packet in at; name one with --port")]
    NoPort(String),
    /// The capture.
    #[error("cannot read {path}: {reason}")]
    Capture {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The packet cannot be made.
    #[error("cannot make the packet: {0}")]
    Frame(String),
    /// Routes that lead nowhere.
    #[error("the configuration cannot forward: {0}")]
    Environment(String),
    /// Too many rules, or too odd ones.
    #[error("the classifier does not take the session's rules: {0}")]
    Rules(String),
    /// The session has changed meanwhile.
    #[error("the session changed while it was looked at; try again")]
    NotFound,
    /// upf-ctl.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// upf-ctl's answer.
    #[error("upf-ctl answered what is no session: {0}")]
    Answer(#[from] serde_json::Error),
    /// The P4 target.
    #[error(transparent)]
    Target(#[from] p4::TargetError),
}

/// One packet's way.
#[derive(Debug, Serialize)]
pub struct Trace {
    /// The port at which it comes in.
    pub port: String,
    /// The frame, hexadecimal.
    pub frame: String,
    /// At the P4 target; none: there is none, and upf-host has the ports.
    pub target: Option<TargetTrace>,
    /// At the host, to which everything is punted that the target does not finish.
    pub host: HostTrace,
}

/// Trace the packet that `arguments` describe.
///
/// # Errors
/// See [`TraceError`].
pub fn trace(config: &Config, arguments: &PacketArguments) -> Result<Trace, TraceError> {
    let client = Client::new(&config.runtime_dir.join(format!("{}.sock", config.name)));
    let named = arguments
        .session
        .as_deref()
        .map(|seid| session(&client, seid))
        .transpose()?;
    let frame = arguments.frame(config, named.as_ref())?;
    let target = config.p4.as_ref().map(|p4| p4::trace(p4, config, &frame)).transpose()?;
    let arrived = Arrived::parse(config, &frame)?;
    let of_packet = match named.filter(|session| arrived.belongs_to(session)) {
        Some(session) => Some(session),
        None => find(&client, &arrived, target.as_ref().and_then(|t| t.session))?,
    };
    Ok(Trace {
        port: config.ports[frame.port].name.clone(),
        frame: hex(&frame),
        target,
        host: arrived.judge(of_packet.as_ref())?,
    })
}

fn hex(frame: &Frame) -> String {
    frame.bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn session(client: &Client, seid: &str) -> Result<Session, TraceError> {
    let detail = client.get(&format!("/v1/sessions/{seid}"))?;
    Ok(serde_json::from_value(detail["rules"].clone())?)
}

/// Sessions that are looked at one by one, where nothing tells which one it is.
const LOOKED_AT: usize = 1_000;
/// Sessions in one list.
const PAGE: usize = 10_000;

/// The packet's session: that of the slot which the target found; else one with the user's address; else, for tunnels
/// from elsewhere, one of the first [`LOOKED_AT`].
fn find(client: &Client, arrived: &Arrived, slot: Option<u32>) -> Result<Option<Session>, TraceError> {
    let Some(user) = arrived.user() else { return Ok(None) };
    if let Some(slot) = slot {
        let after = slot
            .checked_sub(1)
            .map_or(String::new(), |before| format!("after={before}&"));
        let list = client.get(&format!("/v1/sessions?{after}limit=1"))?;
        if let Some(session) = judge_listed(client, arrived, &list[0])? {
            return Ok(Some(session));
        }
    }
    let ends = [user.fields.ue(), user.fields.remote()];
    let has_address = |summary: &serde_json::Value| {
        let addresses = summary["ue_addresses"].as_array().into_iter().flatten();
        addresses.filter_map(|a| a.as_str()).any(|text| {
            let prefix: Option<upf_model::IpPrefix> = text.parse().ok();
            ends.iter()
                .any(|end| text == end.to_string() || prefix.is_some_and(|p| p.contains(*end)))
        })
    };
    let mut after = String::new();
    let mut looked_at = 0;
    loop {
        let list = client.get(&format!("/v1/sessions?{after}limit={PAGE}"))?;
        let list = list.as_array().map_or(&[][..], Vec::as_slice);
        let (likely, others): (Vec<_>, Vec<_>) = list.iter().partition(|summary| has_address(summary));
        let others = others.into_iter().take(LOOKED_AT - looked_at);
        for summary in likely.into_iter().chain(others) {
            looked_at = (looked_at + 1).min(LOOKED_AT);
            if let Some(session) = judge_listed(client, arrived, summary)? {
                return Ok(Some(session));
            }
        }
        match list.last() {
            Some(last) if list.len() == PAGE => after = format!("after={}&", last["id"]),
            _ => return Ok(None),
        }
    }
}

/// The session of a summary, if the packet is its.
fn judge_listed(
    client: &Client,
    arrived: &Arrived,
    summary: &serde_json::Value,
) -> Result<Option<Session>, TraceError> {
    let Some(seid) = summary["seid"].as_str() else {
        return Ok(None);
    };
    match session(client, seid) {
        Ok(session) => Ok(Some(session).filter(|s| arrived.belongs_to(s))),
        Err(TraceError::Client(ClientError::Refused { status: 404, .. })) => Ok(None),
        Err(error) => Err(error),
    }
}
