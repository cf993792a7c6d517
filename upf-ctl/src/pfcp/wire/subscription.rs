//! Whose session it is: User ID, S-NSSAI, APN/DNN (TS 29.244 8.2.101, 8.2.179, 8.2.117).
//!
//! Rules do not depend on it; policies find users by it ([`crate::context_push`]).

use super::cause::{self, Refusal};
use super::element::{Element, first};
use super::identity::name;
use rs_pfcp::ie::IeType;
use serde::{Deserialize, Serialize};

/// What an SMF tells about the owner of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Subscription {
    /// `imsi-` and digits, `msisdn-` and digits, a network access identifier, SUPI and GPSI as they come.
    pub names: Vec<String>,
    /// `SST` or `SST-SD`, the latter as six hexadecimal digits.
    pub slice: Option<String>,
    /// Data network name.
    pub dnn: Option<String>,
}

/// [`Subscription`], as the elements of a request come by.
#[derive(Debug, Default)]
pub(super) struct Reader {
    names: Option<Vec<String>>,
    slice: Option<String>,
    dnn: Option<String>,
}

impl Reader {
    /// False: the element says something else.
    pub fn take(&mut self, element: &Element<'_>) -> Result<bool, Refusal> {
        match element.ie_type {
            IeType::UserId => first(&mut self.names, user_id(element)?),
            IeType::Snssai => first(&mut self.slice, s_nssai(element)?),
            IeType::ApnDnn => first(&mut self.dnn, name(element.ie_type, element.octets().rest())?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub fn finish(self) -> Subscription {
        Subscription {
            names: self.names.unwrap_or_default(),
            slice: self.slice,
            dnn: self.dnn,
        }
    }
}

/// Flags of User ID: what is there, in this order, each behind its length.
const IMSI: u8 = 0x01;
const IMEI: u8 = 0x02;
const MSISDN: u8 = 0x04;
const NAI: u8 = 0x08;
const SUPI: u8 = 0x10;
const GPSI: u8 = 0x20;

fn user_id(element: &Element<'_>) -> Result<Vec<String>, Refusal> {
    let mut octets = element.octets();
    let flags = octets.u8()?;
    let mut names = Vec::new();
    for part in [IMSI, IMEI, MSISDN, NAI, SUPI, GPSI] {
        if flags & part == 0 {
            continue;
        }
        let length = usize::from(octets.u8()?);
        match part {
            IMSI => names.push(format!("imsi-{}", digits(element.ie_type, octets.octets(length)?)?)),
            MSISDN => names.push(format!("msisdn-{}", digits(element.ie_type, octets.octets(length)?)?)),
            IMEI => drop(octets.octets(length)?), // names a device, which may change hands
            _ => names.push(octets.text(length)?),
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Telephony digits, two to an octet, the lower half first; 15 fills up.
fn digits(ie_type: IeType, value: &[u8]) -> Result<String, Refusal> {
    let halves = value.iter().flat_map(|octet| [octet & 0x0f, octet >> 4]);
    let mut digits = String::with_capacity(2 * value.len());
    for half in halves {
        match char::from_digit(u32::from(half), 10) {
            Some(digit) => digits.push(digit),
            None if half == 0x0f => {}
            None => return Err(cause::incorrect(ie_type, format!("{ie_type:?}: {half:x} is no digit"))),
        }
    }
    Ok(digits)
}

/// SST, then SD, of which the highest value means that there is none (TS 23.003 28.4.2).
fn s_nssai(element: &Element<'_>) -> Result<String, Refusal> {
    let mut octets = element.octets();
    let sst = octets.u8()?;
    Ok(match octets.rest() {
        [a, b, c, ..] if [*a, *b, *c] != [0xff; 3] => format!("{sst}-{a:02x}{b:02x}{c:02x}"),
        _ => sst.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ie_type: IeType, value: &[u8]) -> Result<Subscription, Refusal> {
        let mut reader = Reader::default();
        assert!(reader.take(&Element { ie_type, value })?);
        Ok(reader.finish())
    }

    #[test]
    fn a_user_has_every_name_that_the_smf_gives() {
        let value = b"\x0d\x08\x00\x01\x01\x00\x00\x00\x00\xf1\x06\x94\x71\x32\x54\x76\xf8\x09ue@op.org";
        let names = read(IeType::UserId, value).unwrap().names;
        assert_eq!(names, ["imsi-001010000000001", "msisdn-49172345678", "ue@op.org"]);
    }

    #[test]
    fn a_slice_has_a_differentiator_or_none() {
        let slice = |value| read(IeType::Snssai, value).unwrap().slice.unwrap();
        assert_eq!(slice(&[1, 0, 0, 10]), "1-00000a");
        assert_eq!(slice(&[1, 0xff, 0xff, 0xff]), "1");
        assert_eq!(slice(&[4]), "4");
    }

    #[test]
    fn what_is_cut_short_or_no_digit_is_refused() {
        assert!(read(IeType::UserId, &[IMSI, 8, 0x00]).is_err());
        assert!(read(IeType::UserId, &[IMSI, 1, 0xa0]).is_err());
        assert!(read(IeType::UserId, &[NAI, 1, 0xff]).is_err());
        assert!(read(IeType::UserId, &[]).is_err());
    }

    #[test]
    fn a_dnn_is_labels_or_text() {
        assert_eq!(read(IeType::ApnDnn, b"\x08internet").unwrap().dnn.unwrap(), "internet");
        assert_eq!(read(IeType::ApnDnn, b"internet").unwrap().dnn.unwrap(), "internet");
    }
}
