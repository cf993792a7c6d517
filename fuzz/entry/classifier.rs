//! Rules, changes and packets of one session out of octets, and what must hold of any.

use pdr_classifier::{InterfaceSet, PacketFields, PdrMatch, RuleChange, SessionKey, Table, oracle};
use upf_model::{
    AddressMatch, EndpointId, Interface, IpFilterRule, IpPrefix, NetworkInstanceId, PortRange, Precedence, SdfFilter,
    SessionId, Teid,
};

const KEY: SessionKey = SessionKey::FTeid {
    endpoint: EndpointId(0),
    teid: Teid(1),
};
const NI: NetworkInstanceId = NetworkInstanceId(0);

/// A rule out of eight octets.
fn rule([precedence, protocol, octet, length, low, span, ue, qfi]: [u8; 8]) -> PdrMatch {
    let prefix = |octet: u8, length: u8| IpPrefix::new([10, 0, 0, octet].into(), length % 33);
    let ports = PortRange {
        low: low.into(),
        high: u16::from(low) + u16::from(span) * 16,
    };
    let flow = IpFilterRule {
        protocol: (protocol < 128).then_some(protocol % 4),
        remote: prefix(octet, length).map_or(AddressMatch::Any, AddressMatch::Prefix),
        remote_ports: if span == 0 { Vec::new() } else { vec![ports] },
        ue: AddressMatch::Assigned,
        ue_ports: Vec::new(),
    };
    PdrMatch {
        precedence: Precedence(precedence.into()),
        source_interface: Interface::Access,
        network_instance: NI,
        tunnel: vec![KEY],
        ue: prefix(ue, 32).filter(|_| ue < 64).into_iter().collect(),
        qfis: if qfi < 64 { 1 << qfi } else { 0 },
        application: None,
        ethernet: Vec::new(),
        sdf: vec![SdfFilter {
            flow: Some(flow),
            ..SdfFilter::default()
        }],
    }
}

fn packet([protocol, octet, port, ue, _, _, _, _]: [u8; 8]) -> PacketFields {
    PacketFields::v4([10, 0, 0, octet].into(), [10, 0, 0, ue % 64].into(), protocol % 4, 0)
        .arrived(InterfaceSet::of(&[Interface::Access]), NI)
        .with_ports(u16::from(port) * 16, 4_000)
}

/// Whatever rules there are and however they change, packets are detected as the oracle says, and packets that are the
/// same under the flow mask are detected alike.
pub fn classifier(data: &[u8]) {
    let (table, mut writer) = Table::new();
    let mut reader = table.register();
    if writer.put(SessionId(0), &[KEY], &[], &[], ()).is_err() {
        return;
    }
    let mut rules: Vec<PdrMatch> = Vec::new();
    let mut before = None;
    for step in data.as_chunks::<9>().0 {
        let [what, octets @ ..] = *step;
        let at = rules
            .len()
            .checked_sub(1)
            .map(|last| usize::from(octets[7]) % (last + 1));
        match (what % 8, at) {
            (0..=2, _) if rules.len() < 300 => {
                assert!(writer.insert_rule(SessionId(0), &rule(octets)).is_ok());
                rules.push(rule(octets));
            }
            (3, Some(at)) => {
                assert!(writer.replace_rule(SessionId(0), at as u32, &rule(octets)).is_ok());
                rules[at] = rule(octets);
            }
            (4, Some(at)) => {
                assert!(writer.change(SessionId(0), &[RuleChange::Remove(at as u32)]).is_ok());
                rules.remove(at);
            }
            (5, Some(at)) => {
                let precedence = Precedence(octets[0].into());
                assert!(writer.set_precedence(SessionId(0), at as u32, precedence));
                rules[at].precedence = precedence;
            }
            _ => {}
        }
        let packet = packet(octets);
        let guard = reader.enter();
        let found = guard.session(KEY).expect("it was put");
        let rule = found.classify(&packet);
        assert_eq!(
            rule,
            oracle::classify(&rules, KEY, &packet),
            "{packet:?} among {rules:?}"
        );
        let key = found.flow_mask().key(&packet);
        if let Some(before) = before.replace(packet)
            && found.flow_mask().key(&before) == key
        {
            assert_eq!(found.classify(&before), rule);
        }
    }
}
