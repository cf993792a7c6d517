//! A compiled P4 program: immutable, shared by whoever runs it.
//!
//! BMv2 JSON is read once and becomes flat data: a layout of the packet state ([`layout`]), expressions over it
//! ([`expr`]), lists of operations ([`action`]), parser states ([`parser`]) and tables with the control flow between
//! them ([`table`]). Nothing in it is looked up by name once it is loaded.

pub(crate) mod action;
pub(crate) mod application;
pub(crate) mod ast;
pub(crate) mod code;
pub(crate) mod expr;
mod graph;
pub(crate) mod layout;
pub(crate) mod native;
pub(crate) mod packing;
pub(crate) mod parser;
mod peephole;
pub(crate) mod slot;
pub(crate) mod table;
mod threading;

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::Deserialize;
use thiserror::Error;

use crate::control::{
    ActionId, ActionInfo, ActionProfileId, ActionProfileInfo, CounterInfo, DigestInfo, KeyInfo, MatchKind, MeterInfo,
    ParameterInfo, ProgramInfo, RegisterInfo, TableInfo, Unit, ValueSetInfo,
};
use crate::externs::calculation::Calculation;
use crate::json::Node;
use action::{Action, ActionCompiler};
use ast::{Ast, HeaderRef, Reader};
use code::Code;
use expr::{Compiler, Cond, Env};
use graph::Graph;
use layout::{HeaderId, Layout};
use native::Headers;
use parser::Parser;
use slot::{Slot, Span};
use table::{Pipeline, Profile, Table, Tables};

/// Deepest nesting of JSON that is accepted.
const MAX_JSON_DEPTH: usize = 3000;

/// Stack of the thread that loads: expressions are compiled by recursion.
const LOADER_STACK: usize = 256 << 20;

/// Most cells of one counter, meter or register array.
const MAX_ARRAY: usize = 1 << 28;

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

/// Names of what primitives refer to.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) counters: Vec<CounterInfo>,
    pub(crate) meters: Vec<MeterInfo>,
    pub(crate) registers: Vec<RegisterInfo>,
    pub(crate) direct_meters: Vec<DirectMeter>,
    direct_counters: HashMap<String, String>,
    pub(crate) calculations: Vec<String>,
    /// Ids of learn lists, in order.
    learn_lists: Vec<usize>,
    /// Names of actions, in order.
    pub(crate) actions: Vec<String>,
    pub(crate) action_widths: Vec<Vec<usize>>,
    action_ids: HashMap<usize, usize>,
}

/// A direct meter and the field that gets the colour.
#[derive(Debug, Clone)]
pub(crate) struct DirectMeter {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) target: Option<Slot>,
}

fn named<T>(items: &[T], node: &Node, what: &str, name: impl Fn(&T) -> &str) -> Result<u32, LoadError> {
    let wanted = node.str()?;
    match items.iter().position(|item| name(item) == wanted) {
        Some(index) => Ok(index as u32),
        None => Err(node.error(format_args!("there is no {what} {wanted}"))),
    }
}

impl Names {
    pub(crate) fn counter(&self, node: &Node) -> Result<u32, LoadError> {
        named(&self.counters, node, "counter array", |c| &c.name)
    }

    pub(crate) fn meter(&self, node: &Node) -> Result<u32, LoadError> {
        named(&self.meters, node, "meter array", |m| &m.name)
    }

    pub(crate) fn register(&self, node: &Node) -> Result<u32, LoadError> {
        named(&self.registers, node, "register array", |r| &r.name)
    }

    pub(crate) fn direct_meter(&self, node: &Node) -> Result<usize, LoadError> {
        named(&self.direct_meters, node, "direct meter", |m| &m.name).map(|i| i as usize)
    }

    pub(crate) fn calculation(&self, node: &Node) -> Result<u32, LoadError> {
        named(&self.calculations, node, "calculation", |c| c)
    }

    pub(crate) fn learn_list(&self, node: &Node, id: u32) -> Result<u32, LoadError> {
        match self.learn_lists.iter().position(|l| *l == id as usize) {
            Some(index) => Ok(index as u32),
            None => Err(node.error(format_args!("there is no learn list {id}"))),
        }
    }

    pub(crate) fn action(&self, node: &Node) -> Result<usize, LoadError> {
        let id = node.usize()?;
        self.action_ids
            .get(&id)
            .copied()
            .ok_or_else(|| node.error(format_args!("there is no action {id}")))
    }

    pub(crate) fn action_named(&self, node: &Node) -> Result<usize, LoadError> {
        named(&self.actions, node, "action", |a| a).map(|i| i as usize)
    }

    fn load_arrays(&mut self, root: &Node, layout: &Layout) -> Result<(), LoadError> {
        let size = |node: &Node| -> Result<usize, LoadError> {
            let size = node.get("size");
            let cells = size.usize()?;
            if cells > MAX_ARRAY {
                Err(size.error("array is too large"))
            } else {
                Ok(cells)
            }
        };
        for node in root.get("counter_arrays").items()? {
            let name = node.get("name").str()?.to_owned();
            if node.get("is_direct").bool_or(false)? {
                let binding = node.get("binding");
                self.direct_counters.insert(binding.str()?.to_owned(), name);
            } else {
                self.counters.push(CounterInfo {
                    name,
                    size: size(&node)?,
                });
            }
        }
        for node in root.get("meter_arrays").items()? {
            let name = node.get("name").str()?.to_owned();
            let unit = match node.get("type").str()? {
                "bytes" => Unit::Bytes,
                _ => Unit::Packets,
            };
            if node.get("is_direct").bool_or(false)? {
                let result = node.get("result_target");
                let target = if result.is_null() {
                    None
                } else {
                    let header = layout.header(&result.at(0))?;
                    let field = layout.field(header, &result.at(1))?;
                    layout.slot(header, field)
                };
                self.direct_meters.push(DirectMeter { name, unit, target });
            } else {
                self.meters.push(MeterInfo {
                    name,
                    size: size(&node)?,
                    unit,
                });
            }
        }
        for node in root.get("register_arrays").items()? {
            let name = node.get("name").str()?.to_owned();
            let bitwidth = node.get("bitwidth").usize()?;
            let cells = size(&node)?;
            if bitwidth > 1 << 16 || bitwidth.div_ceil(64).saturating_mul(cells) > MAX_ARRAY {
                return Err(node.error("register array is too large"));
            }
            self.registers.push(RegisterInfo {
                name,
                size: cells,
                bitwidth,
            });
        }
        Ok(())
    }
}

/// Fields that the switch itself reads and writes; absent if the program has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standard {
    pub(crate) ingress_port: Option<Slot>,
    pub(crate) egress_spec: Option<Slot>,
    pub(crate) egress_port: Option<Slot>,
    pub(crate) instance_type: Option<Slot>,
    pub(crate) packet_length: Option<Slot>,
    pub(crate) checksum_error: Option<Slot>,
    pub(crate) parser_error: Option<Slot>,
    pub(crate) mcast_grp: Option<Slot>,
    pub(crate) egress_rid: Option<Slot>,
    pub(crate) ingress_timestamp: Option<Slot>,
    pub(crate) egress_timestamp: Option<Slot>,
    pub(crate) enq_timestamp: Option<Slot>,
    pub(crate) enq_qdepth: Option<Slot>,
    pub(crate) deq_timedelta: Option<Slot>,
    pub(crate) deq_qdepth: Option<Slot>,
    pub(crate) qid: Option<Slot>,
    pub(crate) priority: Option<Slot>,
}

impl Standard {
    /// Those that the program has.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        let all = [
            self.ingress_port,
            self.egress_spec,
            self.egress_port,
            self.instance_type,
            self.packet_length,
            self.checksum_error,
            self.parser_error,
            self.mcast_grp,
            self.egress_rid,
            self.ingress_timestamp,
            self.egress_timestamp,
            self.enq_timestamp,
            self.enq_qdepth,
            self.deq_timedelta,
            self.deq_qdepth,
            self.qid,
            self.priority,
        ];
        all.into_iter().flatten()
    }

    fn load(layout: &Layout) -> Self {
        let of = |name: &str| layout.well_known(name);
        let either = |name: &str, other: &str| of(name).or_else(|| of(other));
        Standard {
            ingress_port: of("standard_metadata.ingress_port"),
            egress_spec: of("standard_metadata.egress_spec"),
            egress_port: of("standard_metadata.egress_port"),
            instance_type: of("standard_metadata.instance_type"),
            packet_length: of("standard_metadata.packet_length"),
            checksum_error: of("standard_metadata.checksum_error"),
            parser_error: of("standard_metadata.parser_error"),
            mcast_grp: either("intrinsic_metadata.mcast_grp", "standard_metadata.mcast_grp"),
            egress_rid: either("intrinsic_metadata.egress_rid", "standard_metadata.egress_rid"),
            ingress_timestamp: either(
                "intrinsic_metadata.ingress_global_timestamp",
                "standard_metadata.ingress_global_timestamp",
            ),
            egress_timestamp: either(
                "intrinsic_metadata.egress_global_timestamp",
                "standard_metadata.egress_global_timestamp",
            ),
            enq_timestamp: either("queueing_metadata.enq_timestamp", "standard_metadata.enq_timestamp"),
            enq_qdepth: either("queueing_metadata.enq_qdepth", "standard_metadata.enq_qdepth"),
            deq_timedelta: either("queueing_metadata.deq_timedelta", "standard_metadata.deq_timedelta"),
            deq_qdepth: either("queueing_metadata.deq_qdepth", "standard_metadata.deq_qdepth"),
            qid: of("queueing_metadata.qid"),
            priority: either("intrinsic_metadata.priority", "standard_metadata.priority"),
        }
    }
}

/// Values of the core library's parser errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errors {
    pub(crate) no_error: u64,
    pub(crate) packet_too_short: u64,
    pub(crate) stack_out_of_bounds: u64,
    pub(crate) header_too_short: u64,
    pub(crate) parser_timeout: u64,
    pub(crate) parser_invalid_argument: u64,
}

/// A checksum that is verified or updated.
#[derive(Debug)]
pub(crate) struct Checksum {
    pub(crate) target: Span,
    /// Byte of the target header's validity.
    pub(crate) valid: u32,
    pub(crate) calculation: u32,
    pub(crate) condition: Option<Cond>,
}

impl Checksum {
    /// Whether its condition holds, if it has one.
    pub(crate) fn applies(&self, phv: &[u8], layout: &Layout, ahead: &[u8]) -> bool {
        let env = Env {
            layout,
            params: &[],
            widths: &[],
            ahead,
        };
        self.condition
            .as_ref()
            .is_none_or(|condition| condition.eval(phv, &env))
    }
}

/// Fields that a clone, a resubmitted or a recirculated packet keeps.
#[derive(Debug)]
pub(crate) struct FieldList {
    pub(crate) id: u64,
    pub(crate) spans: Vec<Span>,
}

/// A digest's fields.
#[derive(Debug)]
pub(crate) struct LearnList {
    pub(crate) name: String,
    pub(crate) spans: Vec<Span>,
}

/// A header that the deparser emits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Emit {
    pub(crate) header: HeaderId,
    /// Byte of its validity.
    pub(crate) valid: u32,
    pub(crate) base: u32,
    /// Bytes; of a header with a varbit the fixed part.
    pub(crate) bytes: u32,
    pub(crate) varbit: bool,
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
        let (errors, error_names) = load_errors(&root.get("errors"))?;
        let mut calculations = Vec::new();
        for node in root.get("calculations").items()? {
            let name = node.get("name");
            calculations.push(Calculation::load(&node, &layout)?);
            names.calculations.push(name.str()?.to_owned());
        }
        let learn_lists = load_learn_lists(&root.get("learn_lists"), &layout, &mut names)?;
        let field_lists = load_field_lists(&root.get("field_lists"), &layout)?;
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
        let (verify, update) = load_checksums(&root.get("checksums"), &layout, &names)?;
        let deparser = load_deparser(&root, &layout)?;
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

    /// What it offers to a controller.
    pub fn info(&self) -> &ProgramInfo {
        &self.info
    }

    fn describe(&self) -> ProgramInfo {
        let tables: Vec<TableInfo> = self
            .tables
            .iter()
            .map(|t| TableInfo {
                name: t.name.clone(),
                key: t
                    .fields
                    .iter()
                    .map(|f| KeyInfo {
                        name: f.name.clone(),
                        bitwidth: f.width,
                        kind: f.kind,
                    })
                    .collect(),
                actions: t.actions.iter().map(|a| ActionId(a.action as u32)).collect(),
                max_size: t.max_size,
                needs_priority: t
                    .fields
                    .iter()
                    .any(|f| matches!(f.kind, MatchKind::Ternary | MatchKind::Range | MatchKind::Optional)),
                const_entries: t.const_entries,
                const_default: t.const_default,
                action_profile: t.profile.map(|p| ActionProfileId(p as u32)),
                direct_counter: t.counters.then(|| {
                    self.names
                        .direct_counters
                        .get(&t.name)
                        .cloned()
                        .unwrap_or_else(|| t.name.clone())
                }),
                direct_meter: t.meter.map(|m| {
                    let meter = &self.names.direct_meters[m];
                    (meter.name.clone(), meter.unit)
                }),
                idle_timeout: t.timeouts,
            })
            .collect();
        let action_profiles = self
            .profiles
            .iter()
            .enumerate()
            .map(|(i, p)| ActionProfileInfo {
                name: p.name.clone(),
                max_size: p.max_size,
                selector: p.selector.is_some(),
                tables: (0..self.tables.len() as u32)
                    .filter(|t| self.tables[*t as usize].profile == Some(i))
                    .map(crate::control::TableId)
                    .collect(),
            })
            .collect();
        ProgramInfo {
            tables,
            actions: self
                .actions
                .iter()
                .map(|a| ActionInfo {
                    name: a.name.clone(),
                    parameters: a
                        .parameters
                        .iter()
                        .zip(&a.widths)
                        .map(|(name, width)| ParameterInfo {
                            name: name.clone(),
                            bitwidth: *width,
                        })
                        .collect(),
                })
                .collect(),
            action_profiles,
            counters: self.names.counters.clone(),
            meters: self.names.meters.clone(),
            registers: self.names.registers.clone(),
            digests: self
                .learn_lists
                .iter()
                .map(|l| DigestInfo {
                    name: l.name.clone(),
                    bitwidths: l.spans.iter().map(|s| s.width as usize).collect(),
                })
                .collect(),
            value_sets: self
                .parser
                .value_sets
                .iter()
                .map(|v| ValueSetInfo {
                    name: v.name.clone(),
                    bitwidth: v.bitwidth,
                    fields: v.key.fields.iter().map(|(width, _)| *width).collect(),
                    max_size: v.max_size,
                })
                .collect(),
        }
    }
}

fn load_errors(node: &Node) -> Result<(Errors, Vec<(String, u64)>), LoadError> {
    let mut names = Vec::new();
    for error in node.items()? {
        names.push((error.at(0).str()?.to_owned(), error.at(1).usize()? as u64));
    }
    // What the program does not declare gets a value that nothing else has, as in BMv2.
    let of = |name: &str, spare: u64| names.iter().find(|(n, _)| n == name).map_or(spare, |(_, value)| *value);
    let spare = names.iter().map(|(_, value)| value + 1).max().unwrap_or(1);
    let errors = Errors {
        no_error: of("NoError", 0),
        packet_too_short: of("PacketTooShort", spare),
        stack_out_of_bounds: of("StackOutOfBounds", spare + 1),
        header_too_short: of("HeaderTooShort", spare + 2),
        parser_timeout: of("ParserTimeout", spare + 3),
        parser_invalid_argument: of("ParserInvalidArgument", spare + 4),
    };
    Ok((errors, names))
}

fn load_field_lists(node: &Node, layout: &Layout) -> Result<Vec<FieldList>, LoadError> {
    let mut lists = Vec::new();
    for list in node.items()? {
        let mut spans = Vec::new();
        for element in list.get("elements").items()? {
            let value = element.get("value");
            if element.get("type").str()? == "field" {
                let header = layout.header(&value.at(0))?;
                let field = layout.field(header, &value.at(1))?;
                spans.push(layout.span(header, field));
            }
        }
        spans.retain(|s| s.width > 0);
        lists.push(FieldList {
            id: list.get("id").usize()? as u64,
            spans,
        });
    }
    Ok(lists)
}

fn load_learn_lists(node: &Node, layout: &Layout, names: &mut Names) -> Result<Vec<LearnList>, LoadError> {
    let mut lists = Vec::new();
    let reader = Reader { layout, params: &[] };
    for list in node.items()? {
        let mut learn = LearnList {
            name: list.get("name").str()?.to_owned(),
            spans: Vec::new(),
        };
        for element in list.get("elements").items()? {
            match reader.read(&element)? {
                Ast::Field(HeaderRef::Fixed(id), field) => learn.spans.push(layout.span(id, field)),
                Ast::ValidBit(HeaderRef::Fixed(id)) => {
                    learn.spans.push(layout.headers[id.0].valid_bit());
                }
                _ => return Err(element.error("a digest consists of fields")),
            }
        }
        names.learn_lists.push(list.get("id").usize()?);
        lists.push(learn);
    }
    Ok(lists)
}

type Checksums = (Vec<Checksum>, Vec<Checksum>);

fn load_checksums(node: &Node, layout: &Layout, names: &Names) -> Result<Checksums, LoadError> {
    let (mut verify, mut update) = (Vec::new(), Vec::new());
    let reader = Reader { layout, params: &[] };
    let compiler = Compiler { layout, params: &[] };
    for item in node.items()? {
        let target = item.get("target");
        let header = layout.header(&target.at(0))?;
        let field = layout.field(header, &target.at(1))?;
        let kind = item.get("type");
        if kind.str()? != "generic" {
            return Err(kind.error("only generic checksums are known"));
        }
        let calculation = names.calculation(&item.get("calculation"))?;
        let condition = item.get("if_cond");
        let build = || -> Result<Checksum, LoadError> {
            Ok(Checksum {
                target: layout.span(header, field),
                valid: layout.headers[header.0].valid as u32,
                calculation,
                condition: if condition.is_null() {
                    None
                } else {
                    Some(compiler.condition(&reader.condition(&condition)?)).filter(|c| !matches!(c, Cond::Const(true)))
                },
            })
        };
        if item.get("verify").bool_or(true)? {
            verify.push(build()?);
        }
        if item.get("update").bool_or(true)? {
            update.push(build()?);
        }
    }
    Ok((verify, update))
}

fn load_deparser(root: &Node, layout: &Layout) -> Result<Vec<Emit>, LoadError> {
    let deparsers = root.get("deparsers");
    let node = deparsers.at(0);
    let order = node.get("order");
    let mut emits = Vec::new();
    for name in order.items()? {
        let header = layout.header(&name)?;
        let at = &layout.headers[header.0];
        if at.metadata {
            return Err(name.error("metadata is not emitted"));
        }
        let kind = layout.type_of(header);
        emits.push(Emit {
            header,
            valid: at.valid as u32,
            base: at.base as u32,
            bytes: kind.fixed_bits() as u32 / 8,
            varbit: kind.varbit.is_some(),
        });
    }
    Ok(emits)
}
