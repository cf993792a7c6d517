//! Translates the parser and the deparser.
//!
//! A parser state is simple if it extracts whole headers, looks at a few bits ahead, moves fields and constants, and
//! selects by a word of fields. Before such a state does anything it is known that the packet is long enough for all of it; if it is
//! not, or if the state is not simple, the machine code is left with the state's number, and the interpreter does that
//! state, errors included. The deparser is simple if no header that it emits has a varbit.

use super::{At, Condition, Executable, FRAME, Frame, Operation, RAX, RCX, RDX, RSI, Reg, STATE, Translator};
use crate::program::Emit;
use crate::program::action::Op;
use crate::program::expr::E;
use crate::program::parser::{ACCEPT, KeyPart, Parser, ParserOp, Select, State};
use crate::program::slot::Slot;

const CURSOR: i32 = std::mem::offset_of!(Frame, cursor) as i32;
const END: i32 = std::mem::offset_of!(Frame, end) as i32;
const STATES_LEFT: i32 = std::mem::offset_of!(Frame, states_left) as i32;

/// In the packet: where the parser is, or how far the deparser has come.
const PLACE: Reg = RSI;

/// Longest header that is copied by machine code.
const LONGEST: u32 = 256;

/// Parser and deparser as machine code.
#[derive(Debug)]
pub(crate) struct Headers {
    memory: Executable,
    /// Where each parser state begins, and the end.
    states: Vec<u32>,
    accept: u32,
    deparser: Option<Deparser>,
}

/// A deparser that is simple.
#[derive(Debug, Clone, Copy)]
struct Deparser {
    begin: u32,
    /// Bytes of all headers together.
    most: usize,
}

type Function = unsafe extern "sysv64" fn(*mut u8, *const u8, *const u8, *mut Frame) -> u64;

impl Headers {
    /// Translates; none if the processor or the system does not let it.
    pub(crate) fn new(parser: &Parser, deparser: &[Emit]) -> Option<Self> {
        if !std::arch::is_x86_feature_detected!("movbe") {
            return None;
        }
        let mut t = Translator::default();
        // The function: (state, place, entry, frame) in RDI, RSI, RDX, RCX.
        t.out.push(FRAME);
        t.out.copy(FRAME, RCX);
        t.out.jump_to(RDX);
        t.leave = t.out.bytes.len();
        t.out.store(At(FRAME, CURSOR), PLACE);
        t.out.pop(FRAME);
        t.out.ret();
        let mut states = Vec::with_capacity(parser.states.len());
        for (number, state) in (0..).zip(&parser.states) {
            states.push(t.out.bytes.len() as u32);
            t.at = number;
            t.parser_state(state);
        }
        let accept = t.out.bytes.len() as u32;
        t.at = ACCEPT;
        t.leave_to(t.leave);
        for (jump, next) in std::mem::take(&mut t.jumps) {
            let place = states.get(next as usize).copied().unwrap_or(accept);
            t.out.point(jump, place as usize);
        }
        let is_simple = |emit: &Emit| !emit.varbit && can_copy(emit.bytes);
        let deparser = deparser.iter().all(is_simple).then(|| {
            let begin = t.out.bytes.len() as u32;
            let lengths = deparser.iter().map(|emit| emit.bytes as usize);
            deparser.iter().rev().for_each(|emit| t.emit(emit));
            t.leave_to(t.leave);
            Deparser {
                begin,
                most: lengths.sum(),
            }
        });
        let memory = Executable::new(&t.out.bytes)?;
        Some(Self {
            memory,
            states,
            accept,
            deparser,
        })
    }

    /// Goes on from a parser state to the end ([`ACCEPT`]), or to a state that is not simple or whose packet is too
    /// short: that state. Gives how many bytes were consumed as well. `ahead`: what had not been.
    ///
    /// # Safety
    /// `phv` must have the length of the layout for which the parser was made.
    #[inline]
    pub(crate) unsafe fn parse(&self, state: u32, phv: &mut [u8], ahead: &[u8], frame: &mut Frame) -> (u32, usize) {
        let entry = self.states.get(state as usize).copied().unwrap_or(self.accept);
        let range = ahead.as_ptr_range();
        frame.end = range.end as u64;
        // SAFETY: as the caller promises; the packet is read up to its end only, and the frame is any.
        let next = unsafe { self.call(entry, phv.as_mut_ptr(), range.start, frame) };
        (next as u32, (frame.cursor - range.start as u64) as usize)
    }

    /// Writes the valid headers to the end of `room`; gives how many bytes they take. None if the deparser is not simple,
    /// or the room too small.
    ///
    /// # Safety
    /// As for [`Self::parse`].
    #[inline]
    pub(crate) unsafe fn deparse(&self, phv: &mut [u8], room: &mut [u8], frame: &mut Frame) -> Option<usize> {
        let deparser = self.deparser.filter(|deparser| deparser.most <= room.len())?;
        let end = room.as_mut_ptr_range().end;
        // SAFETY: as the caller promises; all headers together fit into the room before its end.
        unsafe { self.call(deparser.begin, phv.as_mut_ptr(), end, frame) };
        Some((end as u64 - frame.cursor) as usize)
    }

    /// # Safety
    /// `entry` must be within the code, and the rest as that code wants it.
    #[inline(always)]
    unsafe fn call(&self, entry: u32, phv: *mut u8, place: *const u8, frame: &mut Frame) -> u64 {
        let begin = self.memory.address();
        // SAFETY: `new` has written a function of this type at the beginning.
        unsafe {
            let function: Function = std::mem::transmute(begin);
            function(phv, place, begin.add(entry as usize), frame)
        }
    }
}

fn can_copy(bytes: u32) -> bool {
    bytes == 0 || (4..=LONGEST).contains(&bytes)
}

/// Bytes that a state must find ahead of it so that nothing can go wrong; none if it is not simple.
fn needs(state: &State) -> Option<u32> {
    let (mut consumed, mut need) = (0u32, 0);
    for op in &state.ops {
        need = need.max(match op {
            ParserOp::Copy { bytes, .. } if can_copy(*bytes) => {
                consumed += bytes;
                consumed
            }
            ParserOp::Do(Op::NeedAhead(bits)) => consumed + bits.div_ceil(8),
            ParserOp::Do(Op::Set(_, E::Lookahead(offset, width))) if *width > 0 && offset % 8 + width <= 64 => {
                consumed + offset / 8 + 8
            }
            ParserOp::Do(Op::Const(..) | Op::Copy(..) | Op::Set(_, E::LoadMasked(_))) => 0,
            _ => return None,
        });
    }
    let is_load = |part: &KeyPart| matches!(part.value, E::Load(_));
    match &state.select {
        Select::None => {}
        Select::Window { before_cursor, .. } => {
            if let Some(before) = before_cursor {
                need = need.max((consumed + 8).checked_sub(*before as u32)?);
            }
        }
        Select::Word { key, ahead: 0, .. } if key.iter().all(is_load) => {}
        Select::Word { .. } | Select::Wide { .. } => return None,
    }
    Some(need)
}

impl Translator {
    fn parser_state(&mut self, state: &State) {
        let Some(need) = needs(state) else {
            return self.leave_to(self.leave);
        };
        let mut to_interpreter = Vec::new();
        if need > 0 {
            self.out.address(RAX, At(PLACE, need as i32));
            self.out.compare_with_memory(RAX, At(FRAME, END));
            to_interpreter.push(self.out.jump_if(Condition::Above));
        }
        self.out.compare_word(At(FRAME, STATES_LEFT), 0);
        to_interpreter.push(self.out.jump_if(Condition::Equal));
        self.out.add_to_memory(At(FRAME, STATES_LEFT), -1);
        let mut consumed = 0;
        for op in &state.ops {
            match op {
                ParserOp::Copy { bytes, base, valid } => {
                    self.copy_bytes(At(STATE, *base as i32), At(PLACE, consumed as i32), *bytes);
                    self.out.store_byte(At(STATE, *valid as i32), 1);
                    consumed += bytes;
                }
                ParserOp::Do(Op::Set(slot, E::Lookahead(offset, width))) => {
                    self.out.load_swapped(RDX, At(PLACE, (consumed + offset / 8) as i32));
                    self.out.shift_left(RDX, (offset % 8) as u8);
                    self.out.shift_right(RDX, (64 - width) as u8);
                    self.store(*slot, RDX);
                }
                ParserOp::Do(Op::Set(slot, E::LoadMasked(masked))) => {
                    self.load(RDX, masked.0);
                    self.out.operate_immediate(Operation::And, RDX, masked.1, RAX);
                    self.store(*slot, RDX);
                }
                ParserOp::Do(Op::Copy(to, from)) => self.copy(*to, *from),
                ParserOp::Do(Op::Const(slot, value)) => self.store_constant(*slot, *value),
                _ => {}
            }
        }
        if consumed > 0 {
            self.out.operate_immediate(Operation::Add, PLACE, consumed as u64, RAX);
        }
        match &state.select {
            Select::Window {
                at,
                before_cursor,
                cases,
            } => {
                match before_cursor {
                    Some(before) => self.out.load_swapped(RDX, At(PLACE, -(*before as i32))),
                    None => self.load(RDX, *at),
                }
                self.cases(cases);
            }
            Select::Word { key, cases, .. } => {
                let fields = key.iter().filter_map(|part| match part.value {
                    E::Load(slot) => Some((slot, part.shift)),
                    _ => None,
                });
                self.key_word(fields);
                self.cases(cases);
            }
            Select::None | Select::Wide { .. } => {}
        }
        let default = self.out.jump();
        self.jumps.push((default, state.default));
        to_interpreter.into_iter().for_each(|jump| self.out.land(jump));
        self.leave_to(self.leave);
    }

    /// Fields, each shifted, in RDX; overwrites RAX.
    fn key_word(&mut self, fields: impl Iterator<Item = (Slot, u32)>) {
        self.out.operate(Operation::Xor, RDX, RDX);
        for (slot, shift) in fields {
            self.load(RAX, slot);
            self.out.shift_left(RAX, shift as u8);
            self.out.operate(Operation::Or, RDX, RAX);
        }
    }

    /// Jumps to the first case whose value RDX has under its mask; overwrites RAX and RCX.
    fn cases(&mut self, cases: &[(u64, u64, u32)]) {
        let mut masked = None;
        for (value, mask, next) in cases {
            if masked != Some(*mask) {
                self.out.copy(RAX, RDX);
                self.out.operate_immediate(Operation::And, RAX, *mask, RCX);
                masked = Some(*mask);
            }
            self.out.operate_immediate(Operation::Cmp, RAX, *value, RCX);
            self.jump_if(Condition::Equal, *next);
        }
    }

    /// A header before what was emitted already, if it is valid.
    fn emit(&mut self, emit: &Emit) {
        self.out.compare_byte(At(STATE, emit.valid as i32), 0);
        let absent = self.out.jump_if(Condition::Equal);
        self.out
            .operate_immediate(Operation::Sub, PLACE, emit.bytes as u64, RAX);
        self.copy_bytes(At(PLACE, 0), At(STATE, emit.base as i32), emit.bytes);
        self.out.land(absent);
    }

    /// None, or at least four; the last few may be copied twice. Overwrites RAX.
    fn copy_bytes(&mut self, to: At, from: At, bytes: u32) {
        let step = [16, 8, 4].into_iter().find(|step| *step <= bytes).unwrap_or(4);
        for begin in (0..bytes).step_by(step as usize) {
            let by = begin.min(bytes - step) as i32;
            let (to, from) = (At(to.0, to.1 + by), At(from.0, from.1 + by));
            match step {
                16 => self.out.copy_sixteen(to, from),
                8 => {
                    self.out.load(RAX, from);
                    self.out.store(to, RAX);
                }
                _ => self.out.copy_four(to, from),
            }
        }
    }
}
