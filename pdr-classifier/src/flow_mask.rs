//! What a lookup looks at: the bits of a packet that decide which rule of its session detects it.
//!
//! Two packets that came to one session the same way and agree in these bits are detected by the same rule, so that the
//! answer to one may be kept, under this mask, for all of them: it is the key of the P4 `flows` table. The mask is the
//! union of what the rules of that direction look at, and is made of them when it is asked for or, in a large set, kept
//! with them.

use crate::compile::OwnUe;
use crate::ethernet::EthernetMask;
use crate::packet::{LABEL_BITS, octets, word};
use crate::row::{Compact, kind};
use crate::{EthernetFields, PacketFields};

/// Masks over the fields of the inner packet; a bit that is not set does not matter. Ends are named by what they are:
/// the UE's is the source of an uplink packet and the destination of a downlink packet.
///
/// A range of ports is decided by the bits above the largest aligned blocks that it is made of, and by no others: 1024
/// to 2047 by six bits, 0 to 65,535 by none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowMask {
    /// QoS flow identifier, six bits.
    pub qfi: u8,
    /// Protocol number.
    pub protocol: u8,
    /// ToS octet or traffic class (DSCP is its upper six bits).
    pub tos: u8,
    /// Whether it matters that a packet has ports at all: a later fragment has none.
    pub has_ports: bool,
    /// Port of the far end.
    pub remote_port: u16,
    /// Port of the UE's end.
    pub ue_port: u16,
    /// Far end of an IPv4 packet.
    pub remote_v4: u32,
    /// UE's end of an IPv4 packet.
    pub ue_v4: u32,
    /// Far end of an IPv6 packet.
    pub remote_v6: u128,
    /// UE's end of an IPv6 packet.
    pub ue_v6: u128,
    /// Security parameter index.
    pub spi: u32,
    /// IPv6 flow label, 20 bits.
    pub flow_label: u32,
    /// Whether it matters which application the flow was found to belong to: no header says that.
    pub application: bool,
    /// Of an Ethernet frame's header.
    pub ethernet: EthernetMask,
    /// Whether a rule asks for the session's own UE addresses.
    pub(crate) own_ue: bool,
}

/// What a mask leaves of a packet. Equal ones, of packets that came to one session by one key, are detected by the same
/// rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey([u32; word::COUNT], [u64; 3]);

impl FlowMask {
    /// What the mask leaves of a packet. How it arrived and its family are always left.
    pub fn key(&self, packet: &PacketFields) -> FlowKey {
        self.key_of_frame(packet, None)
    }

    /// The same for what an Ethernet frame carries, if there is one.
    pub fn key_of_frame(&self, packet: &PacketFields, frame: Option<&EthernetFields>) -> FlowKey {
        let (remote, ue) = if packet.is_v6() {
            (self.remote_v6, self.ue_v6)
        } else {
            (u128::from(self.remote_v4) << 96, u128::from(self.ue_v4) << 96)
        };
        let words = |bits: u128| [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
        let known = |mask: u32, bit: u32| if mask == 0 { 0 } else { bit };
        let no_port = known(self.has_ports.into(), crate::packet::NO_PORT);
        let octets = u32::from(self.protocol)
            | u32::from(self.tos) << octets::TOS_SHIFT
            | octets::V6
            | known(self.spi, octets::SPI)
            | known(self.qfi.into(), octets::QFI);
        let mut mask = [0; word::COUNT];
        mask[word::REMOTE..][..4].copy_from_slice(&words(remote));
        mask[word::UE..][..4].copy_from_slice(&words(ue));
        mask[word::OCTETS] = octets;
        mask[word::REMOTE_PORT] = u32::from(self.remote_port) | no_port;
        mask[word::UE_PORT] = u32::from(self.ue_port) | no_port;
        mask[word::SPI] = self.spi;
        mask[word::FLOW_LABEL] = self.flow_label | known(self.application.into(), !LABEL_BITS);
        mask[word::ARRIVAL] = u32::MAX;
        mask[word::QFI_LOW] = known(self.qfi.into(), u32::MAX);
        mask[word::QFI_HIGH] = mask[word::QFI_LOW];
        let mut key = packet.0;
        key.iter_mut().zip(mask).for_each(|(word, mask)| *word &= mask);
        FlowKey(key, self.ethernet.key(frame))
    }

    /// Whether no bit matters: all packets of that direction are detected by the same rule, or by none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What either looks at.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            qfi: self.qfi | other.qfi,
            protocol: self.protocol | other.protocol,
            tos: self.tos | other.tos,
            has_ports: self.has_ports | other.has_ports,
            remote_port: self.remote_port | other.remote_port,
            ue_port: self.ue_port | other.ue_port,
            remote_v4: self.remote_v4 | other.remote_v4,
            ue_v4: self.ue_v4 | other.ue_v4,
            remote_v6: self.remote_v6 | other.remote_v6,
            ue_v6: self.ue_v6 | other.ue_v6,
            spi: self.spi | other.spi,
            flow_label: self.flow_label | other.flow_label,
            application: self.application | other.application,
            ethernet: self.ethernet.union(other.ethernet),
            own_ue: self.own_ue | other.own_ue,
        }
    }

    /// Adds what the compact form of a row looks at.
    pub(crate) fn look_at(&mut self, row: &Compact) {
        let looked_at = row.kind >> 12 & 0xfff;
        let is = |octets: u32| looked_at & kind(octets) != 0;
        if is(octets::PROTOCOL) {
            self.protocol = u8::MAX;
        }
        if is(octets::QFI) {
            self.qfi = 0x3f;
        }
        self.own_ue |= is(octets::OWN_UE);
        let remote = u32::MAX.checked_shl(row.kind >> 24).unwrap_or(0);
        if row.is_v6() {
            self.remote_v6 |= u128::from(remote) << 96;
        } else {
            self.remote_v4 |= remote;
        }
        let (low, high) = (row.ports & 0xffff, row.ports >> 16);
        if low <= high {
            self.remote_port |= deciding(low, high);
            self.look_at_ports();
        }
    }

    /// Adds what a generic column of a row looks at; the row is for IPv6 or not.
    pub(crate) fn look_at_generic(&mut self, w: usize, [a, b]: [u32; 2], v6: bool) {
        let part = |at: usize| u128::from(b) << (96 - 32 * (w - at));
        match w {
            word::REMOTE..word::UE => self.remote_v6 |= part(word::REMOTE),
            word::UE..word::OCTETS if v6 => self.ue_v6 |= part(word::UE),
            word::UE => self.ue_v4 |= b,
            word::OCTETS => self.tos |= (b >> octets::TOS_SHIFT) as u8,
            word::UE_PORT if b <= 0xffff => {
                self.ue_port |= deciding(a, a + b);
                self.look_at_ports();
            }
            word::SPI => self.spi |= b,
            word::FLOW_LABEL => {
                self.flow_label |= b & LABEL_BITS;
                self.application |= b & !LABEL_BITS != 0;
            }
            _ => {}
        }
    }

    /// Whether there are ports is said by the protocol, and by the packet's being a later fragment.
    const fn look_at_ports(&mut self) {
        self.has_ports = true;
        self.protocol = u8::MAX;
    }

    /// The session's own addresses are looked at in full, if a rule asks for them.
    pub(crate) fn with_own_ue(mut self, own: OwnUe) -> Self {
        if std::mem::take(&mut self.own_ue) {
            if own.has_v4() {
                self.ue_v4 = u32::MAX;
            }
            if own.has_v6() {
                self.ue_v6 |= u128::from(u64::MAX) << 64;
            }
        }
        self
    }
}

/// The bits that decide whether a port is in a range: it is made of whole aligned blocks of 2^n, and the lowest n bits do
/// not matter.
fn deciding(low: u32, high: u32) -> u16 {
    let n = low.trailing_zeros().min(high.trailing_ones()).min(16);
    (0xffff_u32 << n) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_decided_by_the_bits_above_its_aligned_blocks() {
        assert_eq!(deciding(1024, 2047), 0xfc00);
        assert_eq!(deciding(80, 80), 0xffff);
        assert_eq!(deciding(0, 0xffff), 0);
        assert_eq!(deciding(6, 9), 0xfffe);
    }

    proptest! {
        #[test]
        fn the_bits_below_never_decide_and_the_lowest_above_does(a in any::<u16>(), b in any::<u16>(), port in any::<u16>()) {
            let (low, high) = (a.min(b), a.max(b));
            let mask = deciding(low.into(), high.into());
            let is_in = |port: u16| low <= port && port <= high;
            prop_assert_eq!(is_in(port & mask), is_in(port));
            prop_assert_eq!(is_in(port | !mask), is_in(port));
            if mask != 0 {
                let lowest = 1 << mask.trailing_zeros();
                prop_assert!(is_in(low) != is_in(low ^ lowest) || is_in(high) != is_in(high ^ lowest));
            }
        }
    }
}
