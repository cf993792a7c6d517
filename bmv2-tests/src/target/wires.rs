//! The wires of a target's ports.
//!
//! On real wires the question is when to stop listening. Waiting a while makes tests slow and, on a busy machine, wrong.
//! So [`Links`] sends markers behind the test's frames and listens until they have come out:
//!
//! ```text
//!   1. a group frame at each port that frames went in: it is punted, so when it reaches the host port
//!      all that came before it has passed ingress
//!   2. a reinjected frame for every port: when it has come out, all that was queued before it has too
//! ```
//! A target may reorder frames of different ports and priorities, so markers use every port and the lowest priority.

use super::Frames;
use crate::frame::raw_frame;
use crate::world::HOST;
use libc::{c_int, c_void};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
use upf_model::punt::{ETHERTYPE_PUNT, PUNT_LEN, ReinjectHeader};

/// Frames in, frames out.
pub trait Wires: Send {
    /// Let frames in at ports, in order; everything that comes out because of them, sorted by port, in order at each.
    ///
    /// # Errors
    /// What the system says, and when markers do not come out.
    fn exchange(&mut self, frames: &[(u16, Vec<u8>)]) -> io::Result<Frames>;
}

/// Frames between two markers: fewer than any queue of a target holds. (BMv2 receives by libpcap, whose ring has room for
/// 32 frames of the length that BMv2 asks for.)
const BURST: usize = 16;
/// A marker that has not come out by then is lost: the target is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// IEEE Std 802's OUI extended EtherType; no test sends it.
const ETHERTYPE_MARKER: u16 = 0x88b7;
const MARKER_SRC: [u8; 6] = [2, 0, 0, 0, 0xff, 0xff];

/// Packet sockets on interfaces that lead to the target's ports.
pub struct Links {
    links: Vec<Link>,
    serial: u64,
    room: Vec<u8>,
}

struct Link {
    port: u16,
    socket: OwnedFd,
}

impl Links {
    /// On these interfaces of the calling thread's namespace, by port.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(interfaces: &[(u16, String)]) -> io::Result<Self> {
        let open = |(port, interface): &(u16, String)| {
            let socket = packet_socket(interface)
                .map_err(|e| io::Error::new(e.kind(), format!("interface {interface}: {e}")))?;
            Ok(Link { port: *port, socket })
        };
        Ok(Self {
            links: interfaces.iter().map(open).collect::<io::Result<_>>()?,
            serial: u64::from(std::process::id()) << 32,
            room: vec![0; 1 << 16],
        })
    }

    fn transmit(&self, port: u16, frame: &[u8]) -> io::Result<()> {
        let link = self.links.iter().find(|link| link.port == port);
        let link = link.ok_or_else(|| io::Error::other(format!("there is no port {port}")))?;
        // SAFETY: the buffer is valid for its length, the descriptor is open.
        let sent = unsafe { libc::send(link.socket.as_raw_fd(), frame.as_ptr().cast::<c_void>(), frame.len(), 0) };
        if usize::try_from(sent) == Ok(frame.len()) {
            Ok(())
        } else {
            let e = io::Error::last_os_error();
            Err(io::Error::new(
                e.kind(),
                format!("{} bytes at port {port}: {e}", frame.len()),
            ))
        }
    }

    /// Listen until all markers of this serial have come out; `marker` tells from port and frame which one it is.
    fn listen(
        &mut self,
        mut missing: BTreeSet<u16>,
        marker: impl Fn(u16, &[u8]) -> Option<u16>,
        heard: &mut Frames,
    ) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !missing.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let problem = format!("frames behind the test's did not come out within {PATIENCE:?}: {missing:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
            }
            for at in self.readable(left)? {
                let port = self.links[at].port;
                while let Some(len) = receive(&self.links[at].socket, &mut self.room)? {
                    let frame = &self.room[..len];
                    match marker(port, frame) {
                        Some(which) => {
                            missing.remove(&which);
                        }
                        None if is_marker(frame) || is_punted_marker(frame) => {} // of an exchange that failed
                        None => heard.push((port, frame.to_vec())),
                    }
                }
            }
        }
        Ok(())
    }

    fn readable(&self, at_most: Duration) -> io::Result<Vec<usize>> {
        let mut polled: Vec<libc::pollfd> = self
            .links
            .iter()
            .map(|link| libc::pollfd {
                fd: link.socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        let milliseconds = at_most.as_millis().clamp(1, 1_000) as c_int;
        // SAFETY: the array is valid for its length.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
        if ready < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((0..polled.len()).filter(|&at| polled[at].revents != 0).collect())
    }
}

impl Wires for Links {
    fn exchange(&mut self, frames: &[(u16, Vec<u8>)]) -> io::Result<Frames> {
        let mut heard = Vec::new();
        for burst in frames.chunks(BURST) {
            for (port, frame) in burst {
                self.transmit(*port, frame)?;
            }
            self.serial += 1;
            let serial = self.serial;
            let ingress: BTreeSet<u16> = burst.iter().map(|(port, _)| *port).collect();
            for &port in &ingress {
                self.transmit(port, &marker_frame(serial, port))?;
            }
            let punted = |port, frame: &[u8]| {
                let inside = frame
                    .get(PUNT_LEN..)
                    .filter(|_| port == HOST && is_punted_marker(frame))?;
                marker_of(inside, serial)
            };
            self.listen(ingress, punted, &mut heard)?;
            let ports: BTreeSet<u16> = self.links.iter().map(|link| link.port).collect();
            for &port in &ports {
                let header = ReinjectHeader {
                    egress_port: port,
                    queue: 0,
                };
                let frame = [&header.to_bytes()[..], &marker_frame(serial, port)].concat();
                self.transmit(HOST, &frame)?;
            }
            let sent_on = |port, frame: &[u8]| marker_of(frame, serial).filter(|which| *which == port);
            self.listen(ports, sent_on, &mut heard)?;
        }
        heard.sort_by_key(|(port, _)| *port);
        Ok(heard)
    }
}

fn marker_frame(serial: u64, port: u16) -> Vec<u8> {
    let payload = [&serial.to_be_bytes()[..], &port.to_be_bytes(), &[0; 36]].concat();
    raw_frame([0xff; 6], MARKER_SRC, 0, ETHERTYPE_MARKER, &payload)
}

fn is_marker(frame: &[u8]) -> bool {
    frame.get(6..12) == Some(&MARKER_SRC) && frame.get(12..14) == Some(&ETHERTYPE_MARKER.to_be_bytes())
}

fn is_punted_marker(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ETHERTYPE_PUNT.to_be_bytes()) && frame.get(PUNT_LEN..).is_some_and(is_marker)
}

/// The port that a marker of this serial was made for.
fn marker_of(frame: &[u8], serial: u64) -> Option<u16> {
    let ours = is_marker(frame) && frame.get(14..22) == Some(&serial.to_be_bytes());
    let port = frame.get(22..24).filter(|_| ours)?;
    Some(u16::from_be_bytes([port[0], port[1]]))
}

/// A socket that gives all frames which arrive at an interface, with their VLAN tags told apart.
fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a plain system call; a descriptor that it gives is ours alone.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_PACKET, kind, c_int::from(protocol));
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    for option in [libc::PACKET_IGNORE_OUTGOING, libc::PACKET_AUXDATA] {
        set_option(&socket, libc::SOL_PACKET, option, 1)?;
    }
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 8 << 20)?;
    // SAFETY: sockaddr_ll is plain data, zero is a valid value of every field.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as c_int;
    // SAFETY: the address is a sockaddr_ll of the length given.
    let bound = unsafe {
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
    };
    if bound < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(socket)
    }
}

fn set_option(socket: &OwnedFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the value is an int of the length given.
    let set = unsafe {
        let length = size_of::<c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    if set < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Room for the auxiliary data, aligned as control messages must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// One frame, if one has arrived: its length in `room`. The kernel takes a VLAN tag out; it is put back.
fn receive(socket: &OwnedFd, room: &mut [u8]) -> io::Result<Option<usize>> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len() - 4,
    };
    // SAFETY: msghdr is plain data; the buffers it points to outlive the call and are valid for their lengths.
    let (received, tag) = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0);
        (received, if received < 0 { None } else { vlan_tag(&message) })
    };
    let Ok(len) = usize::try_from(received) else {
        let e = io::Error::last_os_error();
        return if e.kind() == io::ErrorKind::WouldBlock {
            Ok(None)
        } else {
            Err(e)
        };
    };
    match tag {
        Some(tag) if len >= 12 => {
            room.copy_within(12..len, 16);
            room[12..16].copy_from_slice(&tag);
            Ok(Some(len + 4))
        }
        _ => Ok(Some(len)),
    }
}

/// The tag in a received message's auxiliary data.
///
/// # Safety
/// `message` is as `recvmsg` left it, and its control buffer is valid.
unsafe fn vlan_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: by this function's contract.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref()? };
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: a message of this type carries a tpacket_auxdata, perhaps not aligned.
    let data: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    let has = |bit: u32| data.tp_status & bit != 0;
    has(libc::TP_STATUS_VLAN_VALID).then(|| {
        let ether_type = if has(libc::TP_STATUS_VLAN_TPID_VALID) {
            data.tp_vlan_tpid
        } else {
            0x8100
        };
        let ([a, b], [c, d]) = (ether_type.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
        [a, b, c, d]
    })
}
