//! Attributes: as shown, and as changed.

use std::os::fd::AsFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::ensure::Need;
use super::owner::UPPER;
use super::{Attr, Caller, SetId, file_of};
use crate::Union;
use crate::error::Result;
use crate::inode::{Access, Body, Fact, FileState, Inode, NodeId, ROOT};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::sys::at::{self, SetTime, Stat};

/// A change of attributes; `None` leaves each.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size, of regular files.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of content.
    pub mtime: Option<SetTime>,
    /// What a change of size does to the set-id bits.
    pub set_id: SetId,
}

impl SetAttr {
    fn is_empty(&self) -> bool {
        let ids = self.uid.is_none() && self.gid.is_none();
        ids && self.mode.is_none() && self.size.is_none() && self.atime.is_none() && self.mtime.is_none()
    }
}

/// The set-user-id bit of a mode.
const SET_UID: u32 = 0o4000;
/// The set-group-id bit.
const SET_GID: u32 = 0o2000;
/// Both.
const SET_ID: u32 = SET_UID | SET_GID;

/// Whether someone may be writing to the file without our knowledge.
fn is_written_past_us(inode: &Inode) -> bool {
    let Some(file) = inode.file() else { return false };
    let state = file.state.read();
    state.open.as_ref().is_some_and(|open| open.backing.is_some() && open.data.access == Access::Write)
}

impl Union {
    /// The attributes of a node.
    ///
    /// # Errors
    /// What the layer gave.
    pub fn getattr(&self, id: NodeId) -> Result<Attr> {
        let inode = self.inode(id)?;
        let stat = self.stat(&inode)?;
        self.attr_from(&inode, &stat)
    }

    /// What is shown of a node whose metadata on disk is `stat`.
    pub(super) fn attr_from(&self, inode: &Inode, stat: &Stat) -> Result<Attr> {
        let mut nlink = stat.nlink;
        let mut blocks = stat.blocks;
        let mut nosuid = false;
        let mut is_shared = false;
        let mut ino = if inode.id == ROOT { self.number(stat) } else { inode.id };
        match &inode.body {
            Body::Dir(dir) => {
                if dir.merged().is_merged() {
                    nlink = 1;
                }
            }
            Body::File(file) => {
                let state = file.state.read();
                is_shared = state.number().is_some();
                ino = state.number().unwrap_or(ino);
                if let Some(more) = state.nlink() {
                    nlink = u32::try_from(i64::from(nlink) + i64::from(more)).unwrap_or(1);
                }
                if let Some(data) = state.data() {
                    blocks = data.with(&self.layers.fds, |file| Ok(file.stat()?.blocks)).unwrap_or(blocks);
                }
                nosuid = self.is_distrusted(&state);
                if self.config.static_nlink {
                    nlink = 1;
                }
            }
        }
        let owner = self.owner_shown(inode, stat)?;
        let perm = owner.mode & if nosuid { 0o1777 } else { 0o7777 };
        Ok(Attr {
            ino,
            size: stat.size,
            blocks,
            blksize: stat.blksize,
            kind: stat.kind(),
            perm,
            nlink,
            uid: owner.uid,
            gid: owner.gid,
            rdev: stat.rdev,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            btime: stat.btime,
            is_shared,
        })
    }

    /// Whether a file's set-id bits and capabilities mean nothing: it is of a
    /// layer that was mounted `nosuid`, where they would have an effect.
    pub(super) fn is_distrusted(&self, state: &FileState) -> bool {
        let layer = state.as_lower().and_then(|(dir, _)| self.layers.get(dir.layer));
        self.config.suid && layer.is_some_and(|layer| layer.nosuid)
    }

    /// Changes attributes. A change of metadata alone copies no data.
    ///
    /// # Errors
    /// `EROFS`; `EOVERFLOW` for an owner that has no id on disk; what the upper
    /// gave. The order is size, owner, mode, times: what a later step cannot do
    /// leaves the earlier ones done.
    pub fn setattr(&self, id: NodeId, set: &SetAttr, caller: Caller) -> Result<Attr> {
        let upper = self.writable()?;
        let inode = self.inode(id)?;
        if set.is_empty() {
            return self.give_up_set_id(upper, &inode, caller);
        }
        let need = match set.size {
            None => Need::Metadata,
            Some(0) => Need::Empty,
            Some(_) => Need::Data,
        };
        let inode = match set.size {
            Some(size) => {
                let inode = self.ensure_written(upper, &inode, need)?;
                self.truncate(&inode, size, set, caller)?;
                inode
            }
            None => {
                self.ensure_upper(upper, &inode, need)?;
                inode
            }
        };
        let changed = self.with_metadata(&inode, |file| {
            let target = file.target()?;
            self.change_owner(upper, target, set)?;
            if set.atime.is_some() || set.mtime.is_some() {
                let time = |time: Option<SetTime>| time.unwrap_or(SetTime::Omit);
                at::utimens(target, time(set.atime), time(set.mtime))?;
            }
            Ok(())
        });
        // Whether or not all of it could be done.
        if set.mode.is_some_and(|mode| mode & SET_ID != 0) {
            inode.learnt.refute(Fact::NoSetId);
        }
        changed?;
        let stat = self.stat(&inode)?;
        self.attr_from(&inode, &stat)
    }

    /// Changes a file's size; it is in the upper, with its data.
    fn truncate(&self, inode: &Arc<Inode>, size: u64, set: &SetAttr, caller: Caller) -> Result<()> {
        file_of(inode)?;
        let data = self.data(inode, Access::Write)?;
        // What ftruncate(2) does to the time comes with the request.
        match set.mtime {
            Some(_) => rustix::fs::ftruncate(&data.fd, size)?,
            None => at::truncate(data.fd.as_fd(), size)?,
        }
        self.drop_set_id(inode, data.fd.as_fd(), set.set_id, caller)
    }

    /// Answers a change of nothing. That is `chown(-1, -1)`, which takes the
    /// set-id bits as any chown does; or what a write begins with that takes a
    /// capability, or set-id bits that the WRITE itself asks to be taken: root as
    /// a writer keeps those.
    fn give_up_set_id(&self, upper: super::Writable<'_>, inode: &Arc<Inode>, caller: Caller) -> Result<Attr> {
        let stat = self.meant_of(inode, &self.stat(inode)?)?;
        let is_root = caller.uid == 0;
        let is_owner = is_root || self.uids.to_disk(caller.uid) == Some(stat.uid);
        let lost_capability = self.uncapped.swap(0, Ordering::Relaxed) == inode.id;
        let dropped = match inode.kind {
            FileType::Directory => 0,
            _ if is_root && lost_capability => 0,
            // Of a file that is written past us, no WRITE will ask for it.
            _ if !is_owner && !is_written_past_us(inode) => 0,
            _ => self.set_id_lost(&stat, caller),
        };
        self.ensure_upper(upper, inode, Need::Metadata)?;
        if dropped != 0 {
            self.with_metadata(inode, |file| {
                self.own(file.target()?, None, None, Some(stat.mode & !dropped))
            })?;
        }
        let stat = self.stat(inode)?;
        self.attr_from(inode, &stat)
    }

    /// The set-id bits that a file loses when this caller changes it. A set-gid
    /// bit without group execution stays with the group's own: once it meant
    /// mandatory locking.
    fn set_id_lost(&self, stat: &Stat, caller: Caller) -> u32 {
        let is_member = caller.uid == 0 || self.gids.to_disk(caller.gid) == Some(stat.gid);
        let sgid = if stat.mode & 0o010 != 0 || !is_member { SET_GID } else { 0 };
        stat.mode & (SET_UID | sgid)
    }

    /// Takes the set-id bits of a file, open as `file`, that was changed by someone
    /// who may not keep them: the daemon's own privilege keeps the kernel from
    /// doing it. The kernel says so of each write of an ordinary user's.
    pub(super) fn drop_set_id(
        &self,
        inode: &Inode,
        file: std::os::fd::BorrowedFd<'_>,
        set_id: SetId,
        caller: Caller,
    ) -> Result<()> {
        let caller = match set_id {
            SetId::Keep => return Ok(()),
            SetId::ByCaller if caller.uid == 0 => return Ok(()),
            SetId::ByCaller => caller,
            // Root too, where it lacks the capability.
            SetId::Drop => Caller { uid: u32::MAX, ..caller },
        };
        if inode.learnt.has(Fact::NoSetId) {
            return Ok(());
        }
        let asked = inode.learnt.now();
        let stat = self.meant(UPPER, at::Target::Fd(file).into(), &at::stat_fd(file)?)?;
        if stat.mode & SET_ID == 0 {
            inode.learnt.note(asked, Fact::NoSetId);
        }
        let dropped = self.set_id_lost(&stat, caller);
        if dropped != 0 && stat.kind() == FileType::RegularFile {
            self.own(at::Target::Fd(file), None, None, Some(stat.mode & !dropped))?;
        }
        Ok(())
    }

    /// Takes the set-gid bit, as the kernel asks when an owner who is not of the
    /// file's group sets its ACL.
    ///
    /// # Errors
    /// What the upper gave.
    pub fn drop_set_gid(&self, id: NodeId) -> Result<()> {
        let inode = self.inode(id)?;
        let stat = self.meant_of(&inode, &self.stat(&inode)?)?;
        if stat.mode & SET_GID == 0 || inode.kind == FileType::Directory {
            return Ok(());
        }
        self.ensure_upper(self.writable()?, &inode, Need::Metadata)?;
        self.with_metadata(&inode, |file| self.own(file.target()?, None, None, Some(stat.mode & !SET_GID)))
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// `EINVAL` for what is none, or what the layer gave.
    pub fn readlink(&self, id: NodeId) -> Result<Vec<u8>> {
        let inode = self.inode(id)?;
        if inode.kind != FileType::Symlink {
            return Err(Errno::INVAL.into());
        }
        self.with_metadata(&inode, |file| Ok(file.read_link()?))
    }

    /// Opens the node's data on its own, outside of any open file, and verifies it
    /// as the mount asks for.
    pub(super) fn open_data(&self, inode: &Inode, access: Access) -> Result<std::os::fd::OwnedFd> {
        let state = file_of(inode)?.state.read();
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        let fds = &self.layers.fds;
        let opened = fds.making_room(|| match state.data() {
            Some(data) => data.with(fds, |file| self.layers.open_file(file, OFlags::RDONLY)),
            None => self.with_place(&state, |file| self.layers.open_file(file, flags)),
        })?;
        let expected = self.expected(&state)?;
        drop(state);
        if let Some(expected) = expected {
            self.verify(&opened, &expected)?;
        }
        Ok(opened)
    }
}
