//! The messages that are sent: batches of ordinary sessions, and the answers.

use upf_model::batch::{ArchivedChange, ArchivedFromHost, ArchivedToHost, Change, FromHost, ToHost};
use upf_model::*;

/// A batch to be sent again and again.
pub struct Work {
    /// How many sessions are in it.
    pub sessions: u32,
    /// Bytes of its archive.
    pub bytes: usize,
    changes: Vec<Change>,
}

impl Work {
    pub fn new(sessions: u32) -> Self {
        let put = |id| Change::Put {
            session: session(id),
            end_markers: Vec::new(),
            discard_buffered: Vec::new(),
        };
        let mut work = Self {
            sessions,
            bytes: 0,
            changes: (0..sessions).map(put).collect(),
        };
        work.bytes = archive(&work.message(0)).map_or(0, |a| a.len());
        work
    }

    pub fn message(&self, seq: u64) -> ToHost {
        ToHost::Apply {
            seq,
            changes: self.changes.clone(),
        }
    }
}

/// A message as bytes.
pub fn archive(message: &ToHost) -> Result<rkyv::util::AlignedVec, rkyv::rancor::Error> {
    rkyv::to_bytes(message)
}

/// A session as an SMF sets up for web traffic and one dedicated flow: four PDRs, three FARs, two QERs, a URR.
fn session(id: u32) -> Session {
    let ue = std::net::Ipv4Addr::from_bits(0x0a2d_0000 + id);
    let ue_ip = UeIpAddress {
        ipv4: Some(ue),
        ipv6: None,
    };
    let pdr = |index: u16, uplink: bool, filter: Option<&str>| Pdr {
        id: PdrId(index),
        precedence: Precedence(if filter.is_some() { 100 } else { 255 }),
        pdi: Pdi {
            source_interface: if uplink { Interface::Access } else { Interface::Core },
            network_instance: NetworkInstanceId(u16::from(!uplink)),
            local_fteid: uplink.then(|| LocalFTeid {
                teid: Teid(0x1000 + id),
                ipv4: Some(std::net::Ipv4Addr::new(192, 0, 2, 1)),
                ipv6: None,
            }),
            ue_ip: Some(ue_ip),
            framed_routes: Vec::new(),
            sdf: filter.and_then(sdf_filter).into_iter().collect(),
            qfis: if uplink {
                vec![Qfi(if filter.is_some() { 1 } else { 9 })]
            } else {
                Vec::new()
            },
        },
        outer_header_removal: uplink.then_some(OuterHeaderRemoval::GtpuUdpIpv4),
        far: FarId(if uplink { 1 } else { 2 }),
        qers: vec![QerId(if filter.is_some() { 1 } else { 2 })],
        urrs: vec![UrrId(1)],
    };
    let dedicated = Some("permit out udp from 198.51.100.0/24 5004-5006 to assigned");
    let far = |index, interface, tunnel| Far {
        id: FarId(index),
        action: Action {
            disposition: Disposition::Forward,
            duplicate: false,
        },
        forwarding: Some(ForwardingParameters {
            destination_interface: interface,
            network_instance: NetworkInstanceId(u16::from(interface == Interface::Core)),
            outer_header_creation: tunnel,
            transport_level_marking: None,
        }),
        duplicating: Vec::new(),
        bar: None,
    };
    let gnb = OuterHeaderCreation {
        teid: Teid(0x2000 + id),
        peer: std::net::Ipv4Addr::new(192, 0, 2, 2).into(),
    };
    let qer = |index, qfi| Qer {
        id: QerId(index),
        correlation_id: None,
        gate_uplink: Gate::Open,
        gate_downlink: Gate::Open,
        mbr: Some(BitRates {
            uplink_kbps: 50_000,
            downlink_kbps: 200_000,
        }),
        gbr: None,
        qfi: Some(Qfi(qfi)),
        rqi: false,
        ppi: None,
        averaging_window_ms: None,
        scheduling: Scheduling::default(),
    };
    Session {
        id: SessionId(id),
        seid: Seid(u64::from(id) + 1),
        epoch: Epoch(1),
        ue_ips: vec![ue_ip],
        framed_routes: Vec::new(),
        pdrs: vec![
            pdr(1, true, dedicated),
            pdr(2, false, dedicated),
            pdr(3, true, None),
            pdr(4, false, None),
        ],
        fars: vec![far(1, Interface::Core, None), far(2, Interface::Access, Some(gnb))],
        qers: vec![qer(1, 1), qer(2, 9)],
        urrs: vec![Urr {
            id: UrrId(1),
            method: MeasurementMethod {
                volume: true,
                duration: false,
                event: false,
            },
            before_qos: false,
            reporting: Default::default(),
        }],
        bars: Vec::new(),
    }
}

fn sdf_filter(description: &str) -> Option<SdfFilter> {
    Some(SdfFilter {
        flow: Some(description.parse().ok()?),
        ..SdfFilter::default()
    })
}

/// The host's part: looks at every PDR and says that it is done.
pub fn answer(message: &ArchivedToHost) -> Option<FromHost> {
    let ArchivedToHost::Apply { seq, changes } = message else {
        return None;
    };
    let mut precedences = 0u64;
    for change in changes.iter() {
        if let ArchivedChange::Put { session, .. } = change {
            precedences += session
                .pdrs
                .iter()
                .map(|p| u64::from(p.precedence.0.to_native()))
                .sum::<u64>();
        }
    }
    std::hint::black_box(precedences);
    Some(applied(seq.to_native()))
}

/// The same for a message of its own.
pub fn answer_owned(message: &ToHost) -> Option<FromHost> {
    let ToHost::Apply { seq, changes } = message else {
        return None;
    };
    let pdrs = |change: &Change| match change {
        Change::Put { session, .. } => session.pdrs.iter().map(|p| u64::from(p.precedence.0)).sum(),
        Change::Remove { .. } => 0,
    };
    std::hint::black_box(changes.iter().map(pdrs).sum::<u64>());
    Some(applied(*seq))
}

fn applied(seq: u64) -> FromHost {
    FromHost::Applied {
        seq,
        error: None,
        removed: Vec::new(),
    }
}

/// The host's part where the transport carries bytes: aligned bytes in, bytes out.
pub fn answer_bytes(bytes: &[u8]) -> Result<rkyv::util::AlignedVec, rkyv::rancor::Error> {
    let message = rkyv::access::<ArchivedToHost, rkyv::rancor::Error>(bytes)?;
    rkyv::to_bytes(&answer(message).unwrap_or_else(|| applied(u64::MAX)))
}

/// The sequence number of an answer in bytes, which need not be aligned.
pub fn answered(bytes: &[u8]) -> Result<u64, Box<dyn std::error::Error>> {
    let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    match rkyv::access::<ArchivedFromHost, rkyv::rancor::Error>(&aligned)? {
        ArchivedFromHost::Applied { seq, .. } => Ok(seq.to_native()),
        _ => Err("another answer than Applied".into()),
    }
}
