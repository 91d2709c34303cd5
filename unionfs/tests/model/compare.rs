//! What can be seen of a union, and whether the reference has the same.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;

use crate::Subject;
use crate::reference::{Content, Id, Node, ROOT, Slot, Tree};

/// One file as a union shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub ino: u64,
    pub node: Node,
}

/// Everything a union shows, by path. Directories are seen without their
/// entries, which have paths of their own, and with a link count of 1: overlay
/// makes no promise about it.
pub type Seen = BTreeMap<Vec<String>, Look>;

/// The inode numbers of the reference's files.
#[derive(Default)]
pub struct Inodes {
    live: BTreeMap<Id, u64>,
    /// Of files that lost their last name.
    nameless: BTreeMap<Id, u64>,
}

impl Inodes {
    /// Forgets the numbers of the others.
    pub fn retain(&mut self, keep: impl Fn(Id) -> bool) {
        self.live.retain(|&id, _| keep(id));
    }

    /// One of the files without a name.
    pub fn pick_nameless(&self, which: &Index) -> Option<(Id, u64)> {
        let all: Vec<_> = self.nameless.iter().map(|(&id, &ino)| (id, ino)).collect();
        (!all.is_empty()).then(|| *which.get(&all))
    }

    /// No union can find them again.
    pub fn forget_nameless(&mut self) {
        self.nameless.clear();
    }

    fn update(&mut self, tree: &Tree, named: &BTreeSet<Id>) {
        let gone = self.live.iter().filter(|(id, _)| !named.contains(id) && !tree.is_dir(**id));
        self.nameless.extend(gone.map(|(&id, &ino)| (id, ino)));
        self.live.retain(|id, _| named.contains(id));
    }
}

/// Compares what is still open or known after its last name went.
pub fn same_nameless(tree: &Tree, subject: &mut dyn Subject, inodes: &Inodes, when: &str) -> TestCaseResult {
    for (&id, &ino) in &inodes.nameless {
        let Some(node) = subject.look_at_nameless(ino) else { continue };
        prop_assert_eq!(&node, tree.node(id), "file {} without a name {}", id, when);
    }
    Ok(())
}

/// Compares trees and inode numbers: a number belongs to one file, and a file
/// keeps it for life.
pub fn same(tree: &Tree, seen: &Seen, inodes: &mut Inodes, when: &str) -> TestCaseResult {
    let mut expected = vec![(vec![], ROOT)];
    let id = |slot: &Slot| tree.at(slot).unwrap();
    expected.extend(
        tree.entries()
            .into_iter()
            .map(|slot| ([slot.dir.clone(), vec![slot.name.clone()]].concat(), id(&slot))),
    );
    let expected: BTreeMap<_, _> = expected.into_iter().collect();
    let names: BTreeSet<_> = expected.keys().collect();
    prop_assert_eq!(seen.keys().collect::<BTreeSet<_>>(), names, "names {}", when);
    inodes.update(tree, &expected.values().copied().collect());
    for (path, &id) in &expected {
        let look = &seen[path];
        prop_assert_eq!(&look.node, &without_entries(tree.node(id)), "/{} {}", path.join("/"), when);
        let ino = *inodes.live.entry(id).or_insert(look.ino);
        prop_assert_eq!(look.ino, ino, "inode number of /{} {}", path.join("/"), when);
    }
    let numbers: BTreeSet<u64> = inodes.live.values().copied().collect();
    prop_assert_eq!(numbers.len(), inodes.live.len(), "inode numbers {} {:?}", when, inodes.live);
    Ok(())
}

fn without_entries(node: &Node) -> Node {
    match node.content {
        Content::Dir(_) => Node { content: Content::Dir(BTreeMap::new()), nlink: 1, ..node.clone() },
        _ => node.clone(),
    }
}

/// A mounted union as programs see it.
pub fn walk(root: &Path) -> Seen {
    let mut seen = Seen::from([(vec![], look(root))]);
    let mut left = vec![vec![]];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(join(root, &dir)).unwrap() {
            let entry = entry.unwrap();
            // The kernel lists the whiteouts of a directory that it need not merge.
            if entry.path().symlink_metadata().is_err() {
                continue;
            }
            let path = [dir.clone(), vec![entry.file_name().into_string().unwrap()]].concat();
            let look = look(&entry.path());
            if matches!(look.node.content, Content::Dir(_)) {
                assert!(entry.file_type().unwrap().is_dir());
                left.push(path.clone());
            }
            assert!(seen.insert(path.clone(), look).is_none(), "{path:?} is listed twice");
        }
    }
    seen
}

pub fn join(root: &Path, path: &[String]) -> PathBuf {
    path.iter().fold(root.to_owned(), |path, name| path.join(name))
}

fn look(path: &Path) -> Look {
    let meta = path.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let content = if kind.is_dir() {
        Content::Dir(BTreeMap::new())
    } else if kind.is_file() {
        Content::File(std::fs::read(path).unwrap())
    } else if kind.is_symlink() {
        Content::Symlink(std::fs::read_link(path).unwrap().into_os_string().into_string().unwrap())
    } else {
        assert!(kind.is_fifo(), "{} is a {kind:?}", path.display());
        Content::Fifo
    };
    let nlink = if kind.is_dir() { 1 } else { meta.nlink() as u32 };
    let node = Node {
        content,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        nlink,
        xattrs: user_xattrs(path),
    };
    Look { ino: meta.ino(), node }
}

fn user_xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in xattr_names(path) {
        let mut value = vec![0; 1000];
        let len = rustix::fs::lgetxattr(path, &*name, &mut value[..]).unwrap();
        value.truncate(len);
        assert!(name.starts_with("user."), "{name} shows on {}", path.display());
        found.insert(name, value);
    }
    found
}

fn xattr_names(path: &Path) -> Vec<String> {
    let mut names = vec![0; 4000];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

/// All there is to know about some directories, to see that nothing touched
/// them: also times, and every attribute.
pub fn fingerprint(dirs: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = dirs.to_vec();
    while let Some(path) = left.pop() {
        let meta = path.symlink_metadata().unwrap();
        let data = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        let link = std::fs::read_link(&path).map(|target| target.as_os_str().as_bytes().to_vec()).ok();
        let inode = (meta.ino(), meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.rdev());
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let known = format!("{inode:?} {times:?} {:?} {link:?} {data:?}", xattr_names(&path));
        if meta.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, known);
    }
    found
}
