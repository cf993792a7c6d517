//! One flow description, and what must hold of any.

use upf_model::IpFilterRule;

/// A rule that is read is written as one that reads the same.
pub fn ip_filter_rule(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<IpFilterRule>() {
        Ok(rule) => assert_eq!(rule.to_string().parse().as_ref(), Ok(&rule), "{text:?}"),
        Err(error) => assert!(error.position <= text.len() && !error.expected.is_empty()),
    }
}
