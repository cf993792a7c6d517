//! What can go wrong while a gNB is set up. Once it runs, bad packets are counted, not errors.

use std::net::SocketAddr;

/// Why a gNB or a UE could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum GnbError {
    /// The N3 socket.
    #[error("cannot bind the N3 socket to {addr}: {source}")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A network namespace.
    #[error("cannot enter network namespace {name}: {source} (does `ip netns list` show it, and is this root?)")]
    Namespace {
        /// Name or path as configured.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// A TUN device.
    #[error("cannot create TUN device {name}: {source} (is /dev/net/tun there, and is this root?)")]
    Tun {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// An `ip` command.
    #[error("`ip {arguments}` failed: {reason}")]
    Ip {
        /// The command.
        arguments: String,
        /// What it printed, or why it could not run.
        reason: String,
    },
    /// Threads, epoll.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A name that is taken already.
    #[error("this gNB has a UE named {0} already")]
    DuplicateUe(String),
    /// A TEID that is taken already.
    #[error("this gNB uses downlink TEID {0:#x} already")]
    DuplicateTeid(u32),
    /// A name that nobody has.
    #[error("this gNB serves no UE named {0}")]
    NoSuchUe(String),
}

impl GnbError {
    pub(crate) fn system(what: &'static str, source: impl Into<std::io::Error>) -> Self {
        Self::System {
            what,
            source: source.into(),
        }
    }
}
