//! TUN devices: a file descriptor that reads and writes whole IP packets.

use crate::namespace::{ip, within};
use crate::{GnbError, UeConfig};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Packets the kernel holds for us before it drops: a burst of some milliseconds at full speed.
const TX_QUEUE_LEN: &str = "4000";

// <linux/if_tun.h>: `_IOW('T', 202, int)`, whose argument is a `struct ifreq` all the same.
nix::ioctl_write_ptr_bad!(
    /// TUNSETIFF.
    tun_set_iff,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);

/// A TUN device. It disappears with this value.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: String,
}

impl Tun {
    /// Makes the UE's device in its namespace, gives it its addresses and routes, and brings it up.
    ///
    /// # Errors
    /// No such namespace, no permission, an address or route that `ip` refuses.
    pub fn for_ue(ue: &UeConfig) -> Result<Self, GnbError> {
        within(ue.netns.as_deref(), || {
            let tun = Self::create(&ue.tun).map_err(|source| GnbError::Tun {
                name: ue.tun.clone(),
                source,
            })?;
            tun.configure(ue)?;
            Ok(tun)
        })?
    }

    /// A device of this name (`%d` is numbered) in the thread's namespace; non-blocking, bare IP packets.
    fn create(name: &str) -> std::io::Result<Self> {
        let fd = open(
            "/dev/net/tun",
            OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        // One octet less than the field: a name ends with a zero.
        if name.len() >= libc::IFNAMSIZ {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "a device name has at most 15 octets",
            ));
        }
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        let ifr_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        let request = libc::ifreq {
            ifr_name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: ifr_flags },
        };
        // SAFETY: the descriptor is open, `request` is an initialised `ifreq` that outlives the call, and TUNSETIFF
        // reads and writes no more than an `ifreq`. The kernel writes the name back through a pointer that nix
        // takes as const; `request` is not read again, so nothing relies on it being unchanged.
        unsafe { tun_set_iff(fd.as_raw_fd(), &request) }?;
        let name = name_of(fd.as_fd())?;
        Ok(Self { fd, name })
    }

    fn configure(&self, ue: &UeConfig) -> Result<(), GnbError> {
        let dev = self.name.as_str();
        // Without this the kernel sends router solicitations from a link-local address that no session has.
        ip(&["link", "set", dev, "addrgenmode", "none"])?;
        ip(&[
            "link",
            "set",
            dev,
            "mtu",
            &ue.mtu.to_string(),
            "txqueuelen",
            TX_QUEUE_LEN,
            "up",
        ])?;
        if ue.netns.is_some() {
            ip(&["link", "set", "lo", "up"])?;
        }
        for address in &ue.addresses {
            let text = format!("{}/{}", address.addr, address.prefix_len);
            match address.addr {
                IpAddr::V4(_) => ip(&["address", "add", &text, "dev", dev])?,
                // A tunnel has no neighbours to detect duplicates among.
                IpAddr::V6(_) => ip(&["-6", "address", "add", &text, "dev", dev, "nodad"])?,
            }
        }
        for route in &ue.routes {
            let v4 = ue.addresses.iter().any(|a| a.addr.is_ipv4());
            let v6 = ue.addresses.iter().any(|a| a.addr.is_ipv6());
            if v4 && (route == "default" || !route.contains(':')) {
                ip(&["-4", "route", "replace", route, "dev", dev])?;
            }
            if v6 && (route == "default" || route.contains(':')) {
                ip(&["-6", "route", "replace", route, "dev", dev])?;
            }
        }
        Ok(())
    }

    /// The device's name in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next packet of the UE into `buffer`; none if there is none now.
    ///
    /// # Errors
    /// The device's, when its namespace is gone.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> nix::Result<Option<usize>> {
        match nix::unistd::read(&self.fd, buffer) {
            Ok(len) => Ok(Some(len)),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A packet to the UE.
    ///
    /// # Errors
    /// It is no IP packet, or the device is down.
    pub(crate) fn write(&self, packet: &[u8]) -> nix::Result<()> {
        nix::unistd::write(&self.fd, packet).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The name that the kernel gave, from the descriptor's own record.
fn name_of(fd: BorrowedFd<'_>) -> std::io::Result<String> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("iff:"))
        .map(|name| name.trim().to_owned())
        .ok_or_else(|| std::io::Error::other("/proc/self/fdinfo names no TUN device"))
}
