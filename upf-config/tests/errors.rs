//! Errors say where, what was expected, what was found, and what to do.

use proptest::prelude::*;
use upf_config::{ConfigError, load, parse};

const SOUND: &str = "\
pfcp:
  listen: 127.0.0.8:8805
host:
  lcores: [0, 1]
ports:
  - name: n3
    device: net_null0
    mtu: 1500
    addresses: [192.0.2.1/24]
    network_instance: access
    interfaces: [access]
    gtpu: true
  - name: n6
    device: net_null1
    addresses: [198.51.100.1/24]
    network_instance: internet
    interfaces: [core]
network_instances:
  - name: access
  - name: internet
    routes:
      - prefix: 0.0.0.0/0
        via: 198.51.100.254
    ue_pools: [10.45.0.0/16]
";

/// The messages for the sound configuration with `old` replaced by `new`.
fn messages(old: &str, new: &str) -> String {
    assert!(SOUND.contains(old), "{old} is not in the text");
    let text = SOUND.replacen(old, new, 1);
    parse(&text, "upf.yaml").expect_err("it should be refused").to_string()
}

#[track_caller]
fn refused(old: &str, new: &str, expected: &str) {
    assert_eq!(messages(old, new), expected);
}

#[test]
fn the_sound_configuration_is_accepted() {
    parse(SOUND, "upf.yaml").unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn an_unknown_field_is_named_with_its_line_and_the_likely_one() {
    refused(
        "    addresses: [192",
        "    adress: [192",
        "upf.yaml:9:5: ports[0].adress: expected one of name, device, mac, mtu, vlan, addresses, network_instance, \
         interfaces, gtpu, egress, found \"adress\" (did you mean addresses?)",
    );
}

#[test]
fn a_missing_field_is_named() {
    refused(
        "    device: net_null0\n",
        "",
        "upf.yaml:6:5: ports[0].device: expected a PCI address or a DPDK vdev, such as net_af_packet0,iface=eth1, \
         found nothing (device must be given)",
    );
}

#[test]
fn a_missing_section_is_named() {
    let text = SOUND.split_once("network_instances:").unwrap().0;
    let error = parse(text, "upf.yaml").unwrap_err();
    assert_eq!(error.problems()[0].field, "network_instances");
    assert_eq!(error.problems()[0].found, "nothing");
}

#[test]
fn a_wrong_word_is_named_with_the_right_ones() {
    refused(
        "[access]",
        "[acces]",
        "upf.yaml:11:18: ports[0].interfaces[0]: expected one of access, core, sgi-lan, found \"acces\" \
         (did you mean access?)",
    );
}

#[test]
fn numbers_out_of_their_type_or_range_are_named_with_the_bounds() {
    refused(
        "mtu: 1500",
        "mtu: 70000",
        "upf.yaml:8:10: ports[0].mtu: expected a whole number from 0 to 65535, found \"70000\"",
    );
    refused(
        "mtu: 1500",
        "mtu: big",
        "upf.yaml:8:10: ports[0].mtu: expected a whole number from 0 to 65535, found \"big\"",
    );
    refused(
        "mtu: 1500",
        "mtu: 20",
        "upf.yaml:8:10: ports[0].mtu: expected 576 to 9600, found 20",
    );
    refused(
        "mtu: 1500",
        "vlan: 4095",
        "upf.yaml:8:11: ports[0].vlan: expected 1 to 4094, found 4095",
    );
    refused(
        "mtu: 1500",
        "vlan: 0",
        "upf.yaml:8:11: ports[0].vlan: expected 1 to 4094, found 0",
    );
    refused(
        "lcores: [0, 1]",
        "burst: 65",
        "upf.yaml:4:10: host.burst: expected 1 to 64, found 65",
    );
}

#[test]
fn addresses_and_prefixes_that_are_none_are_named() {
    refused(
        "192.0.2.1/24",
        "192.0.2.1/44",
        "upf.yaml:9:17: ports[0].addresses[0]: expected an address or ADDRESS/LENGTH, found \"192.0.2.1/44\"",
    );
    refused(
        "127.0.0.8:8805",
        "127.0.0.8",
        "upf.yaml:2:11: pfcp.listen: expected ADDRESS:PORT, such as 192.0.2.1:8805 or \"[2001:db8::1]:8805\", \
         found \"127.0.0.8\"",
    );
    refused(
        "198.51.100.254",
        "gateway",
        "upf.yaml:23:14: network_instances[1].routes[0].via: expected an IP address, found \"gateway\"",
    );
}

#[test]
fn what_is_no_yaml_is_named_with_its_line() {
    let message = messages("    mtu: 1500", "    mtu: [1500");
    assert!(
        message.starts_with("upf.yaml:9:") || message.starts_with("upf.yaml:8:"),
        "{message}"
    );
    let message = messages("    mtu: 1500", "\tmtu: 1500");
    assert!(
        message.starts_with("upf.yaml:8:") || message.starts_with("upf.yaml:7:"),
        "{message}"
    );
    assert!(
        parse("", "upf.yaml")
            .unwrap_err()
            .to_string()
            .contains("found an empty text")
    );
    assert!(parse("- a\n", "upf.yaml").is_err());
}

#[test]
fn a_field_given_twice_is_refused() {
    refused(
        "    mtu: 1500",
        "    name: n4",
        "upf.yaml:8:5: ports[0].name: expected name once, found it a second time",
    );
}

#[test]
fn all_problems_of_meaning_are_told_at_once_in_the_order_of_the_text() {
    let text = SOUND
        .replace("lcores: [0, 1]", "lcores: [1, 1]")
        .replace("name: n6", "name: n3");
    let error = parse(&text, "upf.yaml").unwrap_err();
    let lines: Vec<usize> = error
        .problems()
        .iter()
        .filter_map(|p| p.position)
        .map(|p| p.line)
        .collect();
    assert_eq!(lines, [4, 13]);
}

#[test]
fn names_addresses_devices_and_lcores_are_unique() {
    refused(
        "lcores: [0, 1]",
        "lcores: [1, 1]",
        "upf.yaml:4:15: host.lcores[1]: expected each CPU once, found 1 again",
    );
    refused(
        "lcores: [0, 1]",
        "lcores: []",
        "upf.yaml:4:11: host.lcores: expected 1 to 64 CPUs, found 0 of them (each lcore is one worker's CPU)",
    );
    refused(
        "name: n6",
        "name: n3",
        "upf.yaml:13:11: ports[1].name: expected each one once, found \"n3\", that of ports[0]",
    );
    refused(
        "net_null1",
        "net_null0",
        "upf.yaml:14:13: ports[1].device: expected each one once, found \"net_null0\", that of ports[0]",
    );
    refused(
        "[198.51.100.1/24]",
        "[198.51.100.1/24, 192.0.2.1/24]",
        "upf.yaml:15:34: ports[1].addresses[1]: expected an address no port has, found 192.0.2.1, that of ports[0].addresses[0]",
    );
}

#[test]
fn a_port_names_an_instance_that_exists() {
    refused(
        "network_instance: internet",
        "network_instance: internt",
        "upf.yaml:16:23: ports[1].network_instance: expected the name of one of network_instances: access, internet, \
         found \"internt\" (did you mean internet?)",
    );
}

#[test]
fn a_gtpu_port_has_an_address_and_every_port_an_interface() {
    let message = messages("[192.0.2.1/24]", "[]");
    assert!(
        message.contains("ports[0].addresses: expected at least one address, since gtpu is true"),
        "{message}"
    );
    let message = messages("interfaces: [core]", "interfaces: []");
    assert!(
        message.contains("ports[1].interfaces: expected at least one of"),
        "{message}"
    );
    let message = messages("ports:", "ports: []\nhostess:");
    assert!(message.contains("hostess"), "{message}");
}

#[test]
fn a_next_hop_is_on_link_of_the_right_family_and_not_ourselves() {
    refused(
        "via: 198.51.100.254",
        "via: 203.0.113.1",
        "upf.yaml:23:14: network_instances[1].routes[0].via: expected an address on-link at a port of \"internet\", \
         found 203.0.113.1 (its ports have 198.51.100.1/24)",
    );
    assert!(messages("via: 198.51.100.254", "via: 198.51.100.1").contains("which is our own"));
    assert!(messages("via: 198.51.100.254", "via: 2001:db8::1").contains("of the prefix's family"));
}

#[test]
fn pools_are_networks_apart_from_each_other_and_from_us() {
    assert!(
        messages("10.45.0.0/16", "10.45.0.1/16")
            .contains("without host bits, found 10.45.0.1/16 (did you mean 10.45.0.0/16?)")
    );
    assert!(messages("[10.45.0.0/16]", "[10.45.0.0/16, 10.45.3.0/24]").contains("pools apart from each other"));
    assert!(messages("10.45.0.0/16", "198.51.100.0/24").contains("198.51.100.1 in it"));
    assert!(messages("10.45.0.0/16", "\"2001:db8::/80\"").contains("each user gets a /64 of it"));
}

#[test]
fn hardware_addresses_are_six_octets_of_one_station() {
    for mac in [
        "02:00:00:00:00",
        "02:00:00:00:00:0g",
        "2:0:0:0:0:1",
        "01:00:5e:00:00:01",
        "00:00:00:00:00:00",
        "020000000001",
    ] {
        assert!(
            messages("mtu: 1500", &format!("mac: \"{mac}\"")).contains("a unicast hardware address"),
            "{mac}"
        );
    }
    parse(&SOUND.replace("mtu: 1500", "mac: 02:00:00:00:00:01"), "upf.yaml").unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn packet_buffers_hold_the_largest_frame_and_the_pool_more_than_is_buffered() {
    assert!(messages("mtu: 1500", "mtu: 9000").contains("host.packet_room: expected at least 9022 bytes, found 2048"));
    assert!(
        messages("lcores: [0, 1]", "mempool_packets: 16384")
            .contains("host.buffering.packets_total: expected less than")
    );
}

#[test]
fn names_can_be_parts_of_file_names() {
    for name in ["../upf", "a/b", ".hidden", "\"\"", "a b"] {
        let text = format!("name: {name}\n{SOUND}");
        assert_eq!(
            parse(&text, "upf.yaml").unwrap_err().problems()[0].field,
            "name",
            "{name}"
        );
    }
}

#[test]
fn listening_everywhere_needs_a_node_id() {
    assert!(messages("127.0.0.8:8805", "0.0.0.0:8805").contains("node_id"));
    parse(
        &SOUND.replace("127.0.0.8:8805", "0.0.0.0:8805\n  node_id: upf.example.org"),
        "upf.yaml",
    )
    .unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = load("/nowhere/upf.yaml").unwrap_err();
    assert!(matches!(&error, ConfigError::Read { .. }));
    assert!(error.to_string().contains("/nowhere/upf.yaml"));
}

#[test]
fn endless_nesting_and_alias_bombs_are_refused_quickly() {
    assert!(parse(&"[".repeat(100_000), "deep").is_err());
    assert!(parse(&"a: ".repeat(100_000), "deep").is_err());
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let alias = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", [alias.as_str(); 9].join(", "));
    }
    assert!(parse(&bomb, "bomb").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,400}") {
        let _ = parse(&text, "text").map_err(|e| e.to_string());
    }

    #[test]
    fn a_configuration_with_a_piece_replaced_never_panics(
        at in 0..SOUND.len(), cut in 0..30usize, piece in "[-a-z0-9:{}\\[\\]&*!|>'\"%#, \\n./~]{0,12}",
    ) {
        let text = format!("{}{piece}{}", &SOUND[..at], &SOUND[(at + cut).min(SOUND.len())..]);
        match parse(&text, "text") {
            Ok(config) => { config.topology(); }
            Err(e) => prop_assert!(!e.to_string().is_empty() && !e.problems().is_empty()),
        }
    }
}

#[test]
fn queues_must_have_a_share_and_fit_the_packet_pool() {
    let egress = |fields: &str| format!("    egress: {{ {fields} }}\n    mtu: 1500");
    refused(
        "    mtu: 1500",
        &egress("weights: [1, 0]"),
        "upf.yaml:8:28: ports[0].egress.weights[1]: expected 1 to 255, found 0 (a queue without a share would never be \
         served)",
    );
    refused(
        "    mtu: 1500",
        &egress("rate_mbps: 0"),
        "upf.yaml:8:26: ports[0].egress.rate_mbps: expected 1 to 400000, found 0",
    );
    let found = messages("    mtu: 1500", &egress("queue_packets: 1024"));
    let expected = "host.mempool_packets: expected more than 33792 packet buffers, found 32768 (17408 may wait in the \
                    ports' queues, eight at each lcore, and 16384 in host.buffering)";
    assert!(found.ends_with(expected), "{found}");
}

#[test]
fn ports_of_a_p4_target_have_its_queues() {
    let with_p4 = SOUND.replace("net_null0", "'p4:1'\n    mac: '02:00:00:00:00:01'\n    egress: {}");
    let with_p4 = with_p4.replace("net_null1", "'p4:2'\n    mac: '02:00:00:00:00:02'");
    let with_p4 = with_p4 + "p4: { target: '127.0.0.1:9559', host_port: 3, host_device: net_null0 }\n";
    let found = parse(&with_p4, "upf.yaml")
        .expect_err("it should be refused")
        .to_string();
    assert_eq!(
        found,
        "upf.yaml:9:13: ports[0].egress: expected none with a P4 target, found queues (its ports have queues of their \
         own, in which upf-host's packets wait too; p4.switch has rates for the embedded one)"
    );
}

#[test]
fn the_api_lets_nobody_in_by_accident_and_sends_no_token_in_clear() {
    let with = |api: &str| {
        let text = format!("{SOUND}api:\n{api}");
        parse(&text, "upf.yaml").map(|_| ()).map_err(|error| error.to_string())
    };
    let expect = |api: &str, part: &str| {
        let error = with(api).expect_err("it should be refused");
        assert!(error.contains(part), "{error}");
    };
    assert_eq!(
        with("  listen: 127.0.0.1:8443\n  clients_file: /etc/upf/api-clients\n"),
        Ok(())
    );
    assert_eq!(with("  listen: '[::1]:8443'\n  loopback_without_token: true\n"), Ok(()));
    expect(
        "  listen: 127.0.0.1:8443\n",
        "api.clients_file: expected a file of tokens or certificates, found none",
    );
    expect(
        "  listen: 0.0.0.0:8443\n  clients_file: /c\n",
        "api.listen: expected a loopback address, or api.tls",
    );
    expect(
        "  listen: 192.0.2.1:8443\n  loopback_without_token: true\n",
        "api.loopback_without_token: expected false",
    );
    expect(
        "  listen: 127.0.0.1:0\n  clients_file: /c\n",
        "api.listen: expected a port",
    );
    let tls = "  listen: 0.0.0.0:8443\n  clients_file: /c\n  tls: { certificate: /c, key: /k }\n";
    assert_eq!(with(tls), Ok(()));
    expect(
        &format!("{tls}  limits: {{ connections: 0 }}\n"),
        "api.limits.connections: expected 1 to 65536, found 0",
    );
}
