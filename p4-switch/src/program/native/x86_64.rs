//! Translates straight code for x86-64 processors that load big-endian words (`movbe`).

use super::assembler::{Assembler, At, Condition, Operation, RAX, RBX, RCX, RDI, RDX, RSI, Reg};
use super::memory::Executable;
mod headers;

pub(crate) use headers::Headers;

use super::{Frame, KEY};
use crate::program::action::InitHeader;
use crate::program::application::Application;
use crate::program::ast::Compare;
use crate::program::code::{Code, Instruction, Label, REGISTERS};
use crate::program::packing::Argument;
use crate::program::slot::Slot;
use crate::program::table::TablePart;

const THEN: i32 = std::mem::offset_of!(Frame, then) as i32;
const LENGTH: i32 = std::mem::offset_of!(Frame, length) as i32;
const KEY_WORDS: i32 = std::mem::offset_of!(Frame, key) as i32;
const TRUNCATED: i32 = std::mem::offset_of!(Frame, truncated) as i32;

/// The packet state.
const STATE: Reg = RDI;
/// The action's arguments.
const ARGUMENTS: Reg = RSI;
/// The frame.
const FRAME: Reg = RBX;

/// Where a register of the straight code is kept: R8 to R11.
fn register(number: u8) -> Reg {
    Reg(8 + number % REGISTERS as u8)
}

/// Machine code.
#[derive(Debug)]
pub(crate) struct Native {
    memory: Executable,
    /// Where each instruction begins.
    places: Vec<u32>,
    /// Where the function that resumes begins.
    resume: u32,
}

impl Native {
    /// Translates; none if the processor or the system does not let it.
    pub(crate) fn new(code: &Code) -> Option<Self> {
        if !std::arch::is_x86_feature_detected!("movbe") {
            return None;
        }
        let (bytes, places, resume) = translate(code);
        let memory = Executable::new(&bytes)?;
        Some(Self { memory, places, resume })
    }

    /// Prepares a frame for an action after which the pipeline goes on at `then`.
    #[inline]
    pub(crate) fn enter(&self, frame: &mut Frame, then: Label) {
        frame.then = self.memory.address() as u64 + self.places[then as usize] as u64;
    }

    /// Runs from an instruction to the next one that is not simple: that one. Registers are zero.
    ///
    /// # Safety
    /// `state` must have the length of the layout for which the code was made. If `at` is an instruction of an action,
    /// `arguments` must have as many words as the action's parameters. The frame must be this code's.
    #[inline]
    pub(crate) unsafe fn begin(&self, at: Label, state: &mut [u8], arguments: &[u64], frame: &mut Frame) -> Label {
        // SAFETY: as the caller promises; the memory begins with this function.
        unsafe { self.call(0, at, state, arguments, frame) }
    }

    /// The same with the registers that the frame has kept.
    ///
    /// # Safety
    /// As for [`Self::begin`].
    #[inline]
    pub(crate) unsafe fn resume(&self, at: Label, state: &mut [u8], arguments: &[u64], frame: &mut Frame) -> Label {
        // SAFETY: as the caller promises; this is where that function begins.
        unsafe { self.call(self.resume, at, state, arguments, frame) }
    }

    /// # Safety
    /// As for [`Self::begin`]; `function` is where one of the two functions begins.
    #[inline(always)]
    unsafe fn call(&self, function: u32, at: Label, state: &mut [u8], arguments: &[u64], frame: &mut Frame) -> Label {
        type Function = unsafe extern "sysv64" fn(*mut u8, *const u64, *const u8, *mut Frame) -> u64;
        let entry = self.places[at as usize] as usize;
        let begin = self.memory.address();
        // SAFETY: `translate` has written functions of this type there, and `entry` is within the same memory.
        unsafe {
            let function: Function = std::mem::transmute(begin.add(function as usize));
            function(state.as_mut_ptr(), arguments.as_ptr(), begin.add(entry), frame) as Label
        }
    }
}

/// The machine code, where each instruction begins in it, and where the function that resumes does.
fn translate(code: &Code) -> (Vec<u8>, Vec<u32>, u32) {
    let mut t = Translator::default();
    // Two functions: (state, arguments, entry, frame) in RDI, RSI, RDX, RCX.
    t.out.push(FRAME);
    t.out.copy(FRAME, RCX);
    for number in 0..REGISTERS as u8 {
        t.out.operate(Operation::Xor, register(number), register(number));
    }
    t.out.jump_to(RDX);
    let resume = t.out.bytes.len() as u32;
    t.out.push(FRAME);
    t.out.copy(FRAME, RCX);
    for number in 0..REGISTERS as u8 {
        t.out.load(register(number), At(FRAME, 8 * number as i32));
    }
    t.out.jump_to(RDX);
    t.leave = t.out.bytes.len();
    for number in 0..REGISTERS as u8 {
        t.out.store(At(FRAME, 8 * number as i32), register(number));
    }
    t.leave_for_good = t.out.bytes.len();
    t.out.pop(FRAME);
    t.out.ret();
    let mut places = Vec::with_capacity(code.instructions.len());
    for (at, instruction) in code.instructions.iter().enumerate() {
        places.push(t.out.bytes.len() as u32);
        t.at = at as Label;
        if !t.instruction(code, instruction, t.at < code.pipelines) {
            match instruction {
                Instruction::Apply(table) => {
                    t.key(&code.tables[*table as usize]);
                    t.leave_to(t.leave_for_good);
                }
                Instruction::Finish => t.leave_to(t.leave_for_good),
                _ => t.leave_to(t.leave),
            }
        }
    }
    for (jump, label) in std::mem::take(&mut t.jumps) {
        t.out.point(jump, places[label as usize] as usize);
    }
    (t.out.bytes, places, resume)
}

#[derive(Default)]
struct Translator {
    out: Assembler,
    /// Where the function is left, with the number of an instruction in RAX.
    leave: usize,
    /// The same without keeping the registers.
    leave_for_good: usize,
    /// The instruction at hand.
    at: Label,
    jumps: Vec<(usize, Label)>,
}

impl Translator {
    /// Translates an instruction if it is simple. `in_action`: there are arguments.
    fn instruction(&mut self, code: &Code, instruction: &Instruction, in_action: bool) -> bool {
        use Instruction::*;
        match *instruction {
            Const(slot, value) => self.store_constant(slot, value),
            Copy(to, from) => self.copy(to, from),
            Arguments(first, count) if in_action => {
                for (slot, argument) in &code.arguments[first as usize..][..count as usize] {
                    self.store_argument(*slot, *argument);
                }
            }
            Load(to, slot) => self.load(register(to), slot),
            LoadAnd(to, slot, mask) => {
                self.load(register(to), slot);
                self.out.operate_immediate(Operation::And, register(to), mask, RAX);
            }
            LoadAdd(to, slot, value) => {
                self.load(register(to), slot);
                self.out.operate_immediate(Operation::Add, register(to), value, RAX);
            }
            Immediate(to, value) => self.out.immediate(register(to), value),
            LoadArgument(to, argument) if in_action => {
                self.load_argument(register(to), argument);
                self.out.shift_right(register(to), 64 - argument.width);
            }
            Store(slot, from) => self.store(slot, register(from)),
            Add(to, by) => self.out.operate(Operation::Add, register(to), register(by)),
            Sub(to, by) => self.out.operate(Operation::Sub, register(to), register(by)),
            And(to, by) => self.out.operate(Operation::And, register(to), register(by)),
            Or(to, by) => self.out.operate(Operation::Or, register(to), register(by)),
            Xor(to, by) => self.out.operate(Operation::Xor, register(to), register(by)),
            AddField(to, by) => self.operate_field(Operation::Add, register(to), by),
            SubField(to, by) => self.operate_field(Operation::Sub, register(to), by),
            AndField(to, by) => self.operate_field(Operation::And, register(to), by),
            OrField(to, by) => self.operate_field(Operation::Or, register(to), by),
            AddImmediate(to, value) => self.out.operate_immediate(Operation::Add, register(to), value, RAX),
            AndImmediate(to, value) => self.out.operate_immediate(Operation::And, register(to), value, RAX),
            OrImmediate(to, value) => self.out.operate_immediate(Operation::Or, register(to), value, RAX),
            Shl(to, by) => self.out.shift_left(register(to), by),
            Shr(to, by) => self.out.shift_right(register(to), by),
            Complement(to) => self.out.complement(register(to)),
            Jump(label) => {
                let jump = self.out.jump();
                self.jumps.push((jump, label));
            }
            JumpIs(slot, value, label) => {
                self.compare_field(slot, value);
                self.jump_if(Condition::Equal, label);
            }
            JumpIsNot(slot, value, label) => {
                self.compare_field(slot, value);
                self.jump_if(Condition::NotEqual, label);
            }
            JumpValid(valid, label) => {
                self.out.compare_byte(At(STATE, valid as i32), 0);
                self.jump_if(Condition::NotEqual, label);
            }
            JumpInvalid(valid, label) => {
                self.out.compare_byte(At(STATE, valid as i32), 0);
                self.jump_if(Condition::Equal, label);
            }
            JumpZero(a, label) => self.jump_compare_immediate(Compare::Eq, register(a), 0, label),
            JumpNonZero(a, label) => self.jump_compare_immediate(Compare::Ne, register(a), 0, label),
            JumpCompare(op, a, b, label) => {
                self.out.operate(Operation::Cmp, register(a), register(b));
                self.jump_if(condition_of(op), label);
            }
            JumpCompareField(op, a, b, label) => {
                self.operate_field(Operation::Cmp, register(a), b);
                self.jump_if(condition_of(op), label);
            }
            JumpCompareFields(op, a, b, label) => {
                self.load(RDX, a);
                self.operate_field(Operation::Cmp, RDX, b);
                self.jump_if(condition_of(op), label);
            }
            JumpFieldImmediate(op, slot, value, label) => {
                self.load(RDX, slot);
                self.jump_compare_immediate(op, RDX, value, label);
            }
            JumpCompareImmediate(op, a, value, label) => self.jump_compare_immediate(op, register(a), value, label),
            Invalidate(first, count) => {
                for (valid, bytes) in &code.removed[first as usize..][..count as usize] {
                    self.out.compare_byte(At(STATE, *valid as i32), 0);
                    let already = self.out.jump_if(Condition::Equal);
                    self.out.store_byte(At(STATE, *valid as i32), 0);
                    self.out.add_to_memory(At(FRAME, LENGTH), -(*bytes as i32));
                    self.out.land(already);
                }
            }
            Init(number) => return self.init(&code.inits[number as usize]),
            Truncate(from) => {
                self.out.load(RAX, At(FRAME, TRUNCATED));
                self.out.operate(Operation::Cmp, RAX, register(from));
                let shorter = self.out.jump_if(Condition::BelowOrEqual);
                self.out.store(At(FRAME, TRUNCATED), register(from));
                self.out.land(shorter);
            }
            Return if in_action => self.out.jump_to_stored(At(FRAME, THEN)),
            _ => return false,
        }
        true
    }

    /// The interpreter does the instruction at hand.
    fn leave_to(&mut self, exit: usize) {
        self.out.immediate(RAX, self.at as u64);
        let leave = self.out.jump();
        self.out.point(leave, exit);
    }

    /// Puts the key of a table together, if the frame has room for it. Overwrites registers.
    fn key(&mut self, table: &Application) {
        let total = register(0);
        for word in 0..if table.words <= KEY { table.words } else { 0 } {
            self.out.operate(Operation::Xor, total, total);
            for part in table.parts.iter().filter(|part| part.word as usize == word) {
                self.key_part(part);
                self.out.operate(Operation::Or, total, RDX);
            }
            self.out.store(At(FRAME, KEY_WORDS + 8 * word as i32), total);
        }
    }

    /// A part of a key, where it belongs in its word, in RDX; overwrites RAX.
    fn key_part(&mut self, part: &TablePart) {
        let (high, low) = part.chunk.slots();
        self.load(RDX, low);
        if let Some(high) = high {
            self.load(RAX, high);
            self.out.shift_left(RAX, 32);
            self.out.operate(Operation::Or, RDX, RAX);
        }
        if part.mask & part.chunk.mask() != part.chunk.mask() {
            self.out.operate_immediate(Operation::And, RDX, part.mask, RAX);
        }
        if let Some(valid) = part.valid {
            // Fields of invalid headers match as zero.
            self.out.compare_byte(At(STATE, valid as i32), 0);
            let is_valid = self.out.jump_if(Condition::NotEqual);
            self.out.operate(Operation::Xor, RDX, RDX);
            self.out.land(is_valid);
        }
        self.out.shift_left(RDX, part.shift as u8);
    }

    /// Makes a header valid with known contents; one that is valid already is left to the interpreter.
    fn init(&mut self, init: &InitHeader) -> bool {
        let template = &init.template;
        let len = template.len();
        let base = init.base as i32;
        if len != 4 && len < 8 {
            return false;
        }
        let valid = At(STATE, init.valid as i32);
        self.out.compare_byte(valid, 0);
        let invalid = self.out.jump_if(Condition::Equal);
        self.leave_to(self.leave);
        self.out.land(invalid);
        if let Ok(bytes) = <[u8; 4]>::try_from(&**template) {
            self.out.store_half(At(STATE, base), u32::from_le_bytes(bytes));
        }
        // Words, the last of which may overlap the one before.
        for begin in (0..len).step_by(8).map(|begin| begin.min(len.saturating_sub(8))) {
            if let Some(word) = template[begin..].first_chunk::<8>() {
                self.store_word(At(STATE, base + begin as i32), u64::from_le_bytes(*word));
            }
        }
        self.out.store_byte(valid, 1);
        self.out.add_to_memory(At(FRAME, LENGTH), len as i32);
        true
    }

    /// `word at = value`; overwrites RAX.
    fn store_word(&mut self, at: At, value: u64) {
        match i32::try_from(value as i64) {
            Ok(value) => self.out.store_immediate(at, value),
            Err(_) => {
                self.out.immediate(RAX, value);
                self.out.store(at, RAX);
            }
        }
    }

    fn jump_if(&mut self, condition: Condition, label: Label) {
        let jump = self.out.jump_if(condition);
        self.jumps.push((jump, label));
    }

    fn jump_compare_immediate(&mut self, op: Compare, a: Reg, value: u64, label: Label) {
        self.out.operate_immediate(Operation::Cmp, a, value, RAX);
        self.jump_if(condition_of(op), label);
    }

    /// `to = field`
    fn load(&mut self, to: Reg, slot: Slot) {
        let window = slot.window();
        self.out.load_swapped(to, At(STATE, window.offset as i32));
        if !window.alone {
            self.out.shift_left(to, window.before);
            self.out.shift_right(to, window.others);
        }
    }

    /// `to = to operation field`; overwrites RAX.
    fn operate_field(&mut self, operation: Operation, to: Reg, slot: Slot) {
        self.load(RAX, slot);
        self.out.operate(operation, to, RAX);
    }

    /// An argument in the high bits of `to`, with others of its word below.
    fn load_argument(&mut self, to: Reg, argument: Argument) {
        self.out.load(to, At(ARGUMENTS, 8 * argument.word as i32));
        self.out.shift_left(to, 64 - argument.width - argument.shift);
    }

    /// `field = argument`; overwrites RAX, RCX and RDX.
    fn store_argument(&mut self, slot: Slot, argument: Argument) {
        self.load_argument(RDX, argument);
        let window = slot.window();
        // What is below it falls out if the field is the last of its window.
        if window.others != 64 - argument.width || window.before != window.others {
            self.out.shift_right(RDX, 64 - argument.width);
            self.out.shift_left(RDX, window.others);
        }
        self.store_high(slot);
    }

    /// `field = low bits of from`; overwrites RAX, RCX and RDX.
    fn store(&mut self, slot: Slot, from: Reg) {
        if from != RDX {
            self.out.copy(RDX, from);
        }
        self.out.shift_left(RDX, slot.window().others);
        self.store_high(slot);
    }

    /// `field = high bits of RDX`; overwrites RAX, RCX and RDX.
    fn store_high(&mut self, slot: Slot) {
        let window = slot.window();
        let at = At(STATE, window.offset as i32);
        self.out.shift_right(RDX, window.before);
        if !window.alone && window.others > 0 {
            self.out.load_swapped(RAX, at);
            self.out.immediate(RCX, !window.mask());
            self.out.operate(Operation::And, RAX, RCX);
            self.out.operate(Operation::Or, RDX, RAX);
        }
        self.out.store_swapped(at, RDX);
    }

    fn store_constant(&mut self, slot: Slot, value: u64) {
        let window = slot.window();
        let at = At(STATE, window.offset as i32);
        let value = (value << window.others) >> window.before;
        if window.alone || window.others == 0 {
            return self.store_word(at, value.swap_bytes());
        }
        self.out.load_swapped(RAX, at);
        self.out.operate_immediate(Operation::And, RAX, !window.mask(), RCX);
        self.out.operate_immediate(Operation::Or, RAX, value, RCX);
        self.out.store_swapped(at, RAX);
    }

    fn copy(&mut self, to: Slot, from: Slot) {
        let (a, b) = (to.window(), from.window());
        if a.alone && b.alone && a.others <= b.others {
            self.out.load(RAX, At(STATE, b.offset as i32));
            self.out.store(At(STATE, a.offset as i32), RAX);
        } else {
            self.load(RDX, from);
            self.store(to, RDX);
        }
    }

    /// Compares a field with a constant; overwrites RAX and RCX.
    fn compare_field(&mut self, slot: Slot, value: u64) {
        let window = slot.window();
        if window.alone
            && window.others >= 56
            && let Ok(value) = u8::try_from(value)
        {
            // A cell of up to eight bits is its last byte.
            return self.out.compare_byte(At(STATE, window.offset as i32 + 7), value);
        }
        self.load(RAX, slot);
        self.out.operate_immediate(Operation::Cmp, RAX, value, RCX);
    }
}

fn condition_of(op: Compare) -> Condition {
    match op {
        Compare::Eq => Condition::Equal,
        Compare::Ne => Condition::NotEqual,
        Compare::Lt => Condition::Below,
        Compare::Le => Condition::BelowOrEqual,
        Compare::Gt => Condition::Above,
        Compare::Ge => Condition::AboveOrEqual,
    }
}
