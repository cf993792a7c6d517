//! A P4Runtime server as a target: BMv2, `p4-switch`, or a SmartNIC behind such a server.
//!
//! The program counts as running if the server has the cookie that was given to it with the program: a digest of program
//! and P4Info. A server that has another one, or none, is given the program, and starts from nothing.
//!
//! Entries that this controller would not write (another program's leftovers, say) are deleted when a table is read.

pub mod codec;

use super::target::{Left, Passed, Ready, Target, TargetError, TargetEvent, WriteFailure};
use crate::placement::{Action, Entry, Key, Table, TargetSizes, Write};
use codec::Codec;
use p4runtime::client::{Atomicity, Event, PipelineAction};
use p4runtime::error::{EntryError, P4InfoError, WriteError};
use p4runtime::v1::entity::Entity as Kind;
use p4runtime::v1::get_forwarding_pipeline_config_request::ResponseType;
use p4runtime::{Client, ClientError, Events, Options, P4Info, State, entity, v1};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Code;
use upf_config::P4;
use upf_model::batch::Count;
use upf_model::punt::PuntReason;

/// `p4/upf.p4` for BMv2 and `p4-switch`, as it was when this was built.
const DEFAULT_PROGRAM: &[u8] = include_bytes!("../../../../p4/compiled/upf.json");
const DEFAULT_P4INFO: &[u8] = include_bytes!("../../../../p4/compiled/upf.p4info.bin");
/// Entities in one Read.
const READ_BATCH: usize = 2_048;

/// Why there can be no such target.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A file of `p4.program` cannot be read.
    #[error("p4.program: {path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The P4Info is none, or not of a program like `p4/upf.p4`.
    #[error("p4.program.p4info: {0}")]
    P4Info(#[from] P4InfoError),
    /// The address is none.
    #[error("p4.target: {0}")]
    Client(#[from] ClientError),
}

/// A P4Runtime server.
#[derive(Debug)]
pub struct RuntimeTarget {
    client: Client,
    events: Events,
    state: watch::Receiver<State>,
    connection: u64,
    program: Vec<u8>,
    cookie: u64,
    codec: Codec,
}

impl From<ClientError> for TargetError {
    fn from(error: ClientError) -> Self {
        match error.code() {
            Some(Code::Unavailable | Code::Cancelled | Code::PermissionDenied) | None => Self::Lost(error.to_string()),
            Some(_) => Self::Refused(error.to_string()),
        }
    }
}

impl From<EntryError> for TargetError {
    fn from(error: EntryError) -> Self {
        Self::Program(error.to_string())
    }
}

impl RuntimeTarget {
    /// A client of the configured server. The connection is made in the background; needs a tokio runtime.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn new(config: &P4) -> Result<Self, RuntimeError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| RuntimeError::File {
                path: path.clone(),
                error,
            })
        };
        let (program, info) = match &config.program {
            Some(files) => (read(&files.device_config)?, read(&files.p4info)?),
            None => (DEFAULT_PROGRAM.to_vec(), DEFAULT_P4INFO.to_vec()),
        };
        let cookie = digest(&[&program, &info]);
        let info = P4Info::from_binary(&info)?;
        for table in Table::ALL {
            info.table(table.name())?;
        }
        let idle = info.table(Table::Flows.name())?.idle_timeout;
        let idle = idle.then(|| Duration::from_secs(config.placement.flow_idle_s.into()));
        let options = Options {
            device_id: config.device_id,
            election_id: config.election_id.into(),
            ..Options::default()
        };
        let (client, events) = Client::connect(&config.target.to_string(), options)?;
        let state = client.state();
        Ok(Self {
            client,
            events,
            state,
            connection: 0,
            program,
            cookie,
            codec: Codec {
                info,
                idle,
                reason_rates: HashMap::new(),
            },
        })
    }

    fn sizes(&self) -> Result<TargetSizes, EntryError> {
        let info = &self.codec.info;
        let mut tables = [0; Table::ALL.len()];
        for table in Table::ALL {
            tables[table as usize] = info.table(table.name())?.size;
        }
        let meters = ["flow_meters", "session_meters"];
        let meters = meters.iter().map(|m| Ok(info.meters.require(*m)?.size));
        Ok(TargetSizes {
            tables,
            cells: info.counters.require("passed")?.size,
            meters: meters
                .collect::<Result<Vec<u64>, P4InfoError>>()?
                .into_iter()
                .min()
                .unwrap_or(0),
            punt_users: info.meters.require("punt_users")?.size,
            idle_timeout: self.codec.idle.is_some(),
        })
    }

    fn update(&mut self, write: &Write) -> Result<v1::Update, EntryError> {
        Ok(match write {
            Write::Insert(entry) => {
                self.remember_rate(entry);
                entity::insert(self.codec.entry(entry)?)
            }
            Write::Modify(entry) => {
                self.remember_rate(entry);
                entity::modify(self.codec.entry(entry)?)
            }
            Write::Delete(key) => entity::delete(self.codec.key(key)?),
            Write::Meter(cell, rates) => entity::modify(self.codec.meter(*cell, rates)?),
        })
    }

    fn remember_rate(&mut self, entry: &Entry) {
        if let (Key::Reason(reason), Action::Punt { per_second, .. }) = (entry.key, &entry.action) {
            self.codec.reason_rates.insert(reason, *per_second);
        }
    }

    /// Counters by cell, in the order asked for.
    async fn counters(&self, counter: &str, cells: &[i64]) -> Result<Vec<Count>, TargetError> {
        let mut counts: HashMap<i64, Count> = HashMap::with_capacity(cells.len());
        for cells in cells.chunks(READ_BATCH) {
            let asked: Result<Vec<v1::Entity>, EntryError> = cells
                .iter()
                .map(|cell| Ok(entity::counter(&self.codec.info, counter, Some(*cell), None)?.into()))
                .collect();
            for found in self.client.read(asked?).await? {
                if let Some(Kind::CounterEntry(entry)) = found.entity
                    && let Some(index) = entry.index
                {
                    counts.insert(index.index, entry.data.as_ref().map(count).unwrap_or_default());
                }
            }
        }
        Ok(cells
            .iter()
            .map(|cell| counts.get(cell).copied().unwrap_or_default())
            .collect())
    }

    /// Entries with these keys, as far as they are there.
    async fn entries(
        &self,
        keys: impl Iterator<Item = &Key>,
        counters: bool,
    ) -> Result<Vec<v1::TableEntry>, TargetError> {
        let asked: Result<Vec<v1::Entity>, EntryError> = keys
            .map(|key| {
                let mut entry = self.codec.key(key)?;
                entry.counter_data = counters.then(v1::CounterData::default);
                Ok(entry.into())
            })
            .collect();
        let mut entries = Vec::new();
        for asked in asked?.chunks(READ_BATCH) {
            let found = self.client.read(asked.to_vec()).await?;
            entries.extend(found.into_iter().filter_map(|found| match found.entity {
                Some(Kind::TableEntry(entry)) => Some(entry),
                _ => None,
            }));
        }
        Ok(entries)
    }
}

const fn count(data: &v1::CounterData) -> Count {
    Count {
        packets: data.packet_count as u64,
        bytes: data.byte_count as u64,
    }
}

/// FNV-1a over all parts.
fn digest(parts: &[&[u8]]) -> u64 {
    let octets = parts.iter().flat_map(|part| part.iter());
    octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Target for RuntimeTarget {
    async fn connected(&mut self) {
        let mut found = None;
        let primary = self.state.wait_for(|state| {
            if let State::Primary { connection } = state {
                found = Some(*connection);
            }
            found.is_some()
        });
        let ended = primary.await.is_err();
        match found {
            Some(connection) => self.connection = connection,
            // The client's task lives as long as the client.
            None if ended => std::future::pending().await,
            None => {}
        }
    }

    async fn prepare(&mut self) -> Result<Ready, TargetError> {
        let sizes = self.sizes()?;
        let running = match self.client.pipeline(ResponseType::CookieOnly).await {
            Ok(config) => config.cookie.map(|c| c.cookie),
            Err(error) if error.code() == Some(Code::FailedPrecondition) => None,
            Err(error) => return Err(error.into()),
        };
        let fresh = running != Some(self.cookie);
        if fresh {
            tracing::info!("the P4 target runs another program or none; it is given ours");
            let (program, action) = (self.program.clone(), PipelineAction::VerifyAndCommit);
            let set = self
                .client
                .set_pipeline(&self.codec.info, program, Some(self.cookie), action);
            set.await?;
        }
        Ok(Ready { fresh, sizes })
    }

    async fn write(&mut self, writes: Vec<Write>) -> Result<Vec<(usize, WriteFailure)>, TargetError> {
        let updates: Result<Vec<v1::Update>, EntryError> = writes.iter().map(|w| self.update(w)).collect();
        match self.client.write(updates?, Atomicity::ContinueOnError).await {
            Ok(()) => Ok(Vec::new()),
            Err(WriteError::Updates { errors, .. }) => {
                let failures = errors.into_iter().map(|error| {
                    let full = error.code == Code::ResourceExhausted;
                    if !full {
                        tracing::warn!(%error, write = ?writes.get(error.index), "the P4 target refused a write");
                    }
                    (
                        error.index,
                        if full {
                            WriteFailure::Full
                        } else {
                            WriteFailure::Unexpected
                        },
                    )
                });
                Ok(failures.collect())
            }
            Err(WriteError::Request(status)) => Err(ClientError::Status(status).into()),
        }
    }

    fn tells_idle(&self) -> bool {
        self.codec.idle.is_some()
    }

    async fn read(&mut self, table: Table) -> Result<Vec<Entry>, TargetError> {
        let mut filter = entity::all_entries(&self.codec.info, Some(table.name()), false)?;
        filter.meter_config = (table == Table::Reasons).then(v1::MeterConfig::default);
        let (mut entries, mut strange) = (Vec::new(), Vec::new());
        for message in self.client.read_entries(filter).await? {
            if message.is_default_action || message.is_const {
                continue;
            }
            match self.codec.read(&message) {
                Some(entry) => entries.push(entry),
                None => strange.push(v1::TableEntry {
                    action: None,
                    ..message
                }),
            }
        }
        if !strange.is_empty() {
            tracing::warn!(
                table = table.name(),
                entries = strange.len(),
                "strange entries are deleted"
            );
            let deletes = strange.into_iter().map(entity::delete).collect();
            let deleted = self.client.write(deletes, Atomicity::ContinueOnError).await;
            deleted.map_err(|error| TargetError::Refused(error.to_string()))?;
        }
        Ok(entries)
    }

    async fn check(&mut self, entries: Vec<Entry>) -> Result<Vec<usize>, TargetError> {
        let found = self.entries(entries.iter().map(|e| &e.key), false).await?;
        let found: HashMap<Key, Action> = found
            .iter()
            .filter_map(|message| self.codec.read(message))
            .map(|entry| (entry.key, entry.action))
            .collect();
        let wrong = entries
            .iter()
            .enumerate()
            .filter(|(_, e)| found.get(&e.key) != Some(&e.action));
        Ok(wrong.map(|(place, _)| place).collect())
    }

    async fn passed(&mut self, cells: &[u32]) -> Result<Vec<Passed>, TargetError> {
        let cells: Vec<i64> = cells.iter().map(|c| i64::from(*c)).collect();
        let passed = self.counters("passed", &cells).await?;
        let dropped = self.counters("dropped", &cells).await?;
        let both = passed.into_iter().zip(dropped);
        Ok(both.map(|(passed, dropped)| Passed { passed, dropped }).collect())
    }

    async fn odd(&mut self, cells: &[u32]) -> Result<Vec<u64>, TargetError> {
        let cells: Vec<i64> = cells.iter().map(|c| i64::from(*c)).collect();
        let odd = self.counters("odd", &cells).await?;
        Ok(odd.into_iter().map(|count| count.packets).collect())
    }

    async fn odd_overhead(&mut self, cells: &[u32]) -> Result<Vec<[u64; 8]>, TargetError> {
        let bits: Vec<i64> = cells
            .iter()
            .flat_map(|c| (0..8).map(move |bit| i64::from(*c) << 3 | bit))
            .collect();
        let counts = self.counters("odd_overhead", &bits).await?;
        let by_cell = counts.as_chunks::<8>().0.iter();
        Ok(by_cell.map(|bits| bits.map(|count| count.packets)).collect())
    }

    async fn hits(&mut self, flows: &[Key]) -> Result<Vec<u64>, TargetError> {
        let found = self.entries(flows.iter(), true).await?;
        let hits: HashMap<Key, u64> = found
            .iter()
            .filter_map(|message| {
                let packets = message.counter_data.as_ref().map(count)?.packets;
                Some((self.codec.read_key(message)?, packets))
            })
            .collect();
        Ok(flows
            .iter()
            .map(|flow| hits.get(flow).copied().unwrap_or_default())
            .collect())
    }

    async fn left(&mut self) -> Result<Vec<Left>, TargetError> {
        let reasons: Vec<i64> = PuntReason::ALL.iter().map(|r| *r as i64).collect();
        let limited = self.counters("limited", &reasons).await?;
        let mut filter = entity::all_entries(&self.codec.info, Some(Table::Reasons.name()), false)?;
        filter.counter_data = Some(v1::CounterData::default());
        let entries = self.client.read_entries(filter).await?;
        let mut counts = HashMap::new();
        for message in &entries {
            if let Some(Key::Reason(reason)) = self.codec.read_key(message) {
                counts.insert(reason, message.counter_data.as_ref().map(count).unwrap_or_default());
            }
        }
        let all = PuntReason::ALL.iter().zip(limited);
        let all = all.filter(|(reason, _)| **reason != PuntReason::Limited);
        let left = all.map(|(&reason, limited)| Left {
            reason,
            count: counts.get(&(reason as u8)).copied().unwrap_or_default(),
            limited,
        });
        Ok(left.collect())
    }

    async fn event(&mut self) -> TargetEvent {
        loop {
            let ours = State::Primary {
                connection: self.connection,
            };
            tokio::select! {
                _ = self.state.wait_for(|state| *state != ours) => return TargetEvent::Lost,
                event = self.events.next() => match event {
                    Some(Event::IdleTimeout(notification)) => {
                        let flows = notification.table_entry.iter().filter_map(|m| self.codec.read_key(m));
                        return TargetEvent::Idle(flows.collect());
                    }
                    Some(_) => {}
                    None => return TargetEvent::Lost,
                },
            }
        }
    }
}
