//! Two processes, either of which is killed again and again.
//!
//! The children are this test binary itself: `child` does nothing unless the environment says what to be.

use ipc::{ControllerEnd, HostEnd, SendError};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use upf_model::SessionId;
use upf_model::batch::{FromHost, SessionUsage, ToHost};

const ROLE: &str = "IPC_TEST_ROLE";
const NAME: &str = "IPC_TEST_NAME";

struct Running(Child);

impl Running {
    fn start(role: &str, name: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["child", "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(NAME, name);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn child() {
    let Ok(name) = std::env::var(NAME) else { return };
    match std::env::var(ROLE).as_deref() {
        Ok("host") => echo(&name),
        Ok("controller") => converse(
            &mut ControllerEnd::open(&name).unwrap(),
            u64::MAX,
            Duration::from_secs(60),
        ),
        _ => {}
    }
}

/// A host that answers every query with as many usages, until it is killed.
fn echo(name: &str) {
    let mut host = HostEnd::open(name).unwrap();
    loop {
        host.wait(Duration::from_secs(1));
        while let Some(message) = host.try_receive().unwrap() {
            let ToHost::QueryUsage { seq, sessions } = message else {
                continue;
            };
            let usage = |session| SessionUsage {
                session,
                ..SessionUsage::default()
            };
            match host.send(&FromHost::Usage {
                seq,
                sessions: sessions.into_iter().map(usage).collect(),
            }) {
                Ok(()) | Err(SendError::NoPeer) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
}

/// Asks `rounds` times and checks every answer.
fn converse(controller: &mut ControllerEnd, rounds: u64, within: Duration) {
    let deadline = Instant::now() + within;
    let mut round = 0;
    while round < rounds {
        let sessions: Vec<SessionId> = (0..(round % 300) as u32).map(SessionId).collect();
        let peer = controller.peer_incarnation();
        match controller.send(&ToHost::QueryUsage {
            seq: round,
            sessions: sessions.clone(),
        }) {
            Ok(()) => {}
            Err(SendError::NoPeer) => {
                assert!(Instant::now() < deadline, "no host after {within:?}");
                controller.wait(Duration::from_millis(20));
                continue;
            }
            Err(e) => panic!("{e}"),
        }
        loop {
            assert!(Instant::now() < deadline, "no answer to {round} after {within:?}");
            if let Some(FromHost::Usage { seq, sessions: answer }) = controller.try_receive().unwrap() {
                assert_eq!((seq, answer.len()), (round, sessions.len()));
                round += 1;
                break;
            }
            controller.wait(Duration::from_millis(20));
            if controller.peer_incarnation() != peer {
                break;
            }
        }
    }
}

/// Delays that hit every phase of a start and of a conversation, the same in every run.
fn delays() -> impl Iterator<Item = Duration> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_micros(state % 30_000)
    })
}

fn name(test: &str) -> String {
    format!("test-{test}-{}", std::process::id())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/upf-{name}.channel", ipc::DEFAULT_DIRECTORY))
}

#[test]
fn two_processes_converse() {
    let name = name("converse");
    let host = Running::start("host", &name);
    converse(&mut ControllerEnd::open(&name).unwrap(), 2_000, Duration::from_secs(20));
    host.kill();
    drop(ControllerEnd::open(&name).unwrap());
    assert!(!path(&name).exists());
}

#[test]
fn a_host_killed_at_any_moment_is_missed_at_once_and_its_successor_serves() {
    let name = name("host-killed");
    let mut controller = ControllerEnd::open(&name).unwrap();
    for delay in delays().take(20) {
        let host = Running::start("host", &name);
        std::thread::sleep(delay);
        let _ = controller.send(&ToHost::Hello { controller: 1 });
        host.kill();
        assert!(!controller.peer_alive());
        assert_eq!(controller.send(&ToHost::SyncBegin), Err(SendError::NoPeer));
        let successor = Running::start("host", &name);
        converse(&mut controller, 50, Duration::from_secs(10));
        // `wait` notices the death by itself.
        while controller.wait(Duration::ZERO) {
            controller.try_receive().unwrap();
        }
        successor.kill();
        let killed = Instant::now();
        assert!(controller.wait(Duration::from_secs(5)), "death went unnoticed");
        assert!(killed.elapsed() < Duration::from_secs(1));
    }
    drop(controller);
    assert!(!path(&name).exists());
}

#[test]
fn a_controller_killed_at_any_moment_leaves_the_host_serving_its_successor() {
    let name = name("controller-killed");
    let host = Running::start("host", &name);
    for delay in delays().take(20) {
        let controller = Running::start("controller", &name);
        std::thread::sleep(delay);
        controller.kill();
        converse(&mut ControllerEnd::open(&name).unwrap(), 50, Duration::from_secs(10));
    }
    drop(host);
    drop(ControllerEnd::open(&name).unwrap());
    assert!(!path(&name).exists());
}

#[test]
fn both_killed_at_any_moment_leave_a_channel_that_works_again() {
    let name = name("both-killed");
    for delay in delays().take(20) {
        let (host, controller) = (Running::start("host", &name), Running::start("controller", &name));
        std::thread::sleep(delay);
        host.kill();
        controller.kill();
    }
    let host = Running::start("host", &name);
    converse(&mut ControllerEnd::open(&name).unwrap(), 100, Duration::from_secs(10));
    drop(host);
    drop(ControllerEnd::open(&name).unwrap());
    assert!(!path(&name).exists());
}
