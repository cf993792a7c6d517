//! Owns what passes between a P4 target and the host through the host port: why a packet left the fast path, and the
//! headers around frames in both directions. `p4/include/headers.p4` says the same; a test keeps the two alike.
//!
//! ```text
//!  to the host     Ethernet, EtherType 0x88b5 | PuntHeader, 12 bytes    | the frame as it came
//!  from the host   Ethernet, EtherType 0x88b6 | ReinjectHeader, 4 bytes | the frame as it shall leave
//! ```
//! All fields are big-endian.

use crate::{Epoch, SessionId};

/// EtherType of punted frames (IEEE Std 802, local experimental 1).
pub const ETHERTYPE_PUNT: u16 = 0x88b5;
/// EtherType of reinjected frames (local experimental 2).
pub const ETHERTYPE_REINJECT: u16 = 0x88b6;
/// Version of both headers.
pub const VERSION: u8 = 1;
/// Hardware addresses on the host port: the target's and the host's. Nobody resolves them.
pub const TARGET_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// See [`TARGET_MAC`].
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Bytes that punting puts in front of a frame.
pub const PUNT_LEN: usize = 14 + 12;
/// How much larger the MTU of the host port must be than that of any other: a punted frame's header, less the Ethernet
/// header that no MTU counts, and the Ethernet header of the frame inside with its VLAN tag; rounded up.
pub const MTU_OVERHEAD: u16 = 40;
/// Bytes that reinjecting puts in front of a frame.
pub const REINJECT_LEN: usize = 14 + 4;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// Why a packet is not on the fast path. Some are dropped by the target, the others are punted or dropped as
        /// configured; all are counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum PuntReason {
            $($(#[$doc])* $name = $value,)*
        }
        impl PuntReason {
            /// Every reason, in order of value.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// From its value in a punt header.
            pub const fn from_value(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }
            /// Its name in metrics and reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// Hardware address or VLAN of nobody here. Dropped.
    NotOurs = 1, "not_ours";
    /// Group frames, ARP: for the UPF itself.
    Local = 2, "local";
    /// Neither IPv4 nor IPv6.
    EtherType = 3, "ethertype";
    /// Lengths that contradict each other, headers cut short.
    Malformed = 4, "malformed";
    /// Of the first IPv4 header.
    Checksum = 5, "checksum";
    /// IPv4 options in the first header.
    Options = 6, "options";
    /// Of a tunnel packet.
    Fragment = 7, "fragment";
    /// GTP-U signalling, or an extension header besides one plain PDU Session Container.
    Gtpu = 8, "gtpu";
    /// UDP port 2152, but of no tunnel endpoint.
    Endpoint = 9, "endpoint";
    /// No session of this F-TEID in the target.
    UnknownTeid = 10, "unknown_teid";
    /// No session of this UE address in the target.
    UnknownUe = 11, "unknown_ue";
    /// The session is the host's by decision of the controller.
    HostSession = 12, "host_session";
    /// From an address that is not the session's, or not as far as the target knows.
    Spoofed = 13, "spoofed";
    /// The flow is not in the target yet.
    FlowMiss = 14, "flow_miss";
    /// Rules ask for what was not parsed: fragment, options, extension headers.
    Unparsed = 15, "unparsed";
    /// The rule is not there: the controller is at work.
    RuleMissing = 16, "rule_missing";
    /// The FAR is not there: the controller is at work.
    FarMissing = 17, "far_missing";
    /// The FAR says BUFF.
    Buffer = 18, "buffer";
    /// The action is the host's, as duplicating is.
    FarHost = 19, "far_host";
    /// A gate is closed. Dropped.
    GateClosed = 20, "gate_closed";
    /// The FAR says DROP. Dropped.
    FarDrop = 21, "far_drop";
    /// Over a rate. Dropped.
    Policed = 22, "policed";
    /// Hop limit or TTL used up.
    HopLimit = 23, "hop_limit";
    /// Longer than the way out allows.
    Mtu = 24, "mtu";
    /// No route.
    NoRoute = 25, "no_route";
    /// On-link, hardware address unknown to the target.
    NoNeighbour = 26, "no_neighbour";
    /// Congestion was signalled to a packet that cannot carry the signal.
    Ecn = 27, "ecn";
    /// A reinject frame that did not come from the host. Dropped.
    Forged = 28, "forged";
    /// The host sent what the target cannot send on. Dropped.
    BadReinject = 29, "bad_reinject";
    /// To be punted, but over the rate of its reason or user. Dropped. Not in the table of reasons: counted apart.
    Limited = 30, "limited";
}

impl PuntReason {
    /// Whether the target drops such packets itself, whatever the configuration.
    pub const fn is_drop(self) -> bool {
        matches!(
            self,
            Self::NotOurs
                | Self::GateClosed
                | Self::FarDrop
                | Self::Policed
                | Self::Forged
                | Self::BadReinject
                | Self::Limited
        )
    }
}

/// In front of a punted frame, after an Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PuntHeader {
    /// Why.
    pub reason: PuntReason,
    /// The target's port at which it came in.
    pub ingress_port: u16,
    /// The session found, with the epoch under which it was looked up.
    pub session: Option<(SessionId, Epoch)>,
}

/// Why a frame from the host port is not a punted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PuntError {
    /// Shorter than the headers.
    #[error("expected at least {PUNT_LEN} bytes, found {0}")]
    Short(usize),
    /// Another EtherType.
    #[error("expected EtherType 0x88b5, found {0:#06x}")]
    EtherType(u16),
    /// Another version of the header.
    #[error("expected version {VERSION} of the punt header, found {0}")]
    Version(u8),
    /// A reason that this version does not know.
    #[error("unknown punt reason {0}")]
    Reason(u8),
}

impl PuntHeader {
    /// Reads the Ethernet and punt header of a frame from the host port; the frame as it came starts at
    /// [`PUNT_LEN`]. Cost: a few loads.
    ///
    /// # Errors
    /// [`PuntError`].
    #[inline]
    pub fn read(frame: &[u8]) -> Result<Self, PuntError> {
        let h = frame.first_chunk::<PUNT_LEN>().ok_or(PuntError::Short(frame.len()))?;
        let be16 = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
        let be32 = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        if be16(12) != ETHERTYPE_PUNT {
            return Err(PuntError::EtherType(be16(12)));
        }
        if h[14] != VERSION {
            return Err(PuntError::Version(h[14]));
        }
        let session = be32(18);
        Ok(Self {
            reason: PuntReason::from_value(h[15]).ok_or(PuntError::Reason(h[15]))?,
            ingress_port: be16(16),
            session: (session != u32::MAX).then_some((SessionId(session), Epoch(be32(22)))),
        })
    }

    /// The headers as the target writes them.
    pub fn to_bytes(self) -> [u8; PUNT_LEN] {
        let mut h = [0; PUNT_LEN];
        h[..6].copy_from_slice(&HOST_MAC);
        h[6..12].copy_from_slice(&TARGET_MAC);
        h[12..14].copy_from_slice(&ETHERTYPE_PUNT.to_be_bytes());
        h[14] = VERSION;
        h[15] = self.reason as u8;
        h[16..18].copy_from_slice(&self.ingress_port.to_be_bytes());
        let (session, epoch) = self
            .session
            .map_or((u32::MAX, 0), |(session, epoch)| (session.0, epoch.0));
        h[18..22].copy_from_slice(&session.to_be_bytes());
        h[22..].copy_from_slice(&epoch.to_be_bytes());
        h
    }
}

/// In front of a frame that the host has finished, after an Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReinjectHeader {
    /// The target's port at which it shall leave.
    pub egress_port: u16,
    /// Priority queue there, 0 to 7; a higher one goes first.
    pub queue: u8,
}

impl ReinjectHeader {
    /// The headers as the host writes them.
    #[inline]
    pub fn to_bytes(self) -> [u8; REINJECT_LEN] {
        let mut h = [0; REINJECT_LEN];
        h[..6].copy_from_slice(&TARGET_MAC);
        h[6..12].copy_from_slice(&HOST_MAC);
        h[12..14].copy_from_slice(&ETHERTYPE_REINJECT.to_be_bytes());
        h[14] = VERSION;
        h[15] = self.queue;
        h[16..].copy_from_slice(&self.egress_port.to_be_bytes());
        h
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_punt_header_reads_as_it_was_written() {
        for &reason in PuntReason::ALL {
            for session in [None, Some((SessionId(7), Epoch(3)))] {
                let header = PuntHeader {
                    reason,
                    ingress_port: 0x1fe,
                    session,
                };
                assert_eq!(PuntHeader::read(&header.to_bytes()), Ok(header));
            }
        }
    }

    #[test]
    fn what_is_no_punted_frame_is_refused() {
        let good = PuntHeader {
            reason: PuntReason::Mtu,
            ingress_port: 1,
            session: None,
        }
        .to_bytes();
        let broken = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            PuntHeader::read(&bytes)
        };
        assert_eq!(PuntHeader::read(&good[..25]), Err(PuntError::Short(25)));
        assert_eq!(broken(13, 0), Err(PuntError::EtherType(0x8800)));
        assert_eq!(broken(14, 2), Err(PuntError::Version(2)));
        assert_eq!(broken(15, 200), Err(PuntError::Reason(200)));
    }

    #[test]
    fn the_p4_program_has_the_same_reasons_and_ether_types() {
        let source = include_str!("../../p4/include/headers.p4");
        let constants: Vec<(&str, u64)> = source
            .lines()
            .filter_map(|line| line.strip_prefix("const ")?.split_once('='))
            .filter_map(|(name, value)| {
                let value = value.split(';').next()?.trim();
                let value = match value.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16),
                    None => value.parse(),
                };
                Some((name.split_whitespace().last()?, value.ok()?))
            })
            .collect();
        let reasons: Vec<_> = constants
            .iter()
            .filter(|(n, v)| n.starts_with("REASON_") && *v > 0)
            .collect();
        assert_eq!(reasons.len(), PuntReason::ALL.len());
        for ((name, value), reason) in reasons.into_iter().zip(PuntReason::ALL) {
            assert_eq!(name["REASON_".len()..].to_lowercase(), reason.name());
            assert_eq!(*value, u64::from(*reason as u8));
        }
        assert!(constants.contains(&("ETHERTYPE_PUNT", ETHERTYPE_PUNT.into())));
        assert!(constants.contains(&("ETHERTYPE_REINJECT", ETHERTYPE_REINJECT.into())));
    }
}
