//! From CAMARA's device, server and ports to the subjects of facts.

use super::super::refusal::Refusal;
use super::types::{ApplicationServer, CreateSession, Device, PortsSpec, port};
use qos::context::Flow;
use qos::{Subject, User};
use std::net::IpAddr;
use upf_model::{IpFilterRule, IpPrefix};

/// Ports and ranges in one request.
const PORTS_MAX: usize = 64;

/// The user that a device is, and the one identifier that was used for it.
///
/// The UPF translates no addresses: the network's own is the private one, or the public one if that is all there is.
/// Identifiers are tried in the order IPv4, IPv6, phone number.
///
/// # Errors
/// `UNSUPPORTED_IDENTIFIER`, or it is not well formed.
pub fn user(device: &Device) -> Result<(User, Device), Refusal> {
    device.check()?;
    if let Some(ipv4) = &device.ipv4_address {
        let used = Device {
            ipv4_address: Some(ipv4.clone()),
            ..Device::default()
        };
        let address = ipv4.private_address.unwrap_or(ipv4.public_address);
        return Ok((User::Address(address.into()), used));
    }
    if let Some(ipv6) = device.ipv6_address {
        let used = Device {
            ipv6_address: Some(ipv6),
            ..Device::default()
        };
        return Ok((User::Address(ipv6.into()), used));
    }
    if let Some(number) = &device.phone_number {
        let used = Device {
            phone_number: Some(number.clone()),
            ..Device::default()
        };
        return Ok((
            User::Subscriber(format!("msisdn-{}", number.trim_start_matches('+'))),
            used,
        ));
    }
    let message = "device: expected ipv4Address, ipv6Address or phoneNumber; no other identifier is supported";
    Err(Refusal::unprocessable("UNSUPPORTED_IDENTIFIER", message))
}

/// The flows of a session, one for each family of the server.
///
/// # Errors
/// Which field is wrong.
pub fn subjects(request: &CreateSession, user: &User) -> Result<Vec<Subject>, Refusal> {
    let server_ports = ports("applicationServerPorts", request.application_server_ports.as_ref())?;
    let device_ports = ports("devicePorts", request.device_ports.as_ref())?;
    let servers = servers(&request.application_server)?;
    let rules = servers.into_iter().map(|server| {
        let text = format!("permit out ip from {server}{server_ports} to assigned{device_ports}");
        let rule: Result<IpFilterRule, _> = text.parse();
        let rule = rule.map_err(|error| Refusal::invalid(format!("applicationServer, ports: {error}")))?;
        Ok(Subject::Flow(user.clone(), Flow::new(&rule)))
    });
    rules.collect()
}

fn servers(server: &ApplicationServer) -> Result<Vec<String>, Refusal> {
    let read = |field: &str, text: &str, ipv4: bool| {
        let prefix = match text.parse::<IpAddr>() {
            Ok(address) => Some((address, text.to_owned())),
            Err(_) => text
                .parse::<IpPrefix>()
                .ok()
                .map(|prefix| (prefix.addr(), prefix.to_string())),
        };
        match prefix.filter(|(address, _)| address.is_ipv4() == ipv4) {
            Some((_, text)) => Ok(text),
            None => {
                let family = if ipv4 { "IPv4" } else { "IPv6" };
                Err(Refusal::invalid(format!(
                    "applicationServer.{field}: expected an {family} address or prefix"
                )))
            }
        }
    };
    let ipv4 = server
        .ipv4_address
        .as_deref()
        .map(|text| read("ipv4Address", text, true));
    let ipv6 = server
        .ipv6_address
        .as_deref()
        .map(|text| read("ipv6Address", text, false));
    let found: Vec<String> = ipv4.into_iter().chain(ipv6).collect::<Result<_, _>>()?;
    match found.is_empty() {
        true => Err(Refusal::invalid(
            "applicationServer: expected ipv4Address or ipv6Address, found neither",
        )),
        false => Ok(found),
    }
}

/// ` 80,5010-5020`, or nothing for all.
fn ports(field: &str, spec: Option<&PortsSpec>) -> Result<String, Refusal> {
    let Some(spec) = spec else {
        return Ok(String::new());
    };
    let ranges = spec.ranges.as_deref();
    let single = spec.ports.as_deref();
    let empty = ranges.is_some_and(<[_]>::is_empty) || single.is_some_and(<[_]>::is_empty);
    if empty || (ranges.is_none() && single.is_none()) {
        return Err(Refusal::invalid(format!(
            "{field}: expected one port or range at least"
        )));
    }
    let mut words = Vec::new();
    for range in ranges.unwrap_or_default() {
        let (from, to) = (port(field, range.from)?, port(field, range.to)?);
        if from > to {
            return Err(Refusal::invalid(format!(
                "{field}: expected from <= to, found {from} and {to}"
            )));
        }
        words.push(format!("{from}-{to}"));
    }
    for number in single.unwrap_or_default() {
        words.push(port(field, *number)?.to_string());
    }
    if words.len() > PORTS_MAX {
        return Err(Refusal::out_of_range(format!(
            "{field}: expected {PORTS_MAX} ports and ranges at most"
        )));
    }
    Ok(format!(" {}", words.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flows(request: serde_json::Value) -> Result<Vec<String>, Refusal> {
        let request: CreateSession = serde_json::from_value(request).unwrap();
        let (user, _) = user(request.device.as_ref().unwrap())?;
        let subjects = subjects(&request, &user)?;
        Ok(subjects
            .iter()
            .map(|s| format!("{:?}", super::super::super::facts::subject_text(s)))
            .collect())
    }

    #[test]
    fn both_families_of_a_server_are_two_flows_and_ports_go_to_their_ends() {
        let request = json!({
            "device": {"ipv4Address": {"publicAddress": "203.0.113.1", "privateAddress": "10.45.0.7"}},
            "applicationServer": {"ipv4Address": "198.51.100.7/24", "ipv6Address": "2001:db8::1"},
            "applicationServerPorts": {"ranges": [{"from": 5010, "to": 5020}], "ports": [80]},
            "devicePorts": {"ports": [9]},
            "qosProfile": "QOS_E", "duration": 60,
        });
        let expected = [
            r#"("address/10.45.0.7", Some("permit out ip from 198.51.100.0/24 80,5010-5020 to assigned 9"))"#,
            r#"("address/10.45.0.7", Some("permit out ip from 2001:db8::1 80,5010-5020 to assigned 9"))"#,
        ];
        assert_eq!(flows(request).unwrap(), expected);
    }

    #[test]
    fn a_port_beyond_65535_is_out_of_range_and_a_backward_range_is_invalid() {
        let with = |ports: serde_json::Value| {
            let request = json!({
                "device": {"phoneNumber": "+491701234567"}, "applicationServer": {"ipv4Address": "198.51.100.7"},
                "applicationServerPorts": ports, "qosProfile": "QOS_E", "duration": 60,
            });
            flows(request).map_err(|refusal| refusal.code)
        };
        assert_eq!(with(json!({"ports": [70_000]})), Err("OUT_OF_RANGE"));
        assert_eq!(with(json!({"ports": [-1]})), Err("OUT_OF_RANGE"));
        assert_eq!(with(json!({"ranges": [{"from": 9, "to": 8}]})), Err("INVALID_ARGUMENT"));
        assert_eq!(with(json!({"ports": []})), Err("INVALID_ARGUMENT"));
        assert_eq!(with(json!({})), Err("INVALID_ARGUMENT"));
        assert!(with(json!({"ports": [1]})).unwrap()[0].contains("subscriber/msisdn-491701234567"));
    }
}
