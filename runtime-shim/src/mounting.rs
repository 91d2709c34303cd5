//! Finds and runs the mount helper.
//!
//! The view is mounted by a program, never by its code: what serves it must
//! not share the fate of what uses it. The mount point is given up at once, and
//! the mount lives on as a detached tree: no path of the host leads into the
//! view, so the union can never read itself, and it ends with the last process
//! that uses it.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, statfs};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};

use rustix::process::{WaitOptions, waitpid};

use crate::failure::{Context, Failure, Result};
use crate::sys::{self, Namespaces, Side, SignalSet};

/// The helper's name as cargo builds it; looked for beside this program.
const BUILT: &str = "mount-runionfs";
/// Its names once it is installed; looked for in `PATH`.
const INSTALLED: [&str; 3] = ["mount.runionfs", "runionfs", BUILT];

/// `FUSE_SUPER_MAGIC` of linux/magic.h.
const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;

/// An option string for the helper, in the order it is built.
pub struct Options(Vec<u8>);

impl Options {
    /// Options that begin with the lower directories, topmost first.
    pub fn new(lowers: &[PathBuf]) -> Options {
        let mut text = b"lowerdir=".to_vec();
        for (index, lower) in lowers.iter().enumerate() {
            if index > 0 {
                text.push(b':');
            }
            escape(lower, b":,\\", &mut text);
        }
        Options(text)
    }

    /// Options that begin with an image's index, and where its contents are.
    pub fn image(index: &Path, objects: &Path) -> Options {
        let mut options = Options::new(&[index.to_owned()]);
        options.0.extend_from_slice(b"::");
        escape(objects, b":,\\", &mut options.0);
        options
    }

    /// An option that is a path.
    pub fn path(mut self, name: &str, path: &Path) -> Options {
        self.0.extend_from_slice(format!(",{name}=").as_bytes());
        escape(path, b",\\", &mut self.0);
        self
    }

    /// Any other option, spelt out.
    pub fn plain(mut self, option: &str) -> Options {
        self.0.push(b',');
        self.0.extend_from_slice(option.as_bytes());
        self
    }

    fn into_os_string(self) -> OsString {
        OsString::from_vec(self.0)
    }
}

fn escape(path: &Path, special: &[u8], text: &mut Vec<u8>) {
    for &byte in path.as_os_str().as_bytes() {
        if special.contains(&byte) {
            text.push(b'\\');
        }
        text.push(byte);
    }
}

/// Refuses early, and says why, where FUSE cannot work at all.
pub fn check_device() -> Result<()> {
    let device = Path::new("/dev/fuse");
    match rustix::fs::access(device, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(Failure::new("cannot mount the view: there is no /dev/fuse").hint(
            "load the kernel's module as root (modprobe fuse), or give the container --device /dev/fuse",
        )),
        Err(errno) => Err(Failure::new(format!("cannot mount the view: cannot open /dev/fuse: {errno}"))
            .hint("as root: chmod 0666 /dev/fuse (which is how most distributions ship it)")),
    }
}

/// The helper: beside this program, else in `PATH`.
pub fn find() -> Result<PathBuf> {
    let beside = crate::launch::protect::place().ok().map(|program| program.with_file_name(BUILT));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).flat_map(|dir| INSTALLED.map(|name| dir.join(name)));
    beside.into_iter().chain(installed).find(|candidate| is_program(candidate)).ok_or_else(|| {
        Failure::new(format!("cannot find the mount helper {BUILT} beside runion or in PATH"))
            .hint("build the whole workspace: cargo build --release")
    })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|stat| stat.is_file() && stat.permissions().mode() & 0o111 != 0)
}

/// Mounts at `mount_point` and gives the mount as a detached tree.
///
/// The helper, and the server it leaves behind, begin with `signals` blocked.
/// It says itself, on stderr, why it could not mount.
pub fn mount(helper: &Path, signals: &SignalSet, options: Options, mount_point: &Path) -> Result<OwnedFd> {
    let context = || format!("cannot run the mount helper {}", helper.display());
    let mut command = Command::new(helper);
    command.args([OsStr::new("-o"), &options.into_os_string()]).arg(mount_point);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = match sys::clone(Namespaces::NONE).context(context)? {
        Side::Child => {
            let error = signals.restore().err().unwrap_or_else(|| command.exec());
            let failure = Failure::new(format!("{}: {error}", context()));
            std::process::exit(i32::from(failure.report()));
        }
        Side::Parent(pid) => waitpid(Some(pid), WaitOptions::empty()).context(context)?,
    };
    if status.and_then(|(_, status)| status.exit_status()) != Some(0) {
        return Err(Failure::new("cannot mount the view: the mount helper failed"));
    }
    let is_fuse = statfs(mount_point).is_ok_and(|stat| stat.f_type == FUSE_SUPER_MAGIC);
    if !is_fuse {
        return Err(Failure::new(format!(
            "cannot mount the view: {} mounted nothing at {}",
            helper.display(),
            mount_point.display()
        )));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, mount_point, flags).context(|| "cannot take the view's mount".to_string())?;
    unmount(mount_point, UnmountFlags::DETACH)
        .context(|| format!("cannot unmount {}", mount_point.display()))?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_for_the_option_string() {
        let options = Options::new(&["/a:b".into(), "/c,d\\".into()]).path("upperdir", Path::new("/u:,"));
        assert_eq!(options.plain("volatile").0, br"lowerdir=/a\:b:/c\,d\\,upperdir=/u:\,,volatile");
    }
}
