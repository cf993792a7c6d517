//! Runs the straight code ([`code`](crate::program::code)): machine code as far as it goes, the interpreter for the rest.

use super::machine::{Machine, PacketState};
use super::packet::Packet;
use super::pipeline::build_key;
use crate::program::Program;
use crate::program::code::{FINISH, Instruction, Label, REGISTERS};
use crate::program::expr::{Env, holds};
use crate::program::native::Native;

/// Backward jumps that one action may take.
pub(super) const MAX_LOOPS: u32 = 1 << 20;

/// An action under way: its arguments, and where the pipeline goes on after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) arguments: &'a [u64],
    /// Words that the action's code reads.
    pub(super) words: usize,
    /// Its number in the program.
    pub(super) action: usize,
    pub(super) then: Label,
}

impl Call<'_> {
    /// No action: the pipeline itself.
    pub(super) const NONE: Self = Call {
        arguments: &[],
        words: 0,
        action: usize::MAX,
        then: FINISH,
    };
}

/// How far the code ran.
#[derive(Debug)]
enum Reached {
    /// A table is to be applied.
    Table(u32),
    /// The pipeline ends.
    End,
    Instruction(Label),
}

impl Machine {
    /// Before a pipeline's code.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.state.requests.exit = false;
        self.state.frame.length = 0;
        self.state.frame.truncated = u64::MAX;
    }

    /// After it: what it made of the packet's length.
    #[inline]
    pub(super) fn settle(&mut self, packet: &mut Packet) {
        let frame = &self.state.frame;
        packet.length += frame.length;
        packet.truncated = packet.truncated.min(frame.truncated as usize);
    }

    /// Executes code from `at` until the pipeline ends, or until a table is to be applied: that table, whose key is in the
    /// frame then if there is room for it.
    #[inline]
    pub(super) fn execute(&mut self, program: &Program, at: Label, call: Call, packet: &mut Packet) -> Option<u32> {
        self.state.frame.loops = 0;
        if let Some(native) = &program.code.native
            && call.arguments.len() >= call.words
        {
            return self.run_native(native, program, at, call, packet);
        }
        self.state.frame.registers = [0; REGISTERS];
        match self.interpret::<false>(program, at, call, packet) {
            Reached::Table(table) => Some(table),
            Reached::End | Reached::Instruction(_) => None,
        }
    }

    /// Machine code as far as it goes, again and again; in between what it leaves to others.
    #[inline]
    fn run_native(
        &mut self,
        native: &Native,
        program: &Program,
        at: Label,
        call: Call,
        packet: &mut Packet,
    ) -> Option<u32> {
        let state = &mut *self.state;
        native.enter(&mut state.frame, call.then);
        // SAFETY: the packet state has its layout's length, the arguments have been counted, and the frame was prepared.
        let mut at = unsafe { native.begin(at, &mut state.phv, call.arguments, &mut state.frame) };
        loop {
            match &program.code.instructions[at as usize] {
                Instruction::Apply(table) => return Some(*table),
                Instruction::Finish => return None,
                Instruction::Count(counter, register) => {
                    self.count(
                        *counter,
                        self.state.frame.registers[*register as usize % REGISTERS],
                        packet,
                    );
                    at += 1;
                }
                Instruction::Meter(meter, register, slot) => {
                    let cell = self.state.frame.registers[*register as usize % REGISTERS];
                    if let Some(colour) = self.meter(program, *meter, cell, packet) {
                        slot.store(&mut self.state.phv, colour);
                    }
                    at += 1;
                }
                _ => match self.interpret::<true>(program, at, call, packet) {
                    Reached::Table(table) => return Some(table),
                    Reached::End => return None,
                    Reached::Instruction(next) => at = next,
                },
            }
            let state = &mut *self.state;
            // SAFETY: as above.
            at = unsafe { native.resume(at, &mut state.phv, call.arguments, &mut state.frame) };
        }
    }

    /// Interprets the code from `at`: one instruction, or all.
    #[inline(never)]
    fn interpret<const ONE: bool>(
        &mut self,
        program: &Program,
        mut at: Label,
        mut call: Call,
        packet: &mut Packet,
    ) -> Reached {
        use Instruction::*;
        let code = &program.code;
        // The packet state, borrowed anew after each step that may change anything.
        let mut state = &mut *self.state;
        macro_rules! r {
            ($register:expr) => {
                state.frame.registers[($register) as usize % REGISTERS]
            };
        }
        macro_rules! load {
            ($slot:expr) => {
                $slot.load(&state.phv)
            };
        }
        macro_rules! store {
            ($slot:expr, $value:expr) => {{
                let value = $value;
                $slot.store(&mut state.phv, value);
            }};
        }
        macro_rules! widths {
            () => {
                program
                    .actions
                    .get(call.action)
                    .map_or(&[][..], |action| &action.widths)
            };
        }
        macro_rules! env {
            () => {
                Env {
                    layout: &program.layout,
                    params: call.arguments,
                    widths: widths!(),
                    ahead: &[],
                }
            };
        }
        macro_rules! jump_if {
            ($condition:expr, $label:expr) => {
                if $condition {
                    at = *$label;
                }
            };
        }
        loop {
            let instruction = &code.instructions[at as usize];
            at += 1;
            match instruction {
                Const(slot, value) => store!(slot, *value),
                Copy(to, from) => store!(to, load!(from)),
                Arguments(first, count) => {
                    for (slot, argument) in &code.arguments[*first as usize..][..*count as usize] {
                        store!(slot, argument.load(call.arguments));
                    }
                }
                Load(to, slot) => r!(*to) = load!(slot),
                LoadAnd(to, slot, mask) => r!(*to) = load!(slot) & mask,
                LoadAdd(to, slot, value) => r!(*to) = load!(slot).wrapping_add(*value),
                Immediate(to, value) => r!(*to) = *value,
                LoadArgument(to, argument) => r!(*to) = argument.load(call.arguments),
                Store(slot, from) => store!(slot, r!(*from)),
                Add(to, by) => r!(*to) = r!(*to).wrapping_add(r!(*by)),
                Sub(to, by) => r!(*to) = r!(*to).wrapping_sub(r!(*by)),
                And(to, by) => r!(*to) &= r!(*by),
                Or(to, by) => r!(*to) |= r!(*by),
                Xor(to, by) => r!(*to) ^= r!(*by),
                AddField(to, by) => r!(*to) = r!(*to).wrapping_add(load!(by)),
                SubField(to, by) => r!(*to) = r!(*to).wrapping_sub(load!(by)),
                AndField(to, by) => r!(*to) &= load!(by),
                OrField(to, by) => r!(*to) |= load!(by),
                AddImmediate(to, value) => r!(*to) = r!(*to).wrapping_add(*value),
                AndImmediate(to, value) => r!(*to) &= value,
                OrImmediate(to, value) => r!(*to) |= value,
                Shl(to, by) => r!(*to) <<= by,
                Shr(to, by) => r!(*to) >>= by,
                Complement(to) => r!(*to) = !r!(*to),
                Tree(to, number) => r!(*to) = code.trees[*number as usize].eval(&state.phv, &env!()),
                Jump(label) => at = *label,
                JumpIs(slot, value, label) => jump_if!(load!(slot) == *value, label),
                JumpIsNot(slot, value, label) => jump_if!(load!(slot) != *value, label),
                JumpValid(valid, label) => jump_if!(state.phv[*valid as usize] != 0, label),
                JumpInvalid(valid, label) => jump_if!(state.phv[*valid as usize] == 0, label),
                JumpZero(register, label) => jump_if!(r!(*register) == 0, label),
                JumpNonZero(register, label) => jump_if!(r!(*register) != 0, label),
                JumpCompare(op, a, b, label) => jump_if!(holds(*op, r!(*a), r!(*b)), label),
                JumpCompareField(op, a, b, label) => jump_if!(holds(*op, r!(*a), load!(b)), label),
                JumpCompareFields(op, a, b, label) => jump_if!(holds(*op, load!(a), load!(b)), label),
                JumpFieldImmediate(op, slot, value, label) => jump_if!(holds(*op, load!(slot), *value), label),
                JumpCompareImmediate(op, register, value, label) => jump_if!(holds(*op, r!(*register), *value), label),
                JumpTree(number, outcome, label) => {
                    jump_if!(
                        code.conditions[*number as usize].eval(&state.phv, &env!()) == *outcome,
                        label
                    );
                }
                Loop(label) => {
                    state.frame.loops += 1;
                    if state.frame.loops > MAX_LOOPS {
                        state.requests.failed = true;
                        return Reached::End;
                    }
                    at = *label;
                }
                Invalidate(first, count) => {
                    for (valid, bytes) in &code.removed[*first as usize..][..*count as usize] {
                        let valid = &mut state.phv[*valid as usize];
                        if *valid != 0 {
                            *valid = 0;
                            state.frame.length -= *bytes as i64;
                        }
                    }
                }
                Init(number) => code.inits[*number as usize].apply(&mut state.phv, packet),
                Count(counter, register) => {
                    let cell = r!(*register);
                    self.count(*counter, cell, packet);
                    state = &mut *self.state;
                }
                Meter(meter, register, slot) => {
                    let cell = r!(*register);
                    let colour = self.meter(program, *meter, cell, packet);
                    state = &mut *self.state;
                    if let Some(colour) = colour {
                        store!(slot, colour);
                    }
                }
                Truncate(register) => state.frame.truncated = state.frame.truncated.min(r!(*register)),
                Step(number) => {
                    let op = &code.ops[*number as usize];
                    self.step_rest(program, op, call.arguments, widths!(), packet);
                    state = &mut *self.state;
                }
                CheckExit => {
                    if state.requests.exit || state.requests.failed {
                        return Reached::End;
                    }
                }
                Apply(table) => {
                    let PacketState { phv, frame, .. } = state;
                    if let Some(application) = code.tables.get(*table as usize)
                        && let Some(key) = frame.key.get_mut(..application.words)
                    {
                        key.fill(0);
                        build_key(&application.parts, phv, key);
                    }
                    return Reached::Table(*table);
                }
                Return => {
                    at = call.then;
                    call = Call::NONE;
                }
                Finish => return Reached::End,
            }
            if ONE {
                return Reached::Instruction(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::program::action::InitHeader;
    use crate::program::application::{Application, Outcomes};
    use crate::program::ast::Compare;
    use crate::program::layout::HeaderId;
    use crate::program::native::Native;
    use crate::program::packing::Argument;
    use crate::program::slot::Slot;
    use crate::program::table::TablePart;

    /// A program with fields of many widths in metadata and in two headers, and nothing else.
    fn program() -> Program {
        let widths = [1, 7, 8, 16, 31, 33, 32, 48, 64, 3, 13, 56, 8];
        let fields: Vec<_> = (0..widths.len()).map(|i| (format!("f{i}"), widths[i], false)).collect();
        let header = |id: u32, metadata: bool| serde_json::json!({"name": format!("h{id}"), "id": id, "header_type": "t", "metadata": metadata});
        let document = serde_json::json!({
            "header_types": [{"name": "t", "id": 0, "fields": fields}],
            "headers": [header(0, true), header(1, false), header(2, false)],
        });
        Program::from_json(document.to_string().as_bytes()).unwrap()
    }

    const FIELDS: usize = 13;
    const ARGUMENTS: usize = 5;
    const LENGTH: usize = 60;

    fn slots(program: &Program) -> Vec<Slot> {
        let all = (0..3).flat_map(|header| (0..FIELDS).map(move |field| (HeaderId(header), field)));
        all.filter_map(|(header, field)| program.layout.slot(header, field))
            .collect()
    }

    /// Bits of a word, by chance.
    fn argument(word: u32, value: &u64) -> Argument {
        let shift = (value % 64) as u8;
        Argument {
            word,
            shift,
            width: 1 + (value / 64 % (64 - shift as u64)) as u8,
        }
    }

    /// An instruction at some position: jumps lead forwards.
    fn instruction(slots: Vec<Slot>, valid: Vec<u32>, at: usize) -> impl Strategy<Value = Instruction> {
        use Instruction::*;
        let slot = prop::sample::select(slots);
        let valid = prop::sample::select(valid);
        let register = 0..REGISTERS as u8;
        let value = prop_oneof![
            0u64..9,
            any::<u8>().prop_map(u64::from),
            any::<u32>().prop_map(u64::from),
            any::<u64>()
        ];
        let label = at as Label + 1..LENGTH as Label;
        let compare = prop::sample::select(vec![
            Compare::Eq,
            Compare::Ne,
            Compare::Lt,
            Compare::Le,
            Compare::Gt,
            Compare::Ge,
        ]);
        let numbers = (register.clone(), register, value, 0u8..64, 0..ARGUMENTS as u32);
        let moves = (slot.clone(), slot, valid, label, compare, 0usize..34);
        (moves, numbers).prop_map(
            |((a, b, valid, label, op, which), (r, s, value, by, word))| match which {
                0 => Const(a, value & a.mask()),
                1 => Copy(a, b),
                2 => Arguments(word, ARGUMENTS as u32 - word),
                3 => Load(r, a),
                4 => LoadAnd(r, a, value),
                5 => LoadAdd(r, a, value),
                6 => Immediate(r, value),
                7 => LoadArgument(r, argument(word, &value)),
                8..=10 => Store(a, r),
                11 => Add(r, s),
                12 => Sub(r, s),
                13 => And(r, s),
                14 => Or(r, s),
                15 => Xor(r, s),
                16 => AddField(r, a),
                17 => SubField(r, a),
                18 => AndField(r, a),
                19 => OrField(r, a),
                20 => AddImmediate(r, value),
                21 => AndImmediate(r, value),
                22 => OrImmediate(r, value),
                23 => Shl(r, by),
                24 => Shr(r, by),
                25 => Complement(r),
                26 => JumpIs(a, value & a.mask(), label),
                27 => JumpIsNot(a, value & 3, label),
                28 => JumpCompareFields(op, a, b, label),
                29 => JumpFieldImmediate(op, a, value & a.mask(), label),
                30 => JumpCompareField(op, r, a, label),
                31 => JumpCompareImmediate(op, r, value, label),
                32 if by < 8 => Apply(0),
                _ => match by % 8 {
                    0 => JumpValid(valid, label),
                    1 => JumpInvalid(valid, label),
                    2 => JumpZero(r, label),
                    3 => JumpNonZero(r, label),
                    4 => JumpCompare(op, r, s, label),
                    5 => Invalidate(0, 2),
                    6 => Init(word % 2),
                    _ => Truncate(r),
                },
            },
        )
    }

    fn instructions(program: &Program) -> impl Strategy<Value = Vec<Instruction>> + use<> {
        let (slots, valid) = (slots(program), vec![1, 2].into_iter());
        let valid: Vec<u32> = valid.map(|h: usize| program.layout.headers[h].valid as u32).collect();
        let each = move |at| instruction(slots.clone(), valid.clone(), at).boxed();
        (0..LENGTH - 1).map(each).collect::<Vec<_>>()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// What the processor does with an action's code is what the interpreter does.
        #[test]
        fn machine_code_does_what_the_interpreter_does(
            instructions in instructions(&program()),
            places in proptest::collection::vec(0..3 * FIELDS, ARGUMENTS),
            arguments in proptest::collection::vec(any::<u64>(), ARGUMENTS),
            state in proptest::collection::vec(any::<u64>(), 3 * FIELDS),
            template in proptest::collection::vec(any::<u8>(), 40),
        ) {
            let mut program = program();
            let slots = slots(&program);
            let headers = program.layout.headers[1..].to_vec();
            let code = &mut program.code;
            code.instructions = instructions;
            code.instructions[0] = Instruction::Finish;
            code.instructions.push(Instruction::Return);
            code.pipelines = LENGTH as Label;
            code.arguments = places.iter().zip(0..).map(|(i, word)| (slots[i % slots.len()], argument(word, &arguments[word as usize]))).collect();
            code.removed = headers.iter().map(|h| (h.valid as u32, 40)).collect();
            let init = |(header, len): (&crate::program::layout::Header, usize)| InitHeader {
                valid: header.valid as u32,
                base: header.base as u32,
                template: template[..len].into(),
                fields: vec![(slots[FIELDS + 3], 7)],
            };
            code.inits = headers.iter().zip([20, 4]).map(init).collect();
            let part = |(i, (place, argument)): (usize, (&usize, &u64))| TablePart {
                chunk: slots[place % slots.len()].into(),
                valid: [None, Some(headers[0].valid as u32)][i % 2],
                word: i as u32 / 2,
                shift: *argument as u32 % 64,
                mask: if i == 3 { *argument } else { u64::MAX },
            };
            let outcomes = || Outcomes { actions: Box::default(), past: FINISH };
            code.tables = vec![Application {
                words: 3,
                parts: places.iter().zip(&arguments).enumerate().map(part).collect(),
                marks: false,
                names_cells: false,
                hit: outcomes(),
                miss: outcomes(),
            }];
            let run = |program: &Program| {
                let mut machine = Machine::new(program, 0);
                for (slot, value) in slots.iter().zip(&state) {
                    slot.store(&mut machine.state.phv, *value);
                }
                let mut packet = Packet::new(&[0; 64]);
                let call = Call { arguments: &arguments, words: ARGUMENTS, action: usize::MAX, then: FINISH };
                machine.begin();
                let reached = machine.execute(program, 1, call, &mut packet);
                machine.settle(&mut packet);
                let key = reached.map(|table| machine.state.frame.key[..program.code.tables[table as usize].words].to_vec());
                (key, machine.state.phv.clone(), packet.length, packet.truncated)
            };
            program.code.native = None;
            let interpreted = run(&program);
            program.code.native = Native::new(&program.code);
            prop_assert_eq!(run(&program), interpreted);
        }
    }
}
