//! Writes x86-64 machine code: the few instructions that straight code needs, all of 64 bits.

/// A register of the processor, by its number in encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reg(pub(super) u8);

pub(super) const RAX: Reg = Reg(0);
pub(super) const RCX: Reg = Reg(1);
pub(super) const RDX: Reg = Reg(2);
pub(super) const RBX: Reg = Reg(3);
pub(super) const RSI: Reg = Reg(6);
pub(super) const RDI: Reg = Reg(7);

/// Memory at a register plus so many bytes. Not at RSP or R12, whose encoding is another.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) Reg, pub(super) i32);

/// Operations of two operands, by the opcode that takes a register as the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Add = 0x01,
    Or = 0x09,
    And = 0x21,
    Sub = 0x29,
    Xor = 0x31,
    Cmp = 0x39,
}

/// Conditions of jumps, by their number in encodings; comparisons are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Condition {
    Below = 2,
    AboveOrEqual = 3,
    Equal = 4,
    NotEqual = 5,
    BelowOrEqual = 6,
    Above = 7,
}

/// The code so far.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    pub(super) bytes: Vec<u8>,
}

impl Assembler {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// REX with W: extensions of the register field and of the register or memory field.
    fn rex(&mut self, reg: Reg, rm: Reg) {
        self.put(&[0x48 | (reg.0 >> 3) << 2 | rm.0 >> 3]);
    }

    fn registers(&mut self, field: u8, rm: Reg) {
        self.put(&[0xc0 | (field & 7) << 3 | rm.0 & 7]);
    }

    fn memory(&mut self, field: u8, at: At) {
        self.put(&[0x80 | (field & 7) << 3 | at.0.0 & 7]);
        self.put(&at.1.to_le_bytes());
    }

    /// `to = big-endian word at`
    pub(super) fn load_swapped(&mut self, to: Reg, at: At) {
        self.rex(to, at.0);
        self.put(&[0x0f, 0x38, 0xf0]);
        self.memory(to.0, at);
    }

    /// `big-endian word at = from`
    pub(super) fn store_swapped(&mut self, at: At, from: Reg) {
        self.rex(from, at.0);
        self.put(&[0x0f, 0x38, 0xf1]);
        self.memory(from.0, at);
    }

    /// `to = word at`
    pub(super) fn load(&mut self, to: Reg, at: At) {
        self.rex(to, at.0);
        self.put(&[0x8b]);
        self.memory(to.0, at);
    }

    /// `word at = from`
    pub(super) fn store(&mut self, at: At, from: Reg) {
        self.rex(from, at.0);
        self.put(&[0x89]);
        self.memory(from.0, at);
    }

    /// `word at = value`, extended by its sign.
    pub(super) fn store_immediate(&mut self, at: At, value: i32) {
        self.rex(Reg(0), at.0);
        self.put(&[0xc7]);
        self.memory(0, at);
        self.put(&value.to_le_bytes());
    }

    /// `to = from`
    pub(super) fn copy(&mut self, to: Reg, from: Reg) {
        self.rex(from, to);
        self.put(&[0x89]);
        self.registers(from.0, to);
    }

    /// `to = value`
    pub(super) fn immediate(&mut self, to: Reg, value: u64) {
        match u32::try_from(value) {
            Ok(value) => {
                if to.0 >= 8 {
                    self.put(&[0x41]);
                }
                self.put(&[0xb8 | to.0 & 7]);
                self.put(&value.to_le_bytes());
            }
            Err(_) => {
                self.rex(Reg(0), to);
                self.put(&[0xb8 | to.0 & 7]);
                self.put(&value.to_le_bytes());
            }
        }
    }

    /// `to = to operation by`; of a comparison only the flags.
    pub(super) fn operate(&mut self, operation: Operation, to: Reg, by: Reg) {
        self.rex(by, to);
        self.put(&[operation as u8]);
        self.registers(by.0, to);
    }

    /// The same with a constant; overwrites `spare` if that is wide.
    pub(super) fn operate_immediate(&mut self, operation: Operation, to: Reg, value: u64, spare: Reg) {
        match i32::try_from(value as i64) {
            Ok(value) => {
                self.rex(Reg(0), to);
                self.put(&[0x81]);
                self.registers(operation as u8 >> 3, to);
                self.put(&value.to_le_bytes());
            }
            Err(_) => {
                self.immediate(spare, value);
                self.operate(operation, to, spare);
            }
        }
    }

    /// `half word of 32 bits at = value`
    pub(super) fn store_half(&mut self, at: At, value: u32) {
        self.put(&[0xc7]);
        self.memory(0, at);
        self.put(&value.to_le_bytes());
    }

    /// `byte at = value`
    pub(super) fn store_byte(&mut self, at: At, value: u8) {
        self.put(&[0xc6]);
        self.memory(0, at);
        self.put(&[value]);
    }

    /// `word at = word at + value`
    pub(super) fn add_to_memory(&mut self, at: At, value: i32) {
        self.rex(Reg(0), at.0);
        self.put(&[0x81]);
        self.memory(0, at);
        self.put(&value.to_le_bytes());
    }

    /// Compares a word in memory with a constant, extended by its sign.
    pub(super) fn compare_word(&mut self, at: At, value: i32) {
        self.rex(Reg(0), at.0);
        self.put(&[0x81]);
        self.memory(7, at);
        self.put(&value.to_le_bytes());
    }

    /// Compares with a word in memory.
    pub(super) fn compare_with_memory(&mut self, a: Reg, at: At) {
        self.rex(a, at.0);
        self.put(&[0x3b]);
        self.memory(a.0, at);
    }

    /// `to = the address itself`
    pub(super) fn address(&mut self, to: Reg, at: At) {
        self.rex(to, at.0);
        self.put(&[0x8d]);
        self.memory(to.0, at);
    }

    /// Copies four bytes by way of EAX; both at one of the first eight registers.
    pub(super) fn copy_four(&mut self, to: At, from: At) {
        self.put(&[0x8b]);
        self.memory(RAX.0, from);
        self.put(&[0x89]);
        self.memory(RAX.0, to);
    }

    /// Copies sixteen bytes by way of XMM0; both at one of the first eight registers.
    pub(super) fn copy_sixteen(&mut self, to: At, from: At) {
        self.put(&[0x0f, 0x10]);
        self.memory(0, from);
        self.put(&[0x0f, 0x11]);
        self.memory(0, to);
    }

    /// Compares a byte in memory with a constant.
    pub(super) fn compare_byte(&mut self, at: At, value: u8) {
        self.put(&[0x80]);
        self.memory(7, at);
        self.put(&[value]);
    }

    pub(super) fn shift_left(&mut self, to: Reg, by: u8) {
        self.shift(4, to, by);
    }

    pub(super) fn shift_right(&mut self, to: Reg, by: u8) {
        self.shift(5, to, by);
    }

    fn shift(&mut self, which: u8, to: Reg, by: u8) {
        if by > 0 {
            self.rex(Reg(0), to);
            self.put(&[0xc1]);
            self.registers(which, to);
            self.put(&[by]);
        }
    }

    /// `to = !to`
    pub(super) fn complement(&mut self, to: Reg) {
        self.rex(Reg(0), to);
        self.put(&[0xf7]);
        self.registers(2, to);
    }

    /// Jumps; where to is written by [`Self::point`] at the position that is given back.
    pub(super) fn jump(&mut self) -> usize {
        self.put(&[0xe9, 0, 0, 0, 0]);
        self.bytes.len() - 4
    }

    /// The same if the flags are so.
    pub(super) fn jump_if(&mut self, condition: Condition) -> usize {
        self.put(&[0x0f, 0x80 | condition as u8, 0, 0, 0, 0]);
        self.bytes.len() - 4
    }

    /// Completes a jump.
    pub(super) fn point(&mut self, jump: usize, to: usize) {
        let distance = to as i32 - (jump + 4) as i32;
        self.bytes[jump..jump + 4].copy_from_slice(&distance.to_le_bytes());
    }

    /// Completes a jump: it leads to what is written next.
    pub(super) fn land(&mut self, jump: usize) {
        self.point(jump, self.bytes.len());
    }

    /// Jumps to the address in a register (one of the first eight).
    pub(super) fn jump_to(&mut self, address: Reg) {
        self.put(&[0xff]);
        self.registers(4, address);
    }

    /// Jumps to the address in memory (at one of the first eight registers).
    pub(super) fn jump_to_stored(&mut self, at: At) {
        self.put(&[0xff]);
        self.memory(4, at);
    }

    /// Saves one of the first eight registers.
    pub(super) fn push(&mut self, register: Reg) {
        self.put(&[0x50 | register.0]);
    }

    pub(super) fn pop(&mut self, register: Reg) {
        self.put(&[0x58 | register.0]);
    }

    pub(super) fn ret(&mut self) {
        self.put(&[0xc3]);
    }
}
