//! Ports on network interfaces: packet sockets (packet(7)) with batched system calls. Needs CAP_NET_RAW.
//!
//! A VLAN tag that the kernel has taken off a frame is put back, so that the program sees the frame as it was on the
//! wire. Frames that the host itself sends through the interface are not seen.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::Port;
use crate::switch::BURST;

/// Longest frame that is taken in.
const FRAME: usize = 16 << 10;

/// Room for a VLAN tag before a frame.
const TAG: usize = 4;

/// Bytes of ancillary data for one frame.
const CONTROL: usize = 64;

/// Bytes that the kernel may keep for the socket, each way.
const SOCKET_BUFFER: libc::c_int = 4 << 20;

/// A port on a network interface.
pub struct Interface {
    socket: OwnedFd,
    frames: Vec<[u8; TAG + FRAME]>,
    controls: Vec<[u64; CONTROL / 8]>,
}

impl std::fmt::Debug for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interface")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn option<T>(socket: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is valid for reads of its size for the whole call.
    check(unsafe {
        libc::setsockopt(
            socket,
            level,
            name,
            ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
    .map(drop)
}

impl Interface {
    /// Takes over the interface called `name`: promiscuous, all protocols.
    pub fn open(name: &str) -> io::Result<Self> {
        let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: `name` is a C string.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Protocol 0: nothing is received before the socket is bound to its interface.
        // SAFETY: no pointers.
        let fd = check(unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                0,
            )
        })?;
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        option(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32)?;
        option(fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32)?;
        // Better if possible: neither is needed.
        let _ = option(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1i32);
        if option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &SOCKET_BUFFER).is_err() {
            let _ = option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &SOCKET_BUFFER);
        }
        if option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SOCKET_BUFFER).is_err() {
            let _ = option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &SOCKET_BUFFER);
        }
        // SAFETY: plain data, all zero is valid.
        let mut membership: libc::packet_mreq = unsafe { zeroed() };
        membership.mr_ifindex = index as libc::c_int;
        membership.mr_type = libc::PACKET_MR_PROMISC as u16;
        option(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
        // SAFETY: plain data, all zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as libc::c_int;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is valid for reads of its length.
        check(unsafe { libc::bind(fd, ptr::from_ref(&address).cast(), length) })?;
        Ok(Self {
            socket,
            frames: vec![[0; TAG + FRAME]; BURST],
            controls: vec![[0; CONTROL / 8]; BURST],
        })
    }
}

/// The tag that the kernel took off a frame: TPID and TCI.
fn vlan_of(header: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the kernel has filled the control buffer that `header` points to.
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    if message.cmsg_level != libc::SOL_PACKET || message.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: such a message carries this structure.
    let data: libc::tpacket_auxdata = unsafe { ptr::read_unaligned(libc::CMSG_DATA(message).cast()) };
    if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let protocol = if data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
        0x8100
    } else {
        data.tp_vlan_tpid
    };
    let ([a, b], [c, d]) = (protocol.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
    Some([a, b, c, d])
}

impl Port for Interface {
    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        // SAFETY: plain data, all zero is valid.
        let (mut vectors, mut headers): ([libc::iovec; BURST], [libc::mmsghdr; BURST]) =
            unsafe { (zeroed(), zeroed()) };
        for i in 0..BURST {
            vectors[i] = libc::iovec {
                iov_base: self.frames[i][TAG..].as_mut_ptr().cast(),
                iov_len: FRAME,
            };
            headers[i].msg_hdr.msg_iov = &mut vectors[i];
            headers[i].msg_hdr.msg_iovlen = 1;
            headers[i].msg_hdr.msg_control = self.controls[i].as_mut_ptr().cast();
            headers[i].msg_hdr.msg_controllen = CONTROL as _;
        }
        let fd = self.socket.as_raw_fd();
        // SAFETY: the headers point to vectors and buffers that outlive the call, with their true lengths.
        let count = unsafe {
            libc::recvmmsg(
                fd,
                headers.as_mut_ptr(),
                BURST as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // Down for now, or interrupted: nothing came.
                Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN) => Ok(0),
                _ => Err(error),
            };
        }
        for (header, frame) in headers[..count as usize].iter().zip(&mut self.frames) {
            let len = (header.msg_len as usize).min(FRAME);
            match vlan_of(&header.msg_hdr) {
                Some(tag) if len >= 12 => {
                    frame.copy_within(TAG..TAG + 12, 0);
                    frame[12..16].copy_from_slice(&tag);
                    take(&frame[..TAG + len]);
                }
                _ => take(&frame[TAG..TAG + len]),
            }
        }
        Ok(count as usize)
    }

    fn send(&mut self, frames: &[&[u8]]) -> io::Result<usize> {
        // SAFETY: plain data, all zero is valid.
        let (mut vectors, mut headers): ([libc::iovec; BURST], [libc::mmsghdr; BURST]) =
            unsafe { (zeroed(), zeroed()) };
        let frames = &frames[..frames.len().min(BURST)];
        for (i, frame) in frames.iter().enumerate() {
            vectors[i] = libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            };
            headers[i].msg_hdr.msg_iov = &mut vectors[i];
            headers[i].msg_hdr.msg_iovlen = 1;
        }
        let mut done = 0;
        let fd = self.socket.as_raw_fd();
        while done < frames.len() {
            let rest = &mut headers[done..frames.len()];
            // SAFETY: the headers point to vectors over frames that outlive the call; the kernel only reads frames.
            let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as libc::c_uint, libc::MSG_DONTWAIT) };
            if sent > 0 {
                done += sent as usize;
                continue;
            }
            return match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => continue,
                // Full, down, or a frame that it does not take: the frame is lost.
                _ => Ok(done),
            };
        }
        Ok(done)
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }
}
