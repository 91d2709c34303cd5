//! What a random program consists of: plain data, so that it can be printed,
//! replayed and shortened without the generator.

use std::ffi::CString;
use std::fmt;

/// How many descriptors a program may hold open at once.
pub const SLOTS: usize = 4;
/// The names that exist: few, so that operations collide.
pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A path below the root, or below the directory open in a slot.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct At {
    /// The slot it starts from; the root if none.
    pub base: Option<usize>,
    /// Indices into [`NAMES`]; empty is the directory itself.
    pub names: Vec<u8>,
    /// Whether a slash ends it.
    pub trailing: Trailing,
}

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trailing {
    /// In a name.
    Name,
    /// In a slash, which demands a directory.
    Slash,
}

impl At {
    /// A plain path below the root.
    pub fn root(names: Vec<u8>) -> At {
        At { base: None, names, trailing: Trailing::Name }
    }

    /// As system calls take it, relative to its base.
    pub fn text(&self) -> String {
        if self.names.is_empty() {
            return ".".to_owned();
        }
        let names: Vec<&str> = self.names.iter().map(|&n| NAMES[usize::from(n)]).collect();
        match self.trailing {
            Trailing::Name => names.join("/"),
            Trailing::Slash => names.join("/") + "/",
        }
    }

    /// The same as a C string.
    pub fn c_string(&self) -> CString {
        CString::new(self.text()).unwrap_or_default()
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            Some(slot) => write!(f, "fd{slot}:{}", self.text()),
            None => write!(f, "{}", self.text()),
        }
    }
}

/// A number shown in octal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Octal(pub u32);

impl fmt::Debug for Octal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#o}", self.0)
    }
}

/// The flags of open(2), shown by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenFlags(pub i32);

const OPEN_FLAGS: [(i32, &str); 10] = [
    (libc::O_CREAT, "O_CREAT"),
    (libc::O_EXCL, "O_EXCL"),
    (libc::O_TRUNC, "O_TRUNC"),
    (libc::O_APPEND, "O_APPEND"),
    (libc::O_NOFOLLOW, "O_NOFOLLOW"),
    (libc::O_DIRECTORY, "O_DIRECTORY"),
    (libc::O_PATH, "O_PATH"),
    (libc::O_DSYNC, "O_DSYNC"),
    (libc::O_NOATIME, "O_NOATIME"),
    (libc::O_DIRECT, "O_DIRECT"),
];

impl fmt::Debug for OpenFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(self.0 & libc::O_ACCMODE) as usize])?;
        OPEN_FLAGS
            .iter()
            .filter(|(bit, _)| self.0 & bit == *bit)
            .try_for_each(|(_, name)| write!(f, "|{name}"))
    }
}

/// A time of utimensat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Time {
    /// `UTIME_NOW`.
    Now,
    /// `UTIME_OMIT`.
    Omit,
    /// Seconds and nanoseconds.
    At(i64, i64),
}

/// The value of an extended attribute, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XattrValue {
    /// So many bytes.
    Bytes(u32),
    /// One byte, for overlay's marks.
    Letter(u8),
    /// A VFS_CAP_REVISION_2 capability set.
    Capability,
    /// A POSIX ACL that gives user 1000 these permissions.
    Acl(u16),
    /// An ACL with no more than the mode says.
    MinimalAcl(u16),
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// 0, 1000 or 1001; the groups follow from it.
    pub uid: u32,
    /// Its umask.
    pub umask: Octal,
}

/// One operation of a program.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Op {
    /// Who does it.
    pub caller: Caller,
    /// What is done.
    pub action: Action,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.action)?;
        if self.caller.uid != 0 {
            write!(f, " by {}", self.caller.uid)?;
        }
        if self.caller.umask != Octal(0o22) {
            write!(f, " umask {:?}", self.caller.umask)?;
        }
        Ok(())
    }
}

/// What is done. Each is one system call, or as few as show one thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are the system calls' own arguments")]
pub enum Action {
    Open {
        slot: usize,
        path: At,
        flags: OpenFlags,
        mode: Octal,
    },
    Close {
        slot: usize,
    },
    Read {
        slot: usize,
        len: u32,
    },
    Pread {
        slot: usize,
        len: u32,
        offset: u32,
    },
    Write {
        slot: usize,
        len: u32,
        fill: u8,
    },
    Pwrite {
        slot: usize,
        len: u32,
        offset: u32,
        fill: u8,
    },
    Seek {
        slot: usize,
        whence: i32,
        offset: u32,
    },
    Ftruncate {
        slot: usize,
        len: u32,
    },
    Fallocate {
        slot: usize,
        mode: u32,
        offset: u32,
        len: u32,
    },
    CopyRange {
        from: usize,
        to: usize,
        from_offset: u32,
        to_offset: u32,
        len: u32,
    },
    Fstat {
        slot: usize,
    },
    Fchmod {
        slot: usize,
        mode: Octal,
    },
    Fchown {
        slot: usize,
        uid: u32,
        gid: u32,
    },
    Futimens {
        slot: usize,
        atime: Time,
        mtime: Time,
    },
    Fsync {
        slot: usize,
    },
    Fsetxattr {
        slot: usize,
        name: &'static str,
        value: XattrValue,
        flags: u32,
    },
    Fgetxattr {
        slot: usize,
        name: &'static str,
    },
    FdReaddir {
        slot: usize,
    },
    Flock {
        slot: usize,
        operation: i32,
    },
    OfdLock {
        slot: usize,
        kind: i32,
        start: u32,
        len: u32,
    },
    LinkFd {
        slot: usize,
        to: At,
    },
    Truncate {
        path: At,
        len: u32,
    },
    MmapRead {
        path: At,
    },
    MmapWrite {
        path: At,
        offset: u32,
        fill: u8,
    },
    Mkdir {
        path: At,
        mode: Octal,
    },
    Mknod {
        path: At,
        mode: Octal,
        dev: u32,
    },
    Symlink {
        target: &'static str,
        path: At,
    },
    Link {
        from: At,
        to: At,
        flags: i32,
    },
    Unlink {
        path: At,
    },
    Rmdir {
        path: At,
    },
    Rename {
        from: At,
        to: At,
        flags: u32,
    },
    Chmod {
        path: At,
        mode: Octal,
    },
    Chown {
        path: At,
        uid: u32,
        gid: u32,
    },
    Utimens {
        path: At,
        atime: Time,
        mtime: Time,
    },
    Setxattr {
        path: At,
        name: &'static str,
        value: XattrValue,
        flags: u32,
    },
    Getxattr {
        path: At,
        name: &'static str,
    },
    Listxattr {
        path: At,
    },
    Removexattr {
        path: At,
        name: &'static str,
    },
    Lstat {
        path: At,
    },
    Stat {
        path: At,
    },
    Readlink {
        path: At,
    },
    Readdir {
        path: At,
    },
    ReaddirStat {
        path: At,
    },
    Statfs {
        path: At,
    },
    Access {
        path: At,
        mode: u32,
    },
    /// Both whole trees, object by object.
    Compare,
    /// Unmounts and mounts each side again: nothing may change, inode numbers
    /// included.
    Remount,
    /// Unmounts both and mounts each one's upper by the other: nothing may
    /// change.
    Swap,
}

/// A step of making a lower layer: an ordinary action, or an overlay's mark put
/// there by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Done by root.
    Do(Action),
    /// A character device 0:0, where the directory is merged with one below.
    Whiteout(At),
    /// A file that is a whiteout by its attribute, in a directory that says so.
    XattrWhiteout(At),
    /// A new directory that hides those below.
    OpaqueDir(At),
}

/// How the steps of a layer are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// On the bare directory.
    Bare,
    /// Through kernel overlayfs over the layers below, which leaves redirects,
    /// metacopies, origins, whiteouts and opaque marks as the kernel writes them.
    ThroughOverlay,
}

/// One lower layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// How.
    pub made: Made,
    /// What.
    pub steps: Vec<Step>,
}

/// A whole case: lower layers, bottom first, and a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where it came from.
    pub seed: u64,
    /// Bottom first.
    pub layers: Vec<Layer>,
    /// The program.
    pub ops: Vec<Op>,
}
