//! Who is mounting, as far as a mount depends on it.

use rustix::thread::CapabilitySet;

/// The inode of the initial user namespace in nsfs, fixed in the kernel's
/// interface (`USER_NS_INIT_INO`).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// What the caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May mount, in the initial user namespace: real root.
    Root,
    /// May mount, in a user namespace of its own.
    Namespace,
    /// May not mount: needs the set-user-id helper of FUSE.
    User,
}

impl Standing {
    /// The standing of this process. When in doubt, the lower one.
    pub fn of_caller() -> Standing {
        let effective = rustix::thread::capabilities(None).map(|sets| sets.effective);
        let may_mount = effective.is_ok_and(|set| set.contains(CapabilitySet::SYS_ADMIN));
        let initial =
            rustix::fs::stat("/proc/self/ns/user").is_ok_and(|stat| stat.st_ino == INITIAL_USER_NAMESPACE);
        match (may_mount, initial) {
            (true, true) => Standing::Root,
            (true, false) => Standing::Namespace,
            (false, _) => Standing::User,
        }
    }
}
