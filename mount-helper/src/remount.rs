//! `-o remount`: other flags for a mount that is there.
//!
//! mount(8) calls the mount program for it. Only flags change; what the union
//! is made of does not, so options about layers are read and left alone (fstab
//! repeats them). A remount takes rights away or gives writing back, but never
//! gives set-user-id or devices: the server decided about those when it
//! started, and mount.fuse3 asks for them unbidden.

use std::path::Path;

use rustix::mount::MountFlags;

use crate::draft::Draft;
use crate::failure::{Failure, Result};
use crate::mountinfo;

/// Flags by the words of /proc/self/mountinfo.
const WORDS: [(&str, MountFlags); 10] = [
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("sync", MountFlags::SYNCHRONOUS),
    ("dirsync", MountFlags::DIRSYNC),
    ("lazytime", MountFlags::LAZYTIME),
    ("nosymfollow", MountFlags::NOSYMFOLLOW),
];

/// Gives a mount the flags asked for and leaves it the others.
///
/// # Errors
/// A sentence: no FUSE mount there, or what the kernel said.
pub fn remount(draft: &Draft, mountpoint: &Path) -> Result<()> {
    let shown = mountpoint.display();
    let path = std::fs::canonicalize(mountpoint)
        .map_err(|error| Failure::refused(format!("cannot find mount point {shown}"), error))?;
    let entries = mountinfo::entries().map_err(|error| Failure::refused("cannot list mounts", error))?;
    let entry = entries.iter().rfind(|entry| entry.path == path);
    let Some(entry) = entry.filter(|entry| entry.kind.starts_with("fuse.")) else {
        return Err(Failure::mount(format!("nothing of ours is mounted on {shown}")));
    };
    let flags = changed(current(&entry.options), draft.on, draft.off);
    rustix::mount::mount_remount(&path, flags, c"")
        .map_err(|errno| Failure::refused(format!("cannot remount {shown}"), errno))
}

fn current(options: &str) -> MountFlags {
    let words = options.split(',').filter_map(|word| WORDS.iter().find(|(name, _)| *name == word));
    words.map(|&(_, flag)| flag).collect()
}

fn changed(current: MountFlags, on: MountFlags, off: MountFlags) -> MountFlags {
    let kept = current & (MountFlags::NOSUID | MountFlags::NODEV);
    let atime = MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME;
    // A new rule for access times takes the place of the old one.
    let replaced = if on.intersects(atime) { atime } else { MountFlags::empty() };
    (current - off - replaced) | on | kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stay_unless_asked() {
        let safe = MountFlags::NOSUID | MountFlags::NODEV;
        let none = MountFlags::empty();
        assert_eq!(current("rw,nosuid,nodev,relatime,rw,user_id=0"), safe);
        assert_eq!(changed(safe, MountFlags::RDONLY, none), safe | MountFlags::RDONLY);
        assert_eq!(changed(safe | MountFlags::RDONLY, none, MountFlags::RDONLY), safe);
        assert_eq!(changed(safe, none, safe), safe);
        assert_eq!(changed(MountFlags::NOATIME, MountFlags::RELATIME, none), MountFlags::RELATIME);
        assert_eq!(changed(none, MountFlags::NOEXEC, none), MountFlags::NOEXEC);
    }
}
