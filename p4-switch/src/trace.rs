//! The trace of one packet: its way through parser, tables and ports, as data.

use num_bigint::BigInt;

use crate::control::{ActionId, FieldMatch, TableId, Value};
use crate::program::Program;
use crate::program::table::Table;
use crate::tables::MatchTable;
use crate::tables::matching::{Matcher, canonical};

/// A step of a packet's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It came in.
    Received {
        /// The port.
        port: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The parser went through a state.
    ParserState(String),
    /// A table was applied.
    Table {
        /// The table.
        table: TableId,
        /// Its name.
        name: String,
        /// What was looked up: the names of its key fields and the packet's values.
        key: Vec<(String, Value)>,
        /// The match and priority of the entry that was hit; none: a miss.
        hit: Option<(Vec<FieldMatch>, i64)>,
        /// What was done; none: nothing.
        action: Option<ActionId>,
        /// The action's name.
        action_name: String,
        /// Its arguments.
        arguments: Vec<Value>,
    },
    /// An action was called that belongs to no table with a key.
    Action(String),
    /// Egress began.
    Egress {
        /// The port.
        port: u32,
    },
    /// Something the switch did: dropped, cloned, replicated, resubmitted, a parser error.
    Note(String),
    /// It left.
    Sent {
        /// The port.
        port: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// The steps of a packet and its copies, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The steps.
    pub steps: Vec<Step>,
    /// What the table at hand is asked for.
    key: Vec<(String, Value)>,
}

impl Trace {
    pub(crate) fn received(&mut self, port: u32, bytes: &[u8]) {
        self.steps.push(Step::Received {
            port,
            bytes: bytes.to_vec(),
        });
    }

    pub(crate) fn state(&mut self, name: &str) {
        self.steps.push(Step::ParserState(name.to_owned()));
    }

    pub(crate) fn call(&mut self, name: &str) {
        self.steps.push(Step::Action(name.to_owned()));
    }

    pub(crate) fn note(&mut self, what: &str) {
        self.steps.push(Step::Note(what.to_owned()));
    }

    pub(crate) fn egress(&mut self, port: u32) {
        self.steps.push(Step::Egress { port });
    }

    pub(crate) fn sent(&mut self, port: u32, bytes: &[u8]) {
        self.steps.push(Step::Sent {
            port,
            bytes: bytes.to_vec(),
        });
    }

    /// A table is about to be asked for these key words.
    pub(crate) fn key(&mut self, table: &Table, words: &[u64]) {
        let value = |(_, chunks): &(usize, Vec<(usize, u32, usize)>)| {
            let chunk = |&(word, shift, width): &(usize, u32, usize)| words[word] >> shift & (u64::MAX >> (64 - width));
            canonical(
                &chunks
                    .iter()
                    .fold(BigInt::ZERO, |value, at| (value << at.2) | BigInt::from(chunk(at))),
            )
        };
        let values = table.key.fields.iter().map(value);
        self.key = table
            .fields
            .iter()
            .map(|field| field.name.clone())
            .zip(values)
            .collect();
    }

    pub(crate) fn table(
        &mut self,
        program: &Program,
        number: usize,
        entries: &MatchTable,
        row: Option<u32>,
        action: Option<usize>,
        arguments: &[u64],
    ) {
        let table = &program.tables[number];
        let hit = row.map(|row| {
            let cold = &entries.cold[row as usize];
            (Matcher::of(table).describe(&entries.spec(row)), cold.priority)
        });
        let action_name = action.map_or_else(String::new, |a| program.actions[a].name.clone());
        let arguments = action.map_or_else(Vec::new, |a| {
            crate::engine::read::arguments(&program.actions[a].packing, arguments)
                .iter()
                .map(canonical)
                .collect()
        });
        let action = action.map(|a| ActionId(a as u32));
        self.steps.push(Step::Table {
            table: TableId(number as u32),
            name: table.name.clone(),
            key: std::mem::take(&mut self.key),
            hit,
            action,
            action_name,
            arguments,
        });
    }
}
