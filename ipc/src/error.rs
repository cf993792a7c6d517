//! What can go wrong, one type for each of opening, sending and receiving.

use std::path::{Path, PathBuf};

/// Why a channel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The name cannot be part of a file name.
    #[error(
        "{0:?} is no channel name: expected 1 to 64 of the letters, digits, '-', '_' and '.', not starting with '.'"
    )]
    Name(String),
    /// This end is taken by a living process.
    #[error(
        "{end} end of channel {path} is in use: another {end} of that name is running; stop it or choose another name"
    )]
    InUse {
        /// `controller` or `host`.
        end: &'static str,
        /// The channel file.
        path: PathBuf,
    },
    /// The file is no channel of this release, and the other end uses it.
    #[error("{path} is {found}, and the other end is using it: run the same release of upf-ctl and upf-host")]
    Incompatible {
        /// The channel file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// The file vanished or changed hands over and over while it was being opened.
    #[error("{path} is being created and removed by others all the time")]
    Contended {
        /// The channel file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// A verb: open, create, map...
        doing: &'static str,
        /// The channel file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl ChannelError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a message was not sent. Nothing of it is in the channel then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nobody is attached at the other end, or another than before: receive or wait, then send.
    #[error("nobody is at the other end of the channel")]
    NoPeer,
    /// No room until the peer has read more. `wait` returns once half of the ring is free.
    #[error("the channel is full: {waiting} bytes wait to be read")]
    Full {
        /// Bytes in the ring.
        waiting: usize,
    },
    /// The message fits in no ring, however empty: split it.
    #[error("the message is larger than {limit} bytes, the most that a channel carries at once")]
    TooLarge {
        /// [`crate::MAX_MESSAGE`].
        limit: usize,
    },
}

/// Why nothing was received. The offending bytes are skipped: the next call goes on behind them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// A record's bytes are no archived message.
    #[error("a record of {bytes} bytes is no valid message: {why}")]
    Invalid {
        /// Its length.
        bytes: usize,
        /// What the validation found.
        why: String,
    },
    /// Record boundaries are lost: everything in the ring was thrown away.
    #[error("the ring's contents are damaged; {lost} bytes were thrown away")]
    Damaged {
        /// Bytes skipped.
        lost: usize,
    },
}
