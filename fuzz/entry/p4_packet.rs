//! Any bytes as a packet, through a program with stacks, unions, varbits and look-ahead.

use std::cell::OnceCell;
use std::sync::Arc;

use p4_switch::{Program, Switch, SwitchConfig};

thread_local! {
    static SWITCH: OnceCell<Switch> = const { OnceCell::new() };
}

/// A packet leaves at most once, and the same way whether it is traced or not.
pub fn p4_packet(data: &[u8]) {
    SWITCH.with(|cell| {
        let switch = cell.get_or_init(|| {
            let json = include_bytes!("../../p4-switch/tests/programs/parsing.json");
            let switch = Switch::with_manual_clock(SwitchConfig::default());
            switch.load(Arc::new(Program::from_json(json).expect("the test program")));
            switch
        });
        let outputs = switch.inject(0, data);
        assert!(outputs.len() <= 1);
        assert_eq!(outputs, switch.trace(0, data).0);
    });
}
