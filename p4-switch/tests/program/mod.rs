//! A switch with one of the test programs, and its objects by name.
#![allow(dead_code)]

use std::sync::Arc;

use p4_switch::control::{
    ActionCall, ActionId, ControlError, Entity, FieldMatch, ProgramInfo, Query, TableAction, TableEntry, TableId,
    Update,
};
use p4_switch::{Output, Program, Switch, SwitchConfig};

pub struct Loaded {
    pub switch: Switch,
    pub info: Arc<ProgramInfo>,
}

pub fn load(name: &str) -> Loaded {
    load_with(
        name,
        SwitchConfig {
            priority_queues: 8,
            cpu_port: Some(7),
            ..SwitchConfig::default()
        },
    )
}

pub fn load_with(name: &str, config: SwitchConfig) -> Loaded {
    let path = format!("{}/tests/programs/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let program = Program::from_json(&std::fs::read(path).unwrap()).unwrap();
    let switch = Switch::with_manual_clock(config);
    switch.load(Arc::new(program));
    let info = switch.info().unwrap();
    Loaded { switch, info }
}

/// A number's shortest big-endian form.
pub fn be(value: u128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    bytes[bytes.iter().position(|b| *b != 0).unwrap_or(15)..].to_vec()
}

pub fn exact(value: u128) -> FieldMatch {
    FieldMatch::Exact(be(value))
}

pub fn lpm(value: u128, prefix_len: usize) -> FieldMatch {
    FieldMatch::Lpm {
        value: be(value),
        prefix_len,
    }
}

pub fn ternary(value: u128, mask: u128) -> FieldMatch {
    FieldMatch::Ternary {
        value: be(value),
        mask: be(mask),
    }
}

pub fn range(low: u128, high: u128) -> FieldMatch {
    FieldMatch::Range {
        low: be(low),
        high: be(high),
    }
}

impl Loaded {
    pub fn table(&self, name: &str) -> TableId {
        self.info.table(&format!("TestIngress.{name}")).unwrap()
    }

    pub fn action(&self, table: TableId, name: &str) -> ActionId {
        let named = |n: &str| self.info.table_action(table, n);
        named(&format!("TestIngress.{name}")).or_else(|| named(name)).unwrap()
    }

    pub fn call(&self, table: TableId, action: &str, arguments: &[u128]) -> ActionCall {
        ActionCall {
            action: self.action(table, action),
            arguments: arguments.iter().map(|a| be(*a)).collect(),
        }
    }

    pub fn entry(
        &self,
        table: &str,
        key: &[FieldMatch],
        priority: i32,
        action: &str,
        arguments: &[u128],
    ) -> TableEntry {
        let table = self.table(table);
        TableEntry::new(
            table,
            key.to_vec(),
            priority,
            TableAction::Call(self.call(table, action, arguments)),
        )
    }

    pub fn write(&self, update: Update) -> Result<(), ControlError> {
        self.switch.write(&[update]).remove(0)
    }

    pub fn insert(&self, entity: Entity) {
        assert_eq!(self.write(Update::Insert(entity)), Ok(()));
    }

    pub fn modify(&self, entity: Entity) {
        assert_eq!(self.write(Update::Modify(entity)), Ok(()));
    }

    pub fn read(&self, query: &Query) -> Vec<Entity> {
        let mut found = Vec::new();
        self.switch.read(query, &mut |entity| found.push(entity)).unwrap();
        found
    }

    /// What comes out for a packet, which must be the same whether it is traced or not.
    pub fn inject(&self, port: u32, bytes: &[u8]) -> Vec<Output> {
        self.switch.inject(port, bytes)
    }
}
