//! Owns what a session is in memory while nobody looks at it: one allocation, and 16 bytes that are looked at every second.

use super::{Entry, SessionRecord};
use crate::report::notifying_pdr;
use crate::usage::UsageAccount;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use upf_model::packed::Packer;
use upf_model::{Epoch, Seid, Session, SessionId};

/// What is going on between the SMF and a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notes {
    /// A Session Report Request is on its way and not yet answered.
    pub report_outstanding: bool,
    /// The SMF has been told of what is in the buffer now.
    pub downlink_reported: bool,
    /// Little is left of a volume threshold, as data planes were told last.
    pub near_threshold: bool,
}

/// What there is in a session's rules that has to be looked at regularly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watched {
    /// URRs.
    pub urrs: bool,
    /// URRs that report by themselves.
    pub triggers: bool,
    /// Packets that are buffered and the SMF wants to know of.
    pub notifies: bool,
}

impl Watched {
    fn of(session: &Session) -> Self {
        let mut urrs = session.urrs.iter();
        Self {
            urrs: !session.urrs.is_empty(),
            triggers: urrs.any(|urr| urr.reporting.triggers != Default::default()),
            notifies: notifying_pdr(session).is_some(),
        }
    }
}

/// A session, packed.
#[derive(Debug)]
pub(super) struct AtRest {
    /// The upper half of its SEID; the lower one is its slot.
    random: u32,
    pub(super) epoch: Epoch,
    pub(super) notes: Notes,
    pub(super) watched: Watched,
    /// How long the usage account is ([`LENGTH`] bytes); the account; the record.
    octets: Box<[u8]>,
}

/// With the box's pointer for `None`, a slot of the table.
const _: () = assert!(size_of::<Option<AtRest>>() == 32);

const LENGTH: usize = 4;

impl AtRest {
    pub(super) fn new(packer: &mut Packer, entry: &Entry) -> Self {
        let session = &entry.record.session;
        let mut octets = with_usage(&entry.usage);
        packer.pack(shape(&entry.record), &entry.record, &mut octets);
        Self {
            random: (session.seid.0 >> 32) as u32,
            epoch: session.epoch,
            notes: Notes::default(),
            watched: Watched::of(session),
            octets: octets.as_slice().into(),
        }
    }

    pub(super) fn seid(&self, id: SessionId) -> Seid {
        Seid(u64::from(self.random) << 32 | u64::from(id.0))
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let (length, rest) = self.octets.split_at(LENGTH);
        let length = length
            .iter()
            .rev()
            .fold(0, |length, octet| length << 8 | usize::from(*octet));
        rest.split_at(length)
    }

    pub(super) fn record(&self, packer: &Packer) -> SessionRecord {
        packer.unpack(self.split().1)
    }

    pub(super) fn usage(&self) -> UsageAccount {
        postcard::from_bytes(self.split().0).expect("it was packed here")
    }

    pub(super) fn set_usage(&mut self, usage: &UsageAccount) {
        let mut octets = with_usage(usage);
        octets.extend_from_slice(self.split().1);
        self.octets = octets.as_slice().into();
    }
}

fn with_usage(usage: &UsageAccount) -> Vec<u8> {
    let mut octets = Vec::with_capacity(256);
    octets.extend_from_slice(&[0; LENGTH]);
    let mut octets = postcard::to_extend(usage, octets).expect("an account has nothing that postcard does not write");
    let length = (octets.len() - LENGTH) as u32;
    octets[..LENGTH].copy_from_slice(&length.to_le_bytes());
    octets
}

/// What records that are much alike have in common: rules, SMF, data network and slice.
fn shape(record: &SessionRecord) -> u64 {
    let subscription = &record.subscription;
    let rest = (
        &record.node,
        &subscription.dnn,
        &subscription.slice,
        subscription.names.len(),
        record.holdings.fteids.len(),
        record.holdings.ue_ips.len(),
    );
    BuildHasherDefault::<DefaultHasher>::default().hash_one((record.session.shape(), rest))
}
