//! What an operation answered, in a form that two file systems can agree on.

use std::collections::HashSet;
use std::fmt;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

/// What came back.
pub type Outcome = Result<Value, Errno>;

/// What is added to a listed name whose `d_ino` is not what stat says.
pub const WRONG_INO: &str = ": d_ino is not st_ino";

/// Whether the oracle's answer and ours say the same.
pub fn agree(oracle: &Outcome, ours: &Outcome) -> bool {
    match (oracle, ours) {
        (Ok(Value::Attributes(oracle)), Ok(Value::Attributes(ours))) => oracle.differing(ours).is_empty(),
        (Ok(Value::Entries(oracle)), Ok(Value::Entries(ours))) => {
            // Where the oracle's own two numbers differ, ours need not.
            let same_name = |a: &str, b: &str| a == b || a.strip_suffix(WRONG_INO) == Some(b);
            let same =
                |(a, b): (&(String, Outcome), &(String, Outcome))| same_name(&a.0, &b.0) && agree(&a.1, &b.1);
            oracle.len() == ours.len() && oracle.iter().zip(ours).all(same)
        }
        _ => oracle == ours,
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Done.
    Unit,
    /// A count or an offset.
    Number(i64),
    /// Bytes that were read.
    Bytes(Vec<u8>),
    /// Attributes.
    Attributes(Attributes),
    /// Lines, in an order that means nothing.
    Lines(Vec<String>),
    /// A directory with what stat says of each entry.
    Entries(Vec<(String, Outcome)>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unit => f.write_str("done"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Bytes(bytes) if bytes.len() <= 64 => write!(f, "\"{}\"", bytes.escape_ascii()),
            Value::Bytes(bytes) => write!(f, "{} bytes: {}", bytes.len(), runs(bytes)),
            Value::Attributes(attributes) => attributes.fmt(f),
            Value::Lines(lines) => f.debug_list().entries(lines).finish(),
            Value::Entries(entries) => f.debug_map().entries(entries.iter().map(|(k, v)| (k, v))).finish(),
        }
    }
}

/// Long data in short: where zeros and data alternate.
fn runs(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut start = 0;
    while start < bytes.len() && text.len() < 200 {
        let zero = bytes[start] == 0;
        let len = bytes[start..].iter().take_while(|&&b| (b == 0) == zero).count();
        let what = if zero { "zeros".to_owned() } else { format!("data from {:#04x}", bytes[start]) };
        text += &format!("{start}+{len} {what}; ");
        start += len.max(1);
    }
    text
}

/// `struct stat`, reduced to what has to agree.
#[derive(Clone, PartialEq, Eq)]
pub struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u64,
    size: i64,
    rdev: u64,
    mtime: Mtime,
    ino: Ino,
}

impl Attributes {
    /// Whether two link counts agree. A directory's becomes 1 when it is
    /// merged, which it does whenever something in it is copied up; the kernel
    /// may remember the count from before.
    fn same_nlink(&self, other: &Attributes) -> bool {
        let is_dir = self.mode & libc::S_IFMT == libc::S_IFDIR;
        self.nlink == other.nlink || (is_dir && (self.nlink == 1 || other.nlink == 1))
    }

    /// Whether all that differs is that the other knows of the loss of the
    /// last name.
    pub fn is_unlinked_in(&self, other: &Attributes) -> bool {
        self.differing(other) == ["nlink"] && self.nlink == other.nlink + 1
    }

    /// The names of the fields in which two differ.
    pub fn differing(&self, other: &Attributes) -> Vec<&'static str> {
        let fields = [
            (self.mode != other.mode, "mode"),
            ((self.uid, self.gid) != (other.uid, other.gid), "owner"),
            (!self.same_nlink(other), "nlink"),
            (self.size != other.size, "size"),
            (self.rdev != other.rdev, "rdev"),
            (!self.mtime.agrees(other.mtime, other.ino), "mtime"),
            (self.ino != other.ino, "ino"),
        ];
        fields.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect()
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode {:o} uid {} gid {} nlink {}", self.mode, self.uid, self.gid, self.nlink)?;
        write!(f, " size {} rdev {:x} {:?} {:?}", self.size, self.rdev, self.mtime, self.ino)
    }
}

/// A modification time: exact where it was set, else just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mtime {
    /// Nanoseconds, as set by a program or found in a layer.
    Set(i128),
    /// As it was in a lower layer.
    OfLower(i128),
    /// Since the case started: the clock's doing.
    Recent,
}

impl Mtime {
    /// Whether ours agrees with the oracle's, for a file of this number. The
    /// kernel moves the time of a file whose data it copies up after its
    /// metadata; ours keeps it, even if it was set.
    pub fn agrees(self, ours: Mtime, ino: Ino) -> bool {
        let is_copy = matches!(ino, Ino::OfLower(_));
        match (self, ours) {
            (Mtime::Recent, Mtime::OfLower(_)) => true,
            (Mtime::Recent, Mtime::Set(_)) if is_copy => true,
            _ => self == ours,
        }
    }
}

/// An inode number: the lower object's, or one of an upper's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ino {
    /// That of this object of a lower layer.
    OfLower(u64),
    /// Any other.
    Own,
}

/// What a case knows that makes numbers comparable.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Inode numbers of every object in the lower layers.
    pub lower_inos: HashSet<u64>,
    /// Modification times of the files in the lower layers.
    pub lower_mtimes: HashSet<i128>,
    /// When the case started: what is as late was not set by anyone.
    pub start: i128,
}

impl Known {
    /// See [`Mtime`].
    pub fn mtime(&self, nanoseconds: i128) -> Mtime {
        const HOUR: i128 = 3_600_000_000_000;
        let recent = self.start..self.start + HOUR;
        if recent.contains(&nanoseconds) {
            Mtime::Recent
        } else if self.lower_mtimes.contains(&nanoseconds) {
            Mtime::OfLower(nanoseconds)
        } else {
            Mtime::Set(nanoseconds)
        }
    }

    /// See [`Ino`].
    pub fn ino(&self, number: u64) -> Ino {
        if self.lower_inos.contains(&number) { Ino::OfLower(number) } else { Ino::Own }
    }

    /// The comparable part of what stat said.
    pub fn attributes(&self, stat: &Stat) -> Value {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_dir = kind == FileType::Directory;
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let mtime = i128::from(stat.st_mtime) * 1_000_000_000 + stat.st_mtime_nsec as i128;
        Value::Attributes(Attributes {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            nlink: stat.st_nlink,
            size: if is_dir { 0 } else { stat.st_size },
            rdev: if is_device { stat.st_rdev } else { 0 },
            mtime: self.mtime(mtime),
            ino: self.ino(stat.st_ino),
        })
    }
}
