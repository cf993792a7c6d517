//! The rules of one kind while a request is worked on: created, found and removed by identifier.

use super::{Refusal, RuleKind, limits};
use crate::{BarId, FarId, PdrId, QerId, UrrId, ie};
use std::collections::BTreeMap;

/// An identifier of a kind of rule, and what refusals say about that kind.
pub(super) trait RuleId: Ord + Copy {
    /// The kind.
    const KIND: RuleKind;
    /// Type of the IE that carries the identifier.
    const ID_IE: u16;
    /// Type of the grouped IE that creates such a rule.
    const CREATE_IE: u16;
    /// How many a session may have.
    const LIMIT: usize;
    /// Widened to the largest identifier there is.
    fn number(self) -> u32;
}

macro_rules! rule_id {
    ($id:ty, $kind:ident, $id_ie:ident, $create_ie:ident, $limit:expr) => {
        impl RuleId for $id {
            const KIND: RuleKind = RuleKind::$kind;
            const ID_IE: u16 = ie::$id_ie;
            const CREATE_IE: u16 = ie::$create_ie;
            const LIMIT: usize = $limit;
            fn number(self) -> u32 {
                self.0.into()
            }
        }
    };
}

rule_id!(PdrId, Pdr, PDR_ID, CREATE_PDR, limits::PDRS);
rule_id!(FarId, Far, FAR_ID, CREATE_FAR, limits::FARS);
rule_id!(QerId, Qer, QER_ID, CREATE_QER, limits::QERS);
rule_id!(UrrId, Urr, URR_ID, CREATE_URR, limits::URRS);
rule_id!(BarId, Bar, BAR_ID, CREATE_BAR, limits::BARS);

/// Rules by identifier, ascending.
pub(super) struct Table<Id, Rule>(BTreeMap<Id, Rule>);

impl<Id: RuleId, Rule> Table<Id, Rule> {
    pub(super) fn new(rules: impl IntoIterator<Item = (Id, Rule)>) -> Self {
        Self(rules.into_iter().collect())
    }

    /// Adds a rule under an identifier that is free.
    pub(super) fn create(&mut self, id: Id, rule: Rule) -> Result<(), Refusal> {
        if self.0.contains_key(&id) {
            return Err(
                Refusal::rule(Id::ID_IE, "this identifier is taken by another rule of the session").in_rule(id),
            );
        }
        if self.0.len() >= Id::LIMIT {
            return Err(Refusal::too_many(Id::CREATE_IE, &format!("{}s", Id::KIND), Id::LIMIT).in_rule(id));
        }
        self.0.insert(id, rule);
        Ok(())
    }

    /// Takes a rule out.
    pub(super) fn remove(&mut self, id: Id) -> Result<Rule, Refusal> {
        self.0.remove(&id).ok_or_else(|| Self::unknown(id))
    }

    /// The rule to update.
    pub(super) fn existing(&mut self, id: Id) -> Result<&mut Rule, Refusal> {
        self.0.get_mut(&id).ok_or_else(|| Self::unknown(id))
    }

    pub(super) fn contains(&self, id: Id) -> bool {
        self.0.contains_key(&id)
    }

    pub(super) fn get(&self, id: Id) -> Option<&Rule> {
        self.0.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &Rule)> {
        self.0.iter().map(|(id, rule)| (*id, rule))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut Rule)> {
        self.0.iter_mut().map(|(id, rule)| (*id, rule))
    }

    /// The rules, ascending by identifier.
    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.0.into_values().collect()
    }

    fn unknown(id: Id) -> Refusal {
        Refusal::rule(Id::ID_IE, "the session has no rule of this identifier").in_rule(id)
    }
}
