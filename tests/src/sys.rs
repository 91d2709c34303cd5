//! System calls that rustix does not have, or has for whole processes only.
//! The only unsafe of this crate.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child die with the thread that starts it, so that a test that is
/// killed leaves no daemon behind.
pub fn die_with_parent(command: &mut Command) {
    let set = || {
        // SAFETY: prctl(PR_SET_PDEATHSIG) takes integers only, and is
        // async-signal-safe, as code between fork and exec must be.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: `set` allocates nothing and touches no lock.
    unsafe { command.pre_exec(set) };
}

/// Gives the calling thread a mount namespace of its own (and, with it, its own
/// working directory and umask).
///
/// # Errors
/// Those of unshare(2).
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: unshare takes flags only. CLONE_NEWNS concerns the calling thread
    // alone; no memory or descriptor table changes.
    match unsafe { libc::unshare(libc::CLONE_NEWNS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
