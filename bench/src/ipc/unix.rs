//! UNIX sockets: seqpacket (a message is a datagram) and stream (a length before each message).

use super::{Link, Outcome, announce, message};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, connect, listen, recv, send, socket,
};
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use upf_model::batch::ToHost;

const DATAGRAM_MAX: usize = 128 << 10;

/// A socket's file, removed at the end.
fn path(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("{name}.sock"))
}

struct Seqpacket {
    socket: OwnedFd,
    sleeps: bool,
    buffer: rkyv::util::AlignedVec,
}

impl Seqpacket {
    fn new(socket: OwnedFd, sleeps: bool) -> Self {
        let mut buffer = rkyv::util::AlignedVec::new();
        buffer.resize(DATAGRAM_MAX, 0);
        Self { socket, sleeps, buffer }
    }

    fn put(&self, bytes: &[u8]) -> Outcome<()> {
        let sent = send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err("a datagram was cut".into())
        }
    }

    /// The length of the next datagram, now in the buffer; 0 at the end.
    fn take(&mut self) -> Outcome<usize> {
        let flags = if self.sleeps {
            MsgFlags::empty()
        } else {
            MsgFlags::MSG_DONTWAIT
        };
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, flags) {
                Err(Errno::EAGAIN | Errno::EINTR) => std::hint::spin_loop(),
                other => return Ok(other?),
            }
        }
    }
}

pub fn connect_seqpacket(name: &str, sleeps: bool) -> Outcome<Box<dyn Link>> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(&path(name))?)?;
    std::fs::remove_file(path(name))?;
    Ok(Box::new(Seqpacket::new(socket, sleeps)))
}

impl Link for Seqpacket {
    fn send(&mut self, message: &ToHost) -> Outcome<()> {
        self.put(&message::archive(message)?)
    }

    fn receive(&mut self) -> Outcome<u64> {
        let bytes = self.take()?;
        message::answered(&self.buffer[..bytes])
    }
}

pub fn serve_seqpacket(name: &str, sleeps: bool) -> Outcome<()> {
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&path(name))?)?;
    listen(&listener, Backlog::new(1)?)?;
    announce(name);
    // SAFETY: accept returns a fresh descriptor that nobody else owns.
    let accepted = unsafe { OwnedFd::from_raw_fd(accept(listener.as_raw_fd())?) };
    let mut socket = Seqpacket::new(accepted, sleeps);
    loop {
        match socket.take()? {
            0 => return Ok(()),
            bytes => socket.put(&message::answer_bytes(&socket.buffer[..bytes])?)?,
        }
    }
}

struct Stream {
    reader: BufReader<UnixStream>,
    incoming: rkyv::util::AlignedVec,
    outgoing: Vec<u8>,
}

impl Stream {
    fn new(stream: UnixStream) -> Self {
        let reader = BufReader::with_capacity(1 << 20, stream);
        Self {
            reader,
            incoming: rkyv::util::AlignedVec::new(),
            outgoing: Vec::new(),
        }
    }

    /// Length and bytes in one system call.
    fn put(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.outgoing.clear();
        self.outgoing
            .extend_from_slice(&u32::try_from(bytes.len())?.to_le_bytes());
        self.outgoing.extend_from_slice(bytes);
        Ok(self.reader.get_mut().write_all(&self.outgoing)?)
    }

    fn take(&mut self) -> Outcome<&[u8]> {
        let mut length = [0; 4];
        self.reader.read_exact(&mut length)?;
        self.incoming.resize(u32::from_le_bytes(length) as usize, 0);
        self.reader.read_exact(&mut self.incoming)?;
        Ok(&self.incoming)
    }
}

pub fn connect_stream(name: &str) -> Outcome<Box<dyn Link>> {
    let stream = UnixStream::connect(path(name))?;
    std::fs::remove_file(path(name))?;
    Ok(Box::new(Stream::new(stream)))
}

impl Link for Stream {
    fn send(&mut self, message: &ToHost) -> Outcome<()> {
        self.put(&message::archive(message)?)
    }

    fn receive(&mut self) -> Outcome<u64> {
        message::answered(self.take()?)
    }
}

pub fn serve_stream(name: &str) -> Outcome<()> {
    let listener = UnixListener::bind(path(name))?;
    announce(name);
    let mut stream = Stream::new(listener.accept()?.0);
    loop {
        let answer = message::answer_bytes(stream.take()?)?;
        stream.put(&answer)?;
    }
}
