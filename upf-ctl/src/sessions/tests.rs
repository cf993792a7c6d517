use super::*;
use upf_model::{Action, Disposition, Far, ForwardingParameters, Interface, NetworkInstanceId, OuterHeaderCreation};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// A session whose FARs send into these tunnels of one peer.
fn entry(sessions: &mut Sessions, tunnels: &[u32]) -> Entry {
    let (id, seid) = sessions.reserve().unwrap();
    changed(&record(id, seid), tunnels)
}

fn record(id: SessionId, seid: Seid) -> SessionRecord {
    SessionRecord {
        session: Session {
            id,
            seid,
            ..Session::default()
        },
        cp: CpEndpoint {
            seid: 77,
            ipv4: Some(Ipv4Addr::new(192, 0, 2, 1)),
            ipv6: None,
        },
        node: "smf.example".into(),
        subscription: Subscription::default(),
        holdings: Holdings::default(),
        established_ms: 1_000,
        last_answer: None,
    }
}

fn changed(record: &SessionRecord, tunnels: &[u32]) -> Entry {
    let mut record = record.clone();
    record.session.epoch.0 += 1;
    record.session.fars = tunnels
        .iter()
        .enumerate()
        .map(|(id, teid)| Far {
            id: FarId(id as u32),
            action: Action {
                disposition: Disposition::Forward,
                duplicate: false,
            },
            forwarding: Some(ForwardingParameters {
                destination_interface: Interface::Access,
                network_instance: NetworkInstanceId(0),
                outer_header_creation: Some(OuterHeaderCreation {
                    teid: Teid(*teid),
                    peer: PEER,
                }),
                transport_level_marking: None,
            }),
            duplicating: Vec::new(),
            bar: None,
        })
        .collect();
    Entry::new(record, UsageAccount::default())
}

#[test]
fn what_was_put_comes_back_as_it_was_and_is_found_by_its_seid_alone() {
    let mut sessions = Sessions::new(100);
    let entries: Vec<Entry> = (0..50)
        .map(|n| {
            let entry = entry(&mut sessions, &[n, n % 7]);
            sessions.put(&entry);
            entry
        })
        .collect();
    assert_eq!(sessions.len(), 50);
    for entry in &entries {
        let session = &entry.record.session;
        let id = sessions.by_seid(session.seid.0).unwrap();
        assert_eq!(sessions.get(id).unwrap().record, entry.record);
        assert_eq!(sessions.version(id), Some((session.seid, session.epoch)));
        assert_eq!(sessions.by_seid(session.seid.0 ^ 1 << 40), None, "a guess");
    }
    assert_eq!(sessions.of_node("smf.example").len(), 50);
    assert_eq!(sessions.of_node("another"), []);
}

#[test]
fn a_tunnel_of_a_peer_leads_to_the_sessions_that_send_into_it_now() {
    let mut sessions = Sessions::new(100);
    let (one, two) = (entry(&mut sessions, &[5, 5, 6]), entry(&mut sessions, &[5]));
    let ids = [&one, &two].map(|entry| entry.record.session.id);
    sessions.put(&one);
    sessions.put(&two);
    assert_eq!(sessions.by_remote_tunnel(PEER, Teid(5)), ids);
    assert_eq!(sessions.by_remote_tunnel(PEER, Teid(6)), [ids[0]]);
    // A handover of one, the end of the other.
    sessions.put(&changed(&one.record, &[6, 8]));
    assert_eq!(sessions.by_remote_tunnel(PEER, Teid(5)), [ids[1]]);
    assert_eq!(sessions.by_remote_tunnel(PEER, Teid(8)), [ids[0]]);
    sessions.remove(ids[1], true).unwrap();
    assert_eq!(sessions.by_remote_tunnel(PEER, Teid(5)), []);
    assert_eq!(sessions.by_remote_tunnel(PEER, Teid(6)), [ids[0]]);
}

#[test]
fn notes_stay_with_their_session_and_not_with_its_slot() {
    let mut sessions = Sessions::new(1);
    let one = entry(&mut sessions, &[]);
    let id = one.record.session.id;
    sessions.put(&one);
    sessions.notes_mut(id).unwrap().report_outstanding = true;
    let later = Instant::now() + std::time::Duration::from_secs(60);
    sessions.pause(id, Some(later));
    sessions.put(&changed(&one.record, &[3]));
    assert!(sessions.notes(id).unwrap().report_outstanding, "a modification");
    assert!(sessions.is_paused(id, Instant::now()));
    sessions.remove(id, true).unwrap();
    let two = entry(&mut sessions, &[]);
    assert_eq!(two.record.session.id, id, "there is no other slot");
    sessions.put(&two);
    assert_eq!(sessions.notes(id), Some(Notes::default()));
    assert!(!sessions.is_paused(id, Instant::now()));
}

#[test]
fn an_account_is_kept_where_it_has_changed() {
    let mut sessions = Sessions::new(1);
    let one = entry(&mut sessions, &[9]);
    let id = one.record.session.id;
    sessions.put(&one);
    let urr = upf_model::Urr {
        id: upf_model::UrrId(4),
        method: upf_model::MeasurementMethod {
            volume: true,
            duration: false,
            event: false,
        },
        before_qos: false,
        reporting: Default::default(),
    };
    let follow = |account: &mut UsageAccount| account.follow(std::slice::from_ref(&urr), &[], 5);
    assert!(!sessions.account(id, |account| {
        follow(account);
        false
    }));
    assert_eq!(sessions.usage(id), Some(UsageAccount::default()));
    assert!(sessions.account(id, |account| {
        follow(account);
        true
    }));
    assert!(sessions.usage(id).unwrap().total(urr.id).is_some());
    assert_eq!(sessions.get(id).unwrap().record, one.record, "the record stays");
}

#[test]
fn a_slot_that_a_data_plane_may_still_have_is_not_used_again() {
    let mut sessions = Sessions::new(1);
    let one = entry(&mut sessions, &[]);
    sessions.put(&one);
    sessions.remove(one.record.session.id, false).unwrap();
    assert_eq!(sessions.reserve(), None);
    sessions.synchronised();
    let (id, _) = sessions.reserve().unwrap();
    sessions.give_back(id, false);
    assert_eq!(sessions.reserve(), None);
    sessions.synchronised();
    assert!(sessions.reserve().is_some());
}
