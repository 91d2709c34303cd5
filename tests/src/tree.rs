//! Everything a tree shows to its users, as a value that can be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsStr};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};

/// One object of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type, as in `st_mode`.
    pub kind: FileType,
    /// Permissions, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes; 0 for directories, whose sizes mean nothing.
    pub size: u64,
    /// Device numbers of a device node, else 0.
    pub rdev: u64,
    /// Links.
    pub nlink: u64,
    /// Inode number.
    pub ino: u64,
    /// Modification time in nanoseconds.
    pub mtime: i128,
    /// Change time in nanoseconds.
    pub ctime: i128,
    /// All extended attributes the reader may list.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Hash of the data, or of the symlink's target.
    pub content: u64,
    /// The first path (in byte order) of the same inode, when it has several.
    pub twin: Option<PathBuf>,
}

/// What a comparison may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// `st_ino`.
    Ino,
    /// Modification times.
    Mtime,
    /// Change times.
    Ctime,
    /// Links of directories, which count subdirectories or not.
    DirNlink,
    /// Links of directories where one of the two says 1: it is merged there,
    /// and perhaps was not yet when the other was read.
    MergedDirNlink,
    /// Links of other objects.
    Nlink,
    /// Extended attributes whose names contain `overlay.` or `fuseoverlayfs.`.
    PrivateXattrs,
}

/// A snapshot: paths relative to the root (which is the empty path).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// In byte order of the paths.
    pub nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    /// Reads the tree below `root`.
    ///
    /// # Errors
    /// The first error, with its path: a tree that cannot be read whole is a
    /// failure, not a smaller tree.
    pub fn read(root: &Path) -> io::Result<Tree> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = openat(rustix::fs::CWD, root, flags, Mode::empty())?;
        let mut tree = Tree::default();
        let mut twins = HashMap::new();
        read_node(&mut tree, &mut twins, root.as_fd(), c".", Path::new(""))?;
        read_dir(&mut tree, &mut twins, root, Path::new(""))?;
        for paths in twins.into_values().filter(|paths| paths.len() > 1) {
            for path in &paths {
                if let Some(node) = tree.nodes.get_mut(path) {
                    node.twin = paths.iter().min().cloned();
                }
            }
        }
        Ok(tree)
    }

    /// Where `other` is not the same, a line for each object; empty when equal.
    pub fn differences(&self, other: &Tree, ignored: &[Aspect]) -> Vec<String> {
        let mut lines = Vec::new();
        let paths: std::collections::BTreeSet<_> = self.nodes.keys().chain(other.nodes.keys()).collect();
        for path in paths {
            let line = match (self.nodes.get(path), other.nodes.get(path)) {
                (Some(node), None) => format!("only in the first: {:?} {:?}", path, node.kind),
                (None, Some(node)) => format!("only in the second: {:?} {:?}", path, node.kind),
                (Some(a), Some(b)) => match a.difference(b, ignored) {
                    text if text.is_empty() => continue,
                    text => format!("{path:?}:{text}"),
                },
                (None, None) => continue,
            };
            lines.push(line);
        }
        lines
    }
}

impl Node {
    fn difference(&self, other: &Node, ignored: &[Aspect]) -> String {
        let mut text = String::new();
        let mut field = |name: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
            let (a, b) = (format!("{a:?}"), format!("{b:?}"));
            if a != b && write!(text, " {name} {a} / {b}").is_err() {
                text.push_str(name);
            }
        };
        let skip = |aspect| ignored.contains(&aspect);
        field("type", &self.kind, &other.kind);
        field("mode", &format_args!("{:o}", self.mode), &format_args!("{:o}", other.mode));
        field("uid", &self.uid, &other.uid);
        field("gid", &self.gid, &other.gid);
        field("size", &self.size, &other.size);
        field("rdev", &self.rdev, &other.rdev);
        let is_dir = self.kind == FileType::Directory;
        let merged = is_dir && skip(Aspect::MergedDirNlink) && (self.nlink == 1 || other.nlink == 1);
        if !merged && !skip(if is_dir { Aspect::DirNlink } else { Aspect::Nlink }) {
            field("nlink", &self.nlink, &other.nlink);
        }
        if !skip(Aspect::Ino) {
            field("ino", &self.ino, &other.ino);
        }
        if !skip(Aspect::Mtime) {
            field("mtime", &self.mtime, &other.mtime);
        }
        if !skip(Aspect::Ctime) {
            field("ctime", &self.ctime, &other.ctime);
        }
        let private = |name: &[u8]| skip(Aspect::PrivateXattrs) && is_private(name);
        let shown = |node: &Node| -> Vec<String> {
            let kept = node.xattrs.iter().filter(|(name, _)| !private(name));
            kept.map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii())).collect()
        };
        field("xattrs", &shown(self), &shown(other));
        field("content", &self.content, &other.content);
        field("hard link of", &self.twin, &other.twin);
        text
    }
}

/// Whether an attribute is a union's private mark.
pub fn is_private(name: &[u8]) -> bool {
    [&b"overlay."[..], b"fuseoverlayfs."].iter().any(|mark| name.windows(mark.len()).any(|w| w == *mark))
}

type Twins = HashMap<(u64, u64), Vec<PathBuf>>;

/// Adds what lies in `dir`, which is consumed so that depth costs one
/// descriptor a level at most.
fn read_dir(tree: &mut Tree, twins: &mut Twins, dir: OwnedFd, path: &Path) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir).map_err(|e| at(path, e))? {
        let entry = entry.map_err(|e| at(path, e))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let child = path.join(OsStr::from_bytes(name.to_bytes()));
        if read_node(tree, twins, dir.as_fd(), &name, &child)? == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let fd = openat(&dir, &name, flags, Mode::empty()).map_err(|e| at(&child, e))?;
            read_dir(tree, twins, fd, &child)?;
        }
    }
    Ok(())
}

fn read_node(
    tree: &mut Tree,
    twins: &mut Twins,
    dir: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
) -> io::Result<FileType> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| at(path, e))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_dir = kind == FileType::Directory;
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let content = match kind {
        FileType::RegularFile => hash_file(dir, name).map_err(|e| at(path, e))?,
        FileType::Symlink => hash(readlinkat(dir, name, Vec::new()).map_err(|e| at(path, e))?.to_bytes()),
        _ => 0,
    };
    if !is_dir {
        twins.entry((stat.st_dev, stat.st_ino)).or_default().push(path.to_path_buf());
    }
    let node = Node {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if is_dir { 0 } else { stat.st_size as u64 },
        rdev: if is_device { stat.st_rdev } else { 0 },
        nlink: stat.st_nlink as u64,
        ino: stat.st_ino,
        mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as u64),
        ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as u64),
        xattrs: xattrs(dir, name).map_err(|e| at(path, e))?,
        content,
        twin: None,
    };
    tree.nodes.insert(path.to_path_buf(), node);
    Ok(kind)
}

fn nanoseconds(seconds: i64, nanoseconds: u64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

fn at(path: &Path, error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn hash_file(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(dir, name, flags, Mode::empty())?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match rustix::io::read(&file, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.write(&buffer[..length]),
        }
    }
}

/// All attributes of `name`, never following it.
fn xattrs(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    // The descriptor's magic link stands in for the `*xattrat` calls.
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let mut list = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(&path[..], &mut list)?;
    let mut found = BTreeMap::new();
    for attribute in list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(&path[..], attribute, &mut value)?;
        found.insert(attribute.to_vec(), value[..length].to_vec());
    }
    Ok(found)
}
