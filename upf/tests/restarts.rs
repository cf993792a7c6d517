//! Either daemon dies at any time: what it had been told stays true, and the SMF has nothing to do about it.

#[macro_use]
mod scene;

use etherparse::SlicedPacket;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scene::{Scene, assert_reaches, eventually, receive_numbers, send_numbers, ue_v4, uplink_gpdu};
use smf_sim::rules::Gate;
use smf_sim::session::SESSION_QER;
use smf_sim::{ModificationSpec, SessionSpec, UeIps};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use upf::client::Client;
use upf::lab::traffic::ping;
use upf::lab::{DN, Daemon, GNB2, Side, Target, UPF_N3};

/// This program's labs.
const NAME: &str = "t-rst";

on_each_target! {
    killing_the_controller_loses_no_packet_and_no_session,
    a_killed_data_plane_forwards_for_all_sessions_again_within_two_seconds_of_its_restart,
    a_killed_data_plane_reports_what_was_used_before_and_after,
    upf_run_starts_a_killed_daemon_again_and_ends_all_with_itself,
}
/// Sessions of the test that counts them all.
const MANY: u32 = 200;

fn many_ue(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 60, 10, 0)) + n)
}

fn killing_the_controller_loses_no_packet_and_no_session(on: Target) {
    let Some(mut scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    scene.attach_v4(2);
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    send_numbers(&dn, 0..1, Duration::ZERO);
    assert_eq!(receive_numbers(&at_ue, 0), [0], "next hops are known before it starts");
    let sessions = scene.ask("/v1/sessions");
    let rules = scene.ask(&format!("/v1/sessions/{:#x}", ue.session.up_seid))["rules"].clone();
    let started = scene.runtime.block_on(scene.smf.heartbeat()).unwrap();

    let gap = Duration::from_millis(5);
    let (downlink, uplink) = std::thread::scope(|scope| {
        scope.spawn(|| send_numbers(&at_ue, 0..600, gap));
        scope.spawn(|| send_numbers(&dn, 0..600, gap));
        let downlink = scope.spawn(|| receive_numbers(&at_ue, 599));
        let uplink = scope.spawn(|| receive_numbers(&dn, 599));
        std::thread::sleep(Duration::from_millis(700));
        scene.lab.daemons.kill(Daemon::Ctl);
        std::thread::sleep(Duration::from_millis(700));
        scene.lab.daemons.start(Daemon::Ctl).unwrap();
        scene.lab.daemons.wait_ready().unwrap();
        (downlink.join().unwrap(), uplink.join().unwrap())
    });
    assert_eq!(
        downlink,
        (0..600).collect::<Vec<_>>(),
        "downlink while upf-ctl was away"
    );
    assert_eq!(uplink, (0..600).collect::<Vec<_>>(), "uplink while upf-ctl was away");

    assert_eq!(scene.ask("/v1/sessions"), sessions);
    assert_eq!(
        scene.ask(&format!("/v1/sessions/{:#x}", ue.session.up_seid))["rules"],
        rules
    );
    let now = scene.runtime.block_on(scene.smf.heartbeat()).unwrap();
    assert_eq!(
        now, started,
        "the Recovery Time Stamp changes only when sessions are lost (TS 23.007)"
    );
    // The association stands, old sessions can be changed, new ones made, and addresses in use stay in use.
    scene.modify(&ue, &ModificationSpec::gate(SESSION_QER, Gate::Closed, Gate::Closed));
    assert_eq!(ping(&scene.lab, Side::Ue(1), DN.into(), 2, 0.05).unwrap().received, 0);
    scene.modify(&ue, &ModificationSpec::gate(SESSION_QER, Gate::Open, Gate::Open));
    let third = scene.attach_v4(3);
    assert_ne!(third.session.uplink_teid(), ue.session.uplink_teid());
    for number in [1, 3] {
        assert_reaches(&scene.lab, Side::Ue(number), DN);
    }
    let usage = scene.delete(&ue);
    let tunnel = scene.tunnel(&ue);
    let volume = usage[0].volume.unwrap();
    let (uplink, downlink) = (volume.uplink.unwrap(), volume.downlink.unwrap());
    assert!(uplink <= tunnel.uplink.bytes, "{volume:?}");
    if on == Target::None {
        assert!(uplink >= 600 * 32, "{volume:?}");
        assert_eq!(downlink, tunnel.downlink.bytes, "the bill goes on over the restart");
    } else {
        // What the target counted while there was no upf-ctl is nobody's: at least the rest is there, and not twice.
        assert!((300 * 32..=tunnel.downlink.bytes).contains(&downlink), "{volume:?}");
    }
}

/// A gNB without UEs: it speaks for all of them.
struct ManyUes {
    n3: UdpSocket,
    dn: UdpSocket,
    uplink_teids: Vec<u32>,
}

impl ManyUes {
    fn send_uplink(&self) {
        for (ue, &teid) in (0..).zip(&self.uplink_teids) {
            let message = uplink_gpdu(teid, many_ue(ue), &ue.to_be_bytes());
            self.n3.send_to(&message, (UPF_N3, 2152)).unwrap();
        }
    }

    fn send_downlink(&self) {
        for ue in 0..MANY {
            self.dn.send_to(&ue.to_be_bytes(), (many_ue(ue), 7000)).unwrap();
        }
    }

    /// The UEs whose packets have come to the data network since it was last looked.
    fn arrived_uplink(&self, into: &mut BTreeSet<u32>) {
        let mut datagram = [0; 64];
        while let Ok((4, from)) = self.dn.recv_from(&mut datagram) {
            let ue = u32::from_be_bytes(datagram[..4].try_into().unwrap());
            assert_eq!(from.ip(), many_ue(ue));
            into.insert(ue);
        }
    }

    /// The UEs for whom packets have come to the gNB, each in its own tunnel.
    fn arrived_downlink(&self, into: &mut BTreeSet<u32>) {
        let mut message = [0; 256];
        while let Ok(length) = self.n3.recv(&mut message) {
            // Error Indications would make a gNB release tunnels that are good.
            let gpdu = gtpu::parse_gpdu(&message[..length]).expect("nothing but G-PDUs");
            let inner = SlicedPacket::from_ip(&message[gpdu.header_len..length]).unwrap();
            let Some(etherparse::TransportSlice::Udp(udp)) = inner.transport else {
                panic!("{inner:?}")
            };
            let ue = u32::from_be_bytes(udp.payload().try_into().unwrap());
            assert_eq!(gpdu.teid, 0x5000 + ue);
            into.insert(ue);
        }
    }
}

fn a_killed_data_plane_forwards_for_all_sessions_again_within_two_seconds_of_its_restart(on: Target) {
    let Some(mut scene) = Scene::open(NAME, on) else { return };
    let n3 = scene.lab.udp(Side::Gnb, (GNB2, 2152)).unwrap();
    let dn = scene.lab.udp(Side::Dn, (DN, 7000)).unwrap();
    for socket in [&n3, &dn] {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    }
    let establish = |ue| {
        let spec = SessionSpec::basic(UeIps::v4(many_ue(ue)), GNB2.into(), 0x5000 + ue);
        scene.establish(spec).uplink_teid().unwrap()
    };
    let ues = ManyUes {
        uplink_teids: (0..MANY).map(establish).collect(),
        n3,
        dn,
    };
    let all: BTreeSet<u32> = (0..MANY).collect();
    let (mut up, mut down) = (BTreeSet::new(), BTreeSet::new());
    eventually("all sessions forward both ways", || {
        ues.send_uplink();
        ues.send_downlink();
        ues.arrived_uplink(&mut up);
        ues.arrived_downlink(&mut down);
        (&up, &down) == (&all, &all)
    });

    // Three attempts: a machine that does other things takes its time to start any process.
    let restart = |_| {
        scene.lab.daemons.kill(Daemon::Host);
        // What was on its way has arrived.
        ues.arrived_uplink(&mut up);
        ues.arrived_downlink(&mut down);
        (up, down) = (BTreeSet::new(), BTreeSet::new());
        let restarted = Instant::now();
        scene.lab.daemons.start(Daemon::Host).unwrap();
        eventually("all sessions forward both ways again", || {
            ues.send_uplink();
            ues.send_downlink();
            ues.arrived_uplink(&mut up);
            ues.arrived_downlink(&mut down);
            (&up, &down) == (&all, &all)
        });
        restarted.elapsed()
    };
    let took: Vec<Duration> = (0..3).map(restart).collect();
    println!("{MANY} sessions forward again after the restart of upf-host: {took:?}");
    assert!(took.iter().min() < Some(&Duration::from_secs(2)), "they took {took:?}");
    assert_eq!(scene.ask("/v1/status")["sessions"], MANY);
    let messages = scene
        .lab
        .run(Side::Upf, &["curl", "-s", "http://127.0.0.1:9090/metrics"])
        .unwrap();
    let established = messages
        .lines()
        .find(|l| l.contains("received") && l.contains("SessionEstablishmentRequest"));
    assert!(
        established.is_some_and(|l| l.ends_with(&format!(" {MANY}"))),
        "without the SMF's help: {established:?}"
    );
}

fn a_killed_data_plane_reports_what_was_used_before_and_after(on: Target) {
    let Some(mut scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    assert_reaches(&scene.lab, Side::Ue(1), DN);
    // upf-ctl learns what is used when it asks.
    let asked = scene.modify(&ue, &ModificationSpec::query_all()).usage[0]
        .volume
        .unwrap()
        .downlink
        .unwrap();
    scene.lab.daemons.kill(Daemon::Host);
    scene.lab.daemons.start(Daemon::Host).unwrap();
    assert_reaches(&scene.lab, Side::Ue(1), DN);
    let usage = scene.delete(&ue)[0].volume.unwrap().downlink.unwrap();
    assert_eq!(asked + usage, scene.tunnel(&ue).downlink.bytes, "both reports together");
}

/// The process that runs this program as a child of `parent`.
fn child(parent: Pid, program: &str) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.map(Pid::from_raw).find(|pid| {
        std::fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.file_name() == Path::new(program).file_name())
    })
}

fn upf_run_starts_a_killed_daemon_again_and_ends_all_with_itself(on: Target) {
    let Some(mut scene) = Scene::open(NAME, on) else { return };
    scene.attach_v4(1);
    for &daemon in scene.lab.daemons.all().iter().rev() {
        scene.lab.daemons.kill(daemon);
    }
    let config = scene.lab.daemons.configuration().display().to_string();
    let mut command = vec![scene::upf_program(), "run", "--config", &config];
    let mut programs = vec!["upf-host", "upf-ctl"];
    if on == Target::P4Switch {
        command.extend(["--with-p4-switch", "-i", "1@n3", "-i", "2@n6", "-i", "3@punt0"]);
        programs.push("p4-switch");
    }
    let supervisor = scene.lab.spawn(Side::Upf, &command, "run.log").unwrap();
    let client = Client::new(&scene.lab.daemons.socket());
    let ready = || {
        client
            .get("/v1/status")
            .is_ok_and(|s| s["planes"].as_array().unwrap().iter().all(|p| p["state"] == "ready") && s["sessions"] == 1)
    };
    eventually("all run, with the session of before", ready);
    assert_reaches(&scene.lab, Side::Ue(1), DN);
    for &program in &programs {
        let first = child(supervisor, program).unwrap_or_else(|| panic!("no {program} under upf run"));
        kill(first, Signal::SIGKILL).unwrap();
        eventually("another in its place", || {
            child(supervisor, program).is_some_and(|pid| pid != first)
        });
        eventually("it has the session", ready);
        assert_reaches(&scene.lab, Side::Ue(1), DN);
    }
    let all: Vec<Pid> = programs
        .iter()
        .map(|program| child(supervisor, program).unwrap())
        .collect();
    scene.lab.signal(supervisor, Signal::SIGTERM);
    for pid in all {
        assert!(kill(pid, None).is_err(), "{pid} outlives its supervisor");
    }
}

#[test]
fn a_killed_p4_target_is_programmed_again_and_forwards_by_itself() {
    let Some(mut scene) = Scene::open(NAME, Target::P4Switch) else {
        return;
    };
    let ue = scene.attach_v4(1);
    let path = format!("/v1/sessions/{:#x}", ue.session.up_seid);
    assert_reaches(&scene.lab, Side::Ue(1), DN);
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    scene.lab.daemons.kill(Daemon::Target);
    dn.send(b"lost").unwrap();
    scene.lab.daemons.start(Daemon::Target).unwrap();
    let fast = |scene: &Scene| {
        let session = scene.ask(&path);
        let pdrs = session["counters"]["p4"]["pdrs"].as_array().into_iter().flatten();
        pdrs.filter_map(|pdr| pdr[1]["packets"].as_u64()).sum::<u64>()
    };
    eventually("the target has the session again", || {
        send_numbers(&at_ue, 0..1, Duration::ZERO);
        fast(&scene) > 0
    });
    assert_reaches(&scene.lab, Side::Ue(1), DN);
    assert_reaches(&scene.lab, Side::Dn, ue_v4(1));
}
