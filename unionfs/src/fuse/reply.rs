//! Replies: values into the bytes the kernel reads.

use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::abi;
use crate::error::Result;
use crate::ops::{Attr, Entry};
use crate::sys::at::Time;

/// Room for what follows a reply's header, filled from the front.
pub struct Room<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl<'a> Room<'a> {
    /// Room in these bytes, all of it free.
    pub fn new(bytes: &'a mut [u8]) -> Room<'a> {
        Room { bytes, used: 0 }
    }

    /// How many bytes are filled.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Appends a structure.
    ///
    /// # Errors
    /// `EIO` where it does not fit, which no request of the kernel's leads to.
    pub fn put(&mut self, value: &(impl IntoBytes + Immutable)) -> Result<()> {
        self.put_bytes(value.as_bytes())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// As [`Room::put`].
    pub fn put_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.fill(bytes.len(), |room| {
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }

    /// Appends what `fill` puts into the next `len` bytes; it says how many.
    ///
    /// # Errors
    /// As [`Room::put`], or what `fill` gave.
    pub fn fill(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<()> {
        let end = self.used.checked_add(len).ok_or(Errno::IO)?;
        let room = self.bytes.get_mut(self.used..end).ok_or(Errno::IO)?;
        self.used += fill(room)?.min(len);
        Ok(())
    }

    /// Appends a directory entry, unless it would pass `limit` bytes in all.
    pub fn put_dirent(&mut self, head: &[u8], entry: &abi::Dirent, name: &[u8], limit: usize) -> Fit {
        let len = dirent_len(head.len(), name.len());
        if self.used + len > limit {
            return Fit::Full;
        }
        let filled = self.fill(len, |room| {
            let parts = [head, entry.as_bytes(), name];
            let end = parts.iter().map(|part| part.len()).sum();
            let (front, padding) = room.split_at_mut(end);
            let mut at = 0;
            for part in parts {
                front[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            padding.fill(0);
            Ok(len)
        });
        if filled.is_ok() { Fit::Fitted } else { Fit::Full }
    }
}

/// The length of a directory entry behind `head` bytes of something else.
pub fn dirent_len(head: usize, name: usize) -> usize {
    (head + size_of::<abi::Dirent>() + name).next_multiple_of(abi::DIRENT_ALIGN)
}

/// Whether a directory entry was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It was.
    Fitted,
    /// The reply is full.
    Full,
}

/// How long the kernel may keep what it is told.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    sec: u64,
    nsec: u32,
}

impl Lifetime {
    /// Longer than any mount lives, and short enough for every clock.
    const FOR_EVER: Duration = Duration::from_secs(1 << 31);

    /// A lifetime the kernel can hold.
    pub fn new(wanted: Duration) -> Lifetime {
        let wanted = wanted.min(Lifetime::FOR_EVER);
        Lifetime { sec: wanted.as_secs(), nsec: wanted.subsec_nanos() }
    }

    /// A name that leads to a node.
    pub fn entry(self, entry: &Entry) -> abi::EntryOut {
        let (attr_valid, attr_valid_nsec) = self.of(&entry.attr);
        let attr = attr(&entry.attr);
        abi::EntryOut { nodeid: entry.id, attr_valid, attr_valid_nsec, attr, ..self.absent() }
    }

    /// A name that leads nowhere: node id 0, which is remembered.
    pub fn absent(self) -> abi::EntryOut {
        abi::EntryOut {
            entry_valid: self.sec,
            entry_valid_nsec: self.nsec,
            attr_valid: self.sec,
            attr_valid_nsec: self.nsec,
            ..Default::default()
        }
    }

    /// A node's attributes.
    pub fn attr(self, shown: &Attr) -> abi::AttrOut {
        let (attr_valid, attr_valid_nsec) = self.of(shown);
        abi::AttrOut { attr_valid, attr_valid_nsec, dummy: 0, attr: attr(shown) }
    }

    /// Seconds and nanoseconds for attributes.
    fn of(self, shown: &Attr) -> (u64, u32) {
        if shown.is_shared { (0, 0) } else { (self.sec, self.nsec) }
    }

    /// A node's attributes, with its birth where that is known.
    pub fn statx(self, shown: &Attr) -> abi::StatxOut {
        let known = rustix::fs::StatxFlags::BASIC_STATS.bits();
        let born = if shown.btime == Time::default() { 0 } else { rustix::fs::StatxFlags::BTIME.bits() };
        let stat = abi::Statx {
            mask: known | born,
            blksize: shown.blksize,
            nlink: shown.nlink,
            uid: shown.uid,
            gid: shown.gid,
            mode: mode(shown) as u16,
            ino: shown.ino,
            size: shown.size,
            blocks: shown.blocks,
            atime: sx_time(shown.atime),
            btime: sx_time(shown.btime),
            ctime: sx_time(shown.ctime),
            mtime: sx_time(shown.mtime),
            rdev_major: rustix::fs::major(shown.rdev),
            rdev_minor: rustix::fs::minor(shown.rdev),
            ..Default::default()
        };
        let (attr_valid, attr_valid_nsec) = self.of(shown);
        abi::StatxOut { attr_valid, attr_valid_nsec, stat, ..Default::default() }
    }
}

/// Attributes as the protocol has them.
fn attr(shown: &Attr) -> abi::Attr {
    abi::Attr {
        ino: shown.ino,
        size: shown.size,
        blocks: shown.blocks,
        // Times before 1970 are the same 64 bits, read as signed.
        atime: shown.atime.sec as u64,
        mtime: shown.mtime.sec as u64,
        ctime: shown.ctime.sec as u64,
        atimensec: shown.atime.nsec,
        mtimensec: shown.mtime.nsec,
        ctimensec: shown.ctime.nsec,
        mode: mode(shown),
        nlink: shown.nlink,
        uid: shown.uid,
        gid: shown.gid,
        rdev: encode_device(shown.rdev),
        blksize: shown.blksize,
        flags: 0,
    }
}

fn mode(shown: &Attr) -> u32 {
    shown.kind.as_raw_mode() | (shown.perm & 0o7777)
}

fn sx_time(time: Time) -> abi::SxTime {
    abi::SxTime { sec: time.sec, nsec: time.nsec, reserved: 0 }
}

/// A directory entry's type, as getdents gives it.
pub fn dirent_kind(kind: FileType) -> u32 {
    kind.as_raw_mode() >> 12
}

/// The kernel's 32-bit form of a device number: 12 bits of major, 20 of minor.
pub fn encode_device(rdev: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

/// A device number from the kernel's 32-bit form.
pub fn decode_device(rdev: u32) -> u64 {
    rustix::fs::makedev((rdev >> 8) & 0xfff, (rdev & 0xff) | (rdev >> 12) & 0xfff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_round_trip() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (8, 256), (0xfff, 0xfffff)] {
            let rdev = rustix::fs::makedev(major, minor);
            assert_eq!(decode_device(encode_device(rdev)), rdev);
        }
    }

    #[test]
    fn entries_are_padded_and_end_at_the_limit() {
        let mut bytes = [0xff; 100];
        let mut room = Room::new(&mut bytes);
        let entry = abi::Dirent { ino: 1, off: 2, namelen: 3, kind: 8 };
        assert_eq!(room.put_dirent(&[], &entry, b"abc", 64), Fit::Fitted);
        assert_eq!(room.put_dirent(&[], &entry, b"abc", 64), Fit::Fitted);
        assert_eq!(room.put_dirent(&[], &entry, b"abc", 64), Fit::Full);
        assert_eq!(room.used(), 64);
        assert_eq!(&bytes[24..32], b"abc\0\0\0\0\0");
    }

    #[test]
    fn no_lifetime_is_too_long() {
        let attr = Lifetime::new(Duration::MAX).absent();
        assert!(attr.entry_valid < u64::MAX / 1000);
        assert_eq!(Lifetime::new(Duration::from_millis(1500)).absent().entry_valid_nsec, 500_000_000);
    }
}
