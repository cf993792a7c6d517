//! What each side can do: UP Function Features and CP Function Features (TS 29.244 8.2.25, 8.2.58).

use super::element::Element;
use super::writer::Writer;
use rs_pfcp::ie::IeType;

/// A feature of the user plane that this UPF may offer: octets and bits of 8.2.25, octet 5 bit 1 being 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum UpFeature {
    /// Downlink data buffering in the CP function.
    Bucp = 0,
    /// Buffering parameter "Downlink Data Notification Delay".
    Ddnd = 1,
    /// Buffering parameter "DL Buffering Duration".
    Dlbd = 2,
    /// Traffic steering.
    Trst = 3,
    /// F-TEID allocation in the UP function.
    Ftup = 4,
    /// PFD management.
    Pfdm = 5,
    /// Header enrichment of uplink traffic.
    Heeu = 6,
    /// Traffic redirection enforcement.
    Treu = 7,
    /// End Marker packets on request.
    Empu = 8,
    /// PDI optimised signalling (traffic endpoints).
    Pdiu = 9,
    /// UL/DL buffering control.
    Udbc = 10,
    /// Quota action.
    Quoac = 11,
    /// Trace.
    Trace = 12,
    /// Framed routing.
    Frrt = 13,
    /// PFD contents including a property with multiple values.
    Pfde = 14,
    /// Enhanced PFCP association release.
    Epfar = 15,
    /// Deferred PDR activation or deactivation.
    Dpdra = 16,
    /// Activation and deactivation of pre-defined PDRs.
    Adpdp = 17,
    /// UE IP address allocation in the UP function.
    Ueip = 18,
    /// PFCP sessions successively controlled by different SMFs of one set.
    Sset = 19,
    /// Measurement of the number of packets.
    Mnop = 20,
    /// Multiple instances of Traffic Endpoint ID in a PDI.
    Mte = 21,
    /// PFCP message bundling.
    Bundl = 22,
    /// 5G VN group communication.
    Gcom = 23,
    /// Multiple PFCP associations.
    Mpas = 24,
    /// Redundant transmission at transport layer.
    Rttl = 25,
    /// Quota validity time.
    Vtime = 26,
    /// Number of reports.
    Norp = 27,
    /// IPTV.
    Iptv = 28,
    /// UE IPv6 address with a prefix length other than 64.
    Ip6pl = 29,
    /// Time sensitive communication.
    Tscu = 30,
    /// Downlink Data Delivery Status with traffic buffering in the UPF.
    Ddds = 38,
}

/// UP Function Features, a growing bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpFunctionFeatures(u64);

impl UpFunctionFeatures {
    /// None.
    pub const NONE: Self = Self(0);

    /// These and `feature`.
    #[must_use]
    pub const fn with(self, feature: UpFeature) -> Self {
        Self(self.0 | 1 << feature as u8)
    }

    /// Whether `feature` is offered.
    pub const fn has(self, feature: UpFeature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }

    /// As many octets as needed, but the first two always: every release has them.
    pub(super) fn write(self, writer: &mut Writer) {
        let octets = self.0.to_le_bytes();
        let used = octets.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        writer.element(IeType::UpFunctionFeatures, |w| w.octets(&octets[..used.max(2)]));
    }
}

/// CP Function Features as the SMF sent them: octet 5 in the low byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpFunctionFeatures(pub u64);

impl CpFunctionFeatures {
    /// Octets beyond the eighth are ignored.
    pub(super) fn read(element: &Element<'_>) -> Self {
        let mut octets = [0; 8];
        octets.iter_mut().zip(element.value).for_each(|(to, from)| *to = *from);
        Self(u64::from_le_bytes(octets))
    }
}
