//! Coming and going: the channel file's life, and the locks that say who is there.
//!
//! Three bytes of the file carry record locks of the open-file-description kind: one for each end, held as long as
//! it is attached, and one that makes attaching and detaching exclusive. The kernel releases them when a process
//! ends, however it ends: that is what makes `kill -9` harmless. A file appears under its name only when it is
//! complete (`O_TMPFILE`, then `linkat`), so that no death can leave a half-made one.

use crate::error::ChannelError;
use crate::mapping::Mapping;
use crate::ring::{Consumer, Producer};
use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Controller = 0,
    Host = 1,
}

impl Role {
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
    pub(crate) const fn peer(self) -> Self {
        match self {
            Self::Controller => Self::Host,
            Self::Host => Self::Controller,
        }
    }
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Host => "host",
        }
    }
}

/// The byte whose lock makes attaching and detaching exclusive.
const SETUP: libc::off_t = 2;

/// One end's hold on a channel. Dropping it detaches, and removes the file if the peer is not there.
#[derive(Debug)]
pub(crate) struct Attachment {
    file: File,
    path: PathBuf,
    role: Role,
    pub(crate) mapping: Arc<Mapping>,
    /// Ours, odd.
    pub(crate) incarnation: u32,
}

impl Attachment {
    /// Attaches, and takes our side of both rings over.
    pub(crate) fn new(directory: &Path, name: &str, role: Role) -> Result<(Self, Producer, Consumer), ChannelError> {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(letter) {
            return Err(ChannelError::Name(name.chars().take(80).collect()));
        }
        let path = directory.join(format!("upf-{name}.channel"));
        for _ in 0..1_000 {
            let file = match open_existing(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    create(directory, &path)?;
                    continue;
                }
                Err(e) => return Err(ChannelError::io("open", &path, e)),
            };
            let io = |e| ChannelError::io("lock", &path, e);
            lock(&file, SETUP).map_err(io)?;
            if !is_still_at(&file, &path) {
                continue;
            }
            if !try_lock(&file, role as libc::off_t).map_err(io)? {
                return Err(ChannelError::InUse { end: role.name(), path });
            }
            match Mapping::open(&file, &path)? {
                Ok(mapping) => return Ok(Self::take(file, path.clone(), role, Arc::new(mapping))),
                Err(found) => {
                    if !try_lock(&file, role.peer() as libc::off_t).map_err(io)? {
                        return Err(ChannelError::Incompatible { path, found });
                    }
                    remove(&path)?;
                }
            }
        }
        Err(ChannelError::Contended { path })
    }

    /// Becomes the next incarnation. The caller holds our lock and the setup lock.
    fn take(file: File, path: PathBuf, role: Role, mapping: Arc<Mapping>) -> (Self, Producer, Consumer) {
        // Ring 0 goes from the controller to the host, ring 1 back. Both are ours before the peer can see us: what it
        // sends to the new incarnation must not fall to the sweeping out of what the old one left unread.
        let outgoing = Producer::attach(mapping.clone(), role.index());
        let incoming = Consumer::attach(mapping.clone(), role.peer().index());
        let state = &mapping.header().ends[role.index()];
        state.asleep.store(0, Ordering::SeqCst);
        // An odd number found here is that of an end that was killed.
        let incarnation = state.incarnation.load(Ordering::Acquire).wrapping_add(1) | 1;
        state.incarnation.store(incarnation, Ordering::SeqCst);
        unlock(&file, SETUP);
        (
            Self {
                file,
                path,
                role,
                mapping,
                incarnation,
            },
            outgoing,
            incoming,
        )
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The peer's incarnation if it is attached and its process lives. Cost: one system call.
    pub(crate) fn peer(&self) -> Option<u32> {
        let incarnation = self.peer_state();
        (incarnation & 1 == 1 && is_locked(&self.file, self.role.peer() as libc::off_t)).then_some(incarnation)
    }

    /// Says that we are gone. The locks stay until drop.
    pub(crate) fn leave(&self) {
        let state = &self.mapping.header().ends[self.role.index()];
        state
            .incarnation
            .store(self.incarnation.wrapping_add(1), Ordering::SeqCst);
    }

    /// The peer's incarnation number as it stands: even after a clean detachment.
    pub(crate) fn peer_state(&self) -> u32 {
        self.mapping.header().ends[self.role.peer().index()]
            .incarnation
            .load(Ordering::SeqCst)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.leave();
        if lock(&self.file, SETUP).is_ok()
            && is_still_at(&self.file, &self.path)
            && try_lock(&self.file, self.role.peer() as libc::off_t).unwrap_or(false)
        {
            let _ = remove(&self.path);
        }
        // Closing the file releases every lock.
    }
}

fn open_existing(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Makes a complete channel file and gives it its name, unless somebody else was faster.
fn create(directory: &Path, path: &Path) -> Result<(), ChannelError> {
    let io = |e| ChannelError::io("create", path, e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o660)
        .custom_flags(libc::O_TMPFILE)
        .open(directory)
        .map_err(io)?;
    // Whatever the umask: both daemons must be able to write, and they may be two users of one group.
    file.set_permissions(Permissions::from_mode(0o660)).map_err(io)?;
    Mapping::format(&file, path)?;
    let nameless = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|e| io(e.into()))?;
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| io(e.into()))?;
    // SAFETY: both strings end in NUL and live through the call.
    let rc = unsafe {
        let (cwd, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
        libc::linkat(cwd, nameless.as_ptr(), cwd, name.as_ptr(), follow)
    };
    match std::io::Error::last_os_error() {
        _ if rc == 0 => Ok(()),
        e if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        e => Err(io(e)),
    }
}

fn remove(path: &Path) -> Result<(), ChannelError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(ChannelError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Whether the name still means this file: it may have been removed, and made anew, between opening and locking.
fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(named)) => ours.dev() == named.dev() && ours.ino() == named.ino(),
        _ => false,
    }
}

fn record(byte: libc::off_t, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

fn control(file: &File, command: libc::c_int, lock: &mut libc::flock) -> std::io::Result<()> {
    loop {
        // SAFETY: the descriptor is open and `lock` is a valid, exclusively borrowed flock structure.
        let rc = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
        match std::io::Error::last_os_error() {
            _ if rc == 0 => return Ok(()),
            e if e.kind() == ErrorKind::Interrupted => {}
            e => return Err(e),
        }
    }
}

fn lock(file: &File, byte: libc::off_t) -> std::io::Result<()> {
    control(file, libc::F_OFD_SETLKW, &mut record(byte, libc::F_WRLCK))
}

fn try_lock(file: &File, byte: libc::off_t) -> std::io::Result<bool> {
    match control(file, libc::F_OFD_SETLK, &mut record(byte, libc::F_WRLCK)) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

fn unlock(file: &File, byte: libc::off_t) {
    let _ = control(file, libc::F_OFD_SETLK, &mut record(byte, libc::F_UNLCK));
}

/// Whether somebody else holds that lock.
fn is_locked(file: &File, byte: libc::off_t) -> bool {
    let mut found = record(byte, libc::F_WRLCK);
    control(file, libc::F_OFD_GETLK, &mut found).is_ok() && found.l_type != libc::F_UNLCK as libc::c_short
}
