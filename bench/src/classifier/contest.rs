//! What contestants have in common: a table of rules, and the two ways to make a UPF of it.
//!
//! A [`RuleTable`] is an algorithm as its paper has it: it knows rules and nothing of sessions. [`Global`] puts the
//! rules of all sessions into one, with the session as a field. [`PerSession`] is what a fair UPF author would do with
//! the same algorithm: the session is found by our own session stage, batched and prefetched, and has a small table of
//! its own. The table is the session's payload, so that it costs no cache line more than it must.

use super::rule::{MISS, Packet, Rule, Session, Tuple};
use pdr_classifier::{Found, PdrMatch, Reader, Table, Writer};
use std::cell::UnsafeCell;
use upf_model::SessionId;

/// Packets of a batch, at most.
pub const BATCH: usize = 32;

/// Changes of precedence that come together, at most.
pub const PUSH: usize = 64;

/// An algorithm.
pub trait RuleTable: Send {
    /// Adds a rule. Equal rules are told apart by precedence.
    fn insert(&mut self, rule: Rule);
    /// Removes the rule with these spans and this precedence; whether it was there.
    fn remove(&mut self, rule: &Rule) -> bool;
    /// Gives a rule another precedence.
    fn set_precedence(&mut self, rule: &Rule, precedence: u32) {
        if self.remove(rule) {
            self.insert(Rule { precedence, ..*rule });
        }
    }
    /// Called after inserting and changing: a static algorithm builds here.
    fn settle(&mut self) -> Result<(), String> {
        Ok(())
    }
    /// The number of the rule of lowest precedence value that matches.
    fn find(&self, tuple: &Tuple) -> u32;
    /// The same for a batch of at most [`BATCH`].
    fn find_all(&self, packets: &[Packet], answers: &mut [u32]) {
        for (packet, answer) in packets.iter().zip(answers) {
            *answer = self.find(&packet.tuple);
        }
    }
    /// Memory that the process's allocator does not know of.
    fn foreign_bytes(&self) -> usize {
        0
    }
}

/// A rule of a session becomes another one, or gets another precedence.
#[derive(Clone)]
pub struct Change {
    pub session: Session,
    pub before: Rule,
    pub after: Rule,
    /// All rules of the session afterwards, as a whole-session update carries them.
    pub pdrs: Vec<PdrMatch>,
}

/// Something that classifies the packets of sessions.
pub trait Contestant {
    /// How the figures call it.
    fn name(&self) -> &str;
    /// Adds a session.
    fn insert(&mut self, session: Session, rules: &[Rule]) -> Result<(), String>;
    /// Called after sessions were added.
    fn settle(&mut self) -> Result<(), String> {
        Ok(())
    }
    /// Removes a session.
    fn remove(&mut self, session: Session, rules: &[Rule]) -> Result<(), String>;
    /// Replaces one rule.
    fn replace(&mut self, change: &Change) -> Result<(), String>;
    /// Changes one precedence.
    fn set_precedence(&mut self, change: &Change) -> Result<(), String>;
    /// Changes up to [`PUSH`] precedences of as many sessions.
    fn set_precedences(&mut self, changes: &[Change]) -> Result<(), String> {
        changes.iter().try_for_each(|change| self.set_precedence(change))
    }
    /// The answers for a batch of at most [`BATCH`].
    fn lookup(&mut self, packets: &[Packet], answers: &mut [u32]);
    /// Memory that the process's allocator does not know of.
    fn foreign_bytes(&self) -> usize {
        0
    }
    /// Whether changes build everything anew.
    fn is_static(&self) -> bool {
        false
    }
    /// Whether changes are measured.
    fn takes_changes(&self) -> bool {
        true
    }
}

fn missing() -> String {
    "a rule that was inserted is not there".to_owned()
}

/// One table for the rules of all sessions.
pub struct Global<A> {
    name: String,
    table: A,
    is_static: bool,
}

impl<A: RuleTable> Global<A> {
    pub fn new(name: &str, table: A) -> Self {
        Self {
            name: name.to_owned(),
            table,
            is_static: false,
        }
    }

    pub fn new_static(name: &str, table: A) -> Self {
        Self {
            is_static: true,
            ..Self::new(name, table)
        }
    }
}

impl<A: RuleTable> Contestant for Global<A> {
    fn name(&self) -> &str {
        &self.name
    }
    fn insert(&mut self, _: Session, rules: &[Rule]) -> Result<(), String> {
        rules.iter().for_each(|rule| self.table.insert(*rule));
        Ok(())
    }
    fn settle(&mut self) -> Result<(), String> {
        self.table.settle()
    }
    fn remove(&mut self, _: Session, rules: &[Rule]) -> Result<(), String> {
        let all = rules.iter().all(|rule| self.table.remove(rule));
        self.table.settle()?;
        all.then_some(()).ok_or_else(missing)
    }
    fn replace(&mut self, change: &Change) -> Result<(), String> {
        let removed = self.table.remove(&change.before);
        self.table.insert(change.after);
        self.table.settle()?;
        removed.then_some(()).ok_or_else(missing)
    }
    fn set_precedence(&mut self, change: &Change) -> Result<(), String> {
        self.table.set_precedence(&change.before, change.after.precedence);
        self.table.settle()
    }
    fn lookup(&mut self, packets: &[Packet], answers: &mut [u32]) {
        self.table.find_all(packets, answers);
    }
    fn foreign_bytes(&self) -> usize {
        self.table.foreign_bytes()
    }
    fn is_static(&self) -> bool {
        self.is_static
    }
}

/// A payload that [`PerSession`] changes in place.
struct Place<A>(UnsafeCell<A>);

// SAFETY: only `PerSession` has them. It hands none out, looks at them through its reader while it is borrowed
// mutably, and changes them while it is borrowed mutably: never both at once, and never from two threads.
unsafe impl<A: Send> Sync for Place<A> {}

/// Our session stage, and a table for each session.
pub struct PerSession<A> {
    name: String,
    make: Box<dyn Fn() -> A>,
    reader: Reader<Place<A>>,
    writer: Writer<Place<A>>,
    foreign: usize,
    is_static: bool,
}

impl<A: RuleTable + 'static> PerSession<A> {
    pub fn new(name: &str, make: impl Fn() -> A + 'static) -> Self {
        let (table, writer) = Table::new();
        let name = format!("session stage + {name}");
        Self {
            name,
            make: Box::new(make),
            reader: table.register(),
            writer,
            foreign: 0,
            is_static: false,
        }
    }

    pub fn new_static(name: &str, make: impl Fn() -> A + 'static) -> Self {
        Self {
            is_static: true,
            ..Self::new(name, make)
        }
    }

    fn table_of(&mut self, session: Session) -> Result<&mut A, String> {
        let place = self.writer.get(SessionId(session.id)).ok_or("no such session")?;
        // SAFETY: `self` is borrowed mutably for as long as the result lives, so that no lookup looks at it.
        Ok(unsafe { &mut *place.0.get() })
    }
}

impl<A: RuleTable + 'static> Contestant for PerSession<A> {
    fn name(&self) -> &str {
        &self.name
    }
    fn insert(&mut self, session: Session, rules: &[Rule]) -> Result<(), String> {
        let mut table = (self.make)();
        rules.iter().for_each(|rule| table.insert(rule.without_session()));
        table.settle()?;
        self.foreign = table.foreign_bytes();
        let place = Place(UnsafeCell::new(table));
        let put = self
            .writer
            .put(SessionId(session.id), &[session.key()], &[], &[], place);
        put.map(drop).map_err(|error| error.to_string())
    }
    fn settle(&mut self) -> Result<(), String> {
        while self.writer.try_reclaim() > 0 {}
        Ok(())
    }
    fn remove(&mut self, session: Session, _: &[Rule]) -> Result<(), String> {
        self.writer.remove(SessionId(session.id)).map(drop).ok_or_else(missing)
    }
    fn replace(&mut self, change: &Change) -> Result<(), String> {
        let table = self.table_of(change.session)?;
        let removed = table.remove(&change.before.without_session());
        table.insert(change.after.without_session());
        table.settle()?;
        removed.then_some(()).ok_or_else(missing)
    }
    fn set_precedence(&mut self, change: &Change) -> Result<(), String> {
        let table = self.table_of(change.session)?;
        table.set_precedence(&change.before.without_session(), change.after.precedence);
        table.settle()
    }
    fn lookup(&mut self, packets: &[Packet], answers: &mut [u32]) {
        let burst = self.reader.enter();
        let table = |found: Found<'_, Place<A>>| {
            // SAFETY: `self` is borrowed mutably, so that nothing changes it meanwhile.
            unsafe { &*found.payload().0.get() }
        };
        if let ([packet], [answer]) = (packets, &mut *answers) {
            *answer = burst
                .session(packet.key)
                .map_or(MISS, |found| table(found).find(&packet.tuple));
            return;
        }
        let (mut keys, mut found) = ([packets[0].key; BATCH], [None; BATCH]);
        keys.iter_mut().zip(packets).for_each(|(key, packet)| *key = packet.key);
        burst.sessions(&keys[..packets.len()], &mut found);
        found[..packets.len()]
            .iter()
            .flatten()
            .for_each(|found| found.prefetch_payload());
        // A hot session's burst may well be one table's: algorithms that take batches get them.
        let first = found[0];
        if let Some(one) = first
            && found[..packets.len()]
                .iter()
                .all(|other| other.is_some_and(|other| other.is(one)))
        {
            table(one).find_all(packets, answers);
            return;
        }
        for ((packet, found), answer) in packets.iter().zip(found).zip(answers) {
            *answer = found.map_or(MISS, |found| table(found).find(&packet.tuple));
        }
    }
    fn foreign_bytes(&self) -> usize {
        self.foreign
    }
    fn is_static(&self) -> bool {
        self.is_static
    }
}
