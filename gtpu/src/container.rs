//! Owns the PDU Session Container (TS 38.415 5.5.2), the extension header that carries the QoS flow.
//!
//! ```text
//!            downlink (PDU type 0)                     uplink (PDU type 1)
//!  octet 1   type (4) | QMP | SNP | MSNP | spare       type (4) | QMP | DL delay | UL delay | SNP
//!        2   PPP | RQI | QFI (6)                       N3/N9 delay | new IE flag | QFI (6)
//!     then   PPI (3) | spare, if PPP                   3 time stamps of 8 octets, if QMP
//!            DL sending time stamp (8), if QMP         DL delay result (4), UL delay result (4)
//!            DL QFI sequence number (3), if SNP        UL QFI sequence number (3), if SNP
//!            DL MBS QFI seq. number (4), if MSNP       N3/N9 delay result (4)
//!                                                      new IE flags (1), D1 UL PDCP delay result (4)
//! ```
//! then padding to a whole extension header. Octets after the fields known here are ignored, so that later
//! releases' additions pass.

use crate::Error;

/// PDU Type of a PDU Session Container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PduType {
    /// Towards the RAN.
    Downlink = 0,
    /// Towards the data network.
    Uplink = 1,
}

/// A PDU Session Container, in one of its two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PduSessionContainer {
    /// DL PDU SESSION INFORMATION.
    Downlink(DownlinkInformation),
    /// UL PDU SESSION INFORMATION.
    Uplink(UplinkInformation),
}

/// DL PDU SESSION INFORMATION (TS 38.415 5.5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DownlinkInformation {
    /// QoS flow identifier; the six lowest bits are written.
    pub qfi: u8,
    /// Reflective QoS indicator.
    pub rqi: bool,
    /// Paging policy indicator; the three lowest bits are written.
    pub ppi: Option<u8>,
    /// DL Sending Time Stamp (QoS monitoring), in NTP's 64-bit format: see [`crate::TimeStamp`].
    pub sending_time: Option<u64>,
    /// DL QFI Sequence Number; the 24 lowest bits are written.
    pub sequence_number: Option<u32>,
    /// DL MBS QFI Sequence Number.
    pub mbs_sequence_number: Option<u32>,
}

/// UL PDU SESSION INFORMATION (TS 38.415 5.5.2.2). Delays are in units of 1 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UplinkInformation {
    /// QoS flow identifier; the six lowest bits are written.
    pub qfi: u8,
    /// The answer to a downlink packet with a sending time.
    pub time_stamps: Option<UplinkTimeStamps>,
    /// DL Delay Result.
    pub downlink_delay: Option<u32>,
    /// UL Delay Result.
    pub uplink_delay: Option<u32>,
    /// UL QFI Sequence Number; the 24 lowest bits are written.
    pub sequence_number: Option<u32>,
    /// N3/N9 Delay Result.
    pub n3_n9_delay: Option<u32>,
    /// D1 UL PDCP Delay Result.
    pub d1_uplink_pdcp_delay: Option<u32>,
}

/// The three time stamps that QMP announces in an uplink packet, in the format of [`crate::TimeStamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UplinkTimeStamps {
    /// DL Sending Time Stamp Repeated.
    pub downlink_sent: u64,
    /// DL Received Time Stamp.
    pub downlink_received: u64,
    /// UL Sending Time Stamp.
    pub uplink_sent: u64,
}

/// The longest extension header a container takes: 46 octets of uplink information, length and next type.
pub(crate) const MAX_LEN: usize = 48;

impl PduSessionContainer {
    /// A downlink container with only a QFI.
    pub const fn downlink(qfi: u8) -> Self {
        Self::Downlink(DownlinkInformation {
            qfi,
            rqi: false,
            ppi: None,
            sending_time: None,
            sequence_number: None,
            mbs_sequence_number: None,
        })
    }

    /// An uplink container with only a QFI.
    pub const fn uplink(qfi: u8) -> Self {
        Self::Uplink(UplinkInformation {
            qfi,
            time_stamps: None,
            downlink_delay: None,
            uplink_delay: None,
            sequence_number: None,
            n3_n9_delay: None,
            d1_uplink_pdcp_delay: None,
        })
    }

    /// QoS flow identifier, 0..=63.
    pub const fn qfi(&self) -> u8 {
        match self {
            Self::Downlink(d) => d.qfi,
            Self::Uplink(u) => u.qfi,
        }
    }

    /// Which direction.
    pub const fn pdu_type(&self) -> PduType {
        match self {
            Self::Downlink(_) => PduType::Downlink,
            Self::Uplink(_) => PduType::Uplink,
        }
    }

    /// Reads the content of an extension header (without length and next type).
    ///
    /// # Errors
    /// [`Error::Truncated`] if a flag announces a field that is not there (offset within the content),
    /// [`Error::PduType`].
    pub fn parse(content: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields { content, at: 0 };
        let [flags, second] = fields.take("PDU type and QFI")?;
        let set = |octet: u8, bit: u8| octet & (1 << bit) != 0;
        let qfi = second & 0x3f;
        match flags >> 4 {
            0 => {
                let ppi = fields.when(set(second, 7), "PPI")?.map(|[octet]: [u8; 1]| octet >> 5);
                let sending_time = fields
                    .when(set(flags, 3), "DL sending time stamp")?
                    .map(u64::from_be_bytes);
                let sequence_number = fields.when(set(flags, 2), "DL QFI sequence number")?.map(u24);
                let mbs_sequence_number = fields
                    .when(set(flags, 1), "DL MBS QFI sequence number")?
                    .map(u32::from_be_bytes);
                Ok(Self::Downlink(DownlinkInformation {
                    qfi,
                    rqi: set(second, 6),
                    ppi,
                    sending_time,
                    sequence_number,
                    mbs_sequence_number,
                }))
            }
            1 => {
                let time_stamps = if set(flags, 3) {
                    Some(UplinkTimeStamps {
                        downlink_sent: u64::from_be_bytes(fields.take("DL sending time stamp repeated")?),
                        downlink_received: u64::from_be_bytes(fields.take("DL received time stamp")?),
                        uplink_sent: u64::from_be_bytes(fields.take("UL sending time stamp")?),
                    })
                } else {
                    None
                };
                let downlink_delay = fields.when(set(flags, 2), "DL delay result")?.map(u32::from_be_bytes);
                let uplink_delay = fields.when(set(flags, 1), "UL delay result")?.map(u32::from_be_bytes);
                let sequence_number = fields.when(set(flags, 0), "UL QFI sequence number")?.map(u24);
                let n3_n9_delay = fields
                    .when(set(second, 7), "N3/N9 delay result")?
                    .map(u32::from_be_bytes);
                let [new_flags] = fields.when(set(second, 6), "new IE flags")?.unwrap_or([0]);
                let d1_uplink_pdcp_delay = fields
                    .when(set(new_flags, 0), "D1 UL PDCP delay result")?
                    .map(u32::from_be_bytes);
                Ok(Self::Uplink(UplinkInformation {
                    qfi,
                    time_stamps,
                    downlink_delay,
                    uplink_delay,
                    sequence_number,
                    n3_n9_delay,
                    d1_uplink_pdcp_delay,
                }))
            }
            actual => Err(Error::PduType { actual }),
        }
    }

    /// Octets of the whole extension header: a multiple of four, 4 if there is nothing but the QFI (and RQI).
    pub fn extension_len(&self) -> usize {
        let mut octets = [0; MAX_LEN];
        self.encode(&mut octets)
    }

    /// Writes length, content, padding and a next type of 0 at the start of `octets`, which are all zero; returns
    /// how many octets they are.
    pub(crate) fn encode(&self, octets: &mut [u8; MAX_LEN]) -> usize {
        let flag = |present: bool, bit: u8| u8::from(present) << bit;
        let mut at = 3;
        let mut put = |field: &[u8]| {
            octets[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        let [first, second] = match self {
            Self::Downlink(d) => {
                if let Some(ppi) = d.ppi {
                    put(&[ppi << 5]);
                }
                if let Some(t) = d.sending_time {
                    put(&t.to_be_bytes());
                }
                if let Some(n) = d.sequence_number {
                    put(&n.to_be_bytes()[1..]);
                }
                if let Some(n) = d.mbs_sequence_number {
                    put(&n.to_be_bytes());
                }
                [
                    flag(d.sending_time.is_some(), 3)
                        | flag(d.sequence_number.is_some(), 2)
                        | flag(d.mbs_sequence_number.is_some(), 1),
                    flag(d.ppi.is_some(), 7) | flag(d.rqi, 6) | (d.qfi & 0x3f),
                ]
            }
            Self::Uplink(u) => {
                if let Some(t) = u.time_stamps {
                    put(&t.downlink_sent.to_be_bytes());
                    put(&t.downlink_received.to_be_bytes());
                    put(&t.uplink_sent.to_be_bytes());
                }
                if let Some(delay) = u.downlink_delay {
                    put(&delay.to_be_bytes());
                }
                if let Some(delay) = u.uplink_delay {
                    put(&delay.to_be_bytes());
                }
                if let Some(n) = u.sequence_number {
                    put(&n.to_be_bytes()[1..]);
                }
                if let Some(delay) = u.n3_n9_delay {
                    put(&delay.to_be_bytes());
                }
                if let Some(delay) = u.d1_uplink_pdcp_delay {
                    put(&[1]);
                    put(&delay.to_be_bytes());
                }
                [
                    (PduType::Uplink as u8) << 4
                        | flag(u.time_stamps.is_some(), 3)
                        | flag(u.downlink_delay.is_some(), 2)
                        | flag(u.uplink_delay.is_some(), 1)
                        | flag(u.sequence_number.is_some(), 0),
                    flag(u.n3_n9_delay.is_some(), 7) | flag(u.d1_uplink_pdcp_delay.is_some(), 6) | (u.qfi & 0x3f),
                ]
            }
        };
        let units = (at + 1).div_ceil(4);
        octets[0] = units as u8;
        octets[1] = first;
        octets[2] = second;
        units * 4
    }
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// Takes fields of fixed length off the front of a container's content.
struct Fields<'a> {
    content: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Error> {
        let left = &self.content[self.at..];
        let octets = left.first_chunk::<N>().ok_or(Error::Truncated {
            field,
            offset: self.at,
            expected: N,
            actual: left.len(),
        })?;
        self.at += N;
        Ok(*octets)
    }

    fn when<const N: usize>(&mut self, present: bool, field: &'static str) -> Result<Option<[u8; N]>, Error> {
        if present { self.take(field).map(Some) } else { Ok(None) }
    }
}
