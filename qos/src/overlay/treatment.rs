//! Owns what becomes of one PDR or flow: the layers that apply to it, field by field.

use crate::engine::Layer;
use crate::policy::{Effects, Precedence, Rates};
use upf_model::{BitRates, Gate, Qer, QerId, Qfi, Scheduling};

/// Resolved changes. None: as the SMF said.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Treatment {
    pub(crate) precedence: Option<Precedence>,
    pub(crate) dscp: Option<u8>,
    pub(crate) qfi: Option<u8>,
    pub(crate) mbr: Option<Rates>,
    pub(crate) gbr: Option<Rates>,
    pub(crate) queue: Option<u8>,
    pub(crate) l4s: Option<bool>,
    pub(crate) gate_uplink: Option<Gate>,
    pub(crate) gate_downlink: Option<Gate>,
}

impl Treatment {
    /// Of layers, the first to win first.
    pub(crate) fn of<'l>(layers: impl Iterator<Item = &'l Layer>) -> Self {
        layers.fold(Self::default(), |treatment, layer| treatment.under(&layer.effects))
    }

    /// With effects that set what is not set yet.
    fn under(self, effects: &Effects) -> Self {
        let gate = effects.gate.unwrap_or_default();
        Self {
            precedence: self.precedence.or(effects.precedence),
            dscp: self.dscp.or(effects.dscp),
            qfi: self.qfi.or(effects.qfi),
            mbr: self.mbr.or(effects.mbr),
            gbr: self.gbr.or(effects.gbr),
            queue: self.queue.or(effects.queue),
            l4s: self.l4s.or(effects.l4s),
            gate_uplink: self.gate_uplink.or(gate.uplink.map(Gate::from)),
            gate_downlink: self.gate_downlink.or(gate.downlink.map(Gate::from)),
        }
    }

    /// Whether it sets a rate: then QERs are for all packets of the flow together.
    pub(super) fn has_rate(&self) -> bool {
        self.mbr.is_some() || self.gbr.is_some()
    }

    /// What becomes of a QER.
    pub(crate) fn of_qer(&self, qer: &Qer) -> Qer {
        let mut qer = qer.clone();
        qer.qfi = self.qfi.map(Qfi).or(qer.qfi);
        qer.mbr = self.mbr.map(BitRates::from).or(qer.mbr);
        qer.gate_uplink = self.gate_uplink.unwrap_or(qer.gate_uplink);
        qer.gate_downlink = self.gate_downlink.unwrap_or(qer.gate_downlink);
        qer.scheduling.queue = self.queue.unwrap_or(qer.scheduling.queue);
        qer.scheduling.l4s = self.l4s.unwrap_or(qer.scheduling.l4s);
        if let Some(gbr) = self.gbr.map(BitRates::from) {
            qer.gbr = Some(gbr);
            // More is promised than the SMF's MBR allows: the MBR gives way. A policy's own does not.
            if let (Some(mbr), None) = (&mut qer.mbr, self.mbr) {
                mbr.uplink_kbps = mbr.uplink_kbps.max(gbr.uplink_kbps);
                mbr.downlink_kbps = mbr.downlink_kbps.max(gbr.downlink_kbps);
            }
        }
        keep_gbr_within_mbr(&mut qer);
        qer
    }
}

/// A QER whose MBR is below its GBR is none (TS 29.244 validation refuses it).
pub(super) fn keep_gbr_within_mbr(qer: &mut Qer) {
    if let (Some(mbr), Some(gbr)) = (qer.mbr, &mut qer.gbr) {
        gbr.uplink_kbps = gbr.uplink_kbps.min(mbr.uplink_kbps);
        gbr.downlink_kbps = gbr.downlink_kbps.min(mbr.downlink_kbps);
    }
}

/// A QER that changes nothing.
pub(crate) fn blank_qer() -> Qer {
    Qer {
        id: QerId(0),
        correlation_id: None,
        gate_uplink: Gate::Open,
        gate_downlink: Gate::Open,
        mbr: None,
        gbr: None,
        qfi: None,
        rqi: false,
        ppi: None,
        averaging_window_ms: None,
        scheduling: Scheduling::default(),
    }
}
