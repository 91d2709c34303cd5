//! Programs for the machines whose instructions this one runs.
//!
//! A 64-bit PC runs programs of 32 bits, whose calls have other numbers, and,
//! with some kernels, calls of the x32 ABI, whose numbers have a bit more. What
//! a profile does not list is killed; without the check of the bit, a call that
//! is denied could be made by its other number.

use seccompiler::{BpfProgram, sock_filter};

/// `AUDIT_ARCH_I386`, `AUDIT_ARCH_X86_64` of linux/audit.h.
const I386: u32 = 0x4000_0003;
const X86_64: u32 = 0xc000_003e;
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

/// One program of those for each machine, as seccompiler made them.
pub fn merge(native: BpfProgram, of_32_bits: Option<BpfProgram>, lists_x32: bool) -> BpfProgram {
    if !cfg!(target_arch = "x86_64") {
        return native;
    }
    let tail = |program: BpfProgram| program.into_iter().skip(HEAD);
    let native: Vec<sock_filter> = tail(native).collect();
    // From behind the jump: six more of the head, and the native program.
    let to_other = 6 + u32::try_from(native.len()).unwrap_or(u32::MAX);
    let other = match of_32_bits {
        Some(_) => instruction(0x05, 0, 0, to_other),
        None => give(KILL),
    };
    let head = [
        load(MACHINE_AT),
        if_equal(I386, 0, 1),
        other,
        if_equal(X86_64, 1, 0),
        give(KILL),
        load(NUMBER_AT),
        instruction(0x35, 0, 2, X32_BIT),
        if_equal(NO_CALL, 1, 0),
        give(if lists_x32 { ABSENT } else { KILL }),
    ];
    head.into_iter().chain(native).chain(of_32_bits.into_iter().flat_map(tail)).collect()
}

/// linux/filter.h: a class, a size and a mode in one number.
fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn load(at: u32) -> sock_filter {
    instruction(0x20, 0, 0, at)
}

fn if_equal(value: u32, so: u8, otherwise: u8) -> sock_filter {
    instruction(0x15, so, otherwise, value)
}

fn give(action: u32) -> sock_filter {
    instruction(0x06, 0, 0, action)
}
