//! Headers in the packet state: valid or not, copied, and moved within stacks.

use super::Machine;
use crate::engine::packet::Packet;
use crate::program::action::InitHeader;
use crate::program::expr::{Found, Place};
use crate::program::layout::{Layout, StackId};

impl Machine {
    /// Bytes that a header has in a packet.
    pub(crate) fn header_len(&self, layout: &Layout, found: Found) -> usize {
        let fixed = layout.type_of(found.header).fixed_bits() / 8;
        fixed
            + found
                .varbit_length(layout)
                .map_or(0, |slot| slot.load(&self.state.phv) as usize)
    }

    pub(super) fn add_header(&mut self, layout: &Layout, place: &Place, found: Found, packet: &mut Packet) {
        if self.state.phv[found.valid] != 0 {
            return;
        }
        let at = layout.headers[found.header.0].base + found.shift;
        let bytes = layout.type_of(found.header).bits.div_ceil(8);
        self.state.phv[at..at + bytes].fill(0);
        if let Some(length) = found.varbit_length(layout) {
            length.store(&mut self.state.phv, 0);
        }
        self.make_valid(layout, found);
        let _ = place;
        packet.length += self.header_len(layout, found) as i64;
    }

    /// Marks a header valid, and the other members of its union invalid.
    #[inline]
    pub(crate) fn make_valid(&mut self, layout: &Layout, found: Found) {
        let header = &layout.headers[found.header.0];
        if let Some((union, _)) = header.member_of {
            let shift = found.valid - header.valid;
            for member in &layout.unions[union.0].members {
                self.state.phv[layout.headers[member.0].valid + shift] = 0;
            }
        }
        self.state.phv[found.valid] = 1;
    }

    pub(super) fn copy_header(&mut self, layout: &Layout, to: Found, from: Found) {
        if self.state.phv[from.valid] == 0 {
            self.state.phv[to.valid] = 0;
            return;
        }
        self.make_valid(layout, to);
        let bytes = layout.type_of(to.header).bits.div_ceil(8);
        let source = layout.headers[from.header.0].base + from.shift;
        let target = layout.headers[to.header.0].base + to.shift;
        self.state.phv.copy_within(source..source + bytes, target);
        if let (Some(to), Some(from)) = (to.varbit_length(layout), from.varbit_length(layout)) {
            let length = from.load(&self.state.phv);
            to.store(&mut self.state.phv, length);
        }
    }

    /// The `index`th element's member of a stack.
    fn element(layout: &Layout, stack: StackId, index: usize, member: usize) -> Found {
        let stack = &layout.stacks[stack.0];
        let header = stack.first[member];
        let valid = layout.headers[header.0].valid + index * stack.first.len();
        Found {
            header,
            shift: index * stack.stride,
            valid,
        }
    }

    /// The next element of a stack, if it is not full.
    pub(crate) fn next_element(&self, layout: &Layout, stack: StackId, member: usize) -> Option<Found> {
        let next = self.state.phv[layout.stacks[stack.0].next] as usize;
        (next < layout.stacks[stack.0].size).then(|| Self::element(layout, stack, next, member))
    }

    pub(super) fn copy_stack(&mut self, layout: &Layout, to: StackId, from: StackId) {
        let (a, b) = (&layout.stacks[to.0], &layout.stacks[from.0]);
        self.state.phv[a.next] = self.state.phv[b.next];
        for index in 0..a.size {
            for member in 0..a.first.len() {
                let (to, from) = (
                    Self::element(layout, to, index, member),
                    Self::element(layout, from, index, member),
                );
                self.copy_header(layout, to, from);
            }
        }
    }

    /// `push_front` and `pop_front` as P4-16 has them: elements move whole, new ones are invalid.
    pub(super) fn shift_stack(&mut self, layout: &Layout, id: StackId, count: u64, push: bool) {
        let stack = &layout.stacks[id.0];
        let count = (count as usize).min(stack.size);
        let next = self.state.phv[stack.next] as usize;
        let kept = stack.size - count;
        self.state.phv[stack.next] = if push {
            (next + count).min(stack.size)
        } else {
            next.saturating_sub(count)
        } as u8;
        for i in 0..kept {
            let (to, from) = if push {
                (stack.size - 1 - i, kept - 1 - i)
            } else {
                (i, i + count)
            };
            for member in 0..stack.first.len() {
                let (to, from) = (
                    Self::element(layout, id, to, member),
                    Self::element(layout, id, from, member),
                );
                if self.state.phv[from.valid] != 0 {
                    self.copy_header(layout, to, from);
                } else {
                    self.state.phv[to.valid] = 0;
                }
            }
        }
        for i in 0..count {
            let index = if push { i } else { kept + i };
            for member in 0..stack.first.len() {
                let found = Self::element(layout, id, index, member);
                self.state.phv[found.valid] = 0;
            }
        }
    }
}

impl InitHeader {
    /// Makes the header valid.
    #[inline]
    pub(in crate::engine) fn apply(&self, phv: &mut [u8], packet: &mut Packet) {
        let valid = self.valid as usize;
        if phv[valid] == 0 {
            let base = self.base as usize;
            phv[base..base + self.template.len()].copy_from_slice(&self.template);
            phv[valid] = 1;
            packet.length += self.template.len() as i64;
        } else {
            for (slot, value) in &self.fields {
                slot.store(phv, *value);
            }
        }
    }
}
