//! One configuration file, and what must hold of any.

use upf_config::ConfigError;

/// A text is accepted and then has no problems, or is refused with problems that say what was expected.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match upf_config::parse(text, "upf.yaml") {
        Ok(config) => assert!(upf_config::validate(&config).is_empty()),
        Err(error @ ConfigError::Invalid(_)) => {
            assert!(!error.problems().is_empty());
            assert!(!error.to_string().is_empty());
        }
        Err(ConfigError::Read { .. }) => unreachable!("nothing is read from a file"),
    }
}
