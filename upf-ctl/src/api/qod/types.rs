//! What CAMARA Quality-On-Demand 1.1 says on the wire, and what it must fulfil.
//!
//! Numbers are read wider than they may be, so that 70000 for a port is `OUT_OF_RANGE` and not unreadable. A field that
//! CAMARA does not know is refused: a misspelt `devicePorts` would widen the flow.

use super::super::facts::parse_rfc3339;
use super::super::refusal::Refusal;
use axum::http::{StatusCode, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How a device may be named; one at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// E.164 with `+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<String>,
    /// CAMARA does not allow its use yet: alone it is refused with `UNSUPPORTED_IDENTIFIER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_access_identifier: Option<String>,
    /// Its IPv4 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<DeviceIpv4Addr>,
    /// An address of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
}

/// IPv4 addresses of a device: the public one, and the private one or the public port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceIpv4Addr {
    /// As servers see it.
    pub public_address: Ipv4Addr,
    /// As the network has given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_address: Option<Ipv4Addr>,
    /// As servers see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_port: Option<i64>,
}

/// The other end of the flow: an address or a prefix of one family or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationServer {
    /// `A.B.C.D` or `A.B.C.D/LENGTH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// Address or prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
}

/// TCP or UDP ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortsSpec {
    /// Ranges of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Vec<PortsRange>>,
    /// Single ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<i64>>,
}

/// Ports from one to another, both included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortsRange {
    /// First.
    pub from: i64,
    /// Last.
    pub to: i64,
}

/// What opens the sink to us. `credentialType` must be `ACCESSTOKEN`, `accessTokenType` `bearer`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SinkCredential {
    pub credential_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_expires_utc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_type: Option<String>,
    #[serde(default, skip_serializing)]
    pub identifier: Option<String>,
    #[serde(default, skip_serializing)]
    pub secret: Option<String>,
    #[serde(default, skip_serializing)]
    pub refresh_token: Option<String>,
    #[serde(default, skip_serializing)]
    pub refresh_token_endpoint: Option<String>,
}

/// Without the secrets.
impl fmt::Debug for SinkCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkCredential({})", self.credential_type)
    }
}

/// `POST /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateSession {
    /// Whose flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// To whom.
    pub application_server: ApplicationServer,
    /// The device's ports; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ports: Option<PortsSpec>,
    /// The server's ports; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_server_ports: Option<PortsSpec>,
    /// One of those that `/qos-profiles/v1` names.
    pub qos_profile: String,
    /// Where notifications go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// What opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_credential: Option<SinkCredential>,
    /// Seconds, from 1.
    pub duration: i64,
}

/// `POST /sessions/{sessionId}/extend`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtendSessionDuration {
    /// Seconds, from 1.
    pub requested_additional_duration: i64,
}

/// `POST /retrieve-sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrieveSessionsInput {
    /// Whose.
    #[serde(default)]
    pub device: Option<Device>,
}

/// Whether the network does what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum QosStatus {
    /// Not yet.
    Requested,
    /// Yes.
    Available,
    /// No, or no longer.
    Unavailable,
}

/// Why it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StatusInfo {
    /// The time is over.
    DurationExpired,
    /// The network has ended it.
    NetworkTerminated,
    /// The client has.
    DeleteRequested,
}

/// A session as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// Its identifier, a UUID.
    pub session_id: String,
    /// The one identifier that is used, of those given.
    pub device: Device,
    /// As asked.
    pub application_server: ApplicationServer,
    /// As asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ports: Option<PortsSpec>,
    /// As asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_server_ports: Option<PortsSpec>,
    /// As asked.
    pub qos_profile: String,
    /// As asked. Its credential is never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Seconds: granted, or effective once it has ended.
    pub duration: u64,
    /// When it became available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ends, or has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Whether the network does it.
    pub qos_status: QosStatus,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_info: Option<StatusInfo>,
}

/// `POST /retrieve-qos-profiles`: what profiles must fulfil; nothing: all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QosProfileQuery {
    /// Every profile is offered to every device.
    pub device: Option<Device>,
    /// This one.
    pub name: Option<String>,
    /// Those of this status.
    pub status: Option<ProfileStatus>,
}

/// Whether sessions may use a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum ProfileStatus {
    Active,
    Inactive,
    Deprecated,
}

/// A time with its unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Duration {
    /// How many.
    pub value: u64,
    /// `Seconds`.
    pub unit: String,
}

/// A rate with its unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// How many, 0 to 1024.
    pub value: u64,
    /// `kbps`, `Mbps`, `Gbps` or `Tbps`.
    pub unit: String,
}

/// A profile as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QosProfile {
    /// Sessions ask for it by this.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether sessions may use it.
    pub status: ProfileStatus,
    /// At most this from the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_upstream_rate: Option<Rate>,
    /// At most this to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_downstream_rate: Option<Rate>,
    /// 1 to 100, the least first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u64>,
    /// The shortest session.
    pub min_duration: Duration,
    /// The longest, extensions included.
    pub max_duration: Duration,
}

fn credential(code: &'static str, message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, code, message)
}

impl Device {
    /// That the identifiers are well formed, and there is one.
    ///
    /// # Errors
    /// Which is not.
    pub fn check(&self) -> Result<(), Refusal> {
        if *self == Self::default() {
            return Err(Refusal::invalid("device: expected one identifier at least, found none"));
        }
        let digits = |text: &str| (5..=15).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
        if let Some(number) = &self.phone_number {
            match number.strip_prefix('+') {
                Some(rest) if digits(rest) && !rest.starts_with('0') => {}
                _ => {
                    return Err(Refusal::invalid(
                        "device.phoneNumber: expected + and 5 to 15 digits (E.164)",
                    ));
                }
            }
        }
        if let Some(nai) = &self.network_access_identifier
            && !nai
                .split_once('@')
                .is_some_and(|(user, realm)| !user.is_empty() && !realm.is_empty())
        {
            return Err(Refusal::invalid("device.networkAccessIdentifier: expected USER@REALM"));
        }
        if let Some(ipv4) = &self.ipv4_address {
            if ipv4.private_address.is_none() && ipv4.public_port.is_none() {
                return Err(Refusal::invalid(
                    "device.ipv4Address: expected privateAddress or publicPort too",
                ));
            }
            ipv4.public_port
                .map(|p| port("device.ipv4Address.publicPort", p))
                .transpose()?;
        }
        Ok(())
    }
}

/// A port's number.
///
/// # Errors
/// `OUT_OF_RANGE`.
pub fn port(field: &str, number: i64) -> Result<u16, Refusal> {
    let found = u16::try_from(number);
    found.map_err(|_| Refusal::out_of_range(format!("{field}: expected 0 to 65535, found {number}")))
}

impl CreateSession {
    /// What does not depend on what there is in the network. Flows are checked by making them.
    ///
    /// # Errors
    /// Which field is wrong.
    pub fn check(&self, now_ms: u64) -> Result<(), Refusal> {
        if let Some(device) = &self.device {
            device.check()?;
        }
        profile_name(&self.qos_profile)?;
        seconds("duration", self.duration)?;
        match (&self.sink, &self.sink_credential) {
            (None, Some(_)) => Err(Refusal::invalid("sink: expected with sinkCredential, found none")),
            (_, Some(credential)) => credential.check(now_ms),
            (_, None) => Ok(()),
        }
    }
}

/// A duration as CAMARA has them.
///
/// # Errors
/// `OUT_OF_RANGE`.
pub fn seconds(field: &str, value: i64) -> Result<u64, Refusal> {
    let found = u64::try_from(value).ok().filter(|s| (1..=i32::MAX as u64).contains(s));
    found.ok_or_else(|| Refusal::out_of_range(format!("{field}: expected 1 to 2147483647 seconds, found {value}")))
}

/// `QosProfileName`.
///
/// # Errors
/// What is expected.
pub fn profile_name(name: &str) -> Result<(), Refusal> {
    let letter = |c: u8| c.is_ascii_alphanumeric() || b"_.-".contains(&c);
    match (3..=256).contains(&name.len()) && name.bytes().all(letter) {
        true => Ok(()),
        false => Err(Refusal::invalid(
            "qosProfile: expected 3 to 256 letters, digits, '_', '.' or '-'",
        )),
    }
}

impl SinkCredential {
    fn check(&self, now_ms: u64) -> Result<(), Refusal> {
        if self.credential_type != "ACCESSTOKEN" {
            return Err(credential("INVALID_CREDENTIAL", "Only Access token is supported"));
        }
        let (Some(token), Some(expires), Some(kind)) = (
            &self.access_token,
            &self.access_token_expires_utc,
            &self.access_token_type,
        ) else {
            let missing = "sinkCredential: expected accessToken, accessTokenExpiresUtc and accessTokenType";
            return Err(Refusal::invalid(missing));
        };
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(credential("INVALID_TOKEN", "Only bearer token is supported"));
        }
        if token.is_empty() || token.len() > 8_192 || !token.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(credential(
                "INVALID_TOKEN",
                "accessToken: expected 1 to 8192 printable characters",
            ));
        }
        match parse_rfc3339(expires) {
            Some(at) if at > now_ms => Ok(()),
            Some(_) => Err(credential(
                "INVALID_TOKEN",
                "accessTokenExpiresUtc: expected a time to come, found the past",
            )),
            None => Err(Refusal::invalid(
                "sinkCredential.accessTokenExpiresUtc: expected RFC 3339 with its time zone",
            )),
        }
    }
}

/// Where a sink is: whether by TLS, its host, port, path.
///
/// # Errors
/// `INVALID_SINK`.
pub fn sink(text: &str, plain_http: bool) -> Result<(bool, String, u16, Uri), Refusal> {
    let invalid = |message: &str| Refusal::new(StatusCode::BAD_REQUEST, "INVALID_SINK", message);
    let uri: Uri = text.parse().map_err(|_| invalid("sink: expected a URL"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if plain_http => false,
        _ => return Err(invalid("sink: expected https://...")),
    };
    let authority = uri
        .authority()
        .filter(|a| text.len() <= 2_048 && !a.as_str().contains('@'));
    let Some(authority) = authority else {
        return Err(invalid("sink: expected a host, no user, and 2048 octets at most"));
    };
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok((tls, host, port, uri))
}
