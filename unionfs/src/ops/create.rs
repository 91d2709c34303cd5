//! New files.
//!
//! Where the upper has nothing under the name, the file is made in place, as
//! the caller: the file system then gives it its owner, its group and its ACL.
//! Over a whiteout it is made in the work directory, with the same worked out
//! here, and takes the whiteout's place complete.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use super::lookup::Child;
use super::owner::UPPER;
use super::{Caller, Entry, OpenFor, Opened, Writable, creatable, dir_of, locate};
use crate::Union;
use crate::acl;
use crate::copyup::staged::Staged;
use crate::error::Result;
use crate::inode::number::Numbers;
use crate::inode::table::{Found, Side};
use crate::inode::{Access, Body, Dir, Fact, File, FileState, Inode, Moment, NodeId, Place, Trait, Traits};
use crate::name::Name;
use crate::ondisk::marks::{self, DEFAULT_ACL, Mark};
use crate::stack::names::{Merged, NameMap, Slot, UpperSlot};
use crate::stack::real::RealDir;
use crate::sync::{Arc, RwLock};
use crate::sys::at::{self, Stat, Target};
use crate::sys::{creds, xattr};

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub enum Make<'a> {
    /// An empty regular file.
    File {
        /// Permission bits, before the umask.
        mode: u32,
    },
    /// A directory.
    Dir {
        /// Permission bits, before the umask.
        mode: u32,
    },
    /// A fifo, socket or device node.
    Node {
        /// Its type.
        kind: FileType,
        /// Permission bits, before the umask.
        mode: u32,
        /// Device number.
        rdev: u64,
    },
    /// A symlink to this.
    Symlink(&'a [u8]),
}

impl Make<'_> {
    fn kind(&self) -> FileType {
        match self {
            Make::File { .. } => FileType::RegularFile,
            Make::Dir { .. } => FileType::Directory,
            Make::Node { kind, .. } => *kind,
            Make::Symlink(_) => FileType::Symlink,
        }
    }

    fn mode(&self) -> u32 {
        match self {
            Make::File { mode } | Make::Dir { mode } | Make::Node { mode, .. } => *mode,
            Make::Symlink(_) => 0o777,
        }
    }
}

/// Everything about the directory and the name that making needs.
struct Site<'a> {
    upper: Writable<'a>,
    heir: Heir<'a>,
    name: Name<'a>,
    slot: Slot,
}

/// What a new file has its owner, group and mode from.
struct Heir<'a> {
    parent: &'a Arc<Inode>,
    dir: BorrowedFd<'a>,
    caller: Caller,
}

impl Union {
    /// Makes a file, directory, node or symlink.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EPERM` for a device 0/0 (it would be a whiteout),
    /// `EINVAL` for a reserved name, or what the upper gave.
    pub fn make(&self, parent: NodeId, name: &OsStr, make: Make<'_>, caller: Caller) -> Result<Entry> {
        let parent = self.inode(parent)?;
        let (child, _file) = self.make_child(&parent, name, make, caller)?;
        self.entry(&child)
    }

    /// Makes a regular file and opens it.
    ///
    /// # Errors
    /// As [`Union::make`].
    pub fn create(&self, parent: NodeId, name: &OsStr, mode: u32, caller: Caller) -> Result<(Entry, Opened)> {
        let parent = self.inode(parent)?;
        let (child, file) = self.make_child(&parent, name, Make::File { mode }, caller)?;
        let entry = self.entry(&child)?;
        // The descriptor it was made with may do what its mode may forbid.
        let opened = match file {
            Some(fd) => {
                self.share_new(&child.inode, fd).and_then(|()| self.opened(&child.inode, Access::Write))
            }
            None => self.open_file(entry.id, OpenFor::Writing, caller),
        };
        match opened {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.table.forget(entry.id, 1);
                Err(error)
            }
        }
    }

    /// Makes a regular file without a name and opens it; [`Union::link`] can
    /// give it one.
    ///
    /// # Errors
    /// `EROFS`, `EOPNOTSUPP` where the upper has no such files, or what it gave.
    pub fn tmpfile(&self, parent: NodeId, mode: u32, caller: Caller) -> Result<(Entry, Opened)> {
        let upper = self.writable()?;
        let parent = self.inode(parent)?;
        self.ensure_upper_dir(upper, &parent)?;
        let dir = self.upper_fd(&parent)?;
        let make = Make::File { mode };
        let fd = match self.kept_in(make.kind()) {
            // What is the caller's by an attribute is the daemon's on disk.
            Some(_) => at::tmpfile(dir.as_fd(), 0o600)?,
            None => {
                let mode = self.mode_in_place(&parent, make, caller)?;
                let _as_caller = self.as_caller(caller)?;
                at::tmpfile(dir.as_fd(), mode)?
            }
        };
        if self.kept_in(make.kind()).is_some() {
            let heir = Heir { parent: &parent, dir: dir.as_fd(), caller };
            self.inherit(&heir, Target::Fd(fd.as_fd()), make)?;
        }
        let stat = at::stat_fd(&fd)?;
        let held = Arc::new(fd.try_clone().map_err(|_| Errno::MFILE)?);
        let state = FileState::at(Place::Held(held));
        let body = || Body::File(File { state: RwLock::new(state) });
        let (key, number) = (self.key(Side::Upper, &stat), self.number(&stat));
        let private = || self.numbers.private();
        let (inode, found) = self.table.find_or_insert(Some(key), stat.kind(), number, private, body);
        if found == Found::Now {
            self.note_birth(&parent, &inode);
        }
        let entry = self.entry(&Child { inode: inode.clone(), stat })?;
        match self.share_new(&inode, fd).and_then(|()| self.opened(&inode, Access::Write)) {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.table.forget(entry.id, 1);
                Err(error)
            }
        }
    }

    fn make_child(
        &self,
        parent: &Arc<Inode>,
        name: &OsStr,
        make: Make<'_>,
        caller: Caller,
    ) -> Result<(Child, Option<OwnedFd>)> {
        let upper = self.writable()?;
        let name = creatable(Name::from_os(name)?)?;
        if matches!(make, Make::Node { kind: FileType::CharacterDevice, rdev: 0, .. }) {
            return Err(Errno::PERM.into());
        }
        self.ensure_upper_dir(upper, parent)?;
        let dir = dir_of(parent)?;
        let real = self.upper_dir(parent)?;
        let fd = real.fd(&self.layers.fds)?;
        let mut names = self.write_names(dir)?;
        let heir = Heir { parent, dir: fd.as_fd(), caller };
        let merged = dir.merged();
        // Where no map tells, making the file in place does.
        let is_told = names.is_none() && merged.lowers.is_empty();
        let file = match is_told && self.kept_in(make.kind()).is_none() {
            true => match self.make_in_place(&heir, name, make) {
                Err(error) if error.errno() == Errno::EXIST => {
                    let slot = self.free_slot(&merged, &names, name)?;
                    self.make_at(&Site { upper, heir, name, slot }, make)?
                }
                made => made?,
            },
            false => {
                let slot = self.free_slot(&merged, &names, name)?;
                self.make_at(&Site { upper, heir, name, slot }, make)?
            }
        };
        if let Some(map) = &mut *names {
            map.set_upper(name, UpperSlot::Entry(make.kind()));
        }
        let stat = match &file {
            Some(file) => at::stat_fd(file)?,
            None => at::stat(Target::At(fd.as_fd(), name))?,
        };
        if let (Some(map), Some(number)) = (&mut *names, Numbers::of(self.layers.device(&stat), stat.ino)) {
            map.set_number(name, number);
        }
        Ok((self.insert_new(parent, &real, name, stat), file))
    }

    /// What is known of a name under which nothing shows.
    ///
    /// # Errors
    /// `EEXIST` where something does.
    pub(super) fn free_slot(&self, merged: &Merged, names: &Option<NameMap>, name: Name<'_>) -> Result<Slot> {
        let slot = self.slot(merged, names, name)?;
        if slot.visible().is_some() { Err(Errno::EXIST.into()) } else { Ok(slot) }
    }

    /// Makes it in place, or where that takes more than one step, out of sight.
    fn make_at(&self, site: &Site<'_>, make: Make<'_>) -> Result<Option<OwnedFd>> {
        let is_staged = site.slot.upper == UpperSlot::Whiteout
            || site.slot.lower_shows()
            // What takes two steps is not done where it shows.
            || self.kept_in(make.kind()).is_some();
        match is_staged {
            true => self.make_staged(site, make),
            false => self.make_in_place(&site.heir, site.name, make),
        }
    }

    /// Makes it where nothing is: one system call, as the caller. A regular file
    /// comes open.
    fn make_in_place(&self, heir: &Heir<'_>, name: Name<'_>, make: Make<'_>) -> Result<Option<OwnedFd>> {
        let mode = self.mode_in_place(heir.parent, make, heir.caller)?;
        let _as_caller = self.as_caller(heir.caller)?;
        match make {
            Make::File { .. } => return Ok(Some(at::create(heir.dir, name, mode)?)),
            Make::Dir { .. } => at::mkdir(heir.dir, name, mode)?,
            Make::Node { kind, rdev, .. } => at::mknod(heir.dir, name, kind, mode, rdev)?,
            Make::Symlink(target) => at::symlink(target, heir.dir, name)?,
        }
        Ok(None)
    }

    /// The mode that is asked for in place: under a default ACL, the file system
    /// takes the umask's part.
    fn mode_in_place(&self, parent: &Inode, make: Make<'_>, caller: Caller) -> Result<u32> {
        Ok(match self.traits(parent)?.has(Trait::DefaultAcl) {
            true => make.mode(),
            false => make.mode() & !caller.umask,
        })
    }

    /// Makes it complete in the work directory and puts it in the place of a
    /// whiteout.
    fn make_staged(&self, site: &Site<'_>, make: Make<'_>) -> Result<Option<OwnedFd>> {
        let staged = {
            // What is the caller's by an attribute is the daemon's on disk.
            let _as_caller = match self.kept_in(make.kind()) {
                Some(_) => creds::As::daemon()?,
                None => self.as_caller(site.heir.caller)?,
            };
            match make {
                Make::File { .. } => Staged::named_file(&site.upper)?,
                Make::Dir { .. } => Staged::dir(&site.upper)?,
                Make::Node { kind, rdev, .. } => Staged::node(&site.upper, kind, rdev)?,
                Make::Symlink(target) => Staged::symlink(&site.upper, target)?,
            }
        };
        self.inherit(&site.heir, staged.target(), make)?;
        if matches!(make, Make::Dir { .. }) && site.slot != Slot::ABSENT {
            marks::set(staged.target(), site.upper.namespace, Mark::Opaque, b"y")?;
        }
        match site.slot.upper {
            UpperSlot::Absent => staged.publish(site.heir.dir, site.name),
            _ => staged.publish_over(site.heir.dir, site.name),
        }
    }

    /// Gives a staged file what the file system gives one made in place: the
    /// group of a set-gid directory, and mode and ACLs from the default ACL or
    /// the umask.
    fn inherit(&self, heir: &Heir<'_>, staged: Target<'_>, make: Make<'_>) -> Result<()> {
        let parent = self.meant(UPPER, Target::Fd(heir.dir).into(), &at::stat_fd(heir.dir)?)?;
        let mut mode = make.mode();
        if self.kept_in(make.kind()).is_some() {
            let (uid, gid) = self.ids_on_disk(heir.caller);
            self.own(staged, Some(uid), Some(gid), None)?;
        }
        if parent.mode & 0o2000 != 0 {
            self.own(staged, None, Some(parent.gid), None)?;
            if make.kind() == FileType::Directory {
                mode |= 0o2000;
            }
        }
        if make.kind() == FileType::Symlink {
            return Ok(());
        }
        let default = match self.traits(heir.parent)?.has(Trait::DefaultAcl) {
            true => xattr::get_vec(Target::Fd(heir.dir), DEFAULT_ACL)?,
            false => None,
        };
        let Some(default) = default else {
            return self.own(staged, None, None, Some(mode & !heir.caller.umask));
        };
        let child = match make.kind() {
            FileType::Directory => acl::Child::Directory,
            _ => acl::Child::File,
        };
        let inherited = acl::inherit(&default, mode, child)?;
        if let Some(access) = &inherited.access {
            xattr::set(staged, c"system.posix_acl_access", access, XattrFlags::empty())?;
        }
        if let Some(default) = &inherited.default {
            xattr::set(staged, DEFAULT_ACL, default, XattrFlags::empty())?;
        }
        self.own(staged, None, None, Some(inherited.mode))
    }

    /// What is made while this lives is the caller's.
    pub(super) fn as_caller(&self, caller: Caller) -> Result<creds::As> {
        let (uid, gid) = self.ids_on_disk(caller);
        Ok(creds::As::caller(uid, gid)?)
    }

    /// A node for what was just made.
    fn insert_new(&self, parent: &Arc<Inode>, real: &Arc<RealDir>, name: Name<'_>, stat: Stat) -> Child {
        let link = locate::link(parent, name);
        let body = || match stat.kind() {
            FileType::Directory => Body::Dir(Box::new(Dir {
                link: RwLock::new(Some(link)),
                merged: RwLock::new(Arc::new(Merged {
                    upper: Some(RealDir::new(real, name)),
                    lowers: Vec::new(),
                })),
                names: Arc::default(),
                redirect: RwLock::new(None),
                traits: inherited_traits(parent),
            })),
            _ => Body::File(File { state: RwLock::new(FileState::upper(link)) }),
        };
        let key = self.key(Side::Upper, &stat);
        let number = self.number(&stat);
        let private = || self.numbers.private();
        let (inode, found) = self.table.find_or_insert(Some(key), stat.kind(), number, private, body);
        if found == Found::Now {
            self.note_birth(parent, &inode);
        }
        Child { inode, stat }
    }

    /// Notes what is known of a file because it is new.
    fn note_birth(&self, parent: &Inode, inode: &Inode) {
        if !matches!(inode.kind, FileType::RegularFile | FileType::Directory) {
            return;
        }
        let has_no_acl = |dir: &Dir| dir.traits.has(Trait::Known) && !dir.traits.has(Trait::DefaultAcl);
        let acls: &[Fact] = match parent.dir().is_some_and(has_no_acl) {
            true => &[Fact::NoAccessAcl, Fact::NoDefaultAcl],
            false => &[],
        };
        for fact in [Fact::NoCapability].iter().chain(acls).filter(|fact| self.can_lack.has(**fact)) {
            inode.learnt.note(Moment::BIRTH, *fact);
        }
    }
}

/// What a directory just made has of what its parent is known to have.
fn inherited_traits(parent: &Inode) -> Traits {
    let traits = Traits::default();
    if let Some(parent) = parent.dir().filter(|dir| dir.traits.has(Trait::Known)) {
        traits.set(Trait::Known);
        if parent.traits.has(Trait::DefaultAcl) {
            traits.set(Trait::DefaultAcl);
        }
    }
    traits
}
