//! The system calls that rustix has no safe function for: the only unsafe code
//! of this crate. No policy here.

pub mod bpf;
pub mod mounts;
pub mod process;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

/// Which process a call of [`clone`] came back in.
pub enum Side {
    /// The caller, with the new process's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Namespaces that a new process starts in (`CLONE_NEW*` bits).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(libc::c_int);

impl Namespaces {
    /// The caller's own namespaces: a plain fork.
    pub const NONE: Namespaces = Namespaces(0);
    /// A new user namespace.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER);
    /// New mount and pid namespaces.
    pub const KEEPER: Namespaces = Namespaces(libc::CLONE_NEWNS | libc::CLONE_NEWPID);
    /// What a sandboxed command sees: its own mounts, processes, IPC objects
    /// and host name.
    pub const SANDBOX: Namespaces =
        Namespaces(libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS);

    /// A new network namespace.
    pub const NETWORK: Namespaces = Namespaces(libc::CLONE_NEWNET);

    /// Both sets together.
    pub fn and(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }
}

/// Forks, the child in new namespaces.
///
/// The program must be single-threaded, which `runion` is: the child goes on
/// in Rust code and would find another thread's locks held for ever.
pub fn clone(namespaces: Namespaces) -> io::Result<Side> {
    let flags = libc::c_long::from(namespaces.0 | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack this is fork(2): the child
    // runs on its own copy of the whole address space.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0 as libc::c_long, 0 as libc::c_long, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(match i32::try_from(pid).ok().and_then(Pid::from_raw) {
            Some(pid) => Side::Parent(pid),
            None => Side::Child,
        }),
    }
}

/// Moves this process into a mount namespace of its own, a copy of what it sees.
pub fn new_mount_namespace() -> io::Result<()> {
    // SAFETY: takes an integer; the program is single-threaded, and no memory is
    // shared with the old namespace.
    match unsafe { libc::unshare(libc::CLONE_NEWNS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts a filter on the system calls of this process and all it makes, with
/// flags (`SECCOMP_FILTER_FLAG_*`). It takes `CAP_SYS_ADMIN`, or that no program
/// gives new privileges.
pub fn filter_calls(filter: &[seccompiler::sock_filter], flags: u32) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: the program is as long as it says, of instructions laid out as the
    // kernel's `struct sock_filter`; the kernel reads it and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Brings the loopback of this network namespace up.
pub fn raise_loopback() -> rustix::io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is an ifreq, which SIOCSIFFLAGS reads.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) } {
        0 => Ok(()),
        _ => {
            Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error())
                .unwrap_or(rustix::io::Errno::IO))
        }
    }
}

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

/// A signal taken off the queue.
pub struct Taken {
    /// Its number.
    pub signal: i32,
    /// Who sent it.
    pub origin: Origin,
}

/// Where a signal comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel: a key on the terminal or a hang-up, which the whole
    /// foreground process group receives.
    Kernel,
    /// A process, which meant this process alone.
    Process,
}

impl SignalSet {
    /// The set of these signal numbers.
    pub fn of(signals: &[i32]) -> SignalSet {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set it is given.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for &signal in signals {
            // SAFETY: the set is initialised; a bad number only returns EINVAL.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        SignalSet(set)
    }

    /// Keeps these signals queued until [`SignalSet::wait`] takes them, and
    /// gives the set that was blocked before.
    pub fn block(&self) -> io::Result<SignalSet> {
        self.change_mask(libc::SIG_BLOCK)
    }

    /// Blocks these signals and no others: what a program to be executed is to
    /// begin with.
    pub fn restore(&self) -> io::Result<()> {
        self.change_mask(libc::SIG_SETMASK).map(|_replaced| ())
    }

    fn change_mask(&self, how: libc::c_int) -> io::Result<SignalSet> {
        let mut old = SignalSet::of(&[]);
        // SAFETY: reads one initialised set and writes the other.
        match unsafe { libc::sigprocmask(how, &raw const self.0, &raw mut old.0) } {
            0 => Ok(old),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// A descriptor that is readable while one of these (blocked) signals waits.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: reads one initialised set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const self.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        match fd {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: it was just opened, and nobody else has it.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }

    /// Waits for one of these (blocked) signals.
    pub fn wait(&self) -> io::Result<Taken> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: writes one siginfo_t into memory of that size.
        let signal = unsafe { libc::sigwaitinfo(&raw const self.0, info.as_mut_ptr()) };
        if signal == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all-zero bytes are a siginfo_t, and the kernel filled it in.
        let code = unsafe { info.assume_init() }.si_code;
        let origin = if code == libc::SI_KERNEL { Origin::Kernel } else { Origin::Process };
        Ok(Taken { signal, origin })
    }
}

/// Sends a signal by number; `pid` -1 means every process one may signal.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes two integers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor above stderr, whoever believes to own one.
///
/// For a process that only waits and exits from here on: what a structure of
/// the caller's frames holds is gone, and must not be used or dropped.
pub fn close_others() -> io::Result<()> {
    let last = libc::c_uint::MAX;
    // SAFETY: takes integers; the caller's promise is above.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor above stderr but these, whoever believes to own one.
///
/// For a process that was just forked: as for [`close_others`].
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<libc::c_uint> = kept.iter().map(|fd| fd.as_raw_fd() as libc::c_uint).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([libc::c_uint::MAX]) {
        if fd > first {
            // SAFETY: takes integers; the caller's promise is above.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
            if closed != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = first.max(fd.saturating_add(1));
    }
    Ok(())
}

/// `struct mount_attr` of mount_setattr(2), version 0.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// linux/mount.h.
const MOUNT_ATTR_RDONLY: u64 = 1;

/// Makes a mount and every mount below it read-only.
pub fn make_read_only(mount: impl AsFd) -> io::Result<()> {
    let attributes = MountAttr { attr_set: MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: an empty path means the descriptor itself; the kernel reads
    // `size_of` bytes of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
