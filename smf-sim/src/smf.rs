//! [`Smf`]: the procedures of one association with one UPF (TS 29.244 6.2, 6.3).

use crate::answer::{self, AssociationInfo, Established, Modified, SessionReport, UsageReport};
use crate::encode;
use crate::error::{PfcpError, cause};
use crate::modification::ModificationSpec;
use crate::session::SessionSpec;
use crate::transport::{RawAnswer, Timers, Transport};
use crate::wire::{self, NodeId};
use rs_pfcp::ie::{Ie, IeType};
use rs_pfcp::message::MsgType;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// One SMF towards one UPF. Procedures may run concurrently on one `Smf`: share it by reference or [`Arc`].
///
/// A task of the current tokio runtime receives, until the `Smf` is dropped; dropping sends nothing, as a crash would.
pub struct Smf {
    transport: Arc<Transport>,
    receiver: JoinHandle<()>,
    node_id: NodeId,
    cp_addr: IpAddr,
    next_cp_seid: AtomicU64,
}

impl Drop for Smf {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl Smf {
    /// Opens the socket. A UPF sends its own requests to port 8805 of the CP F-SEID's address, so `local` has to
    /// name that port for session reports to arrive from a UPF that does not answer to where it was asked from.
    ///
    /// # Errors
    /// [`PfcpError::Io`] if the address cannot be bound.
    pub async fn connect(local: SocketAddr, upf: SocketAddr, node_id: impl Into<NodeId>) -> Result<Self, PfcpError> {
        Self::connect_with(local, upf, node_id, Timers::default()).await
    }

    /// As [`Self::connect`], with other T1 and N1.
    pub async fn connect_with(
        local: SocketAddr,
        upf: SocketAddr,
        node_id: impl Into<NodeId>,
        timers: Timers,
    ) -> Result<Self, PfcpError> {
        let node_id = node_id.into();
        let transport = Transport::bind(local, upf, timers).await?;
        let cp_addr = match (local.ip(), &node_id) {
            (bound, _) if !bound.is_unspecified() => bound,
            (_, NodeId::Ipv4(a)) => IpAddr::V4(*a),
            (_, NodeId::Ipv6(a)) => IpAddr::V6(*a),
            (bound, NodeId::Fqdn(_)) => bound,
        };
        let receiver = tokio::spawn(Arc::clone(&transport).receive());
        // SEIDs of a restarted SMF differ from those before: its clock is the high half.
        let next_cp_seid = AtomicU64::new(u64::from(transport.recovery_time_stamp()) << 32 | 1);
        Ok(Self {
            transport,
            receiver,
            node_id,
            cp_addr,
            next_cp_seid,
        })
    }

    /// Where this SMF listens.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.transport.local_addr()
    }

    /// Association Setup (6.2.6).
    ///
    /// # Errors
    /// The UPF refuses or is silent.
    pub async fn associate(&self) -> Result<AssociationInfo, PfcpError> {
        const NAME: &str = "Association Setup Request";
        let ies = [
            wire::node_id(&self.node_id),
            wire::u32_ie(IeType::RecoveryTimeStamp, self.transport.recovery_time_stamp()),
        ];
        let answer = self.node_request(NAME, MsgType::AssociationSetupRequest, &ies).await?;
        answer::accepted(NAME, &answer)?;
        Ok(AssociationInfo {
            node_id: answer
                .find(IeType::NodeId)
                .and_then(wire::read_node_id)
                .ok_or_else(|| malformed(NAME, "expected a Node ID"))?,
            recovery_time_stamp: answer::find_u32(&answer.ies, IeType::RecoveryTimeStamp),
            up_function_features: answer.find(IeType::UpFunctionFeatures).unwrap_or_default().to_vec(),
        })
    }

    /// Association Release (6.2.8): the UPF deletes every session of this SMF.
    ///
    /// # Errors
    /// The UPF refuses or is silent.
    pub async fn release(&self) -> Result<(), PfcpError> {
        const NAME: &str = "Association Release Request";
        let ies = [wire::node_id(&self.node_id)];
        let answer = self
            .node_request(NAME, MsgType::AssociationReleaseRequest, &ies)
            .await?;
        answer::accepted(NAME, &answer)
    }

    /// Heartbeat (6.2.2): the UPF's Recovery Time Stamp, NTP seconds. A new value means that it was restarted.
    ///
    /// # Errors
    /// The UPF is silent, or sends none.
    pub async fn heartbeat(&self) -> Result<u32, PfcpError> {
        const NAME: &str = "Heartbeat Request";
        let ies = [wire::u32_ie(
            IeType::RecoveryTimeStamp,
            self.transport.recovery_time_stamp(),
        )];
        let answer = self.node_request(NAME, MsgType::HeartbeatRequest, &ies).await?;
        answer::find_u32(&answer.ies, IeType::RecoveryTimeStamp)
            .ok_or_else(|| malformed(NAME, "expected a Recovery Time Stamp"))
    }

    /// Session Establishment (6.3.2).
    ///
    /// # Errors
    /// The UPF refuses (cause, offending IE), is silent, or its answer lacks its F-SEID.
    pub async fn establish(&self, spec: &SessionSpec) -> Result<Established, PfcpError> {
        const NAME: &str = "Session Establishment Request";
        let cp_seid = self.next_cp_seid.fetch_add(1, Ordering::Relaxed);
        let ies = encode::session_establishment(spec, &self.node_id, cp_seid, self.cp_addr);
        // A report may overtake the response.
        self.transport.session_stands(cp_seid, None);
        let outcome = self.establish_as(NAME, cp_seid, &ies).await;
        match &outcome {
            Ok(established) => self.transport.session_stands(cp_seid, Some(established.up_seid)),
            Err(_) => self.transport.session_refused(cp_seid),
        }
        outcome
    }

    async fn establish_as(&self, name: &'static str, cp_seid: u64, ies: &[Ie]) -> Result<Established, PfcpError> {
        let request = MsgType::SessionEstablishmentRequest;
        // The UPF's SEID is not known yet: zero (7.2.2.4.2).
        let answer = self.session_request(name, request, 0, ies).await?;
        answer::accepted(name, &answer)?;
        if answer.seid != Some(cp_seid) {
            return Err(malformed(
                name,
                &format!("expected SEID {cp_seid:#x} in the header, found {:x?}", answer.seid),
            ));
        }
        let up_seid = answer
            .find(IeType::Fseid)
            .and_then(wire::read_f_seid)
            .ok_or_else(|| malformed(name, "expected the UPF's F-SEID"))?;
        Ok(Established {
            cp_seid,
            up_seid,
            created: answer::created_pdrs(&answer.ies),
        })
    }

    /// Session Modification (6.3.3).
    ///
    /// # Errors
    /// The UPF refuses (and has changed nothing), or is silent.
    pub async fn modify(&self, up_seid: u64, spec: &ModificationSpec) -> Result<Modified, PfcpError> {
        const NAME: &str = "Session Modification Request";
        let ies = encode::session_modification(spec);
        let answer = self
            .session_request(NAME, MsgType::SessionModificationRequest, up_seid, &ies)
            .await?;
        answer::accepted(NAME, &answer)?;
        Ok(Modified {
            created: answer::created_pdrs(&answer.ies),
            usage: answer::usage_reports(&answer.ies),
        })
    }

    /// Session Deletion (6.3.4): the final usage of every URR.
    ///
    /// # Errors
    /// The UPF refuses or is silent.
    pub async fn delete(&self, up_seid: u64) -> Result<Vec<UsageReport>, PfcpError> {
        const NAME: &str = "Session Deletion Request";
        let answer = self
            .session_request(NAME, MsgType::SessionDeletionRequest, up_seid, &[])
            .await?;
        let accepted = answer::accepted(NAME, &answer);
        // A session unknown to the UPF is gone too.
        let gone = match &accepted {
            Ok(()) => true,
            Err(error) => error.cause() == Some(cause::SESSION_CONTEXT_NOT_FOUND),
        };
        if gone {
            self.transport.session_gone(up_seid);
        }
        accepted.map(|()| answer::usage_reports(&answer.ies))
    }

    /// Session reports of the UPF from now on (6.3.5). They are answered whether or not anyone listens; a receiver
    /// that lags thousands behind loses the oldest.
    pub fn reports(&self) -> broadcast::Receiver<SessionReport> {
        self.transport.subscribe()
    }

    /// Any message with any IEs, sent until answered; the answer as it came, whatever its cause.
    ///
    /// # Errors
    /// The UPF is silent.
    pub async fn request_raw(&self, message_type: u8, seid: Option<u64>, ies: &[Ie]) -> Result<RawAnswer, PfcpError> {
        self.transport.request("raw request", message_type, seid, ies).await
    }

    /// Any octets, sent once.
    ///
    /// # Errors
    /// The socket's.
    pub async fn send_datagram(&self, datagram: &[u8]) -> Result<(), PfcpError> {
        Ok(self.transport.send_datagram(datagram).await?)
    }

    async fn node_request(&self, name: &'static str, t: MsgType, ies: &[Ie]) -> Result<RawAnswer, PfcpError> {
        expect_type(name, t, self.transport.request(name, t as u8, None, ies).await?)
    }

    async fn session_request(
        &self,
        name: &'static str,
        t: MsgType,
        seid: u64,
        ies: &[Ie],
    ) -> Result<RawAnswer, PfcpError> {
        expect_type(name, t, self.transport.request(name, t as u8, Some(seid), ies).await?)
    }
}

fn malformed(request: &'static str, reason: &str) -> PfcpError {
    PfcpError::Malformed {
        request,
        reason: reason.to_owned(),
    }
}

/// Each response type is its request's plus one.
fn expect_type(name: &'static str, request: MsgType, answer: RawAnswer) -> Result<RawAnswer, PfcpError> {
    let expected = request as u8 + 1;
    if answer.message_type == expected {
        return Ok(answer);
    }
    Err(malformed(
        name,
        &format!("expected message type {expected}, found {}", answer.message_type),
    ))
}
