//! The control API's vocabulary: the entities of P4Runtime, addressed by the program's own objects.
//!
//! A P4Runtime server translates: P4Info ids and names to the ids of [`ProgramInfo`] (the names of tables, actions,
//! key fields and parameters in p4c's BMv2 JSON are those of its P4Info), canonical byte strings to [`Value`]s.
//! [`Switch`](crate::Switch) applies and reads entities; this module only names them.

pub mod entity;
pub mod error;
pub mod event;
pub mod info;

pub use entity::{
    ActionCall, ActionProfileGroup, ActionProfileMember, CloneSession, CounterCell, CounterData, DigestConfig, Entity,
    FieldMatch, GroupMember, MeterCell, MeterConfig, MulticastGroup, Query, RegisterCell, Replica, TableAction,
    TableEntry, Update, Value, ValueSetEntry, WeightedAction,
};
pub use error::{BatchError, ControlError};
pub use event::{DigestList, Event};
pub use info::{
    ActionId, ActionInfo, ActionProfileId, ActionProfileInfo, CounterId, CounterInfo, DigestId, DigestInfo, KeyInfo,
    MatchKind, MeterId, MeterInfo, ParameterInfo, ProgramInfo, RegisterId, RegisterInfo, TableId, TableInfo, Unit,
    ValueSetId, ValueSetInfo,
};
