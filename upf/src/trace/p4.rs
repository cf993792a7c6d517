//! The packet's way through the P4 target, on an embedded switch with the target's own program and entries.
//!
//! A target may hold millions of entries, of which one packet meets ten. So tables that match by prefix, and the action
//! profiles, are copied whole, for they are small; from every other table an entry is copied when the packet asks for
//! it: the switch says which key it looked up and did not find, that one is read from the target, and the packet runs
//! again, until it finds everything that the target has for it.

use super::frame::Frame;
use p4_switch::control::ProgramInfo;
use p4_switch::trace::Step;
use p4_switch::{Switch, SwitchConfig, p4rt_server};
use p4runtime::client::{Atomicity, Options, PipelineAction};
use p4runtime::p4info::{MatchKind, Table};
use p4runtime::v1::p4_runtime_client::P4RuntimeClient;
use p4runtime::v1::{self, get_forwarding_pipeline_config_request::ResponseType};
use p4runtime::{Client, ClientError, P4Info, P4InfoError, TableEntry, Value, WriteError};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use upf_config::{Config, P4};
use upf_model::{PuntHeader, PuntReason};

/// How long the target may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer: a whole program.
const MAX_MESSAGE: usize = 256 << 20;
/// Runs of the packet: more than it can meet tables.
const MOST_RUNS: usize = 64;

/// Why the target's part of a trace cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Nobody there.
    #[error("cannot reach the P4 target at {address}: {error}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: tonic::transport::Error,
    },
    /// It answered with a failure.
    #[error("the P4 target answered {}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
    /// It has no program yet.
    #[error("the P4 target has no program: is upf-ctl running?")]
    NoProgram,
    /// Its P4Info.
    #[error("the P4 target's P4Info: {0}")]
    P4Info(#[from] P4InfoError),
    /// The embedded switch does not take the target's program or entries.
    #[error("the embedded switch: {0}")]
    Embedded(String),
    /// The switch's server cannot listen.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<tonic::Status> for TargetError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<ClientError> for TargetError {
    fn from(error: ClientError) -> Self {
        Self::Embedded(error.to_string())
    }
}

impl From<WriteError> for TargetError {
    fn from(error: WriteError) -> Self {
        Self::Embedded(error.to_string())
    }
}

/// The packet's way through the target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetTrace {
    /// The target's P4Runtime server.
    pub address: SocketAddr,
    /// The tables it meets, in order.
    pub tables: Vec<TableView>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// The slot of its session, if the target knows it.
    pub session: Option<u32>,
}

/// A table that the packet meets.
#[derive(Debug, Clone, Serialize)]
pub struct TableView {
    /// The table.
    pub table: String,
    /// What was looked up, by name.
    pub key: Vec<(String, String)>,
    /// An entry matched; otherwise what follows is the default.
    pub hit: bool,
    /// The action; none: nothing is done.
    pub action: Option<String>,
    /// Its parameters, by name.
    pub parameters: Vec<(String, String)>,
}

/// What becomes of the packet at the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It leaves, finished.
    Forwarded {
        /// The target's port.
        egress_port: u32,
        /// The port's name in the configuration.
        port: Option<String>,
        /// The frame, hexadecimal.
        frame: String,
    },
    /// The host finishes it.
    Punted {
        /// Why.
        reason: &'static str,
        /// The slot of its session and the epoch under which it was looked up.
        session: Option<(u32, u32)>,
    },
    /// Nobody does.
    Dropped {
        /// Why, if it is a reason of the program's.
        reason: Option<&'static str>,
    },
}

/// Trace a frame.
///
/// # Errors
/// See [`TargetError`].
pub fn trace(p4: &P4, config: &Config, frame: &Frame) -> Result<TargetTrace, TargetError> {
    // On a thread of its own: whoever asks may be inside a runtime.
    let tracing = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(trace_at(p4, config, frame))
    };
    std::thread::scope(|scope| scope.spawn(tracing).join())
        .unwrap_or_else(|_| Err(TargetError::Embedded("the tracing thread panicked".into())))
}

async fn trace_at(p4: &P4, config: &Config, frame: &Frame) -> Result<TargetTrace, TargetError> {
    let mut target = Target::connect(p4).await?;
    let (info, program) = target.program().await?;
    let embedded = Embedded::start(&info, program).await?;
    let indirect = [
        v1::ActionProfileMember::default().into(),
        v1::ActionProfileGroup::default().into(),
    ];
    let mut copies = target.read(indirect.into()).await?;
    for table in info.tables.iter().filter(|table| !is_exact(table)) {
        copies.extend(target.read(vec![every_entry(table).into()]).await?);
    }
    embedded.insert(copies).await?;

    let port = u32::from(config.ports[frame.port].p4_port().unwrap_or_default());
    let mut asked = BTreeSet::new();
    for _ in 0..MOST_RUNS {
        let (outputs, steps) = embedded.switch.trace(port, &frame.bytes);
        let missed = steps.steps.iter().filter_map(|step| missed_key(&info, step));
        let missed: Vec<_> = missed.filter(|(name, _)| asked.insert(name.clone())).collect();
        let mut found = Vec::new();
        for (_, entry) in missed {
            found.extend(target.read(vec![entry.into()]).await?);
        }
        if found.is_empty() {
            let tables: Vec<_> = steps
                .steps
                .iter()
                .filter_map(|step| view(&embedded.info, step))
                .collect();
            return Ok(TargetTrace {
                address: p4.target,
                session: session_of(&tables),
                outcome: outcome(p4, config, &outputs, &steps.steps),
                tables,
            });
        }
        embedded.insert(found).await?;
    }
    Err(TargetError::Embedded(
        "the packet meets more tables than the program can have".into(),
    ))
}

/// The target, to be read: no stream is opened, so that nobody's being primary is touched.
struct Target {
    api: P4RuntimeClient<Channel>,
    device_id: u64,
}

impl Target {
    async fn connect(p4: &P4) -> Result<Self, TargetError> {
        let unreachable = |error| TargetError::Unreachable {
            address: p4.target,
            error,
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", p4.target)).map_err(unreachable)?;
        let channel = endpoint
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .connect()
            .await
            .map_err(unreachable)?;
        Ok(Self {
            api: P4RuntimeClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            device_id: p4.device_id,
        })
    }

    /// Its program, with P4Info.
    async fn program(&mut self) -> Result<(P4Info, Vec<u8>), TargetError> {
        let request = v1::GetForwardingPipelineConfigRequest {
            device_id: self.device_id,
            response_type: ResponseType::All as i32,
        };
        let answer = self.api.get_forwarding_pipeline_config(request).await;
        let config = match answer {
            Ok(answer) => answer.into_inner().config.ok_or(TargetError::NoProgram)?,
            Err(status) if status.code() == tonic::Code::FailedPrecondition => return Err(TargetError::NoProgram),
            Err(status) => return Err(status.into()),
        };
        let info = P4Info::new(config.p4info.ok_or(TargetError::NoProgram)?)?;
        Ok((info, config.p4_device_config))
    }

    async fn read(&mut self, entities: Vec<v1::Entity>) -> Result<Vec<v1::Entity>, TargetError> {
        let request = v1::ReadRequest {
            device_id: self.device_id,
            entities,
            ..Default::default()
        };
        let mut stream = self.api.read(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(mut part) = stream.message().await? {
            all.append(&mut part.entities);
        }
        Ok(all)
    }
}

/// The switch of this process, controlled as any other: through its P4Runtime server.
struct Embedded {
    switch: Arc<Switch>,
    client: Client,
    info: Arc<ProgramInfo>,
}

impl Embedded {
    async fn start(info: &P4Info, program: Vec<u8>) -> Result<Self, TargetError> {
        let device_id = 0;
        let switch = Arc::new(Switch::new(SwitchConfig {
            priority_queues: 8,
            ..SwitchConfig::default()
        }));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(p4rt_server::serve(switch.clone(), Some(device_id), listener));
        let options = Options {
            device_id,
            ..Options::default()
        };
        let (client, _events) = Client::connect(&address.to_string(), options)?;
        client.primary(PATIENCE).await?;
        client
            .set_pipeline(info, program, None, PipelineAction::VerifyAndCommit)
            .await?;
        let info = switch
            .info()
            .ok_or_else(|| TargetError::Embedded("it has no program".into()))?;
        Ok(Self { switch, client, info })
    }

    /// Entities of the target, without what they have counted and without their meters.
    async fn insert(&self, entities: Vec<v1::Entity>) -> Result<(), TargetError> {
        let insert = |mut entity: v1::Entity| {
            if let Some(v1::entity::Entity::TableEntry(entry)) = &mut entity.entity {
                entry.counter_data = None;
                entry.meter_counter_data = None;
                entry.meter_config = None;
                entry.time_since_last_hit = None;
                entry.idle_timeout_ns = 0;
            }
            v1::Update {
                r#type: v1::update::Type::Insert as i32,
                entity: Some(entity),
            }
        };
        let updates = entities.into_iter().filter(|e| !is_const(e)).map(insert).collect();
        Ok(self.client.write(updates, Atomicity::ContinueOnError).await?)
    }
}

/// The program brings its own entries.
fn is_const(entity: &v1::Entity) -> bool {
    matches!(&entity.entity, Some(v1::entity::Entity::TableEntry(entry)) if entry.is_const)
}

fn is_exact(table: &Table) -> bool {
    let selects = table.implementation.is_some();
    !selects && table.match_fields.iter().all(|field| field.kind == MatchKind::Exact)
}

fn every_entry(table: &Table) -> v1::TableEntry {
    v1::TableEntry {
        table_id: table.preamble.id,
        ..Default::default()
    }
}

/// What was looked up in an exact table and not found: a name for it, and the entry to ask for.
fn missed_key(info: &P4Info, step: &Step) -> Option<(String, v1::TableEntry)> {
    let Step::Table {
        name, key, hit: None, ..
    } = step
    else {
        return None;
    };
    let table = info.table(name).ok().filter(|table| is_exact(table))?;
    let entry = TableEntry::new(info, table.preamble.id);
    let entry = key.iter().fold(entry, |entry, (field, value)| {
        entry.match_exact(field.as_str(), Value::from_be_bytes(value))
    });
    Some((format!("{name} {key:?}"), entry.key().ok()?))
}

fn view(info: &ProgramInfo, step: &Step) -> Option<TableView> {
    let Step::Table {
        table,
        name,
        key,
        hit,
        action,
        action_name,
        arguments,
    } = step
    else {
        return None;
    };
    let fields = &info.tables[table.index()].key;
    if fields.is_empty() {
        return None; // not of the program's author, but of its compiler
    }
    let shown = |(name, value): (&String, &Vec<u8>), bits: usize| (name.clone(), in_words(name, bits, value));
    let key = key
        .iter()
        .zip(fields)
        .map(|((name, value), field)| shown((name, value), field.bitwidth));
    let parameters = action.map_or(&[][..], |action| &info.actions[action.index()].parameters);
    let parameters = parameters
        .iter()
        .zip(arguments)
        .map(|(p, value)| shown((&p.name, value), p.bitwidth));
    Some(TableView {
        table: last_part(name).to_owned(),
        key: key.collect(),
        hit: hit.is_some(),
        action: action.map(|_| last_part(action_name).to_owned()),
        parameters: parameters.collect(),
    })
}

/// Of a fully qualified name.
fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The slot that a session table gave.
fn session_of(tables: &[TableView]) -> Option<u32> {
    let of_session = tables
        .iter()
        .filter(|table| table.table.contains("_sessions") && table.hit);
    let mut parameters = of_session.flat_map(|table| &table.parameters);
    parameters.find(|(name, _)| name == "session")?.1.parse().ok()
}

fn outcome(p4: &P4, config: &Config, outputs: &[p4_switch::Output], steps: &[Step]) -> Outcome {
    let Some(output) = outputs.first() else {
        return Outcome::Dropped {
            reason: reason_of(steps).map(PuntReason::name),
        };
    };
    if output.port == u32::from(p4.host_port)
        && let Ok(punt) = PuntHeader::read(&output.bytes)
    {
        return Outcome::Punted {
            reason: punt.reason.name(),
            session: punt.session.map(|(session, epoch)| (session.0, epoch.0)),
        };
    }
    let port = config
        .ports
        .iter()
        .find(|port| port.p4_port().map(u32::from) == Some(output.port));
    Outcome::Forwarded {
        egress_port: output.port,
        port: port.map(|port| port.name.clone()),
        frame: output.bytes.iter().map(|octet| format!("{octet:02x}")).collect(),
    }
}

/// The reason that was looked up in `reasons`.
fn reason_of(steps: &[Step]) -> Option<PuntReason> {
    steps.iter().rev().find_map(|step| match step {
        Step::Table { name, key, .. } if last_part(name) == "reasons" => {
            PuntReason::from_value(*key.first()?.1.last()?)
        }
        _ => None,
    })
}

/// A value as people write it.
fn in_words(name: &str, bits: usize, value: &[u8]) -> String {
    let number = value
        .iter()
        .fold(0_u128, |number, octet| number << 8 | u128::from(*octet));
    let is_address = ["address", "src", "dst", "source", "destination", "remote", "ue"];
    let is_address = is_address.iter().any(|word| name.split('_').any(|part| part == *word));
    match (name, bits) {
        ("reason", _) => match PuntReason::from_value(number as u8) {
            Some(reason) => reason.name().to_owned(),
            None => number.to_string(),
        },
        ("teid", _) => format!("{number:#x}"),
        (_, 48) => {
            let octets = (number as u64).to_be_bytes();
            octets[2..]
                .iter()
                .map(|o| format!("{o:02x}"))
                .collect::<Vec<_>>()
                .join(":")
        }
        (_, 32) if is_address => Ipv4Addr::from_bits(number as u32).to_string(),
        // IPv4 addresses are the low 32 bits.
        (_, 128) if number != 0 && number <= u128::from(u32::MAX) => Ipv4Addr::from_bits(number as u32).to_string(),
        (_, 128) => Ipv6Addr::from_bits(number).to_string(),
        (_, 64) if is_address => format!("{}/64", Ipv6Addr::from_bits(number << 64)),
        ("mark_qfi" | "qfi", 8) if number & 0x80 != 0 => (number & 0x3f).to_string(),
        (_, 8) if name.contains("mask") || name == "mark_value" => format!("{number:#04x}"),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_people_write_them() {
        for (name, bits, value, expected) in [
            ("reason", 8, &[14][..], "flow_miss"),
            ("teid", 32, &[0x12, 0x34], "0x1234"),
            ("dst_mac", 48, &[2, 0, 0, 0, 3, 1], "02:00:00:00:03:01"),
            ("ue_address", 32, &[10, 60, 0, 1], "10.60.0.1"),
            ("remote", 128, &[10, 6, 0, 2], "10.6.0.2"),
            ("ue_prefix", 64, &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7], "2001:db8:0:7::/64"),
            ("mark_qfi", 8, &[0x89], "9"),
            ("session", 32, &[0], "0"),
        ] {
            assert_eq!(in_words(name, bits, value), expected, "{name}");
        }
    }
}
