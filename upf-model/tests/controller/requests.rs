//! Requests as SMFs send them, in decoded form.

use super::N3_V4;
use std::net::Ipv4Addr;
use upf_model::decoded::{
    FTeid, Far, Forwarding, OuterHeaderCreation, Pdi, Pdr, Qer, SdfFilter, SessionRequest, UeIp, Urr,
};

pub const UE: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 2);
pub const GNB: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

pub fn choose(id: Option<u8>) -> FTeid {
    FTeid {
        choose: true,
        choose_id: id,
        v4: true,
        ..FTeid::default()
    }
}

pub fn given(teid: u32) -> FTeid {
    FTeid {
        teid,
        v4: true,
        ipv4: Some(N3_V4),
        ..FTeid::default()
    }
}

pub fn ue_ip(destination: bool) -> UeIp {
    UeIp {
        destination,
        ipv4: Some(UE),
        ..UeIp::default()
    }
}

pub fn flow(text: &str) -> SdfFilter {
    SdfFilter {
        flow_description: Some(text.into()),
        ..SdfFilter::default()
    }
}

pub fn uplink(id: u16, fteid: Option<FTeid>, far: u32) -> Pdr {
    Pdr {
        id: Some(id),
        precedence: Some(100),
        pdi: Some(Pdi {
            source_interface: Some(0),
            local_fteid: fteid,
            ue_ips: vec![ue_ip(false)],
            ..Pdi::default()
        }),
        outer_header_removal: Some((0, None)),
        far_id: Some(far),
        ..Pdr::default()
    }
}

pub fn downlink(id: u16, far: u32) -> Pdr {
    Pdr {
        id: Some(id),
        precedence: Some(100),
        pdi: Some(Pdi {
            source_interface: Some(1),
            ue_ips: vec![ue_ip(true)],
            ..Pdi::default()
        }),
        far_id: Some(far),
        ..Pdr::default()
    }
}

pub fn to_core(id: u32) -> Far {
    Far {
        id: Some(id),
        apply_action: Some(0x02),
        forwarding: Some(Forwarding {
            destination_interface: Some(1),
            ..Forwarding::default()
        }),
        ..Far::default()
    }
}

pub fn tunnel(teid: u32) -> OuterHeaderCreation {
    OuterHeaderCreation {
        description: 0x0100,
        teid: Some(teid),
        ipv4: Some(GNB),
        ..OuterHeaderCreation::default()
    }
}

pub fn to_gnb(id: u32, teid: u32) -> Far {
    Far {
        id: Some(id),
        apply_action: Some(0x02),
        forwarding: Some(Forwarding {
            destination_interface: Some(0),
            outer_header_creation: Some(tunnel(teid)),
            ..Forwarding::default()
        }),
        ..Far::default()
    }
}

pub fn qer(id: u32) -> Qer {
    Qer {
        id: Some(id),
        gate_status: Some(0),
        ..Qer::default()
    }
}

pub fn urr(id: u32) -> Urr {
    Urr {
        id: Some(id),
        measurement_method: Some(2),
        reporting_triggers: Some(0),
        ..Urr::default()
    }
}

/// PDR 1 uplink with CHOOSE ID 5, PDR 2 downlink, FAR 1 to the core, FAR 2 to TEID 7 of the gNB, QER 1, URR 1.
pub fn usual() -> SessionRequest {
    let both = |pdr: Pdr| Pdr {
        qer_ids: vec![1],
        urr_ids: vec![1],
        ..pdr
    };
    SessionRequest {
        create_pdrs: vec![both(uplink(1, Some(choose(Some(5))), 1)), both(downlink(2, 2))],
        create_fars: vec![to_core(1), to_gnb(2, 7)],
        create_qers: vec![qer(1)],
        create_urrs: vec![urr(1)],
        ..SessionRequest::default()
    }
}
