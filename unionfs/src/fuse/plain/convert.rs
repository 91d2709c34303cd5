//! The protocol crate's types from and to ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use rustix::fs::FileType as Kind;

use crate::fuse::reply::encode_device;
use crate::ops::{Attr, Entry};
use crate::sys::at::{SetTime, Time};

/// Longer than any mount lives, and short enough for every clock.
const FOR_EVER: Duration = Duration::from_secs(1 << 31);

/// A cache lifetime the kernel can hold.
pub fn lifetime(wanted: Duration) -> Duration {
    wanted.min(FOR_EVER)
}

/// Attributes as the protocol has them. The crate makes the node id of
/// `attr.ino`, which is why both are one number here.
pub fn file_attr(attr: &Attr) -> FileAttr {
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: file_type(attr.kind),
        perm: (attr.perm & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_device(attr.rdev),
        blksize: small(attr.blksize.into()),
        flags: 0,
    }
}

/// The attributes of an entry, under its node id.
pub fn entry_attr(entry: &Entry) -> FileAttr {
    FileAttr { ino: INodeNo(entry.id), ..file_attr(&entry.attr) }
}

/// What says that a name is absent: node id 0, which is cached.
pub fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// A file's type.
pub fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::RegularFile | Kind::Unknown => FileType::RegularFile,
    }
}

fn system_time(time: Time) -> SystemTime {
    let sec = Duration::from_secs(time.sec.unsigned_abs());
    let whole = if time.sec < 0 { UNIX_EPOCH.checked_sub(sec) } else { UNIX_EPOCH.checked_add(sec) };
    let exact = whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nsec.into())));
    // Both ends of the 64-bit range are representable; beyond there is nothing.
    exact.unwrap_or(UNIX_EPOCH)
}

/// A time to be set.
pub fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(from_system_time(time)),
    }
}

/// A time as it came in a request. Before 1970 the crate (0.18.0) takes seconds
/// and nanoseconds both off the epoch instead of adding the latter; undone here.
fn from_system_time(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Time { sec: since.as_secs() as i64, nsec: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            Time { sec: (before.as_secs() as i64).wrapping_neg(), nsec: before.subsec_nanos() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_requests_are_what_the_kernel_sent() {
        let sent = |sec: u64, nsec| UNIX_EPOCH - Duration::new(sec, nsec);
        assert_eq!(from_system_time(sent(1, 250)), Time { sec: -1, nsec: 250 });
        assert_eq!(from_system_time(sent(5, 0)), Time { sec: -5, nsec: 0 });
        assert_eq!(from_system_time(UNIX_EPOCH + Duration::new(7, 9)), Time { sec: 7, nsec: 9 });
    }

    #[test]
    fn every_time_can_be_shown() {
        for (sec, nsec) in [(0, 0), (-1, 999_999_999), (i64::MIN, 0), (i64::MAX, 999_999_999)] {
            let shown = system_time(Time { sec, nsec });
            if sec == -1 {
                assert_eq!(UNIX_EPOCH.duration_since(shown).unwrap(), Duration::from_nanos(1));
            }
        }
    }
}
