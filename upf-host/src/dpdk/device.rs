//! The names of devices, and what can be told about them before a driver fails with an error number.

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A device as DPDK is told of it: a PCI address or the name of a virtual device, with its arguments.
///
/// `0000:03:00.0`, `03:00.0`, `net_af_packet0,iface=veth0`, `net_memif0,role=server,socket=/run/upf.sock`,
/// `net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap`, `net_null0`, `net_ring0`, `net_tap0`, `net_af_xdp0,iface=veth0`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    kind: Kind,
    name: String,
    arguments: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Pci,
    Virtual,
}

/// Why a device cannot be opened, found out before any driver is asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a name DPDK could know.
    #[error(
        "{0:?} is no device: expected a PCI address such as 0000:03:00.0 or a virtual device such as \
         net_af_packet0,iface=eth0"
    )]
    Name(String),
    /// The driver works on an interface of the kernel that is not there.
    #[error(
        "interface {interface} of {argument}= does not exist in this network namespace; `ip link` lists those that do"
    )]
    NoInterface {
        /// `iface`, `remote`, …
        argument: String,
        /// Its value.
        interface: String,
    },
    /// The driver reads a file, or writes into a directory, that is not there.
    #[error("{argument}={path}: {reason}", path = path.display())]
    NoFile {
        /// `rx_pcap` or `tx_pcap`.
        argument: String,
        /// Its value.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
        let (kind, name) = match pci_address(name) {
            Some(address) => (Kind::Pci, address),
            None if is_virtual_name(name) && !text.contains('\0') => (Kind::Virtual, name.to_owned()),
            None => return Err(DeviceError::Name(text.to_owned())),
        };
        Ok(Self {
            kind,
            name,
            arguments: arguments.to_owned(),
        })
    }
}

impl Device {
    /// What DPDK calls the device: the PCI address with its domain, or the virtual device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A device on the PCI bus, which [`super::EalConfig::pci`] must name before DPDK starts.
    #[must_use]
    pub fn is_pci(&self) -> bool {
        self.kind == Kind::Pci
    }

    /// Name and arguments, as `rte_dev_probe` takes them.
    pub(super) fn devargs(&self) -> String {
        match self.arguments.as_str() {
            "" => self.name.clone(),
            arguments => format!("{},{arguments}", self.name),
        }
    }

    /// Look for what drivers report poorly: interfaces and files that are not there. Removes the socket file that a
    /// crashed memif server left behind, on which the driver would fail with "address already in use".
    pub(super) fn prepare(&self) -> Result<(), DeviceError> {
        for (argument, value) in self.arguments() {
            match (self.driver(), argument) {
                ("net_af_packet" | "net_af_xdp", "iface")
                | ("net_pcap", "iface" | "rx_iface" | "rx_iface_in" | "tx_iface")
                | ("net_tap" | "net_tun", "remote") => interface_exists(argument, value)?,
                ("net_pcap", "rx_pcap") => readable(argument, Path::new(value))?,
                ("net_pcap", "tx_pcap") => directory_exists(argument, Path::new(value))?,
                _ => {}
            }
        }
        if self.driver() == "net_memif" && self.argument("role") == Some("server") {
            remove_stale_socket(Path::new(self.argument("socket").unwrap_or("/run/memif.sock")));
        }
        Ok(())
    }

    /// `net_memif` of `net_memif0`.
    fn driver(&self) -> &str {
        self.name.trim_end_matches(|character: char| character.is_ascii_digit())
    }

    fn arguments(&self) -> impl Iterator<Item = (&str, &str)> {
        self.arguments
            .split(',')
            .filter_map(|argument| argument.split_once('='))
    }

    fn argument(&self, name: &str) -> Option<&str> {
        self.arguments()
            .find(|(argument, _)| *argument == name)
            .map(|(_, value)| value)
    }
}

/// `[domain:]bus:device.function`, completed with domain 0.
fn pci_address(text: &str) -> Option<String> {
    let (slot, function) = text.split_once('.')?;
    let number = |part: &str, digits| part.len() <= digits && u32::from_str_radix(part, 16).is_ok();
    let parts: Vec<&str> = slot.split(':').collect();
    let (domain, bus, device) = match parts[..] {
        [domain, bus, device] => (domain, bus, device),
        [bus, device] => ("0000", bus, device),
        _ => return None,
    };
    let valid = number(domain, 8) && number(bus, 2) && number(device, 2) && number(function, 1);
    valid.then(|| format!("{domain}:{bus}:{device}.{function}"))
}

fn is_virtual_name(name: &str) -> bool {
    ["net_", "virtio_user"].iter().any(|prefix| name.starts_with(prefix))
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn interface_exists(argument: &str, interface: &str) -> Result<(), DeviceError> {
    // Not by way of /sys/class/net, which may be another network namespace's.
    match if_nametoindex(interface) {
        Ok(_) => Ok(()),
        Err(_) => Err(DeviceError::NoInterface {
            argument: argument.to_owned(),
            interface: interface.to_owned(),
        }),
    }
}

fn readable(argument: &str, path: &Path) -> Result<(), DeviceError> {
    match fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(no_file(argument, path, error.to_string())),
    }
}

fn directory_exists(argument: &str, path: &Path) -> Result<(), DeviceError> {
    match path.parent() {
        Some(directory) if directory.as_os_str().is_empty() || directory.is_dir() => Ok(()),
        _ => Err(no_file(argument, path, "its directory does not exist".to_owned())),
    }
}

fn no_file(argument: &str, path: &Path, reason: String) -> DeviceError {
    DeviceError::NoFile {
        argument: argument.to_owned(),
        path: path.to_owned(),
        reason,
    }
}

/// Only if it is a socket that nobody listens to: a server of this process or another one is left alone, and so is
/// anything that is no socket. Where this fails the driver's own error follows.
fn remove_stale_socket(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && !has_listener(path) {
        let _ = fs::remove_file(path);
    }
}

fn has_listener(path: &Path) -> bool {
    // memif's control channel is a sequenced-packet socket; another type would be refused by a living one too.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connected = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .and_then(|socket| connect(socket.as_raw_fd(), &UnixAddr::new(path)?));
    connected != Err(nix::errno::Errno::ECONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn device(text: &str) -> Device {
        text.parse().unwrap()
    }

    #[test]
    fn pci_addresses_are_completed_with_domain_zero() {
        assert_eq!(device("03:00.1").name(), "0000:03:00.1");
        assert_eq!(device("0000:af:00.0,arg=1").devargs(), "0000:af:00.0,arg=1");
        assert!(device("03:00.1").is_pci());
    }

    #[test]
    fn virtual_devices_keep_their_name_and_arguments() {
        let memif = device("net_memif0,role=server,socket=/run/x.sock");
        assert_eq!((memif.name(), memif.driver()), ("net_memif0", "net_memif"));
        assert_eq!(memif.argument("socket"), Some("/run/x.sock"));
        assert_eq!(memif.devargs(), "net_memif0,role=server,socket=/run/x.sock");
        assert!(!memif.is_pci());
    }

    #[test]
    fn names_of_nothing_are_refused_with_an_example() {
        for text in [
            "",
            "eth0",
            "0000:03:00",
            "zz:00.0",
            "net_null 0",
            "net_null0\0",
            "03:00.0.1",
        ] {
            let error = text.parse::<Device>().unwrap_err();
            assert!(
                error.to_string().contains("net_af_packet0,iface=eth0"),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn missing_interfaces_and_files_are_named() {
        let interface = device("net_af_packet0,iface=nowhere0").prepare().unwrap_err();
        assert!(interface.to_string().contains("nowhere0"), "{interface}");
        let input = device("net_pcap0,rx_pcap=/nowhere/in.pcap").prepare().unwrap_err();
        assert!(input.to_string().contains("rx_pcap=/nowhere/in.pcap"), "{input}");
        let output = device("net_pcap0,tx_pcap=/nowhere/out.pcap").prepare().unwrap_err();
        assert!(output.to_string().contains("directory does not exist"), "{output}");
        device("net_af_packet0,iface=lo").prepare().unwrap();
    }

    #[test]
    fn only_a_socket_without_listener_is_stale() {
        let path = std::env::temp_dir().join(format!("upf-host-stale-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        remove_stale_socket(&path);
        assert!(path.exists(), "somebody listens");
        drop(listener);
        remove_stale_socket(&path);
        assert!(!path.exists(), "nobody listens");

        fs::write(&path, "precious").unwrap();
        remove_stale_socket(&path);
        assert!(path.exists(), "not a socket");
        fs::remove_file(&path).unwrap();
    }
}
