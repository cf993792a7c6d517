//! The grammar of flow descriptions (TS 29.212 5.4.2, RFC 6733 4.3.1): what reads as what, and what is refused.

use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::{AddressMatch, IpFilterRule, IpPrefix, PortRange};

fn rule(text: &str) -> IpFilterRule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    text.parse::<IpFilterRule>().expect_err(text).to_string()
}

fn prefix(text: &str) -> AddressMatch {
    AddressMatch::Prefix(text.parse().unwrap())
}

#[test]
fn from_is_the_remote_end_of_a_rule_towards_the_ue() {
    let rule = rule("permit out 17 from 198.51.100.0/24 5060 to 10.45.0.2 4000-4010");
    assert_eq!(rule.protocol, Some(17));
    assert_eq!(rule.remote, prefix("198.51.100.0/24"));
    assert_eq!(rule.remote_ports, [PortRange { low: 5060, high: 5060 }]);
    assert_eq!(rule.ue, prefix("10.45.0.2/32"));
    assert_eq!(rule.ue_ports, [PortRange { low: 4000, high: 4010 }]);
}

#[test]
fn a_rule_from_the_ue_reads_with_its_ends_swapped() {
    assert_eq!(
        rule("permit in 6 from assigned 1000 to 2001:db8::/32 443"),
        rule("permit out 6 from 2001:db8::/32 443 to assigned 1000")
    );
}

#[test]
fn port_lists_are_sorted_and_merged() {
    let port = |low, high| PortRange { low, high };
    assert_eq!(
        rule("permit out 6 from any 443,80,81 to any").remote_ports,
        [port(80, 81), port(443, 443)]
    );
    assert_eq!(
        rule("permit out 6 from any 1-10,5-20,21,0 to any").remote_ports,
        [port(0, 21)]
    );
    assert_eq!(
        rule("permit out 6 from any 65535,65534-65535 to any").remote_ports,
        [port(65534, 65535)]
    );
}

#[test]
fn words_may_be_separated_by_any_blanks() {
    assert_eq!(
        rule("  permit\tout  ip from any   to assigned "),
        rule("permit out ip from any to assigned")
    );
}

#[test]
fn what_is_printed_is_what_an_smf_would_have_written() {
    for text in [
        "permit out ip from any to assigned",
        "permit out 58 from ff02::2 to assigned",
        "permit out 6 from 203.0.113.0/25 80-81,443 to 10.0.0.1 1024-65535",
        "permit out 17 from any 53 to any",
    ] {
        assert_eq!(rule(text).to_string(), text);
    }
}

#[test]
fn refusals_say_where_what_was_expected_and_what_was_found() {
    for (text, expected) in [
        ("", "at byte 0: expected permit, found the end"),
        ("allow out", "at byte 0: expected permit, found \"allow\""),
        (
            "deny out ip from any to any",
            "at byte 0: expected permit (deny is not in TS 29.212 5.4.2), found \"deny\"",
        ),
        ("permit both ip", "at byte 7: expected out or in, found \"both\""),
        (
            "permit out tcp from any to any",
            "at byte 11: expected ip or a protocol number of at most 255, found \"tcp\"",
        ),
        (
            "permit out 256 from any to any",
            "at byte 11: expected ip or a protocol number of at most 255, found \"256\"",
        ),
        (
            "permit out +6 from any to any",
            "at byte 11: expected ip or a protocol number of at most 255, found \"+6\"",
        ),
        ("permit out 6 any", "at byte 13: expected from, found \"any\""),
        (
            "permit out 6 from !10.0.0.1 to any",
            "at byte 18: expected an address without negation (! is not in TS 29.212 5.4.2), found \"!10.0.0.1\"",
        ),
        (
            "permit out 6 from 10.0.0 to any",
            "at byte 18: expected any, assigned, or an IPv4 or IPv6 address or prefix, found \"10.0.0\"",
        ),
        (
            "permit out 6 from ::/129 to any",
            "at byte 18: expected a prefix length of at most 128, found \"::/129\"",
        ),
        (
            "permit out 6 from 10.0.0.0/ to any",
            "at byte 18: expected a prefix length of at most 32, found \"10.0.0.0/\"",
        ),
        (
            "permit out 6 from any 80, to any",
            "at byte 25: expected a port of at most 65535, or LOW-HIGH, found \"80,\"",
        ),
        (
            "permit out 6 from any 80,65536 to any",
            "at byte 25: expected a port of at most 65535, or LOW-HIGH, found \"65536\"",
        ),
        (
            "permit out 6 from any 9-7 to any",
            "at byte 22: expected a range whose first port is not over its last, found \"9-7\"",
        ),
        (
            "permit out 6 from any 80, 443 to any",
            "at byte 25: expected a port of at most 65535, or LOW-HIGH, found \"80,\"",
        ),
        (
            "permit out 6 from any http to any",
            "at byte 22: expected ports or to, found \"http\"",
        ),
        (
            "permit out 6 from any to",
            "at byte 24: expected any, assigned, or an IPv4 or IPv6 address or prefix, found the end",
        ),
        (
            "permit out 6 from any to any established",
            "at byte 29: expected ports or the end (options are not in TS 29.212 5.4.2), found \"established\"",
        ),
        (
            "permit out 6 from assigned to any",
            "at byte 18: expected the remote end, which is not assigned by this network, found \"assigned\"",
        ),
        (
            "permit out ip from 10.0.0.0/8 to 2001:db8::1",
            "at byte 33: expected an address of the same family as the other end's, found \"2001:db8::1\"",
        ),
    ] {
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn a_long_word_is_shortened_in_the_refusal() {
    let refusal = refusal(&format!("permit out 6 from {} to any", "ü".repeat(5000)));
    assert!(refusal.len() < 300, "{refusal}");
}

fn ports() -> impl Strategy<Value = Vec<PortRange>> {
    // Canonical by construction: ascending bounds, every second gap left out and at least one port wide.
    proptest::collection::btree_set(any::<u16>(), 0..8).prop_map(|bounds| {
        let mut ranges: Vec<PortRange> = Vec::new();
        for pair in bounds.into_iter().collect::<Vec<_>>().chunks(2) {
            let (low, high) = (pair[0], *pair.last().unwrap());
            if ranges
                .last()
                .is_none_or(|last| u32::from(last.high) + 1 < u32::from(low))
            {
                ranges.push(PortRange { low, high });
            }
        }
        ranges
    })
}

fn address(v4: bool) -> impl Strategy<Value = AddressMatch> {
    let bits = any::<(u128, u8)>();
    prop_oneof![
        Just(AddressMatch::Any),
        bits.prop_map(move |(bits, len)| {
            let addr = if v4 {
                IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            };
            let full = if v4 { 32 } else { 128 };
            AddressMatch::Prefix(IpPrefix::new(addr, len % (full + 1)).unwrap())
        }),
    ]
}

fn any_rule() -> impl Strategy<Value = IpFilterRule> {
    any::<bool>().prop_flat_map(|v4| {
        let ue = prop_oneof![Just(AddressMatch::Assigned), address(v4)];
        (any::<Option<u8>>(), address(v4), ports(), ue, ports()).prop_map(
            |(protocol, remote, remote_ports, ue, ue_ports)| IpFilterRule {
                protocol,
                remote,
                remote_ports,
                ue,
                ue_ports,
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_rule_reads_back_as_it_is_printed(rule in any_rule()) {
        prop_assert_eq!(rule.to_string().parse::<IpFilterRule>(), Ok(rule));
    }

    #[test]
    fn whatever_reads_has_one_canonical_text(text in "permit (out|in) (ip|[0-9]{1,3}) from (any|assigned|[0-9./:a-f]{1,12})( [0-9,-]{1,9})? to (any|assigned)( [0-9,-]{1,9})?") {
        if let Ok(rule) = text.parse::<IpFilterRule>() {
            prop_assert_eq!(rule.to_string().parse::<IpFilterRule>(), Ok(rule));
        }
    }

    #[test]
    fn no_text_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in "\\PC{0,64}") {
        let _ = String::from_utf8_lossy(&bytes).parse::<IpFilterRule>();
        let _ = text.parse::<IpFilterRule>();
    }

    #[test]
    fn no_mutation_of_a_good_text_panics(rule in any_rule(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = rule.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = String::from_utf8_lossy(&bytes).parse::<IpFilterRule>();
    }
}
