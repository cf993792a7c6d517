//! A P4 target as tests see it: P4Runtime on one side, frames at numbered ports on the other.

pub mod bmv2;
pub mod embedded;
pub mod named;
pub mod namespace;
pub mod wires;

use crate::entry::Entry;
use crate::{program, world};
use p4runtime::client::{Atomicity, PipelineAction};
use p4runtime::error::EntryError;
use p4runtime::v1::entity::Entity as Kind;
use p4runtime::{Client, Options, P4Info, WriteError, entity, v1};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use wires::Wires;

/// What can be written into a target's tables.
pub trait Written: std::fmt::Debug {
    /// For P4Runtime.
    ///
    /// # Errors
    /// A name or width that P4Info does not have.
    fn message(&self, info: &P4Info) -> Result<v1::TableEntry, EntryError>;
}

impl Written for Entry {
    fn message(&self, info: &P4Info) -> Result<v1::TableEntry, EntryError> {
        Self::message(self, info)
    }
}

/// Frames at ports, in order.
pub type Frames = Vec<(u16, Vec<u8>)>;

/// Ports that every target has: 1 to this.
pub const PORTS: u16 = 4;
/// BMv2 needs a while to allocate the arrays of a program.
const START: Duration = Duration::from_secs(60);
/// Updates in one request.
const BATCH: usize = 256;

/// A target at hand.
pub struct Target {
    /// Its name in messages.
    pub name: String,
    /// The program's tables and externs.
    pub info: P4Info,
    address: String,
    device_id: u64,
    election_id: u64,
    client: Client,
    runtime: Runtime,
    wires: Arc<Mutex<dyn Wires>>,
    /// Cells of meters that a test has set.
    meters: Vec<v1::MeterEntry>,
}

/// What another controller needs to take the target over.
#[derive(Debug, Clone, Copy)]
pub struct Borrowed<'t> {
    /// Its threads reach the address.
    pub runtime: &'t Runtime,
    /// Of the P4Runtime server.
    pub address: &'t str,
    /// Device at that server.
    pub device_id: u64,
    /// Higher than any before.
    pub election_id: u64,
}

/// Counted packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: i64,
    /// Bytes of frames.
    pub bytes: i64,
}

impl std::ops::Sub for Count {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl Target {
    /// Connect to a P4Runtime server, become primary and give it the program. `runtime`'s threads make the connection.
    ///
    /// # Errors
    /// What the server, or the lack of one, says.
    pub fn connect(
        name: impl Into<String>,
        address: &str,
        device_id: u64,
        runtime: Runtime,
        wires: Arc<Mutex<dyn Wires>>,
    ) -> Result<Self, String> {
        let name = name.into();
        let election_id = 1;
        let client = primary(&runtime, address, device_id, election_id).map_err(|e| format!("{name}: {e}"))?;
        Ok(Self {
            name,
            info: program::p4info(),
            address: address.to_owned(),
            device_id,
            election_id,
            client,
            runtime,
            wires,
            meters: Vec::new(),
        })
    }

    /// Let another controller be primary while `work` runs, on a runtime whose threads reach the target; it gets the
    /// address, device and election id for it. Afterwards the target has the program anew.
    pub fn lend(&mut self, work: impl FnOnce(&Self, Borrowed<'_>)) {
        let borrowed = Borrowed {
            runtime: &self.runtime,
            address: &self.address,
            device_id: self.device_id,
            election_id: self.election_id + 1,
        };
        work(self, borrowed);
        self.election_id += 2;
        match primary(&self.runtime, &self.address, self.device_id, self.election_id) {
            Ok(client) => self.client = client,
            Err(e) => panic!("{}: {e}", self.name),
        }
    }

    fn call<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        spawned(&self.runtime, future)
    }

    /// INSERT.
    #[track_caller]
    pub fn insert(&self, entries: impl IntoIterator<Item = impl Written>) {
        self.write(self.updates(v1::update::Type::Insert, entries));
    }

    /// MODIFY.
    #[track_caller]
    pub fn modify(&self, entries: impl IntoIterator<Item = impl Written>) {
        self.write(self.updates(v1::update::Type::Modify, entries));
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, entries: impl IntoIterator<Item = impl Written>) {
        self.write(self.updates(v1::update::Type::Delete, entries));
    }

    /// Entries as updates of one kind.
    #[track_caller]
    pub fn updates<E: Written>(&self, kind: v1::update::Type, entries: impl IntoIterator<Item = E>) -> Vec<v1::Update> {
        let update = |entry: E| match entry.message(&self.info) {
            Ok(message) => v1::Update {
                r#type: kind.into(),
                entity: Some(message.into()),
            },
            Err(e) => panic!("{entry:?} cannot be written: {e}"),
        };
        entries.into_iter().map(update).collect()
    }

    /// Write, in requests of a moderate size.
    #[track_caller]
    pub fn write(&self, updates: Vec<v1::Update>) {
        if let Err(e) = self.try_write(updates) {
            panic!("{}: {e}", self.name);
        }
    }

    /// The same, and what the target said to it.
    pub fn try_write(&self, updates: Vec<v1::Update>) -> Result<(), WriteError> {
        let client = self.client.clone();
        self.call(async move { client.write_all(updates, BATCH).await })
    }

    /// One request, as it stands.
    pub fn write_batch(&self, updates: Vec<v1::Update>, atomicity: Atomicity) -> Result<(), WriteError> {
        let client = self.client.clone();
        self.call(async move { client.write(updates, atomicity).await })
    }

    /// Set the rate of cells of a meter: bytes (or packets) a second, and burst.
    #[track_caller]
    pub fn set_meter(&mut self, meter: &str, cells: impl IntoIterator<Item = u32>, rate: u32, burst: u32) {
        let config = crate::entry::meter_config(rate, burst);
        let entry = |cell: u32| entity::meter(&self.info, meter, Some(cell.into()), Some(config));
        let entries: Result<Vec<_>, _> = cells.into_iter().map(entry).collect();
        let entries = entries.expect("a meter of the program");
        self.meters.extend(entries.iter().cloned());
        self.write(entries.into_iter().map(entity::modify).collect());
    }

    /// A counter's cell.
    #[track_caller]
    pub fn counter(&self, counter: &str, cell: u32) -> Count {
        self.counters(&[(counter, cell)])[0]
    }

    /// Cells of counters, in their order.
    #[track_caller]
    pub fn counters(&self, cells: &[(&str, u32)]) -> Vec<Count> {
        let query = |(counter, cell): &(&str, u32)| entity::counter(&self.info, *counter, Some((*cell).into()), None);
        let queries: Result<Vec<_>, _> = cells.iter().map(query).collect();
        let queries = queries.expect("counters of the program");
        let found = self.read(queries.iter().cloned().map(Into::into).collect());
        let mut counts = HashMap::new();
        for entity in found {
            if let Some(Kind::CounterEntry(v1::CounterEntry {
                counter_id,
                index: Some(index),
                data,
            })) = entity.entity
            {
                counts.insert((counter_id, index.index), count(data.unwrap_or_default()));
            }
        }
        let cell_of =
            |query: &v1::CounterEntry| (query.counter_id, query.index.as_ref().map_or(0, |index| index.index));
        let counted = queries.iter().map(|query| counts.get(&cell_of(query)).copied());
        let all: Option<Vec<Count>> = counted.collect();
        all.unwrap_or_else(|| panic!("{}: some of {cells:?} are not there", self.name))
    }

    /// The direct counter of an entry.
    #[track_caller]
    pub fn direct_counter(&self, entry: &Entry) -> Count {
        let mut table_entry = entry.message(&self.info).expect("an entry of the program");
        (table_entry.action, table_entry.meter_config) = (None, None);
        let query = v1::DirectCounterEntry {
            table_entry: Some(table_entry),
            data: None,
        };
        let found = self
            .read(vec![query.into()])
            .into_iter()
            .find_map(|entity| match entity.entity {
                Some(Kind::DirectCounterEntry(entry)) => entry.data,
                _ => None,
            });
        found
            .map(count)
            .unwrap_or_else(|| panic!("{}: no counter of {entry:?}", self.name))
    }

    /// Read.
    #[track_caller]
    pub fn read(&self, query: Vec<v1::Entity>) -> Vec<v1::Entity> {
        let client = self.client.clone();
        match self.call(async move { client.read(query).await }) {
            Ok(entities) => entities,
            Err(e) => panic!("{}: {e}", self.name),
        }
    }

    /// Let frames in at ports, in order; everything that comes out because of them, in order port by port. The entries
    /// of [`world::plumbing`] must be there.
    #[track_caller]
    pub fn exchange(&self, frames: &[(u16, Vec<u8>)]) -> Frames {
        match lock(&self.wires).exchange(frames) {
            Ok(frames) => frames,
            Err(e) => panic!("{}: {e}", self.name),
        }
    }

    /// Let one frame in; everything that comes out because of it.
    #[track_caller]
    pub fn send(&self, port: u16, frame: &[u8]) -> Frames {
        self.exchange(&[(port, frame.to_vec())])
    }

    /// The wires, for a thread that sends while another one writes.
    pub fn wires(&self) -> Arc<Mutex<dyn Wires>> {
        self.wires.clone()
    }

    /// Take away all that earlier tests wrote (counters stay), and write the plumbing.
    pub fn reset(&mut self) {
        self.clear();
        self.insert(world::plumbing());
    }

    /// Take away all that earlier tests wrote. Counters stay.
    pub fn clear(&mut self) {
        let all = v1::TableEntry::default();
        let entries = self
            .read(vec![all.into()])
            .into_iter()
            .filter_map(|entity| match entity.entity {
                Some(Kind::TableEntry(entry)) if !entry.is_default_action => {
                    Some(v1::TableEntry { action: None, ..entry })
                }
                _ => None,
            });
        let metered = self.info.table("reasons").expect("a table of the program").preamble.id;
        let mut updates = Vec::new();
        for entry in entries {
            if entry.table_id == metered {
                // BMv2 gives a new entry the rates of an old one.
                updates.push(entity::modify(v1::DirectMeterEntry {
                    table_entry: Some(entry.clone()),
                    ..v1::DirectMeterEntry::default()
                }));
            }
            updates.push(entity::delete(entry));
        }
        let unlimited = |cell: v1::MeterEntry| entity::modify(v1::MeterEntry { config: None, ..cell });
        updates.extend(self.meters.drain(..).map(unlimited));
        self.write(updates);
    }
}

fn count(data: v1::CounterData) -> Count {
    Count {
        packets: data.packet_count,
        bytes: data.byte_count,
    }
}

/// A client that is primary, and whose program the target has.
fn primary(runtime: &Runtime, address: &str, device_id: u64, election_id: u64) -> Result<Client, String> {
    let options = Options {
        device_id,
        election_id: election_id.into(),
        ..Options::default()
    };
    let client = {
        let _inside = runtime.enter();
        Client::connect(address, options).map_err(|e| e.to_string())?.0
    };
    let started = {
        let client = client.clone();
        spawned(runtime, async move {
            client.primary(START).await?;
            let program = program::DEVICE_CONFIG.as_bytes().to_vec();
            client
                .set_pipeline(&program::p4info(), program, None, PipelineAction::VerifyAndCommit)
                .await
        })
    };
    started.map(|()| client).map_err(|e| e.to_string())
}

/// Run on the runtime's own threads: they may live in another network namespace than the caller.
fn spawned<T: Send + 'static>(runtime: &Runtime, future: impl Future<Output = T> + Send + 'static) -> T {
    match runtime.block_on(runtime.spawn(future)) {
        Ok(done) => done,
        Err(e) => panic!("a call to the target ended: {e}"),
    }
}

/// The lock, even if a test that held it has failed.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All targets at hand, started once for a test program; those that are not, and why.
struct AtHand {
    targets: Vec<Target>,
    missing: Vec<String>,
}

fn at_hand() -> AtHand {
    let mut found = AtHand {
        targets: Vec::new(),
        missing: Vec::new(),
    };
    for start in [embedded::start, bmv2::start, named::start] {
        match start() {
            Ok(target) => found.targets.push(target),
            Err(why) => found.missing.push(why),
        }
    }
    found
}

/// Run a test on every target at hand, one after another, each time from the plumbing. A target that is not there is
/// said to be skipped.
pub fn on_every_target(test: impl Fn(&mut Target)) {
    with_all_targets(|targets| {
        for target in targets {
            eprintln!("on {}:", target.name);
            target.reset();
            test(target);
        }
    });
}

/// Give a test all targets at hand together, as an earlier test left them.
pub fn with_all_targets(test: impl FnOnce(&mut [Target])) {
    static AT_HAND: LazyLock<Mutex<AtHand>> = LazyLock::new(|| Mutex::new(at_hand()));
    let mut at_hand = lock(&AT_HAND);
    for why in &at_hand.missing {
        println!("SKIPPED on {why}");
    }
    test(&mut at_hand.targets);
}
