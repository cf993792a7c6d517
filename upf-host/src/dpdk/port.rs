//! Ethernet ports: probing, configuration, starting, and what can be asked of them.

use super::device::{Device, DeviceError};
use super::{Errno, Mempool, RxQueue, TxQueue};
use dpdk_sys::*;
use std::ffi::{CStr, CString, NulError};
use std::sync::Arc;

/// How a port is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// The device and its arguments, as [`Device`] describes.
    pub device: String,
    /// Receive queues wanted. Opened are as many of them as the device has, at least one.
    pub rx_queues: u16,
    /// Transmit queues wanted. Opened are as many of them as the device has, at least one.
    pub tx_queues: u16,
    /// Largest IP packet, in bytes. The interface behind a virtual device keeps the MTU it has.
    pub mtu: u16,
    /// The port's Ethernet address, if not the device's own.
    pub mac: Option<[u8; 6]>,
    /// Length of each receive queue, rounded to what the device has.
    pub rx_descriptors: u16,
    /// Length of each transmit queue, rounded to what the device has.
    pub tx_descriptors: u16,
    /// Receive what is addressed to others as well.
    pub promiscuous: bool,
    /// Have [`Interrupts`](super::Interrupts) where the driver can: network cards and `net_tap`.
    pub interrupts: bool,
}

impl PortConfig {
    /// One queue each way, 1024 packets long; an MTU of 1500; the device's own address.
    #[must_use]
    pub fn new(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            rx_queues: 1,
            tx_queues: 1,
            mtu: 1500,
            mac: None,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            promiscuous: false,
            interrupts: false,
        }
    }
}

/// Why a port could not be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The device cannot exist as it is described.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device is open already, by this name.
    #[error("{0} is open already; give every port a device of its own")]
    AlreadyOpen(String),
    /// No driver took the device.
    #[error("{device}: {errno}; {advice}")]
    Probe {
        /// Name and arguments.
        device: String,
        /// DPDK's reason.
        errno: Errno,
        /// What to look at.
        advice: &'static str,
    },
    /// The device carries no packets of this size.
    #[error("{device}: MTU {mtu} is configured, its driver can do {min} to {max}")]
    Mtu {
        /// As configured.
        device: String,
        /// As configured.
        mtu: u16,
        /// The driver's limit.
        min: u16,
        /// The driver's limit.
        max: u16,
    },
    /// A full packet would not fit into an mbuf.
    #[error("{device}: MTU {mtu} needs packets of {needed} bytes, the mempool's have {room}; use larger ones")]
    Room {
        /// As configured.
        device: String,
        /// As configured.
        mtu: u16,
        /// With Ethernet header, two VLAN tags and checksum.
        needed: u32,
        /// [`Mempool::room`].
        room: u16,
    },
    /// A step of the configuration failed.
    #[error("{device}: {step}: {errno}")]
    Configure {
        /// Its name.
        device: String,
        /// The function of DPDK.
        step: &'static str,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// An open, started port, for asking and counting; packets go through its [`Queues`]. Clones share it. The last
/// clone or queue to go stops and closes the device, upon which `net_pcap` writes out its file.
#[derive(Clone, Debug)]
pub struct Port {
    open: Arc<OpenDevice>,
    driver: String,
    mac: [u8; 6],
    mtu: u16,
    rx_offloads: u64,
    tx_offloads: u64,
}

/// The queues of a port, each to be moved to the lcore that polls it.
#[derive(Debug)]
pub struct Queues {
    /// In the order of their numbers; packets of one flow come in through one of them.
    pub rx: Vec<RxQueue>,
    /// In the order of their numbers.
    pub tx: Vec<TxQueue>,
}

/// Whether the cable is plugged in, or the other end of the virtual one is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// Packets can pass.
    pub up: bool,
    /// Mbit/s; 0 or 4294967295 where the driver does not know.
    pub mbps: u32,
}

/// A port's own counters, since it was opened. What drivers count as a packet's bytes is with or without the Ethernet
/// checksum.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(
    missing_docs,
    reason = "those of struct rte_eth_stats, documented below where it matters"
)]
pub struct PortStatistics {
    pub ipackets: u64,
    pub opackets: u64,
    pub ibytes: u64,
    pub obytes: u64,
    /// Dropped by the port because nobody emptied its queue in time.
    pub imissed: u64,
    pub ierrors: u64,
    pub oerrors: u64,
    /// Dropped because the mempool was empty.
    pub rx_nombuf: u64,
}

/// Which checksums of the outermost headers a port computes when it sends.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TxChecksumOffloads {
    /// Of the IPv4 header.
    pub ipv4: bool,
    /// Of UDP over IPv4 and IPv6.
    pub udp: bool,
}

/// A device that a driver has taken: closed when the last handle goes.
#[derive(Debug)]
pub(super) struct OpenDevice {
    id: u16,
    device: Device,
    /// Drivers take packets from it and give them back while the port closes: dropped after that.
    pool: Mempool,
}

/// An Ethernet frame around an IP packet: header, two VLAN tags, checksum.
const FRAME_OVERHEAD: u32 = 14 + 2 * 4 + 4;

impl Port {
    /// Probe the device, configure and start it. Packets it receives are allocated from `pool`.
    ///
    /// Checksums are verified and computed by the device where it can. With several receive queues packets are spread
    /// by their addresses and UDP or TCP ports, as far as the device can.
    ///
    /// A device that cannot change its Ethernet address receives promiscuously if [`PortConfig::mac`] asks for another.
    pub fn open(config: &PortConfig, pool: &Mempool) -> Result<(Self, Queues), PortError> {
        let device: Device = config.device.parse()?;
        device.prepare()?;
        let open = OpenDevice::probe(device, pool)?;
        let info = open.info()?;
        let mtu = check_sizes(config, &info, pool)?;

        let rx_queues = config.rx_queues.clamp(1, info.max_rx_queues.max(1));
        let tx_queues = config.tx_queues.clamp(1, info.max_tx_queues.max(1));
        let rx_wanted = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
        let tx_wanted = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
        let (rx_offloads, tx_offloads) = (info.rx_offload_capa & rx_wanted, info.tx_offload_capa & tx_wanted);

        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(mtu);
        conf.rxmode.offloads = rx_offloads;
        conf.txmode.offloads = tx_offloads;
        let rss = info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_GTPU);
        if rx_queues > 1 && rss != 0 {
            conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = rss;
        }
        let start = |interrupts: bool| {
            conf.intr_conf.set_rxq(interrupts.into());
            // SAFETY: the port exists and is not started, and nobody else knows of it yet; all pointers are to locals.
            open.step("rte_eth_dev_configure", |id| unsafe {
                rte_eth_dev_configure(id, rx_queues, tx_queues, &conf)
            })?;
            open.set_up_queues(config, &info, (rx_queues, tx_queues), (rx_offloads, tx_offloads))?;
            let own_mac = open.set_mac(config.mac)?;
            // SAFETY: the port is configured.
            open.step("rte_eth_dev_start", |id| unsafe { rte_eth_dev_start(id) })?;
            Ok((own_mac, interrupts))
        };
        let (own_mac, interrupts) = open.with_or_without_interrupts(config.interrupts, start)?;
        // Neighbour discovery is multicast. Drivers that cannot filter have neither of the two.
        // SAFETY: the port is started.
        open.step_if_supported("rte_eth_allmulticast_enable", |id| unsafe {
            rte_eth_allmulticast_enable(id)
        })?;
        if config.promiscuous || !own_mac {
            // SAFETY: the port is started.
            open.step_if_supported("rte_eth_promiscuous_enable", |id| unsafe {
                rte_eth_promiscuous_enable(id)
            })?;
        }

        let port = Self {
            driver: driver_name(&info),
            mac: if own_mac {
                open.mac()?
            } else {
                config.mac.unwrap_or_default()
            },
            mtu: config.mtu,
            rx_offloads,
            tx_offloads,
            open: Arc::new(open),
        };
        let queues = Queues {
            rx: (0..rx_queues)
                .map(|queue| RxQueue::new(port.open.clone(), queue, interrupts))
                .collect(),
            tx: (0..tx_queues)
                .map(|queue| TxQueue::new(port.open.clone(), queue))
                .collect(),
        };
        Ok((port, queues))
    }

    /// DPDK's number of the port, as in [`super::Mbuf::port`].
    #[must_use]
    pub fn id(&self) -> u16 {
        self.open.id
    }

    /// The device's name without its arguments.
    #[must_use]
    pub fn name(&self) -> &str {
        self.open.device.name()
    }

    /// The driver's name, such as `net_af_packet` or `mlx5_pci`.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The address to send from.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Largest IP packet, in bytes, as configured.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// What [`super::Mbuf::request_checksums`] may ask of this port.
    #[must_use]
    pub fn tx_checksums(&self) -> TxChecksumOffloads {
        TxChecksumOffloads {
            ipv4: self.tx_offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM != 0,
            udp: self.tx_offloads & RTE_ETH_TX_OFFLOAD_UDP_CKSUM != 0,
        }
    }

    /// Whether received packets come with a verdict on their IPv4 header checksum.
    #[must_use]
    pub fn verifies_ip_checksums(&self) -> bool {
        self.rx_offloads & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM != 0
    }

    /// Asks the driver, without waiting for the link to settle.
    #[must_use]
    pub fn link(&self) -> LinkStatus {
        let mut link = LinkStatus { up: false, mbps: 0 };
        // SAFETY: the port is open; a failure leaves the link down.
        unsafe { dpdk_link_status(self.open.id, &mut link.up, &mut link.mbps) };
        link
    }

    /// Asks the driver; some microseconds with a NIC. Zeros if it does not count.
    #[must_use]
    pub fn statistics(&self) -> PortStatistics {
        let mut stats = rte_eth_stats::default();
        // SAFETY: the port is open; a failure leaves the zeros.
        unsafe { rte_eth_stats_get(self.open.id, &mut stats) };
        PortStatistics {
            ipackets: stats.ipackets,
            opackets: stats.opackets,
            ibytes: stats.ibytes,
            obytes: stats.obytes,
            imissed: stats.imissed,
            ierrors: stats.ierrors,
            oerrors: stats.oerrors,
            rx_nombuf: stats.rx_nombuf,
        }
    }
}

impl OpenDevice {
    /// Have a driver take the device, unless it took it when DPDK started, as it does PCI devices.
    fn probe(device: Device, pool: &Mempool) -> Result<Self, PortError> {
        pool.eal().with_devices(|devices| {
            if devices.contains(device.name()) {
                return Err(PortError::AlreadyOpen(device.name().to_owned()));
            }
            let id = match port_by_name(device.name())? {
                Some(id) => id,
                None => {
                    let devargs = c_string(&device, device.devargs())?;
                    // SAFETY: the EAL is initialised, devices come and go under this lock only, and DPDK copies the
                    // string.
                    let result = unsafe { rte_dev_probe(devargs.as_ptr()) };
                    Errno::check(result).map_err(|errno| not_probed(&device, errno))?;
                    port_by_name(device.name())?.ok_or_else(|| not_probed(&device, Errno(libc::ENODEV)))?
                }
            };
            devices.insert(device.name().to_owned());
            Ok(Self {
                id,
                device,
                pool: pool.clone(),
            })
        })
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    fn step(&self, step: &'static str, call: impl FnOnce(u16) -> i32) -> Result<(), PortError> {
        Errno::check(call(self.id)).map_err(|errno| self.failed(step, errno))
    }

    fn step_if_supported(&self, step: &'static str, call: impl FnOnce(u16) -> i32) -> Result<bool, PortError> {
        match Errno::check(call(self.id)) {
            Ok(()) => Ok(true),
            Err(errno) if errno.is_unsupported() => Ok(false),
            Err(errno) => Err(self.failed(step, errno)),
        }
    }

    fn failed(&self, step: &'static str, errno: Errno) -> PortError {
        PortError::Configure {
            device: self.device.name().to_owned(),
            step,
            errno,
        }
    }

    /// Starts with interrupts if they are wanted; without, if that fails: too few vectors, or a kernel driver without any.
    fn with_or_without_interrupts<T>(
        &self,
        wanted: bool,
        mut start: impl FnMut(bool) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        match start(wanted) {
            Err(error) if wanted => {
                tracing::info!(device = self.device.name(), %error, "no receive interrupts");
                start(false)
            }
            started => started,
        }
    }

    fn info(&self) -> Result<rte_eth_dev_info, PortError> {
        let mut info = rte_eth_dev_info::default();
        // SAFETY: the port exists.
        self.step("rte_eth_dev_info_get", |id| unsafe {
            rte_eth_dev_info_get(id, &mut info)
        })?;
        Ok(info)
    }

    fn set_up_queues(
        &self,
        config: &PortConfig,
        info: &rte_eth_dev_info,
        (rx_queues, tx_queues): (u16, u16),
        (rx_offloads, tx_offloads): (u64, u64),
    ) -> Result<(), PortError> {
        let (mut rx_descriptors, mut tx_descriptors) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: the port is configured and not started; all pointers are to locals, whose contents DPDK copies; the
        // pool lives longer than the port.
        unsafe {
            self.step("rte_eth_dev_adjust_nb_rx_tx_desc", |id| {
                rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_descriptors, &mut tx_descriptors)
            })?;
            // Minus one is "any" to DPDK.
            let socket = rte_eth_dev_socket_id(self.id) as u32;
            let mut rx_conf = info.default_rxconf;
            rx_conf.offloads = rx_offloads;
            for queue in 0..rx_queues {
                self.step("rte_eth_rx_queue_setup", |id| {
                    rte_eth_rx_queue_setup(id, queue, rx_descriptors, socket, &rx_conf, self.pool.as_ptr())
                })?;
            }
            let mut tx_conf = info.default_txconf;
            tx_conf.offloads = tx_offloads;
            for queue in 0..tx_queues {
                self.step("rte_eth_tx_queue_setup", |id| {
                    rte_eth_tx_queue_setup(id, queue, tx_descriptors, socket, &tx_conf)
                })?;
            }
        }
        Ok(())
    }

    /// True if the port's address is the wanted one, or none is wanted.
    fn set_mac(&self, wanted: Option<[u8; 6]>) -> Result<bool, PortError> {
        let Some(wanted) = wanted else { return Ok(true) };
        if wanted == self.mac()? {
            return Ok(true);
        }
        let mut address = rte_ether_addr { addr_bytes: wanted };
        // SAFETY: the port is configured; the address is copied.
        self.step_if_supported("rte_eth_dev_default_mac_addr_set", |id| unsafe {
            rte_eth_dev_default_mac_addr_set(id, &mut address)
        })
    }

    fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut address = rte_ether_addr::default();
        // SAFETY: the port exists.
        self.step("rte_eth_macaddr_get", |id| unsafe {
            rte_eth_macaddr_get(id, &mut address)
        })?;
        Ok(address.addr_bytes)
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        self.pool.eal().with_devices(|devices| {
            // SAFETY: no queue and no other handle is left. Errors leave nothing to be done. The structure behind
            // `info.device` is the bus's, and lives until the device is removed.
            unsafe {
                let mut info = rte_eth_dev_info::default();
                let found = rte_eth_dev_info_get(self.id, &mut info) == 0;
                rte_eth_dev_stop(self.id);
                rte_eth_dev_close(self.id);
                // A virtual device can be made again; one on the PCI bus stays where it is.
                if found && !self.device.is_pci() {
                    rte_dev_remove(info.device);
                }
            }
            devices.remove(self.device.name());
        });
    }
}

fn port_by_name(name: &str) -> Result<Option<u16>, PortError> {
    let name = CString::new(name).map_err(|_| DeviceError::Name(name.to_owned()))?;
    let mut id = 0;
    // SAFETY: the EAL is initialised (a mempool proves it); the name is a C string.
    let found = unsafe { rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) } == 0;
    Ok(found.then_some(id))
}

fn c_string(device: &Device, text: String) -> Result<CString, PortError> {
    CString::new(text).map_err(|_: NulError| DeviceError::Name(device.name().to_owned()).into())
}

fn not_probed(device: &Device, errno: Errno) -> PortError {
    let advice = if device.is_pci() {
        "is it in the configuration's list of PCI devices, and bound to vfio-pci (`dpdk-devbind.py --status`)?"
    } else {
        "DPDK's messages tell more; is its driver installed (`apt-get install dpdk`), and are its arguments right?"
    };
    PortError::Probe {
        device: device.devargs(),
        errno,
        advice,
    }
}

/// Drivers that name Ethernet's MTU as their largest, but set none: what the interface behind them takes, they take.
const NOMINAL_MTU: [&str; 1] = ["net_af_packet"];

/// The MTU to tell the driver.
fn check_sizes(config: &PortConfig, info: &rte_eth_dev_info, pool: &Mempool) -> Result<u16, PortError> {
    // As rte_eth_dev_configure reckons: drivers that do not tell their overhead have header and checksum.
    let overhead = match info.max_rx_pktlen.checked_sub(u32::from(info.max_mtu)) {
        Some(overhead) if info.max_mtu != u16::MAX && overhead > 0 => overhead,
        _ => 18,
    };
    let longest = info.max_rx_pktlen.saturating_sub(overhead).min(u32::from(info.max_mtu));
    let max = u16::try_from(longest).unwrap_or(u16::MAX);
    let nominal = NOMINAL_MTU.contains(&driver_name(info).as_str());
    if config.mtu < info.min_mtu || config.mtu > max && !nominal {
        return Err(PortError::Mtu {
            device: config.device.clone(),
            mtu: config.mtu,
            min: info.min_mtu,
            max,
        });
    }
    let needed = u32::from(config.mtu) + FRAME_OVERHEAD;
    if needed > u32::from(pool.room()) {
        return Err(PortError::Room {
            device: config.device.clone(),
            mtu: config.mtu,
            needed,
            room: pool.room(),
        });
    }
    Ok(config.mtu.min(max))
}

fn driver_name(info: &rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: a static string of the driver.
    unsafe { CStr::from_ptr(info.driver_name) }
        .to_string_lossy()
        .into_owned()
}
