//! Lists of fields and headers: checksums, what copies keep, digests, and the order in which headers are emitted.

use super::ast::{Ast, HeaderRef, Reader};
use super::expr::{Compiler, Cond, Env};
use super::layout::{HeaderId, Layout};
use super::slot::Span;
use super::{LoadError, Names};
use crate::json::Node;

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

pub(super) fn load_field_lists(node: &Node, layout: &Layout) -> Result<Vec<FieldList>, LoadError> {
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

pub(super) fn load_learn_lists(node: &Node, layout: &Layout, names: &mut Names) -> Result<Vec<LearnList>, LoadError> {
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

pub(super) fn load_checksums(node: &Node, layout: &Layout, names: &Names) -> Result<Checksums, LoadError> {
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

pub(super) fn load_deparser(root: &Node, layout: &Layout) -> Result<Vec<Emit>, LoadError> {
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
