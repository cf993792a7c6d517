//! Ours: the classifier of the data plane, as the data plane uses it.
//!
//! *Problem*: a packet's session and the PDR of it that detects the packet, among millions of rules that change all the
//! time. *Idea*: see the essay at the head of `pdr_classifier`: exact session keys in cache-line buckets, then the rows
//! of the session's rule set compared by vector instructions, equal sets stored once, precedences beside them. *Cost*:
//! two cache lines of memory per packet and session, and the rules if they are not in the cache. What is measured is
//! the public interface: keys and fields in, rule indices out, a burst being an RCU read-side section.

use super::contest::{BATCH, Change, Contestant, PUSH};
use super::population::number_of;
use super::rule::{MISS, Packet, Rule, Session};
use pdr_classifier::{Detection, PdrMatch, Reader, SessionKey, Table, Writer};
use upf_model::{Precedence, SessionId, Teid};

/// The name of its figures.
pub const NAME: &str = "pdr-classifier";
/// The same with TEIDs that the UPF allocated itself.
pub const OWN_TEIDS: &str = "pdr-classifier, own TEIDs";

/// What stands for a session's compiled actions.
type Payload = [u64; 4];

/// `pdr_classifier`'s table, its writer and one reader.
pub struct Ours {
    keyed: bool,
    own_teids: bool,
    reader: Reader<Payload>,
    writer: Writer<Payload>,
}

impl Ours {
    /// `keyed`: field 0 of the rules is the session's key, and no rule of its own.
    pub fn new(keyed: bool) -> Self {
        Self::in_table(keyed, Table::new())
    }

    /// For so many sessions whose TEIDs are dense, so that they index. (Packets carry drawn ones, of which it works these
    /// out: an instruction or two that no other has to pay.)
    pub fn with_own_teids(sessions: u32) -> Self {
        Self {
            own_teids: true,
            ..Self::in_table(true, Table::with_direct_teids(sessions as usize + 1))
        }
    }

    fn in_table(keyed: bool, (table, writer): (Table<Payload>, Writer<Payload>)) -> Self {
        Self {
            keyed,
            own_teids: false,
            reader: table.register(),
            writer,
        }
    }

    fn key(&self, key: SessionKey) -> SessionKey {
        if self.own_teids { own_teid(key) } else { key }
    }

    fn put(&mut self, session: Session, mut pdrs: Vec<PdrMatch>) -> Result<(), String> {
        let key = self.key(session.key());
        pdrs.iter_mut().for_each(|pdr| pdr.tunnel = vec![key]);
        let put = self
            .writer
            .put(SessionId(session.id), &[key], &[], &pdrs, [session.id.into(); 4]);
        put.map(drop).map_err(|error| error.to_string())
    }
}

/// The dense TEID of a session that has drawn that one.
fn own_teid(key: SessionKey) -> SessionKey {
    match key {
        SessionKey::FTeid { endpoint, teid } => SessionKey::FTeid {
            endpoint,
            teid: Teid(number_of(teid.0)),
        },
        other => other,
    }
}

/// The rules as PDRs of that session.
pub fn pdrs(keyed: bool, session: Session, rules: &[Rule]) -> Vec<PdrMatch> {
    let rule = |rule: &Rule| if keyed { rule.without_session() } else { *rule };
    rules.iter().map(|r| rule(r).to_pdr(session.key())).collect()
}

impl Contestant for Ours {
    fn name(&self) -> &str {
        if self.own_teids { OWN_TEIDS } else { NAME }
    }
    fn takes_changes(&self) -> bool {
        !self.own_teids
    }
    fn insert(&mut self, session: Session, rules: &[Rule]) -> Result<(), String> {
        self.put(session, pdrs(self.keyed, session, rules))
    }
    fn settle(&mut self) -> Result<(), String> {
        while self.writer.try_reclaim() > 0 {}
        Ok(())
    }
    fn remove(&mut self, session: Session, _: &[Rule]) -> Result<(), String> {
        self.writer
            .remove(SessionId(session.id))
            .map(drop)
            .ok_or_else(|| "no such session".to_owned())
    }
    fn replace(&mut self, change: &Change) -> Result<(), String> {
        let number = change.after.number;
        let pdr = change.pdrs.get(number as usize).ok_or("a change that has no PDRs")?;
        let replaced = self.writer.replace_rule(SessionId(change.session.id), number, pdr);
        replaced.map(drop).map_err(|error| error.to_string())
    }
    fn set_precedence(&mut self, change: &Change) -> Result<(), String> {
        let precedence = Precedence(change.after.precedence);
        let set = self
            .writer
            .set_precedence(SessionId(change.session.id), change.after.number, precedence);
        set.then_some(()).ok_or_else(|| "no such rule".to_owned())
    }
    fn set_precedences(&mut self, changes: &[Change]) -> Result<(), String> {
        let one = |change: &Change| {
            let precedence = Precedence(change.after.precedence);
            (SessionId(change.session.id), change.after.number, precedence)
        };
        let mut list = [(SessionId(0), 0, Precedence(0)); PUSH];
        list.iter_mut()
            .zip(changes)
            .for_each(|(place, change)| *place = one(change));
        let made = self.writer.set_precedences(&list[..changes.len().min(PUSH)]);
        (made == changes.len())
            .then_some(())
            .ok_or_else(|| "no such rule".to_owned())
    }
    fn lookup(&mut self, packets: &[Packet], answers: &mut [u32]) {
        let own_teids = self.own_teids;
        let burst = self.reader.enter();
        if let ([packet], [answer]) = (packets, &mut *answers) {
            let rule = burst
                .session(if own_teids { own_teid(packet.key) } else { packet.key })
                .and_then(|found| found.classify(&packet.fields));
            *answer = rule.unwrap_or(MISS);
            return;
        }
        let (mut keys, mut detections) = ([packets[0].key; BATCH], [Detection::default(); BATCH]);
        keys.iter_mut().zip(packets).for_each(|(key, packet)| *key = packet.key);
        if own_teids {
            keys.iter_mut().for_each(|key| *key = own_teid(*key));
        }
        burst.detect(&keys[..packets.len()], |i| &packets[i].fields, &mut detections);
        for (detection, answer) in detections.iter().zip(answers) {
            *answer = detection.rule.unwrap_or(MISS);
        }
    }
}
