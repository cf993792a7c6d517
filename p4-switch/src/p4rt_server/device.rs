//! The device: what the RPCs do, without gRPC around it. Everything a client may do wrong ends here, in a [`Status`].
//!
//! Locks, always taken in this order: `pipelines`, `writing`, then `live` or `streams`.
//! - Writes hold `pipelines` exclusively for as long as the engine works on their batch, reads hold it shared, so that a
//!   read sees whole batches only and the updates of two batches do not mix (specification, section "Parallelism of
//!   Read and Write Requests"). Both may take long, so they run on blocking threads.
//! - `writing` is held by the write at work, and by arbitration, which thus waits for that write and for no read.
//! - `live` and `streams` are held for moments. The packet thread takes none of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use p4runtime::v1;
use p4runtime::v1::get_forwarding_pipeline_config_request::ResponseType;
use p4runtime::v1::set_forwarding_pipeline_config_request::Action as PipelineAction;
use p4runtime::v1::write_request::Atomicity;
use tonic::{Code, Status};

use super::arbitration::role_key;
use super::metadata::Remark;
use super::pipeline::Pipeline;
use super::read::Read;
use super::refusal::{Refusal, batch_status};
use super::streams::Streams;
use super::{decode, digest, encode, packet_io};
use crate::control::{Event, Query, Update};
use crate::{Switch, SwitchConfig};

/// The version of P4Runtime that the server implements.
pub const API_VERSION: &str = "1.5.0";

/// A switch as P4Runtime knows it.
#[derive(Debug)]
pub struct Device {
    /// Given at the start, or by the first client.
    id: OnceLock<u64>,
    switch: Arc<Switch>,
    pipelines: RwLock<Pipelines>,
    writing: Mutex<()>,
    /// The committed pipeline: what packets, digests and notifications are of.
    live: Mutex<Option<Arc<Pipeline>>>,
    pub(super) streams: Mutex<Streams>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Pipelines {
    committed: Option<Arc<Pipeline>>,
    saved: Option<Saved>,
}

/// A pipeline that was saved and not committed: reads and writes refer to it, packets do not meet it yet.
#[derive(Debug)]
struct Saved {
    pipeline: Arc<Pipeline>,
    /// Where its entries are meanwhile.
    shadow: Switch,
    /// What to write again when it is committed.
    log: Vec<Update>,
}

impl Pipelines {
    fn current(&self) -> Result<&Arc<Pipeline>, Refusal> {
        let saved = self.saved.as_ref().map(|saved| &saved.pipeline);
        saved.or(self.committed.as_ref()).ok_or_else(|| {
            Refusal::new(
                Code::FailedPrecondition,
                "no pipeline: SetForwardingPipelineConfig comes first",
            )
        })
    }

    fn switch<'s>(&'s self, switch: &'s Switch) -> &'s Switch {
        self.saved.as_ref().map_or(switch, |saved| &saved.shadow)
    }
}

impl Device {
    /// A device over a switch. Without an id, the first one that a client arbitrates for becomes its own.
    pub fn new(switch: Arc<Switch>, id: Option<u64>) -> Device {
        let device = Device {
            id: OnceLock::new(),
            switch,
            pipelines: RwLock::default(),
            writing: Mutex::default(),
            live: Mutex::default(),
            streams: Mutex::default(),
            dropped: AtomicU64::new(0),
        };
        if let Some(id) = id {
            let _ = device.id.set(id);
        }
        device
    }

    /// Packets, digests and notifications that no client was there for, or that a client was too slow for.
    pub fn dropped_messages(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn id(&self) -> u64 {
        self.id.get().copied().unwrap_or_default()
    }

    pub(super) fn check_device(&self, id: u64) -> Result<(), Refusal> {
        match self.id.get() {
            Some(own) if *own != id => Err(Refusal::new(Code::NotFound, format!("there is no device {id}"))),
            _ => Ok(()),
        }
    }

    /// As [`Device::check_device`], and takes the id if the device has none.
    pub(super) fn adopt(&self, id: u64) -> Result<(), Refusal> {
        self.id.get_or_init(|| id);
        self.check_device(id)
    }

    // A thread that panicked leaves consistent state behind: every change is one assignment or the engine's own.
    fn pipelines(&self) -> RwLockReadGuard<'_, Pipelines> {
        self.pipelines.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pipelines_mut(&self) -> RwLockWriteGuard<'_, Pipelines> {
        self.pipelines.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While this is held no write is at work: a new primary is told so only when its predecessor's are done.
    pub(super) fn between_writes(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<Arc<Pipeline>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a write would begin at once: no other one and no read is at work.
    pub(super) fn is_idle(&self) -> bool {
        self.pipelines.try_write().is_ok()
    }

    fn check_primary(&self, role: &str, id: Option<&v1::Uint128>) -> Result<(), Refusal> {
        self.streams().arbitration.check_primary(role, id)
    }

    /// The Write RPC.
    pub fn write(&self, request: v1::WriteRequest) -> Result<(), Status> {
        self.check_device(request.device_id)?;
        #[expect(deprecated, reason = "clients older than 1.4 still send it")]
        let role = role_key(&request.role, request.role_id);
        self.check_primary(&role, request.election_id.as_ref())?;
        let atomicity = Atomicity::try_from(request.atomicity)
            .map_err(|_| Refusal::invalid(format!("{} is no atomicity", request.atomicity)))?;
        let pipeline = self.pipelines().current()?.clone();

        let mut updates = Vec::with_capacity(request.updates.len());
        // For each update of the request: how many of the engine's it became, or why it is none.
        let mut decoded = Vec::with_capacity(request.updates.len());
        let mut remarks = Vec::new();
        for (position, message) in request.updates.into_iter().enumerate() {
            let remark = Remark::of(&message).zip(decode::change(&message));
            let before = updates.len();
            decoded.push(decode::update(&pipeline, message, &mut updates).map(|()| updates.len() - before));
            remarks.extend(remark.map(|(remark, change)| (position, change, remark)));
        }

        let mut pipelines = self.pipelines_mut();
        let _writing = self.between_writes();
        // Both may have changed while nothing was locked.
        self.check_primary(&role, request.election_id.as_ref())?;
        if !Arc::ptr_eq(pipelines.current()?, &pipeline) {
            return Err(Status::aborted("the pipeline was replaced meanwhile"));
        }
        let results = match atomicity {
            Atomicity::ContinueOnError => one_by_one(pipelines.switch(&self.switch), decoded, &updates),
            Atomicity::RollbackOnError | Atomicity::DataplaneAtomic => {
                all_or_none(pipelines.switch(&self.switch), decoded, &updates)
            }
        };
        for (position, change, remark) in remarks {
            if results.1[position].is_ok() {
                remark.keep(change, &pipeline.notes);
            }
        }
        if let Some(saved) = &mut pipelines.saved {
            let done = updates.into_iter().zip(results.0).filter(|(_, done)| *done);
            saved.log.extend(done.map(|(update, _)| update));
        }
        drop(pipelines);
        if results.1.iter().all(Result::is_ok) {
            Ok(())
        } else {
            Err(batch_status("updates", results.1))
        }
    }

    /// The Read RPC. `emit` is called for each entity while the switch may not be written to; it must not wait.
    pub fn read(&self, request: v1::ReadRequest, emit: &mut dyn FnMut(v1::Entity)) -> Result<(), Status> {
        self.check_device(request.device_id)?;
        let pipelines = self.pipelines();
        let pipeline = pipelines.current()?;
        let switch = pipelines.switch(&self.switch);
        let results: Vec<Result<(), Refusal>> = request
            .entities
            .into_iter()
            .map(|entity| match Read::new(pipeline, entity)? {
                Some(read) => read.run(pipeline, switch, emit),
                None => Ok(()),
            })
            .collect();
        if results.iter().all(Result::is_ok) {
            Ok(())
        } else {
            Err(batch_status("entities", results))
        }
    }

    /// The SetForwardingPipelineConfig RPC.
    pub fn set_pipeline(&self, request: v1::SetForwardingPipelineConfigRequest) -> Result<(), Status> {
        self.check_device(request.device_id)?;
        #[expect(deprecated, reason = "clients older than 1.4 still send it")]
        let role = role_key(&request.role, request.role_id);
        let election_id = request.election_id.as_ref();
        self.check_primary(&role, election_id)?;
        let action = PipelineAction::try_from(request.action).unwrap_or(PipelineAction::Unspecified);
        let pipeline = match (action, request.config) {
            (PipelineAction::Unspecified, _) => return Err(Status::invalid_argument("the action is not set")),
            (PipelineAction::Commit, None) => None,
            (PipelineAction::Commit, Some(_)) => {
                return Err(Status::invalid_argument(
                    "COMMIT takes no configuration: it commits the one saved",
                ));
            }
            (_, None) => return Err(Status::invalid_argument("the configuration is not set")),
            (_, Some(config)) => Some(Arc::new(Pipeline::new(config)?)),
        };
        if action == PipelineAction::Verify {
            return Ok(());
        }
        let mut pipelines = self.pipelines_mut();
        let _writing = self.between_writes();
        self.check_primary(&role, election_id)?;
        match (action, pipeline) {
            (PipelineAction::VerifyAndSave, Some(pipeline)) => {
                let shadow = self.shadow(&pipeline);
                tracing::info!("pipeline saved, to be committed");
                pipelines.saved = Some(Saved {
                    pipeline,
                    shadow,
                    log: Vec::new(),
                });
            }
            (PipelineAction::ReconcileAndCommit, Some(pipeline)) => {
                let kept = self.kept(&pipelines, &pipeline)?;
                self.commit(&mut pipelines, pipeline, &kept);
            }
            (_, Some(pipeline)) => self.commit(&mut pipelines, pipeline, &[]),
            (_, None) => {
                let saved = pipelines.saved.take();
                let saved = saved.ok_or_else(|| Status::not_found("no configuration was saved"))?;
                self.commit(&mut pipelines, saved.pipeline, &saved.log);
            }
        }
        Ok(())
    }

    fn shadow(&self, pipeline: &Pipeline) -> Switch {
        let shadow = Switch::new(SwitchConfig {
            ..self.switch.config().clone()
        });
        shadow.load(pipeline.program.clone());
        shadow
    }

    fn commit(&self, pipelines: &mut Pipelines, pipeline: Arc<Pipeline>, updates: &[Update]) {
        self.switch.load(pipeline.program.clone());
        self.switch.write(updates);
        let (tables, kept) = (pipeline.info.tables.len(), updates.len());
        tracing::info!(tables, kept, "pipeline committed");
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(pipeline.clone());
        *pipelines = Pipelines {
            committed: Some(pipeline),
            saved: None,
        };
    }

    /// Everything in the old pipeline as updates of the new one, tried out on a shadow of it.
    fn kept(&self, pipelines: &Pipelines, new: &Pipeline) -> Result<Vec<Update>, Status> {
        let Ok(old) = pipelines.current() else {
            return Ok(Vec::new());
        };
        let switch = pipelines.switch(&self.switch);
        let mut updates = Vec::new();
        let mut problem = None;
        for query in everything() {
            let wanted = encode::Wanted {
                counter: true,
                meter: true,
                time_since_last_hit: false,
            };
            let visited = switch.read(&query, &mut |entity| {
                let kept = encode::entity(old, entity, wanted).and_then(|entity| kept_update(old, entity));
                let Some(update) = kept else { return };
                if let Err(refusal) = decode::update(new, update, &mut updates) {
                    problem.get_or_insert(refusal);
                }
            });
            if let Err(error) = visited {
                problem.get_or_insert(error.into());
            }
        }
        let shadow = self.shadow(new);
        let refused = shadow
            .write(&updates)
            .into_iter()
            .find_map(Result::err)
            .map(Refusal::from);
        match problem.or(refused) {
            None => {
                copy_notes(old, new);
                Ok(updates)
            }
            Some(refusal) => {
                let problem = format!(
                    "the forwarding state does not fit the new pipeline: {}",
                    refusal.message
                );
                Err(Status::invalid_argument(problem))
            }
        }
    }

    /// The GetForwardingPipelineConfig RPC.
    pub fn pipeline(
        &self,
        request: v1::GetForwardingPipelineConfigRequest,
    ) -> Result<v1::GetForwardingPipelineConfigResponse, Status> {
        self.check_device(request.device_id)?;
        let parts = ResponseType::try_from(request.response_type)
            .map_err(|_| Refusal::invalid(format!("{} is no response type", request.response_type)))?;
        let pipelines = self.pipelines();
        let Ok(pipeline) = pipelines.current() else {
            return Ok(v1::GetForwardingPipelineConfigResponse { config: None });
        };
        let (p4info, device_config) = match parts {
            ResponseType::All => (true, true),
            ResponseType::CookieOnly => (false, false),
            ResponseType::P4infoAndCookie => (true, false),
            ResponseType::DeviceConfigAndCookie => (false, true),
        };
        let config = &pipeline.config;
        let config = v1::ForwardingPipelineConfig {
            p4info: if p4info { config.p4info.clone() } else { None },
            p4_device_config: if device_config {
                config.p4_device_config.clone()
            } else {
                Vec::new()
            },
            cookie: config.cookie,
        };
        Ok(v1::GetForwardingPipelineConfigResponse { config: Some(config) })
    }

    /// The Capabilities RPC.
    pub fn capabilities(&self, request: v1::CapabilitiesRequest) -> Result<v1::CapabilitiesResponse, Status> {
        if request.device_id != 0 {
            self.check_device(request.device_id)?;
        }
        Ok(v1::CapabilitiesResponse {
            p4runtime_api_version: API_VERSION.into(),
            experimental: None,
        })
    }

    /// A packet from a primary.
    pub(super) fn packet_out(&self, packet: &v1::PacketOut) -> Result<(), Refusal> {
        let pipeline = self.live().ok_or_else(|| {
            Refusal::new(
                Code::FailedPrecondition,
                "no pipeline: SetForwardingPipelineConfig comes first",
            )
        })?;
        Ok(self
            .switch
            .packet_out(&packet_io::packet_out(&pipeline.info, packet)?)?)
    }

    /// A primary has seen a list of digests.
    pub(super) fn acknowledge(&self, ack: &v1::DigestListAck) -> Result<(), Refusal> {
        let pipeline = self.live();
        let digest = pipeline
            .as_ref()
            .and_then(|pipeline| pipeline.digests.get(ack.digest_id));
        let digest = digest.ok_or_else(|| Refusal::invalid(format!("there is no digest {}", ack.digest_id)))?;
        self.switch.acknowledge_digest(digest.engine, ack.list_id);
        Ok(())
    }

    /// Pass on what the engine tells: to every role's primary.
    pub fn tell(&self, event: Event) {
        use v1::stream_message_response::Update as Message;
        let Some(pipeline) = self.live() else {
            return self.count_dropped();
        };
        let message = match event {
            Event::PacketIn(packet) => packet_io::packet_in(&pipeline.info, packet).map(Message::Packet),
            Event::Digest(list) => pipeline.digests.of_engine(list.digest.0).map(|bound| {
                let values = list.data.into_iter();
                let data = values
                    .map(|values| digest::data(&pipeline.info, bound.id, values))
                    .collect();
                let (digest_id, list_id) = (bound.id, list.list_id);
                Message::Digest(v1::DigestList {
                    digest_id,
                    list_id,
                    data,
                    timestamp: now_ns(),
                })
            }),
            Event::IdleTimeout(entries) => {
                let wanted = encode::Wanted::default();
                let entries = entries
                    .into_iter()
                    .filter_map(|entry| encode::table_entry(&pipeline, entry, wanted));
                let table_entry: Vec<v1::TableEntry> = entries.collect();
                let notification = v1::IdleTimeoutNotification {
                    table_entry,
                    timestamp: now_ns(),
                };
                (!notification.table_entry.is_empty()).then_some(Message::IdleTimeoutNotification(notification))
            }
        };
        let told = message.is_some_and(|message| self.streams().tell_primaries(message));
        if !told {
            self.count_dropped();
        }
    }
}

/// What the engine did with each of its updates, and what that means for each update of the request.
type Outcome = (Vec<bool>, Vec<Result<(), Refusal>>);

fn one_by_one(switch: &Switch, decoded: Vec<Result<usize, Refusal>>, updates: &[Update]) -> Outcome {
    let results = switch.write(updates);
    let done = results.iter().map(Result::is_ok).collect();
    let mut results = results.into_iter();
    let of_request = decoded
        .into_iter()
        .map(|decoded| {
            let mine: Vec<_> = results.by_ref().take(*decoded.as_ref().unwrap_or(&0)).collect();
            decoded?;
            mine.into_iter().collect::<Result<(), _>>().map_err(Refusal::from)
        })
        .collect();
    (done, of_request)
}

fn all_or_none(switch: &Switch, decoded: Vec<Result<usize, Refusal>>, updates: &[Update]) -> Outcome {
    let undone = || Refusal::new(Code::Aborted, "not done, because another update of the batch failed");
    if decoded.iter().any(Result::is_err) {
        let results = decoded
            .into_iter()
            .map(|decoded| Err(decoded.err().unwrap_or_else(undone)));
        return (vec![false; updates.len()], results.collect());
    }
    let Err(failed) = switch.write_atomic(updates) else {
        return (vec![true; updates.len()], decoded.iter().map(|_| Ok(())).collect());
    };
    let mut before = 0;
    let results = decoded.into_iter().map(|decoded| {
        let count = decoded.unwrap_or_default();
        let own = (before..before + count).contains(&failed.index);
        before += count;
        Err(if own { failed.error.clone().into() } else { undone() })
    });
    (vec![false; updates.len()], results.collect())
}

/// The whole forwarding state, in an order in which it can be written.
fn everything() -> [Query; 11] {
    [
        Query::ActionProfileMembers {
            profile: None,
            member: None,
        },
        Query::ActionProfileGroups {
            profile: None,
            group: None,
        },
        Query::TableEntries { table: None },
        Query::DefaultEntries { table: None },
        Query::Counters {
            counter: None,
            index: None,
        },
        Query::Meters {
            meter: None,
            index: None,
        },
        Query::Registers {
            register: None,
            index: None,
        },
        Query::MulticastGroups { group: None },
        Query::CloneSessions { session: None },
        Query::ValueSets { value_set: None },
        Query::Digests { digest: None },
    ]
}

/// The update that brings an entity back, or `None` if it need not be brought back.
fn kept_update(old: &Pipeline, entity: v1::Entity) -> Option<v1::Update> {
    use p4runtime::entity::{insert, modify};
    use v1::entity::Entity as Kind;
    Some(match entity.entity? {
        Kind::TableEntry(entry) if entry.is_const => return None,
        Kind::TableEntry(entry) if entry.is_default_action => {
            let direct = old
                .tables
                .get(entry.table_id)
                .is_some_and(|table| table.profile.is_none());
            return direct.then(|| modify(entry));
        }
        Kind::TableEntry(mut entry) => {
            entry.time_since_last_hit = None;
            insert(entry)
        }
        Kind::CounterEntry(entry) if entry.data == Some(v1::CounterData::default()) => return None,
        Kind::MeterEntry(entry) if entry.config.is_none() => return None,
        Kind::RegisterEntry(entry) if entry.data == Some(zero()) => return None,
        Kind::CounterEntry(entry) => modify(entry),
        Kind::MeterEntry(entry) => modify(entry),
        Kind::RegisterEntry(entry) => modify(entry),
        Kind::ValueSetEntry(entry) => modify(entry),
        kind => insert(v1::Entity { entity: Some(kind) }),
    })
}

fn zero() -> v1::P4Data {
    v1::P4Data {
        data: Some(v1::p4_data::Data::Bitstring(vec![0])),
    }
}

fn copy_notes(old: &Pipeline, new: &Pipeline) {
    for (from, to) in [
        (&old.notes.groups, &new.notes.groups),
        (&old.notes.sessions, &new.notes.sessions),
    ] {
        let notes = from.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *to.lock().unwrap_or_else(PoisonError::into_inner) = notes;
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
