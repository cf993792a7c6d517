//! Create QER and Update QER (TS 29.244 7.5.2.5, 7.5.4.5).

use super::Refusal;
use crate::{BitRates, Gate, Qer, QerId, Qfi, Scheduling, decoded, ie};

pub(super) fn id(qer: &decoded::Qer) -> Result<QerId, Refusal> {
    qer.id.map(QerId).ok_or_else(|| Refusal::missing(ie::QER_ID, "QER ID"))
}

pub(super) fn create(id: QerId, qer: &decoded::Qer) -> Result<Qer, Refusal> {
    Refusal::of_removed(&qer.removed)?;
    if qer.gate_status.is_none() {
        return Err(Refusal::missing(ie::GATE_STATUS, "Gate Status"));
    }
    // The gates are set below: nothing passes in between, but closed is the side to be wrong on.
    let blank = Qer {
        id,
        correlation_id: None,
        gate_uplink: Gate::Closed,
        gate_downlink: Gate::Closed,
        mbr: None,
        gbr: None,
        qfi: None,
        rqi: false,
        ppi: None,
        averaging_window_ms: None,
        scheduling: Scheduling::default(),
    };
    update(&blank, qer)
}

pub(super) fn update(current: &Qer, qer: &decoded::Qer) -> Result<Qer, Refusal> {
    Refusal::of_unsupported(&qer.unsupported)?;
    let mut new = current.clone();
    for &removed in &qer.removed {
        match removed {
            ie::QER_CORRELATION_ID => new.correlation_id = None,
            ie::MBR => new.mbr = None,
            ie::GBR => new.gbr = None,
            ie::QFI => new.qfi = None,
            ie::RQI => new.rqi = false,
            ie::PAGING_POLICY_INDICATOR => new.ppi = None,
            ie::AVERAGING_WINDOW => new.averaging_window_ms = None,
            other => return Err(Refusal::irremovable(other)),
        }
    }
    if let Some(gates) = qer.gate_status {
        new.gate_uplink = read_gate(gates >> 2, "uplink")?;
        new.gate_downlink = read_gate(gates, "downlink")?;
    }
    if let Some((uplink_kbps, downlink_kbps)) = qer.mbr {
        new.mbr = Some(BitRates {
            uplink_kbps,
            downlink_kbps,
        });
    }
    if let Some((uplink_kbps, downlink_kbps)) = qer.gbr {
        new.gbr = Some(BitRates {
            uplink_kbps,
            downlink_kbps,
        });
    }
    if let Some(qfi) = qer.qfi {
        new.qfi = Some(read_qfi(qfi)?);
    }
    if let Some(ppi) = qer.ppi {
        if ppi > 7 {
            return Err(Refusal::incorrect(
                ie::PAGING_POLICY_INDICATOR,
                format!("expected 0 to 7, found {ppi}"),
            ));
        }
        new.ppi = Some(ppi);
    }
    new.correlation_id = qer.correlation_id.or(new.correlation_id);
    new.rqi = qer.rqi.unwrap_or(new.rqi);
    new.averaging_window_ms = qer.averaging_window_ms.or(new.averaging_window_ms);

    // A meter cannot promise more than it lets through: its committed rate is the GBR, its peak rate the MBR.
    if let (Some(mbr), Some(gbr)) = (new.mbr, new.gbr)
        && (gbr.uplink_kbps > mbr.uplink_kbps || gbr.downlink_kbps > mbr.downlink_kbps)
    {
        let found = format!(
            "{}/{} over {}/{}",
            gbr.uplink_kbps, gbr.downlink_kbps, mbr.uplink_kbps, mbr.downlink_kbps
        );
        return Err(Refusal::incorrect(
            ie::GBR,
            format!("expected a GBR within the MBR, found {found} kbit/s"),
        ));
    }
    Ok(new)
}

/// 6 bits (8.2.89).
pub(super) fn read_qfi(qfi: u8) -> Result<Qfi, Refusal> {
    if qfi > 63 {
        return Err(Refusal::incorrect(ie::QFI, format!("expected 0 to 63, found {qfi}")));
    }
    Ok(Qfi(qfi))
}

/// The low two bits (8.2.7).
fn read_gate(bits: u8, direction: &str) -> Result<Gate, Refusal> {
    match bits & 0b11 {
        0 => Ok(Gate::Open),
        1 => Ok(Gate::Closed),
        other => Err(Refusal::incorrect(
            ie::GATE_STATUS,
            format!("expected 0 (open) or 1 (closed) for the {direction} gate, found {other}"),
        )),
    }
}
