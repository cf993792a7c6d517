//! Values at rest: a million sessions are kept, and each is looked at seldom, so they are kept packed.
//!
//! # The idea
//! A session in Rust's terms is a dozen pieces and more than a kilobyte. Serialised ([`postcard`]) it is one piece of some
//! 150 bytes; and most of these are the same in every session that the same SMF sets up for the same data network. So a
//! [`Packer`] keeps the first value of each *shape* as a template, and of the others only where they differ from it:
//!
//! ```text
//!   packed    template number │ change, change, ...
//!   change    copy so many bytes of the template │ skip so many of it, and take so many │ the bytes to take
//! ```
//! Numbers have variable lengths, so a change may take more or fewer bytes than it skips. What the caller calls a shape
//! ([`Session::shape`]: how many rules of which kinds) decides only how well a value packs: any value can be packed
//! under any shape. Templates are never given up, so what was packed once can always be unpacked; there are
//! [`TEMPLATES`] at most, and values of further shapes are kept whole.
//!
//! # Invariant
//! Once a shape has been seen, equal values pack to equal bytes, and different ones to different bytes.
//!
//! # Costs
//! About a microsecond each way for a session of two PDRs. `&mut` to pack, `&` to unpack; no interior locks.

use crate::{Pdr, Session};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// The most templates of a [`Packer`]: they are there for as long as it is.
pub const TEMPLATES: usize = 1_024;
/// Bytes that have to be the same behind a change.
const ANCHOR: usize = 4;
/// The longest change; longer ones are several.
const CHANGE: usize = 15;

/// Packs values of one kind, and unpacks them. See the module.
#[derive(Debug, Default)]
pub struct Packer {
    templates: Vec<Box<[u8]>>,
    by_shape: HashMap<u64, usize>,
    /// The value serialised, for as long as it is being packed.
    plain: Vec<u8>,
}

impl Packer {
    /// Packs a value behind what is in `out`.
    pub fn pack<T: Serialize>(&mut self, shape: u64, value: &T, out: &mut Vec<u8>) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        self.plain = postcard::to_extend(value, plain).expect("rules have nothing that postcard does not write");
        let (full, next) = (self.templates.len() == TEMPLATES, self.templates.len());
        let template = match self.by_shape.get(&shape) {
            Some(&template) => Some(template),
            None if full => None,
            None => {
                self.templates.push(self.plain.as_slice().into());
                self.by_shape.insert(shape, next);
                Some(next)
            }
        };
        // 0: kept whole.
        write_number(template.map_or(0, |template| template + 1), out);
        match template {
            None => out.extend_from_slice(&self.plain),
            Some(template) => write_changes(&self.templates[template], &self.plain, out),
        }
    }

    /// Unpacks what [`Self::pack`] has made, and nothing else.
    ///
    /// # Panics
    /// It was not made by this packer, or not of a `T`.
    pub fn unpack<T: DeserializeOwned>(&self, packed: &[u8]) -> T {
        let mut rest = packed;
        let value = match read_number(&mut rest).checked_sub(1) {
            None => postcard::from_bytes(rest),
            Some(template) => {
                let template = &self.templates[template];
                let mut plain = Vec::with_capacity(template.len() + rest.len());
                read_changes(template, rest, &mut plain);
                postcard::from_bytes(&plain)
            }
        };
        value.expect("it was packed here")
    }
}

/// Seven bits a byte, the lowest first.
fn write_number(mut number: usize, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(from: &mut &[u8]) -> usize {
    let (mut number, mut shift) = (0, 0);
    while let Some((&byte, rest)) = from.split_first() {
        *from = rest;
        number |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

/// What makes `value` of `template`.
fn write_changes(mut template: &[u8], mut value: &[u8], out: &mut Vec<u8>) {
    while !value.is_empty() {
        let same = template.iter().zip(value).take_while(|(a, b)| a == b).count();
        (template, value) = (&template[same..], &value[same..]);
        write_number(same, out);
        if value.is_empty() {
            return;
        }
        let (skipped, taken) = change(template, value);
        out.push((skipped << 4 | taken) as u8);
        out.extend_from_slice(&value[..taken]);
        (template, value) = (&template[skipped..], &value[taken..]);
    }
}

/// The shortest change here behind which both go on alike: how much of the template it skips and of the value it takes. If
/// there is none, the longest.
fn change(template: &[u8], value: &[u8]) -> (usize, usize) {
    let alike = |skipped: usize, taken: usize| match (template.get(skipped..), value.get(taken..)) {
        (Some([]), Some([])) => true,
        (Some(template), Some(value)) => {
            template.len() >= ANCHOR && value.len() >= ANCHOR && template[..ANCHOR] == value[..ANCHOR]
        }
        _ => false,
    };
    for longer in 1..=CHANGE {
        if alike(longer, longer) {
            return (longer, longer);
        }
        for shorter in (0..longer).rev() {
            if alike(longer, shorter) {
                return (longer, shorter);
            }
            if alike(shorter, longer) {
                return (shorter, longer);
            }
        }
    }
    (template.len().min(CHANGE), value.len().min(CHANGE))
}

fn read_changes(mut template: &[u8], mut changes: &[u8], out: &mut Vec<u8>) {
    while !changes.is_empty() {
        let (same, rest) = template.split_at(read_number(&mut changes));
        out.extend_from_slice(same);
        template = rest;
        if let Some((&lengths, rest)) = changes.split_first() {
            let (taken, rest) = rest.split_at(usize::from(lengths & 0xf));
            out.extend_from_slice(taken);
            template = &template[usize::from(lengths >> 4)..];
            changes = rest;
        }
    }
}

impl Session {
    /// How many rules of which kinds there are: what sessions that are much alike have in common.
    pub fn shape(&self) -> u64 {
        let of_pdr = |pdr: &Pdr| {
            let filters = pdr.pdi.sdf.iter().map(|filter| u64::from(filter.flow.is_some()) + 2);
            let kinds = [
                pdr.pdi.local_fteid.is_some(),
                pdr.pdi.ue_ip.is_some(),
                pdr.outer_header_removal.is_some(),
            ];
            let lists = [pdr.qers.len(), pdr.urrs.len(), pdr.pdi.qfis.len()];
            let of_kinds = kinds.into_iter().map(u64::from);
            fold(of_kinds.chain(lists.into_iter().map(|n| n as u64)).chain(filters))
        };
        let of_fars = self.fars.iter().map(|far| {
            let tunnel = far.forwarding.as_ref().map(|p| p.outer_header_creation.is_some());
            tunnel.map_or(0, |tunnel| 1 + u64::from(tunnel))
        });
        let counts = [
            self.ue_ips.len(),
            self.framed_routes.len(),
            self.urrs.len(),
            self.bars.len(),
        ];
        let counts = counts.into_iter().map(|n| n as u64);
        let of_qers = self.qers.iter().map(|qer| u64::from(qer.mbr.is_some()) + 2);
        fold(self.pdrs.iter().map(of_pdr).chain(of_fars).chain(of_qers).chain(counts))
    }
}

fn fold(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(1, |sum, number| {
        (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    })
}
