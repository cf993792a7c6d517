//! Create URR and Update URR (TS 29.244 7.5.2.4, 7.5.4.4).
//!
//! Usage is reported when a URR or its session ends and when it is queried. Whatever asks for a report at
//! another time is refused, as long as nothing here would send it.

use super::Refusal;
use crate::{MeasurementMethod, Urr, UrrId, decoded, ie};

// Measurement Method (8.2.40).
const DURAT: u8 = 1 << 0;
const VOLUM: u8 = 1 << 1;
const EVENT: u8 = 1 << 2;

// Measurement Information (8.2.96).
const MBQE: u8 = 1 << 0;
const RADI: u8 = 1 << 2;
const MNOP: u8 = 1 << 4;

/// Triggers that hold without our doing anything (8.2.19, first octet in the low byte), because what they report
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
    let triggers = urr
        .reporting_triggers
        .ok_or_else(|| Refusal::missing(ie::REPORTING_TRIGGERS, "Reporting Triggers"))?;
    check_triggers(triggers)?;
    let before_qos = urr.measurement_information.map_or(Ok(false), read_information)?;
    Ok(Urr {
        id,
        method: read_method(method)?,
        before_qos,
    })
}

pub(super) fn update(current: &Urr, urr: &decoded::Urr) -> Result<Urr, Refusal> {
    Refusal::of_unsupported(&urr.unsupported)?;
    let mut new = current.clone();
    for &removed in &urr.removed {
        match removed {
            ie::MEASUREMENT_INFORMATION => new.before_qos = false,
            other => return Err(Refusal::irremovable(other)),
        }
    }
    if let Some(method) = urr.measurement_method {
        new.method = read_method(method)?;
    }
    if let Some(triggers) = urr.reporting_triggers {
        check_triggers(triggers)?;
    }
    if let Some(information) = urr.measurement_information {
        new.before_qos = read_information(information)?;
    }
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

fn check_triggers(triggers: u32) -> Result<(), Refusal> {
    match triggers & !IDLE_TRIGGERS {
        0 => Ok(()),
        active => Err(Refusal::unsupported(
            ie::REPORTING_TRIGGERS,
            format!("usage is reported at the end and on query only, found triggers {active:#08x} (octet 5 lowest)"),
        )),
    }
}

/// MBQE is kept. MNOP is taken because packets are counted in any case, and RADI because no application is
/// detected that could be reported on.
fn read_information(flags: u8) -> Result<bool, Refusal> {
    match flags & !(MBQE | RADI | MNOP) {
        0 => Ok(flags & MBQE != 0),
        other => Err(Refusal::unsupported(
            ie::MEASUREMENT_INFORMATION,
            format!("MBQE, RADI and MNOP are supported, found {other:#04x} besides"),
        )),
    }
}
