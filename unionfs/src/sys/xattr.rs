//! Extended attributes of a file named by directory and [`Name`], or by any
//! descriptor, `O_PATH` included. A final symlink is never followed.
//!
//! Linux 6.13 has calls for this (`getxattrat(2)` and its siblings). Older
//! kernels are served through `/proc/self/fd/N`, whose magic link leads to the
//! very file that is open, be it a symlink. The new calls refuse `O_PATH`
//! descriptors of anything but directories, so those take the second route too.
//!
//! Nothing here knows what an attribute means; reading allocates no memory.

mod raw;

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{AtFlags, XattrFlags};
use rustix::io::Errno;

use crate::error::{Absent, Error, Result};
use crate::name::{NAME_MAX, Name};

/// The file whose attributes are meant.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// An entry of a directory; a symlink is itself meant.
    At(BorrowedFd<'a>, Name<'a>),
    /// An open file, also one opened with `O_PATH`.
    Fd(BorrowedFd<'a>),
}

/// Reads one attribute into `value` and returns its length; with an empty
/// buffer, only the length.
///
/// # Errors
/// `ENODATA` where there is no such attribute, `ERANGE` where the buffer is too
/// small, else what the file system says.
pub fn get(target: Target<'_>, name: &CStr, value: &mut [u8]) -> rustix::io::Result<usize> {
    get_by(Route::known(), target, name, value)
}

/// Reads one attribute of any length; `None` where there is none.
///
/// # Errors
/// As [`get`], save those that [`Absent::no_attribute`] calls an absence.
pub fn get_vec(target: Target<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    read_growing(|value| get(target, name, value)).no_attribute()
}

/// The names of all attributes, each ended by a NUL. A file system without
/// attributes has none.
///
/// # Errors
/// What the file system says.
pub fn list(target: Target<'_>) -> Result<Vec<u8>> {
    match read_growing(|names| list_by(Route::known(), target, names)) {
        Ok(names) => Ok(names),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(Error::from(errno)),
    }
}

/// Writes one attribute.
///
/// # Errors
/// What the file system says.
pub fn set(target: Target<'_>, name: &CStr, value: &[u8], flags: XattrFlags) -> rustix::io::Result<()> {
    set_by(Route::known(), target, name, value, flags)
}

/// Removes one attribute.
///
/// # Errors
/// `ENODATA` where there is none, else what the file system says.
pub fn remove(target: Target<'_>, name: &CStr) -> rustix::io::Result<()> {
    remove_by(Route::known(), target, name)
}

/// How long most attributes and most lists of names are at most.
const FIRST_GUESS: usize = 256;

/// Calls `read` with a buffer that grows until everything fits. Another process
/// may lengthen the value between two calls, hence the loop.
fn read_growing(mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; FIRST_GUESS];
    loop {
        match read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {
                let needed = read(&mut [])?;
                buffer.resize(needed.max(buffer.len() * 2), 0);
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Which system calls reach an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// `getxattrat` and its siblings.
    At,
    /// The path-based calls, by way of `/proc/self/fd`.
    Proc,
}

impl Route {
    /// What this kernel has, asked once. A kernel or sandbox without the calls
    /// may answer `ENOSYS` or `EPERM`; one with them says `EINVAL` to an
    /// argument structure of no size, and nothing else does.
    fn known() -> Route {
        const UNKNOWN: u8 = 0;
        const AT: u8 = 1;
        const PROC: u8 = 2;
        static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
        match KNOWN.load(Ordering::Relaxed) {
            AT => Route::At,
            PROC => Route::Proc,
            _ => {
                let has_calls = raw::probe() == Err(Errno::INVAL);
                KNOWN.store(if has_calls { AT } else { PROC }, Ordering::Relaxed);
                if has_calls { Route::At } else { Route::Proc }
            }
        }
    }
}

fn get_by(route: Route, target: Target<'_>, name: &CStr, value: &mut [u8]) -> rustix::io::Result<usize> {
    if route == Route::At {
        if let Some(done) = native(target, |path| raw::get(path, name, &mut *value)) {
            return done;
        }
    }
    let path = ProcPath::of(target)?;
    // rustix answers an empty buffer with 0; the length has its own functions.
    path.explain(match (target, value.is_empty()) {
        (Target::At(..), true) => rustix::fs::lgetxattr_query(path.as_c_str(), name),
        (Target::At(..), false) => rustix::fs::lgetxattr(path.as_c_str(), name, value),
        (Target::Fd(_), true) => rustix::fs::getxattr_query(path.as_c_str(), name),
        (Target::Fd(_), false) => rustix::fs::getxattr(path.as_c_str(), name, value),
    })
}

fn list_by(route: Route, target: Target<'_>, names: &mut [u8]) -> rustix::io::Result<usize> {
    if route == Route::At {
        if let Some(done) = native(target, |path| raw::list(path, &mut *names)) {
            return done;
        }
    }
    let path = ProcPath::of(target)?;
    path.explain(match (target, names.is_empty()) {
        (Target::At(..), true) => rustix::fs::llistxattr_query(path.as_c_str()),
        (Target::At(..), false) => rustix::fs::llistxattr(path.as_c_str(), names),
        (Target::Fd(_), true) => rustix::fs::listxattr_query(path.as_c_str()),
        (Target::Fd(_), false) => rustix::fs::listxattr(path.as_c_str(), names),
    })
}

fn set_by(
    route: Route,
    target: Target<'_>,
    name: &CStr,
    value: &[u8],
    flags: XattrFlags,
) -> rustix::io::Result<()> {
    if let Target::Fd(fd) = target {
        // What is marked is mostly a file just made, still open for writing.
        match rustix::fs::fsetxattr(fd, name, value, flags) {
            // Opened by `O_PATH`.
            Err(Errno::BADF) => {}
            done => return done,
        }
    }
    if route == Route::At {
        if let Some(done) = native(target, |path| raw::set(path, name, value, flags)) {
            return done;
        }
    }
    let path = ProcPath::of(target)?;
    path.explain(match target {
        Target::At(..) => rustix::fs::lsetxattr(path.as_c_str(), name, value, flags),
        Target::Fd(_) => rustix::fs::setxattr(path.as_c_str(), name, value, flags),
    })
}

fn remove_by(route: Route, target: Target<'_>, name: &CStr) -> rustix::io::Result<()> {
    if route == Route::At {
        if let Some(done) = native(target, |path| raw::remove(path, name)) {
            return done;
        }
    }
    let path = ProcPath::of(target)?;
    path.explain(match target {
        Target::At(..) => rustix::fs::lremovexattr(path.as_c_str(), name),
        Target::Fd(_) => rustix::fs::removexattr(path.as_c_str(), name),
    })
}

/// Makes one of the `*xattrat` calls on a target; `None` where they do not reach
/// it. Most open files are directories, held by `O_PATH`: `.` is one call for
/// them, where the detour by `/proc` takes eight times as long.
fn native<T>(
    target: Target<'_>,
    mut call: impl FnMut(&AtPath<'_>) -> rustix::io::Result<T>,
) -> Option<rustix::io::Result<T>> {
    let fd = match target {
        Target::At(dir, name) => {
            return Some(call(&AtPath::new(dir, name.bytes(), AtFlags::SYMLINK_NOFOLLOW)));
        }
        Target::Fd(fd) => fd,
    };
    match call(&AtPath::new(fd, b".", AtFlags::empty())) {
        // No directory, or one that may not be searched.
        Err(Errno::NOTDIR | Errno::ACCESS) => {}
        done => return Some(done),
    }
    match call(&AtPath::new(fd, b"", AtFlags::EMPTY_PATH)) {
        // Opened by `O_PATH`.
        Err(Errno::BADF) => None,
        done => Some(done),
    }
}

/// The first three arguments of the `*xattrat` calls.
struct AtPath<'a> {
    dir: BorrowedFd<'a>,
    flags: AtFlags,
    name: [u8; NAME_MAX + 1],
}

impl<'a> AtPath<'a> {
    /// `path` is a [`Name`] or shorter.
    fn new(dir: BorrowedFd<'a>, path: &[u8], flags: AtFlags) -> Self {
        let mut name = [0; NAME_MAX + 1];
        // A name has at most NAME_MAX bytes: a NUL always remains.
        name[..path.len()].copy_from_slice(path);
        AtPath { dir, flags, name }
    }
}

/// The longest `/proc/self/fd/N/NAME` with its NUL: 14 bytes of prefix, ten
/// digits, a slash and a name.
const PROC_PATH_MAX: usize = 14 + 10 + 1 + NAME_MAX + 1;

/// A target as a path through `/proc/self/fd`, without heap memory.
struct ProcPath {
    bytes: [u8; PROC_PATH_MAX],
    /// An entry of a directory may be missing, an open file may not.
    is_open_file: bool,
}

impl ProcPath {
    fn of(target: Target<'_>) -> rustix::io::Result<Self> {
        let mut bytes = [0; PROC_PATH_MAX];
        let (fd, entry) = match target {
            Target::At(dir, entry) => (dir, Some(entry)),
            Target::Fd(fd) => (fd, None),
        };
        let mut rest = &mut bytes[..PROC_PATH_MAX - 1];
        write!(rest, "/proc/self/fd/{}", fd.as_raw_fd()).map_err(|_| Errno::NAMETOOLONG)?;
        if let Some(entry) = entry {
            rest.write_all(b"/").map_err(|_| Errno::NAMETOOLONG)?;
            rest.write_all(entry.bytes()).map_err(|_| Errno::NAMETOOLONG)?;
        }
        Ok(ProcPath { bytes, is_open_file: entry.is_none() })
    }

    fn as_c_str(&self) -> &CStr {
        // The last byte is never written, so a NUL is always found.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    /// An open file that is "not found" means that /proc is not mounted; that
    /// must not be taken for a file that is gone.
    fn explain<T>(&self, result: rustix::io::Result<T>) -> rustix::io::Result<T> {
        match result {
            Err(Errno::NOENT) if self.is_open_file => Err(Errno::BADF),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::sys::scratch::Scratch;

    fn open(dir: &Scratch, name: &str, flags: OFlags) -> OwnedFd {
        rustix::fs::openat(dir.fd(), name, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// One attribute's whole life by one route.
    fn live(route: Route, target: Target<'_>, name: &CStr) {
        let mut value = [0; 16];
        assert_eq!(get_by(route, target, name, &mut value), Err(Errno::NODATA));
        set_by(route, target, name, b"abc\0def", XattrFlags::CREATE).unwrap();
        assert_eq!(set_by(route, target, name, b"x", XattrFlags::CREATE), Err(Errno::EXIST));
        assert_eq!(get_by(route, target, name, &mut []), Ok(7));
        assert_eq!(get_by(route, target, name, &mut value[..3]), Err(Errno::RANGE));
        assert_eq!(get_by(route, target, name, &mut value), Ok(7));
        assert_eq!(&value[..7], b"abc\0def");
        let names = read_growing(|names| list_by(route, target, names)).unwrap();
        assert!(names.split_inclusive(|&b| b == 0).any(|n| n == name.to_bytes_with_nul()), "{names:?}");
        remove_by(route, target, name).unwrap();
        assert_eq!(remove_by(route, target, name), Err(Errno::NODATA));
    }

    #[test]
    fn both_routes_reach_every_kind_of_file() {
        assert_eq!(Route::known() == Route::At, raw::probe() == Err(Errno::INVAL));
        for dir in Scratch::on_each_file_system("xattr") {
            File::create(dir.path().join("file")).unwrap();
            std::fs::create_dir(dir.path().join("dir")).unwrap();
            std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
            for route in [Route::At, Route::Proc] {
                if route == Route::At && Route::known() != Route::At {
                    println!("skipped: this kernel has no getxattrat");
                    continue;
                }
                for (file, name) in [
                    ("file", c"user.test"),
                    ("dir", c"user.test"),
                    ("file", c"trusted.test"),
                    ("dir", c"trusted.test"),
                    ("link", c"trusted.test"),
                ] {
                    if name.to_bytes().starts_with(b"trusted.") && !rustix::process::geteuid().is_root() {
                        println!("skipped: trusted attributes need root");
                        continue;
                    }
                    live(route, Target::At(dir.fd(), Name::new(file.as_bytes()).unwrap()), name);
                    let path_only = open(&dir, file, OFlags::PATH | OFlags::NOFOLLOW);
                    live(route, Target::Fd(path_only.as_fd()), name);
                    if file != "link" {
                        let real = open(&dir, file, OFlags::RDONLY);
                        live(route, Target::Fd(real.as_fd()), name);
                    }
                }
            }
        }
    }

    #[test]
    fn long_values_and_long_lists_are_read_whole() {
        // tmpfs: ext4 keeps all attributes of a file within one block.
        let dir = Scratch::on("/dev/shm", "xattr");
        File::create(dir.path().join("file")).unwrap();
        let target = Target::At(dir.fd(), Name::new(b"file").unwrap());
        let long = vec![b'v'; 5_000];
        set(target, c"user.long", &long, XattrFlags::empty()).unwrap();
        assert_eq!(get_vec(target, c"user.long").unwrap().unwrap(), long);
        set(target, c"user.empty", b"", XattrFlags::empty()).unwrap();
        assert_eq!(get_vec(target, c"user.empty").unwrap().unwrap(), b"");
        assert_eq!(get_vec(target, c"user.none").unwrap(), None);
        for n in 0..100 {
            let name = std::ffi::CString::new(format!("user.attribute-number-{n}")).unwrap();
            set(target, &name, b"", XattrFlags::empty()).unwrap();
        }
        assert_eq!(list(target).unwrap().split(|&b| b == 0).filter(|n| !n.is_empty()).count(), 102);
    }

    #[test]
    fn a_symlink_is_not_followed_and_an_absent_file_is_an_error() {
        let dir = Scratch::on("/dev/shm", "xattr");
        File::create(dir.path().join("file")).unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let file = Target::At(dir.fd(), Name::new(b"file").unwrap());
        set(file, c"user.a", b"1", XattrFlags::empty()).unwrap();
        let link = Target::At(dir.fd(), Name::new(b"link").unwrap());
        assert_eq!(get_vec(link, c"user.a").unwrap(), None);
        assert_eq!(list(link).unwrap(), b"");
        let absent = Target::At(dir.fd(), Name::new(&[b'x'; 255]).unwrap());
        for route in [Route::At, Route::Proc] {
            assert_eq!(get_by(route, absent, c"user.a", &mut []), Err(Errno::NOENT));
        }
        assert_eq!(get_vec(absent, c"user.a").unwrap_err().errno(), Errno::NOENT);
    }

    #[test]
    fn an_open_directory_keeps_its_attributes_when_removed() {
        for dir in Scratch::on_each_file_system("xattr") {
            std::fs::create_dir(dir.path().join("dir")).unwrap();
            let held = open(&dir, "dir", OFlags::PATH);
            set(Target::Fd(held.as_fd()), c"user.a", b"1", XattrFlags::empty()).unwrap();
            std::fs::remove_dir(dir.path().join("dir")).unwrap();
            assert_eq!(get_vec(Target::Fd(held.as_fd()), c"user.a").unwrap().unwrap(), b"1");
        }
    }
}
