//! Deparsing: checksums are updated, then the valid headers are written before the payload, the last one first.

use super::machine::{Machine, PacketState};
use super::packet::Packet;
use crate::program::Program;
use crate::program::expr::Found;
use crate::program::slot::{copy_bits, copy_header};

impl Machine {
    /// Writes the headers; the packet is then as it leaves.
    pub(crate) fn deparse(&mut self, program: &Program, packet: &mut Packet) {
        self.update_checksums(program, packet);
        let layout = &program.layout;
        packet.drop_headers();
        if let Some(headers) = &program.headers {
            let PacketState { phv, frame, .. } = &mut *self.state;
            // SAFETY: the packet state has its layout's length.
            if let Some(bytes) = unsafe { headers.deparse(phv, packet.headroom(), frame) } {
                packet.prepend(bytes);
                return;
            }
        }
        let phv = &self.state.phv[..];
        for emit in program.deparser.iter().rev() {
            if phv[emit.valid as usize] == 0 {
                continue;
            }
            let (base, bytes) = (emit.base as usize, emit.bytes as usize);
            if !emit.varbit {
                copy_header(packet.prepend(bytes), &phv[base..base + bytes]);
                continue;
            }
            let found = Found {
                header: emit.header,
                shift: 0,
                valid: emit.valid as usize,
            };
            let here = packet.prepend(self.header_len(layout, found));
            let kind = layout.type_of(emit.header);
            if let Some(field) = kind.varbit.map(|v| &kind.fields[v]) {
                let after = field.offset + field.width;
                let before = here.len() * 8 - (kind.bits - after);
                copy_bits(here, 0, phv, base * 8, before);
                copy_bits(here, before, phv, base * 8 + after, kind.bits - after);
            }
        }
    }

    fn update_checksums(&mut self, program: &Program, packet: &Packet) {
        for checksum in &program.update {
            if !checksum.applies(&self.state.phv, &program.layout, packet.ahead()) {
                continue;
            }
            let calculation = &program.calculations[checksum.calculation as usize];
            let phv = &self.state.phv;
            let value = calculation.output(phv, packet.ahead(), &mut self.gather, &mut self.hash_counter);
            checksum.target.store_words(&mut self.state.phv, &[value]);
        }
    }
}
