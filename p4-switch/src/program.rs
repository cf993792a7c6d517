//! A compiled P4 program: immutable, shared by whoever runs it.
//!
//! BMv2 JSON is read once and becomes flat data: a layout of the packet state ([`layout`]), expressions over it
//! ([`expr`]), lists of operations ([`action`]), parser states ([`parser`]) and tables with the control flow between
//! them ([`table`]). Nothing in it is looked up by name once it is loaded.

pub(crate) mod action;
pub(crate) mod application;
pub(crate) mod ast;
pub(crate) mod code;
mod describe;
pub(crate) mod expr;
mod graph;
pub(crate) mod layout;
mod lists;
mod names;
pub(crate) mod native;
pub(crate) mod packing;
pub(crate) mod parser;
mod peephole;
pub(crate) mod slot;
mod standard;
pub(crate) mod table;
mod threading;

use std::sync::Arc;

use serde::de::Deserialize;
use thiserror::Error;

use crate::control::ProgramInfo;
use crate::externs::calculation::Calculation;
use crate::json::Node;
use action::{Action, ActionCompiler};
use code::Code;
use graph::Graph;
use layout::Layout;
pub(crate) use lists::{Checksum, Emit, FieldList, LearnList};
pub(crate) use names::Names;
use native::Headers;
use parser::Parser;
use slot::Slot;
pub(crate) use standard::{Errors, Standard};
use table::{Pipeline, Profile, Table, Tables};

/// Deepest nesting of JSON that is accepted.
const MAX_JSON_DEPTH: usize = 3000;

/// Stack of the thread that loads: expressions are compiled by recursion.
const LOADER_STACK: usize = 256 << 20;

/// Why a program could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {reason}")]
pub struct LoadError {
    /// Where in the JSON.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

impl LoadError {
    fn document(reason: impl ToString) -> Self {
        LoadError {
            place: "document".to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// A P4 program, compiled from p4c's BMv2 JSON.
#[derive(Debug)]
pub struct Program {
    pub(crate) info: Arc<ProgramInfo>,
    pub(crate) layout: Layout,
    pub(crate) names: Names,
    pub(crate) actions: Vec<Action>,
    pub(crate) calculations: Vec<Calculation>,
    pub(crate) parser: Parser,
    pub(crate) tables: Vec<Table>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) selectors: Vec<Calculation>,
    pub(crate) ingress: Pipeline,
    pub(crate) egress: Pipeline,
    pub(crate) code: Code,
    /// The order of packets within ingress can be seen: there are registers.
    pub(crate) ordered: bool,
    pub(crate) verify: Vec<Checksum>,
    pub(crate) update: Vec<Checksum>,
    pub(crate) deparser: Vec<Emit>,
    /// Parser and deparser as machine code.
    pub(crate) headers: Option<Headers>,
    pub(crate) field_lists: Vec<FieldList>,
    pub(crate) learn_lists: Vec<LearnList>,
    pub(crate) standard: Standard,
    pub(crate) errors: Errors,
    pub(crate) error_names: Vec<(String, u64)>,
}

/// How deeply the document's objects and arrays are nested, not counting what stands in strings.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut text, mut escaped) = (0usize, 0, false, false);
    for byte in json {
        match (text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => text = false,
            (true, _) => {}
            (false, b'"') => text = true,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl Program {
    /// Compiles BMv2 JSON (format 2.x, as `p4c-bm2-ss` writes it).
    pub fn from_json(json: &[u8]) -> Result<Self, LoadError> {
        if nesting(json) > MAX_JSON_DEPTH {
            return Err(LoadError::document("nested too deeply"));
        }
        std::thread::scope(|scope| {
            let loader = std::thread::Builder::new()
                .name("p4-loader".to_owned())
                .stack_size(LOADER_STACK);
            let thread = loader
                .spawn_scoped(scope, || Self::load(json))
                .map_err(LoadError::document)?;
            thread
                .join()
                .unwrap_or_else(|_| Err(LoadError::document("the loader failed")))
        })
    }

    fn load(json: &[u8]) -> Result<Self, LoadError> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        deserializer.disable_recursion_limit();
        let document = serde_json::Value::deserialize(&mut deserializer).map_err(LoadError::document)?;
        deserializer.end().map_err(LoadError::document)?;
        let root = Node::root(&document);
        let meta = root.get("__meta__");
        let version = meta.get("version");
        if !version.is_null() && version.at(0).usize()? != 2 {
            return Err(version.error("only version 2 of the format is known"));
        }
        let layout = Layout::load(&root)?;
        let mut names = Names::default();
        names.load_arrays(&root, &layout)?;
        let (errors, error_names) = standard::load_errors(&root.get("errors"))?;
        let mut calculations = Vec::new();
        for node in root.get("calculations").items()? {
            let name = node.get("name");
            calculations.push(Calculation::load(&node, &layout)?);
            names.calculations.push(name.str()?.to_owned());
        }
        let learn_lists = lists::load_learn_lists(&root.get("learn_lists"), &layout, &mut names)?;
        let field_lists = lists::load_field_lists(&root.get("field_lists"), &layout)?;
        let mut actions = Vec::new();
        for node in root.get("actions").items()? {
            let action = ActionCompiler::action(&layout, &names, &node)?;
            names.action_ids.insert(node.get("id").usize()?, actions.len());
            actions.push(action);
        }
        action::find_cells(&mut actions);
        names.actions = actions.iter().map(|a| a.name.clone()).collect();
        names.action_widths = actions.iter().map(|a| a.widths.clone()).collect();
        let parser = Parser::load(&root, &layout, &names)?;
        let mut tables = Tables::default();
        let (mut ingress, mut egress) = (None, None);
        for node in root.get("pipelines").items()? {
            let pipeline = tables.pipeline(&node, &layout, &names)?;
            match node.get("name").str()? {
                "ingress" => ingress = Some(pipeline),
                "egress" => egress = Some(pipeline),
                other => return Err(node.error(format_args!("a v1model switch has no pipeline {other:?}"))),
            }
        }
        let none = || Pipeline {
            flow: Vec::new(),
            start: table::END,
        };
        let (verify, update) = lists::load_checksums(&root.get("checksums"), &layout, &names)?;
        let deparser = lists::load_deparser(&root, &layout)?;
        let standard = Standard::load(&layout);
        let (ingress, egress) = (ingress.unwrap_or_else(none), egress.unwrap_or_else(none));
        let color = |table: &Table| table.meter.and_then(|m| names.direct_meters[m].target);
        let thread = |pipeline, zero: &[Slot]| {
            let graph = Graph::new(pipeline, &actions);
            threading::thread(graph, &actions, &tables.tables, &layout, zero, &color)
        };
        let zero = threading::zero_cells(&layout, &parser, &field_lists, &standard);
        let code = Code::new(
            &layout,
            &actions,
            &thread(&ingress, &zero),
            &thread(&egress, &[]),
            &tables.tables,
        );
        let mut program = Program {
            info: Arc::default(),
            code,
            headers: Headers::new(&parser, &deparser),
            ordered: !names.registers.is_empty(),
            actions,
            calculations,
            parser,
            tables: tables.tables,
            profiles: tables.profiles,
            selectors: tables.selectors,
            ingress,
            egress,
            verify,
            update,
            deparser,
            field_lists,
            learn_lists,
            standard,
            errors,
            error_names,
            layout,
            names,
        };
        program.info = Arc::new(program.describe());
        Ok(program)
    }
}
