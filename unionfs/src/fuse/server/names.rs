//! Requests about names: finding, making, moving and removing them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, RenameFlags};

use super::{Server, is_absence};
use crate::error::Result;
use crate::fuse::abi;
use crate::fuse::reply::{Room, decode_device};
use crate::ops::{Caller, Make, Names};

impl Server {
    pub(super) fn lookup(&self, parent: u64, name: &OsStr, room: &mut Room<'_>) -> Result<()> {
        match self.union.lookup(parent, name) {
            Err(error) if is_absence(&error) => room.put(&self.lifetime.absent()),
            found => self.put_entry(found, room),
        }
    }

    pub(super) fn mknod(
        &self,
        parent: u64,
        name: &OsStr,
        made: &abi::MknodIn,
        caller: Caller,
        room: &mut Room<'_>,
    ) -> Result<()> {
        let mode = made.mode;
        let make = match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Make::File { mode },
            kind => Make::Node { kind, mode, rdev: decode_device(made.rdev) },
        };
        self.put_entry(self.told(self.union.make(parent, name, make, caller)), room)
    }

    pub(super) fn mkdir(
        &self,
        parent: u64,
        name: &OsStr,
        dir: &abi::MkdirIn,
        caller: Caller,
        room: &mut Room<'_>,
    ) -> Result<()> {
        let make = Make::Dir { mode: dir.mode };
        self.put_entry(self.told(self.union.make(parent, name, make, caller)), room)
    }

    pub(super) fn symlink(
        &self,
        parent: u64,
        name: &OsStr,
        target: &OsStr,
        caller: Caller,
        room: &mut Room<'_>,
    ) -> Result<()> {
        let make = Make::Symlink(target.as_bytes());
        self.put_entry(self.told(self.union.make(parent, name, make, caller)), room)
    }

    pub(super) fn link(&self, node: u64, parent: u64, name: &OsStr, room: &mut Room<'_>) -> Result<()> {
        self.put_entry(self.told(self.union.link(node, Names { parent, name })), room)
    }

    pub(super) fn unlink(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.told(self.union.unlink(Names { parent, name }))
    }

    pub(super) fn rmdir(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.told(self.union.rmdir(Names { parent, name }))
    }

    pub(super) fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32) -> Result<()> {
        let from = Names { parent: from.0, name: from.1 };
        let to = Names { parent: to.0, name: to.1 };
        self.told(self.union.rename(from, to, RenameFlags::from_bits_retain(flags)))
    }
}
