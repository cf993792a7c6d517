//! Deparsing: checksums are updated, then the valid headers are written before the payload.

use super::machine::Machine;
use super::packet::Packet;
use crate::program::Program;
use crate::program::expr::{Env, Found};
use crate::program::slot::copy_bits;

impl Machine {
    /// Writes the headers; the packet is then as it leaves.
    pub(crate) fn deparse(&mut self, program: &Program, packet: &mut Packet) {
        self.update_checksums(program, packet);
        let layout = &program.layout;
        let mut total = 0;
        for emit in &program.deparser {
            if self.phv[emit.valid as usize] != 0 {
                total += emit.bytes as usize;
                if emit.varbit {
                    let found = Found {
                        header: emit.header,
                        shift: 0,
                        valid: emit.valid as usize,
                    };
                    total += found
                        .varbit_length(layout)
                        .map_or(0, |slot| slot.load(&self.phv) as usize);
                }
            }
        }
        let mut out = packet.headers_mut(total);
        for emit in &program.deparser {
            if self.phv[emit.valid as usize] == 0 {
                continue;
            }
            let base = emit.base as usize;
            if !emit.varbit {
                let (here, rest) = out.split_at_mut(emit.bytes as usize);
                here.copy_from_slice(&self.phv[base..base + emit.bytes as usize]);
                out = rest;
                continue;
            }
            let found = Found {
                header: emit.header,
                shift: 0,
                valid: emit.valid as usize,
            };
            let (here, rest) = out.split_at_mut(self.header_len(layout, found));
            let kind = layout.type_of(emit.header);
            if let Some(field) = kind.varbit.map(|v| &kind.fields[v]) {
                let after = field.offset + field.width;
                let before = here.len() * 8 - (kind.bits - after);
                copy_bits(here, 0, &self.phv, base * 8, before);
                copy_bits(here, before, &self.phv, base * 8 + after, kind.bits - after);
            }
            out = rest;
        }
    }

    fn update_checksums(&mut self, program: &Program, packet: &Packet) {
        for checksum in &program.update {
            if let Some(condition) = &checksum.condition {
                let env = Env {
                    layout: &program.layout,
                    params: &[],
                    widths: &[],
                    ahead: packet.ahead(),
                };
                if !condition.eval(&self.phv, &env) {
                    continue;
                }
            }
            let calculation = &program.calculations[checksum.calculation as usize];
            let value = calculation.output(&self.phv, packet.ahead(), &mut self.gather, &mut self.hash_counter);
            checksum.target.store_words(&mut self.phv, &[value]);
        }
    }
}
