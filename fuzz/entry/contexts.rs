//! One body of the context API and of Quality-On-Demand, and what must hold of any.

use upf_ctl::api::facts::{Checked, ShownFact, decode, decode_steps, parse_subject, subject_text};
use upf_ctl::api::qod::flows;
use upf_ctl::api::qod::types::CreateSession;

/// The time that lifetimes are counted from.
const NOW_MS: u64 = 1_700_000_000_000;

/// The first octet chooses the decoder. What is read names subjects that are written and read the same; what is refused
/// says why.
pub fn contexts(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    if choice % 3 == 2 {
        session(body);
        return;
    }
    match decode_steps(body, choice % 3 == 1, "somebody", NOW_MS) {
        Ok(steps) => steps.iter().for_each(sound),
        Err(refusal) => assert!(refusal.status.is_client_error() && !refusal.message.is_empty()),
    }
}

fn sound(step: &Checked) {
    let (about, key) = match step {
        Checked::Put(fact) => {
            assert!(fact.expires_ms.is_none_or(|at| at > NOW_MS));
            assert_eq!(ShownFact::from(fact).key, fact.key.as_str());
            (&fact.about, &fact.key)
        }
        Checked::Remove(about, key) => (about, key),
    };
    assert!(!key.as_str().starts_with("qod."));
    let (text, flow) = subject_text(about);
    assert_eq!(
        parse_subject(&text, flow.as_deref()).as_ref(),
        Ok(about),
        "{text} {flow:?}"
    );
}

fn session(body: &[u8]) {
    let Ok(request) = decode::<CreateSession>(body) else {
        return;
    };
    let written = serde_json::to_vec(&request).expect("it was read from JSON");
    let again = decode::<CreateSession>(&written).expect("it was written by us");
    assert_eq!(again.application_server, request.application_server);
    if request.check(NOW_MS).is_err() {
        return;
    }
    let Some(Ok((user, used))) = request.device.as_ref().map(flows::user) else {
        return;
    };
    assert!(used.check().is_ok());
    if let Ok(subjects) = flows::subjects(&request, &user) {
        assert!(!subjects.is_empty() && subjects.len() <= 2);
        for about in subjects {
            let (text, flow) = subject_text(&about);
            assert_eq!(parse_subject(&text, flow.as_deref()), Ok(about));
        }
    }
}
