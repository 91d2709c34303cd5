//! Listings.

use rustix::fs::FileType;

use super::Server;
use crate::error::Result;
use crate::fuse::abi;
use crate::fuse::reply::{Fit, Room, dirent_kind, dirent_len};
use crate::ops::ListedEntry;
use zerocopy::IntoBytes;

impl Server {
    pub(super) fn readdir(&self, node: u64, at: &abi::ReadIn, room: &mut Room<'_>) -> Result<()> {
        let entries = self.listings.entries(&self.union, node, at.offset)?;
        for entry in entries.from_offset(at.offset) {
            let dirent = dirent(&entry);
            if room.put_dirent(&[], &dirent, entry.name, at.size as usize) == Fit::Full {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn readdirplus(&self, node: u64, at: &abi::ReadIn, room: &mut Room<'_>) -> Result<()> {
        let limit = at.size as usize;
        let entries = self.listings.entries(&self.union, node, at.offset)?;
        for entry in entries.from_offset(at.offset) {
            let head = size_of::<abi::EntryOut>();
            if room.used() + dirent_len(head, entry.name.len()) > limit {
                break;
            }
            // An entry that cannot be looked up is listed without attributes:
            // asking for them tells why. `.` and `..` take no reference.
            let found = match matches!(entry.name, b"." | b"..") {
                true => None,
                false => self.union.lookup_listed(node, &entry).unwrap_or(None),
            };
            let attributes = match &found {
                Some(found) => self.lifetime.entry(found),
                None => abi::EntryOut::default(),
            };
            if room.put_dirent(attributes.as_bytes(), &dirent(&entry), entry.name, limit) == Fit::Full {
                if let Some(found) = found {
                    self.union.forget(found.id, 1);
                }
                break;
            }
        }
        Ok(())
    }
}

fn dirent(entry: &ListedEntry) -> abi::Dirent {
    let kind = if entry.kind == FileType::Unknown { 0 } else { dirent_kind(entry.kind) };
    abi::Dirent { ino: entry.ino, off: entry.position, namelen: entry.name.len() as u32, kind }
}
