//! Why a packet was detected by the rule it was: for people, not for packets.

use crate::{EthernetFields, Mismatch, PacketFields, PdrMatch, RuleIndex, SessionKey, oracle};

/// The verdict on one packet, rule by rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The rule that detects it: an index into the rules as put.
    pub winner: Option<RuleIndex>,
    /// One for each rule, in the order of the rules as put.
    pub candidates: Vec<Candidate>,
}

/// What became of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// It matched, and nothing that matched came before it.
    Won,
    /// It matched, but so did this one, of lower precedence value (or equal, and earlier in the set).
    LostTo(RuleIndex),
    /// It did not match.
    Failed(Mismatch),
}

impl Explanation {
    /// Judges every rule, `winner` being the one that detects the packet. Cost: linear in the rules; allocates.
    pub(crate) fn of(
        rules: &[PdrMatch],
        key: SessionKey,
        (packet, frame): (&PacketFields, Option<&EthernetFields>),
        winner: Option<RuleIndex>,
    ) -> Self {
        let judge = |(index, rule): (usize, &PdrMatch)| match (oracle::mismatch_of(rule, key, packet, frame), winner) {
            (Some(mismatch), _) => Candidate::Failed(mismatch),
            (None, Some(best)) if best as usize != index => Candidate::LostTo(best),
            (None, _) => Candidate::Won,
        };
        Self {
            winner,
            candidates: rules.iter().enumerate().map(judge).collect(),
        }
    }
}
