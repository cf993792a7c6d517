//! [`Gnb`]: a running gNB, its UEs, and handover between two of them.

use crate::downlink::{DownlinkTunnel, Downlinks};
use crate::monitoring::Monitor;
use crate::namespace::within;
use crate::report::{DownlinkCounters, GnbReport, PathCounters, TunnelReport, UplinkCounters};
use crate::tun::Tun;
use crate::uplink::{UplinkTunnel, Uplinks};
use crate::{GnbConfig, GnbError, UeConfig};
use gtpu::GpduTemplate;
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Socket buffers: some milliseconds of packets at full speed, octets.
const SOCKET_BUFFER: usize = 8 << 20;
/// How long a thread sleeps before it looks whether to stop.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// The N3 tunnel of a UE at the gNB it is handed over to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewTunnel {
    /// The target gNB's TEID, for downlink packets.
    pub teid_dl: u32,
    /// The UPF's TEID for uplink packets; none: as before.
    pub teid_ul: Option<u32>,
    /// The UPF's address; none: as before.
    pub upf: Option<SocketAddr>,
}

/// A running gNB. Dropping it stops its threads and removes the TUN devices of the UEs it serves.
pub struct Gnb {
    bind: SocketAddr,
    upf: SocketAddr,
    shared: Arc<Shared>,
    tunnels: Mutex<Vec<Tunnel>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads use.
struct Shared {
    socket: UdpSocket,
    uplinks: Uplinks,
    downlinks: Downlinks,
    counters: PathCounters,
    stop: AtomicBool,
}

/// One UE's tunnel, served or handed over.
struct Tunnel {
    ue: String,
    teid_ul: u32,
    teid_dl: u32,
    qfi: u8,
    uplink: Arc<UplinkTunnel>,
    downlink: Arc<DownlinkTunnel>,
    /// In [`Uplinks`]; none once the UE is elsewhere.
    serving: Option<u64>,
}

impl Gnb {
    /// Opens the N3 socket, makes the UEs' TUN devices, starts the two threads. Packets flow when it returns.
    ///
    /// # Errors
    /// An address, a namespace or a device cannot be had; then nothing is left behind.
    pub fn start(config: GnbConfig) -> Result<Self, GnbError> {
        let bind = config.bind;
        let socket = within(config.netns.as_deref(), || UdpSocket::bind(bind))?
            .and_then(|socket| socket.set_read_timeout(Some(STOP_CHECK)).map(|()| socket))
            .map_err(|source| GnbError::Bind { addr: bind, source })?;
        // Smaller buffers only lose more packets under load: not being root is no error here.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER);
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER);
        let local = socket
            .local_addr()
            .map_err(|source| GnbError::Bind { addr: bind, source })?;
        let shared = Arc::new(Shared {
            socket,
            uplinks: Uplinks::new()?,
            downlinks: Downlinks::new(local, config.upf),
            counters: PathCounters::default(),
            stop: AtomicBool::new(false),
        });
        let mut gnb = Self {
            bind: local,
            upf: config.upf,
            shared,
            tunnels: Mutex::default(),
            threads: Vec::new(),
        };
        for ue in config.ues {
            gnb.add_ue(ue)?;
        }
        gnb.spawn("gnb-uplink", |s| s.uplinks.run(&s.socket, &s.stop))?;
        gnb.spawn("gnb-downlink", |s| s.downlinks.run(&s.socket, &s.counters, &s.stop))?;
        Ok(gnb)
    }

    fn spawn(&mut self, name: &str, work: fn(&Shared)) -> Result<(), GnbError> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&shared))
            .map_err(|source| GnbError::system("cannot start a thread", source))?;
        self.threads.push(thread);
        Ok(())
    }

    fn tunnels(&self) -> MutexGuard<'_, Vec<Tunnel>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The N3 address, with the port that the kernel chose if none was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.bind
    }

    /// Makes another UE and serves it; its TUN device's name.
    ///
    /// # Errors
    /// A name or TEID that is taken; a namespace or device that cannot be had.
    pub fn add_ue(&self, ue: UeConfig) -> Result<String, GnbError> {
        if self.tunnels().iter().any(|t| t.ue == ue.name && t.serving.is_some()) {
            return Err(GnbError::DuplicateUe(ue.name));
        }
        let tun = Arc::new(Tun::for_ue(&ue)?);
        let name = tun.name().to_owned();
        let upf = ue.upf.unwrap_or(self.upf);
        let monitor = Monitor::new(ue.teid_ul, upf, ue.qfi, ue.air);
        self.serve(ue.name, tun, ue.teid_ul, ue.teid_dl, ue.qfi, upf, monitor)?;
        Ok(name)
    }

    fn serve(
        &self,
        ue: String,
        tun: Arc<Tun>,
        teid_ul: u32,
        teid_dl: u32,
        qfi: u8,
        upf: SocketAddr,
        monitor: Monitor,
    ) -> Result<(), GnbError> {
        let monitor = Arc::new(monitor);
        let downlink = Arc::new(DownlinkTunnel {
            tun: Arc::clone(&tun),
            counters: DownlinkCounters::default(),
            monitor: Arc::clone(&monitor),
        });
        let template = GpduTemplate::uplink(teid_ul, qfi);
        let uplink = Arc::new(UplinkTunnel {
            tun,
            upf,
            template,
            monitor,
            counters: UplinkCounters::default(),
        });
        if !self.shared.downlinks.add(teid_dl, &downlink) {
            return Err(GnbError::DuplicateTeid(teid_dl));
        }
        let token = self
            .shared
            .uplinks
            .add(&uplink)
            .inspect_err(|_| self.shared.downlinks.remove(teid_dl))?;
        self.tunnels().push(Tunnel {
            ue,
            teid_ul,
            teid_dl,
            qfi,
            uplink,
            downlink,
            serving: Some(token),
        });
        Ok(())
    }

    /// Handover: `target` serves the UE from now on. The old tunnel stays open here for what is still on its way,
    /// which reaches the UE as if forwarded over Xn, and for the End Marker; [`Self::close_tunnel`] ends that.
    ///
    /// # Errors
    /// No such UE here; a TEID that `target` uses already (then the UE stays here).
    pub fn move_ue(&self, name: &str, target: &Gnb, tunnel: NewTunnel) -> Result<(), GnbError> {
        let mut tunnels = self.tunnels();
        let from = tunnels
            .iter_mut()
            .find(|t| t.ue == name && t.serving.is_some())
            .ok_or_else(|| GnbError::NoSuchUe(name.to_owned()))?;
        let (tun, old_upf) = (Arc::clone(&from.uplink.tun), from.uplink.upf);
        let (teid_ul, qfi) = (tunnel.teid_ul.unwrap_or(from.teid_ul), from.qfi);
        let token = from.serving.take();
        if let Some(token) = token {
            self.shared.uplinks.remove(token);
        }
        let uplink = Arc::clone(&from.uplink);
        // The target may be this very gNB (a new tunnel at the same cell): its list must not be held.
        drop(tunnels);
        let upf = tunnel.upf.unwrap_or(old_upf);
        let monitor = Monitor::new(teid_ul, upf, qfi, uplink.monitor.air());
        let moved = target.serve(name.to_owned(), tun, teid_ul, tunnel.teid_dl, qfi, upf, monitor);
        if moved.is_err() {
            let token = self.shared.uplinks.add(&uplink)?;
            if let Some(back) = self.tunnels().iter_mut().find(|t| Arc::ptr_eq(&t.uplink, &uplink)) {
                back.serving = Some(token);
            }
        }
        moved
    }

    /// Forgets a downlink TEID: packets for it are answered with Error Indications from now on. Its counters stay
    /// in the report, and a UE that it served still sends.
    pub fn close_tunnel(&self, teid_dl: u32) {
        self.shared.downlinks.remove(teid_dl);
    }

    /// The UE leaves: no more uplink, downlink is answered with Error Indications, and its TUN device disappears
    /// unless another gNB has it. Its counters leave the report.
    ///
    /// # Errors
    /// No such UE here.
    pub fn remove_ue(&self, name: &str) -> Result<TunnelReport, GnbError> {
        let mut tunnels = self.tunnels();
        let at = tunnels
            .iter()
            .position(|t| t.ue == name && t.serving.is_some())
            .ok_or_else(|| GnbError::NoSuchUe(name.to_owned()))?;
        let mut tunnel = tunnels.remove(at);
        self.shared.downlinks.remove(tunnel.teid_dl);
        if let Some(token) = tunnel.serving.take() {
            self.shared.uplinks.remove(token);
        }
        Ok(tunnel.report())
    }

    /// Asks a peer whether it is there (TS 29.281 7.2.1); the answer is counted in `echo_responses`.
    ///
    /// # Errors
    /// The socket's.
    pub fn send_echo_request(&self, sequence_number: u16) -> std::io::Result<()> {
        let mut message = [0; 16];
        let len = gtpu::write_echo_request(&mut message, sequence_number).map_err(std::io::Error::other)?;
        self.shared.socket.send_to(&message[..len], self.upf).map(|_| ())
    }

    /// Sends any octets from the N3 socket to the UPF, for tests of what no gNB sends.
    ///
    /// # Errors
    /// The socket's.
    pub fn send_datagram(&self, datagram: &[u8]) -> std::io::Result<()> {
        self.shared.socket.send_to(datagram, self.upf).map(|_| ())
    }

    /// What was counted so far.
    pub fn counters(&self) -> GnbReport {
        let tunnels = self.tunnels().iter().map(Tunnel::report).collect();
        self.shared.counters.report(self.bind, tunnels)
    }

    /// Stops and says what was counted.
    pub fn stop(mut self) -> GnbReport {
        self.join();
        self.counters()
    }

    fn join(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there was printed there.
            drop(thread.join());
        }
    }
}

impl Drop for Gnb {
    fn drop(&mut self) {
        self.join();
    }
}

impl Tunnel {
    fn report(&self) -> TunnelReport {
        TunnelReport {
            ue: self.ue.clone(),
            teid_dl: self.teid_dl,
            teid_ul: self.teid_ul,
            serving: self.serving.is_some(),
            uplink: self.uplink.counters.report(self.qfi),
            downlink: self.downlink.counters.report(),
            monitoring: self.uplink.monitor.report(),
        }
    }
}
