//! Session reports: what the data plane noticed, told to the SMF (TS 29.244 7.5.8), and what it answers.
//!
//! A report goes to the address of the session's CP F-SEID, is retransmitted like any request, and a session has
//! at most one on its way. Usage and buffered data wait for the poll after its answer; what else happens meanwhile need not be told again: the SMF is paging already, or the data
//! plane will meet the same broken tunnel with its next packet.
//!
//! Downlink data waits for the BAR's Downlink Data Notification Delay (8.2.28) before it is reported, and is not
//! if the session no longer buffers by then. Data that was buffered while the controller was away is found by
//! the usage poll and reported then.
//!
//! Usage is reported when the poll finds it due ([`crate::usage`]). If the SMF refuses the report or does not
//! answer, the usage goes into a later one, after [`USAGE_REPORT_PAUSE`] at the earliest.
//!
//! An SMF that answers "session context not found" has lost the session: it is removed here too.

use crate::controller::{Controller, Outside};
use crate::pfcp::transport::{PFCP_PORT, RequestError};
use crate::pfcp::wire::incoming::{SessionModificationRequest, SessionReportResponse};
use crate::pfcp::wire::outgoing::{DownlinkDataReport, ErrorIndicationReport, SessionReportRequest, UsageReport};
use crate::pfcp::wire::{Cause, Message};
use crate::request;
use crate::sessions::Notes;
use crate::usage::now_ms;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use upf_model::batch::Event;
use upf_model::{Disposition, PdrId, Qfi, Seid, Session, SessionId, Teid, decoded};

/// Before an SMF that has not taken a session's usage report is sent the next one.
pub const USAGE_REPORT_PAUSE: Duration = Duration::from_secs(3);

/// Causes from here on refuse (8.2.1).
const FIRST_REJECTION: u8 = 64;

/// Something happened to packets.
pub fn happened(controller: &mut Controller, event: Event) {
    match event {
        Event::DownlinkData {
            session,
            pdr,
            qfi,
            dscp,
        } => downlink_data(controller, session, pdr, qfi, Some(dscp)),
        Event::ErrorIndication {
            peer,
            teid,
            endpoint: _,
        } => error_indication(controller, peer, Teid(teid)),
        // For the P4 plane, which hears of them by itself.
        Event::Flow(_) | Event::Neighbour(_) => {}
    }
}

/// Whether packets of this PDR are buffered and the SMF wants to know.
fn notifies(session: &Session, pdr: PdrId) -> bool {
    let far = session
        .pdrs
        .iter()
        .find(|p| p.id == pdr)
        .and_then(|p| session.far(p.far));
    far.is_some_and(|far| far.action.disposition == Disposition::Buffer { notify: true })
}

/// The first PDR whose packets are buffered and reported, if any.
pub fn notifying_pdr(session: &Session) -> Option<PdrId> {
    session.pdrs.iter().map(|p| p.id).find(|id| notifies(session, *id))
}

fn notification_delay(session: &Session, pdr: PdrId) -> Duration {
    let far = session
        .pdrs
        .iter()
        .find(|p| p.id == pdr)
        .and_then(|p| session.far(p.far));
    let bar = far
        .and_then(|far| far.bar)
        .and_then(|id| session.bars.iter().find(|b| b.id == id));
    Duration::from_millis(bar.map_or(0, |bar| u64::from(bar.notification_delay_ms)))
}

fn note(controller: &mut Controller, id: SessionId, change: impl FnOnce(&mut Notes)) {
    if let Some(notes) = controller.sessions.notes_mut(id) {
        change(notes);
    }
}

/// Downlink data was buffered: reports it, after the delay that the SMF asked for. `traffic_class`: of the first
/// packet, the whole octet.
pub fn downlink_data(
    controller: &mut Controller,
    id: SessionId,
    pdr: PdrId,
    qfi: Option<Qfi>,
    traffic_class: Option<u8>,
) {
    if controller
        .sessions
        .notes(id)
        .is_none_or(|notes| notes.report_outstanding)
    {
        return;
    }
    let Some(entry) = controller.sessions.get(id) else {
        return;
    };
    let pdr = entry.smf_pdr(pdr);
    if !notifies(&entry.record.session, pdr) {
        return;
    }
    note(controller, id, |notes| notes.downlink_reported = true);
    let seid = entry.record.session.seid;
    let report = DownlinkDataReport {
        pdr_ids: vec![pdr.0],
        paging_policy_indication: traffic_class.map(|octet| octet >> 2),
        qfi: qfi.map(|qfi| qfi.0),
    };
    let delay = notification_delay(&entry.record.session, pdr);
    if delay.is_zero() {
        return downlink_data_due(controller, seid, report);
    }
    let outside = controller.outside.clone();
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        // The controller may be shutting down.
        let _ = outside.send(Outside::DownlinkDataDue { seid, report });
    });
}

/// The delay is over: reports, if the session still buffers.
pub fn downlink_data_due(controller: &mut Controller, seid: Seid, report: DownlinkDataReport) {
    let Some(id) = controller.sessions.by_seid(seid.0) else {
        return;
    };
    let (Some(entry), Some(notes)) = (controller.sessions.get(id), controller.sessions.notes(id)) else {
        return;
    };
    let still = report
        .pdr_ids
        .iter()
        .any(|id| notifies(&entry.record.session, PdrId(*id)));
    if still && notes.report_outstanding {
        // The usage poll will find that the buffer is not empty.
        note(controller, id, |notes| notes.downlink_reported = false);
    } else if still {
        let report = SessionReportRequest {
            downlink_data: Some(report),
            ..SessionReportRequest::default()
        };
        send(controller, id, report);
    }
}

/// The usage reports that are due of these sessions. They count as on their way: each must be [sent](usage).
pub fn usage_due(controller: &mut Controller, sessions: &[SessionId]) -> Vec<(SessionId, Vec<UsageReport>)> {
    let (now, now_ms) = (Instant::now(), now_ms());
    let table = &mut controller.sessions;
    let due = sessions.iter().filter_map(|&id| {
        let triggers = table.watched(id).is_some_and(|watched| watched.triggers);
        if !triggers || table.notes(id)?.report_outstanding || table.is_paused(id, now) {
            return None;
        }
        let urrs = table.get(id)?.record.session.urrs;
        let mut reports = Vec::new();
        table.account(id, |account| {
            reports = account.due(&urrs, now_ms);
            !reports.is_empty()
        });
        (!reports.is_empty()).then_some((id, reports))
    });
    due.collect()
}

/// Sends usage reports.
pub fn usage(controller: &mut Controller, id: SessionId, usage: Vec<UsageReport>) {
    let report = SessionReportRequest {
        usage,
        ..SessionReportRequest::default()
    };
    if !send(controller, id, report) {
        usage_answered(controller, id, false);
    }
}

/// Settles the accounts of usage that was on its way, if there was any.
fn usage_answered(controller: &mut Controller, id: SessionId, taken: bool) {
    if controller.sessions.account(id, |account| account.answered(taken)) {
        let pause = (!taken).then(|| Instant::now() + USAGE_REPORT_PAUSE);
        controller.sessions.pause(id, pause);
        controller.store_usage(&[id]);
    }
}

fn error_indication(controller: &mut Controller, peer: IpAddr, teid: Teid) {
    let (ipv4, ipv6) = match peer {
        IpAddr::V4(a) => (Some(a), None),
        IpAddr::V6(a) => (None, Some(a)),
    };
    let fteid = decoded::FTeid {
        teid: teid.0,
        v4: ipv4.is_some(),
        v6: ipv6.is_some(),
        ipv4,
        ipv6,
        ..Default::default()
    };
    for id in controller.sessions.by_remote_tunnel(peer, teid) {
        if controller
            .sessions
            .notes(id)
            .is_some_and(|notes| !notes.report_outstanding)
        {
            let error_indication = Some(ErrorIndicationReport {
                remote_fteids: vec![fteid],
            });
            send(
                controller,
                id,
                SessionReportRequest {
                    error_indication,
                    ..SessionReportRequest::default()
                },
            );
        }
    }
}

/// False: there is nowhere to send it.
fn send(controller: &mut Controller, id: SessionId, report: SessionReportRequest) -> bool {
    let ours = controller.transport.local_addr().ip();
    let Some(entry) = controller.sessions.get(id) else {
        return false;
    };
    let (seid, cp) = (entry.record.session.seid, entry.record.cp);
    let Some(address) = cp.address(ours) else {
        tracing::warn!(%seid, "the SMF's endpoint has no address of our socket's family; nothing is reported");
        return false;
    };
    note(controller, id, |notes| notes.report_outstanding = true);
    let (transport, outside) = (controller.transport.clone(), controller.outside.clone());
    tokio::spawn(async move {
        let peer = SocketAddr::new(address, PFCP_PORT);
        let answer = transport
            .request(peer, |sequence| report.encode(cp.seid, sequence))
            .await;
        // The controller may be shutting down.
        let _ = outside.send(Outside::ReportAnswered { seid, answer });
    });
    true
}

/// A report of ours was answered, or was not.
pub async fn answered(controller: &mut Controller, seid: Seid, answer: Result<Message, RequestError>) {
    let Some(id) = controller.sessions.by_seid(seid.0) else {
        return;
    };
    note(controller, id, |notes| notes.report_outstanding = false);
    let taken = matches!(&answer, Ok(Message::SessionReportResponse(r)) if r.cause < FIRST_REJECTION);
    usage_answered(controller, id, taken);
    match answer {
        Ok(Message::SessionReportResponse(response)) => follow(controller, id, response).await,
        Ok(other) => tracing::warn!(%seid, ?other, "not an answer to a session report"),
        Err(error) => {
            tracing::warn!(%seid, %error, "a session report was not answered");
            // The usage poll will try again while there is something in the buffer.
            note(controller, id, |notes| notes.downlink_reported = false);
        }
    }
}

async fn follow(controller: &mut Controller, id: SessionId, response: SessionReportResponse) {
    if response.cause == Cause::SessionContextNotFound.value() {
        tracing::warn!(session = %id, "the SMF does not know the session; it is removed");
        return controller.remove_sessions(vec![id], "unknown-to-smf").await;
    }
    if response.update_bar.is_none() && !response.drop_buffered && response.cp_fseid.is_none() {
        return;
    }
    let rules = decoded::SessionRequest {
        update_bars: response.update_bar.map(|update| update.bar).into_iter().collect(),
        drop_buffered: response.drop_buffered,
        ..decoded::SessionRequest::default()
    };
    let change = SessionModificationRequest {
        cp_fseid: response.cp_fseid,
        rules,
        ..Default::default()
    };
    request::modify_unasked(controller, id, change).await;
}
