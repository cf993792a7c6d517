//! The packet state's layout: where each header, stack, union and metadata field stands in one flat byte array.
//!
//! ```text
//! validity, one byte a header │ next index, one byte a stack │ varbit lengths │ scratch │ metadata │ headers │ padding
//! ```
//! Elements of a stack stand side by side, and so do the members of a union and the unions of a stack: a run-time index
//! is a multiplication. A header with a varbit field reserves its greatest length; the present length of the varbit is
//! kept apart.

use std::collections::HashMap;

use super::LoadError;
use super::slot::{PADDING, Slot, Span};
use crate::json::Node;

/// Position in [`Layout::headers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HeaderId(pub(crate) usize);

/// Position in [`Layout::stacks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StackId(pub(crate) usize);

/// Position in [`Layout::unions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct UnionId(pub(crate) usize);

/// Intermediate values that one action may have.
const SCRATCH: usize = 8;

/// Widest packet state that is accepted, in bytes.
const MAX_STATE: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct FieldInfo {
    pub(crate) name: String,
    /// Width in bits; of a varbit the greatest.
    pub(crate) width: usize,
    pub(crate) signed: bool,
    /// Bits from the beginning of the header.
    pub(crate) offset: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct HeaderType {
    pub(crate) name: String,
    pub(crate) fields: Vec<FieldInfo>,
    /// Which field is variable.
    pub(crate) varbit: Option<usize>,
    /// Bits of all fields, a varbit at its greatest.
    pub(crate) bits: usize,
    /// P4-14: the varbit's length is an expression of the header's own fields.
    pub(crate) has_length_expression: bool,
}

impl HeaderType {
    /// Bits of the fields that are always there.
    pub(crate) fn fixed_bits(&self) -> usize {
        self.bits - self.varbit.map_or(0, |v| self.fields[v].width)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) header_type: usize,
    pub(crate) metadata: bool,
    /// Byte of its validity.
    pub(crate) valid: usize,
    /// First byte of its contents.
    pub(crate) base: usize,
    /// Where the present length of its varbit (in bytes) is.
    pub(crate) varbit_length: Option<Slot>,
    /// The union that it is a member of, and which.
    pub(crate) member_of: Option<(UnionId, usize)>,
    /// For metadata: the first bit of each field.
    cells: Vec<(usize, usize)>,
}

impl Header {
    /// The bit that says whether it is valid.
    pub(crate) fn valid_bit(&self) -> Span {
        Span {
            bit: self.valid as u32 * 8 + 7,
            width: 1,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Stack {
    /// First elements: one for a header stack, the members of the first union for a union stack.
    pub(crate) first: Vec<HeaderId>,
    /// Number of elements.
    pub(crate) size: usize,
    /// Bytes from one element's contents to the next's.
    pub(crate) stride: usize,
    /// Byte of the next index.
    pub(crate) next: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Union {
    pub(crate) members: Vec<HeaderId>,
}

/// The layout.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub(crate) types: Vec<HeaderType>,
    pub(crate) headers: Vec<Header>,
    pub(crate) stacks: Vec<Stack>,
    pub(crate) unions: Vec<Union>,
    header_names: HashMap<String, HeaderId>,
    stack_names: HashMap<String, StackId>,
    union_names: HashMap<String, UnionId>,
    aliases: HashMap<String, (String, String)>,
    /// What the packet state is before a packet enters: everything invalid and zero, metadata valid.
    pub(crate) template: Vec<u8>,
    /// Cells for intermediate values of an action.
    pub(crate) scratch: Vec<Slot>,
    /// The metadata cells: what `reset_metadata` clears.
    pub(crate) metadata: std::ops::Range<usize>,
}

impl Layout {
    /// Reads `header_types`, `headers`, `header_stacks`, `header_union*` and `field_aliases`.
    pub(crate) fn load(root: &Node) -> Result<Self, LoadError> {
        let mut layout = Layout::default();
        layout.load_types(&root.get("header_types"))?;
        let ids = layout.load_headers(&root.get("headers"))?;
        layout.load_groups(root, &ids)?;
        layout.place(&root.get("headers"))?;
        for alias in root.get("field_aliases").items()? {
            let target = alias.at(1);
            layout.aliases.insert(
                alias.at(0).str()?.to_owned(),
                (target.at(0).str()?.to_owned(), target.at(1).str()?.to_owned()),
            );
        }
        Ok(layout)
    }

    fn load_types(&mut self, types: &Node) -> Result<(), LoadError> {
        for node in types.items()? {
            let mut header = HeaderType {
                name: node.get("name").str()?.to_owned(),
                fields: Vec::new(),
                varbit: None,
                bits: 0,
                has_length_expression: !node.get("length_exp").is_null(),
            };
            let fields = node.get("fields");
            let mut fixed = 0;
            for field in fields.items()? {
                if !field.at(1).is_str() {
                    fixed += field.at(1).usize()?;
                }
            }
            for (i, field) in fields.items()?.enumerate() {
                let width = field.at(1);
                let width = if width.is_str() {
                    if header.varbit.replace(i).is_some() {
                        return Err(field.error("a header has at most one varbit field"));
                    }
                    let max = node.get("max_length").usize()?.saturating_mul(8);
                    max.checked_sub(fixed)
                        .ok_or_else(|| node.error("max_length is less than the fixed fields"))?
                } else {
                    width.usize()?
                };
                if width > MAX_STATE * 8 {
                    return Err(field.error("field is too wide"));
                }
                header.fields.push(FieldInfo {
                    name: field.at(0).str()?.to_owned(),
                    width,
                    // p4c writes 0 for booleans.
                    signed: field
                        .at(2)
                        .bool_or(false)
                        .or_else(|_| field.at(2).usize().map(|n| n != 0))?,
                    offset: header.bits,
                });
                header.bits += width;
            }
            if header.bits > MAX_STATE * 8 {
                return Err(node.error("header is too long"));
            }
            self.types.push(header);
        }
        Ok(())
    }

    fn load_headers(&mut self, headers: &Node) -> Result<HashMap<usize, HeaderId>, LoadError> {
        let mut ids = HashMap::new();
        for node in headers.items()? {
            let id = HeaderId(self.headers.len());
            let type_name = node.get("header_type");
            let header_type = self
                .types
                .iter()
                .position(|t| Some(t.name.as_str()) == type_name.str().ok())
                .ok_or_else(|| type_name.error("no such header type"))?;
            let metadata = node.get("metadata").bool_or(false)?;
            let kind = &self.types[header_type];
            if !metadata && !kind.fixed_bits().is_multiple_of(8) {
                return Err(node.error(format_args!(
                    "header has {} bits, not a whole number of bytes",
                    kind.bits
                )));
            }
            let name = node.get("name").str()?.to_owned();
            if self.header_names.insert(name.clone(), id).is_some() {
                return Err(node.error("a header of this name exists already"));
            }
            if ids.insert(node.get("id").usize()?, id).is_some() {
                return Err(node.error("a header of this id exists already"));
            }
            self.headers.push(Header {
                name,
                header_type,
                metadata,
                valid: usize::MAX,
                base: 0,
                varbit_length: None,
                member_of: None,
                cells: Vec::new(),
            });
        }
        Ok(ids)
    }

    fn load_groups(&mut self, root: &Node, ids: &HashMap<usize, HeaderId>) -> Result<(), LoadError> {
        let header = |node: Node| -> Result<HeaderId, LoadError> {
            ids.get(&node.usize()?)
                .copied()
                .ok_or_else(|| node.error("no header has this id"))
        };
        let mut union_ids = HashMap::new();
        for node in root.get("header_unions").items()? {
            let id = UnionId(self.unions.len());
            let members = node
                .get("header_ids")
                .items()?
                .map(header)
                .collect::<Result<Vec<_>, _>>()?;
            for (i, member) in members.iter().enumerate() {
                if self.headers[member.0].member_of.replace((id, i)).is_some() || self.headers[member.0].metadata {
                    return Err(node.error("a member belongs to another union or is metadata"));
                }
            }
            let name = node.get("name").str()?.to_owned();
            self.union_names.insert(name, id);
            union_ids.insert(node.get("id").usize()?, id);
            self.unions.push(Union { members });
        }
        let mut placed = 0;
        for (list, is_union) in [("header_stacks", false), ("header_union_stacks", true)] {
            for node in root.get(list).items()? {
                let elements = if is_union {
                    let ids = node.get("header_union_ids");
                    let unions = ids
                        .items()?
                        .map(|n| {
                            union_ids
                                .get(&n.usize()?)
                                .copied()
                                .ok_or_else(|| n.error("no union has this id"))
                        })
                        .collect::<Result<Vec<_>, _>>()?;
                    unions
                        .iter()
                        .map(|u| self.unions[u.0].members.clone())
                        .collect::<Vec<_>>()
                } else {
                    node.get("header_ids")
                        .items()?
                        .map(|n| header(n).map(|h| vec![h]))
                        .collect::<Result<Vec<_>, _>>()?
                };
                if elements.is_empty() || elements.len() > 255 {
                    return Err(node.error("a stack has 1 to 255 elements"));
                }
                let kinds = |members: &Vec<HeaderId>| -> Vec<usize> {
                    members.iter().map(|m| self.headers[m.0].header_type).collect()
                };
                if elements.iter().any(|e| kinds(e) != kinds(&elements[0])) {
                    return Err(node.error("the elements of a stack must have the same type"));
                }
                for member in elements.iter().flatten() {
                    let header = &mut self.headers[member.0];
                    if header.valid != usize::MAX || header.metadata {
                        return Err(node.error("an element belongs to another stack or is metadata"));
                    }
                    header.valid = placed;
                    placed += 1;
                }
                let name = node.get("name").str()?.to_owned();
                self.stack_names.insert(name, StackId(self.stacks.len()));
                self.stacks.push(Stack {
                    size: elements.len(),
                    first: elements.into_iter().next().unwrap_or_default(),
                    stride: 0,
                    next: 0,
                });
            }
        }
        for union in &self.unions {
            for member in &union.members {
                let header = &mut self.headers[member.0];
                if header.valid == usize::MAX {
                    header.valid = placed;
                    placed += 1;
                }
            }
        }
        for header in &mut self.headers {
            if header.valid == usize::MAX {
                header.valid = placed;
                placed += 1;
            }
        }
        Ok(())
    }

    /// Gives every part its bytes.
    fn place(&mut self, at: &Node) -> Result<(), LoadError> {
        let mut end = self.headers.len();
        for stack in &mut self.stacks {
            stack.next = end;
            end += 1;
        }
        // In the order of the validities, so that an element's length is found by its index too.
        if self.types.iter().any(|t| t.varbit.is_some()) {
            for header in self
                .headers
                .iter_mut()
                .filter(|h| self.types[h.header_type].varbit.is_some())
            {
                header.varbit_length = Some(Slot::cell(end + 8 * header.valid, 16));
            }
            end += 8 * self.headers.len();
        }
        end = end.next_multiple_of(8);
        self.scratch = (0..SCRATCH).map(|i| Slot::cell(end + 8 * i, 64)).collect();
        end += 8 * SCRATCH;
        let metadata = end;
        for header in self.headers.iter_mut().filter(|h| h.metadata) {
            header.base = end;
            for field in &self.types[header.header_type].fields {
                let bytes = field.width.div_ceil(64).max(1) * 8;
                header.cells.push((end, bytes));
                end += bytes;
            }
        }
        self.metadata = metadata..end;
        let mut order: Vec<usize> = (0..self.headers.len()).filter(|h| !self.headers[*h].metadata).collect();
        order.sort_by_key(|h| self.headers[*h].valid);
        for index in order {
            let header = &mut self.headers[index];
            header.base = end;
            end += self.types[header.header_type].bits.div_ceil(8);
        }
        for stack in &mut self.stacks {
            let bytes = |h: &HeaderId| self.types[self.headers[h.0].header_type].bits.div_ceil(8);
            stack.stride = stack.first.iter().map(bytes).sum();
        }
        if end > MAX_STATE {
            return Err(at.error("headers and metadata are too large"));
        }
        self.template = vec![0; end + PADDING];
        for header in self.headers.iter().filter(|h| h.metadata) {
            self.template[header.valid] = 1;
        }
        Ok(())
    }

    /// The header called by `node`'s string.
    pub(crate) fn header(&self, node: &Node) -> Result<HeaderId, LoadError> {
        let name = node.str()?;
        self.header_named(name)
            .ok_or_else(|| node.error(format_args!("there is no header {name}")))
    }

    /// The header called `name`.
    pub(crate) fn header_named(&self, name: &str) -> Option<HeaderId> {
        self.header_names.get(name).copied()
    }

    /// The stack (of headers or unions) called by `node`'s string.
    pub(crate) fn stack(&self, node: &Node) -> Result<StackId, LoadError> {
        let name = node.str()?;
        self.stack_names
            .get(name)
            .copied()
            .ok_or_else(|| node.error(format_args!("there is no header stack {name}")))
    }

    /// The union called by `node`'s string.
    pub(crate) fn union(&self, node: &Node) -> Result<UnionId, LoadError> {
        let name = node.str()?;
        self.union_names
            .get(name)
            .copied()
            .ok_or_else(|| node.error(format_args!("there is no header union {name}")))
    }

    /// The type of a header.
    pub(crate) fn type_of(&self, header: HeaderId) -> &HeaderType {
        &self.types[self.headers[header.0].header_type]
    }

    /// The field called by `node`'s string.
    pub(crate) fn field(&self, header: HeaderId, node: &Node) -> Result<usize, LoadError> {
        let name = node.str()?;
        let kind = self.type_of(header);
        kind.fields.iter().position(|f| f.name == name).ok_or_else(|| {
            node.error(format_args!(
                "header {} has no field {name}",
                self.headers[header.0].name
            ))
        })
    }

    /// Where a field is.
    pub(crate) fn span(&self, header: HeaderId, field: usize) -> Span {
        let info = &self.type_of(header).fields[field];
        let at = &self.headers[header.0];
        let bit = match at.cells.get(field) {
            Some((offset, bytes)) => (offset + bytes) * 8 - info.width,
            None => at.base * 8 + info.offset,
        };
        Span {
            bit: bit as u32,
            width: info.width as u32,
        }
    }

    /// Where a field of 1 to 64 bits is; none if it reaches over nine bytes.
    pub(crate) fn slot(&self, header: HeaderId, field: usize) -> Option<Slot> {
        let width = self.type_of(header).fields[field].width;
        let at = &self.headers[header.0];
        match at.cells.get(field) {
            _ if !(1..=64).contains(&width) => None,
            Some((offset, _)) => Some(Slot::cell(*offset, width)),
            None => Slot::in_header(at.base, self.span(header, field).bit as usize, width),
        }
    }

    /// Every metadata field, by parts of up to 64 bits.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Slot> {
        let metadata = (0..self.headers.len())
            .filter(|h| self.headers[*h].metadata)
            .map(HeaderId);
        metadata.flat_map(move |header| {
            (0..self.type_of(header).fields.len()).flat_map(move |field| {
                let halves = || self.span(header, field).halves().map(|(high, low)| [high, low]);
                match self.slot(header, field) {
                    Some(slot) => vec![slot],
                    None => halves().map_or(Vec::new(), Vec::from),
                }
            })
        })
    }

    /// The slot of what BMv2 calls `name` (`standard_metadata.egress_spec`), by alias or by its own name.
    pub(crate) fn well_known(&self, name: &str) -> Option<Slot> {
        let (header, field) = match self.aliases.get(name) {
            Some((header, field)) => (header.as_str(), field.as_str()),
            None => name.split_once('.')?,
        };
        let header = self.header_named(header)?;
        let field = self.type_of(header).fields.iter().position(|f| f.name == field)?;
        self.slot(header, field)
    }
}
