//! Numbered downlink packets to one user, and what of them comes out of the tunnel: when a change has its effect, and
//! whether packets suffer from it.

use super::{DN, Lab, LabError, Side};
use std::cell::Cell;
use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::AddAssign;
use std::time::{Duration, Instant};

const UE_PORT: u16 = 4_000;
const GTPU_PORT: u16 = 2_152;
/// Between two packets.
const GAP: Duration = Duration::from_micros(100);
/// Packets of the former flow before the change, and of the new one after it.
const AROUND: u64 = 20;
/// A change that has no effect by then never has.
const PATIENCE: Duration = Duration::from_secs(2);
/// Once sending has ended, nothing comes any more after this long.
const QUIET: Duration = Duration::from_millis(500);

/// What became of packets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Came out of the tunnel.
    pub received: u64,
    /// Never came.
    pub lost: u64,
    /// Came after one that was sent later.
    pub reordered: u64,
    /// Of the former QoS flow after one of the new.
    pub mixed: u64,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, o: Self) {
        self.received += o.received;
        self.lost += o.lost;
        self.reordered += o.reordered;
        self.mixed += o.mixed;
    }
}

/// The ends of the downlink: a server's socket, and the gNB's.
pub struct Probe {
    server: UdpSocket,
    gnb: UdpSocket,
    /// Which change is watched: packets that come too late for theirs are not taken for others.
    round: Cell<u32>,
}

/// One change, as the packets show it.
struct Watch {
    wanted: u8,
    sent: u64,
    next: u64,
    first: Option<Instant>,
    after: u64,
    seen: Seen,
}

impl Probe {
    /// Of users whose tunnels end at this address of the gNB's side.
    ///
    /// # Errors
    /// An address is not there, or taken.
    pub fn open(lab: &Lab, gnb: Ipv4Addr) -> Result<Self, LabError> {
        let server = lab.udp(Side::Dn, (DN, 0))?;
        let gnb = lab.udp(Side::Gnb, (gnb, GTPU_PORT))?;
        gnb.set_nonblocking(true)?;
        let round = Cell::new(0);
        Ok(Self { server, gnb, round })
    }

    /// Sends packets to a user; when some have come, makes the change; goes on until packets of the wanted QoS flow have
    /// come. Returns the time from when the change was asked for until the first of them came.
    ///
    /// # Errors
    /// The change fails, or has no effect within two seconds.
    pub fn until<E: Into<Box<dyn Error>>>(
        &self,
        user: Ipv4Addr,
        wanted: u8,
        change: impl FnOnce() -> Result<(), E>,
    ) -> Result<(Duration, Seen), Box<dyn Error>> {
        let mut watch = Watch {
            wanted,
            sent: 0,
            next: 0,
            first: None,
            after: 0,
            seen: Seen::default(),
        };
        self.round.set(self.round.get() + 1);
        let start = Instant::now();
        while watch.seen.received < AROUND {
            self.step(user, &mut watch, start)?;
        }
        let asked = Instant::now();
        change().map_err(Into::into)?;
        while watch.after < AROUND {
            self.step(user, &mut watch, start)?;
        }
        let deadline = Instant::now() + QUIET;
        while watch.seen.received < watch.sent && Instant::now() < deadline {
            self.take(&mut watch);
        }
        watch.seen.lost = watch.sent - watch.seen.received;
        let first = watch.first.ok_or("no packet of the wanted QoS flow")?;
        Ok((first.saturating_duration_since(asked), watch.seen))
    }

    fn step(&self, user: Ipv4Addr, watch: &mut Watch, start: Instant) -> Result<(), Box<dyn Error>> {
        if start.elapsed() > PATIENCE {
            return Err(format!(
                "no packet of QFI {} within {PATIENCE:?}: {:?}",
                watch.wanted, watch.seen
            )
            .into());
        }
        let number = u64::from(self.round.get()) << 32 | watch.sent;
        self.server.send_to(&number.to_be_bytes(), (user, UE_PORT))?;
        watch.sent += 1;
        let due = Instant::now() + GAP;
        while Instant::now() < due {
            self.take(watch);
            std::thread::yield_now();
        }
        Ok(())
    }

    fn take(&self, watch: &mut Watch) {
        let mut packet = [0; 256];
        while let Ok(length) = self.gnb.recv(&mut packet) {
            if let Some((qfi, number)) = read(&packet[..length])
                && number >> 32 == u64::from(self.round.get())
            {
                watch.came(qfi, number & u64::from(u32::MAX));
            }
        }
    }
}

impl Watch {
    fn came(&mut self, qfi: u8, number: u64) {
        self.seen.received += 1;
        self.seen.reordered += u64::from(number < self.next);
        self.next = self.next.max(number + 1);
        if qfi == self.wanted {
            self.first.get_or_insert_with(Instant::now);
            self.after += 1;
        } else {
            self.seen.mixed += u64::from(self.first.is_some());
        }
    }
}

/// The QoS flow of the PDU Session Container, and the number at the end of a G-PDU.
fn read(packet: &[u8]) -> Option<(u8, u64)> {
    const G_PDU: u8 = 255;
    const PDU_SESSION_CONTAINER: u8 = 0x85;
    let (&[_, G_PDU, _, _, _, _, _, _, _, _, _, PDU_SESSION_CONTAINER, _, _, qfi], _) = packet.split_first_chunk()?
    else {
        return None;
    };
    let number = packet.last_chunk::<8>()?;
    Some((qfi & 0x3f, u64::from_be_bytes(*number)))
}
