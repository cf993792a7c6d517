//! What a loaded program offers to a controller: its tables, actions, externs, with names, widths and sizes.
//!
//! Ids are dense: they index the vectors of [`ProgramInfo`]. They are not P4Info ids.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the vector of [`ProgramInfo`] that this id belongs to.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A table.
    TableId,
    /// An action. Several actions may have the same name (each use of `NoAction` is its own); a table names the ones
    /// that it may run.
    ActionId,
    /// An action profile, with or without selector.
    ActionProfileId,
    /// An indirect counter array. Direct counters belong to their table's entries.
    CounterId,
    /// An indirect meter array. Direct meters belong to their table's entries.
    MeterId,
    /// A register array.
    RegisterId,
    /// A digest (a learn list in the JSON).
    DigestId,
    /// A parser value set.
    ValueSetId,
}

/// Everything that a controller may address, by position and by name.
#[derive(Debug, Clone, Default)]
pub struct ProgramInfo {
    /// Tables, of both pipelines, also those that the compiler made for direct action calls ([`TableInfo::keyless`]).
    pub tables: Vec<TableInfo>,
    /// Actions.
    pub actions: Vec<ActionInfo>,
    /// Action profiles.
    pub action_profiles: Vec<ActionProfileInfo>,
    /// Indirect counter arrays.
    pub counters: Vec<CounterInfo>,
    /// Indirect meter arrays.
    pub meters: Vec<MeterInfo>,
    /// Register arrays.
    pub registers: Vec<RegisterInfo>,
    /// Digests.
    pub digests: Vec<DigestInfo>,
    /// Parser value sets.
    pub value_sets: Vec<ValueSetInfo>,
}

/// How a key field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchKind {
    /// All bits.
    Exact,
    /// A prefix.
    Lpm,
    /// The bits of a mask.
    Ternary,
    /// Between two bounds, both included.
    Range,
    /// All bits, or no matter. p4c's JSON says ternary of such fields: only P4Info tells them apart.
    Optional,
    /// A header's validity (P4-14's match kind; a 1-bit exact field).
    Valid,
}

/// A table.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Its fully qualified name.
    pub name: String,
    /// The fields of its key, in the order in which [`TableEntry::key`](super::TableEntry::key) lists them.
    pub key: Vec<KeyInfo>,
    /// The actions that it may run.
    pub actions: Vec<ActionId>,
    /// Declared size.
    pub max_size: usize,
    /// Entries carry a priority: the key has a ternary, range or optional field.
    pub needs_priority: bool,
    /// Its entries are fixed by the program.
    pub const_entries: bool,
    /// Its default action (and the action's arguments) are fixed by the program.
    pub const_default: bool,
    /// Where its actions come from, if not from the entries themselves.
    pub action_profile: Option<ActionProfileId>,
    /// Entries have direct counters; the name of the counter, if the program names it.
    pub direct_counter: Option<String>,
    /// Entries have direct meters: the name and what they measure.
    pub direct_meter: Option<(String, Unit)>,
    /// Entries may have an idle timeout.
    pub idle_timeout: bool,
}

impl TableInfo {
    /// Whether the table has no key, so that only its default action ever runs.
    pub fn keyless(&self) -> bool {
        self.key.is_empty()
    }

    /// Position of the key field called `name`.
    pub fn key_field(&self, name: &str) -> Option<usize> {
        self.key.iter().position(|k| k.name == name)
    }
}

/// One field of a table's key or of a value set.
#[derive(Debug, Clone)]
pub struct KeyInfo {
    /// Name, as in P4Info.
    pub name: String,
    /// Width in bits.
    pub bitwidth: usize,
    /// How it is compared.
    pub kind: MatchKind,
}

/// An action.
#[derive(Debug, Clone)]
pub struct ActionInfo {
    /// Fully qualified name.
    pub name: String,
    /// Its control-plane parameters, in order.
    pub parameters: Vec<ParameterInfo>,
}

/// An action's parameter.
#[derive(Debug, Clone)]
pub struct ParameterInfo {
    /// Name.
    pub name: String,
    /// Width in bits.
    pub bitwidth: usize,
}

/// An action profile.
#[derive(Debug, Clone)]
pub struct ActionProfileInfo {
    /// Fully qualified name.
    pub name: String,
    /// Most members.
    pub max_size: usize,
    /// Members may be put into groups, of which a hash selects one.
    pub selector: bool,
    /// The tables that use it.
    pub tables: Vec<TableId>,
}

/// What counters and meters count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Packets.
    Packets,
    /// Bytes.
    Bytes,
    /// Both (counters only).
    Both,
}

/// A counter array.
#[derive(Debug, Clone)]
pub struct CounterInfo {
    /// Fully qualified name.
    pub name: String,
    /// Number of cells.
    pub size: usize,
}

/// A meter array.
#[derive(Debug, Clone)]
pub struct MeterInfo {
    /// Fully qualified name.
    pub name: String,
    /// Number of cells.
    pub size: usize,
    /// What its rates count.
    pub unit: Unit,
}

/// A register array.
#[derive(Debug, Clone)]
pub struct RegisterInfo {
    /// Fully qualified name.
    pub name: String,
    /// Number of cells.
    pub size: usize,
    /// Width of a cell in bits.
    pub bitwidth: usize,
}

/// A digest: the tuple that `digest()` sends.
#[derive(Debug, Clone)]
pub struct DigestInfo {
    /// Name.
    pub name: String,
    /// Widths of its elements, in order.
    pub bitwidths: Vec<usize>,
}

/// A parser value set.
#[derive(Debug, Clone)]
pub struct ValueSetInfo {
    /// Name.
    pub name: String,
    /// Width of its key in bits, without padding.
    pub bitwidth: usize,
    /// Widths of the fields of its key, in order.
    pub fields: Vec<usize>,
    /// Most members.
    pub max_size: usize,
}

fn position<T>(items: &[T], name: &str, of: impl Fn(&T) -> &str) -> Option<u32> {
    items.iter().position(|item| of(item) == name).map(|i| i as u32)
}

impl ProgramInfo {
    /// The table called `name`.
    pub fn table(&self, name: &str) -> Option<TableId> {
        position(&self.tables, name, |t| &t.name).map(TableId)
    }

    /// The action called `name` among those of `table`.
    pub fn table_action(&self, table: TableId, name: &str) -> Option<ActionId> {
        let table = self.tables.get(table.index())?;
        table
            .actions
            .iter()
            .copied()
            .find(|a| self.actions[a.index()].name == name)
    }

    /// The action called `name` among those of the tables that use `profile`.
    pub fn profile_action(&self, profile: ActionProfileId, name: &str) -> Option<ActionId> {
        let profile = self.action_profiles.get(profile.index())?;
        profile.tables.iter().find_map(|table| self.table_action(*table, name))
    }

    /// The action profile called `name`.
    pub fn action_profile(&self, name: &str) -> Option<ActionProfileId> {
        position(&self.action_profiles, name, |p| &p.name).map(ActionProfileId)
    }

    /// The counter array called `name`.
    pub fn counter(&self, name: &str) -> Option<CounterId> {
        position(&self.counters, name, |c| &c.name).map(CounterId)
    }

    /// The meter array called `name`.
    pub fn meter(&self, name: &str) -> Option<MeterId> {
        position(&self.meters, name, |m| &m.name).map(MeterId)
    }

    /// The register array called `name`.
    pub fn register(&self, name: &str) -> Option<RegisterId> {
        position(&self.registers, name, |r| &r.name).map(RegisterId)
    }

    /// The digest called `name`.
    pub fn digest(&self, name: &str) -> Option<DigestId> {
        position(&self.digests, name, |d| &d.name).map(DigestId)
    }

    /// The value set called `name`.
    pub fn value_set(&self, name: &str) -> Option<ValueSetId> {
        position(&self.value_sets, name, |v| &v.name).map(ValueSetId)
    }
}
