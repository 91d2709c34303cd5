//! The system calls that no safe crate has: fork, signals to wait for, and
//! closing what was inherited. The only unsafe code of this program.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use rustix::process::Pid;

/// The two sides of a fork.
pub enum Side {
    /// Here, the new process being there.
    Parent(Pid),
    /// There.
    Child,
}

/// Splits the process in two.
///
/// # Errors
/// Those of fork(2); also if other threads run, which a fork would lose in the
/// middle of whatever they do.
pub fn fork() -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("other threads are running"));
    }
    // SAFETY: no other thread runs, so that no lock is held by one that is lost.
    match unsafe { libc::fork() } {
        0 => Ok(Side::Child),
        pid => Pid::from_raw(pid).filter(|_| pid > 0).map(Side::Parent).ok_or_else(io::Error::last_os_error),
    }
}

/// The descriptors above the standard three that the caller left open: a lock
/// of `flock(1)`, a pipe somebody waits on. To be asked before any is opened
/// here. Where /proc cannot say, they are closed at once.
pub fn inherited_descriptors() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        // SAFETY: nothing in this process owns a descriptor above the standard
        // three yet; a kernel without the call leaves them open.
        unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
        return Vec::new();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let open: Vec<RawFd> = numbers.filter(|&fd| fd > 2).collect();
    // The directory itself was among them and is closed now.
    // SAFETY: F_GETFD reads a flag, or fails on a number that is not open.
    open.into_iter().filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0).collect()
}

/// Closes what [`inherited_descriptors`] found.
pub fn close_inherited(descriptors: Vec<RawFd>) {
    for fd in descriptors {
        // SAFETY: these were open before this program opened its first and
        // belong to nothing in it.
        unsafe { libc::close(fd) };
    }
}

/// Signals that are kept until they are waited for.
pub struct Held(libc::sigset_t);

impl Held {
    /// Keeps these signals back from now on, in this thread and those it starts.
    ///
    /// # Errors
    /// Those of sigmask(3).
    pub fn hold(signals: &[i32]) -> io::Result<Held> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset fills the whole set.
        let mut set: libc::sigset_t = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for &signal in signals {
            // SAFETY: `set` is an initialised set.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
        // SAFETY: the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
            0 => Ok(Held(set)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Waits for the next of them.
    ///
    /// # Errors
    /// Those of sigwait(3).
    pub fn wait(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: both pointers are to values that live through the call.
        match unsafe { libc::sigwait(&self.0, &mut signal) } {
            0 => Ok(signal),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn inherited_descriptors_are_found() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let found = inherited_descriptors();
        assert!(found.contains(&file.as_raw_fd()), "{found:?}");
        assert!(found.iter().all(|&fd| fd > 2), "{found:?}");
    }
}
