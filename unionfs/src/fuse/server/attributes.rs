//! Requests about attributes, extended ones included.

use std::ffi::OsStr;

use rustix::io::Errno;

use super::Server;
use crate::error::Result;
use crate::fuse::abi::{self, fattr};
use crate::fuse::reply::Room;
use crate::ops::{Caller, SetAttr, SetId, SetMode};
use crate::sys::at::{SetTime, Time};

impl Server {
    pub(super) fn getattr(&self, node: u64, room: &mut Room<'_>) -> Result<()> {
        room.put(&self.lifetime.attr(&self.union.getattr(node)?))
    }

    pub(super) fn statx(&self, node: u64, room: &mut Room<'_>) -> Result<()> {
        room.put(&self.lifetime.statx(&self.union.getattr(node)?))
    }

    pub(super) fn setattr(
        &self,
        node: u64,
        set: &abi::SetattrIn,
        caller: Caller,
        room: &mut Room<'_>,
    ) -> Result<()> {
        let attr = self.told(self.union.setattr(node, &meant(set), caller))?;
        room.put(&self.lifetime.attr(&attr))
    }

    pub(super) fn statfs(&self, room: &mut Room<'_>) -> Result<()> {
        let stat = self.union.statfs()?;
        room.put(&abi::StatfsOut {
            blocks: stat.blocks,
            bfree: stat.free,
            bavail: stat.available,
            files: stat.files,
            ffree: stat.free_files,
            bsize: stat.block_size,
            namelen: stat.name_max,
            frsize: stat.fragment_size,
            ..Default::default()
        })
    }

    pub(super) fn setxattr(
        &self,
        node: u64,
        name: &OsStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<()> {
        let mode = match flags as i32 {
            libc::XATTR_CREATE => SetMode::Create,
            libc::XATTR_REPLACE => SetMode::Replace,
            _ => SetMode::Any,
        };
        self.told(self.union.setxattr(node, name, value, mode))?;
        if kill_sgid { self.union.drop_set_gid(node) } else { Ok(()) }
    }

    pub(super) fn getxattr(&self, node: u64, name: &OsStr, size: u32, room: &mut Room<'_>) -> Result<()> {
        if size == 0 {
            let size = self.union.getxattr(node, name, &mut [])? as u32;
            return room.put(&abi::GetxattrOut { size, padding: 0 });
        }
        room.fill(size as usize, |buffer| self.union.getxattr(node, name, buffer))
    }

    pub(super) fn listxattr(&self, node: u64, size: u32, caller: Caller, room: &mut Room<'_>) -> Result<()> {
        let names = self.union.listxattr(node, caller)?;
        match size as usize {
            0 => room.put(&abi::GetxattrOut { size: names.len() as u32, padding: 0 }),
            size if names.len() > size => Err(Errno::RANGE.into()),
            _ => room.put_bytes(&names),
        }
    }
}

/// What a SETATTR means.
fn meant(set: &abi::SetattrIn) -> SetAttr {
    let has = |bit| set.valid & bit != 0;
    let time = |given: u32, now: u32, sec: u64, nsec: u32| match (has(given), has(now)) {
        (_, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::To(Time { sec: sec as i64, nsec })),
        (false, false) => None,
    };
    let size = has(fattr::SIZE).then_some(set.size);
    // With a handle it is ftruncate, which moves the time in any case; the
    // kernel leaves that to us.
    let is_ftruncate = size.is_some() && has(fattr::FH);
    SetAttr {
        mode: has(fattr::MODE).then_some(set.mode),
        uid: has(fattr::UID).then_some(set.uid),
        gid: has(fattr::GID).then_some(set.gid),
        size,
        atime: time(fattr::ATIME, fattr::ATIME_NOW, set.atime, set.atimensec),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, set.mtime, set.mtimensec)
            .or(is_ftruncate.then_some(SetTime::Now)),
        set_id: if has(fattr::KILL_SUIDGID) { SetId::Drop } else { SetId::Keep },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_what_the_kernel_sent() {
        let sent = abi::SetattrIn {
            valid: fattr::MTIME | fattr::ATIME_NOW | fattr::ATIME,
            mtime: (-5i64) as u64,
            mtimensec: 7,
            ..Default::default()
        };
        let meant = meant(&sent);
        assert_eq!(meant.mtime, Some(SetTime::To(Time { sec: -5, nsec: 7 })));
        assert_eq!(meant.atime, Some(SetTime::Now));
        assert_eq!((meant.mode, meant.size), (None, None));
    }
}
