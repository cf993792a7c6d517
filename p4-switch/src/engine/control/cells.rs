//! What stands beside the tables: cells of arrays, multicast groups, clone sessions, value sets and digests.

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use super::{Kind, Result, check_meter, invalid, missing, value_set_fields, word};
use crate::control::{
    CloneSession, ControlError, CounterCell, DigestConfig, MeterCell, MulticastGroup, RegisterCell, Replica, Value,
    ValueSetEntry,
};
use crate::engine::Engine;
use crate::externs::meter::MeterMut;
use crate::tables::matching::{Matcher, number};

impl Engine {
    pub(super) fn write_counter(&mut self, cell: &CounterCell) -> Result<()> {
        let Some(cells) = self.machine.counters.get_mut(cell.counter.index()) else {
            return Err(missing("counter", cell.counter.0));
        };
        let name = &self.program.names.counters[cell.counter.index()].name;
        cells_mut(cells, cell.index, 1, name)?.fill([cell.data.packets, cell.data.bytes]);
        Ok(())
    }

    pub(super) fn write_meter(&mut self, cell: &MeterCell) -> Result<()> {
        cell.config.map_or(Ok(()), check_meter)?;
        let Some(cells) = self.machine.meters.get_mut(cell.meter.index()) else {
            return Err(missing("meter", cell.meter.0));
        };
        let name = &self.program.names.meters[cell.meter.index()].name;
        let now = self.machine.now_ns;
        for meter in cells_mut(cells, cell.index, 1, name)? {
            MeterMut(meter).configure(cell.config, now);
        }
        Ok(())
    }

    pub(super) fn write_register(&mut self, cell: &RegisterCell) -> Result<()> {
        let Some(info) = self.program.names.registers.get(cell.register.index()) else {
            return Err(missing("register", cell.register.0));
        };
        let mut words = Vec::new();
        push_value(&mut words, &cell.value, info.bitwidth, &|| {
            format!("a cell of register {}", info.name)
        })?;
        let cells = &mut self.machine.registers[cell.register.index()];
        for cell in cells_mut(cells, cell.index, words.len(), &info.name)?.chunks_mut(words.len().max(1)) {
            cell.copy_from_slice(&words);
        }
        Ok(())
    }

    pub(super) fn write_multicast(&mut self, kind: Kind, group: &MulticastGroup) -> Result<()> {
        if group.group == 0 {
            return invalid("multicast group 0 does not exist");
        }
        let present = self.multicast.contains_key(&group.group);
        match (kind, present) {
            (Kind::Insert, true) => Err(ControlError::AlreadyExists(format!("multicast group {}", group.group))),
            (Kind::Modify | Kind::Delete, false) => Err(missing("multicast group", group.group)),
            (Kind::Delete, true) => {
                self.multicast.remove(&group.group);
                Ok(())
            }
            _ => {
                check_replicas(&group.replicas)?;
                self.multicast.insert(group.group, group.replicas.clone());
                Ok(())
            }
        }
    }

    pub(super) fn write_clone(&mut self, kind: Kind, session: &CloneSession) -> Result<()> {
        if session.session > 0x7fff {
            return invalid("clone sessions have numbers up to 32767");
        }
        let present = self.clones.contains_key(&session.session);
        match (kind, present) {
            (Kind::Insert, true) => Err(ControlError::AlreadyExists(format!(
                "clone session {}",
                session.session
            ))),
            (Kind::Modify | Kind::Delete, false) => Err(missing("clone session", session.session)),
            (Kind::Delete, true) => {
                self.clones.remove(&session.session);
                Ok(())
            }
            _ => {
                check_replicas(&session.replicas)?;
                self.clones.insert(session.session, session.clone());
                Ok(())
            }
        }
    }

    pub(super) fn write_value_set(&mut self, entry: &ValueSetEntry) -> Result<()> {
        let Some(set) = self.program.parser.value_sets.get(entry.value_set.index()) else {
            return Err(missing("value set", entry.value_set.0));
        };
        if entry.members.len() > set.max_size {
            return Err(ControlError::ResourceExhausted(
                format!("value set {}", set.name),
                set.max_size,
            ));
        }
        let fields = value_set_fields(set);
        let matcher = Matcher {
            name: &set.name,
            fields: &fields,
            key: &set.key,
        };
        let members = entry
            .members
            .iter()
            .map(|m| matcher.spec(m).map(|(spec, _)| spec))
            .collect::<Result<Vec<_>>>()?;
        self.machine.value_sets[entry.value_set.index()].members = members;
        Ok(())
    }

    pub(super) fn write_digest(&mut self, kind: Kind, config: &DigestConfig) -> Result<()> {
        if config.digest.index() >= self.program.learn_lists.len() {
            return Err(missing("digest", config.digest.0));
        }
        let present = self.digests.config(config.digest).is_some();
        match (kind, present) {
            (Kind::Insert, true) => Err(ControlError::AlreadyExists("the digest's configuration".to_owned())),
            (Kind::Modify | Kind::Delete, false) => Err(missing("the configuration of digest", config.digest.0)),
            (Kind::Delete, true) => {
                self.digests.configure(config.digest, None);
                Ok(())
            }
            _ => {
                self.digests.configure(config.digest, Some(config.clone()));
                Ok(())
            }
        }
    }
}

fn check_replicas(replicas: &[Replica]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match replicas.iter().find(|r| !seen.insert(**r)) {
        Some(twice) => invalid(format_args!(
            "port {} with instance {} is there twice",
            twice.port, twice.instance
        )),
        None => Ok(()),
    }
}

/// The cells that an update means.
fn cells_mut<'a, T>(cells: &'a mut [T], index: Option<u64>, words: usize, name: &str) -> Result<&'a mut [T]> {
    let size = cells.len() / words.max(1);
    match index {
        None => Ok(cells),
        Some(index) if index < size as u64 => Ok(&mut cells[index as usize * words..][..words]),
        Some(index) => Err(ControlError::OutOfRange {
            name: name.to_owned(),
            size,
            index,
        }),
    }
}

/// Appends a value's words, the most significant first.
fn push_value(words: &mut Vec<u64>, value: &Value, width: usize, what: &dyn Fn() -> String) -> Result<()> {
    if let Some(word) = word(value, width) {
        words.push(word);
        return Ok(());
    }
    let number = number(value, width, &what())?;
    words.extend(split(&number, width));
    Ok(())
}

/// A number's words, the most significant first.
fn split(number: &BigInt, width: usize) -> Vec<u64> {
    let count = width.div_ceil(64);
    (0..count)
        .map(|i| {
            let below = (count - 1 - i) * 64;
            let bits = (width - below).min(64);
            ((number >> below) & BigInt::from(u64::MAX >> (64 - bits)))
                .to_u64()
                .unwrap_or(0)
        })
        .collect()
}
