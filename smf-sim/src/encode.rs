//! From declared rules to the IEs of a request, grouped as TS 29.244 7.5.2 and 7.5.4 say.

use crate::modification::{FarUpdate, ForwardingUpdate, ModificationSpec, PdrUpdate, QerUpdate};
use crate::rules::{Bar, Far, Forwarding, Pdi, Pdr, Qer, Urr};
use crate::session::SessionSpec;
use crate::wire::{self, NodeId};
use rs_pfcp::ie::{Ie, IeType};
use std::net::IpAddr;

/// The IEs of a Session Establishment Request.
pub fn session_establishment(spec: &SessionSpec, node_id: &NodeId, cp_seid: u64, cp_addr: IpAddr) -> Vec<Ie> {
    let group = Group {
        omit: &spec.omit,
        ies: Vec::new(),
    };
    group
        .ie(wire::node_id(node_id))
        .ie(wire::f_seid(cp_seid, cp_addr))
        .each(&spec.pdrs, |g, pdr| g.create_pdr(pdr))
        .each(&spec.fars, |g, far| g.create_far(far))
        .each(&spec.urrs, |g, urr| g.urr(IeType::CreateUrr, urr))
        .each(&spec.qers, |g, qer| g.create_qer(qer))
        .each(&spec.bars, |g, bar| g.bar(IeType::CreateBar, bar))
        .each(&spec.pdn_type, |g, t| g.ie(wire::u8_ie(IeType::PdnType, *t)))
        .each(&spec.extra, |g, ie| g.ie(ie.clone()))
        .ies
}

/// The IEs of a Session Modification Request.
pub fn session_modification(spec: &ModificationSpec) -> Vec<Ie> {
    let flags = u8::from(spec.drop_buffered) | u8::from(spec.query_all_urrs) << 2;
    let group = Group {
        omit: &spec.omit,
        ies: Vec::new(),
    };
    group
        .each(&spec.remove_pdrs, |g, id| {
            g.remove(IeType::RemovePdr, wire::u16_ie(IeType::PdrId, *id))
        })
        .each(&spec.remove_fars, |g, id| {
            g.remove(IeType::RemoveFar, wire::u32_ie(IeType::FarId, *id))
        })
        .each(&spec.remove_urrs, |g, id| {
            g.remove(IeType::RemoveUrr, wire::u32_ie(IeType::UrrId, *id))
        })
        .each(&spec.remove_qers, |g, id| {
            g.remove(IeType::RemoveQer, wire::u32_ie(IeType::QerId, *id))
        })
        .each(&spec.remove_bars, |g, id| {
            g.remove(IeType::RemoveBar, wire::u8_ie(IeType::BarId, *id))
        })
        .each(&spec.create_pdrs, |g, pdr| g.create_pdr(pdr))
        .each(&spec.create_fars, |g, far| g.create_far(far))
        .each(&spec.create_urrs, |g, urr| g.urr(IeType::CreateUrr, urr))
        .each(&spec.create_qers, |g, qer| g.create_qer(qer))
        .each(&spec.create_bars, |g, bar| g.bar(IeType::CreateBar, bar))
        .each(&spec.update_pdrs, |g, pdr| g.update_pdr(pdr))
        .each(&spec.update_fars, |g, far| g.update_far(far))
        .each(&spec.update_urrs, |g, urr| g.urr(IeType::UpdateUrr, urr))
        .each(&spec.update_qers, |g, qer| g.update_qer(qer))
        .each(&spec.update_bars, |g, bar| g.bar(IeType::UpdateBar, bar))
        .each(&(flags != 0).then_some(flags), |g, flags| {
            g.ie(wire::u8_ie(IeType::PfcpsmReqFlags, *flags))
        })
        .each(&spec.query_urrs, |g, id| {
            g.remove(IeType::QueryUrr, wire::u32_ie(IeType::UrrId, *id))
        })
        .each(&spec.extra, |g, ie| g.ie(ie.clone()))
        .ies
}

/// The IEs of a message or of a grouped IE, in order, less those that the test wants left out.
struct Group<'a> {
    omit: &'a [IeType],
    ies: Vec<Ie>,
}

impl Group<'_> {
    fn ie(mut self, ie: Ie) -> Self {
        if !self.omit.contains(&ie.ie_type) {
            self.ies.push(ie);
        }
        self
    }

    fn each<'v, T: 'v>(self, values: impl IntoIterator<Item = &'v T>, add: impl FnMut(Self, &'v T) -> Self) -> Self {
        values.into_iter().fold(self, add)
    }

    fn nest(self, t: IeType, fill: impl FnOnce(Self) -> Self) -> Self {
        let inner = fill(Group {
            omit: self.omit,
            ies: Vec::new(),
        });
        self.ie(Ie::new_grouped(t, inner.ies))
    }

    fn remove(self, t: IeType, id: Ie) -> Self {
        self.nest(t, |g| g.ie(id))
    }

    fn create_pdr(self, pdr: &Pdr) -> Self {
        self.nest(IeType::CreatePdr, |g| {
            g.ie(wire::u16_ie(IeType::PdrId, pdr.id))
                .ie(wire::u32_ie(IeType::Precedence, pdr.precedence))
                .pdi(&pdr.pdi)
                .each(&pdr.outer_header_removal, |g, d| {
                    g.ie(wire::u8_ie(IeType::OuterHeaderRemoval, *d))
                })
                .ie(wire::u32_ie(IeType::FarId, pdr.far))
                .each(&pdr.urrs, |g, id| g.ie(wire::u32_ie(IeType::UrrId, *id)))
                .each(&pdr.qers, |g, id| g.ie(wire::u32_ie(IeType::QerId, *id)))
                .each(&pdr.extra, |g, ie| g.ie(ie.clone()))
        })
    }

    fn update_pdr(self, pdr: &PdrUpdate) -> Self {
        self.nest(IeType::UpdatePdr, |g| {
            g.ie(wire::u16_ie(IeType::PdrId, pdr.id))
                .each(&pdr.outer_header_removal, |g, d| {
                    g.ie(wire::u8_ie(IeType::OuterHeaderRemoval, *d))
                })
                .each(&pdr.precedence, |g, p| g.ie(wire::u32_ie(IeType::Precedence, *p)))
                .each(&pdr.pdi, |g, pdi| g.pdi(pdi))
                .each(&pdr.far, |g, id| g.ie(wire::u32_ie(IeType::FarId, *id)))
                .each(&pdr.urrs, |g, id| g.ie(wire::u32_ie(IeType::UrrId, *id)))
                .each(&pdr.qers, |g, id| g.ie(wire::u32_ie(IeType::QerId, *id)))
        })
    }

    fn pdi(self, pdi: &Pdi) -> Self {
        self.nest(IeType::Pdi, |g| {
            g.ie(wire::u8_ie(IeType::SourceInterface, pdi.source_interface as u8))
                .each(&pdi.fteid, |g, f| g.ie(wire::f_teid(*f)))
                .network_instance(&pdi.network_instance)
                .each(&pdi.ue_ips, |g, ue| g.ie(wire::ue_ip(*ue)))
                .each(&pdi.sdf_filters, |g, filter| g.ie(wire::sdf_filter(filter)))
                .each(&pdi.qfis, |g, qfi| g.ie(wire::u8_ie(IeType::Qfi, *qfi)))
                .each(&pdi.framed_routes, |g, route| {
                    let t = if route.contains(':') {
                        IeType::FramedIpv6Route
                    } else {
                        IeType::FramedRoute
                    };
                    g.ie(Ie::new(t, route.as_bytes().to_vec()))
                })
                .each(&pdi.extra, |g, ie| g.ie(ie.clone()))
        })
    }

    /// Network Instance (8.2.4) as plain octets, the way SMFs of the field send a DNN-like name.
    fn network_instance(self, name: &Option<String>) -> Self {
        self.each(name, |g, name| {
            g.ie(Ie::new(IeType::NetworkInstance, name.as_bytes().to_vec()))
        })
    }

    fn create_far(self, far: &Far) -> Self {
        self.nest(IeType::CreateFar, |g| {
            g.ie(wire::u32_ie(IeType::FarId, far.id))
                .ie(wire::apply_action(far.apply_action))
                .each(&far.forwarding, |g, f| g.forwarding(IeType::ForwardingParameters, f))
                .each(&far.duplicating, |g, f| g.forwarding(IeType::DuplicatingParameters, f))
                .each(&far.bar, |g, id| g.ie(wire::u8_ie(IeType::BarId, *id)))
                .each(&far.extra, |g, ie| g.ie(ie.clone()))
        })
    }

    fn forwarding(self, t: IeType, forwarding: &Forwarding) -> Self {
        self.nest(t, |g| {
            g.ie(wire::u8_ie(
                IeType::DestinationInterface,
                forwarding.destination_interface as u8,
            ))
            .network_instance(&forwarding.network_instance)
            .tunnel_and_marking(forwarding.outer_header_creation, forwarding.transport_level_marking)
        })
    }

    fn tunnel_and_marking(self, tunnel: Option<(u32, IpAddr)>, marking: Option<(u8, u8)>) -> Self {
        self.each(&tunnel, |g, (teid, peer)| {
            g.ie(wire::outer_header_creation(*teid, *peer))
        })
        .each(&marking, |g, (tos, mask)| {
            g.ie(Ie::new(IeType::TransportLevelMarking, vec![*tos, *mask]))
        })
    }

    fn update_far(self, far: &FarUpdate) -> Self {
        self.nest(IeType::UpdateFar, |g| {
            g.ie(wire::u32_ie(IeType::FarId, far.id))
                .each(&far.apply_action, |g, action| g.ie(wire::apply_action(*action)))
                .each(&far.forwarding, |g, f| g.update_forwarding(f))
                .each(&far.bar, |g, id| g.ie(wire::u8_ie(IeType::BarId, *id)))
        })
    }

    fn update_forwarding(self, f: &ForwardingUpdate) -> Self {
        /// SNDEM is bit 2 of PFCPSMReq-Flags (8.2.31).
        const SNDEM: u8 = 0x02;
        self.nest(IeType::UpdateForwardingParameters, |g| {
            g.each(&f.destination_interface, |g, i| {
                g.ie(wire::u8_ie(IeType::DestinationInterface, *i as u8))
            })
            .network_instance(&f.network_instance)
            .tunnel_and_marking(f.outer_header_creation, f.transport_level_marking)
            .each(&f.send_end_marker.then_some(SNDEM), |g, flags| {
                g.ie(wire::u8_ie(IeType::PfcpsmReqFlags, *flags))
            })
        })
    }

    fn create_qer(self, qer: &Qer) -> Self {
        self.nest(IeType::CreateQer, |g| {
            g.ie(wire::u32_ie(IeType::QerId, qer.id))
                .each(&qer.correlation_id, |g, id| {
                    g.ie(wire::u32_ie(IeType::QerCorrelationId, *id))
                })
                .ie(wire::gate_status(qer.gate_uplink, qer.gate_downlink))
                .each(&qer.mbr, |g, rates| g.ie(wire::bit_rates(IeType::Mbr, *rates)))
                .each(&qer.gbr, |g, rates| g.ie(wire::bit_rates(IeType::Gbr, *rates)))
                .each(&qer.qfi, |g, qfi| g.ie(wire::u8_ie(IeType::Qfi, *qfi)))
                .each(&qer.rqi.then_some(1), |g, v| g.ie(wire::u8_ie(IeType::Rqi, *v)))
                .each(&qer.ppi, |g, v| g.ie(wire::u8_ie(IeType::PagingPolicyIndicator, *v)))
                .each(&qer.averaging_window_ms, |g, v| {
                    g.ie(wire::u32_ie(IeType::AveragingWindow, *v))
                })
        })
    }

    fn update_qer(self, qer: &QerUpdate) -> Self {
        self.nest(IeType::UpdateQer, |g| {
            g.ie(wire::u32_ie(IeType::QerId, qer.id))
                .each(&qer.gate, |g, (uplink, downlink)| {
                    g.ie(wire::gate_status(*uplink, *downlink))
                })
                .each(&qer.mbr, |g, rates| g.ie(wire::bit_rates(IeType::Mbr, *rates)))
                .each(&qer.gbr, |g, rates| g.ie(wire::bit_rates(IeType::Gbr, *rates)))
                .each(&qer.qfi, |g, qfi| g.ie(wire::u8_ie(IeType::Qfi, *qfi)))
                .each(&qer.rqi, |g, v| g.ie(wire::u8_ie(IeType::Rqi, u8::from(*v))))
                .each(&qer.ppi, |g, v| g.ie(wire::u8_ie(IeType::PagingPolicyIndicator, *v)))
                .each(&qer.averaging_window_ms, |g, v| {
                    g.ie(wire::u32_ie(IeType::AveragingWindow, *v))
                })
        })
    }

    fn urr(self, t: IeType, urr: &Urr) -> Self {
        /// Volume Threshold flag TOVOL (8.2.13).
        const TOVOL: u8 = 0x01;
        self.nest(t, |g| {
            g.ie(wire::u32_ie(IeType::UrrId, urr.id))
                .ie(wire::u8_ie(
                    IeType::MeasurementMethod,
                    u8::from(urr.duration) | u8::from(urr.volume) << 1,
                ))
                .ie(Ie::new(IeType::ReportingTriggers, urr.reporting_triggers.to_vec()))
                .each(&urr.volume_threshold, |g, octets| {
                    g.ie(Ie::new(
                        IeType::VolumeThreshold,
                        [&[TOVOL][..], &octets.to_be_bytes()].concat(),
                    ))
                })
                .each(&urr.time_threshold, |g, s| {
                    g.ie(wire::u32_ie(IeType::TimeThreshold, *s))
                })
                .each(&urr.measurement_period, |g, s| {
                    g.ie(wire::u32_ie(IeType::MeasurementPeriod, *s))
                })
                .each(&urr.measurement_information, |g, v| {
                    g.ie(wire::u8_ie(IeType::MeasurementInformation, *v))
                })
        })
    }

    fn bar(self, t: IeType, bar: &Bar) -> Self {
        self.nest(t, |g| {
            g.ie(wire::u8_ie(IeType::BarId, bar.id))
                .each(&bar.notification_delay, |g, v| {
                    g.ie(wire::u8_ie(IeType::DownlinkDataNotificationDelay, *v))
                })
                .each(&bar.suggested_packets, |g, v| {
                    g.ie(wire::u8_ie(IeType::SuggestedBufferingPacketsCount, *v))
                })
        })
    }
}
