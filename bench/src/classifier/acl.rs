//! DPDK's `rte_acl`, the classifier that is there already.
//!
//! *Problem*: the same, for rules that stay as they are. *Idea* (DPDK Programmer's Guide, Packet Classification and
//! Access Control): the rules become a few tries that consume a byte at a time, with a dense array of 256 transitions
//! where it pays; a call walks many packets through them side by side, 16 or 32 in the lanes of AVX-512 registers, so
//! that the loads of one wait while others come. *Cost*: a transition per byte and trie, independent of the number of
//! rules while the tries fit into a cache; memory that ranges and wildcards multiply; and any change is a new build of
//! everything, milliseconds to seconds. As a PDR table it answers the question what a static classifier would reach.

use super::contest::{BATCH, RuleTable};
use super::rule::{MISS, Packet, Rule, Span, Tuple};
use upf_host::dpdk::{Acl, AclKey, AclRule, Eal};

/// Rules, and the tries of them as they were built last.
pub struct AclTable {
    eal: Eal,
    rules: Vec<Rule>,
    built: Option<Acl>,
}

impl AclTable {
    pub const fn new(eal: Eal) -> Self {
        Self {
            eal,
            rules: Vec::new(),
            built: None,
        }
    }
}

fn acl_rule(rule: &Rule) -> AclRule {
    let [a, b, c, d, protocol] = rule.spans;
    let address = |span: Span| (span.low, span.prefix_length() as u8);
    let port = |span: Span| span.low as u16..=span.high as u16;
    AclRule {
        precedence: rule.precedence,
        number: rule.number,
        addresses: [address(a), address(b)],
        ports: [port(c), port(d)],
        protocol: protocol.is_exact().then_some(protocol.low as u8),
    }
}

fn key([a, b, c, d, protocol]: Tuple) -> AclKey {
    AclKey::new([a, b], [c as u16, d as u16], protocol as u8)
}

impl RuleTable for AclTable {
    fn insert(&mut self, rule: Rule) {
        self.rules.push(rule);
    }
    fn remove(&mut self, rule: &Rule) -> bool {
        let same = |other: &Rule| other.spans == rule.spans && other.precedence == rule.precedence;
        let at = self.rules.iter().position(same);
        if let Some(at) = at {
            self.rules.swap_remove(at);
        }
        at.is_some()
    }
    fn settle(&mut self) -> Result<(), String> {
        self.built = None;
        let rules: Vec<AclRule> = self.rules.iter().map(acl_rule).collect();
        self.built = Some(Acl::build(&self.eal, &rules).map_err(|error| error.to_string())?);
        Ok(())
    }
    fn find(&self, tuple: &Tuple) -> u32 {
        let mut number = [None];
        if let Some(acl) = &self.built {
            acl.classify(&[key(*tuple)], &mut number);
        }
        number[0].unwrap_or(MISS)
    }
    fn find_all(&self, packets: &[Packet], answers: &mut [u32]) {
        let (mut keys, mut numbers) = ([AclKey::default(); BATCH], [None; BATCH]);
        keys.iter_mut()
            .zip(packets)
            .for_each(|(to, packet)| *to = key(packet.tuple));
        if let Some(acl) = &self.built {
            acl.classify(&keys[..packets.len()], &mut numbers);
        }
        answers
            .iter_mut()
            .zip(numbers)
            .for_each(|(answer, number)| *answer = number.unwrap_or(MISS));
    }
    fn foreign_bytes(&self) -> usize {
        self.built.as_ref().map_or(0, Acl::heap_bytes)
    }
}
