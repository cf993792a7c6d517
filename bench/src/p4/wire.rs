//! One end of a veth pair, as a packet socket that sends and receives in bursts.
#![allow(
    unsafe_code,
    reason = "sendmmsg, recvmmsg and sockaddr_ll, which no safe crate of ours offers"
)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Frames of one call.
pub const BURST: usize = 32;
const ROOM: usize = 2_048;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const RECEIVE_BUFFER: libc::c_int = 16 << 20;

/// A packet socket on an interface.
pub struct Wire {
    socket: OwnedFd,
    room: Vec<[u8; ROOM]>,
}

impl Wire {
    /// On an interface of the current network namespace.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: a plain system call.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, protocol.into()) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: all of a sockaddr_ll may be zero.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll of that length.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        let wire = Self {
            socket,
            room: vec![[0; ROOM]; BURST],
        };
        wire.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        wire.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)?;
        wire.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, RECEIVE_BUFFER)?;
        Ok(wire)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` is an int, as `length` says.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                length,
            )
        };
        if set < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Send up to [`BURST`] frames; how many went.
    pub fn send<'f>(&self, frames: impl Iterator<Item = &'f [u8]>) -> io::Result<usize> {
        // SAFETY: all of these may be zero.
        let (mut vectors, mut headers): ([libc::iovec; BURST], [libc::mmsghdr; BURST]) =
            unsafe { (zeroed(), zeroed()) };
        let mut many = 0;
        for (n, frame) in frames.take(BURST).enumerate() {
            vectors[n].iov_base = frame.as_ptr().cast_mut().cast();
            vectors[n].iov_len = frame.len();
            headers[n].msg_hdr.msg_iov = &raw mut vectors[n];
            headers[n].msg_hdr.msg_iovlen = 1;
            many = n + 1;
        }
        // SAFETY: the first `many` headers point to one vector each, and these to frames that outlive the call; sending
        // only reads them.
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), many as u32, 0) };
        some(sent)
    }

    /// Receive up to [`BURST`] frames; how many came.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<usize> {
        // SAFETY: all of these may be zero.
        let (mut vectors, mut headers): ([libc::iovec; BURST], [libc::mmsghdr; BURST]) =
            unsafe { (zeroed(), zeroed()) };
        for (n, room) in self.room.iter_mut().enumerate() {
            vectors[n].iov_base = room.as_mut_ptr().cast();
            vectors[n].iov_len = ROOM;
            headers[n].msg_hdr.msg_iov = &raw mut vectors[n];
            headers[n].msg_hdr.msg_iovlen = 1;
        }
        let (socket, many) = (self.socket.as_raw_fd(), BURST as u32);
        // SAFETY: each header points to one vector, and this to room of its length that is ours for the call.
        let received = unsafe {
            libc::recvmmsg(
                socket,
                headers.as_mut_ptr(),
                many,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = some(received)?;
        for (room, header) in self.room.iter().zip(&headers[..received]) {
            each(&room[..(header.msg_len as usize).min(ROOM)]);
        }
        Ok(received)
    }
}

/// A count; nothing now is zero.
fn some(result: libc::c_int) -> io::Result<usize> {
    if result >= 0 {
        return Ok(result as usize);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS) => Ok(0),
        _ => Err(error),
    }
}
