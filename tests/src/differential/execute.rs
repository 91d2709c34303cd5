//! One action on one file system, as the caller it names.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, RawDir, Timespec, Timestamps};
use rustix::io::Errno;

use super::execute_fd;
use super::op::{Action, At, Caller, Op, SLOTS, Time, XattrValue};
use super::outcome::{Known, Outcome, Value, WRONG_INO};
use crate::sys;

/// Where actions happen: a root directory and the open descriptors.
pub struct Place {
    /// The directory that paths start from.
    pub root: OwnedFd,
    /// What is open.
    pub slots: [Option<OwnedFd>; SLOTS],
}

impl Place {
    /// A place with nothing open.
    pub fn new(root: OwnedFd) -> Place {
        Place { root, slots: Default::default() }
    }

    /// The descriptor in a slot.
    pub fn slot(&self, slot: usize) -> Result<BorrowedFd<'_>, Errno> {
        self.slots[slot].as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn base(&self, path: &At) -> Result<BorrowedFd<'_>, Errno> {
        path.base.map_or(Ok(self.root.as_fd()), |slot| self.slot(slot))
    }

    /// The path through the base's magic link, for calls that take no directory.
    fn magic(&self, path: &At) -> Result<CString, Errno> {
        let text = format!("/proc/self/fd/{}/{}", self.base(path)?.as_raw_fd(), path.text());
        CString::new(text).map_err(|_| Errno::INVAL)
    }
}

/// Executes `op` as its caller. The meta operations are not for here.
pub fn execute(place: &mut Place, op: &Op, known: &Known) -> Outcome {
    let umask = rustix::process::umask(Mode::from_raw_mode(op.caller.umask.0));
    let outcome = as_caller(op.caller, || act(place, &op.action, known));
    rustix::process::umask(umask);
    outcome
}

fn as_caller(caller: Caller, act: impl FnOnce() -> Outcome) -> Outcome {
    if caller.uid == 0 {
        return act();
    }
    sys::become_user(caller.uid, &[caller.uid]).map_err(errno)?;
    let outcome = act();
    sys::become_root().map_err(errno)?;
    outcome
}

/// The errno of an error of the standard library's.
pub fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn act(place: &mut Place, action: &Action, known: &Known) -> Outcome {
    use Action as A;
    match action {
        A::Open { slot, path, flags, mode } => {
            let flags = OFlags::from_bits_retain(flags.0 as u32) | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = fs::openat(place.base(path)?, path.c_string(), flags, Mode::from_raw_mode(mode.0))?;
            place.slots[*slot] = Some(fd);
            Ok(Value::Unit)
        }
        A::Close { slot } => place.slots[*slot].take().map(|_| Value::Unit).ok_or(Errno::BADF),
        A::Truncate { .. } | A::MmapRead { .. } | A::MmapWrite { .. } => on_data(place, action),
        A::Mkdir { .. }
        | A::Mknod { .. }
        | A::Symlink { .. }
        | A::Link { .. }
        | A::LinkFd { .. }
        | A::Unlink { .. }
        | A::Rmdir { .. }
        | A::Rename { .. } => on_names(place, action),
        A::Chmod { .. } | A::Chown { .. } | A::Utimens { .. } => on_metadata(place, action),
        A::Setxattr { .. } | A::Getxattr { .. } | A::Listxattr { .. } | A::Removexattr { .. } => {
            on_xattrs(place, action)
        }
        A::Lstat { .. }
        | A::Stat { .. }
        | A::Readlink { .. }
        | A::Readdir { .. }
        | A::ReaddirStat { .. }
        | A::Statfs { .. }
        | A::Access { .. } => ask(place, action, known),
        _ => execute_fd::act(place, action, known),
    }
}

fn on_data(place: &Place, action: &Action) -> Outcome {
    let open = |path: &At, flags| {
        fs::openat(place.base(path)?, path.c_string(), flags | OFlags::NONBLOCK, Mode::empty())
    };
    let size = |file: &OwnedFd| {
        let stat = fs::fstat(file)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && stat.st_size > 0 { Ok(stat.st_size.min(1 << 17) as usize) } else { Err(Errno::NODEV) }
    };
    match action {
        Action::Truncate { path, len } => {
            let path = place.magic(path)?;
            sys::truncate(&path, i64::from(*len)).map(|()| Value::Unit).map_err(errno)
        }
        Action::MmapRead { path } => {
            let file = open(path, OFlags::RDONLY)?;
            sys::read_mapped(file.as_fd(), size(&file)?).map(Value::Bytes).map_err(errno)
        }
        Action::MmapWrite { path, offset, fill } => {
            let file = open(path, OFlags::RDWR)?;
            if fs::fgetxattr(&file, "security.capability", &mut [0; 64]).is_ok() {
                return Err(Errno::PERM); // See `deviations`.
            }
            let bytes = [*fill; 7];
            sys::write_mapped(file.as_fd(), size(&file)?, *offset as usize, &bytes).map_err(errno)?;
            Ok(Value::Unit)
        }
        other => unreachable!("{other:?}"),
    }
}

fn on_names(place: &Place, action: &Action) -> Outcome {
    match action {
        Action::Mkdir { path, mode } => {
            fs::mkdirat(place.base(path)?, path.c_string(), Mode::from_raw_mode(mode.0))?;
        }
        Action::Mknod { path, mode, dev } => {
            let kind = FileType::from_raw_mode(mode.0);
            let permissions = Mode::from_raw_mode(mode.0 & 0o7777);
            fs::mknodat(place.base(path)?, path.c_string(), kind, permissions, u64::from(*dev))?;
        }
        Action::Symlink { target, path } => fs::symlinkat(*target, place.base(path)?, path.c_string())?,
        Action::Link { from, to, flags } => {
            let flags = AtFlags::from_bits_retain(*flags as u32);
            fs::linkat(place.base(from)?, from.c_string(), place.base(to)?, to.c_string(), flags)?;
        }
        Action::LinkFd { slot, to } => {
            fs::linkat(place.slot(*slot)?, c"", place.base(to)?, to.c_string(), AtFlags::EMPTY_PATH)?;
        }
        Action::Unlink { path } => fs::unlinkat(place.base(path)?, path.c_string(), AtFlags::empty())?,
        Action::Rmdir { path } => fs::unlinkat(place.base(path)?, path.c_string(), AtFlags::REMOVEDIR)?,
        Action::Rename { from, to, flags } => {
            let flags = fs::RenameFlags::from_bits_retain(*flags);
            let result =
                fs::renameat_with(place.base(from)?, from.c_string(), place.base(to)?, to.c_string(), flags);
            if result == Err(Errno::NOTEMPTY) {
                // The kernel may have touched the parents by then. That is not
                // asked: both are touched.
                touch_parent(place, from)?;
                touch_parent(place, to)?;
            }
            result?;
        }
        other => unreachable!("{other:?}"),
    }
    Ok(Value::Unit)
}

fn touch_parent(place: &Place, path: &At) -> Result<(), Errno> {
    let mut parent = At { trailing: super::op::Trailing::Name, ..path.clone() };
    parent.names.pop();
    let times = timestamps(Time::Omit, Time::Now);
    fs::utimensat(place.base(&parent)?, parent.c_string(), &times, AtFlags::empty())
}

fn on_metadata(place: &Place, action: &Action) -> Outcome {
    match action {
        Action::Chmod { path, mode } => {
            fs::chmodat(place.base(path)?, path.c_string(), Mode::from_raw_mode(mode.0), AtFlags::empty())?;
        }
        Action::Chown { path, uid, gid } => {
            let (uid, gid) = owner(*uid, *gid);
            fs::chownat(place.base(path)?, path.c_string(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Action::Utimens { path, atime, mtime } => {
            let times = timestamps(*atime, *mtime);
            fs::utimensat(place.base(path)?, path.c_string(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        other => unreachable!("{other:?}"),
    }
    Ok(Value::Unit)
}

fn on_xattrs(place: &Place, action: &Action) -> Outcome {
    match action {
        Action::Setxattr { path, name, value, flags } => {
            let flags = fs::XattrFlags::from_bits_retain(*flags);
            fs::lsetxattr(place.magic(path)?, *name, &xattr_bytes(*value), flags)?;
            Ok(Value::Unit)
        }
        Action::Getxattr { path, name } => {
            let mut value = vec![0; 1024];
            let length = fs::lgetxattr(place.magic(path)?, *name, &mut value)?;
            value.truncate(length);
            Ok(Value::Bytes(value))
        }
        Action::Listxattr { path } => {
            let mut list = vec![0; 4096];
            let length = fs::llistxattr(place.magic(path)?, &mut list)?;
            Ok(names(&list[..length]))
        }
        Action::Removexattr { path, name } => {
            fs::lremovexattr(place.magic(path)?, *name)?;
            Ok(Value::Unit)
        }
        other => unreachable!("{other:?}"),
    }
}

fn ask(place: &Place, action: &Action, known: &Known) -> Outcome {
    match action {
        Action::Lstat { path } => {
            let stat = fs::statat(place.base(path)?, path.c_string(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(known.attributes(&stat))
        }
        Action::Stat { path } => {
            Ok(known.attributes(&fs::statat(place.base(path)?, path.c_string(), AtFlags::empty())?))
        }
        Action::Readlink { path } => {
            Ok(Value::Bytes(fs::readlinkat(place.base(path)?, path.c_string(), Vec::new())?.into_bytes()))
        }
        Action::Readdir { path } | Action::ReaddirStat { path } => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let dir = fs::openat(place.base(path)?, path.c_string(), flags, Mode::empty())?;
            match action {
                Action::Readdir { .. } => list(&dir),
                _ => list_with_stat(&dir, known),
            }
        }
        Action::Statfs { path } => {
            let statfs = fs::statfs(place.magic(path)?)?;
            Ok(Value::Lines(vec![format!("names {} blocks of {}", statfs.f_namelen, statfs.f_bsize)]))
        }
        Action::Access { path, mode } => {
            let access = fs::Access::from_bits_retain(*mode);
            fs::accessat(place.base(path)?, path.c_string(), access, AtFlags::empty())?;
            Ok(Value::Unit)
        }
        other => unreachable!("{other:?}"),
    }
}

/// Names and types of a directory, sorted.
pub fn list(dir: &OwnedFd) -> Outcome {
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut lines = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        lines.push(format!("{} {:?}", entry.file_name().to_string_lossy(), entry.file_type()));
    }
    lines.sort();
    Ok(Value::Lines(lines))
}

/// Names, whether `d_ino` agrees with stat, and what stat says.
fn list_with_stat(dir: &OwnedFd, known: &Known) -> Outcome {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c".." {
            // The root's parent lies outside.
            continue;
        }
        let mut text = name.to_string_lossy().into_owned();
        let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| stat.st_ino != entry.ino()) {
            text += WRONG_INO;
        }
        entries.push((text, stat.map(|stat| known.attributes(&stat))));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::Entries(entries))
}

/// The names of an attribute list, sorted.
pub fn names(list: &[u8]) -> Value {
    let names = list.split(|&b| b == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| name.escape_ascii().to_string()).collect();
    names.sort();
    Value::Lines(names)
}

/// Owner and group for chown; `u32::MAX` leaves one as it is.
pub fn owner(uid: u32, gid: u32) -> (Option<fs::Uid>, Option<fs::Gid>) {
    let uid = (uid != u32::MAX).then(|| fs::Uid::from_raw(uid));
    (uid, (gid != u32::MAX).then(|| fs::Gid::from_raw(gid)))
}

/// Both times for utimensat.
pub fn timestamps(atime: Time, mtime: Time) -> Timestamps {
    let timespec = |time| match time {
        Time::Now => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
        Time::Omit => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
        Time::At(tv_sec, tv_nsec) => Timespec { tv_sec, tv_nsec },
    };
    Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) }
}

/// The bytes of an attribute's value.
pub fn xattr_bytes(value: XattrValue) -> Vec<u8> {
    match value {
        XattrValue::Bytes(len) => (0..len).map(|i| b'A' + (i % 26) as u8).collect(),
        XattrValue::Letter(letter) => vec![letter],
        // VFS_CAP_REVISION_2, effective, cap_net_raw permitted (linux/capability.h).
        XattrValue::Capability => {
            [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect()
        }
        XattrValue::Acl(permissions) => {
            acl(&[(1, 6, None), (2, permissions, Some(1000)), (4, 5, None), (16, 7, None), (32, 4, None)])
        }
        XattrValue::MinimalAcl(permissions) => acl(&[(1, 7, None), (4, permissions, None), (32, 0, None)]),
    }
}

/// linux/posix_acl_xattr.h: version 2, then (tag, permissions, id) by tag.
fn acl(entries: &[(u16, u16, Option<u32>)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.unwrap_or(u32::MAX).to_le_bytes());
    }
    bytes
}

/// A directory of the host, as a place's root.
pub fn open_root(path: &std::path::Path) -> rustix::io::Result<OwnedFd> {
    fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
