//! Owns the change from one plan to the next, in its phases.

use super::{Cell, SessionPlan};
use crate::placement::entry::{Action, Entry, Key, Write};
use crate::placement::ids::{Freed, Kind};
use std::collections::BTreeMap;
use upf_model::PdrId;

/// What leads from one plan to the next. See [`crate::placement`] for the phases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Before: nothing refers to it yet.
    pub prepare: Vec<Write>,
    /// In order; each takes effect by itself.
    pub switch: Vec<Write>,
    /// Entries to delete once no packet of before is on its way.
    pub cleanup: Vec<Key>,
    /// Numbers that are free after that.
    pub freed: Freed,
    /// Cells whose counters are to be read a last time after that; they are free then.
    pub retired: Vec<(PdrId, Cell)>,
    /// Numbers taken for the new plan: free again if it does not come to be.
    pub taken: Freed,
    /// Epochs that nothing is under after the change: their flows are to be deleted with the rest.
    pub ended_epochs: Vec<u32>,
}

impl Change {
    /// Nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.prepare.is_empty() && self.switch.is_empty() && self.cleanup.is_empty()
    }

    /// What was prepared, to be deleted where the change does not come to be.
    pub fn prepared(&self) -> impl Iterator<Item = Key> + '_ {
        self.prepare.iter().filter_map(|write| match write {
            Write::Insert(entry) => Some(entry.key),
            _ => None,
        })
    }
}

impl SessionPlan {
    /// What leads here from the plan before.
    pub(super) fn since(&self, before: Option<&SessionPlan>) -> Change {
        let mut change = Change::default();
        for meter in self.meters.values() {
            let mut of_before = before.into_iter().flat_map(|b| b.meters.values());
            if of_before.all(|m| (m.cell, m.rates) != (meter.cell, meter.rates)) {
                change.prepare.push(Write::Meter(meter.cell, meter.rates));
            }
        }
        let numbers = |plan: &SessionPlan| -> BTreeMap<Key, Action> {
            let fars = plan.fars.values().map(|(id, action)| (Key::Far(*id), action.clone()));
            let rules = plan
                .rules
                .values()
                .map(|rule| (Key::Rule(rule.id), rule.action.clone()));
            fars.chain(rules).collect()
        };
        let (had, has) = (before.map(numbers).unwrap_or_default(), numbers(self));
        // FARs first: a rule that is there before its FAR would send packets to the host for a moment.
        let far_first = |key: &Key| !matches!(key, Key::Far(_));
        let mut new: Vec<_> = has.iter().collect();
        new.sort_by_key(|(key, _)| far_first(key));
        for (key, action) in new {
            let entry = Entry::new(*key, action.clone());
            match had.get(key) {
                None => change.prepare.push(Write::Insert(entry)),
                Some(old) if old != action => change.switch.push(Write::Modify(entry)),
                Some(_) => {}
            }
        }
        change.cleanup.extend(had.keys().filter(|key| !has.contains_key(key)));
        let entered = before.map(SessionPlan::session_entries).unwrap_or_default();
        let enters = self.session_entries();
        let mut switch = |uplink: bool| {
            for (key, action) in enters.iter().filter(|(key, _)| key.is_uplink() == uplink) {
                let entry = Entry::new(*key, action.clone());
                match entered.get(key) {
                    None => change.switch.push(Write::Insert(entry)),
                    Some(old) if old != action => change.switch.push(Write::Modify(entry)),
                    Some(_) => {}
                }
            }
            let gone = entered
                .keys()
                .filter(|key| key.is_uplink() == uplink && !enters.contains_key(key));
            change.switch.extend(gone.map(|key| Write::Delete(*key)));
        };
        switch(true);
        switch(false);
        if let Some(before) = before {
            before.leave(Some(self), &mut change);
        }
        change
    }

    /// What removes it.
    pub fn removal(&self) -> Change {
        let mut change = Change {
            switch: self.session_entries().into_keys().map(Write::Delete).collect(),
            ..Change::default()
        };
        let rules = self.rules.values().map(|rule| Key::Rule(rule.id));
        change.cleanup.extend(rules);
        change.cleanup.extend(self.fars.values().map(|(id, _)| Key::Far(*id)));
        self.leave(None, &mut change);
        change
    }

    /// Numbers of this plan that the next one has not.
    fn leave(&self, next: Option<&SessionPlan>, change: &mut Change) {
        for key in &change.cleanup {
            match key {
                Key::Rule(id) => change.freed.0.push((Kind::Rule, *id)),
                Key::Far(id) => change.freed.0.push((Kind::Far, *id)),
                _ => {}
            }
        }
        let meters = self
            .meters
            .iter()
            .filter(|(of, _)| next.is_none_or(|n| !n.meters.contains_key(of)));
        change
            .freed
            .0
            .extend(meters.map(|(_, meter)| (Kind::Meter, meter.index)));
        let stays = |pdr: &PdrId, cell: &Cell| next.and_then(|n| n.cells.get(pdr)).is_some_and(|c| c.cell == cell.cell);
        let retired = self.cells.iter().filter(|(pdr, cell)| !stays(pdr, cell));
        change.retired = retired.map(|(pdr, cell)| (*pdr, cell.clone())).collect();
        let epochs = next.map(SessionPlan::epochs).unwrap_or_default();
        change.ended_epochs = self.epochs().difference(&epochs).copied().collect();
    }
}
