//! P4Info by name: the tables, actions and externs of a program, checked once and then looked up by name, alias or id.
//!
//! The message (`api::p4::config::v1::P4Info`) is flat lists with ids that refer to one another. [`P4Info`] checks
//! them (ids are unique and not zero, references lead somewhere, widths are sane), resolves them, and keeps the message
//! itself for `SetForwardingPipelineConfig`. It is immutable; lookups are one hash each.

mod read;

use crate::api::p4::config::v1 as config;
use crate::error::P4InfoError;
use prost::Message;
use std::collections::HashMap;
use std::fmt;

/// Widest field that is accepted, in bits. P4 has no limit; this keeps a hostile P4Info from asking for gigabytes.
pub const MAX_BITWIDTH: u32 = 1 << 16;

/// A P4 object as the caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ref<'a> {
    /// By its 32-bit id.
    Id(u32),
    /// By its fully qualified name or its alias.
    Name(&'a str),
}

impl From<u32> for Ref<'_> {
    fn from(id: u32) -> Self {
        Ref::Id(id)
    }
}

impl<'a> From<&'a str> for Ref<'a> {
    fn from(name: &'a str) -> Self {
        Ref::Name(name)
    }
}

impl<'a> From<&'a String> for Ref<'a> {
    fn from(name: &'a String) -> Self {
        Ref::Name(name)
    }
}

impl fmt::Display for Ref<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ref::Id(id) => write!(f, "{id:#010x}"),
            Ref::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// What every object has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preamble {
    /// Id; the first octet says the kind of object.
    pub id: u32,
    /// Fully qualified name.
    pub name: String,
    /// The shortest name that is unique among objects of its kind.
    pub alias: String,
    /// Annotations as written in the program.
    pub annotations: Vec<String>,
}

/// An object with an id and names.
pub trait Object {
    /// How messages call this kind.
    const KIND: &'static str;
    /// Id, name, alias, annotations.
    fn preamble(&self) -> &Preamble;
}

/// All objects of one kind, in P4Info's order.
#[derive(Clone, Debug)]
pub struct Objects<T> {
    all: Vec<T>,
    ids: HashMap<u32, usize>,
    names: HashMap<String, usize>,
}

impl<T: Object> Objects<T> {
    fn new(all: Vec<T>) -> Result<Self, P4InfoError> {
        let mut ids = HashMap::with_capacity(all.len());
        let mut names = HashMap::with_capacity(2 * all.len());
        for (position, object) in all.iter().enumerate() {
            let preamble = object.preamble();
            if preamble.id == 0 || ids.insert(preamble.id, position).is_some() {
                return Err(P4InfoError::Id {
                    kind: T::KIND,
                    name: preamble.name.clone(),
                    id: preamble.id,
                });
            }
            if names.insert(preamble.name.clone(), position).is_some() {
                return Err(P4InfoError::DuplicateName {
                    kind: T::KIND,
                    name: preamble.name.clone(),
                });
            }
        }
        for (position, object) in all.iter().enumerate() {
            let alias = &object.preamble().alias;
            if !alias.is_empty() {
                names.entry(alias.clone()).or_insert(position); // a full name wins over an alias
            }
        }
        Ok(Objects { all, ids, names })
    }

    /// By name, alias or id.
    pub fn get<'a>(&self, key: impl Into<Ref<'a>>) -> Option<&T> {
        let position = match key.into() {
            Ref::Id(id) => self.ids.get(&id),
            Ref::Name(name) => self.names.get(name),
        };
        position.map(|&position| &self.all[position])
    }

    /// By name, alias or id; an error names what is missing.
    pub fn require<'a>(&self, key: impl Into<Ref<'a>>) -> Result<&T, P4InfoError> {
        let key = key.into();
        self.get(key).ok_or_else(|| P4InfoError::Unknown {
            kind: T::KIND,
            key: key.to_string(),
        })
    }

    /// All, in P4Info's order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.all.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Kind of a match field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchKind {
    /// Equal.
    Exact,
    /// Longest prefix.
    Lpm,
    /// Value under a mask.
    Ternary,
    /// From low to high.
    Range,
    /// Equal, or left out.
    Optional,
}

impl MatchKind {
    /// Whether entries need a priority to tell which of several matches wins.
    pub fn needs_priority(self) -> bool {
        matches!(self, MatchKind::Ternary | MatchKind::Range | MatchKind::Optional)
    }
}

/// A field of a table's key, an action's parameter, or of packet metadata: a name, an id and a width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Id, unique in its table, action or header.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Width in bits; 0 for values that are strings (`@p4runtime_translation(..., string)`).
    pub bitwidth: u32,
    /// Name of its user-defined type (`type`, with or without `@p4runtime_translation`), if it has one.
    pub type_name: Option<String>,
    /// Annotations as written in the program.
    pub annotations: Vec<String>,
}

/// A field of a table's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchField {
    /// Name, id, width.
    pub field: Field,
    /// How it matches.
    pub kind: MatchKind,
}

/// Where an action of a table may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionScope {
    /// By entries and as default action.
    TableAndDefault,
    /// By entries only.
    TableOnly,
    /// As default action only.
    DefaultOnly,
}

/// An action that a table may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionRef {
    /// Id of the action.
    pub id: u32,
    /// Where it may be used.
    pub scope: ActionScope,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterUnit {
    /// Octets.
    Bytes,
    /// Packets.
    Packets,
    /// Both.
    Both,
}

/// What a meter's rates count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterUnit {
    /// Octets.
    Bytes,
    /// Packets.
    Packets,
}

/// The marker a meter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterType {
    /// RFC 2698.
    TwoRateThreeColor,
    /// RFC 2697.
    SingleRateThreeColor,
    /// RFC 2697 without an excess burst.
    SingleRateTwoColor,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Id and names.
    pub preamble: Preamble,
    /// The key.
    pub match_fields: Vec<MatchField>,
    /// The actions entries may use.
    pub actions: Vec<ActionRef>,
    /// The default action, if it is constant.
    pub const_default_action: Option<u32>,
    /// The default action at the start, where P4Info says it.
    pub initial_default_action: Option<config::TableActionCall>,
    /// The action profile that implements it.
    pub implementation: Option<u32>,
    /// Unit of its direct counter.
    pub direct_counter: Option<CounterUnit>,
    /// Unit and type of its direct meter.
    pub direct_meter: Option<(MeterUnit, MeterType)>,
    /// Most entries.
    pub size: u64,
    /// Whether entries may have an idle timeout.
    pub idle_timeout: bool,
    /// Whether its entries are `const`.
    pub is_const: bool,
    /// Whether the program gives it entries.
    pub has_initial_entries: bool,
}

impl Table {
    /// Whether entries need a priority.
    pub fn needs_priority(&self) -> bool {
        self.match_fields.iter().any(|field| field.kind.needs_priority())
    }

    /// A field of the key by name or id.
    pub fn match_field<'a>(&self, key: impl Into<Ref<'a>>) -> Option<&MatchField> {
        let key = key.into();
        self.match_fields.iter().find(|candidate| candidate.field.is(key))
    }

    /// How an action may be used, or `None` if it is not one of the table's.
    pub fn scope_of(&self, action: u32) -> Option<ActionScope> {
        self.actions
            .iter()
            .find(|candidate| candidate.id == action)
            .map(|action| action.scope)
    }
}

impl Field {
    /// Whether `key` means this field.
    pub fn is(&self, key: Ref<'_>) -> bool {
        match key {
            Ref::Id(id) => self.id == id,
            Ref::Name(name) => self.name == name,
        }
    }
}

/// An action.
#[derive(Clone, Debug)]
pub struct Action {
    /// Id and names.
    pub preamble: Preamble,
    /// Parameters.
    pub params: Vec<Field>,
}

impl Action {
    /// A parameter by name or id.
    pub fn param<'a>(&self, key: impl Into<Ref<'a>>) -> Option<&Field> {
        let key = key.into();
        self.params.iter().find(|param| param.is(key))
    }
}

/// How an action selector counts its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeSemantics {
    /// The sum of the weights.
    SumOfWeights,
    /// The number of members, each of at most this weight (0: no limit).
    SumOfMembers {
        /// Most weight of one member.
        max_member_weight: u32,
    },
}

/// An action profile or action selector.
#[derive(Clone, Debug)]
pub struct ActionProfile {
    /// Id and names.
    pub preamble: Preamble,
    /// The tables that share it.
    pub table_ids: Vec<u32>,
    /// Whether it has groups.
    pub with_selector: bool,
    /// Most members, or as [`SizeSemantics`] says for a selector.
    pub size: u64,
    /// Most weights or members of one group; 0 without limit.
    pub max_group_size: u32,
    /// What the sizes count.
    pub size_semantics: SizeSemantics,
    /// Whether members must not have weights.
    pub weights_disallowed: bool,
}

/// An indirect counter.
#[derive(Clone, Debug)]
pub struct Counter {
    /// Id and names.
    pub preamble: Preamble,
    /// What it counts.
    pub unit: CounterUnit,
    /// Number of cells.
    pub size: u64,
}

/// An indirect meter.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Id and names.
    pub preamble: Preamble,
    /// What its rates count.
    pub unit: MeterUnit,
    /// The marker it is.
    pub meter_type: MeterType,
    /// Number of cells.
    pub size: u64,
}

/// A counter of a table's entries.
#[derive(Clone, Debug)]
pub struct DirectCounter {
    /// Id and names.
    pub preamble: Preamble,
    /// What it counts.
    pub unit: CounterUnit,
    /// Its table.
    pub table_id: u32,
}

/// A meter of a table's entries.
#[derive(Clone, Debug)]
pub struct DirectMeter {
    /// Id and names.
    pub preamble: Preamble,
    /// What its rates count.
    pub unit: MeterUnit,
    /// The marker it is.
    pub meter_type: MeterType,
    /// Its table.
    pub table_id: u32,
}

/// The header of packet-in (`packet_in`) or packet-out (`packet_out`).
#[derive(Clone, Debug)]
pub struct ControllerPacketMetadata {
    /// Id; the name is `packet_in` or `packet_out`.
    pub preamble: Preamble,
    /// Fields in the order of the header.
    pub metadata: Vec<Field>,
}

/// A parser value set.
#[derive(Clone, Debug)]
pub struct ValueSet {
    /// Id and names.
    pub preamble: Preamble,
    /// Its fields.
    pub match_fields: Vec<MatchField>,
    /// Most members.
    pub size: u64,
}

/// A register array.
#[derive(Clone, Debug)]
pub struct Register {
    /// Id and names.
    pub preamble: Preamble,
    /// Type of a cell.
    pub type_spec: config::P4DataTypeSpec,
    /// Number of cells.
    pub size: u64,
}

/// A digest.
#[derive(Clone, Debug)]
pub struct Digest {
    /// Id and names.
    pub preamble: Preamble,
    /// Type of what it carries.
    pub type_spec: config::P4DataTypeSpec,
}

macro_rules! objects {
    ($($object:ident $kind:literal),* $(,)?) => {$(
        impl Object for $object {
            const KIND: &'static str = $kind;
            fn preamble(&self) -> &Preamble {
                &self.preamble
            }
        }
    )*};
}
objects! {
    Table "table", Action "action", ActionProfile "action profile", Counter "counter", Meter "meter",
    DirectCounter "direct counter", DirectMeter "direct meter",
    ControllerPacketMetadata "controller packet metadata", ValueSet "value set", Register "register", Digest "digest",
}

/// A program's control interface.
#[derive(Clone, Debug)]
pub struct P4Info {
    message: config::P4Info,
    /// Tables.
    pub tables: Objects<Table>,
    /// Actions.
    pub actions: Objects<Action>,
    /// Action profiles and selectors.
    pub action_profiles: Objects<ActionProfile>,
    /// Indirect counters.
    pub counters: Objects<Counter>,
    /// Indirect meters.
    pub meters: Objects<Meter>,
    /// Counters of table entries.
    pub direct_counters: Objects<DirectCounter>,
    /// Meters of table entries.
    pub direct_meters: Objects<DirectMeter>,
    /// Headers of packet-in and packet-out.
    pub controller_packet_metadata: Objects<ControllerPacketMetadata>,
    /// Parser value sets.
    pub value_sets: Objects<ValueSet>,
    /// Registers.
    pub registers: Objects<Register>,
    /// Digests.
    pub digests: Objects<Digest>,
}

impl P4Info {
    /// From the binary protobuf that p4c writes with `--p4runtime-files x.p4info.bin`.
    pub fn from_binary(bytes: &[u8]) -> Result<P4Info, P4InfoError> {
        P4Info::new(config::P4Info::decode(bytes)?)
    }

    /// From protobuf text format (`x.p4info.txt`, `x.p4info.txtpb`).
    pub fn from_text(text: &str) -> Result<P4Info, P4InfoError> {
        P4Info::new(crate::text::p4info(text)?)
    }

    /// From a file: text format if its name ends in `.txt`, `.txtpb`, `.textproto` or `.pbtxt`, binary otherwise.
    pub fn from_file(path: impl AsRef<std::path::Path>) -> Result<P4Info, P4InfoError> {
        let path = path.as_ref();
        let octets = std::fs::read(path).map_err(|source| P4InfoError::File {
            path: path.display().to_string(),
            source,
        })?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("txt" | "txtpb" | "textproto" | "pbtxt") => P4Info::from_text(&String::from_utf8_lossy(&octets)),
            _ => P4Info::from_binary(&octets),
        }
    }

    /// The message itself.
    pub fn message(&self) -> &config::P4Info {
        &self.message
    }

    /// A table by name, alias or id.
    pub fn table<'a>(&self, key: impl Into<Ref<'a>>) -> Result<&Table, P4InfoError> {
        self.tables.require(key)
    }

    /// An action by name, alias or id.
    pub fn action<'a>(&self, key: impl Into<Ref<'a>>) -> Result<&Action, P4InfoError> {
        self.actions.require(key)
    }
}
