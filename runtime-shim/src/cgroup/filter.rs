//! Which devices a container may use, as a program for the kernel: cgroup v2
//! has no files for it.
//!
//! The program is asked about a kind of device, its numbers and a set of
//! accesses. It goes from the last rule to the first and keeps which accesses
//! nobody has decided yet; a rule that allows takes its own from them, and all
//! is well when none are left; a rule that denies one that is left ends it.
//!
//! Source: the kernel's include/uapi/linux/bpf.h (`bpf_cgroup_dev_ctx`).

use super::devices::{Rule, Verdict};
use crate::sys::bpf::Instruction;

/// Registers: what is asked by kind and numbers, and the accesses left.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;
const LEFT: u8 = 5;

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_UNEQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The answers.
const DENIED: i32 = 0;
const ALLOWED: i32 = 1;

/// The program for these rules.
pub fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let op = |code, to, from, offset, value| Instruction::new(code, to, from, offset, value);
    let mut program = vec![
        // The kind is the low half of the first word, the accesses the high one.
        op(LOAD_WORD, KIND, CONTEXT, 0, 0),
        op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        op(MOVE_REGISTER, LEFT, KIND, 0, 0),
        op(SHIFT_RIGHT, LEFT, 0, 0, 16),
        op(AND, KIND, 0, 0, 0xffff),
    ];
    for rule in rules.iter().rev() {
        if rule.is_total() {
            // What is left is all decided by it: earlier rules do not count.
            program.extend(answer(if rule.verdict == Verdict::Allow { ALLOWED } else { DENIED }));
            return program;
        }
        program.extend(block(rule));
    }
    program.extend(answer(DENIED));
    program
}

fn answer(result: i32) -> [Instruction; 2] {
    [Instruction::new(MOVE, RESULT, 0, 0, result), Instruction::new(EXIT, 0, 0, 0, 0)]
}

/// One rule: what it is not about jumps behind it.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mask = i32::from(rule.access);
    let mut decision = match rule.verdict {
        Verdict::Allow => {
            vec![Instruction::new(AND, LEFT, 0, 0, !mask & 7), Instruction::new(JUMP_UNEQUAL, LEFT, 0, 2, 0)]
        }
        Verdict::Deny => vec![
            Instruction::new(MOVE_REGISTER, RESULT, LEFT, 0, 0),
            Instruction::new(AND, RESULT, 0, 0, mask),
            Instruction::new(JUMP_EQUAL, RESULT, 0, 2, 0),
        ],
    };
    decision.extend(answer(if rule.verdict == Verdict::Allow { ALLOWED } else { DENIED }));
    let numbers =
        [(KIND, rule.kind.map(|kind| kind as i32)), (MAJOR, number(rule.major)), (MINOR, number(rule.minor))];
    let conditions: Vec<(u8, i32)> =
        numbers.into_iter().filter_map(|(register, value)| Some((register, value?))).collect();
    let mut block = Vec::with_capacity(conditions.len() + decision.len());
    for (at, (register, value)) in conditions.iter().enumerate() {
        let over = conditions.len() - at - 1 + decision.len();
        // At most seven.
        block.push(Instruction::new(JUMP_UNEQUAL, *register, 0, over as i16, *value));
    }
    block.extend(decision);
    block
}

/// Numbers of devices have twenty bits.
fn number(number: Option<u32>) -> Option<i32> {
    number.map(|number| number as i32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::devices::tests::rule;
    use super::super::devices::{Kind, MAKE, READ, WRITE, rules};
    use super::*;

    /// Runs a program as the kernel does.
    fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let mut registers = [0u64; 11];
        let context = [(u32::from(access) << 16) | kind as u32, major, minor];
        let mut at = 0_usize;
        for _ in 0..10_000 {
            let op = &program[at];
            at += 1;
            let (to, from) = (usize::from(op.to()), usize::from(op.from()));
            let value = op.value() as i64 as u64;
            match op.code() {
                LOAD_WORD => registers[to] = u64::from(context[op.offset() as usize / 4]),
                MOVE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP_EQUAL if registers[to] == value => at += op.offset() as usize,
                JUMP_UNEQUAL if registers[to] != value => at += op.offset() as usize,
                JUMP_EQUAL | JUMP_UNEQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown code {other:#x}"),
            }
        }
        panic!("it does not end")
    }

    /// Each access by itself, by the last rule that names it.
    fn reference(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        [MAKE, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let names = |rule: &&Rule| {
                rule.access & bit != 0
                    && rule.kind.is_none_or(|own| own == kind)
                    && rule.major.is_none_or(|own| own == major)
                    && rule.minor.is_none_or(|own| own == minor)
            };
            rules.iter().rev().find(names).is_some_and(|rule| rule.verdict == Verdict::Allow)
        })
    }

    #[test]
    fn the_usual_devices_and_no_others() {
        let program = assemble(&rules(&[]).unwrap());
        assert!(run(&program, Kind::Character, 1, 3, READ | WRITE));
        assert!(run(&program, Kind::Character, 136, 70_000, READ | WRITE));
        assert!(run(&program, Kind::Block, 8, 0, MAKE));
        assert!(!run(&program, Kind::Block, 8, 0, READ));
        assert!(!run(&program, Kind::Character, 1, 1, READ));
        assert!(!run(&program, Kind::Character, 1, 1, MAKE | READ));
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let kind = prop_oneof![Just(None), Just(Some(Kind::Block)), Just(Some(Kind::Character))];
        let verdict = prop_oneof![Just(Verdict::Allow), Just(Verdict::Deny)];
        let number = || prop_oneof![Just(None), (0_u32..3).prop_map(Some)];
        (verdict, kind, number(), number(), 1_u8..8)
            .prop_map(|(verdict, kind, major, minor, access)| rule(verdict, kind, major, minor, access))
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_rules_say(rules in prop::collection::vec(any_rule(), 0..8)) {
            let program = assemble(&rules);
            for kind in [Kind::Block, Kind::Character] {
                for major in 0..4 {
                    for minor in 0..4 {
                        for access in 1..8 {
                            let said = run(&program, kind, major, minor, access);
                            prop_assert_eq!(said, reference(&rules, kind, major, minor, access));
                        }
                    }
                }
            }
        }
    }
}
