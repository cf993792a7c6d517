//! Shapes: the rules of a session without what is the subscriber's own, as a string of bytes.
//!
//! Thousands of subscribers have the same rules but for their F-TEIDs, addresses and precedence values. A shape says
//! "the session's first key", "the session's second set of UE addresses" instead, so that the shapes of all of them are
//! the same bytes, kept once. What remains the session's own is small: its keys, its sets of UE addresses, its order.
//!
//! Packets are never compared with shapes. They are kept to give the rules back, to people who ask why, and to change
//! one rule of many without being told the others again.

use crate::{ApplicationId, EthernetFilter, PdrMatch, SessionKey};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use upf_model::{Interface, IpPrefix, NetworkInstanceId, Precedence, SdfFilter, Teid};

/// One rule, generalised: whose packets it is for, and which of them.
type Shape<'r> = (Whose, Which<'r>);

#[derive(Serialize, Deserialize)]
struct Whose {
    source_interface: Interface,
    network_instance: NetworkInstanceId,
    /// It detects packets that came plain.
    plain: bool,
    /// The session's keys that it names, bits by position.
    tunnels: u32,
    /// Which of the session's sets of UE addresses the rule asks for.
    ue_set: Option<u8>,
}

#[derive(Serialize, Deserialize)]
struct Which<'r> {
    qfis: u64,
    application: Option<u16>,
    sdf: Cow<'r, [SdfFilter]>,
    ethernet: Cow<'r, [EthernetFilter]>,
}

/// What of a session is the subscriber's own, besides its keys.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Personal {
    /// The sets of UE addresses that rules ask for, each once.
    pub ue_sets: Vec<Vec<IpPrefix>>,
    /// Framed routes.
    pub framed: Vec<(NetworkInstanceId, IpPrefix)>,
}

impl Personal {
    /// Most distinct sets of UE addresses in the rules of a session.
    pub const MOST_SETS: usize = 255;

    /// The number of that set, made known if need be; `None` for no set, or if there are too many.
    pub fn set(&mut self, ue: &[IpPrefix]) -> Option<u8> {
        if ue.is_empty() {
            return None;
        }
        let known = self.ue_sets.iter().position(|set| *set == ue);
        known
            .or_else(|| {
                (self.ue_sets.len() < Self::MOST_SETS).then(|| {
                    self.ue_sets.push(ue.to_vec());
                    self.ue_sets.len() - 1
                })
            })
            .map(|number| number as u8)
    }

    /// The number of that set, if it is one of them.
    pub fn known(&self, ue: &[IpPrefix]) -> Option<u8> {
        self.ue_sets
            .iter()
            .position(|set| *set == ue)
            .map(|number| number as u8)
    }

    /// As bytes; without any of it, none.
    pub fn write(&self) -> Vec<u8> {
        if self.ue_sets.is_empty() && self.framed.is_empty() {
            return Vec::new();
        }
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// From bytes that [`Self::write`] made.
    pub fn read(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }
}

/// Makes `bytes` the part of a rule's shape that says nothing of whose packets it is for: it takes nothing to know but the
/// rule.
pub(crate) fn write_which(rule: &PdrMatch, bytes: &mut Vec<u8>) {
    bytes.clear();
    write(
        &Which {
            qfis: rule.qfis,
            application: rule.application.map(ApplicationId::number),
            sdf: Cow::Borrowed(&rule.sdf),
            ethernet: Cow::Borrowed(&rule.ethernet),
        },
        bytes,
    );
}

fn write(value: &impl Serialize, bytes: &mut Vec<u8>) {
    // A vector takes everything that is written to it.
    if let Ok(written) = postcard::to_extend(value, std::mem::take(bytes)) {
        *bytes = written;
    }
}

/// Appends the shape of a rule, which asks for that set of UE addresses, of a session that has those keys. `which` is
/// [its part](write_which).
pub(crate) fn append((rule, which): (&PdrMatch, &[u8]), ue_set: Option<u8>, keys: &[SessionKey], bytes: &mut Vec<u8>) {
    let named = |(position, key): (usize, &SessionKey)| u32::from(rule.tunnel.contains(key)) << position;
    let start = bytes.len();
    bytes.extend_from_slice(&[0; LENGTH]);
    write(
        &Whose {
            source_interface: rule.source_interface,
            network_instance: rule.network_instance,
            plain: rule.tunnel.is_empty(),
            tunnels: keys.iter().enumerate().map(named).sum(),
            ue_set,
        },
        bytes,
    );
    bytes.extend_from_slice(which);
    let length = (bytes.len() - start - LENGTH) as u32;
    bytes[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
}

/// Bytes before each shape, which say how long it is.
const LENGTH: usize = size_of::<u32>();

/// A rule with [its part](write_which), and which set of UE addresses it asks for.
pub(crate) type Prepared<'r> = ((&'r PdrMatch, &'r [u8]), Option<u8>);

/// Makes `bytes` those shapes but that of the rule at `index`, which is this one's instead, or nobody's; of a rule behind
/// the others if there is no such index.
pub(crate) fn replace(shapes: &[u8], index: u32, rule: Option<Prepared<'_>>, keys: &[SessionKey], bytes: &mut Vec<u8>) {
    let before = each(shapes).take(index as usize).map(<[u8]>::len).sum::<usize>();
    let former = each(&shapes[before..]).next().map_or(0, <[u8]>::len);
    bytes.clear();
    bytes.extend_from_slice(&shapes[..before]);
    if let Some((rule, ue_set)) = rule {
        append(rule, ue_set, keys, bytes);
    }
    bytes.extend_from_slice(&shapes[before + former..]);
}

/// The shapes in a string of them, each with its length.
pub(crate) fn each(shapes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = shapes;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<LENGTH>()?;
        let (_, others) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let shape = &rest[..rest.len() - others.len()];
        rest = others;
        Some(shape)
    })
}

/// The rules again, for a session with those keys and UE addresses.
pub(crate) fn read(
    shapes: &[u8],
    keys: &[SessionKey],
    personal: &Personal,
    precedence: impl Fn(usize) -> Precedence,
) -> Vec<PdrMatch> {
    let rule = |(number, shape): (usize, &[u8])| {
        let (shape, which): Shape<'_> = postcard::from_bytes(shape.get(LENGTH..)?).ok()?;
        let named = |(position, key): (usize, &SessionKey)| (shape.tunnels >> position & 1 == 1).then_some(*key);
        let mut tunnel: Vec<_> = keys.iter().enumerate().filter_map(named).collect();
        if tunnel.is_empty() && !shape.plain {
            // Its tunnel is none of the session's: the invalid TEID stands for it, which no packet carries.
            tunnel.push(SessionKey::FTeid {
                endpoint: Default::default(),
                teid: Teid(0),
            });
        }
        let ue_set = shape.ue_set.and_then(|set| personal.ue_sets.get(usize::from(set)));
        Some(PdrMatch {
            precedence: precedence(number),
            source_interface: shape.source_interface,
            network_instance: shape.network_instance,
            tunnel,
            ue: ue_set.cloned().unwrap_or_default(),
            qfis: which.qfis,
            application: which.application.and_then(ApplicationId::new),
            sdf: which.sdf.into_owned(),
            ethernet: which.ethernet.into_owned(),
        })
    };
    each(shapes).enumerate().filter_map(rule).collect()
}
