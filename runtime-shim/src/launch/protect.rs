//! This program cannot be overwritten by what it runs.
//!
//! A container's process is this program until it is its command, and so is one
//! that joins it: whoever gets hold of `/proc/PID/exe` there, or has
//! `#!/proc/self/exe` executed, has the host's own file (CVE-2019-5736). So
//! verbs that make or enter containers run from what cannot be written to: a
//! read-only clone of the mount the program lies on, which is nowhere in the
//! tree; or, where mounts cannot be made, a sealed copy in memory.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{
    Access, AtFlags, CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals,
    fcntl_get_seals, memfd_create, open,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::geteuid;

use super::options::attribute;
use crate::failure::{Context, Failure, Result};
use crate::sys::mounts::{Reach, set_attributes};
use crate::sys::process::execute_open;

/// Where this program was before it was protected.
const PLACE: &str = "_RUNION_EXECUTABLE";
const SELF: &str = "/proc/self/exe";

/// Goes on in a protected copy; back only in it. To be called before anything is
/// opened or made.
pub fn protect_self() -> Result<()> {
    let context = || "cannot protect this program from what it runs".to_string();
    let own = open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(context)?;
    if is_protected(&own).context(context)? {
        // Older kernels call a process by the number of the descriptor executed.
        return rustix::thread::set_name(c"runion").context(context);
    }
    let place = std::fs::read_link(SELF).context(context)?;
    let copy = match mounted() {
        Ok(copy) => copy,
        // Not allowed to make mounts.
        Err(_) => sealed(own).context(context)?,
    };
    let words = |words: Vec<OsString>| {
        words.into_iter().map(|word| CString::new(word.into_vec())).collect::<Result<Vec<_>, _>>()
    };
    let arguments = words(std::env::args_os().collect()).context(context)?;
    let own_place =
        [OsString::from(PLACE), OsString::from("="), place.into_os_string()].into_iter().collect();
    let variables = std::env::vars_os().filter(|(name, _)| name.as_bytes() != PLACE.as_bytes());
    let variables = variables.map(|(name, value)| [name, OsString::from("="), value].into_iter().collect());
    let environment = words(variables.chain([own_place]).collect()).context(context)?;
    let error = execute_open(copy.as_fd(), &arguments, &environment);
    Err(Failure::new(format!("{}: {error}", context())))
}

/// Where this program is on the disk: protected, it is nowhere.
pub fn place() -> std::io::Result<PathBuf> {
    match std::env::var_os(PLACE) {
        Some(place) => Ok(PathBuf::from(place)),
        None => std::env::current_exe(),
    }
}

/// Whether nobody can write to it through /proc.
fn is_protected(own: &OwnedFd) -> std::io::Result<bool> {
    let wanted = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    if fcntl_get_seals(own).is_ok_and(|seals| seals.contains(wanted)) {
        return Ok(true);
    }
    if rustix::fs::fstatvfs(own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // Somebody else's, that whoever runs it may not change: nor may anybody in a
    // container of his.
    let is_own = rustix::fs::fstat(own)?.st_uid == geteuid().as_raw();
    let may_write = rustix::fs::accessat(CWD, SELF, Access::WRITE_OK, AtFlags::EACCESS);
    Ok(!is_own && may_write == Err(Errno::ACCESS))
}

fn mounted() -> std::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, SELF, flags)?;
    set_attributes(&clone, Reach::Mount, attribute::RDONLY, 0, 0)?;
    Ok(clone)
}

fn sealed(own: OwnedFd) -> std::io::Result<OwnedFd> {
    let name: &CStr = c"runion";
    let copy = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::EXEC)
        // Kernels before 6.3 know no such word, and allow it.
        .or_else(|_| memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING))?;
    let mut writer = File::from(copy);
    std::io::copy(&mut File::from(own), &mut writer)?;
    fcntl_add_seals(&writer, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // A file that is open for writing is not executed.
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    Ok(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
