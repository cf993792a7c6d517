//! Entities, updates and queries: what [`Switch::write`](crate::Switch::write) takes and
//! [`Switch::read`](crate::Switch::read) gives.

use std::time::Duration;

use super::info::{ActionId, ActionProfileId, CounterId, DigestId, MeterId, RegisterId, TableId, ValueSetId};

/// An unsigned number, big endian. Written values may have any length as long as they fit their width; values that are
/// read are canonical: the shortest form, at least one byte (P4Runtime 1.3, 8.4).
pub type Value = Vec<u8>;

/// What one key field of an entry asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FieldMatch {
    /// Anything; not for exact fields. This is what a field that P4Runtime omits means.
    Any,
    /// Exactly this value (exact, optional and valid fields).
    Exact(Value),
    /// Under a prefix. Bits beyond the prefix must be zero.
    Lpm {
        /// The prefix.
        value: Value,
        /// Its length in bits.
        prefix_len: usize,
    },
    /// Under a mask. Bits outside the mask must be zero.
    Ternary {
        /// The value.
        value: Value,
        /// The mask.
        mask: Value,
    },
    /// Between two bounds, both included.
    Range {
        /// Lowest value.
        low: Value,
        /// Highest value.
        high: Value,
    },
}

/// An action with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionCall {
    /// The action.
    pub action: ActionId,
    /// One value for each of its parameters, in order.
    pub arguments: Vec<Value>,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableAction {
    /// Run an action.
    Call(ActionCall),
    /// Run what this member of the table's action profile says.
    Member(u32),
    /// Run what one member of this group says, selected by a hash.
    Group(u32),
    /// A group of the entry's own ("one shot" programming of action selectors).
    OneShot(Vec<WeightedAction>),
}

/// One action of a one-shot group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedAction {
    /// The action.
    pub call: ActionCall,
    /// Its share, at least 1.
    pub weight: u32,
    /// The port whose being down takes the member out, kept for reading back.
    pub watch_port: Option<u32>,
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CounterData {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Rates and bursts of a two-rate three-colour marker (RFC 2698, colour blind). Rates are per second, in bytes or
/// packets as the meter's unit says; bursts likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeterConfig {
    /// Committed information rate.
    pub cir: u64,
    /// Committed burst size.
    pub cburst: u64,
    /// Peak information rate.
    pub pir: u64,
    /// Peak burst size.
    pub pburst: u64,
}

/// An entry of a table, or its default entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// The table.
    pub table: TableId,
    /// One for each field of the table's key, in order; empty for the default entry.
    pub key: Vec<FieldMatch>,
    /// Higher wins, as in P4Runtime. At least 1 where [`TableInfo::needs_priority`](super::TableInfo::needs_priority)
    /// says so, otherwise 0.
    pub priority: i32,
    /// This is the default entry: `key` is empty and `priority` 0. `action` absent resets it to the program's own.
    pub is_default: bool,
    /// What to do. May be absent only to modify the rest (meter, counter) or to reset the default action.
    pub action: Option<TableAction>,
    /// When an unused entry is reported; zero is never.
    pub idle_timeout: Duration,
    /// The controller's own note, kept for reading back.
    pub metadata: Vec<u8>,
    /// Direct meter. Written: absent leaves an existing configuration alone when modifying. Read: absent if it has none.
    pub meter_config: Option<MeterConfig>,
    /// Direct counter. Written: sets it. Read: present if the table has direct counters.
    pub counter_data: Option<CounterData>,
    /// Read only: time since a packet hit the entry (or since it was written), in tables with idle timeouts.
    pub time_since_last_hit: Option<Duration>,
    /// Read only: one of the program's own constant entries.
    pub is_const: bool,
}

impl TableEntry {
    /// An entry that does `action` for `key`; the rest is absent or zero.
    pub fn new(table: TableId, key: Vec<FieldMatch>, priority: i32, action: TableAction) -> Self {
        Self {
            key,
            priority,
            is_default: false,
            action: Some(action),
            ..Self::default_entry(table, None)
        }
    }

    /// The default entry of `table`; no action resets it to the program's own.
    pub fn default_entry(table: TableId, action: Option<ActionCall>) -> Self {
        Self {
            table,
            key: Vec::new(),
            priority: 0,
            is_default: true,
            action: action.map(TableAction::Call),
            idle_timeout: Duration::ZERO,
            metadata: Vec::new(),
            meter_config: None,
            counter_data: None,
            time_since_last_hit: None,
            is_const: false,
        }
    }
}

/// A member of an action profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionProfileMember {
    /// The profile.
    pub profile: ActionProfileId,
    /// The controller's id of the member.
    pub member: u32,
    /// What it does.
    pub call: ActionCall,
}

/// A group of members of an action profile with selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionProfileGroup {
    /// The profile.
    pub profile: ActionProfileId,
    /// The controller's id of the group.
    pub group: u32,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// Most members, kept for reading back; zero is the profile's own limit.
    pub max_size: u32,
}

/// A member in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupMember {
    /// The member.
    pub member: u32,
    /// Its share, at least 1.
    pub weight: u32,
    /// The port whose being down takes the member out, kept for reading back.
    pub watch_port: Option<u32>,
}

/// A cell of an indirect counter array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterCell {
    /// The array.
    pub counter: CounterId,
    /// The cell; absent in a written update: all of them.
    pub index: Option<u64>,
    /// Its value.
    pub data: CounterData,
}

/// A cell of an indirect meter array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterCell {
    /// The array.
    pub meter: MeterId,
    /// The cell; absent in a written update: all of them.
    pub index: Option<u64>,
    /// Its rates; absent: everything is green.
    pub config: Option<MeterConfig>,
}

/// A cell of a register array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterCell {
    /// The array.
    pub register: RegisterId,
    /// The cell; absent in a written update: all of them.
    pub index: Option<u64>,
    /// Its value.
    pub value: Value,
}

/// One copy of a multicast or cloned packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Replica {
    /// Egress port.
    pub port: u32,
    /// What `standard_metadata.egress_rid` says.
    pub instance: u16,
}

/// A multicast group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MulticastGroup {
    /// What `standard_metadata.mcast_grp` is set to; not 0.
    pub group: u32,
    /// Its copies, in order.
    pub replicas: Vec<Replica>,
}

/// A clone session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneSession {
    /// What `clone()` names.
    pub session: u32,
    /// Its copies, in order.
    pub replicas: Vec<Replica>,
    /// Class of service, kept for reading back.
    pub class_of_service: u32,
    /// Length that copies are truncated to; 0 is not.
    pub packet_length_bytes: u32,
}

/// The members of a parser value set. Only MODIFY applies: it replaces them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueSetEntry {
    /// The value set.
    pub value_set: ValueSetId,
    /// Members: one match for each field of the set's key.
    pub members: Vec<Vec<FieldMatch>>,
}

/// How digests are batched. Insert begins sending them, delete stops it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestConfig {
    /// The digest.
    pub digest: DigestId,
    /// Longest time that a digest waits for others; zero: none.
    pub max_timeout: Duration,
    /// Most digests in a list; 0: no limit.
    pub max_list_size: usize,
    /// How long the same digest is not sent again if no acknowledgement comes.
    pub ack_timeout: Duration,
}

/// Anything that a controller can write or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// A table's entry or default entry.
    TableEntry(TableEntry),
    /// A member of an action profile.
    ActionProfileMember(ActionProfileMember),
    /// A group of an action profile.
    ActionProfileGroup(ActionProfileGroup),
    /// A cell (or all cells) of a counter array; modify only.
    Counter(CounterCell),
    /// A cell (or all cells) of a meter array; modify only.
    Meter(MeterCell),
    /// A cell (or all cells) of a register array; modify only.
    Register(RegisterCell),
    /// The counter of the entry with this key; modify only. Other members of the entry are ignored.
    DirectCounter(TableEntry),
    /// The meter of the entry with this key; modify only, absent configuration: everything is green.
    DirectMeter(TableEntry),
    /// A multicast group.
    MulticastGroup(MulticastGroup),
    /// A clone session.
    CloneSession(CloneSession),
    /// A parser value set; modify only.
    ValueSet(ValueSetEntry),
    /// How a digest is sent.
    Digest(DigestConfig),
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Must not exist yet.
    Insert(Entity),
    /// Must exist.
    Modify(Entity),
    /// Must exist. Only what identifies the entity is looked at.
    Delete(Entity),
}

/// What to read. An absent id reads all objects of the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Entries, default entries not included.
    TableEntries {
        /// Of this table.
        table: Option<TableId>,
    },
    /// The one entry with this key and priority (not found: nothing is visited).
    TableEntry {
        /// The table.
        table: TableId,
        /// Its key.
        key: Vec<FieldMatch>,
        /// Its priority.
        priority: i32,
    },
    /// Default entries.
    DefaultEntries {
        /// Of this table.
        table: Option<TableId>,
    },
    /// Members of action profiles.
    ActionProfileMembers {
        /// Of this profile.
        profile: Option<ActionProfileId>,
        /// Only this one.
        member: Option<u32>,
    },
    /// Groups of action profiles.
    ActionProfileGroups {
        /// Of this profile.
        profile: Option<ActionProfileId>,
        /// Only this one.
        group: Option<u32>,
    },
    /// Counter cells.
    Counters {
        /// Of this array.
        counter: Option<CounterId>,
        /// Only this one.
        index: Option<u64>,
    },
    /// Meter cells.
    Meters {
        /// Of this array.
        meter: Option<MeterId>,
        /// Only this one.
        index: Option<u64>,
    },
    /// Register cells.
    Registers {
        /// Of this array.
        register: Option<RegisterId>,
        /// Only this one.
        index: Option<u64>,
    },
    /// Multicast groups.
    MulticastGroups {
        /// Only this one.
        group: Option<u32>,
    },
    /// Clone sessions.
    CloneSessions {
        /// Only this one.
        session: Option<u32>,
    },
    /// Value sets.
    ValueSets {
        /// Only this one.
        value_set: Option<ValueSetId>,
    },
    /// Digest configurations.
    Digests {
        /// Only this one.
        digest: Option<DigestId>,
    },
}
