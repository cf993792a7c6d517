//! What primitives and tables refer to by name or number: arrays, calculations, digests and actions.

use std::collections::HashMap;

use super::LoadError;
use super::layout::Layout;
use super::slot::Slot;
use crate::control::{CounterInfo, MeterInfo, RegisterInfo, Unit};
use crate::json::Node;

/// Most cells of one counter, meter or register array.
const MAX_ARRAY: usize = 1 << 28;

/// Names of what primitives refer to.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) counters: Vec<CounterInfo>,
    pub(crate) meters: Vec<MeterInfo>,
    pub(crate) registers: Vec<RegisterInfo>,
    pub(crate) direct_meters: Vec<DirectMeter>,
    pub(super) direct_counters: HashMap<String, String>,
    pub(crate) calculations: Vec<String>,
    /// Ids of learn lists, in order.
    pub(super) learn_lists: Vec<usize>,
    /// Names of actions, in order.
    pub(crate) actions: Vec<String>,
    pub(crate) action_widths: Vec<Vec<usize>>,
    pub(super) action_ids: HashMap<usize, usize>,
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

    pub(super) fn load_arrays(&mut self, root: &Node, layout: &Layout) -> Result<(), LoadError> {
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
