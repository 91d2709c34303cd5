//! Making a container's process: clone3(2), namespaces, exec, and what exec
//! would otherwise hand on.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::process::Pid;

use super::{Namespaces, Side, SignalSet};

/// `CLONE_INTO_CGROUP` of linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// `CLONE_NEWTIME` of linux/sched.h.
const CLONE_NEWTIME: libc::c_int = 0x80;

/// `struct clone_args` of clone(2), with all that kernels have since 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Whose child a new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The caller's.
    Child,
    /// The caller's parent's.
    Sibling,
}

impl Namespaces {
    /// Mounts.
    pub const MOUNT: Namespaces = Namespaces(libc::CLONE_NEWNS);
    /// Processes.
    pub const PID: Namespaces = Namespaces(libc::CLONE_NEWPID);
    /// System V IPC and message queues.
    pub const IPC: Namespaces = Namespaces(libc::CLONE_NEWIPC);
    /// The machine's name.
    pub const UTS: Namespaces = Namespaces(libc::CLONE_NEWUTS);
    /// The view of the hierarchies of cgroups.
    pub const CGROUP: Namespaces = Namespaces(libc::CLONE_NEWCGROUP);
    /// Clocks that count from the boot.
    pub const TIME: Namespaces = Namespaces(CLONE_NEWTIME);

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Forks by clone3(2), the child in new namespaces and, if one is given, in a
/// cgroup of version 2 from its first moment on.
///
/// As for [`super::clone`], the program must be single-threaded.
pub fn clone3(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    relation: Relation,
) -> io::Result<Side> {
    let mut arguments = CloneArguments { flags: namespaces.0 as u64, ..Default::default() };
    match relation {
        Relation::Child => arguments.exit_signal = libc::SIGCHLD as u64,
        // Its signal is then the caller's own.
        Relation::Sibling => arguments.flags |= libc::CLONE_PARENT as u64,
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and with a null stack this is fork(2): the child
    // runs on its own copy of the address space. The kernel reads `size_of`
    // bytes of the structure.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(match i32::try_from(pid).ok().and_then(Pid::from_raw) {
            Some(pid) => Side::Parent(pid),
            None => Side::Child,
        }),
    }
}

/// Joins the namespace behind a descriptor, which must be of that kind; or, by
/// a pidfd, all of these that its process is in.
pub fn join(of: BorrowedFd<'_>, namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: takes a descriptor that lives and an integer.
    match unsafe { libc::setns(of.as_raw_fd(), namespaces.0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Leaves namespaces for new ones.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: only namespaces are named, never CLONE_FILES: descriptors stay
    // whose they were.
    match unsafe { libc::unshare(namespaces.0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Pointers to strings, as exec wants them; they live as long as the strings.
fn pointers(strings: &[impl AsRef<CStr>]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ref().as_ptr()).chain([std::ptr::null()]).collect()
}

/// Executes a program; comes back only with the reason why not.
pub fn execute(path: &CStr, arguments: &[impl AsRef<CStr>], environment: &[impl AsRef<CStr>]) -> io::Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer, and all that they point to
    // lives until the call is over.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes an open program, as [`execute`].
pub fn execute_open(
    program: BorrowedFd<'_>,
    arguments: &[impl AsRef<CStr>],
    environment: &[impl AsRef<CStr>],
) -> io::Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: as in `execute`; an empty path means the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Lets every signal do what it does by default, and blocks none: what a
/// program begins with. (Rust ignores SIGPIPE, and exec keeps what is ignored.)
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: no handler of ours is installed whose data could go. Numbers
        // that cannot be changed are only refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    SignalSet::of(&[]).restore()
}

/// Lets exec close every descriptor from `first` on.
pub fn close_from_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: takes integers, and closes nothing now.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from `first` on but these, whoever believes to own
/// one.
///
/// For a process that was just made and does not come back to what it was made
/// from: what a structure of the maker's frames holds is gone, and must not be
/// used or dropped.
pub fn close_all_from(first: u32, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<libc::c_uint> = kept.iter().map(|fd| fd.as_raw_fd() as libc::c_uint).collect();
    kept.sort_unstable();
    let mut from = first;
    for fd in kept.into_iter().chain([libc::c_uint::MAX]).filter(|fd| *fd >= first) {
        if fd > from {
            // SAFETY: takes integers; the caller's promise is above.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
            if closed != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        from = fd.saturating_add(1);
    }
    Ok(())
}

/// Begins a session of keys of its own, so that the caller's are not found.
pub fn new_session_of_keys() -> io::Result<()> {
    /// `KEYCTL_JOIN_SESSION_KEYRING` of linux/keyctl.h.
    const JOIN_SESSION: libc::c_int = 1;
    // SAFETY: a null name asks for a new one without.
    match unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION, std::ptr::null::<libc::c_char>()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Puts a descriptor at a number that a program expects, open over exec.
pub fn place(fd: impl AsFd, number: i32) -> io::Result<()> {
    let from = fd.as_fd().as_raw_fd();
    if from == number {
        // SAFETY: takes integers.
        return match unsafe { libc::fcntl(number, libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        };
    }
    // SAFETY: takes integers. What `number` was before is closed: callers name
    // only the numbers of streams.
    match unsafe { libc::dup2(from, number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
