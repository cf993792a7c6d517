//! Shapes: the rules of a session without what is the subscriber's own.
//!
//! Thousands of subscribers have the same rules but for their F-TEIDs, addresses and precedence values. A shape says
//! "the session's first key", "the session's first set of UE addresses", "the second in order of precedence" instead;
//! sessions of equal shapes share one compiled [`crate::ruleset::RuleSet`]. What remains the session's own is small:
//! its keys, its sets of UE addresses, its precedence values.

use crate::writer::PutError;
use crate::{PdrMatch, SessionKey};
use std::borrow::Cow;
use upf_model::{Interface, IpPrefix, NetworkInstanceId, Precedence, SdfFilter, Teid};

/// Most keys of a session: one bit of a word each, and one for its framed routes.
pub(crate) const MAX_KEYS: usize = 31;
/// The ordinal of packets that were found by a framed route.
pub(crate) const FRAMED: u8 = 31;
/// Most rules of a session: their indexes are 16 bits, and one value is not an index.
pub(crate) const MAX_RULES: usize = 65_535;
/// Most distinct sets of UE addresses in the rules of a session.
const MAX_UE_SETS: usize = 255;

/// One rule, generalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape<'r> {
    pub source_interface: Interface,
    pub network_instance: NetworkInstanceId,
    /// It detects packets that came plain.
    pub plain: bool,
    /// Keys (bits by ordinal) by which packets are accepted whatever the UE's end is: no address is asked for, or
    /// the key implies it.
    pub free_keys: u32,
    /// Keys by which packets are accepted if the UE's end is in `ue_set`.
    pub checked_keys: u32,
    /// Which of the session's sets of UE addresses the rule asks for.
    pub ue_set: Option<u8>,
    pub qfis: u64,
    pub sdf: Cow<'r, [SdfFilter]>,
}

/// All rules of a session, generalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shapes<'r> {
    /// In the order of the rules as put.
    pub rules: Box<[Shape<'r>]>,
    /// Indexes of the rules, the first to win first.
    pub order: Box<[u16]>,
}

/// The sets of UE addresses that a session's rules ask for, each once.
pub(crate) type UeSets = Box<[Box<[IpPrefix]>]>;

impl<'r> Shapes<'r> {
    /// Generalises `rules`, of a session that has those `keys`, and framed routes or not.
    pub fn of(keys: &[SessionKey], has_framed: bool, rules: &'r [PdrMatch]) -> Result<(Self, UeSets), PutError> {
        PutError::limit("keys in a session", MAX_KEYS, keys.len())?;
        PutError::limit("rules in a session", MAX_RULES, rules.len())?;
        let mut ue_sets: Vec<Box<[IpPrefix]>> = Vec::new();
        let mut shapes = Vec::with_capacity(rules.len());
        for rule in rules {
            let ue_set = match ue_sets.iter().position(|set| **set == *rule.ue) {
                _ if rule.ue.is_empty() => None,
                Some(known) => Some(known as u8),
                None => {
                    PutError::limit(
                        "different sets of UE addresses in a session",
                        MAX_UE_SETS,
                        ue_sets.len() + 1,
                    )?;
                    ue_sets.push(rule.ue.as_slice().into());
                    Some((ue_sets.len() - 1) as u8)
                }
            };
            shapes.push(Shape::of(rule, keys, has_framed, ue_set));
        }
        let mut order: Box<[u16]> = (0..rules.len() as u16).collect();
        order.sort_by_key(|&rule| rules[usize::from(rule)].precedence);
        Ok((
            Self {
                rules: shapes.into(),
                order,
            },
            ue_sets.into(),
        ))
    }

    /// The same, to keep.
    pub fn into_owned(self) -> Shapes<'static> {
        let own = |shape: Shape<'_>| Shape {
            sdf: Cow::Owned(shape.sdf.into_owned()),
            ..shape
        };
        Shapes {
            rules: self.rules.into_iter().map(own).collect(),
            order: self.order,
        }
    }
}

impl<'r> Shape<'r> {
    fn of(rule: &'r PdrMatch, keys: &[SessionKey], has_framed: bool, ue_set: Option<u8>) -> Self {
        let (mut free_keys, mut checked_keys) = (0, 0);
        for (ordinal, key) in keys.iter().enumerate() {
            match UeCheck::of(rule, *key) {
                UeCheck::Implied => free_keys |= 1 << ordinal,
                UeCheck::Needed => checked_keys |= 1 << ordinal,
                UeCheck::Hopeless => {}
            }
        }
        let plain = rule.tunnel.is_empty();
        if plain && has_framed {
            *(if ue_set.is_none() {
                &mut free_keys
            } else {
                &mut checked_keys
            }) |= 1 << FRAMED;
        }
        Self {
            source_interface: rule.source_interface,
            network_instance: rule.network_instance,
            plain,
            free_keys,
            checked_keys,
            ue_set,
            qfis: rule.qfis,
            sdf: Cow::Borrowed(&rule.sdf),
        }
    }

    /// The rule again, for a session with those keys and sets.
    pub fn rule(&self, keys: &[SessionKey], ue_sets: &UeSets, precedence: Precedence) -> PdrMatch {
        let named = |(ordinal, key): (usize, &SessionKey)| {
            let accepted = (self.free_keys | self.checked_keys) >> ordinal & 1 == 1;
            (accepted && key.is_tunnel()).then_some(*key)
        };
        let mut tunnel: Vec<_> = keys.iter().enumerate().filter_map(named).collect();
        if tunnel.is_empty() && !self.plain {
            // Its tunnel is none of the session's: the invalid TEID stands for it, which no packet carries.
            tunnel.push(SessionKey::FTeid {
                endpoint: Default::default(),
                teid: Teid(0),
            });
        }
        PdrMatch {
            precedence,
            source_interface: self.source_interface,
            network_instance: self.network_instance,
            tunnel,
            ue: self
                .ue_set
                .map_or_else(Vec::new, |set| ue_sets[usize::from(set)].to_vec()),
            qfis: self.qfis,
            sdf: self.sdf.to_vec(),
        }
    }
}

/// Whether the UE's address is left to check on packets that came by a key.
enum UeCheck {
    /// Every packet of that key passes.
    Implied,
    Needed,
    /// No packet of that key passes.
    Hopeless,
}

impl UeCheck {
    fn of(rule: &PdrMatch, key: SessionKey) -> Self {
        let accepted = if rule.tunnel.is_empty() {
            !key.is_tunnel()
        } else {
            rule.tunnel.contains(&key)
        };
        let holds = |p: &IpPrefix| match (key, p) {
            (SessionKey::UeV4 { addr, .. }, IpPrefix::V4(p)) => p.contains(addr),
            (SessionKey::UeV6 { prefix64, .. }, IpPrefix::V6(p)) => {
                p.len() <= 64 && p.contains(((prefix64 as u128) << 64).into())
            }
            _ => false,
        };
        let touches = |p: &IpPrefix| match (key, p) {
            (SessionKey::FTeid { .. }, _) => true,
            (SessionKey::UeV6 { prefix64, .. }, IpPrefix::V6(p)) => (p.addr().to_bits() >> 64) as u64 == prefix64,
            _ => false,
        };
        match () {
            () if !accepted => Self::Hopeless,
            () if rule.ue.is_empty() || rule.ue.iter().any(holds) => Self::Implied,
            () if rule.ue.iter().any(touches) => Self::Needed,
            () => Self::Hopeless,
        }
    }
}
