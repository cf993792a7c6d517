//! The usual session established, and what becomes of it.

use super::Controller;
use super::requests::usual;
use upf_model::decoded::{Pdi, Pdr, SessionRequest};
use upf_model::validate::{Cause, FailedRule, Plan, Refusal, RuleKind, establish, modify};
use upf_model::{Seid, Session, SessionId};

pub fn try_establish(request: &SessionRequest) -> Result<(Plan, Controller), Refusal> {
    let mut controller = Controller::new();
    establish(&mut controller, SessionId(4), Seid(44), request).map(|plan| (plan, controller))
}

pub fn established() -> (Session, Controller) {
    let (plan, controller) = try_establish(&usual()).unwrap();
    (plan.session, controller)
}

/// Cause, offending IE and failed rule of the refusal.
pub type Fault = (Cause, Option<u16>, Option<(RuleKind, u32)>);

pub fn fault(refusal: Refusal) -> Fault {
    (
        refusal.cause,
        refusal.offending_ie,
        refusal.failed_rule.map(|FailedRule { kind, id }| (kind, id)),
    )
}

/// Why an establishment is refused that differs from the usual one.
pub fn refused(change: impl FnOnce(&mut SessionRequest)) -> Fault {
    let mut request = usual();
    change(&mut request);
    fault(try_establish(&request).expect_err("accepted"))
}

/// Why a modification of the usual session is refused.
pub fn modification_refused(request: SessionRequest) -> Fault {
    let (session, mut controller) = established();
    fault(modify(&mut controller, &session, &request).expect_err("accepted"))
}

pub fn modified(session: &Session, controller: &mut Controller, request: SessionRequest) -> Plan {
    let plan = modify(controller, session, &request).unwrap();
    controller.assert_holds(&plan.session);
    plan
}

pub fn pdi(pdr: &mut Pdr) -> &mut Pdi {
    pdr.pdi.as_mut().unwrap()
}
