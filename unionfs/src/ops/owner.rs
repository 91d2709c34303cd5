//! Who a file belongs to, as shown: its ids mapped, squashed, or kept in an
//! attribute.

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use super::{Caller, SetAttr, Writable};
use crate::Union;
use crate::acl;
use crate::config::Squash;
use crate::error::Result;
use crate::inode::Inode;
use crate::ondisk::override_stat::{self, Owner};
use crate::sys::at::{self, Stat, Target};
use crate::sys::xattr;

impl Union {
    /// Owner and permission bits as shown.
    pub(super) fn owner_shown(&self, inode: &Inode, stat: &Stat) -> Result<Owner> {
        let on_disk = match self.is_overriding() {
            true => self.with_metadata(inode, |target| self.overridden(target, stat))?,
            false => owner_of(stat),
        };
        Ok(match self.config.squash {
            Squash::None => Owner {
                uid: self.uids.from_disk(on_disk.uid),
                gid: self.gids.from_disk(on_disk.gid),
                mode: on_disk.mode,
            },
            Squash::To { uid, gid } => Owner { uid, gid, mode: on_disk.mode },
        })
    }

    /// Whether owner and mode are kept in an attribute.
    pub(super) fn is_overriding(&self) -> bool {
        override_stat::name(self.config.override_stat).is_some()
    }

    /// What the attribute says, or the inode where it has none.
    fn overridden(&self, target: Target<'_>, stat: &Stat) -> Result<Owner> {
        let Some(name) = override_stat::name(self.config.override_stat) else { return Ok(owner_of(stat)) };
        let value = xattr::get_vec(target, name)?;
        Ok(value.as_deref().and_then(override_stat::parse).unwrap_or_else(|| owner_of(stat)))
    }

    /// Changes owner and mode where they are kept.
    ///
    /// # Errors
    /// `EOVERFLOW` for an id that has none on disk, or what the upper gave.
    pub(super) fn change_owner(&self, _upper: Writable<'_>, target: Target<'_>, set: &SetAttr) -> Result<()> {
        let uid = set.uid.map(|uid| self.uids.to_disk(uid).ok_or(Errno::OVERFLOW)).transpose()?;
        let gid = set.gid.map(|gid| self.gids.to_disk(gid).ok_or(Errno::OVERFLOW)).transpose()?;
        if uid.is_none() && gid.is_none() && set.mode.is_none() {
            return Ok(());
        }
        if self.is_overriding() {
            let stat = at::stat(target)?;
            let mut owner = self.overridden(target, &stat)?;
            if (uid.is_some() || gid.is_some()) && stat.kind() != FileType::Directory {
                owner.mode &= !0o6000;
            }
            owner.uid = uid.unwrap_or(owner.uid);
            owner.gid = gid.unwrap_or(owner.gid);
            owner.mode = set.mode.unwrap_or(owner.mode) & 0o7777;
            return self.write_owner(target, owner);
        }
        if uid.is_some() || gid.is_some() {
            at::chown(target, uid, gid)?;
        }
        if let Some(mode) = set.mode {
            at::chmod(target, mode)?;
        }
        Ok(())
    }

    /// Writes the attribute; symlinks and devices cannot carry one and keep
    /// the daemon's owner.
    fn write_owner(&self, target: Target<'_>, owner: Owner) -> Result<()> {
        let Some(name) = override_stat::name(self.config.override_stat) else { return Ok(()) };
        let value = override_stat::format(owner);
        match xattr::set(target, name, value.as_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(Errno::PERM) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives a file that was staged by the daemon its maker's owner, and itself
    /// the access it needs.
    pub(super) fn override_new(&self, staged: Target<'_>, caller: Caller) -> Result<()> {
        let stat = at::stat(staged)?;
        let owner = Owner {
            uid: self.uids.to_disk(caller.uid).unwrap_or(stat.uid),
            gid: match stat.mode & 0o2000 != 0 {
                true => stat.gid,
                false => self.gids.to_disk(caller.gid).unwrap_or(stat.gid),
            },
            mode: stat.mode & 0o7777,
        };
        self.write_owner(staged, owner)?;
        match stat.kind() {
            FileType::Directory => at::chmod(staged, 0o755)?,
            FileType::Symlink => {}
            _ => at::chmod(staged, 0o644 | stat.mode & 0o111)?,
        }
        Ok(())
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

fn owner_of(stat: &Stat) -> Owner {
    Owner { uid: stat.uid, gid: stat.gid, mode: stat.mode & 0o7777 }
}
