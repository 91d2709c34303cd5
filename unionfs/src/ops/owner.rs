//! Who a file belongs to: its ids mapped or squashed, its owner and mode those
//! of the inode or, in layers that keep them there, those of an attribute.

use std::ffi::CStr;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Caller, SetAttr, Writable};
use crate::Union;
use crate::acl;
use crate::config::Squash;
use crate::error::Result;
use crate::ids::OVERFLOW_ID;
use crate::inode::{Body, Inode};
use crate::object::Object;
use crate::ondisk::override_stat;
use crate::stack::real::LayerId;
use crate::sys::at::{self, Stat, Target};

/// The upper's layer id.
pub(super) const UPPER: LayerId = 0;

/// An owner and mode as shown.
pub(super) struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Union {
    /// The attribute a layer keeps owners and modes in, if it does.
    fn override_in(&self, layer: LayerId) -> Option<&'static CStr> {
        match layer {
            UPPER => self.upper.as_ref()?.override_stat,
            lower => self.layers.get(lower)?.override_stat,
        }
    }

    /// The attribute that owner and mode of such a file in the upper are kept in.
    pub(super) fn kept_in(&self, kind: FileType) -> Option<&'static CStr> {
        self.override_in(UPPER).filter(|_| override_stat::fits(kind))
    }

    /// What `stat`, just read from a file of a layer, says of owner and mode.
    ///
    /// # Errors
    /// What reading the attribute gave.
    pub(super) fn meant(&self, layer: LayerId, file: Object<'_>, stat: &Stat) -> Result<Stat> {
        match self.override_in(layer).filter(|_| override_stat::fits(stat.kind())) {
            Some(name) => override_stat::meant(file, name, stat),
            None => Ok(*stat),
        }
    }

    /// As [`Union::meant`], for the file that holds a node's metadata.
    ///
    /// # Errors
    /// As [`Union::meant`].
    pub(super) fn meant_of(&self, inode: &Inode, stat: &Stat) -> Result<Stat> {
        let layer = match &inode.body {
            Body::Dir(dir) => dir.merged().top().map_or(UPPER, |top| top.layer),
            Body::File(file) => file.state.read().as_lower().map_or(UPPER, |(dir, _)| dir.layer),
        };
        match self.override_in(layer) {
            Some(_) => self.with_metadata(inode, |file| self.meant(layer, file, stat)),
            None => Ok(*stat),
        }
    }

    /// Owner and permission bits as shown.
    ///
    /// # Errors
    /// As [`Union::meant`].
    pub(super) fn owner_shown(&self, inode: &Inode, stat: &Stat) -> Result<Owner> {
        let meant = self.meant_of(inode, stat)?;
        let (uid, gid) = match self.config.squash {
            Squash::None => (None, None),
            Squash::To { uid, gid } => (uid, gid),
        };
        Ok(Owner {
            uid: uid.unwrap_or_else(|| self.uids.from_disk(meant.uid)),
            gid: gid.unwrap_or_else(|| self.gids.from_disk(meant.gid)),
            mode: meant.mode & 0o7777,
        })
    }

    /// Changes owner and mode of a file in the upper.
    ///
    /// # Errors
    /// What the file system gave.
    pub(super) fn own(
        &self,
        target: Target<'_>,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
    ) -> Result<()> {
        let stat = match self.override_in(UPPER) {
            Some(_) => Some(at::stat(target)?),
            None => None,
        };
        let kept = stat.and_then(|stat| Some((stat, self.kept_in(stat.kind())?)));
        let Some((stat, name)) = kept else {
            if uid.is_some() || gid.is_some() {
                at::chown(target, uid, gid)?;
            }
            if let Some(mode) = mode {
                at::chmod(target, mode)?;
            }
            return Ok(());
        };
        let mut meant = override_stat::meant(target.into(), name, &stat)?;
        if (uid.is_some() || gid.is_some()) && stat.kind() != FileType::Directory {
            // As the kernel does for every chown.
            meant.mode &= if meant.mode & 0o010 != 0 { !0o6000 } else { !0o4000 };
        }
        meant.uid = uid.unwrap_or(meant.uid);
        meant.gid = gid.unwrap_or(meant.gid);
        if let Some(mode) = mode {
            meant.mode = meant.mode & !0o7777 | mode & 0o7777;
        }
        override_stat::keep(target, name, &meant)?;
        Ok(at::chmod(target, override_stat::mode_on_disk(stat.kind(), meant.mode))?)
    }

    /// Changes owner and mode as asked for in the ids shown.
    ///
    /// # Errors
    /// `EOVERFLOW` for an id that has none on disk, or what the upper gave.
    pub(super) fn change_owner(&self, _upper: Writable<'_>, target: Target<'_>, set: &SetAttr) -> Result<()> {
        let uid = set.uid.map(|uid| self.uids.to_disk(uid).ok_or(Errno::OVERFLOW)).transpose()?;
        let gid = set.gid.map(|gid| self.gids.to_disk(gid).ok_or(Errno::OVERFLOW)).transpose()?;
        match uid.is_some() || gid.is_some() || set.mode.is_some() {
            true => self.own(target, uid, gid, set.mode),
            false => Ok(()),
        }
    }

    /// A caller's ids on disk. Where ids are mapped to a container's, the host's
    /// root has none: what it makes is nobody's until it gives it away, which
    /// podman does and fuse-overlayfs allows.
    pub(super) fn ids_on_disk(&self, caller: Caller) -> (u32, u32) {
        let uid = self.uids.to_disk(caller.uid).unwrap_or(OVERFLOW_ID);
        (uid, self.gids.to_disk(caller.gid).unwrap_or(OVERFLOW_ID))
    }

    /// An ACL with its ids as shown, from one with ids as on disk.
    pub(super) fn acl_shown(&self, value: &[u8]) -> Result<Vec<u8>> {
        acl::map_ids(value, |id| Some(self.uids.from_disk(id)), |id| Some(self.gids.from_disk(id)))
    }

    /// An ACL with its ids as on disk, from one with ids as shown.
    pub(super) fn acl_on_disk(&self, value: &[u8]) -> Result<Vec<u8>> {
        acl::map_ids(value, |id| self.uids.to_disk(id), |id| self.gids.to_disk(id))
    }
}
