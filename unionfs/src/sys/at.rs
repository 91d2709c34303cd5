//! The `*at` family on one file: stat, open, create, change, list.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    self, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags, Timespec, Timestamps,
};
use rustix::io::{Errno, Result};

pub use crate::sys::xattr::Target;

use crate::name::Name;

/// What statx tells, in the shape the rest of the crate uses.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number there.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner on disk.
    pub uid: u32,
    /// Group on disk.
    pub gid: u32,
    /// Device number, of device nodes.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    /// Preferred transfer size, bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Birth, where the file system keeps it.
    pub btime: Time,
}

/// Seconds and nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub sec: i64,
    /// Nanoseconds, below 10⁹.
    pub nsec: u32,
}

impl Time {
    fn timespec(self) -> Timespec {
        Timespec { tv_sec: self.sec, tv_nsec: self.nsec.into() }
    }
}

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it.
    Omit,
    /// The clock of the file system.
    Now,
    /// This time.
    To(Time),
}

impl SetTime {
    fn timespec(self) -> Timespec {
        match self {
            SetTime::Omit => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            SetTime::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            SetTime::To(time) => time.timespec(),
        }
    }
}

impl Stat {
    /// The file's type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether this is kernel overlayfs's whiteout: a character device 0/0.
    pub fn is_whiteout_device(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.rdev == 0
    }
}

/// The mask for what [`Stat`] holds.
const STATX: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Stats one file; a final symlink is not followed.
pub fn stat(target: Target<'_>) -> Result<Stat> {
    let flags = AtFlags::NO_AUTOMOUNT;
    let raw = match target {
        Target::At(dir, name) => fs::statx(dir, name.bytes(), flags | AtFlags::SYMLINK_NOFOLLOW, STATX)?,
        Target::Fd(fd) => fs::statx(fd, c"", flags | AtFlags::EMPTY_PATH, STATX)?,
    };
    let time = |t: rustix::fs::StatxTimestamp| Time { sec: t.tv_sec, nsec: t.tv_nsec };
    Ok(Stat {
        dev: fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
        ino: raw.stx_ino,
        mode: raw.stx_mode.into(),
        nlink: raw.stx_nlink,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        rdev: fs::makedev(raw.stx_rdev_major, raw.stx_rdev_minor),
        size: raw.stx_size,
        blocks: raw.stx_blocks,
        blksize: raw.stx_blksize,
        atime: time(raw.stx_atime),
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
        btime: time(raw.stx_btime),
    })
}

/// The device of all files of a file system, by its root, where its kind has but
/// one: subvolumes of btrfs, and layers of a union, have their own.
pub fn only_device(root: BorrowedFd<'_>) -> Result<Option<u64>> {
    /// `linux/magic.h`
    const EROFS: u32 = 0xE0F5_E1E2;
    const SQUASHFS: u32 = 0x7371_7368;
    const WITH_ONE: [u32; 5] = [
        libc::EXT4_SUPER_MAGIC as u32,
        libc::XFS_SUPER_MAGIC as u32,
        libc::TMPFS_MAGIC as u32,
        EROFS,
        SQUASHFS,
    ];
    match WITH_ONE.contains(&(fs::fstatfs(root)?.f_type as u32)) {
        true => Ok(Some(stat_fd(root)?.dev)),
        false => Ok(None),
    }
}

/// Stats the file `fd` is open on.
pub fn stat_fd(fd: impl AsFd) -> Result<Stat> {
    stat(Target::Fd(fd.as_fd()))
}

/// Holds a directory of a layer, without needing permission to read it.
pub fn open_dir(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name.bytes(), flags, Mode::empty())
}

/// Holds any file, a symlink included, without opening it.
pub fn open_path(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<OwnedFd> {
    fs::openat(dir, name.bytes(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a regular file for its data. Reading leaves the access time alone
/// where the owner allows.
pub fn open_file(target: Target<'_>, access: OFlags) -> Result<OwnedFd> {
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let open = |extra: OFlags| match target {
        Target::At(dir, name) => {
            fs::openat(dir, name.bytes(), flags | extra | OFlags::NOFOLLOW, Mode::empty())
        }
        Target::Fd(fd) => fs::open(proc_path(fd).as_str(), flags | extra, Mode::empty()),
    };
    if access.contains(OFlags::RDWR) || access.contains(OFlags::WRONLY) {
        return open(OFlags::empty());
    }
    match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        result => result,
    }
}

/// Opens a regular file for reading by a path that stays below `dir` and meets
/// no symlink.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match fs::openat2(dir, path, flags | OFlags::NOATIME, Mode::empty(), resolve) {
        Err(Errno::PERM) => fs::openat2(dir, path, flags, Mode::empty(), resolve),
        result => result,
    }
}

/// The name by which a held file is opened again.
pub fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens a held directory for reading its entries or syncing it.
pub fn open_listing(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    open_to_list(dir, b".")
}

/// Holds a directory of a layer so that [`list_opened`] can list it, once.
pub fn open_dir_to_list(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<OwnedFd> {
    open_to_list(dir, name.bytes())
}

fn open_to_list(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// One entry of a directory, as the file system lists it.
pub struct DirEntry<'a> {
    /// Its name; never `.` or `..`.
    pub name: &'a [u8],
    /// Its type, where the file system says it.
    pub kind: FileType,
    /// Its inode number.
    pub ino: u64,
}

/// Calls `visit` for each entry of the directory but `.` and `..`.
///
/// # Errors
/// What opening or reading it gave, or what `visit` gave.
pub fn list<E: From<Errno>>(
    dir: BorrowedFd<'_>,
    visit: impl FnMut(DirEntry<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    list_opened(open_listing(dir)?.as_fd(), visit)
}

/// The same by a descriptor that is open for reading, from its place on.
///
/// # Errors
/// What reading it gave, or what `visit` gave.
pub fn list_opened<E: From<Errno>>(
    dir: BorrowedFd<'_>,
    mut visit: impl FnMut(DirEntry<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut raw = fs::RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            visit(DirEntry { name, kind: entry.file_type(), ino: entry.ino() })?;
        }
    }
    Ok(())
}

/// Reads a symlink of a layer.
pub fn read_link(target: Target<'_>) -> Result<Vec<u8>> {
    let link = match target {
        Target::At(dir, name) => fs::readlinkat(dir, name.bytes(), Vec::new())?,
        Target::Fd(fd) => fs::readlinkat(fd, c"", Vec::new())?,
    };
    Ok(link.into_bytes())
}

/// Sets the permission bits; never through a symlink.
pub fn chmod(target: Target<'_>, mode: u32) -> Result<()> {
    // fchmodat2 is of 6.6; without it a held descriptor does the same.
    static HAS_FCHMODAT2: AtomicBool = AtomicBool::new(true);
    let mode = mode & 0o7777;
    if HAS_FCHMODAT2.load(Ordering::Relaxed) {
        match fchmodat2(target, mode) {
            Err(Errno::NOSYS) => HAS_FCHMODAT2.store(false, Ordering::Relaxed),
            result => return result,
        }
    }
    match target {
        Target::At(dir, name) => {
            let held = open_path(dir, name)?;
            if stat_fd(&held)?.kind() == FileType::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            fs::chmod(proc_path(&held).as_str(), Mode::from_raw_mode(mode))
        }
        Target::Fd(fd) => fs::chmod(proc_path(fd).as_str(), Mode::from_raw_mode(mode)),
    }
}

fn fchmodat2(target: Target<'_>, mode: u32) -> Result<()> {
    let mut path = [0u8; crate::name::NAME_MAX + 1];
    let (fd, flags) = match target {
        Target::At(dir, name) => {
            let bytes = name.bytes();
            path[..bytes.len()].copy_from_slice(bytes);
            (dir, libc::AT_SYMLINK_NOFOLLOW)
        }
        Target::Fd(fd) => (fd, libc::AT_EMPTY_PATH),
    };
    // SAFETY: `path` is NUL-terminated (a name has at most NAME_MAX bytes, none
    // of them NUL) and outlives the call; the other arguments are numbers.
    let result = unsafe { libc::syscall(libc::SYS_fchmodat2, fd.as_raw_fd(), path.as_ptr(), mode, flags) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// The calling thread's errno.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Sets owner and group, `None` leaving each; never through a symlink.
pub fn chown(target: Target<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let uid = uid.map(fs::Uid::from_raw);
    let gid = gid.map(fs::Gid::from_raw);
    match target {
        Target::At(dir, name) => fs::chownat(dir, name.bytes(), uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        Target::Fd(fd) => fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
    }
}

/// Sets access and modification time; never through a symlink.
pub fn utimens(target: Target<'_>, atime: SetTime, mtime: SetTime) -> Result<()> {
    let times = Timestamps { last_access: atime.timespec(), last_modification: mtime.timespec() };
    match target {
        Target::At(dir, name) => fs::utimensat(dir, name.bytes(), &times, AtFlags::SYMLINK_NOFOLLOW),
        Target::Fd(fd) => fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH),
    }
}

/// Sets both times to what another file had.
pub fn copy_times(target: Target<'_>, from: &Stat) -> Result<()> {
    utimens(target, SetTime::To(from.atime), SetTime::To(from.mtime))
}

/// truncate(2): unlike ftruncate(2) it leaves the time to the file system where
/// the size stays.
pub fn truncate(file: BorrowedFd<'_>, size: u64) -> Result<()> {
    let size = i64::try_from(size).map_err(|_| Errno::FBIG)?;
    let path = std::ffi::CString::new(proc_path(file).as_str()).map_err(|_| Errno::INVAL)?;
    // SAFETY: `path` is a C string that outlives the call.
    let result = unsafe { libc::truncate(path.as_ptr(), size) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Makes a directory.
pub fn mkdir(dir: BorrowedFd<'_>, name: Name<'_>, mode: u32) -> Result<()> {
    fs::mkdirat(dir, name.bytes(), Mode::from_raw_mode(mode & 0o7777))
}

/// Makes a fifo, socket, device node or empty regular file.
pub fn mknod(dir: BorrowedFd<'_>, name: Name<'_>, kind: FileType, mode: u32, rdev: u64) -> Result<()> {
    fs::mknodat(dir, name.bytes(), kind, Mode::from_raw_mode(mode & 0o7777), rdev)
}

/// Makes a symlink.
pub fn symlink(target: &[u8], dir: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
    fs::symlinkat(target, dir, name.bytes())
}

/// Gives a file one more name; a final symlink is linked itself.
pub fn link(from: Target<'_>, dir: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
    match from {
        Target::At(old, old_name) => fs::linkat(old, old_name.bytes(), dir, name.bytes(), AtFlags::empty()),
        // AT_EMPTY_PATH needs a capability; the magic link does not.
        Target::Fd(fd) => match fs::linkat(fd, c"", dir, name.bytes(), AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT) => {
                fs::linkat(fs::CWD, proc_path(fd).as_str(), dir, name.bytes(), AtFlags::SYMLINK_FOLLOW)
            }
            result => result,
        },
    }
}

/// Removes a name that is not a directory's.
pub fn unlink(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
    fs::unlinkat(dir, name.bytes(), AtFlags::empty())
}

/// Removes an empty directory.
pub fn rmdir(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
    fs::unlinkat(dir, name.bytes(), AtFlags::REMOVEDIR)
}

/// renameat2.
pub fn rename(
    from: BorrowedFd<'_>,
    from_name: Name<'_>,
    to: BorrowedFd<'_>,
    to_name: Name<'_>,
    flags: RenameFlags,
) -> Result<()> {
    if flags.is_empty() {
        fs::renameat(from, from_name.bytes(), to, to_name.bytes())
    } else {
        fs::renameat_with(from, from_name.bytes(), to, to_name.bytes(), flags)
    }
}

/// Creates a regular file that was not there, open for reading and writing.
pub fn create(dir: BorrowedFd<'_>, name: Name<'_>, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name.bytes(), flags, Mode::from_raw_mode(mode & 0o7777))
}

/// Opens an unnamed file that [`link`] can name later.
pub fn tmpfile(dir: BorrowedFd<'_>, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    fs::openat(dir, c".", flags, Mode::from_raw_mode(mode & 0o7777))
}
