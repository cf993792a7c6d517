//! The text of a flow description: IPFilterRule (RFC 6733 4.3.1) as TS 29.212 5.4.2 restricts it.
//!
//! ```text
//! rule    = "permit" direction protocol "from" end "to" end
//! direction = "out" | "in"
//! protocol  = "ip" | 0..255
//! end       = ( "any" | "assigned" | ADDRESS [ "/" LENGTH ] ) [ ports ]
//! ports     = range *( "," range )            ; no spaces
//! range     = PORT [ "-" PORT ]
//! ```
//!
//! Words are separated by spaces or tabs and written in lower case. What is decided here:
//!
//! * `out` is towards the UE: `from` is the remote end, `to` the UE's. `in` is the other way round and reads
//!   as the same rule with its ends swapped.
//! * Protocols are numbers, as RFC 6733 has it; names (`tcp`) are refused rather than guessed.
//! * `any` is every address of both families. `assigned` is the UE's address, and only stands at its end.
//! * Address bits beyond a prefix length are ignored, although RFC 6733 asks senders to clear them.
//! * Two prefixes of different families can never match one packet, so that rule is refused.
//! * Ports are sorted and merged: `443,80,81` reads as `80-81,443`.
//! * `deny`, negation (`!`) and the options (`frag`, `established`, `tcpflags` ...) are not in the subset that
//!   PFCP may carry, and would widen the rule if they were skipped: refused.
//!
//! ```
//! use upf_model::IpFilterRule;
//!
//! let rule: IpFilterRule = "permit out 17 from 192.0.2.0/24 5060,5062-5070 to assigned".parse()?;
//! assert_eq!(rule.protocol, Some(17));
//! assert_eq!(rule.to_string(), "permit out 17 from 192.0.2.0/24 5060,5062-5070 to assigned");
//!
//! let error = "permit out 17 from 192.0.2.0/33 to assigned".parse::<IpFilterRule>().unwrap_err();
//! assert_eq!(error.to_string(), "at byte 19: expected a prefix length of at most 32, found \"192.0.2.0/33\"");
//! # Ok::<(), upf_model::ip_filter_rule::IpFilterRuleError>(())
//! ```

use crate::{AddressMatch, IpFilterRule, IpPrefix, PortRange};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Why a text is no flow description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: expected {expected}, found {found}")]
pub struct IpFilterRuleError {
    /// Where the offending word begins, counted from 0.
    pub position: usize,
    /// What would have been right there.
    pub expected: &'static str,
    /// The word found, quoted and shortened, or `the end`.
    pub found: String,
}

impl FromStr for IpFilterRule {
    type Err = IpFilterRuleError;

    /// Cost: linear in the text, apart from sorting the ports.
    fn from_str(text: &str) -> Result<Self, IpFilterRuleError> {
        let mut words = Words { text, position: 0 };
        match words.next() {
            word if word.text == "permit" => {}
            word if word.text == "deny" => return Err(word.error("permit (deny is not in TS 29.212 5.4.2)")),
            word => return Err(word.error("permit")),
        }
        let towards_ue = match words.next() {
            word if word.text == "out" => true,
            word if word.text == "in" => false,
            word => return Err(word.error("out or in")),
        };
        let protocol = parse_protocol(words.next())?;
        words.expect("from", "from")?;
        let (from, from_ports) = parse_end(&mut words)?;
        words.expect("to", "ports or to")?;
        let (to, to_ports) = parse_end(&mut words)?;
        let rest = words.next();
        if !rest.text.is_empty() {
            return Err(rest.error("ports or the end (options are not in TS 29.212 5.4.2)"));
        }

        let ((remote, remote_ports), (ue, ue_ports)) = if towards_ue {
            ((from, from_ports), (to, to_ports))
        } else {
            ((to, to_ports), (from, from_ports))
        };
        if remote.value == AddressMatch::Assigned {
            return Err(remote
                .word
                .error("the remote end, which is not assigned by this network"));
        }
        if let (AddressMatch::Prefix(a), AddressMatch::Prefix(b)) = (remote.value, ue.value)
            && a.addr().is_ipv4() != b.addr().is_ipv4()
        {
            return Err(to.word.error("an address of the same family as the other end's"));
        }
        Ok(Self {
            protocol,
            remote: remote.value,
            remote_ports,
            ue: ue.value,
            ue_ports,
        })
    }
}

impl fmt::Display for IpFilterRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permit out ")?;
        match self.protocol {
            Some(number) => write!(f, "{number}")?,
            None => f.write_str("ip")?,
        }
        write!(
            f,
            " from {}{} to {}{}",
            self.remote,
            Ports(&self.remote_ports),
            self.ue,
            Ports(&self.ue_ports)
        )
    }
}

impl fmt::Display for AddressMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Assigned => f.write_str("assigned"),
            Self::Prefix(prefix) if prefix.len() == full_length(prefix.addr()) => write!(f, "{}", prefix.addr()),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

/// Prints a space and the list, or nothing.
struct Ports<'a>(&'a [PortRange]);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { " " } else { "," })?;
        }
        Ok(())
    }
}

/// The words still to be read.
struct Words<'a> {
    text: &'a str,
    position: usize,
}

/// A word and where it stands; empty at the end.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    position: usize,
}

/// An address and the word it was.
#[derive(Clone, Copy)]
struct Address<'a> {
    value: AddressMatch,
    word: Word<'a>,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Word<'a> {
        let word = self.peek();
        self.position = word.position + word.text.len();
        word
    }

    fn peek(&self) -> Word<'a> {
        let rest = &self.text[self.position..];
        let start = rest.trim_start_matches([' ', '\t']);
        let text = start.split([' ', '\t']).next().unwrap_or("");
        Word {
            text,
            position: self.position + rest.len() - start.len(),
        }
    }

    fn expect(&mut self, keyword: &str, expected: &'static str) -> Result<(), IpFilterRuleError> {
        let word = self.next();
        if word.text == keyword {
            Ok(())
        } else {
            Err(word.error(expected))
        }
    }
}

impl Word<'_> {
    /// As much of the word as a log line bears.
    const SHOWN: usize = 48;

    fn error(&self, expected: &'static str) -> IpFilterRuleError {
        let found = match self.text.char_indices().nth(Self::SHOWN) {
            _ if self.text.is_empty() => "the end".to_owned(),
            Some((cut, _)) => format!("{:?}...", &self.text[..cut]),
            None => format!("{:?}", self.text),
        };
        IpFilterRuleError {
            position: self.position,
            expected,
            found,
        }
    }
}

/// Digits only: no sign, no space.
fn number<T: FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        None
    } else {
        text.parse().ok()
    }
}

const fn full_length(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn parse_protocol(word: Word<'_>) -> Result<Option<u8>, IpFilterRuleError> {
    if word.text == "ip" {
        return Ok(None);
    }
    number(word.text)
        .map(Some)
        .ok_or_else(|| word.error("ip or a protocol number of at most 255"))
}

fn parse_end<'a>(words: &mut Words<'a>) -> Result<(Address<'a>, Vec<PortRange>), IpFilterRuleError> {
    let word = words.next();
    let address = Address {
        value: parse_address(word)?,
        word,
    };
    // A port list begins with a digit, and neither `to` nor any option does.
    if words.peek().text.starts_with(|c: char| c.is_ascii_digit()) {
        Ok((address, parse_ports(words.next())?))
    } else {
        Ok((address, Vec::new()))
    }
}

fn parse_address(word: Word<'_>) -> Result<AddressMatch, IpFilterRuleError> {
    const EXPECTED: &str = "any, assigned, or an IPv4 or IPv6 address or prefix";
    match word.text {
        "any" => return Ok(AddressMatch::Any),
        "assigned" => return Ok(AddressMatch::Assigned),
        text if text.starts_with('!') => {
            return Err(word.error("an address without negation (! is not in TS 29.212 5.4.2)"));
        }
        _ => {}
    }
    let (addr, length) = match word.text.split_once('/') {
        Some((addr, length)) => (addr, Some(length)),
        None => (word.text, None),
    };
    let addr: IpAddr = addr.parse().map_err(|_| word.error(EXPECTED))?;
    let expected_length = if addr.is_ipv4() {
        "a prefix length of at most 32"
    } else {
        "a prefix length of at most 128"
    };
    let length = match length {
        Some(length) => number(length).ok_or_else(|| word.error(expected_length))?,
        None => full_length(addr),
    };
    IpPrefix::new(addr, length)
        .map(AddressMatch::Prefix)
        .ok_or_else(|| word.error(expected_length))
}

fn parse_ports(word: Word<'_>) -> Result<Vec<PortRange>, IpFilterRuleError> {
    let mut ranges = Vec::new();
    let mut position = word.position;
    for text in word.text.split(',') {
        let item = Word { text, position };
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (Some(low), Some(high)) = (number(low), number(high)) else {
            return Err(Word {
                text: if text.is_empty() { word.text } else { text },
                ..item
            }
            .error("a port of at most 65535, or LOW-HIGH"));
        };
        if low > high {
            return Err(item.error("a range whose first port is not over its last"));
        }
        ranges.push(PortRange { low, high });
        position += text.len() + 1;
    }
    Ok(merge(ranges))
}

/// Sorts and joins ranges that overlap or touch.
fn merge(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable_by_key(|range| (range.low, range.high));
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.low <= last.high.saturating_add(1) => last.high = last.high.max(range.high),
            _ => merged.push(range),
        }
    }
    merged
}
