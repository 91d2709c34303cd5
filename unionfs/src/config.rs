//! What a union is made of, as plain data: layers, features, identity mapping.
//!
//! Option strings are the mount helper's business; nothing is parsed here.
//! [`Config::default`] has kernel overlayfs's features all on, which is also
//! what the semantic suites compare against.

use std::path::PathBuf;
use std::time::Duration;

/// The layers and features of one union.
#[derive(Clone, Debug)]
pub struct Config {
    /// Read-only layers, topmost first. At least one, unless there is an upper.
    pub lowers: Vec<PathBuf>,
    /// Layers that carry file data only (`lowerdir=a::b`): never listed or
    /// looked up by name, reached through absolute redirects of metacopy files.
    pub data_only: Vec<PathBuf>,
    /// The writable layer; without one the union is read-only.
    pub upper: Option<UpperDirs>,
    /// What is done with directory redirects.
    pub redirect_dir: RedirectDir,
    /// Whether a change of metadata alone copies no data.
    pub metacopy: bool,
    /// Whether data that lies elsewhere is held to the digest its metadata gives.
    pub verity: Verity,
    /// Whether hard links of lower files survive copy-up.
    pub index: bool,
    /// Whether inode numbers are composed to be unique over all layers.
    pub xino: bool,
    /// Leave durability to the caller: no fsync anywhere.
    pub volatile: bool,
    /// Where overlay's private attributes are kept.
    pub namespace: Namespace,
    /// User ids as shown in the mount against those on disk.
    pub uid_map: Vec<IdRange>,
    /// Group ids as shown in the mount against those on disk.
    pub gid_map: Vec<IdRange>,
    /// Show every file as one owner's.
    pub squash: Squash,
    /// Keep owner and mode in an extended attribute instead of on the inode.
    pub override_stat: OverrideStat,
    /// Show every file that is not a directory with one link.
    pub static_nlink: bool,
    /// Whether POSIX ACLs are supported (and enforced by the kernel).
    pub acl: bool,
    /// Whether the mount has extended attributes. Without, the kernel does not ask
    /// for capabilities and access lists; what files have on disk is kept.
    pub xattrs: bool,
    /// How many names of merged directories are kept in memory; the least used
    /// are listed again when they are needed.
    pub dir_cache: usize,
    /// How long the kernel may keep what it was told. All changes come through
    /// the union, so the default is for ever.
    pub timeout: Duration,
    /// Directories of the lowers that are treated as absent; `runion try` hides
    /// its own upper inside the root it shows.
    pub hidden: Vec<PathBuf>,
    /// Whether file systems mounted below a lower layer are part of it.
    pub submounts: Submounts,
    /// Whether set-user-id bits have an effect in this mount; when they do,
    /// they are hidden on files of a layer that was mounted `nosuid`.
    pub suid: bool,
}

/// The writable layer's two directories, on one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpperDirs {
    /// The tree of changes.
    pub upper: PathBuf,
    /// Where changes are staged; owned by the union alone.
    pub work: PathBuf,
}

/// Kernel overlayfs's `redirect_dir` option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectDir {
    /// Follow and create redirects, in every layer (an explicit `on`).
    On,
    /// Create redirects; follow them everywhere with [`Namespace::Trusted`], in
    /// the upper only with [`Namespace::User`]. The default.
    Auto,
    /// Follow redirects, create none: renaming a merged directory is EXDEV.
    Follow,
    /// Neither follow nor create.
    NoFollow,
}

/// Kernel overlayfs's `verity` option: what is done with the digests that the
/// files of images, and metacopies, give of their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verity {
    /// Nothing.
    Off,
    /// Data is what its digest says, where there is one: the kernel tells where
    /// fs-verity seals the file, else its bytes are read.
    On,
    /// Data has a digest, and is sealed by fs-verity.
    Require,
}

/// The extended attribute namespace for overlay's private marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// `trusted.overlay.*`: needs privilege in the initial user namespace.
    Trusted,
    /// `user.overlay.*` (`-o userxattr`).
    User,
}

/// One range of ids: `inside..inside+len` in the mount is
/// `outside..outside+len` on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id as seen in the mount.
    pub inside: u32,
    /// First id on disk.
    pub outside: u32,
    /// How many ids.
    pub len: u32,
}

/// Whether files show their own owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    /// Owners as they are.
    None,
    /// Every file is shown with these ids; what is created keeps the daemon's.
    To {
        /// The user shown; `None` for the file's own.
        uid: Option<u32>,
        /// The group shown; `None` for the file's own.
        gid: Option<u32>,
    },
}

/// `xattr_permissions`: owner and mode in an attribute of the file, for stores
/// whose owner may not chown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideStat {
    /// Owner and mode are those of the inode.
    Off,
    /// `user.fuseoverlayfs.override_stat` (`xattr_permissions=1`).
    Fuseoverlayfs,
    /// `user.containers.override_stat` (`xattr_permissions=2`).
    Containers,
}

/// Whether a layer ends at its own file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submounts {
    /// What is mounted below a lower is not seen, as with kernel overlayfs
    /// (where the caller may clone the mount; else as [`Submounts::Cross`]).
    Hide,
    /// What is mounted below a lower is part of it.
    Cross,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            lowers: Vec::new(),
            data_only: Vec::new(),
            upper: None,
            redirect_dir: RedirectDir::Auto,
            metacopy: true,
            verity: Verity::Off,
            index: true,
            xino: true,
            volatile: false,
            namespace: Namespace::Trusted,
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            squash: Squash::None,
            override_stat: OverrideStat::Off,
            static_nlink: false,
            acl: true,
            xattrs: true,
            dir_cache: 1_000_000,
            timeout: Duration::MAX,
            hidden: Vec::new(),
            submounts: Submounts::Hide,
            suid: false,
        }
    }
}
