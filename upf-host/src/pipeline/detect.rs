//! Second step of a packet's way: its session, and the PDR that detects it; for a whole burst at once, so that the cache
//! misses of its packets overlap.

use super::parse::{Kind, UserPacket};
use crate::compile::{CompiledPdr, CompiledSession};
use crate::counters::DropReason;
use crate::dpdk::prefetch;
use crate::packet::BURST;
use arrayvec::ArrayVec;
use pdr_classifier::{Found, Guard, SessionKey};

pub type SessionGuard<'r> = Guard<'r, CompiledSession>;
pub type FoundSession<'g> = Found<'g, CompiledSession>;
pub type Detection<'g> = pdr_classifier::Detection<'g, CompiledSession>;

/// Detect a burst's packets. What the rest of their way will read is asked for in rounds, each of which finds what the one
/// before has asked for: bucket, entry, session and rule, meter and counters. So a burst waits for memory four times, not
/// every packet. `others` are no users' packets, and detected as nothing.
#[inline(always)]
pub fn all<'g>(
    guard: &'g SessionGuard<'_>,
    users: &mut [UserPacket],
    others: &[(usize, Kind)],
    lcore: usize,
    detected: &mut [Detection<'g>],
    rules: &mut [Option<Rule<'g>>],
) {
    // Read together, when all are written: reading one where it has just been written in pieces takes a while.
    let keys: ArrayVec<SessionKey, BURST> = users[..detected.len()].iter().map(|user| user.key).collect();
    guard.detect(&keys, |at| &users[at].fields, detected);
    for (at, _) in others {
        detected[*at] = Detection::default(); // what was detected is the user's packet that was there before
    }
    detected.iter().for_each(ask_for_session);
    for ((found, user), rule) in detected.iter_mut().zip(users).zip(rules.iter_mut()) {
        *rule = ask_for_rule(found, user);
    }
    rules.iter().flatten().for_each(|rule| ask_for_counts(rule, lcore));
}

/// Ask for the line of a session, and for its rule's if that is beside it.
#[inline(always)]
fn ask_for_session(found: &Detection<'_>) {
    let Some(session) = found.session else { return };
    session.prefetch_payload();
    if let Some(pdr) = found.rule.and_then(|rule| session.payload().pdr_beside(rule)) {
        prefetch(pdr);
    }
}

/// The session is there: find the rule, and ask for its line if that has not been done.
#[inline(always)]
fn ask_for_rule<'g>(found: &mut Detection<'g>, user: &mut UserPacket) -> Option<Rule<'g>> {
    let session = found.session?;
    if session.payload().turns {
        *found = turn(session, user);
    }
    let (session, index) = (session.payload(), found.rule?);
    let pdr = session.pdr(index);
    if session.pdr_beside(index).is_none() {
        prefetch(pdr);
    }
    Some((session, pdr))
}

/// Ask for what a packet will write: its counts, and its meter.
#[inline(always)]
fn ask_for_counts((session, pdr): &Rule<'_>, lcore: usize) {
    prefetch(session.counters.line(pdr.lines(), lcore));
    if let Some(meter) = &pdr.meter {
        prefetch(meter.line(pdr.direction));
    }
}

/// The session and the PDR that a packet was detected by.
pub type Rule<'g> = (&'g CompiledSession, &'g CompiledPdr);

#[inline(always)]
pub fn rule_of<'g>(detected: &Detection<'g>) -> Option<Rule<'g>> {
    let session = detected.session?.payload();
    Some((session, session.pdr(detected.rule?)))
}

/// Classify among the session's rules (TS 29.244 5.2.1). Tells the ends of a packet apart if its tunnel carries
/// downlink packets: the UE is its destination then.
#[cold]
pub fn turn<'g>(session: FoundSession<'g>, user: &mut UserPacket) -> Detection<'g> {
    if session.payload().is_downlink_tunnel(user.key) {
        user.fields = user.fields.reversed();
    }
    Detection {
        session: Some(session),
        rule: session.classify(&user.fields),
    }
}

/// The session of a UE whose own prefix is known only by a framed route finer than a /64.
#[cold]
pub fn framed<'g>(guard: &'g SessionGuard<'_>, user: &UserPacket) -> Option<FoundSession<'g>> {
    (!user.key.is_tunnel())
        .then(|| guard.framed(user.fields.network_instance(), user.fields.ue()))
        .flatten()
}

/// Why a packet matched no PDR of its session. A PDI that names the UE's address matches no foreign source: that is
/// spoofing before it is anything else.
#[cold]
pub fn unmatched(session: &CompiledSession, user: &UserPacket) -> DropReason {
    let uplink = user.key.is_tunnel() && !session.is_downlink_tunnel(user.key);
    if uplink && !session.may_come_from(user.fields.ue()) {
        DropReason::Spoofed
    } else {
        DropReason::NoPdr
    }
}
