//! Readers of the rules inside session requests: one file each, as TS 29.244 7.5.2 to 7.5.4 lay them out.
//!
//! They are faithful, not critical: what is encoded is decoded, what is absent is `None` or empty, and whether
//! it makes sense is validation's question. Only broken encodings are refused here.

mod bar;
mod far;
mod pdr;
mod qer;
mod urr;

pub(super) use bar::read_bar;
pub(super) use far::read_far;
pub(super) use pdr::read_pdr;
pub(super) use qer::read_qer;
pub(super) use urr::read_urr;

use super::cause::{self, Refusal};
use super::element::Element;
use rs_pfcp::ie::IeType;

/// The rule's identifier in a Remove PDR, Remove FAR, Query URR...: `id` is its IE's type.
pub(super) fn read_reference<'a, T>(
    group: &Element<'a>,
    id: IeType,
    read: impl Fn(&Element<'a>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    for element in group.elements() {
        let element = element?;
        if element.ie_type == id {
            return read(&element);
        }
    }
    Err(cause::missing(id, &format!("{:?}", group.ie_type)))
}
