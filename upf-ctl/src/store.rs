//! The session store: what must outlive the controller, in one `redb` file.
//!
//! Sessions, their usage accounts and associations are written in one transaction before a request is answered:
//! what an SMF was told is in the store, what it was not told is not.
//!
//! ## What a crash may cost
//! *`kill -9` of the controller costs nothing.* What a process has written is in the page cache, which belongs
//! to the kernel; `redb` orders its writes so that the file is consistent after any prefix of them.
//! *A power failure may cost the store.* Waiting for the disk (`fsync`) takes milliseconds for each transaction,
//! to guard against an event that takes the data plane's sessions and the users' radio bearers with it anyway.
//! So transactions do not wait; a background flush each second and one at shutdown bring the file to the disk.
//! A file that is damaged after all is set aside, and the UPF starts empty with a new Recovery Time Stamp,
//! which tells every SMF to set its sessions up again (TS 29.244 6.2.2).
//!
//! ## The Recovery Time Stamp
//! It says since when the sessions have been kept (TS 29.244 8.2.65). A controller that finds all of them again
//! has lost nothing, so it goes on with the stored time stamp, and SMFs notice no restart. If anything of the
//! store cannot be used (damaged, another format, made for other network instances or GTP-U addresses), nothing
//! of it is used.

use crate::pfcp::transport::retransmission_time;
use crate::sessions::{Entry, LastAnswer, SessionRecord, Sessions};
use crate::usage::{UsageAccount, now_ms};
use qos::{Fact, Key, Subject};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use upf_config::Config;
use upf_model::SessionId;

/// First octet of every value. Values of another format are not read.
const FORMAT: u8 = 3;
/// Page cache of `redb` itself, however many sessions there are. Pages beyond it are read from the kernel's page cache.
const CACHE_BYTES: usize = 16 << 20;
/// Start-up says so after so many sessions.
const PROGRESS: usize = 100_000;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const ASSOCIATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("associations");
const SESSIONS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("sessions");
const USAGE: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("usage");
/// Facts about users, as JSON by their identity as JSON.
const FACTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("facts");

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or file is not to be had.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another controller has it open.
    #[error("{0} is in use: is another upf-ctl of this state_dir running?")]
    InUse(PathBuf),
    /// The database failed.
    #[error("session store: {0}")]
    Database(#[from] redb::Error),
    /// A value could not be written or read.
    #[error("session store: {0}")]
    Encoding(#[from] postcard::Error),
    /// A fact could not be written or read.
    #[error("session store: a fact: {0}")]
    Fact(#[from] serde_json::Error),
    /// A value is of another format.
    #[error("session store: expected format {FORMAT}, found {found:?}")]
    Format {
        /// Its first octet.
        found: Option<u8>,
    },
    /// It was made for another configuration.
    #[error("session store: made for other network instances, GTP-U addresses or another Node ID")]
    OtherConfiguration,
}

/// An association with an SMF, as it is kept across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssociationRecord {
    /// Node ID of the SMF, as text.
    pub node: String,
    /// Where its Association Setup Request came from.
    pub peer: SocketAddr,
    /// Its Recovery Time Stamp, NTP seconds.
    pub recovery_time_stamp: u32,
    /// Its CP Function Features.
    pub features: u64,
    /// Milliseconds since the UNIX epoch.
    pub since_ms: u64,
}

/// What sessions depend on in the configuration.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Foundation {
    node_id: String,
    network_instances: Vec<String>,
    gtpu_addresses: Vec<IpAddr>,
}

impl Foundation {
    fn of(config: &Config, node_id: &str) -> Self {
        let gtpu = config
            .ports
            .iter()
            .filter(|p| p.gtpu)
            .flat_map(|p| p.addresses.iter().map(|a| a.addr));
        Self {
            node_id: node_id.to_owned(),
            network_instances: config.network_instances.iter().map(|n| n.name.clone()).collect(),
            gtpu_addresses: gtpu.collect(),
        }
    }
}

/// What was in the store.
#[derive(Debug)]
pub struct Recovered {
    /// Seconds since the UNIX epoch: the Recovery Time Stamp to go on with.
    pub recovery_unix_s: u64,
    /// Sessions and what they have used.
    pub sessions: Sessions,
    /// Answers whose requests may be retransmitted yet.
    pub answers: Vec<LastAnswer>,
    /// Milliseconds since the UNIX epoch: nobody waits for answers from before.
    oldest_answer_ms: u64,
    /// Associations.
    pub associations: Vec<AssociationRecord>,
    /// Facts about users.
    pub facts: Vec<Fact>,
    /// What policies remember besides facts, as [`Write::PutPolicyState`] had it last.
    pub policy_state: Option<Vec<u8>>,
}

impl Recovered {
    fn empty(config: &Config) -> Self {
        Self {
            recovery_unix_s: 0,
            sessions: Sessions::new(config.pfcp.max_sessions),
            answers: Vec::new(),
            oldest_answer_ms: now_ms().saturating_sub(retransmission_time(&config.pfcp).as_millis() as u64),
            associations: Vec::new(),
            facts: Vec::new(),
            policy_state: None,
        }
    }

    fn put(&mut self, mut record: SessionRecord, mut usage: UsageAccount) {
        // Whether the SMF took the reports on their way, nobody will learn any more.
        usage.answered(false);
        let answer = record.last_answer.take();
        self.answers
            .extend(answer.filter(|answer| answer.at_ms >= self.oldest_answer_ms));
        self.sessions.put(&Entry::new(record, usage));
        if self.sessions.len().is_multiple_of(PROGRESS) {
            tracing::info!(sessions = self.sessions.len(), "reading the session store");
        }
    }
}

/// One thing to be written.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Write<'a> {
    PutSession(&'a SessionRecord),
    PutUsage(SessionId, &'a UsageAccount),
    RemoveSession(SessionId),
    PutAssociation(&'a AssociationRecord),
    RemoveAssociation(&'a str),
    PutFact(&'a Fact),
    RemoveFact(&'a Subject, &'a Key),
    PutPolicyState(&'a [u8]),
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    database: Database,
    file: File,
}

impl Store {
    /// Opens the store in `state_dir` and reads all of it, or starts an empty one (see the module's text).
    pub fn open(state_dir: &Path, config: &Config, node_id: &str) -> Result<(Self, Recovered), StoreError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::File { path, error }
        };
        std::fs::create_dir_all(state_dir).map_err(at(state_dir))?;
        let path = state_dir.join("sessions.redb");
        let foundation = Foundation::of(config, node_id);
        let empty = || Recovered::empty(config);
        match Self::open_file(&path).and_then(|store| Ok((store.recover(&foundation, empty())?, store))) {
            Ok((recovered, store)) => Ok((store, recovered)),
            Err(error @ (StoreError::File { .. } | StoreError::InUse(_))) => Err(error),
            Err(error) => {
                let aside = state_dir.join("sessions.redb.unusable");
                tracing::error!(%error, kept_as = %aside.display(), "the session store cannot be used; starting without sessions");
                std::fs::rename(&path, &aside).map_err(at(&path))?;
                let store = Self::open_file(&path)?;
                let recovered = store.recover(&foundation, empty())?;
                Ok((store, recovered))
            }
        }
    }

    fn open_file(path: &Path) -> Result<Self, StoreError> {
        let at = |error| StoreError::File {
            path: path.to_owned(),
            error,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(at)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => StoreError::InUse(path.to_owned()),
            std::fs::TryLockError::Error(error) => at(error),
        })?;
        let backend = PageCacheFile(file.try_clone().map_err(at)?);
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(redb::Error::from)?;
        Ok(Self { database, file })
    }

    /// Reads everything into `recovered`, which is empty; an empty store is given its foundation and Recovery Time Stamp.
    fn recover(&self, foundation: &Foundation, mut recovered: Recovered) -> Result<Recovered, StoreError> {
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        let is_new = {
            let mut meta = transaction.open_table(META).map_err(redb::Error::from)?;
            let sessions = transaction.open_table(SESSIONS).map_err(redb::Error::from)?;
            let usage = transaction.open_table(USAGE).map_err(redb::Error::from)?;
            let associations = transaction.open_table(ASSOCIATIONS).map_err(redb::Error::from)?;
            let facts = transaction.open_table(FACTS).map_err(redb::Error::from)?;
            let stored = meta
                .get("foundation")
                .map_err(redb::Error::from)?
                .map(|v| v.value().to_vec());
            match stored {
                None => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
                    meta.insert("foundation", encode(foundation)?.as_slice())
                        .map_err(redb::Error::from)?;
                    meta.insert("recovery", encode(&now)?.as_slice())
                        .map_err(redb::Error::from)?;
                    recovered.recovery_unix_s = now;
                    true
                }
                Some(stored) => {
                    if decode::<Foundation>(&stored)? != *foundation {
                        return Err(StoreError::OtherConfiguration);
                    }
                    let recovery = meta.get("recovery").map_err(redb::Error::from)?;
                    let recovery = recovery.map(|v| v.value().to_vec()).unwrap_or_default();
                    recovered.recovery_unix_s = decode(&recovery)?;
                    let policy_state = meta.get("policy-state").map_err(redb::Error::from)?;
                    recovered.policy_state = policy_state.map(|v| v.value().to_vec());
                    for item in sessions.iter().map_err(redb::Error::from)? {
                        let (id, value) = item.map_err(redb::Error::from)?;
                        let account = usage.get(id.value()).map_err(redb::Error::from)?;
                        let account = account.map(|v| decode(v.value())).transpose()?.unwrap_or_default();
                        recovered.put(decode(value.value())?, account);
                    }
                    for item in associations.iter().map_err(redb::Error::from)? {
                        recovered
                            .associations
                            .push(decode(item.map_err(redb::Error::from)?.1.value())?);
                    }
                    for item in facts.iter().map_err(redb::Error::from)? {
                        let (_, value) = item.map_err(redb::Error::from)?;
                        recovered.facts.push(serde_json::from_slice(value.value())?);
                    }
                    false
                }
            }
        };
        if is_new {
            transaction.commit().map_err(redb::Error::from)?;
        } else {
            transaction.abort().map_err(redb::Error::from)?;
        }
        Ok(recovered)
    }

    /// Writes all of these, or none. Does not wait for the disk.
    pub fn commit<'a>(&self, writes: impl IntoIterator<Item = Write<'a>>) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        {
            let mut sessions = transaction.open_table(SESSIONS).map_err(redb::Error::from)?;
            let mut usage = transaction.open_table(USAGE).map_err(redb::Error::from)?;
            let mut associations = transaction.open_table(ASSOCIATIONS).map_err(redb::Error::from)?;
            let mut facts = transaction.open_table(FACTS).map_err(redb::Error::from)?;
            let mut meta = transaction.open_table(META).map_err(redb::Error::from)?;
            for write in writes {
                match write {
                    Write::PutSession(record) => {
                        let id = record.session.id.0;
                        sessions
                            .insert(id, encode(record)?.as_slice())
                            .map_err(redb::Error::from)?;
                    }
                    Write::PutUsage(id, account) => {
                        usage
                            .insert(id.0, encode(account)?.as_slice())
                            .map_err(redb::Error::from)?;
                    }
                    Write::RemoveSession(id) => {
                        sessions.remove(id.0).map_err(redb::Error::from)?;
                        usage.remove(id.0).map_err(redb::Error::from)?;
                    }
                    Write::PutAssociation(record) => {
                        let node = record.node.as_str();
                        associations
                            .insert(node, encode(record)?.as_slice())
                            .map_err(redb::Error::from)?;
                    }
                    Write::RemoveAssociation(node) => {
                        associations.remove(node).map_err(redb::Error::from)?;
                    }
                    Write::PutFact(fact) => {
                        let identity = serde_json::to_vec(&(&fact.about, &fact.key))?;
                        facts
                            .insert(identity.as_slice(), serde_json::to_vec(fact)?.as_slice())
                            .map_err(redb::Error::from)?;
                    }
                    Write::RemoveFact(about, key) => {
                        let identity = serde_json::to_vec(&(about, key))?;
                        facts.remove(identity.as_slice()).map_err(redb::Error::from)?;
                    }
                    Write::PutPolicyState(state) => {
                        meta.insert("policy-state", state).map_err(redb::Error::from)?;
                    }
                }
            }
        }
        Ok(transaction.commit().map_err(redb::Error::from)?)
    }

    /// The last answer that a session's SMF was given: it is in memory only for as long as its request may be
    /// retransmitted.
    pub fn last_answer(&self, id: SessionId) -> Result<Option<LastAnswer>, StoreError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let sessions = transaction.open_table(SESSIONS).map_err(redb::Error::from)?;
        let Some(value) = sessions.get(id.0).map_err(redb::Error::from)? else {
            return Ok(None);
        };
        Ok(decode::<SessionRecord>(value.value())?.last_answer)
    }

    /// A handle that brings the file to the disk when asked. Costs milliseconds: not for the controller's task.
    pub fn flusher(&self) -> io::Result<Flusher> {
        self.file.try_clone().map(Flusher)
    }
}

/// See [`Store::flusher`].
#[derive(Debug)]
pub struct Flusher(File);

impl Flusher {
    /// Waits until all that was written is on the disk.
    pub fn flush(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    Ok(postcard::to_extend(value, vec![FORMAT])?)
}

fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, StoreError> {
    match octets.split_first() {
        Some((&FORMAT, value)) => Ok(postcard::from_bytes(value)?),
        other => Err(StoreError::Format {
            found: other.map(|(first, _)| *first),
        }),
    }
}

/// A file whose writes reach the page cache and go to the disk when the kernel, or [`Flusher`], sees fit.
#[derive(Debug)]
struct PageCacheFile(File);

impl StorageBackend for PageCacheFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
