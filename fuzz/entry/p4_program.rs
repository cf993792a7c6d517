//! BMv2 JSON, and packets through what it makes.

use std::sync::Arc;

use p4_switch::{Program, Switch, SwitchConfig};

/// A program is refused with a place and a reason, or it takes any packet.
pub fn p4_program(data: &[u8]) {
    match Program::from_json(data) {
        Err(error) => assert_ne!(error.reason, "the loader failed", "{}", String::from_utf8_lossy(data)),
        Ok(program) => {
            let switch = Switch::with_manual_clock(SwitchConfig::default());
            switch.load(Arc::new(program));
            for packet in [&[][..], &[0; 3], &[0xff; 64], &data[..data.len().min(100)]] {
                assert_eq!(
                    switch.inject(0, packet).is_empty(),
                    switch.trace(0, packet).0.is_empty()
                );
            }
        }
    }
}
