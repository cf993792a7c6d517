//! Parsing: from the packet's bytes to headers in the packet state.

use super::machine::{Machine, PacketState};
use super::packet::Packet;
use crate::program::Program;
use crate::program::action::Op;
use crate::program::expr::{E, Env, Found, peek};
use crate::program::parser::{ACCEPT, Case, KeyPart, ParserOp, Select, State};
use crate::program::slot::{copy_bits, copy_header};
use crate::trace::Trace;

/// States that one packet may go through: a parser that loops without consuming bytes ends with ParserTimeout.
const MAX_STATES: u64 = 100_000;

impl Machine {
    /// Runs the parser from the packet's cursor, which ends where the payload begins. Gives the parser's error. States that
    /// are simple run as machine code; the others, and all if the packet is traced, one by one here.
    pub(crate) fn parse<const TRACE: bool>(
        &mut self,
        program: &Program,
        packet: &mut Packet,
        trace: &mut Option<Box<Trace>>,
    ) -> u64 {
        let mut state = program.parser.start;
        self.state.frame.states_left = MAX_STATES;
        loop {
            if !TRACE && let Some(headers) = &program.headers {
                let PacketState { phv, frame, .. } = &mut *self.state;
                // SAFETY: the packet state has its layout's length.
                let (next, consumed) = unsafe { headers.parse(state, phv, packet.ahead(), frame) };
                state = next;
                packet.cursor += consumed;
            }
            if state == ACCEPT {
                return program.errors.no_error;
            }
            if self.state.frame.states_left == 0 {
                return program.errors.parser_timeout;
            }
            self.state.frame.states_left -= 1;
            let at = &program.parser.states[state as usize];
            if TRACE && let Some(trace) = trace {
                trace.state(&at.name);
            }
            for op in &at.ops {
                let phv = &mut self.state.phv[..];
                match op {
                    ParserOp::Copy { bytes, base, valid } => {
                        let Some(source) = packet.ahead().get(..*bytes as usize) else {
                            return program.errors.packet_too_short;
                        };
                        copy_header(&mut phv[*base as usize..], source);
                        phv[*valid as usize] = 1;
                        packet.cursor += *bytes as usize;
                    }
                    ParserOp::Do(Op::NeedAhead(bits)) => {
                        if let Err(error) = need(program, packet, *bits) {
                            return error;
                        }
                    }
                    ParserOp::Do(Op::Set(slot, E::Lookahead(offset, width))) => {
                        let value = peek(packet.ahead(), *offset as usize, *width as usize);
                        slot.store(phv, value as u64);
                    }
                    ParserOp::Do(Op::Set(slot, e)) => {
                        let env = Env {
                            layout: &program.layout,
                            params: &[],
                            widths: &[],
                            ahead: packet.ahead(),
                        };
                        let value = e.eval(phv, &env);
                        slot.store(phv, value);
                    }
                    ParserOp::Do(Op::Const(slot, value)) => slot.store(phv, *value),
                    op => {
                        if let Err(error) = self.parser_op(program, op, packet) {
                            return error;
                        }
                    }
                }
            }
            state = match &at.select {
                Select::None => at.default,
                Select::Window {
                    at: window,
                    before_cursor,
                    cases,
                } => {
                    let word = before_cursor.and_then(|bytes| packet.word_before_cursor(bytes));
                    let word = word.unwrap_or_else(|| window.load(&self.state.phv));
                    let found = cases.iter().find(|(value, mask, _)| word & mask == *value);
                    found.map_or(at.default, |(_, _, next)| *next)
                }
                _ => match self.select(program, at, packet) {
                    Ok(next) => next,
                    Err(error) => return error,
                },
            };
        }
    }

    /// What is not done in a few instructions.
    fn parser_op(&mut self, program: &Program, op: &ParserOp, packet: &mut Packet) -> Result<(), u64> {
        let layout = &program.layout;
        macro_rules! env {
            () => {
                Env {
                    layout,
                    params: &[],
                    widths: &[],
                    ahead: packet.ahead(),
                }
            };
        }
        match op {
            // The loop above has done these.
            ParserOp::Copy { .. } | ParserOp::Do(Op::NeedAhead(_)) => Ok(()),
            ParserOp::Extract(header) => {
                let valid = layout.headers[header.0].valid;
                self.extract(
                    program,
                    Found {
                        header: *header,
                        shift: 0,
                        valid,
                    },
                    packet,
                )
            }
            ParserOp::ExtractNext(stack, member) => {
                let Some(found) = self.next_element(layout, *stack, *member) else {
                    return Err(program.errors.stack_out_of_bounds);
                };
                self.extract(program, found, packet)?;
                self.state.phv[layout.stacks[stack.0].next] += 1;
                Ok(())
            }
            ParserOp::ExtractVarbit(parts) => {
                let (header, length, max) = &**parts;
                let length = length.eval(&self.state.phv, &env!());
                let valid = layout.headers[header.0].valid;
                self.extract_varbit(
                    program,
                    Found {
                        header: *header,
                        shift: 0,
                        valid,
                    },
                    length,
                    *max,
                    packet,
                )
            }
            ParserOp::ExtractNextVarbit(parts) => {
                let (stack, member, length, max) = &**parts;
                let length = length.eval(&self.state.phv, &env!());
                let Some(found) = self.next_element(layout, *stack, *member) else {
                    return Err(program.errors.stack_out_of_bounds);
                };
                self.extract_varbit(program, found, length, *max, packet)?;
                self.state.phv[layout.stacks[stack.0].next] += 1;
                Ok(())
            }
            ParserOp::Verify(parts) => {
                let env = env!();
                if parts.0.eval(&self.state.phv, &env) {
                    Ok(())
                } else {
                    Err(parts.1.eval(&self.state.phv, &env))
                }
            }
            ParserOp::Advance(bits) => {
                let bits = bits.eval(&self.state.phv, &env!());
                if !bits.is_multiple_of(8) {
                    return Err(program.errors.parser_invalid_argument);
                }
                if bits / 8 > packet.ahead().len() as u64 {
                    return Err(program.errors.packet_too_short);
                }
                packet.cursor += bits as usize / 8;
                Ok(())
            }
            ParserOp::Do(op) => {
                self.step(program, op, &[], &[], packet);
                Ok(())
            }
        }
    }

    #[inline]
    fn extract(&mut self, program: &Program, found: Found, packet: &mut Packet) -> Result<(), u64> {
        let layout = &program.layout;
        let bytes = layout.type_of(found.header).bits / 8;
        let at = layout.headers[found.header.0].base + found.shift;
        let Some(source) = packet.ahead().get(..bytes) else {
            return Err(program.errors.packet_too_short);
        };
        self.state.phv[at..at + bytes].copy_from_slice(source);
        packet.cursor += bytes;
        self.make_valid(layout, found);
        Ok(())
    }

    fn extract_varbit(
        &mut self,
        program: &Program,
        found: Found,
        length: u64,
        max: usize,
        packet: &mut Packet,
    ) -> Result<(), u64> {
        let layout = &program.layout;
        let kind = layout.type_of(found.header);
        let Some(field) = kind.varbit.map(|v| &kind.fields[v]) else {
            return Ok(());
        };
        if !length.is_multiple_of(8) {
            return Err(program.errors.parser_invalid_argument);
        }
        let total = (kind.fixed_bits() as u64).saturating_add(length) / 8;
        if total > packet.ahead().len() as u64 {
            return Err(program.errors.packet_too_short);
        }
        if length > field.width as u64 || max != 0 && total > max as u64 {
            return Err(program.errors.header_too_short);
        }
        let length = length as usize;
        let base = (layout.headers[found.header.0].base + found.shift) * 8;
        let source = packet.ahead();
        let after = field.offset + field.width;
        // What stands before and within the varbit is contiguous, what follows has a place of its own.
        copy_bits(&mut self.state.phv, base, source, 0, field.offset + length);
        copy_bits(
            &mut self.state.phv,
            base + after,
            source,
            field.offset + length,
            kind.bits - after,
        );
        if let Some(slot) = found.varbit_length(layout) {
            slot.store(&mut self.state.phv, length as u64 / 8);
        }
        packet.cursor += total as usize;
        self.make_valid(layout, found);
        Ok(())
    }

    /// The next state, where the key has to be put together.
    fn select(&self, program: &Program, state: &State, packet: &Packet) -> Result<u32, u64> {
        match &state.select {
            // The loop above has done these.
            Select::None | Select::Window { .. } => Ok(state.default),
            Select::Word { key, cases, ahead } => {
                if *ahead > 0 {
                    need(program, packet, *ahead)?;
                }
                let mut value = [0];
                self.select_key(program, key, packet, &mut value);
                let found = cases.iter().find(|(wanted, mask, _)| value[0] & mask == *wanted);
                Ok(found.map_or(state.default, |(_, _, next)| *next))
            }
            Select::Wide {
                key,
                words,
                cases,
                ahead,
            } => {
                need(program, packet, *ahead)?;
                let mut room = [0u64; 64];
                let mut more;
                let value = if *words <= 64 {
                    &mut room[..*words]
                } else {
                    more = vec![0; *words];
                    &mut more[..]
                };
                self.select_key(program, key, packet, value);
                let matches = |case: &&Case| match case {
                    Case::Value {
                        value: wanted, mask, ..
                    } => value.iter().zip(mask).zip(wanted).all(|((v, m), w)| v & m == *w),
                    Case::Set { set, mask, .. } => {
                        let members = &self.value_sets[*set as usize].members;
                        members.iter().any(|spec| {
                            let words = value.iter().zip(mask).zip(spec.mask.iter().zip(&spec.value));
                            let mut words = words;
                            words.all(|((v, m), (sm, sv))| v & m & sm == sv & m) && spec.in_ranges(value)
                        })
                    }
                };
                Ok(match cases.iter().find(matches) {
                    Some(Case::Value { next, .. } | Case::Set { next, .. }) => *next,
                    None => state.default,
                })
            }
        }
    }

    #[inline]
    fn select_key(&self, program: &Program, key: &[KeyPart], packet: &Packet, words: &mut [u64]) {
        let env = Env {
            layout: &program.layout,
            params: &[],
            widths: &[],
            ahead: packet.ahead(),
        };
        for part in key {
            words[part.word] |= part.value.eval(&self.state.phv, &env) << part.shift;
        }
    }
}

#[inline]
fn need(program: &Program, packet: &Packet, bits: u32) -> Result<(), u64> {
    if packet.ahead().len() * 8 < bits as usize {
        Err(program.errors.packet_too_short)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// `p4/upf.p4`, interpreted and as it is loaded.
    static PROGRAMS: LazyLock<[Program; 2]> = LazyLock::new(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../p4/compiled/upf-small.json");
        let json = std::fs::read(path).unwrap();
        let [mut interpreted, loaded] = [(), ()].map(|()| Program::from_json(&json).unwrap());
        interpreted.headers = None;
        [interpreted, loaded]
    });

    const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0xbb];

    fn ipv4(total_len: u8, protocol: u8) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, total_len, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        header
    }

    fn ipv6(payload_len: u8, next_header: u8) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0, 0, payload_len, next_header, 64];
        header.extend(1..=32);
        header
    }

    /// Frames that the parser goes far in: what each header says of the next, or does not.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let ethernet = prop::sample::select(vec![
            vec![8, 0],
            vec![0x86, 0xdd],
            vec![0x81, 0, 0, 5, 8, 0],
            vec![0x81, 0, 0, 5, 0x86, 0xdd],
            vec![0x88, 0xb6],
        ]);
        let ip = prop::sample::select(vec![ipv4(120, 17), ipv4(120, 6), ipv6(100, 17), ipv6(100, 44)]);
        let udp = prop::sample::select(vec![vec![1, 2, 8, 104, 0, 100, 0, 0], vec![1, 2, 0, 53, 0, 100, 0, 0]]);
        let gtpu = prop::sample::select(vec![
            vec![0x30, 0xff, 0, 80, 0, 0, 0, 1],
            vec![0x34, 0xff, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0x10, 9, 0],
            vec![0x32, 0xff, 0, 80, 0, 0, 0, 1, 0, 7, 0, 0],
        ]);
        let inner = prop::sample::select(vec![ipv4(60, 17), ipv4(60, 1), ipv6(20, 6)]);
        let changes = proptest::collection::vec((12usize..110, any::<u8>()), 0..3);
        let payload = proptest::collection::vec(any::<u8>(), 0..40);
        let parts = (ethernet, ip, udp, gtpu, inner, payload);
        (parts, changes, 0usize..600).prop_map(|((ethernet, ip, udp, gtpu, inner, payload), changes, length)| {
            let mut frame = [&ETHERNET[..], &ethernet, &ip, &udp, &gtpu, &inner, &payload].concat();
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            // Most frames are whole.
            frame.truncate(length);
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// What the processor makes of a frame's headers is what the interpreter makes of them: parsed, and written again.
        #[test]
        fn machine_code_parses_and_deparses_as_the_interpreter_does(frame in frame()) {
            let [interpreted, native] = PROGRAMS.each_ref().map(|program| {
                let mut machine = Machine::new(program, 0);
                let mut packet = Packet::new(&frame);
                let error = machine.parse::<false>(program, &mut packet, &mut None);
                let (phv, payload) = (machine.state.phv.clone(), packet.ahead().to_vec());
                machine.deparse(program, &mut packet);
                (error, phv, payload, packet.bytes().to_vec())
            });
            prop_assert_eq!(native, interpreted);
        }
    }
}
