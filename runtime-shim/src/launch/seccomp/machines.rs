//! Programs for the machines whose instructions this one runs.
//!
//! A 64-bit PC runs programs of 32 bits, whose calls have other numbers, and,
//! with some kernels, calls of the x32 ABI, whose numbers have a bit more. What
//! a profile does not list is killed; without the check of the bit, a call that
//! is denied could be made by its other number.

use seccompiler::{BpfProgram, sock_filter};

/// `AUDIT_ARCH_I386` and so on, of linux/audit.h.
const I386: u32 = 0x4000_0003;
const X86_64: u32 = 0xc000_003e;
const AARCH64: u32 = 0xc000_00b7;
/// `__X32_SYSCALL_BIT`; a number of all ones is that of no call.
const X32_BIT: u32 = 0x4000_0000;
const NO_CALL: u32 = 0xffff_ffff;

/// Where the machine and the number are in `struct seccomp_data`.
const MACHINE_AT: u32 = 4;
const NUMBER_AT: u32 = 0;

/// Instructions that seccompiler checks the machine by, at the head of all its
/// programs.
const HEAD: usize = 3;

const KILL: u32 = 0x8000_0000;
/// ENOSYS: there is no such call.
const ABSENT: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// Whether a profile lists a machine.
pub fn lists(architectures: &[String], machine: &str) -> bool {
    cfg!(target_arch = "x86_64") && architectures.iter().any(|listed| listed == machine)
}

/// What a program does for one machine, once that is known to be it: calls that
/// are decided by their numbers alone, in ranges, and then what seccompiler made
/// of the others. It spends five instructions on a call and the kernel takes
/// 4,096 in all, which two machines' calls would not fit into.
pub fn body(decided: &[i64], then: u32, others: BpfProgram) -> BpfProgram {
    let mut body = vec![load(NUMBER_AT)];
    for (first, last) in ranges(decided) {
        body.extend([instruction(AT_LEAST, 0, 2, first), instruction(MORE_THAN, 1, 0, last), give(then)]);
    }
    body.extend(others.into_iter().skip(HEAD));
    body
}

/// Runs of numbers that follow each other; they come in order.
fn ranges(numbers: &[i64]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers.iter().filter_map(|number| u32::try_from(*number).ok()) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

/// One program of the bodies for each machine.
pub fn merge(native: BpfProgram, of_32_bits: Option<BpfProgram>, lists_x32: bool) -> BpfProgram {
    if !cfg!(target_arch = "x86_64") {
        let head = [load(MACHINE_AT), if_equal(AARCH64, 1, 0), give(KILL)];
        return head.into_iter().chain(native).collect();
    }
    // From behind the jump: six more of the head, and the native program.
    let to_other = 6 + u32::try_from(native.len()).unwrap_or(u32::MAX);
    let other = match of_32_bits {
        Some(_) => instruction(JUMP, 0, 0, to_other),
        None => give(KILL),
    };
    let head = [
        load(MACHINE_AT),
        if_equal(I386, 0, 1),
        other,
        if_equal(X86_64, 1, 0),
        give(KILL),
        load(NUMBER_AT),
        instruction(AT_LEAST, 0, 2, X32_BIT),
        if_equal(NO_CALL, 1, 0),
        give(if lists_x32 { ABSENT } else { KILL }),
    ];
    head.into_iter().chain(native).chain(of_32_bits.unwrap_or_default()).collect()
}

/// linux/bpf_common.h: a class, a size and a mode in one number.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const MORE_THAN: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const GIVE: u16 = 0x06;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn load(at: u32) -> sock_filter {
    instruction(LOAD, 0, 0, at)
}

fn if_equal(value: u32, so: u8, otherwise: u8) -> sock_filter {
    instruction(EQUAL, so, otherwise, value)
}

fn give(action: u32) -> sock_filter {
    instruction(GIVE, 0, 0, action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_a_range() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), [(0, 2), (5, 5), (7, 8)]);
        assert_eq!(ranges(&[]), []);
    }
}
