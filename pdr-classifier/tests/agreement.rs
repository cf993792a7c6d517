//! Whatever is put, removed and changed: packets are detected as the linear oracle says.

mod arbitrary;

use arbitrary::{Content, content, ethernet, frame, key, packet, rule};
use pdr_classifier::{
    Candidate, Detection, EthernetFields, PacketFields, PdrMatch, PutError, RuleChange, RuleIndex, SessionKey, Table,
    Writer, oracle,
};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use upf_model::{EndpointId, Precedence, SdfFilter, SessionId, Teid};

/// The table as it should be.
#[derive(Default)]
struct Model(BTreeMap<SessionId, Content>);

impl Model {
    /// The session of a key, by the rules of the documentation.
    fn session(&self, key: SessionKey) -> Option<(SessionId, &Content)> {
        let exact = self.0.iter().find(|(_, c)| c.keys.contains(&key));
        let (ni, addr, longest) = match key {
            _ if exact.is_some() => return exact.map(|(id, c)| (*id, c)),
            SessionKey::FTeid { .. } => return None,
            SessionKey::UeV4 { ni, addr } => (ni, IpAddr::V4(addr), 32),
            SessionKey::UeV6 { ni, prefix64 } => (ni, IpAddr::V6(Ipv6Addr::from_bits(u128::from(prefix64) << 64)), 64),
        };
        let around = self
            .0
            .iter()
            .flat_map(|(id, c)| c.framed.iter().map(move |route| (*id, c, route)));
        around
            .filter(|(_, _, (n, p))| *n == ni && p.contains(addr) && p.len() <= longest)
            .max_by_key(|(_, _, (_, p))| p.len())
            .map(|(id, c, _)| (id, c))
    }

    fn conflicts(&self, id: SessionId, content: &Content) -> bool {
        self.0.iter().filter(|(other, _)| **other != id).any(|(_, other)| {
            other.keys.iter().any(|k| content.keys.contains(k))
                || other.framed.iter().any(|r| content.framed.contains(r))
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u32, Content),
    Remove(u32),
    SetPrecedence(u32, Index, u32),
    SetPrecedences(Vec<(u32, Index, u32)>),
    Change(u32, Vec<Change>),
    Look(Vec<(SessionKey, PacketFields)>),
    LookAtFrames(Vec<((SessionKey, PacketFields), EthernetFields)>),
    Reclaim,
}

/// A change of one rule, of a session whose rules are not known yet.
#[derive(Debug, Clone)]
enum Change {
    Insert(PdrMatch),
    Replace(Index, PdrMatch),
    Remove(Index),
    Precedence(Index, u32),
}

fn change(filtered: f64) -> impl Strategy<Value = Change> {
    // Rules that name a tunnel name one that the session may have.
    let rule = move || (prop::collection::vec(key(), 0..4)).prop_flat_map(move |keys| rule(keys, filtered));
    prop_oneof![
        1 => rule().prop_map(Change::Insert),
        3 => (any::<Index>(), rule()).prop_map(|(at, rule)| Change::Replace(at, rule)),
        1 => any::<Index>().prop_map(Change::Remove),
        1 => (any::<Index>(), 0..8u32).prop_map(|(at, p)| Change::Precedence(at, p)),
    ]
}

fn step(rules: std::ops::Range<usize>, filtered: f64) -> impl Strategy<Value = Step> {
    let id = 0..3u32;
    let changes = prop_oneof![
        3 => change(filtered).prop_map(|change| vec![change]),
        1 => prop::collection::vec(change(filtered), 1..4),
    ];
    let precedences = prop::collection::vec((id.clone(), any::<Index>(), 0..8u32), 1..6);
    prop_oneof![
        3 => (id.clone(), content(rules, filtered)).prop_map(|(id, c)| Step::Put(id, c)),
        1 => id.clone().prop_map(Step::Remove),
        2 => (id.clone(), any::<Index>(), 0..8u32).prop_map(|(id, rule, p)| Step::SetPrecedence(id, rule, p)),
        1 => precedences.prop_map(Step::SetPrecedences),
        3 => (id.clone(), changes).prop_map(|(id, changes)| Step::Change(id, changes)),
        4 => prop::collection::vec(packet(), 1..80).prop_map(Step::Look),
        1 => prop::collection::vec((packet(), frame()), 1..20).prop_map(Step::LookAtFrames),
        1 => Just(Step::Reclaim),
    ]
}

/// The same step of sessions whose rules have Ethernet packet filters.
fn of_frames() -> impl Strategy<Value = Step> {
    let frames = prop::collection::vec((packet(), frame()), 1..80).prop_map(Step::LookAtFrames);
    let filters = prop::collection::vec(ethernet(), 30);
    prop_oneof![
        3 => (step(0..24, 0.3), filters).prop_map(|(mut step, filters)| {
            let rules: Vec<&mut PdrMatch> = match &mut step {
                Step::Put(_, content) => content.rules.iter_mut().collect(),
                Step::Change(_, changes) => changes.iter_mut().filter_map(Change::rule).collect(),
                _ => Vec::new(),
            };
            rules.into_iter().zip(filters).for_each(|(rule, filters)| rule.ethernet = filters);
            step
        }),
        1 => frames,
    ]
}

impl Change {
    fn rule(&mut self) -> Option<&mut PdrMatch> {
        match self {
            Self::Insert(rule) | Self::Replace(_, rule) => Some(rule),
            Self::Remove(_) | Self::Precedence(..) => None,
        }
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    run_with(0, steps)
}

fn run_with(direct_teids: usize, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (table, mut writer) = Table::<u32>::with_direct_teids(direct_teids);
    let mut reader = table.register();
    let mut model = Model::default();
    for (version, step) in steps.into_iter().enumerate() {
        match step {
            Step::Put(id, content) => put(&mut writer, &mut model, SessionId(id), content, version as u32)?,
            Step::Remove(id) => {
                let id = SessionId(id);
                prop_assert_eq!(writer.remove(id).is_some(), model.0.remove(&id).is_some());
            }
            Step::SetPrecedence(id, rule, precedence) => {
                let id = SessionId(id);
                let Some(content) = model.0.get_mut(&id).filter(|c| !c.rules.is_empty()) else {
                    prop_assert!(!writer.set_precedence(id, 0, Precedence(precedence)));
                    continue;
                };
                let rule = rule.index(content.rules.len());
                content.rules[rule].precedence = Precedence(precedence);
                prop_assert!(writer.set_precedence(id, rule as RuleIndex, Precedence(precedence)));
            }
            Step::SetPrecedences(changes) => {
                let mut list = Vec::new();
                for (id, rule, precedence) in changes {
                    let id = SessionId(id);
                    let rules = model.0.get_mut(&id).map(|content| &mut content.rules);
                    if let Some(rules) = rules.filter(|rules| !rules.is_empty()) {
                        let rule = rule.index(rules.len());
                        rules[rule].precedence = Precedence(precedence);
                        list.push((id, rule as RuleIndex, Precedence(precedence)));
                    }
                }
                prop_assert_eq!(writer.set_precedences(&list), list.len());
            }
            Step::Change(id, changes) => change_both(&mut writer, &mut model, SessionId(id), &changes)?,
            Step::Reclaim => drop(writer.try_reclaim()),
            Step::LookAtFrames(frames) => {
                let guard = reader.enter();
                for ((key, packet), frame) in &frames {
                    let (Some(found), Some((_, content))) = (guard.session(*key), model.session(*key)) else {
                        continue;
                    };
                    let winner = oracle::classify_frame(&content.rules, *key, packet, Some(frame));
                    prop_assert_eq!(
                        found.classify_frame(packet, frame),
                        winner,
                        "{:?} in {:?}",
                        frame,
                        content
                    );
                    let explanation = found.explain_frame(packet, frame);
                    prop_assert_eq!(explanation.winner, winner);
                    for (rule, candidate) in content.rules.iter().zip(explanation.candidates) {
                        let failed = oracle::mismatch_of(rule, *key, packet, Some(frame));
                        prop_assert_eq!(matches!(candidate, Candidate::Failed(_)), failed.is_some());
                    }
                    // What the flow mask says is the same is detected alike.
                    let mask = found.flow_mask();
                    for ((other_key, other), other_frame) in &frames {
                        let is_alike =
                            mask.key_of_frame(other, Some(other_frame)) == mask.key_of_frame(packet, Some(frame));
                        if other_key == key && is_alike {
                            prop_assert_eq!(found.classify_frame(other, other_frame), winner, "under {:?}", mask);
                        }
                    }
                }
            }
            Step::Look(packets) => {
                let keys: Vec<_> = packets.iter().map(|(key, _)| *key).collect();
                let guard = reader.enter();
                let mut found = vec![None; keys.len()];
                guard.sessions(&keys, &mut found);
                let mut detections = vec![Detection::default(); keys.len()];
                guard.detect(&keys, |i| &packets[i].1, &mut detections);
                for (i, detection) in detections.iter().enumerate() {
                    prop_assert_eq!(detection.session.map(|f| f.id()), found[i].map(|f| f.id()));
                    let rule = found[i].and_then(|f| f.classify(&packets[i].1));
                    prop_assert_eq!(detection.rule, rule);
                    // What the flow mask says is the same is detected alike.
                    let Some(session) = detection.session else { continue };
                    let mask = session.flow_mask();
                    for (other, (key, packet)) in packets.iter().enumerate() {
                        if *key == keys[i] && mask.key(packet) == mask.key(&packets[i].1) {
                            prop_assert_eq!(
                                detections[other].rule,
                                rule,
                                "under {:?}: {:?}, {:?}",
                                mask,
                                packet,
                                packets[i].1
                            );
                        }
                    }
                }
                for ((key, packet), found) in packets.into_iter().zip(found) {
                    let expected = model.session(key);
                    prop_assert_eq!(
                        found.map(|f| f.id()),
                        expected.map(|(id, _)| id),
                        "session of {:?}",
                        key
                    );
                    prop_assert_eq!(guard.session(key).map(|f| f.id()), found.map(|f| f.id()));
                    let (Some(found), Some((id, content))) = (found, expected) else {
                        continue;
                    };
                    let winner = oracle::classify(&content.rules, key, &packet);
                    prop_assert_eq!(
                        found.classify(&packet),
                        winner,
                        "{:?} by {:?} in {:?}",
                        packet,
                        key,
                        content
                    );
                    let explanation = found.explain(&packet);
                    prop_assert_eq!(explanation.winner, winner);
                    for (rule, candidate) in content.rules.iter().zip(explanation.candidates) {
                        let failed = match candidate {
                            Candidate::Failed(mismatch) => Some(mismatch),
                            Candidate::Won | Candidate::LostTo(_) => None,
                        };
                        prop_assert_eq!(failed, oracle::mismatch(rule, key, &packet));
                    }
                    prop_assert_eq!(writer.get(id), Some(found.payload()));
                }
            }
        }
        prop_assert_eq!(writer.len(), model.0.len());
    }
    Ok(())
}

fn change_both(
    writer: &mut Writer<u32>,
    model: &mut Model,
    id: SessionId,
    changes: &[Change],
) -> Result<(), TestCaseError> {
    let Some(content) = model.0.get_mut(&id) else {
        prop_assert!(writer.change(id, &[]).is_err());
        return Ok(());
    };
    let mut rules = content.rules.clone();
    let mut list = Vec::new();
    for change in changes {
        match change {
            Change::Insert(rule) => {
                rules.push(rule.clone());
                list.push(RuleChange::Insert(rule));
            }
            _ if rules.is_empty() => {}
            Change::Replace(at, rule) => {
                let at = at.index(rules.len());
                rules[at] = rule.clone();
                list.push(RuleChange::Replace(at as RuleIndex, rule));
            }
            Change::Remove(at) => {
                let at = at.index(rules.len());
                rules.remove(at);
                list.push(RuleChange::Remove(at as RuleIndex));
            }
            Change::Precedence(at, precedence) => {
                let at = at.index(rules.len());
                rules[at].precedence = Precedence(*precedence);
                list.push(RuleChange::Precedence(at as RuleIndex, Precedence(*precedence)));
            }
        }
    }
    prop_assert!(writer.change(id, &list).is_ok());
    content.rules = rules;
    // Tunnels that the session does not have are not kept: they come back as one that nobody has.
    let now = writer.rules(id).unwrap_or_default();
    prop_assert_eq!(now.len(), content.rules.len());
    for (now, rule) in now.iter().zip(&content.rules) {
        prop_assert_eq!(now.precedence, rule.precedence);
        prop_assert_eq!(&now.sdf, &rule.sdf);
        prop_assert_eq!(&now.ue, &rule.ue);
    }
    Ok(())
}

fn put(
    writer: &mut Writer<u32>,
    model: &mut Model,
    id: SessionId,
    content: Content,
    version: u32,
) -> Result<(), TestCaseError> {
    let outcome = writer.put(id, &content.keys, &content.framed, &content.rules, version);
    let taken = matches!(
        outcome,
        Err(PutError::KeyTaken { .. } | PutError::FramedRouteTaken { .. })
    );
    prop_assert_eq!(taken, model.conflicts(id, &content));
    prop_assert_eq!(outcome.is_ok(), !taken);
    if !taken {
        model.0.insert(id, content);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sessions_of_few_rules_detect_what_the_oracle_detects(steps in prop::collection::vec(step(0..6, 0.6), 1..24)) {
        run(steps)?;
    }

    #[test]
    fn teids_that_index_lead_where_hashed_ones_lead(steps in prop::collection::vec(step(0..6, 0.6), 1..24)) {
        // Two indexes for three TEIDs of two endpoints: most cells are somebody else's.
        run_with(2, steps)?;
    }

    #[test]
    fn ethernet_sessions_detect_what_the_oracle_detects(steps in prop::collection::vec(of_frames(), 1..24)) {
        run(steps)?;
    }

    #[test]
    fn sessions_without_filters_detect_what_the_oracle_detects(steps in prop::collection::vec(step(0..4, 0.0), 1..24)) {
        run(steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sessions_of_many_rules_detect_what_the_oracle_detects(steps in prop::collection::vec(step(6..400, 0.95), 1..10)) {
        run(steps)?;
    }
}

fn has_one_row(filter: &SdfFilter) -> bool {
    let ports = filter.flow.iter().flat_map(|flow| [&flow.remote_ports, &flow.ue_ports]);
    ports.into_iter().all(|ports| ports.len() <= 1)
}

/// Some rules of one tunnel, which says nothing about the packet's UE end: distinct ones out of the small world are few,
/// repeated ones with other precedences make the rest.
fn many_rules(runner: &mut TestRunner, keys: &[SessionKey], count: usize) -> Vec<PdrMatch> {
    let some: Vec<PdrMatch> = (0..2_000)
        .map(|_| drawn(&rule(keys.to_vec(), 0.98), runner))
        .filter(|rule| rule.sdf.len() <= 2 && rule.ue.len() < 2 && rule.sdf.iter().all(has_one_row))
        .collect();
    let mut rules: Vec<PdrMatch> = some.into_iter().cycle().take(count).collect();
    for (number, rule) in rules.iter_mut().enumerate() {
        rule.precedence = Precedence((number as u32).wrapping_mul(0x9e37_79b1) >> 8);
    }
    rules
}

fn drawn<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).expect("a value").current()
}

const TUNNEL: SessionKey = SessionKey::FTeid {
    endpoint: EndpointId(0),
    teid: Teid(1),
};

fn expect_agreement(runner: &mut TestRunner, table: &Table<u32>, rules: &[PdrMatch], packets: usize) {
    let mut reader = table.register();
    let guard = reader.enter();
    let found = guard.session(TUNNEL).expect("it was put");
    let packets: Vec<PacketFields> = (0..packets).map(|_| drawn(&packet(), runner).1).collect();
    let mut detections = vec![Detection::default(); packets.len()];
    guard.detect(&vec![TUNNEL; packets.len()], |i| &packets[i], &mut detections);
    for (packet, detection) in packets.iter().zip(detections) {
        let expected = oracle::classify(rules, TUNNEL, packet);
        assert_eq!(found.classify(packet), expected, "{packet:?}");
        assert_eq!(detection.rule, expected, "{packet:?}");
    }
}

/// Up to 100,000 rules of one session, some 120,000 rows, and a few changes: every packet is detected as the oracle says.
#[test]
fn a_session_of_a_hundred_thousand_rules_detects_what_the_oracle_detects() {
    let mut runner = TestRunner::deterministic();
    for count in [2_049, 20_000, 100_000] {
        let mut rules = many_rules(&mut runner, &[TUNNEL], count);
        let (table, mut writer) = Table::<u32>::new();
        let put = writer.put(SessionId(0), &[TUNNEL], &[], &rules, 0);
        assert!(put.is_ok(), "{put:?}");
        let last = count as RuleIndex - 1;
        for (rule, precedence) in [(7, 0), (2_000, 1), (7, 5), (last, 1), (last, 3)] {
            rules[rule as usize].precedence = Precedence(precedence);
            assert!(writer.set_precedence(SessionId(0), rule, Precedence(precedence)));
        }
        expect_agreement(&mut runner, &table, &rules, 200);
        let other = rules[5].clone();
        rules[last as usize] = other.clone();
        assert!(writer.replace_rule(SessionId(0), last, &other).is_ok());
        expect_agreement(&mut runner, &table, &rules, 100);
    }
}

/// Hundreds of changes of single rules, one after the other: sections are made out of sections that were made out of
/// sections.
#[test]
fn a_large_set_that_changes_rule_by_rule_goes_on_detecting_what_the_oracle_detects() {
    let mut runner = TestRunner::deterministic();
    for count in [40, 150, 700] {
        let mut rules = many_rules(&mut runner, &[TUNNEL], count);
        let (table, mut writer) = Table::<u32>::new();
        assert!(writer.put(SessionId(0), &[TUNNEL], &[], &rules, 0).is_ok());
        let (some_rule, some_change) = (rule(vec![TUNNEL], 0.98), (0..4u8, any::<Index>()));
        for _ in 0..300 {
            let (what, at) = drawn(&some_change, &mut runner);
            let at = at.index(rules.len());
            let mut new = drawn(&some_rule, &mut runner);
            match what {
                0 => {
                    assert_eq!(writer.insert_rule(SessionId(0), &new), Ok(rules.len() as RuleIndex));
                    rules.push(new);
                }
                1 => {
                    assert!(writer.remove_rule(SessionId(0), at as RuleIndex).is_ok());
                    rules.remove(at);
                }
                _ => {
                    if what == 2 {
                        new.precedence = rules[at].precedence;
                    }
                    assert!(writer.replace_rule(SessionId(0), at as RuleIndex, &new).is_ok());
                    rules[at] = new;
                }
            }
            expect_agreement(&mut runner, &table, &rules, 12);
        }
        assert_eq!(writer.rules(SessionId(0)).map(|rules| rules.len()), Some(rules.len()));
    }
}
