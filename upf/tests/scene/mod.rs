//! What the end-to-end tests share: a lab with an SMF, a gNB and UEs in it, and the means to look at what came out.
//!
//! Labs of one test program stand one after the other; each test program of each checkout has a name of its own for
//! its labs, so that several may run at once. Everything is released when the scene is dropped, by a panic too.
#![allow(dead_code, reason = "each test program uses its part")]

use gnb_sim::{Gnb, TunnelReport, UeConfig};
use gtpu::GpduTemplate;
use nix::unistd::geteuid;
use serde_json::Value;
use smf_sim::{Established, ModificationSpec, Modified, SessionReport, SessionSpec, Smf, UeIps, UsageReport};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::broadcast::Receiver;
use upf::lab::traffic::ping;
use upf::lab::{DN, GNB, Lab, LabOptions, Resources, SMF_N4, Side, Target, UPF_N4};

/// How long something that should happen may take before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Labs of this process, one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The right to make labs of one name: of this process' tests by the mutex, of other runs by the locked file.
pub struct Alone {
    _tests: MutexGuard<'static, ()>,
    _runs: File,
}

/// IPv4 address of UE `n`.
pub const fn ue_v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 60, 0, n)
}

/// IPv6 address of UE `n`; its prefix is the /64 around it.
pub const fn ue_v6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd60, 0, 0, n as u16, 0, 0, 0, 1)
}

/// The gNB's TEID for UE `n`.
pub const fn dl_teid(n: usize) -> u32 {
    0x1000 + n as u32
}

/// A lab with an associated SMF and a gNB. Fields are dropped in order: the UPF's namespaces go last.
pub struct Scene {
    /// At [`GNB`].
    pub gnb: Gnb,
    /// Associated.
    pub smf: Smf,
    /// Session reports since the scene opened.
    pub reports: Receiver<SessionReport>,
    pub runtime: Runtime,
    pub lab: Lab,
    _alone: Alone,
}

/// A UE with a session.
pub struct Ue {
    pub number: usize,
    pub session: Established,
    /// Name in the gNB's reports.
    pub name: String,
}

/// The tests of these functions, each run with a P4 target in front of upf-host and with upf-host
/// alone.
#[allow(unused_macros, reason = "each test program uses its part")]
macro_rules! on_each_target {
    ($($test:ident),* $(,)?) => {
        mod p4_switch {
            $(#[test] fn $test() { super::$test(upf::lab::Target::P4Switch); })*
        }
        mod host_alone {
            $(#[test] fn $test() { super::$test(upf::lab::Target::None); })*
        }
    };
}

/// Whether a lab can be made here; if not, says so.
pub fn possible() -> bool {
    if !geteuid().is_root() {
        println!("SKIPPED: not root, and the lab is made of network namespaces");
        return false;
    }
    if !Path::new("/dev/net/tun").exists() {
        println!("SKIPPED: no /dev/net/tun, and UEs are TUN devices");
        return false;
    }
    true
}

/// Whether a program is installed; if not, says that the test is skipped.
pub fn installed(program: &str) -> bool {
    let found =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(program).exists()));
    if !found {
        println!("SKIPPED: {program} is not installed");
    }
    found
}

/// The `upf` program; the daemons lie beside it.
pub fn upf_program() -> &'static str {
    env!("CARGO_BIN_EXE_upf")
}

/// Where labs of this name keep their files: they stay after the test, to be looked at.
pub fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A lab's options: 3 UEs.
pub fn options(name: &str, target: Target) -> LabOptions {
    let programs = Path::new(upf_program()).parent().unwrap_or(Path::new("."));
    let target_program = (target == Target::P4Switch).then_some("p4-switch");
    for daemon in ["upf-host", "upf-ctl"].into_iter().chain(target_program) {
        assert!(
            programs.join(daemon).exists(),
            "{daemon} is not built: run `cargo build --workspace --bins` first"
        );
    }
    // Network namespaces are the machine's: another checkout's must have other names.
    let mut hasher = DefaultHasher::new();
    env!("CARGO_TARGET_TMPDIR").hash(&mut hasher);
    let name_here = format!("{name}-{:04x}", hasher.finish() as u16);
    LabOptions::new(&name_here, directory(name), 3, programs.to_owned(), target)
}

/// A lab alone, UPF running; none, said plainly, where none can be made.
pub fn lab(options: &LabOptions) -> Option<(Lab, Alone)> {
    if !possible() {
        return None;
    }
    let tests = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    std::fs::create_dir_all(&options.directory).unwrap();
    let runs = File::create(options.directory.join("lock")).unwrap();
    runs.lock().unwrap();
    let alone = Alone {
        _tests: tests,
        _runs: runs,
    };
    let lab = Lab::start(options, Arc::new(Resources::default())).unwrap_or_else(|error| panic!("{error}"));
    Some((lab, alone))
}

impl Scene {
    /// The usual scene; none, said plainly, where it cannot be made.
    pub fn open(name: &str, target: Target) -> Option<Self> {
        Self::open_with(&options(name, target))
    }

    /// A scene in a lab of these options.
    pub fn open_with(options: &LabOptions) -> Option<Self> {
        let (lab, alone) = lab(options)?;
        Some(Self::inside(lab, alone))
    }

    /// A scene in a lab that stands already.
    pub fn inside(lab: Lab, alone: Alone) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let smf = lab.namespaces.within(Side::Smf, || {
            runtime.block_on(Smf::connect(SMF_N4, UPF_N4, SMF_N4.ip()))
        });
        let smf = smf.unwrap().unwrap();
        runtime
            .block_on(smf.associate())
            .unwrap_or_else(|error| panic!("association: {error}"));
        let gnb = lab.gnb(GNB).unwrap();
        Self {
            reports: smf.reports(),
            gnb,
            smf,
            runtime,
            lab,
            _alone: alone,
        }
    }

    /// Establish a session, its parts within the lab's network instances.
    pub fn establish(&self, spec: SessionSpec) -> Established {
        let spec = spec.with_network_instances("access", "internet");
        self.runtime
            .block_on(self.smf.establish(&spec))
            .unwrap_or_else(|error| panic!("establishment: {error}"))
    }

    /// Establish the session of UE `number` and attach the UE to the gNB.
    pub fn attach(&self, number: usize, addresses: &[IpAddr], spec: SessionSpec) -> Ue {
        self.attach_to(&self.gnb, number, addresses, spec)
    }

    /// As [`Self::attach`], to another gNB.
    pub fn attach_to(&self, gnb: &Gnb, number: usize, addresses: &[IpAddr], spec: SessionSpec) -> Ue {
        let session = self.establish(spec);
        let uplink = session.uplink_teid().expect("an uplink TEID chosen by the UPF");
        let name = self.lab.namespaces.name(Side::Ue(number));
        gnb.add_ue(UeConfig::in_netns(&name, addresses, uplink, dl_teid(number), 9))
            .unwrap();
        Ue { number, session, name }
    }

    /// UE `number` with an IPv4 address and the usual session.
    pub fn attach_v4(&self, number: u8) -> Ue {
        let n = usize::from(number);
        let spec = SessionSpec::basic(UeIps::v4(ue_v4(number)), GNB.into(), dl_teid(n));
        self.attach(n, &[ue_v4(number).into()], spec)
    }

    pub fn modify(&self, ue: &Ue, spec: &ModificationSpec) -> Modified {
        let modified = self.runtime.block_on(self.smf.modify(ue.session.up_seid, spec));
        modified.unwrap_or_else(|error| panic!("modification: {error}"))
    }

    pub fn delete(&self, ue: &Ue) -> Vec<UsageReport> {
        let deleted = self.runtime.block_on(self.smf.delete(ue.session.up_seid));
        deleted.unwrap_or_else(|error| panic!("deletion: {error}"))
    }

    /// The next session report; panics after [`PATIENCE`].
    pub fn next_report(&mut self, what: &str) -> SessionReport {
        let next = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.reports.recv()).await });
        next.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
            .unwrap()
    }

    /// What the gNB counted for a UE's newest tunnel.
    pub fn tunnel(&self, ue: &Ue) -> TunnelReport {
        self.gnb.counters().ue(&ue.name).unwrap().clone()
    }

    /// An answer of upf-ctl.
    pub fn ask(&self, path: &str) -> Value {
        ask(&self.lab, path)
    }

    /// How many packets have been dropped for this reason, by upf-host and by the P4 target.
    pub fn drops(&self, reason: &str) -> u64 {
        let counters = self.ask("/v1/counters");
        let of_target = counters["p4"]["drops"].as_array().into_iter().flatten();
        let of_target = of_target
            .filter(|pair| pair[0] == reason)
            .filter_map(|pair| pair[1]["packets"].as_u64());
        counted(&counters["host"]["drops"], reason) + of_target.sum::<u64>()
    }

    /// How often upf-host says that this happened.
    pub fn events(&self, event: &str) -> u64 {
        counted(&self.ask("/v1/counters")["host"]["events"], event)
    }

    /// A pair of UDP sockets: in the data network and at the UE, each knowing the other.
    pub fn udp_pair(&self, ue: usize, dn: IpAddr, at: IpAddr, port: u16) -> (UdpSocket, UdpSocket) {
        let of_dn = self.lab.udp(Side::Dn, (dn, port)).unwrap();
        let of_ue = self.lab.udp(Side::Ue(ue), (at, port)).unwrap();
        of_dn.connect((at, port)).unwrap();
        of_ue.connect((dn, port)).unwrap();
        (of_dn, of_ue)
    }
}

/// An answer of a lab's upf-ctl.
pub fn ask(lab: &Lab, path: &str) -> Value {
    lab.client().get(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The number beside a name in a list of pairs; packets where there are bytes too.
fn counted(pairs: &Value, name: &str) -> u64 {
    let pair = pairs.as_array().into_iter().flatten().find(|pair| pair[0] == name);
    let value = &pair.unwrap_or_else(|| panic!("nothing is counted under {name:?}"))[1];
    value.as_u64().or_else(|| value["packets"].as_u64()).unwrap()
}

/// Wait until something holds; panics after [`PATIENCE`].
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Five echo requests in a row are answered, now or soon. Whether *nothing at all* is lost is for [`send_numbers`] and
/// [`receive_numbers`] to tell, which wait for packets that a busy machine delays; ping does not.
pub fn assert_reaches(lab: &Lab, from: Side, to: impl Into<IpAddr>) {
    let to = to.into();
    eventually(&format!("{from:?} reaches {to}"), || {
        ping(lab, from, to, 5, 0.02).is_ok_and(|p| (p.sent, p.received) == (5, 5))
    });
}

/// Send a datagram holding each of these numbers, one each `gap`.
pub fn send_numbers(from: &UdpSocket, numbers: std::ops::Range<u32>, gap: Duration) {
    for number in numbers {
        from.send(&number.to_be_bytes()).unwrap();
        std::thread::sleep(gap);
    }
}

/// Receive numbers until `last` came or nothing more does.
pub fn receive_numbers(at: &UdpSocket, last: u32) -> Vec<u32> {
    let mut received = Vec::new();
    let mut datagram = [0; 2048];
    while received.last() != Some(&last) {
        let Ok(length) = at.recv(&mut datagram) else { break };
        received.push(u32::from_be_bytes(datagram[..length].try_into().expect("a number")));
    }
    received
}

/// Where a socket is.
pub fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

/// A G-PDU with a UDP datagram of a UE to the data network.
pub fn uplink_gpdu(teid: u32, ue: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4(ue.octets(), DN.octets(), 64).udp(7000, 7000);
    let mut inner = Vec::new();
    builder.write(&mut inner, payload).unwrap();
    let template = GpduTemplate::uplink(teid, 9);
    let mut message = vec![0; template.len()];
    template.write(&mut message, inner.len()).unwrap();
    message.extend(inner);
    message
}
