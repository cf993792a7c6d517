//! One policy file, and what must hold of any.

use qos::engine::Decision;
use qos::{Engine, Policies, SessionProfile, overlay};
use upf_model::{Seid, Session, SessionId};

/// A text is accepted, and then a session is decided and explained; or it is refused with problems that say where.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policies = match Policies::parse(text, "qos.yaml") {
        Ok(policies) => policies,
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            assert!(
                errors
                    .problems()
                    .iter()
                    .all(|p| !p.expected.is_empty() && p.source == "qos.yaml")
            );
            return;
        }
    };
    let base = Session {
        id: SessionId(1),
        seid: Seid(1),
        ..Session::default()
    };
    let profile = SessionProfile {
        id: base.id,
        seid: base.seid,
        ..SessionProfile::default()
    };
    let mut engine = Engine::new(policies);
    engine.put_session(profile, &base, 0);
    for now_ms in [0, 1, u64::MAX] {
        let decision = engine.decide(base.id, &base, now_ms);
        assert_eq!(
            overlay(&base, &decision).session,
            base,
            "a session without rules stays one"
        );
        assert_eq!(engine.explain(base.id, &base, now_ms).seid, 1);
        engine.advance(now_ms);
    }
    engine.replace_policies(Policies::empty(), 0);
    assert_eq!(engine.decide(base.id, &base, 0), Decision::default());
}
