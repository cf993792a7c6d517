//! The packet's way through the host plane, judged in this process: upf-host's own parser, the classifier's own
//! explanation, and the session's rules as upf-ctl tells them. What depends on the moment is left out and said so:
//! token buckets, neighbours, MTU.

use super::TraceError;
use super::frame::{Frame, mac};
use pdr_classifier::{Candidate, Mismatch, PacketFields, PdrMatch, SdfMismatch, SessionKey, SessionKeys, Table};
use serde::Serialize;
use std::net::IpAddr;
use upf_config::{Config, Topology};
use upf_host::environment::Environment;
use upf_host::pipeline::parse::{Local, Parsed, UserPacket, parse};
use upf_model::{Disposition, Far, Gate, Interface, IpPrefix, Pdr, Qer, Session};

/// What the host makes of a frame.
#[derive(Debug, Clone, Serialize)]
pub struct HostTrace {
    /// The user's packet as rules see it; none: it is no user's packet.
    pub packet: Option<UserView>,
    /// The session that it belongs to.
    pub session: Option<SessionView>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// The user's packet.
#[derive(Debug, Clone, Serialize)]
pub struct UserView {
    /// By what its session is found.
    pub key: String,
    /// The far end.
    pub remote: IpAddr,
    /// The user's end.
    pub ue: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Remote and user's port.
    pub ports: Option<(u16, u16)>,
    /// Type of service or traffic class.
    pub tos: u8,
    /// QoS flow in its tunnel header.
    pub qfi: Option<u8>,
}

/// The session, and its PDRs judged.
#[derive(Debug, Clone, Serialize)]
pub struct SessionView {
    /// Our SEID.
    pub seid: String,
    /// Slot in the data planes.
    pub id: u32,
    /// Version of its rules.
    pub epoch: u32,
    /// Its PDRs, by precedence.
    pub candidates: Vec<CandidateView>,
}

/// A PDR, and why it took the packet or did not.
#[derive(Debug, Clone, Serialize)]
pub struct CandidateView {
    /// Its id.
    pub pdr: u16,
    /// The lower value wins.
    pub precedence: u32,
    /// Its flow descriptions.
    pub filters: Vec<String>,
    /// It took the packet.
    pub won: bool,
    /// In words.
    pub because: String,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Verdict {
    /// The UPF answers it, or learns from it.
    Local {
        /// What it is.
        what: &'static str,
    },
    /// Dropped, under this reason of `upf counters`.
    Dropped {
        /// The reason.
        reason: &'static str,
        /// The rule at fault, if any.
        by: Option<String>,
    },
    /// Waits in the session's buffer.
    Buffered {
        /// The PDR.
        pdr: u16,
        /// The FAR.
        far: u32,
        /// The SMF is told of the first one.
        notify: bool,
    },
    /// Forwarded, as far as its meters let it.
    Forwarded {
        /// The PDR.
        pdr: u16,
        /// The FAR.
        far: u32,
        /// Where to, in words.
        to: String,
        /// Copies go elsewhere too.
        duplicated: bool,
        /// The QERs that it passes.
        qers: Vec<QerView>,
        /// The URRs that count it.
        urrs: Vec<u32>,
    },
}

/// A QER, in the packet's direction.
#[derive(Debug, Clone, Serialize)]
pub struct QerView {
    /// Its id.
    pub id: u32,
    /// Maximum rate, kbit/s.
    pub mbr_kbps: Option<u64>,
    /// Guaranteed rate, kbit/s.
    pub gbr_kbps: Option<u64>,
    /// QoS flow that it marks with.
    pub qfi: Option<u8>,
}

/// The host plane's view of one frame, before its session is known.
pub struct Arrived {
    topology: Topology,
    parsed: Parsed,
}

impl Arrived {
    /// Parse as upf-host does.
    ///
    /// # Errors
    /// The configuration has no forwarding environment.
    pub fn parse(config: &Config, frame: &Frame) -> Result<Self, TraceError> {
        let devices: Vec<_> = config.ports.iter().map(|port| (mac(port), false)).collect();
        let environment = Environment::new(config, &devices).map_err(|e| TraceError::Environment(e.to_string()))?;
        Ok(Self {
            topology: config.topology(),
            parsed: parse(&environment.ports[frame.port], &frame.bytes, false),
        })
    }

    /// The user's packet, if it is one: its session must be looked for.
    pub const fn user(&self) -> Option<&UserPacket> {
        match &self.parsed {
            Parsed::User(user) => Some(user),
            Parsed::Local(_) | Parsed::Drop(_) => None,
        }
    }

    /// Whether the packet is this session's.
    pub fn belongs_to(&self, session: &Session) -> bool {
        let Some(user) = self.user() else { return false };
        let keys = SessionKeys::of(session, |addr| self.topology.endpoint(addr));
        let framed = || {
            let (instance, ue) = (user.fields.network_instance(), user.fields.ue());
            keys.framed
                .iter()
                .any(|(ni, prefix)| *ni == instance && prefix.contains(ue))
        };
        keys.exact.contains(&user.key) || !user.key.is_tunnel() && framed()
    }

    /// Judge it by the rules of its session; none: nobody's session was found.
    ///
    /// # Errors
    /// The classifier does not take the session's rules.
    pub fn judge(&self, session: Option<&Session>) -> Result<HostTrace, TraceError> {
        let nothing = |verdict| HostTrace {
            packet: None,
            session: None,
            verdict,
        };
        let user = match &self.parsed {
            Parsed::User(user) => user,
            Parsed::Local(kind) => return Ok(nothing(Verdict::Local { what: local(*kind) })),
            Parsed::Drop(reason) => return Ok(nothing(dropped(reason.name()))),
        };
        let Some(session) = session else {
            let reason = if user.key.is_tunnel() {
                "unknown_teid"
            } else {
                "unknown_ue"
            };
            return Ok(HostTrace {
                packet: Some(self.view(user.key, &user.fields)),
                ..nothing(dropped(reason))
            });
        };
        self.classify(user, session)
    }

    fn classify(&self, user: &UserPacket, session: &Session) -> Result<HostTrace, TraceError> {
        let endpoint = |addr| self.topology.endpoint(addr);
        let rules: Vec<PdrMatch> = session.pdrs.iter().map(|pdr| PdrMatch::of(pdr, endpoint)).collect();
        let keys = SessionKeys::of(session, endpoint);
        let (table, mut writer) = Table::new();
        writer
            .put(session.id, &keys.exact, &keys.framed, &rules, ())
            .map_err(|error| TraceError::Rules(error.to_string()))?;
        // A tunnel that carries downlink packets (N9) has the UE as its packets' destination.
        let downlink_tunnel = |(pdr, rule): (&Pdr, &PdrMatch)| {
            pdr.pdi.source_interface != Interface::Access && rule.tunnel.contains(&user.key)
        };
        let reversed = session.pdrs.iter().zip(&rules).any(downlink_tunnel);
        let fields = if reversed { user.fields.reversed() } else { user.fields };

        let mut reader = table.register();
        let guard = reader.enter();
        let found = guard.session(user.key);
        let found = found.or_else(|| guard.framed(fields.network_instance(), fields.ue()));
        let explanation = found.ok_or(TraceError::NotFound)?.explain(&fields);
        let winner = explanation.winner.map(|at| &session.pdrs[at as usize]);
        let candidates = session.pdrs.iter().zip(&explanation.candidates);
        let candidates = candidates.map(|(pdr, candidate)| self.candidate(session, pdr, candidate, &fields));
        let own = is_own_source(session, fields.ue());
        let verdict = match winner {
            None if user.key.is_tunnel() && !reversed && !own => dropped("spoofed"),
            None => dropped("no_pdr"),
            Some(pdr) if pdr.pdi.source_interface.is_uplink() && !own => Verdict::Dropped {
                reason: "spoofed",
                by: Some(format!("PDR {}: the source is no address of the session", pdr.id)),
            },
            Some(pdr) => self.act(session, pdr),
        };
        Ok(HostTrace {
            packet: Some(self.view(user.key, &fields)),
            session: Some(SessionView {
                seid: format!("{:#x}", session.seid.0),
                id: session.id.0,
                epoch: session.epoch.0,
                candidates: candidates.collect(),
            }),
            verdict,
        })
    }

    /// From the PDR that won: gates, buffering, where it goes.
    fn act(&self, session: &Session, pdr: &Pdr) -> Verdict {
        let uplink = pdr.pdi.source_interface.is_uplink();
        let qers: Vec<&Qer> = pdr.qers.iter().filter_map(|&id| session.qer(id)).collect();
        let gate = |qer: &Qer| if uplink { qer.gate_uplink } else { qer.gate_downlink };
        if let Some(closed) = qers.iter().find(|qer| gate(qer) == Gate::Closed) {
            return Verdict::Dropped {
                reason: "gate_closed",
                by: Some(format!("QER {} of PDR {}", closed.id, pdr.id)),
            };
        }
        let of_far = |reason| Verdict::Dropped {
            reason,
            by: Some(format!("FAR {} of PDR {}", pdr.far, pdr.id)),
        };
        let Some(far) = session.far(pdr.far) else {
            return of_far("far_drop");
        };
        match far.action.disposition {
            Disposition::Drop => of_far("far_drop"),
            Disposition::Buffer { notify } => Verdict::Buffered {
                pdr: pdr.id.0,
                far: far.id.0,
                notify,
            },
            Disposition::Forward if pdr.outer_header_removal.is_none() && pdr.pdi.local_fteid.is_some() => {
                of_far("not_served")
            }
            Disposition::Forward => {
                let rate = |rates: upf_model::BitRates| {
                    if uplink { rates.uplink_kbps } else { rates.downlink_kbps }
                };
                let qers = qers.iter().map(|qer| QerView {
                    id: qer.id.0,
                    mbr_kbps: qer.mbr.map(rate),
                    gbr_kbps: qer.gbr.map(rate),
                    qfi: qer.qfi.map(|qfi| qfi.0),
                });
                Verdict::Forwarded {
                    pdr: pdr.id.0,
                    far: far.id.0,
                    to: self.destination(far),
                    duplicated: far.action.duplicate,
                    qers: qers.collect(),
                    urrs: pdr.urrs.iter().map(|urr| urr.0).collect(),
                }
            }
        }
    }

    fn destination(&self, far: &Far) -> String {
        let Some(forwarding) = &far.forwarding else {
            return "nowhere".into();
        };
        match forwarding.outer_header_creation {
            Some(tunnel) => format!("the tunnel {} of {}", hex(tunnel.teid.0), tunnel.peer),
            None => format!("{}, by its routes", self.instance(forwarding.network_instance.0)),
        }
    }

    fn instance(&self, id: u16) -> &str {
        self.topology
            .instances
            .get(usize::from(id))
            .map_or("an unknown network instance", String::as_str)
    }

    fn candidate(&self, session: &Session, pdr: &Pdr, candidate: &Candidate, fields: &PacketFields) -> CandidateView {
        let because = match candidate {
            Candidate::Won => "it matches, and nothing of a lower precedence value does".to_owned(),
            Candidate::LostTo(winner) => {
                let winner = &session.pdrs[*winner as usize];
                format!(
                    "it matches too, but PDR {} has precedence {}",
                    winner.id, winner.precedence
                )
            }
            Candidate::Failed(mismatch) => failed(*mismatch, fields).to_owned(),
        };
        let filter = |filter: &upf_model::SdfFilter| match &filter.flow {
            Some(flow) => flow.to_string(),
            None => "other than by flow description".to_owned(),
        };
        CandidateView {
            pdr: pdr.id.0,
            precedence: pdr.precedence.0,
            filters: pdr.pdi.sdf.iter().map(filter).collect(),
            won: *candidate == Candidate::Won,
            because,
        }
    }

    fn view(&self, key: SessionKey, fields: &PacketFields) -> UserView {
        let key = match key {
            SessionKey::FTeid { endpoint, teid } => {
                let address = self
                    .topology
                    .endpoints
                    .get(usize::from(endpoint.0))
                    .map(|e| e.addr.to_string());
                format!("tunnel {} at {}", hex(teid.0), address.unwrap_or_else(|| "?".into()))
            }
            SessionKey::UeV4 { ni, addr } => format!("{addr} from {}", self.instance(ni.0)),
            SessionKey::UeV6 { ni, prefix64 } => {
                let prefix = std::net::Ipv6Addr::from_bits(u128::from(prefix64) << 64);
                format!("{prefix}/64 from {}", self.instance(ni.0))
            }
        };
        UserView {
            key,
            remote: fields.remote(),
            ue: fields.ue(),
            protocol: fields.protocol(),
            ports: fields.ports(),
            tos: fields.tos(),
            qfi: fields.qfi().map(|qfi| qfi.0),
        }
    }
}

fn hex(teid: u32) -> String {
    format!("{teid:#x}")
}

const fn dropped(reason: &'static str) -> Verdict {
    Verdict::Dropped { reason, by: None }
}

fn is_own_source(session: &Session, source: IpAddr) -> bool {
    let addresses = session.ue_ips.iter().flat_map(|ue| {
        let v4 = ue.ipv4.and_then(|a| IpPrefix::new(a.into(), 32));
        v4.into_iter().chain(ue.ipv6.map(IpPrefix::V6))
    });
    let mut sources = addresses.chain(session.framed_routes.iter().copied()).peekable();
    sources.peek().is_none() || sources.any(|prefix| prefix.contains(source))
}

const fn local(kind: Local) -> &'static str {
    match kind {
        Local::Arp(_) => "ARP",
        Local::NeighbourDiscovery(_) => "neighbour discovery",
        Local::Ip(_) => "IP to an address of ours",
        Local::Gtpu(_) => "GTP-U signalling",
        Local::UnknownExtension(_) => "a G-PDU with an extension header that must be understood and is not",
    }
}

const fn failed(mismatch: Mismatch, fields: &PacketFields) -> &'static str {
    match mismatch {
        Mismatch::SourceInterface => "it expects another source interface",
        Mismatch::NetworkInstance => "it expects another network instance",
        Mismatch::Tunnel => "it expects another tunnel, or a plain packet",
        Mismatch::UeAddress => "the user's end is none of its UE addresses and framed routes",
        Mismatch::Qfi if fields.qfi().is_none() => "it asks for a QoS flow, and the packet names none",
        Mismatch::Qfi => "it asks for another QoS flow",
        Mismatch::Application => "it asks for an application, and the flow is not known to be of that one",
        Mismatch::Sdf(sdf) => match sdf {
            SdfMismatch::Protocol => "its SDF filter asks for another protocol",
            SdfMismatch::RemoteAddress => "its SDF filter asks for another far end",
            SdfMismatch::UeAddress => "its SDF filter asks for another user's end",
            SdfMismatch::RemotePort => "its SDF filter asks for another port of the far end",
            SdfMismatch::UePort => "its SDF filter asks for another port of the user",
            SdfMismatch::Tos => "its SDF filter asks for another type of service",
            SdfMismatch::Spi => "its SDF filter asks for a security parameter index",
            SdfMismatch::FlowLabel => "its SDF filter asks for another flow label",
        },
        Mismatch::Ethernet(_) => "it expects an Ethernet frame, or another one",
    }
}
