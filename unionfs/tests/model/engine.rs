//! The engine as the subject, called in process as the FUSE adapter calls it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;
use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use unionfs::config::{Config, Namespace, UpperDirs};
use unionfs::inode::{NodeId, ROOT};
use unionfs::ops::{Attr, Caller, Entry, Make, Names, OpenFor, SetAttr, SetId, SetMode};
use unionfs::{Result, Union};

use crate::compare::{Look, Seen};
use crate::layers::NAMES;
use crate::reference::{Content, Ids, Node, Replace, Slot};
use crate::steps::{Change, Operation};
use crate::{Directories, Subject};

/// What the kernel does with nodes it has no use for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Keeps them all: every file stays the node it was first seen as.
    Keeps,
    /// Forgets them at once: everything is found anew on disk.
    Forgets,
}

pub struct Engine {
    union: Option<Union>,
    config: Config,
    cache: Cache,
}

const DAEMON: Caller = Caller { uid: 0, gid: 0, umask: 0 };

/// Options that change how things are kept and not what they are.
pub fn options() -> impl Strategy<Value = Config> {
    let namespace = prop_oneof![Just(Namespace::Trusted), Just(Namespace::User)];
    // With a bound of no names the layers are asked for each name, and listings
    // are made anew.
    let dir_cache = prop_oneof![Just(Config::default().dir_cache), Just(0)];
    (any::<bool>(), any::<bool>(), any::<bool>(), namespace, dir_cache).prop_map(
        |(metacopy, xino, volatile, namespace, dir_cache)| Config {
            metacopy,
            xino,
            volatile,
            namespace,
            dir_cache,
            ..Config::default()
        },
    )
}

impl Engine {
    pub fn new(directories: &Directories, cache: Cache) -> Engine {
        Engine::with(directories, cache, &Config::default())
    }

    pub fn with(directories: &Directories, cache: Cache, options: &Config) -> Engine {
        let upper = UpperDirs { upper: directories.upper.clone(), work: directories.work.clone() };
        let config = Config { lowers: directories.lowers.clone(), upper: Some(upper), ..options.clone() };
        let union = Some(Union::open(config.clone()).unwrap());
        Engine { union, config, cache }
    }

    fn union(&self) -> &Union {
        self.union.as_ref().unwrap()
    }

    fn forget(&self, id: NodeId) {
        if self.cache == Cache::Forgets && id != ROOT {
            self.union().forget(id, 1);
        }
    }

    /// Calls `f` with the node at a path, referred to meanwhile, as the kernel
    /// refers to every directory on the way.
    fn at<T>(&self, path: &[String], f: impl FnOnce(NodeId) -> Result<T>) -> Result<T> {
        let mut on_the_way = vec![ROOT];
        let found = path.iter().try_for_each(|name| {
            on_the_way.push(self.union().lookup(on_the_way[on_the_way.len() - 1], OsStr::new(name))?.id);
            Ok(())
        });
        let result = found.and_then(|()| f(on_the_way[on_the_way.len() - 1]));
        on_the_way.into_iter().rev().for_each(|id| self.forget(id));
        result
    }

    fn on<T>(&self, slot: &Slot, f: impl FnOnce(NodeId) -> Result<T>) -> Result<T> {
        self.at(&[slot.dir.clone(), vec![slot.name.clone()]].concat(), f)
    }

    fn made(&self, entry: Result<Entry>) -> Result<()> {
        entry.map(|entry| self.forget(entry.id))
    }

    fn make(&self, slot: &Slot, what: &Content, mode: u32, by: Ids) -> Result<()> {
        let make = match what {
            Content::Dir(_) => Make::Dir { mode },
            Content::File(_) => Make::File { mode },
            Content::Fifo => Make::Node { kind: FileType::Fifo, mode, rdev: 0 },
            Content::Symlink(target) => Make::Symlink(target.as_bytes()),
        };
        let caller = Caller { uid: by.uid, gid: by.gid, umask: 0 };
        let name = OsStr::new(&slot.name);
        self.at(&slot.dir, |dir| self.made(self.union().make(dir, name, make, caller)))
    }

    fn try_apply(&mut self, operation: &Operation) -> Result<()> {
        let union = self.union();
        match operation {
            Operation::Make { at, what, mode, by } => self.make(at, what, *mode, *by),
            Operation::Unlink(file) => self.at(&file.dir, |parent| union.unlink(names(parent, file))),
            Operation::Rmdir(dir) => self.at(&dir.dir, |parent| union.rmdir(names(parent, dir))),
            Operation::Link { file, new } => {
                self.on(file, |id| self.at(&new.dir, |parent| self.made(union.link(id, names(parent, new)))))
            }
            Operation::Rename { from, to, replace } => {
                let flags = match replace {
                    Replace::Allowed => RenameFlags::empty(),
                    Replace::Refused => RenameFlags::NOREPLACE,
                    Replace::Exchange => RenameFlags::EXCHANGE,
                };
                let renamed =
                    |from_dir, to_dir| union.rename(names(from_dir, from), names(to_dir, to), flags);
                self.at(&from.dir, |from_dir| self.at(&to.dir, |to_dir| renamed(from_dir, to_dir)))
            }
            Operation::Write { file, offset, bytes } => self.on(file, |id| {
                union.open_file(id, OpenFor::Writing, DAEMON)?;
                let written = union.write(id, *offset as u64, bytes, SetId::Keep, DAEMON);
                union.release(id);
                assert_eq!(written?, bytes.len());
                Ok(())
            }),
            Operation::Truncate { file, len } => {
                self.set(file, SetAttr { size: Some(*len as u64), ..SetAttr::default() })
            }
            Operation::Chmod { file, mode } => {
                self.set(file, SetAttr { mode: Some(*mode), ..SetAttr::default() })
            }
            Operation::Chown { file, ids } => {
                self.set(file, SetAttr { uid: Some(ids.uid), gid: Some(ids.gid), ..SetAttr::default() })
            }
            Operation::SetXattr { file, name, value: Some(value) } => {
                self.on(file, |id| union.setxattr(id, OsStr::new(name), value, SetMode::Any))
            }
            Operation::SetXattr { file, name, value: None } => {
                self.on(file, |id| union.removexattr(id, OsStr::new(name)))
            }
            Operation::Reopen => {
                // The first must be gone: two may not share an upper.
                self.union = None;
                self.union = Some(Union::open(self.config.clone())?);
                Ok(())
            }
        }
    }

    fn set(&self, slot: &Slot, set: SetAttr) -> Result<()> {
        self.on(slot, |id| self.union().setattr(id, &set, DAEMON).map(drop))
    }

    fn look(&self, id: NodeId, attr: &Attr) -> Result<Look> {
        let union = self.union();
        let content = match attr.kind {
            FileType::Directory => Content::Dir(BTreeMap::new()),
            FileType::RegularFile => Content::File(self.read(id, attr.size)?),
            FileType::Symlink => Content::Symlink(String::from_utf8(union.readlink(id)?).unwrap()),
            FileType::Fifo => Content::Fifo,
            other => panic!("no {other:?} was ever made"),
        };
        let nlink = if attr.kind == FileType::Directory { 1 } else { attr.nlink };
        let xattrs = self.xattrs(id)?;
        let node = Node { content, mode: attr.perm, uid: attr.uid, gid: attr.gid, nlink, xattrs };
        Ok(Look { ino: attr.ino, node })
    }

    fn read(&self, id: NodeId, size: u64) -> Result<Vec<u8>> {
        self.union().open_file(id, OpenFor::Reading, DAEMON)?;
        // One byte more than there should be.
        let mut data = vec![0; size as usize + 1];
        let len = self.union().read(id, 0, &mut data);
        // A kernel that keeps nodes keeps this one open: what is written later
        // must show through it.
        if self.cache == Cache::Forgets {
            self.union().release(id);
        }
        data.truncate(len?);
        Ok(data)
    }

    fn xattrs(&self, id: NodeId) -> Result<BTreeMap<String, Vec<u8>>> {
        let names = self.union().listxattr(id, DAEMON)?;
        let mut found = BTreeMap::new();
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 1000];
            let len = self.union().getxattr(id, OsStr::from_bytes(name), &mut value)?;
            value.truncate(len);
            found.insert(String::from_utf8(name.to_vec()).unwrap(), value);
        }
        Ok(found)
    }

    /// The names there can be that are found in a directory.
    fn found_by_name(&self, dir: NodeId) -> Result<Vec<(&'static [u8], FileType, u64)>> {
        let mut found = Vec::new();
        for name in NAMES {
            match self.union().lookup(dir, OsStr::new(name)) {
                Ok(entry) => {
                    found.push((name.as_bytes(), entry.attr.kind, entry.attr.ino));
                    self.forget(entry.id);
                }
                Err(error) if error.errno() == Errno::NOENT => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Looks at everything below a directory that is referred to.
    fn walk(&self, path: &[String], dir: NodeId, seen: &mut Seen) -> Result<()> {
        let found = self.found_by_name(dir)?;
        let listed = self.union().list(dir)?;
        let mut names: Vec<_> = listed.from_offset(2).map(|it| (it.name, it.kind, it.ino)).collect();
        names.sort_by_key(|(name, ..)| *name);
        assert_eq!(found, names, "/{}: what is found is what is listed", path.join("/"));
        for listed in listed.from_offset(2) {
            let found = self.union().lookup(dir, OsStr::from_bytes(listed.name))?;
            let path = [path, &[String::from_utf8(listed.name.to_vec()).unwrap()]].concat();
            assert_eq!((listed.kind, listed.ino), (found.attr.kind, found.attr.ino), "/{}", path.join("/"));
            let look = self.look(found.id, &found.attr)?;
            assert!(seen.insert(path.clone(), look).is_none(), "/{} is listed twice", path.join("/"));
            if found.attr.kind == FileType::Directory {
                self.walk(&path, found.id, seen)?;
            }
            self.forget(found.id);
        }
        Ok(())
    }
}

fn names(parent: NodeId, slot: &Slot) -> Names<'_> {
    Names { parent, name: OsStr::new(&slot.name) }
}

impl Subject for Engine {
    fn apply(&mut self, operation: &Operation) -> std::result::Result<(), Errno> {
        self.try_apply(operation).map_err(|error| {
            if let Some(cause) = error.cause() {
                println!("{cause}");
            }
            error.errno()
        })
    }

    fn observe(&mut self) -> Seen {
        let root = self.union().getattr(ROOT).unwrap();
        let mut seen = Seen::from([(vec![], self.look(ROOT, &root).unwrap())]);
        self.walk(&[], ROOT, &mut seen).unwrap();
        seen
    }

    fn look_at_nameless(&mut self, ino: u64) -> Option<Node> {
        if self.cache == Cache::Forgets {
            return None;
        }
        let attr = self.union().getattr(ino).unwrap();
        Some(self.look(ino, &attr).unwrap().node)
    }

    fn change_nameless(&mut self, ino: u64, change: &Change) -> bool {
        if self.cache == Cache::Forgets || self.union().getattr(ino).unwrap().kind != FileType::RegularFile {
            return false;
        }
        let changed = match change {
            Change::Write(offset, bytes) => {
                self.union().write(ino, *offset as u64, bytes, SetId::Keep, DAEMON).map(drop)
            }
            Change::Truncate(len) => {
                let set = SetAttr { size: Some(*len as u64), ..SetAttr::default() };
                self.union().setattr(ino, &set, DAEMON).map(drop)
            }
            Change::Chmod(mode) => {
                let set = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                self.union().setattr(ino, &set, DAEMON).map(drop)
            }
        };
        changed.unwrap();
        true
    }

    /// In the `user.` namespace only files and directories can say where they
    /// came from; others have a new number once they were copied up and are
    /// found again on disk.
    fn keeps_number(&self, content: &Content, operation: &Operation) -> bool {
        let can_say = matches!(content, Content::Dir(_) | Content::File(_));
        let is_known = self.cache == Cache::Keeps && !matches!(operation, Operation::Reopen);
        can_say || is_known || self.config.namespace == Namespace::Trusted
    }

    fn has_vfs(&self) -> bool {
        false
    }
}
