//! The controller as a process of its own, killed and started again, over a real channel to a host played here.

mod smf;

use ipc::HostEnd;
use smf::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use upf_model::batch::{Change, FromHost, HostCounters, SessionUsage, ToHost};
use upf_model::{Session, SessionId};

const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);

/// What a host data plane does with messages, without any packets.
#[derive(Debug, Default)]
struct Tables {
    sessions: BTreeMap<SessionId, Session>,
    stale: Vec<SessionId>,
    synchronisations: usize,
    /// Before the next batch is looked at.
    delay: Duration,
    batches: usize,
}

struct Host {
    tables: Arc<Mutex<Tables>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    fn start(name: &str, instance: u64) -> Self {
        let (tables, stop) = (
            Arc::new(Mutex::new(Tables::default())),
            Arc::new(AtomicBool::new(false)),
        );
        let mut end = HostEnd::open(name).unwrap();
        let (shared, stopped) = (tables.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let hello = FromHost::Hello {
                host: instance,
                max_sessions: 100,
            };
            let _ = end.send(&hello);
            while !stopped.load(Ordering::SeqCst) {
                end.wait(Duration::from_millis(20));
                while let Ok(Some(message)) = end.try_receive() {
                    if matches!(message, ToHost::Apply { .. }) {
                        let delay = std::mem::take(&mut shared.lock().unwrap().delay);
                        std::thread::sleep(delay);
                    }
                    let answer = shared.lock().unwrap().take(message, &hello);
                    if let Some(answer) = answer {
                        let _ = end.send(&answer);
                    }
                }
            }
        });
        Self {
            tables,
            stop,
            thread: Some(thread),
        }
    }

    /// It answers the next batch later than anybody waits.
    fn is_late_once(&self) {
        self.tables.lock().unwrap().delay = Duration::from_millis(2_700);
    }

    /// Batches applied, and how often it was synchronised.
    fn done(&self) -> (usize, usize) {
        let tables = self.tables.lock().unwrap();
        (tables.batches, tables.synchronisations)
    }

    fn sessions(&self) -> Vec<Session> {
        self.tables.lock().unwrap().sessions.values().cloned().collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Tables {
    fn take(&mut self, message: ToHost, hello: &FromHost) -> Option<FromHost> {
        match message {
            ToHost::Hello { .. } => Some(hello.clone()),
            ToHost::SyncBegin => {
                self.stale = self.sessions.keys().copied().collect();
                None
            }
            ToHost::SyncEnd { seq } => {
                for id in std::mem::take(&mut self.stale) {
                    self.sessions.remove(&id);
                }
                self.synchronisations += 1;
                Some(FromHost::Applied {
                    seq,
                    error: None,
                    removed: Vec::new(),
                })
            }
            ToHost::Apply { seq, changes } => {
                self.batches += 1;
                let mut removed = Vec::new();
                for change in changes {
                    match change {
                        Change::Put { session, .. } => {
                            self.stale.retain(|id| *id != session.id);
                            self.sessions.insert(session.id, session);
                        }
                        Change::Remove { id } => {
                            if self.sessions.remove(&id).is_some() {
                                removed.push(SessionUsage {
                                    session: id,
                                    ..SessionUsage::default()
                                });
                            }
                        }
                    }
                }
                Some(FromHost::Applied {
                    seq,
                    error: None,
                    removed,
                })
            }
            ToHost::QueryUsage { seq, .. } => Some(FromHost::Usage {
                seq,
                sessions: Vec::new(),
            }),
            ToHost::QueryNeighbours => None,
            ToHost::QueryCounters { seq } => Some(FromHost::Counters {
                seq,
                counters: HostCounters::default(),
            }),
        }
    }
}

struct Controller(Child);

impl Controller {
    fn start(directory: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_upf-ctl"))
            .arg("--config")
            .arg(directory.join("upf.yaml"))
            .env("UPF_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(&mut self) {
        // SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a request again until it is answered, as an SMF does.
async fn ask_patiently(smf: &mut Smf, message_type: u8, seid: Option<u64>, elements: &[Vec<u8>]) -> Received {
    let datagram = smf.message(message_type, seid, elements);
    for _ in 0..100 {
        smf.send(&datagram).await;
        while let Some(answer) = smf.receive_within(Duration::from_millis(200)).await {
            if answer.sequence == smf.sequence && answer.message_type == message_type + 1 {
                return answer;
            }
        }
    }
    panic!("no answer");
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what}: not within five seconds");
}

#[tokio::test]
async fn sessions_survive_kill_9_of_either_process() {
    let (network, directory) = (network(), Directory::new());
    let address = host(network, 1);
    std::fs::write(directory.0.join("upf.yaml"), config_text(address, &directory.0)).unwrap();
    let name = format!("test-{}", address.to_string().replace('.', "-"));

    let host = Host::start(&name, 1);
    let mut controller = Controller::start(&directory.0);
    let mut smf = Smf::new(network).await;
    let setup = [smf.node_id(), smf.recovery_time_stamp()];
    let answer = ask_patiently(&mut smf, ASSOCIATION_SETUP_REQUEST, None, &setup).await;
    assert_eq!(answer.cause(), ACCEPTED);
    let recovery = answer.one(96);
    let mut seids = Vec::new();
    for n in 1..=10_u8 {
        let elements = smf.establishment(n.into(), Ipv4Addr::new(10, 61, 0, n));
        let answer = ask_patiently(&mut smf, ESTABLISHMENT_REQUEST, Some(0), &elements).await;
        assert_eq!(answer.cause(), ACCEPTED);
        seids.push(answer.up_seid());
    }
    let before = host.sessions();
    assert_eq!(before.len(), 10);

    // The controller is killed: the host keeps its sessions; the next controller has them too.
    controller.kill();
    assert_eq!(host.sessions(), before);
    let mut controller = Controller::start(&directory.0);
    let heartbeat = [smf.recovery_time_stamp()];
    let answer = ask_patiently(&mut smf, HEARTBEAT_REQUEST, None, &heartbeat).await;
    assert_eq!(answer.one(96), recovery);
    until("synchronised again", || {
        host.tables.lock().unwrap().synchronisations >= 2
    })
    .await;
    assert_eq!(host.sessions(), before);
    let change = smf.downlink(FORWARD, 5);
    assert_eq!(
        ask_patiently(&mut smf, MODIFICATION_REQUEST, Some(seids[0]), &[change])
            .await
            .cause(),
        ACCEPTED
    );

    // The host is gone: new rules are refused. It is filled again when it is back, without the SMF's help.
    let before = host.sessions();
    drop(host);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let elements = smf.establishment(11, UE);
    let answer = ask_patiently(&mut smf, ESTABLISHMENT_REQUEST, Some(0), &elements).await;
    assert_eq!(answer.cause(), SYSTEM_FAILURE);
    let host = Host::start(&name, 2);
    until("filled again", || host.sessions() == before).await;
    assert_eq!(
        ask_patiently(&mut smf, DELETION_REQUEST, Some(seids[1]), &[])
            .await
            .cause(),
        ACCEPTED
    );
    assert_eq!(host.sessions().len(), 9);
    controller.kill();
}

#[tokio::test]
async fn what_a_host_answers_too_late_is_refused_and_undone_there_without_a_synchronisation() {
    let (network, directory) = (network(), Directory::new());
    let address = host(network, 1);
    std::fs::write(directory.0.join("upf.yaml"), config_text(address, &directory.0)).unwrap();
    let name = format!("test-{}", address.to_string().replace('.', "-"));
    let host = Host::start(&name, 1);
    let _controller = Controller::start(&directory.0);
    let mut smf = Smf::new(network).await;
    let setup = [smf.node_id(), smf.recovery_time_stamp()];
    ask_patiently(&mut smf, ASSOCIATION_SETUP_REQUEST, None, &setup).await;
    until("synchronised", || host.done() == (0, 1)).await;

    // A setup: it takes effect after all, and is taken back.
    host.is_late_once();
    let elements = smf.establishment(1, UE);
    let answer = ask_patiently(&mut smf, ESTABLISHMENT_REQUEST, Some(0), &elements).await;
    assert_eq!(answer.cause(), SYSTEM_FAILURE);
    until("undone", || host.done() == (2, 1)).await;
    assert_eq!(host.sessions(), []);

    // The SMF asks again; its session's modification is late.
    let answer = ask_patiently(&mut smf, ESTABLISHMENT_REQUEST, Some(0), &elements).await;
    assert_eq!(answer.cause(), ACCEPTED);
    let (seid, before) = (answer.up_seid(), host.sessions());
    host.is_late_once();
    let change = smf.downlink(FORWARD, 5);
    let answer = ask_patiently(&mut smf, MODIFICATION_REQUEST, Some(seid), &[change]).await;
    assert_eq!(answer.cause(), SYSTEM_FAILURE);
    until("undone", || host.done() == (5, 1)).await;
    assert_eq!(host.sessions(), before);

    // A deletion is a deletion: the host follows when it can.
    host.is_late_once();
    let answer = ask_patiently(&mut smf, DELETION_REQUEST, Some(seid), &[]).await;
    assert_eq!(answer.cause(), ACCEPTED);
    until("followed", || host.done() == (6, 1)).await;
    assert_eq!(host.sessions(), []);
    let answer = ask_patiently(&mut smf, ESTABLISHMENT_REQUEST, Some(0), &elements).await;
    assert_eq!(answer.cause(), ACCEPTED);
    assert_eq!(host.done(), (7, 1), "nothing was put again that was there");
}
