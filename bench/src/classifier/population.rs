//! The sessions and packets of the suite: rule sets shaped like those of a UPF.
//!
//! All rules of a session ask for its TEID. Each but the last asks for a remote prefix of one of eight lengths, for one
//! remote port, a range of them or none, and for TCP, UDP or any protocol; the last one takes everything, as a default
//! QoS flow does. *Private* sets are each session's own. *Shared* ones are of a few [`PLANS`], as subscribers have
//! plans. Nothing is stored: rules are computed from a session's number and version whenever they are needed.

use super::rule::{Packet, Rule, Session, Span, Tuple, oracle};

/// How many different shared rule sets there are.
pub const PLANS: u32 = 16;
const LENGTHS: [u32; 8] = [32, 24, 28, 20, 16, 22, 30, 8];
/// Between the precedences of two rules, so that one can be moved in between.
const STEP: u32 = 10;

/// Whose the rule sets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    Shared,
    Private,
}

/// Which sessions packets belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    Uniform,
    /// The n-th most active session has a share of about 1/n.
    Zipf,
}

/// How many sessions with how many rules each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Population {
    pub sessions: u32,
    pub pdrs: u32,
    pub sets: Sets,
}

/// SplitMix64: a sequence of numbers from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        (((self.number() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// A number of the span.
    pub fn within(&mut self, Span { low, high }: Span) -> u32 {
        match high - low {
            u32::MAX => self.number() as u32,
            width => low + self.below(width + 1),
        }
    }

    fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The session of that number. TEIDs are spread, as those that a UPF draws at random are.
pub const fn session(number: u32) -> Session {
    Session {
        id: number,
        value: (number + 1).wrapping_mul(SPREAD),
    }
}

/// Odd, so that it can be undone: times its inverse is one.
const SPREAD: u32 = 0x9e37_79b1;
const GATHER: u32 = 0x0e8b_2f51;
const _: () = assert!(SPREAD.wrapping_mul(GATHER) == 1);

/// One more than the number of the session with that TEID.
pub const fn number_of(value: u32) -> u32 {
    value.wrapping_mul(GATHER)
}

impl Population {
    /// How many rules there are in all.
    pub const fn rules_in_all(&self) -> u64 {
        self.sessions as u64 * self.pdrs as u64
    }

    /// The rules of session `number`. Version 0 is what it starts with; others differ in the first rule.
    pub fn rules(&self, number: u32, version: u32) -> Vec<Rule> {
        (0..self.pdrs)
            .map(|i| self.rule(number, i, if i == 0 { version } else { 0 }))
            .collect()
    }

    fn rule(&self, number: u32, i: u32, version: u32) -> Rule {
        let mut rule = Rule {
            spans: Span::ANY,
            precedence: (i + 1) * STEP,
            number: i,
        };
        rule.spans[0] = Span::exact(session(number).value);
        if i + 1 == self.pdrs {
            return rule;
        }
        let owner = match self.sets {
            Sets::Shared => number % PLANS,
            Sets::Private => number + PLANS,
        };
        let mut random = Random(u64::from(owner) << 32 | u64::from(version) << 24 | u64::from(i));
        let length = LENGTHS[random.below(8) as usize];
        rule.spans[1] = Span::prefix(random.number() as u32, length);
        rule.spans[3] = match random.below(3) {
            0 => Span::exact(random.below(0x1_0000)),
            1 => {
                let low = random.below(60_000);
                Span {
                    low,
                    high: low + 100 + random.below(1_000),
                }
            }
            _ => Span::PORT,
        };
        rule.spans[4] = match random.below(3) {
            0 => Span::exact(6),
            1 => Span::exact(17),
            _ => Span::PROTOCOL,
        };
        rule
    }

    /// Packets that are each meant for a random rule of a random session, with the right answers.
    pub fn packets(&self, law: Law, count: usize, seed: u64) -> Vec<Packet> {
        let mut random = Random(seed);
        let drawn = |random: &mut Random| match law {
            Law::Uniform => random.below(self.sessions),
            Law::Zipf => (f64::from(self.sessions).powf(random.fraction()) as u32).saturating_sub(1),
        };
        (0..count)
            .map(|_| {
                let number = drawn(&mut random).min(self.sessions - 1);
                packet_of(session(number), &self.rules(number, 0), &mut random)
            })
            .collect()
    }
}

/// A packet inside a random one of those rules.
pub fn packet_of(session: Session, rules: &[Rule], random: &mut Random) -> Packet {
    let rule = &rules[random.below(rules.len() as u32) as usize];
    let tuple: Tuple = rule.spans.map(|span| random.within(span));
    Packet::new(session, tuple, oracle(rules, &tuple))
}

/// A thousand rules with as many combinations of prefix lengths and ranges as there can be: the session that wants to
/// be in everybody's way.
pub fn odd_rules(owner: Session, count: u32) -> Vec<Rule> {
    let mut random = Random(0xbad);
    let range = |random: &mut Random| {
        let (a, b) = (random.below(0x1_0000), random.below(0x1_0000));
        Span {
            low: a.min(b),
            high: a.max(b),
        }
    };
    (0..count)
        .map(|i| {
            let length = i % 33;
            let spans = [
                Span::exact(owner.value),
                Span::prefix(random.number() as u32, length),
                range(&mut random),
                range(&mut random),
                if i % 2 == 0 {
                    Span::PROTOCOL
                } else {
                    Span::exact(random.below(256))
                },
            ];
            Rule {
                spans,
                precedence: 1 + i,
                number: i,
            }
        })
        .collect()
}
