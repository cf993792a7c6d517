//! Create URR and Update URR (TS 29.244 7.5.2.4, 7.5.4.4).
//!
//! Usage is reported when a URR or its session ends, when it is queried, when a volume or time threshold is
//! reached, and periodically. Whatever asks for a report at another time, or for a quota to be enforced, is
//! refused, as long as nothing here would do it.

use super::Refusal;
use crate::{MeasurementMethod, Reporting, ReportingTriggers, Urr, UrrId, VolumeThreshold, decoded, ie};
use std::num::{NonZeroU32, NonZeroU64};

// Measurement Method (8.2.40).
const DURAT: u8 = 1 << 0;
const VOLUM: u8 = 1 << 1;
const EVENT: u8 = 1 << 2;

// Measurement Information (8.2.96).
const MBQE: u8 = 1 << 0;
const RADI: u8 = 1 << 2;
const MNOP: u8 = 1 << 4;

// Reporting Triggers (8.2.19), first octet in the low byte.
const PERIO: u32 = 1 << 0;
const VOLTH: u32 = 1 << 1;
const TIMTH: u32 = 1 << 2;

/// Triggers that hold without our doing anything, because what they report
/// on cannot happen here: LIUSA (no URR is linked: Linked URR ID is refused), MACAR (no Ethernet sessions),
/// IPMJL (no multicast).
const IDLE_TRIGGERS: u32 = 1 << 7 | 1 << 11 | 1 << 14;

pub(super) fn id(urr: &decoded::Urr) -> Result<UrrId, Refusal> {
    urr.id.map(UrrId).ok_or_else(|| Refusal::missing(ie::URR_ID, "URR ID"))
}

pub(super) fn create(id: UrrId, urr: &decoded::Urr) -> Result<Urr, Refusal> {
    Refusal::of_removed(&urr.removed)?;
    Refusal::of_unsupported(&urr.unsupported)?;
    let method = urr
        .measurement_method
        .ok_or_else(|| Refusal::missing(ie::MEASUREMENT_METHOD, "Measurement Method"))?;
    if urr.reporting_triggers.is_none() {
        return Err(Refusal::missing(ie::REPORTING_TRIGGERS, "Reporting Triggers"));
    }
    let blank = Urr {
        id,
        method: read_method(method)?,
        before_qos: false,
        reporting: Reporting::default(),
    };
    changed(blank, urr)
}

pub(super) fn update(current: &Urr, urr: &decoded::Urr) -> Result<Urr, Refusal> {
    Refusal::of_unsupported(&urr.unsupported)?;
    let mut new = current.clone();
    for &removed in &urr.removed {
        match removed {
            ie::MEASUREMENT_INFORMATION => {
                new.before_qos = false;
                new.reporting.packets = false;
            }
            ie::VOLUME_THRESHOLD => new.reporting.volume_threshold = None,
            ie::TIME_THRESHOLD => new.reporting.time_threshold_s = None,
            ie::MEASUREMENT_PERIOD => new.reporting.measurement_period_s = None,
            other => return Err(Refusal::irremovable(other)),
        }
    }
    changed(new, urr)
}

/// What is in the message replaces what was, the rest stays; then the whole must make sense.
fn changed(mut new: Urr, urr: &decoded::Urr) -> Result<Urr, Refusal> {
    if let Some(method) = urr.measurement_method {
        new.method = read_method(method)?;
    }
    if let Some(information) = urr.measurement_information {
        (new.before_qos, new.reporting.packets) = read_information(information)?;
    }
    if let Some(triggers) = urr.reporting_triggers {
        new.reporting.triggers = read_triggers(triggers)?;
    }
    if let Some(threshold) = urr.volume_threshold {
        new.reporting.volume_threshold = read_volume_threshold(threshold);
    }
    if let Some(seconds) = urr.time_threshold {
        new.reporting.time_threshold_s = NonZeroU32::new(seconds);
    }
    if let Some(seconds) = urr.measurement_period {
        new.reporting.measurement_period_s = NonZeroU32::new(seconds);
    }
    check_reporting(&new, urr)?;
    Ok(new)
}

fn read_method(flags: u8) -> Result<MeasurementMethod, Refusal> {
    let method = MeasurementMethod {
        volume: flags & VOLUM != 0,
        duration: flags & DURAT != 0,
        event: flags & EVENT != 0,
    };
    if !(method.volume || method.duration || method.event) {
        return Err(Refusal::incorrect(
            ie::MEASUREMENT_METHOD,
            "expected at least one of DURAT, VOLUM and EVENT",
        ));
    }
    Ok(method)
}

fn read_triggers(triggers: u32) -> Result<ReportingTriggers, Refusal> {
    match triggers & !(IDLE_TRIGGERS | PERIO | VOLTH | TIMTH) {
        0 => Ok(ReportingTriggers {
            periodic: triggers & PERIO != 0,
            volume_threshold: triggers & VOLTH != 0,
            time_threshold: triggers & TIMTH != 0,
        }),
        other => Err(Refusal::unsupported(
            ie::REPORTING_TRIGGERS,
            format!("PERIO, VOLTH and TIMTH are supported, found triggers {other:#08x} besides (octet 5 lowest)"),
        )),
    }
}

/// `None` if it sets no threshold, or one of zero, which every moment would reach: that is refused if VOLTH
/// asks to act on it.
fn read_volume_threshold(threshold: decoded::VolumeThreshold) -> Option<VolumeThreshold> {
    let values = [threshold.total, threshold.uplink, threshold.downlink];
    if values.contains(&Some(0)) || values == [None; 3] {
        return None;
    }
    Some(VolumeThreshold {
        total: threshold.total.and_then(NonZeroU64::new),
        uplink: threshold.uplink.and_then(NonZeroU64::new),
        downlink: threshold.downlink.and_then(NonZeroU64::new),
    })
}

/// Each trigger needs its threshold, and that what the threshold is of is measured (table 7.5.2.4-1).
fn check_reporting(new: &Urr, urr: &decoded::Urr) -> Result<(), Refusal> {
    let Reporting {
        triggers,
        volume_threshold,
        time_threshold_s,
        measurement_period_s,
        packets: _,
    } = new.reporting;
    let needs = [
        (
            triggers.volume_threshold && volume_threshold.is_none(),
            urr.volume_threshold.is_some(),
            ie::VOLUME_THRESHOLD,
            "VOLTH needs a Volume Threshold above 0",
        ),
        (
            triggers.time_threshold && time_threshold_s.is_none(),
            urr.time_threshold.is_some(),
            ie::TIME_THRESHOLD,
            "TIMTH needs a Time Threshold above 0",
        ),
        (
            triggers.periodic && measurement_period_s.is_none(),
            urr.measurement_period.is_some(),
            ie::MEASUREMENT_PERIOD,
            "PERIO needs a Measurement Period above 0",
        ),
    ];
    for (lacking, given, ie, message) in needs {
        match (lacking, given) {
            (false, _) => {}
            (true, false) => return Err(Refusal::conditional(ie, message)),
            (true, true) => return Err(Refusal::incorrect(ie, message)),
        }
    }
    if triggers.volume_threshold && !new.method.volume || triggers.time_threshold && !new.method.duration {
        return Err(Refusal::incorrect(
            ie::REPORTING_TRIGGERS,
            "VOLTH needs the measurement method VOLUM, TIMTH needs DURAT",
        ));
    }
    Ok(())
}

/// MBQE and MNOP. RADI is taken because no application is detected that could be reported on.
fn read_information(flags: u8) -> Result<(bool, bool), Refusal> {
    match flags & !(MBQE | RADI | MNOP) {
        0 => Ok((flags & MBQE != 0, flags & MNOP != 0)),
        other => Err(Refusal::unsupported(
            ie::MEASUREMENT_INFORMATION,
            format!("MBQE, RADI and MNOP are supported, found {other:#04x} besides"),
        )),
    }
}
