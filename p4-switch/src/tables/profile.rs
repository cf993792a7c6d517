//! Action profiles: members that entries refer to, groups of which a hash selects a member.

use std::collections::HashMap;

use super::Control;
use crate::control::GroupMember;

/// What a member does: an action of the profile's tables, with arguments.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// The controller's number.
    pub(crate) id: u32,
    /// The program's action.
    pub(crate) action: usize,
    pub(crate) arguments: Box<[u64]>,
    pub(crate) live: bool,
    /// Entries and groups that refer to it.
    pub(crate) references: usize,
}

/// A group: each member stands in `slots` as often as its weight says.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) id: u32,
    pub(crate) members: Vec<GroupMember>,
    pub(crate) max_size: u32,
    /// Positions of members.
    pub(crate) slots: Box<[u32]>,
    pub(crate) live: bool,
    pub(crate) references: usize,
    /// A one-shot group with members of its own.
    pub(crate) one_shot: bool,
}

/// An action profile's members and groups.
#[derive(Debug, Default)]
pub(crate) struct ActionProfile {
    pub(crate) members: Vec<Member>,
    pub(crate) groups: Vec<Group>,
    pub(crate) member_ids: HashMap<u32, u32>,
    pub(crate) group_ids: HashMap<u32, u32>,
    free_members: Vec<u32>,
    free_groups: Vec<u32>,
    /// Counts calls of selectors that look at no bytes.
    pub(crate) counter: u64,
}

impl ActionProfile {
    /// Adds a member; its number, if it has one, must be new.
    pub(crate) fn add_member(&mut self, id: Option<u32>, action: usize, arguments: Box<[u64]>) -> u32 {
        let member = Member {
            id: id.unwrap_or(0),
            action,
            arguments,
            live: true,
            references: 0,
        };
        let at = match self.free_members.pop() {
            Some(at) => {
                self.members[at as usize] = member;
                at
            }
            None => {
                self.members.push(member);
                self.members.len() as u32 - 1
            }
        };
        if let Some(id) = id {
            self.member_ids.insert(id, at);
        }
        at
    }

    /// Takes a member out that nothing refers to.
    pub(crate) fn remove_member(&mut self, at: u32) {
        let member = &mut self.members[at as usize];
        member.live = false;
        if self.member_ids.get(&member.id) == Some(&at) {
            self.member_ids.remove(&member.id);
        }
        self.free_members.push(at);
    }

    /// Adds a group; its number, if it has one, must be new.
    pub(crate) fn add_group(&mut self, id: Option<u32>, group: Group) -> u32 {
        let at = match self.free_groups.pop() {
            Some(at) => {
                self.groups[at as usize] = group;
                at
            }
            None => {
                self.groups.push(group);
                self.groups.len() as u32 - 1
            }
        };
        if let Some(id) = id {
            self.group_ids.insert(id, at);
        }
        at
    }

    /// Takes a group out that nothing refers to.
    pub(crate) fn remove_group(&mut self, at: u32) {
        let group = &mut self.groups[at as usize];
        group.live = false;
        if self.group_ids.get(&group.id) == Some(&at) && !group.one_shot {
            self.group_ids.remove(&group.id);
        }
        self.free_groups.push(at);
    }

    /// Members that a controller made.
    pub(crate) fn live_members(&self) -> impl Iterator<Item = (u32, &Member)> {
        let known = |at: u32, m: &Member| m.live && self.member_ids.get(&m.id) == Some(&at);
        self.members
            .iter()
            .enumerate()
            .map(|(i, m)| (i as u32, m))
            .filter(move |(at, m)| known(*at, m))
    }

    /// Takes back a group's references to its members.
    pub(crate) fn unrefer_members(&mut self, group: u32) {
        for member in std::mem::take(&mut self.groups[group as usize].members) {
            if let Some(at) = self.member_ids.get(&member.member) {
                let references = &mut self.members[*at as usize].references;
                *references = references.saturating_sub(1);
            }
        }
    }

    /// Counts a reference from an entry, or takes it back.
    pub(crate) fn refer(&mut self, control: Control, change: isize) {
        let references = match control {
            Control::Member(at) => &mut self.members[at as usize].references,
            Control::Group(at) => &mut self.groups[at as usize].references,
            _ => return,
        };
        *references = references.saturating_add_signed(change);
    }
}
