//! Members and groups of action profiles.

use super::{Kind, MAX_GROUP, Result, invalid, missing};
use crate::control::{ActionId, ActionProfileGroup, ActionProfileId, ActionProfileMember, ControlError};
use crate::engine::Engine;
use crate::tables::profile::Group;

impl Engine {
    pub(super) fn profile_model(&self, profile: ActionProfileId) -> Result<&crate::program::table::Profile> {
        self.program
            .profiles
            .get(profile.index())
            .ok_or_else(|| missing("action profile", profile.0))
    }

    pub(super) fn profile_action(&self, profile: ActionProfileId, action: ActionId) -> Result<()> {
        let tables = self
            .program
            .tables
            .iter()
            .filter(|t| t.profile == Some(profile.index()));
        if tables.flat_map(|t| &t.actions).any(|a| a.action == action.index()) {
            return Ok(());
        }
        invalid(format_args!("no table of the action profile has action {}", action.0))
    }

    pub(super) fn write_member(&mut self, kind: Kind, member: &ActionProfileMember) -> Result<()> {
        let model = self.profile_model(member.profile)?;
        let (name, max_size) = (model.name.clone(), model.max_size);
        let present = self.profiles[member.profile.index()]
            .member_ids
            .get(&member.member)
            .copied();
        match (kind, present) {
            (Kind::Insert, Some(_)) => Err(ControlError::AlreadyExists(format!("member {}", member.member))),
            (Kind::Insert, None) => {
                self.profile_action(member.profile, member.call.action)?;
                let words = self.arguments(&member.call)?;
                let profile = &mut self.profiles[member.profile.index()];
                if profile.member_ids.len() >= max_size {
                    return Err(ControlError::ResourceExhausted(
                        format!("action profile {name}"),
                        max_size,
                    ));
                }
                profile.add_member(Some(member.member), member.call.action.index(), words.into());
                Ok(())
            }
            (_, None) => Err(missing("member", member.member)),
            (Kind::Modify, Some(at)) => {
                self.profile_action(member.profile, member.call.action)?;
                let words = self.arguments(&member.call)?;
                let known = &mut self.profiles[member.profile.index()].members[at as usize];
                known.action = member.call.action.index();
                known.arguments = words.into();
                Ok(())
            }
            (Kind::Delete, Some(at)) => {
                let profile = &mut self.profiles[member.profile.index()];
                if profile.members[at as usize].references > 0 {
                    let what = format!("member {}", member.member);
                    return Err(ControlError::InUse(what, "an entry or a group".to_owned()));
                }
                profile.remove_member(at);
                Ok(())
            }
        }
    }

    pub(super) fn write_group(&mut self, kind: Kind, group: &ActionProfileGroup) -> Result<()> {
        let model = self.profile_model(group.profile)?;
        if model.selector.is_none() {
            return invalid(format_args!("action profile {} has no groups", model.name));
        }
        let profile = &mut self.profiles[group.profile.index()];
        let present = profile.group_ids.get(&group.group).copied();
        let members = |profile: &crate::tables::profile::ActionProfile| -> Result<(Vec<u32>, Vec<u32>)> {
            let weights: u64 = group.members.iter().map(|m| m.weight as u64).sum();
            if group.members.iter().any(|m| m.weight == 0) || weights > MAX_GROUP {
                return invalid("weights are at least 1, and 65536 together at most");
            }
            if group.max_size > 0 && weights > group.max_size as u64 {
                return Err(ControlError::ResourceExhausted(
                    format!("group {}", group.group),
                    group.max_size as usize,
                ));
            }
            let (mut slots, mut positions) = (Vec::new(), Vec::new());
            for member in &group.members {
                let at = profile.member_ids.get(&member.member);
                let at = *at.ok_or_else(|| missing("member", member.member))?;
                if positions.contains(&at) {
                    return invalid(format_args!("member {} is in the group twice", member.member));
                }
                positions.push(at);
                slots.extend(std::iter::repeat_n(at, member.weight as usize));
            }
            Ok((slots, positions))
        };
        match (kind, present) {
            (Kind::Insert, Some(_)) => Err(ControlError::AlreadyExists(format!("group {}", group.group))),
            (Kind::Insert, None) => {
                let (slots, positions) = members(profile)?;
                for at in positions {
                    profile.members[at as usize].references += 1;
                }
                let made = Group {
                    id: group.group,
                    members: group.members.clone(),
                    max_size: group.max_size,
                    slots: slots.into(),
                    live: true,
                    references: 0,
                    one_shot: false,
                };
                profile.add_group(Some(group.group), made);
                Ok(())
            }
            (_, None) => Err(missing("group", group.group)),
            (Kind::Modify, Some(at)) => {
                let (slots, positions) = members(profile)?;
                profile.unrefer_members(at);
                for at in positions {
                    profile.members[at as usize].references += 1;
                }
                let known = &mut profile.groups[at as usize];
                known.members = group.members.clone();
                known.slots = slots.into();
                known.max_size = group.max_size;
                Ok(())
            }
            (Kind::Delete, Some(at)) => {
                if profile.groups[at as usize].references > 0 {
                    return Err(ControlError::InUse(
                        format!("group {}", group.group),
                        "an entry".to_owned(),
                    ));
                }
                profile.unrefer_members(at);
                profile.remove_group(at);
                Ok(())
            }
        }
    }
}
