//! bpf(2), as far as the devices of a group of processes take it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An instruction of a BPF program (`struct bpf_insn` of linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    /// By operation, registers, offset and value.
    pub const fn new(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
        // Two fields of four bits, the first in the byte's first half.
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        Instruction { code, registers, offset, value }
    }
}

#[cfg(test)]
impl Instruction {
    pub fn code(&self) -> u8 {
        self.code
    }

    pub fn to(&self) -> u8 {
        if cfg!(target_endian = "little") { self.registers & 15 } else { self.registers >> 4 }
    }

    pub fn from(&self) -> u8 {
        if cfg!(target_endian = "little") { self.registers >> 4 } else { self.registers & 15 }
    }

    pub fn offset(&self) -> i16 {
        self.offset
    }

    pub fn value(&self) -> i32 {
        self.value
    }
}

/// Commands, program types and attach types of bpf(2).
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
struct BpfLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct BpfAttach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// `union bpf_attr` for `BPF_PROG_QUERY`, as far as it is used.
#[repr(C)]
struct BpfQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// Loads a program that decides about devices; the kernel checks it.
pub fn load_device_filter(program: &[Instruction]) -> io::Result<OwnedFd> {
    let length = u32::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let attributes = BpfLoad {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: length,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the kernel reads `size_of` bytes, the program, which is as long as
    // it says, and the license up to its zero.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size_of::<BpfLoad>()) };
    new_descriptor(fd)
}

/// Lets a program decide about the devices of a group of cgroup v2, next to
/// those that already do: all of them must allow.
pub fn attach_device_filter(group: impl AsFd, program: impl AsFd) -> io::Result<()> {
    change_device_filter(BPF_PROG_ATTACH, group, program, BPF_F_ALLOW_MULTI)
}

/// Lets it decide no longer.
pub fn detach_device_filter(group: impl AsFd, program: impl AsFd) -> io::Result<()> {
    change_device_filter(BPF_PROG_DETACH, group, program, 0)
}

fn change_device_filter(
    command: libc::c_int,
    group: impl AsFd,
    program: impl AsFd,
    flags: u32,
) -> io::Result<()> {
    let attributes = BpfAttach {
        target_fd: group.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: flags,
    };
    // SAFETY: the kernel reads `size_of` bytes and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of::<BpfAttach>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The programs that decide about the devices of a group, up to 64 of them.
pub fn device_filters(group: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; 64];
    let mut attributes = BpfQuery {
        target_fd: group.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        padding: 0,
    };
    // SAFETY: the kernel writes into `size_of` bytes, and as many ids as there
    // is said to be room for.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attributes, size_of::<BpfQuery>()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    ids.iter().take(attributes.prog_cnt as usize).map(|&id| program_of(id)).collect()
}

fn program_of(id: u32) -> io::Result<OwnedFd> {
    // `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`: id, next id, flags.
    let attributes = [id, 0, 0];
    // SAFETY: the kernel reads the array, and makes a descriptor.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, &raw const attributes, size_of::<[u32; 3]>())
    };
    new_descriptor(fd)
}

/// The result of a system call that makes a descriptor.
fn new_descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just made it, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
