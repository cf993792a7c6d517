//! What to simulate: addresses, tunnels, UEs; and the text form of a UE that the command line takes.

use crate::AirDelay;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// MTU of a UE's link: leaves room for the tunnel headers within an N3 MTU of 1500, IPv6 outside included.
pub const DEFAULT_MTU: u16 = 1400;

/// A gNB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GnbConfig {
    /// N3 address and port of the gNB. The address must be a specific one: Error Indications carry it.
    pub bind: SocketAddr,
    /// N3 address and port of the UPF, for UEs that name no other.
    pub upf: SocketAddr,
    /// Network namespace of the N3 socket; none: that of the caller.
    pub netns: Option<String>,
    /// UEs from the start; more can come later.
    pub ues: Vec<UeConfig>,
}

impl GnbConfig {
    /// A gNB in the caller's namespace, without UEs yet.
    pub fn new(bind: SocketAddr, upf: SocketAddr) -> Self {
        Self {
            bind,
            upf,
            netns: None,
            ues: Vec::new(),
        }
    }
}

/// A UE with one PDU session of one QoS flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UeConfig {
    /// What reports call it.
    pub name: String,
    /// Network namespace (name, or path) where its TUN device is made; none: that of the caller.
    pub netns: Option<String>,
    /// Name of the TUN device; a `%d` in it is numbered by the kernel.
    pub tun: String,
    /// The UE's addresses.
    pub addresses: Vec<UeAddress>,
    /// Routes into the TUN device. `default` means one default route for each family that has an address.
    pub routes: Vec<String>,
    /// MTU of the TUN device.
    pub mtu: u16,
    /// The UPF's TEID, for uplink packets.
    pub teid_ul: u32,
    /// The UPF's N3 address, if it is not the gNB's usual one.
    pub upf: Option<SocketAddr>,
    /// The gNB's TEID, for downlink packets.
    pub teid_dl: u32,
    /// QoS flow of all uplink packets, 0..=63.
    pub qfi: u8,
    /// What answers to QoS monitoring tell of the air; none: nothing.
    pub air: Option<AirDelay>,
}

impl UeConfig {
    /// A UE in a namespace of its own, which becomes its name, with a default route into the tunnel.
    pub fn in_netns(netns: &str, addresses: &[IpAddr], teid_ul: u32, teid_dl: u32, qfi: u8) -> Self {
        Self {
            name: netns.to_owned(),
            netns: Some(netns.to_owned()),
            tun: "tun%d".to_owned(),
            addresses: addresses.iter().copied().map(UeAddress::host).collect(),
            routes: vec!["default".to_owned()],
            mtu: DEFAULT_MTU,
            teid_ul,
            upf: None,
            teid_dl,
            qfi,
            air: None,
        }
    }
}

/// An address of a UE and its prefix length on the TUN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UeAddress {
    /// The address.
    pub addr: IpAddr,
    /// 32 for IPv4, 64 for IPv6, unless given.
    pub prefix_len: u8,
}

impl UeAddress {
    /// With the usual length: a single IPv4 address, an IPv6 /64.
    pub fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            prefix_len: if addr.is_ipv4() { 32 } else { 64 },
        }
    }
}

/// Why a text describes no UE.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UeConfigError {
    /// Not `key=value`.
    #[error("expected KEY=VALUE, found {0:?}")]
    NoValue(String),
    /// Unknown key.
    #[error("unknown key {0:?}: expected name, netns, tun, addr, route, mtu, teid-ul, teid-dl, upf, qfi or air-ms")]
    UnknownKey(String),
    /// Bad value.
    #[error("{key}: expected {expected}, found {found:?}")]
    BadValue {
        /// Which key.
        key: &'static str,
        /// What it wants.
        expected: &'static str,
        /// What it got.
        found: String,
    },
    /// A mandatory key is missing.
    #[error("{0} is missing: a UE needs teid-ul, teid-dl and at least one addr")]
    Missing(&'static str),
}

impl FromStr for UeConfig {
    type Err = UeConfigError;

    /// `netns=ue1,teid-ul=0x101,teid-dl=1,addr=10.60.0.1,qfi=9`: keys in any order, `addr` and `route` repeatable,
    /// numbers decimal or `0x`. Without `route`, a UE in a namespace gets default routes and one outside gets none:
    /// the machine's own default route is never touched unasked.
    fn from_str(text: &str) -> Result<Self, UeConfigError> {
        let (mut name, mut netns, mut tun, mut upf) = (None, None, None, None);
        let (mut addresses, mut routes) = (Vec::new(), Vec::new());
        let mut air = None;
        let (mut mtu, mut qfi, mut teid_ul, mut teid_dl) = (DEFAULT_MTU, 9, None, None);
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| UeConfigError::NoValue(item.to_owned()))?;
            let bad = |key, expected| UeConfigError::BadValue {
                key,
                expected,
                found: value.to_owned(),
            };
            match key {
                "name" => name = Some(value.to_owned()),
                "netns" => netns = Some(value.to_owned()),
                "tun" => tun = Some(value.to_owned()),
                "addr" => addresses.push(address(value).ok_or_else(|| bad("addr", "ADDRESS or ADDRESS/LENGTH"))?),
                "route" => routes.push(value.to_owned()),
                "mtu" => mtu = value.parse().map_err(|_| bad("mtu", "a number up to 65535"))?,
                "teid-ul" => teid_ul = Some(number(value).ok_or_else(|| bad("teid-ul", "a 32-bit number"))?),
                "teid-dl" => teid_dl = Some(number(value).ok_or_else(|| bad("teid-dl", "a 32-bit number"))?),
                "upf" => upf = Some(n3_address(value).ok_or_else(|| bad("upf", "ADDRESS or ADDRESS:PORT"))?),
                "qfi" => {
                    qfi = value
                        .parse()
                        .ok()
                        .filter(|q| *q < 64)
                        .ok_or_else(|| bad("qfi", "a number from 0 to 63"))?;
                }
                "air-ms" => air = Some(air_delay(value).ok_or_else(|| bad("air-ms", "DOWNLINK/UPLINK, milliseconds"))?),
                other => return Err(UeConfigError::UnknownKey(other.to_owned())),
            }
        }
        if addresses.is_empty() {
            return Err(UeConfigError::Missing("addr"));
        }
        if routes.is_empty() && netns.is_some() {
            routes.push("default".to_owned());
        }
        let teid_dl = teid_dl.ok_or(UeConfigError::Missing("teid-dl"))?;
        Ok(Self {
            name: name
                .or_else(|| netns.clone())
                .unwrap_or_else(|| format!("ue-{teid_dl:#x}")),
            netns,
            tun: tun.unwrap_or_else(|| "tun%d".to_owned()),
            addresses,
            routes,
            mtu,
            teid_ul: teid_ul.ok_or(UeConfigError::Missing("teid-ul"))?,
            upf,
            teid_dl,
            qfi,
            air,
        })
    }
}

fn address(text: &str) -> Option<UeAddress> {
    let Some((addr, len)) = text.split_once('/') else {
        return text.parse().ok().map(UeAddress::host);
    };
    let addr: IpAddr = addr.parse().ok()?;
    let longest = if addr.is_ipv4() { 32 } else { 128 };
    let prefix_len = len.parse().ok().filter(|len| *len <= longest)?;
    Some(UeAddress { addr, prefix_len })
}

fn air_delay(text: &str) -> Option<AirDelay> {
    let (downlink, uplink) = text.split_once('/')?;
    Some(AirDelay {
        downlink_ms: downlink.parse().ok()?,
        uplink_ms: uplink.parse().ok()?,
    })
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// An address with a port, or without one: then GTP-U's registered port.
pub fn n3_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        text.parse()
            .ok()
            .map(|addr: IpAddr| SocketAddr::new(addr, gtpu::UDP_PORT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_text_of_a_ue_gets_the_usual_rest() {
        let ue: UeConfig = "netns=ue1,teid-ul=0x101,teid-dl=1,addr=10.60.0.1".parse().unwrap();
        assert_eq!(
            ue,
            UeConfig::in_netns("ue1", &["10.60.0.1".parse().unwrap()], 0x101, 1, 9)
        );
    }

    #[test]
    fn every_key_is_taken() {
        let ue: UeConfig = "name=a,netns=b,tun=c,addr=2001:db8::1/128,addr=10.0.0.1,route=10.0.0.0/8,mtu=1280,\
                            teid-ul=7,teid-dl=8,upf=192.0.2.9,qfi=63,air-ms=5/12"
            .parse()
            .unwrap();
        assert_eq!(
            (ue.name.as_str(), ue.netns.as_deref(), ue.tun.as_str()),
            ("a", Some("b"), "c")
        );
        assert_eq!(ue.addresses[0].prefix_len, 128);
        assert_eq!(ue.addresses[1].prefix_len, 32);
        assert_eq!(ue.routes, ["10.0.0.0/8"]);
        assert_eq!((ue.mtu, ue.teid_ul, ue.teid_dl, ue.qfi), (1280, 7, 8, 63));
        let air = AirDelay {
            downlink_ms: 5,
            uplink_ms: 12,
        };
        assert_eq!(ue.air, Some(air));
        assert_eq!(ue.upf, Some("192.0.2.9:2152".parse().unwrap()));
    }

    #[test]
    fn a_ue_outside_a_namespace_gets_no_default_route() {
        let ue: UeConfig = "teid-ul=1,teid-dl=2,addr=10.0.0.1".parse().unwrap();
        assert!(ue.routes.is_empty() && ue.netns.is_none());
    }

    #[test]
    fn errors_name_the_key_and_what_it_wants() {
        let error = |text: &str| text.parse::<UeConfig>().unwrap_err().to_string();
        assert_eq!(error("qfi=64"), "qfi: expected a number from 0 to 63, found \"64\"");
        assert_eq!(
            error("addr=10.0.0.1/33"),
            "addr: expected ADDRESS or ADDRESS/LENGTH, found \"10.0.0.1/33\""
        );
        assert!(error("teid-ul=1,teid-dl=1").starts_with("addr is missing"));
        assert!(error("addr=::1,teid-dl=1").starts_with("teid-ul is missing"));
        assert!(error("colour=blue").starts_with("unknown key \"colour\""));
        assert_eq!(error("qfi"), "expected KEY=VALUE, found \"qfi\"");
    }
}
