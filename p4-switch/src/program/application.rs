//! Tables as the code applies them: of what the key is put together, and where the code goes on after each outcome.
//!
//! [`table`](super::table) says it by nodes and names; here it is what a packet needs, side by side.

use super::action::Action;
use super::code::Label;
use super::table::{Table, TablePart};

/// How a table is applied.
#[derive(Debug)]
pub(crate) struct Application {
    /// Words of the key.
    pub(crate) words: usize,
    pub(crate) parts: Box<[TablePart]>,
    /// A hit leaves a mark in its row: a counter, a meter or the time.
    pub(crate) marks: bool,
    /// Some action names cells of counters or meters that come later.
    pub(crate) names_cells: bool,
    pub(crate) hit: Outcomes,
    pub(crate) miss: Outcomes,
}

/// Where the code goes on.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// For each action of the table.
    pub(crate) actions: Box<[Entrance]>,
    /// If there is no action.
    pub(crate) past: Label,
}

/// Where an action begins, and what it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entrance {
    pub(crate) at: Label,
    /// Where the pipeline goes on after it.
    pub(crate) then: Label,
    /// Words that its arguments take.
    pub(crate) words: u32,
    /// Its number in the program.
    pub(crate) action: u32,
}

impl Outcomes {
    /// The entrance of an action that is not known by its position: of a member of an action profile.
    pub(crate) fn of_action(&self, action: usize, begins: &[Label], words: usize) -> Entrance {
        let known = self.actions.iter().find(|e| e.action as usize == action);
        known.copied().unwrap_or(Entrance {
            at: begins[action],
            then: self.past,
            words: words as u32,
            action: action as u32,
        })
    }
}

impl Application {
    /// `begins`: where each action begins; `place`: where each node does.
    pub(crate) fn new(table: &Table, actions: &[Action], begins: &[Label], place: impl Fn(u32) -> Label) -> Self {
        let outcomes = |fixed: Option<u32>| {
            let entrances = table.actions.iter().map(|of_table| Entrance {
                at: begins[of_table.action],
                then: place(fixed.unwrap_or(of_table.next)),
                words: actions[of_table.action].packing.words as u32,
                action: of_table.action as u32,
            });
            Outcomes {
                actions: entrances.collect(),
                past: place(fixed.unwrap_or(table.base_default)),
            }
        };
        Application {
            words: table.key.words,
            parts: table.parts.clone(),
            marks: table.counters || table.timeouts || table.meter.is_some(),
            names_cells: table.actions.iter().any(|a| !actions[a.action].ahead.is_empty()),
            hit: outcomes(table.on_hit),
            miss: outcomes(table.on_miss),
        }
    }
}
