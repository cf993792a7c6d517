//! The P4 plane over real P4Runtime servers: `p4-switch` and BMv2, where they are installed, or the server that
//! `UPF_P4_TARGET` names. Where there is none, these tests do nothing.
//!
//! `p4-switch` is looked for beside the test (`target/debug`), where `UPF_P4_SWITCH` says, and on PATH.

mod placement_support;

use placement_support::*;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use upf_config::{Config, P4Program};
use upf_ctl::planes::p4::P4Plane;
use upf_ctl::planes::p4::runtime::RuntimeTarget;
use upf_ctl::planes::{DataPlane, PlaneEvent, PlaneState};
use upf_model::batch::{Change, Event, Flow, FlowPacket, Neighbour};
use upf_model::{Epoch, PdrId, Session, SessionId};

/// A server that ends with the test.
struct Server {
    name: &'static str,
    process: Option<Child>,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn p4_switch() -> Option<PathBuf> {
    let told = std::env::var_os("UPF_P4_SWITCH").map(PathBuf::from);
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.parent()?.join("p4-switch")));
    told.or(beside.filter(|file| file.is_file()))
        .or_else(|| on_path("p4-switch"))
}

fn servers() -> Vec<Server> {
    let mut servers = Vec::new();
    if let Some(address) = std::env::var("UPF_P4_TARGET").ok().and_then(|a| a.parse().ok()) {
        servers.push(Server {
            name: "UPF_P4_TARGET",
            process: None,
            address,
        });
    }
    let programs = [("p4-switch", p4_switch()), ("BMv2", on_path("simple_switch_grpc"))];
    for (name, program) in programs {
        let Some(program) = program else { continue };
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let process = Command::new(program)
            .args([
                "--no-p4",
                "--device-id",
                "0",
                "--",
                "--grpc-server-addr",
                &free.to_string(),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match process {
            Ok(process) => servers.push(Server {
                name,
                process: Some(process),
                address: free,
            }),
            Err(error) => eprintln!("{name} does not start: {error}"),
        }
    }
    servers
}

fn config_of(server: &Server, election_id: u64) -> Config {
    let mut config = config();
    let p4 = config.p4.as_mut().unwrap();
    p4.target = server.address;
    p4.election_id = election_id;
    let compiled = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../p4/compiled");
    p4.program = Some(P4Program {
        device_config: compiled.join("upf-small.json"),
        p4info: compiled.join("upf-small.p4info.bin"),
    });
    config
}

async fn start(server: &Server, election_id: u64, sessions: &[Session]) -> (P4Plane, UnboundedReceiver<PlaneEvent>) {
    let config = config_of(server, election_id);
    let target = RuntimeTarget::new(config.p4.as_ref().unwrap()).unwrap();
    let (events, receiver) = upf_ctl::plane_events();
    let plane = P4Plane::start(&config, target, 1, events).unwrap();
    plane.synchronise(Box::new(sessions.iter().cloned())).await.unwrap();
    let ready = async {
        while plane.state() != PlaneState::Ready {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready)
        .await
        .unwrap_or_else(|_| panic!("{} was never synchronised", server.name));
    (plane, receiver)
}

/// Sessions of all kinds, with identifiers and keys of their own.
fn random_sessions(count: u32) -> Vec<Session> {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut sessions = Vec::new();
    for id in 0..count {
        let mut session = session(6).new_tree(&mut runner).unwrap().current();
        session.id = SessionId(id);
        session.seid = upf_model::Seid(id.into());
        for pdr in &mut session.pdrs {
            if let Some(tunnel) = &mut pdr.pdi.local_fteid {
                tunnel.teid.0 += id * 16;
            }
            if let Some(ue) = &mut pdr.pdi.ue_ip {
                *ue = moved(*ue, id);
            }
        }
        for ue in &mut session.ue_ips {
            *ue = moved(*ue, id);
        }
        sessions.push(session);
    }
    sessions
}

fn moved(ue: upf_model::UeIpAddress, id: u32) -> upf_model::UeIpAddress {
    upf_model::UeIpAddress {
        ipv4: ue.ipv4.map(|a| Ipv4Addr::from_bits(a.to_bits() + id * 16)),
        ipv6: ue.ipv6.and_then(|p| {
            let moved = p.addr().to_bits() + (u128::from(id * 16) << 64);
            upf_model::Ipv6Prefix::new(moved.into(), p.len())
        }),
    }
}

fn put(session: &Session) -> Change {
    Change::Put {
        session: session.clone(),
        end_markers: Vec::new(),
        discard_buffered: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_servers_take_every_entry_and_give_it_back_as_it_was() {
    for server in servers() {
        let sessions = random_sessions(60);
        let (plane, _events) = start(&server, 1, &sessions[..40]).await;
        plane.happened(&Event::Neighbour(Neighbour {
            port: 0,
            addr: "192.0.2.50".parse().unwrap(),
            mac: [2, 0, 0, 0, 0, 50],
        }));
        plane.apply(sessions[40..].iter().map(put).collect()).await.unwrap();
        // Each becomes another one.
        for (session, like) in sessions.iter().zip(sessions.iter().skip(1)) {
            let mut next = session.clone();
            next.fars.clone_from(&like.fars);
            next.qers.clone_from(&like.qers);
            plane.apply(vec![put(&next)]).await.unwrap();
        }
        for session in &sessions {
            let Some(ue) = session.ue_ips.first().and_then(|ue| ue.ipv4) else {
                continue;
            };
            for (uplink, remote) in [(true, "8.8.8.8"), (false, "8.8.8.9"), (false, "9.9.9.9")] {
                plane.happened(&Event::Flow(Flow {
                    session: session.id,
                    epoch: Epoch(0),
                    pdr: PdrId(0),
                    packet: FlowPacket {
                        uplink,
                        remote: remote.parse().unwrap(),
                        ue: ue.into(),
                        protocol: 17,
                        ports: Some((53, 4_000)),
                        tos: 0,
                        qfi: None,
                    },
                }));
            }
        }
        plane.apply(vec![Change::Remove { id: SessionId(3) }]).await.unwrap();
        let usage = plane.usage((0..60).map(SessionId).collect()).await.unwrap();
        assert_eq!(usage.len(), 59, "{}", server.name);
        plane.counters().await.unwrap();
        // Long enough for a look at every entry: one that is not as it was written means a synchronisation.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let figures = plane.figures().unwrap();
        assert_eq!(
            (figures.synchronisations, figures.failed_updates),
            (1, 0),
            "{}: {figures:?}",
            server.name
        );
        assert!(figures.promotions > 0, "{}", server.name);
        eprintln!(
            "{}: {} updates, latency {:?}",
            server.name, figures.updates, figures.write_latency
        );

        // Another controller takes over: what is there already is kept.
        drop(plane);
        let (plane, _events) = start(&server, 2, &[]).await;
        let figures = plane.figures().unwrap();
        assert!(
            figures.differences > 0,
            "{}: the sessions of before are gone",
            server.name
        );
        drop(plane);
        let (plane, _events) = start(&server, 3, &[]).await;
        let figures = plane.figures().unwrap();
        assert_eq!(figures.differences, 0, "{}: {figures:?}", server.name);
    }
}
