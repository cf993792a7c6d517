//! Quotas: how much of the table one owner of sessions may take.
//!
//! An owner is whoever answers for sessions: a PFCP association. What an owner has is counted from the first session on,
//! so that a quota may be set, raised or lowered at any time; one that is exceeded already refuses what is new and leaves
//! what is there.

use crate::writer::PutError;

/// Whose a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct OwnerId(pub u16);

/// What an owner may have. The default is no limit but those of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Sessions.
    pub sessions: u32,
    /// Rules in all of them.
    pub rules: u32,
    /// Rules in one of them.
    pub rules_in_a_session: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            sessions: u32::MAX,
            rules: u32::MAX,
            rules_in_a_session: u32::MAX,
        }
    }
}

/// What owners have, and what they may have.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Vec<Account>);

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    quota: Quota,
    sessions: u32,
    rules: u32,
}

impl Accounts {
    fn of(&self, owner: OwnerId) -> Account {
        self.0.get(usize::from(owner.0)).copied().unwrap_or_default()
    }

    fn of_mut(&mut self, owner: OwnerId) -> &mut Account {
        let at = usize::from(owner.0);
        if self.0.len() <= at {
            self.0.resize(at + 1, Account::default());
        }
        &mut self.0[at]
    }

    pub fn set_quota(&mut self, owner: OwnerId, quota: Quota) {
        self.of_mut(owner).quota = quota;
    }

    /// How many sessions and rules an owner has.
    pub fn usage(&self, owner: OwnerId) -> (u32, u32) {
        let account = self.of(owner);
        (account.sessions, account.rules)
    }

    /// Whether `owner` may have a session of so many rules, instead of `former`.
    pub fn expect_room(&self, owner: OwnerId, former: Option<(OwnerId, u32)>, rules: usize) -> Result<(), PutError> {
        let Account {
            quota,
            sessions,
            rules: had,
        } = self.of(owner);
        let mine = former.filter(|(of, _)| *of == owner).map(|(_, rules)| rules);
        let limit = |what, limit: u32, before: u32, after: usize| {
            if after <= limit as usize || after <= before as usize {
                Ok(())
            } else {
                Err(PutError::OverQuota {
                    owner,
                    what,
                    limit: limit as usize,
                    found: after,
                })
            }
        };
        limit("rules in a session", quota.rules_in_a_session, mine.unwrap_or(0), rules)?;
        limit(
            "sessions",
            quota.sessions,
            sessions,
            sessions as usize + usize::from(mine.is_none()),
        )?;
        limit("rules", quota.rules, had, (had - mine.unwrap_or(0)) as usize + rules)
    }

    /// A session has come, has changed or has gone: whose it was and is, with how many rules.
    pub fn book(&mut self, former: Option<(OwnerId, u32)>, now: Option<(OwnerId, u32)>) {
        if let Some((owner, rules)) = former {
            let account = self.of_mut(owner);
            account.sessions -= 1;
            account.rules -= rules;
        }
        if let Some((owner, rules)) = now {
            let account = self.of_mut(owner);
            account.sessions += 1;
            account.rules += rules;
        }
    }
}
