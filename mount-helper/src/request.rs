//! What the options mean together, here and for this caller: the union's
//! configuration and the mount's.
//!
//! The rules between options are kernel overlayfs's, with two differences on
//! purpose: redirects and metacopy can be had with `userxattr`, and a union of
//! a single lower is one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::MountFlags;
use unionfs::Config;
use unionfs::config::{Namespace, RedirectDir, Squash, UpperDirs, Verity};
use unionfs::fuse::{DataPath, SessionConfig, Transport};

use crate::args::{Command, Words};
use crate::draft::{Draft, Redirect};
use crate::failure::{Failure, Result};
use crate::standing::Standing;

/// Everything that is to be done.
#[derive(Debug)]
pub struct Request {
    /// What the union is made of.
    pub union: Config,
    /// How it is served.
    pub session: SessionConfig,
    /// What is mounted where.
    pub mount: MountRequest,
}

/// The mount itself.
#[derive(Debug)]
pub struct MountRequest {
    /// Where.
    pub mountpoint: PathBuf,
    /// What /proc/mounts shows as the source.
    pub source: OsString,
    /// What /proc/mounts shows after `fuse.`.
    pub subtype: OsString,
    /// Flags of mount(2).
    pub flags: MountFlags,
    /// Who may enter.
    pub access: Access,
    /// The largest read request, if not the kernel's.
    pub max_read: Option<u32>,
    /// Security labels, by option name.
    pub labels: Vec<(&'static str, OsString)>,
    /// What the caller may do.
    pub standing: Standing,
}

/// Who may enter the mount. Permissions are always checked (by the kernel,
/// `default_permissions`), whoever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone.
    Everyone,
    /// The user who mounted.
    Owner,
}

/// How long a thread looks for the next request: longer than a client on another
/// processor takes to send one, shorter than anybody notices.
const SPIN: Duration = Duration::from_micros(50);
/// More threads than this only wait for each other in a union.
const MOST_THREADS: usize = 4;

/// Decides on everything that was left open, and checks options against each
/// other; nothing is opened yet.
///
/// # Errors
/// A usage error that names both options.
pub fn settle(draft: Draft, command: &Command, standing: Standing) -> Result<Request> {
    if draft.lowers.is_empty() {
        return Err(Failure::usage("no lower layer was given").hint("-o lowerdir=TOP:BELOW:…"));
    }
    let mountpoint = absolute(&command.mountpoint);
    let mut flags = default_flags(command.words, standing, &mountpoint);
    flags.remove(draft.off);
    flags.insert(draft.on);
    if draft.upper.is_none() {
        flags.insert(MountFlags::RDONLY);
    }
    if standing == Standing::User {
        // Not a user's to ask for; fusermount3 would only complain.
        flags.insert(MountFlags::NOSUID | MountFlags::NODEV);
    }
    let everyone = draft.allow_other.unwrap_or_else(|| rustix::process::geteuid().is_root());
    let named = draft.fsname.clone().or_else(|| command.source.clone()).filter(|name| !name.is_empty());
    let mount = MountRequest {
        mountpoint,
        source: named.unwrap_or_else(|| "runionfs".into()),
        subtype: draft.subtype.clone().unwrap_or_else(|| "runionfs".into()),
        flags,
        access: if everyone { Access::Everyone } else { Access::Owner },
        max_read: draft.max_read,
        labels: draft.labels.clone(),
        standing,
    };
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    if draft.transport == Transport::Fuser && !matches!(draft.data, DataPath::Auto | DataPath::Cached) {
        return Err(Failure::usage("transport=fuser serves file data through the page cache alone")
            .hint("data=cached, or another transport"));
    }
    let session = SessionConfig {
        threads: draft.threads.unwrap_or(cpus.clamp(2, MOST_THREADS)),
        transport: draft.transport,
        data: draft.data,
        writeback: draft.writeback,
        spin: draft.spin.unwrap_or(if cpus > 1 { SPIN } else { Duration::ZERO }),
    };
    Ok(Request { union: union(draft, standing, flags)?, session, mount })
}

/// The flags where nobody said anything.
///
/// mount(8) keeps `suid` and `dev` to itself, they being its defaults, and
/// adds `nosuid,nodev` for mounts by users: nothing said there is `suid,dev`.
/// Container stores (podman, buildah) say nothing either and expect set-user-id
/// programs to work in what they run. In a user namespace the kernel lets such
/// programs act within that namespace only. Everywhere else the safe default
/// stands: `nosuid,nodev` until real root says otherwise.
fn default_flags(words: Words, standing: Standing, mountpoint: &Path) -> MountFlags {
    match (standing, words) {
        (Standing::Root, Words::Mount) => MountFlags::empty(),
        (Standing::Root, Words::Direct) if in_container_store(mountpoint) => MountFlags::NODEV,
        (Standing::Namespace, _) => MountFlags::NODEV,
        (Standing::Root | Standing::User, _) => MountFlags::NOSUID | MountFlags::NODEV,
    }
}

/// Whether the mount point is where containers-storage puts a container's
/// root, `…/overlay/ID/merged`, in a store that other users cannot enter.
fn in_container_store(mountpoint: &Path) -> bool {
    let store = mountpoint.parent().and_then(Path::parent);
    let named = mountpoint.file_name() == Some(OsStr::new("merged"))
        && store.and_then(Path::file_name) == Some(OsStr::new("overlay"));
    let closed = |store: &Path| {
        rustix::fs::stat(store).is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & 0o077 == 0)
    };
    named && store.is_some_and(closed)
}

/// The union's configuration.
fn union(draft: Draft, standing: Standing, flags: MountFlags) -> Result<Config> {
    let upper = match (draft.upper.as_deref(), draft.work.as_deref()) {
        (Some(upper), Some(work)) => Some(UpperDirs { upper: absolute(upper), work: absolute(work) }),
        (Some(upper), None) => {
            let message = format!("upperdir={} needs a workdir", upper.display());
            return Err(
                Failure::usage(message).hint("an empty directory on the upper's file system: workdir=DIR")
            );
        }
        // Useless without an upper, says the kernel, and ignores it.
        (None, _) => None,
    };
    let namespace = match standing {
        Standing::Root if !draft.userxattr => Namespace::Trusted,
        _ => Namespace::User,
    };
    let default = Config::default();
    let redirect_dir = match (draft.redirect_dir, namespace) {
        (None, _) => default.redirect_dir,
        (Some(Redirect::On), _) => RedirectDir::On,
        (Some(Redirect::Follow), _) | (Some(Redirect::Off), Namespace::Trusted) => RedirectDir::Follow,
        // What any user could have written is followed only when asked for.
        (Some(Redirect::NoFollow), _) | (Some(Redirect::Off), Namespace::User) => RedirectDir::NoFollow,
    };
    Ok(Config {
        metacopy: metacopy(&draft, default.metacopy, upper.is_some())?,
        squash: squash(&draft),
        lowers: draft.lowers.iter().map(|path| absolute(path)).collect(),
        data_only: draft.data_only.iter().map(|path| absolute(path)).collect(),
        hidden: draft.hidden.iter().map(|path| absolute(path)).collect(),
        volatile: draft.volatile && upper.is_some(),
        index: draft.index.unwrap_or(default.index),
        xino: draft.xino.unwrap_or(default.xino),
        upper,
        redirect_dir,
        verity: draft.verity,
        namespace,
        uid_map: draft.uid_map,
        gid_map: draft.gid_map,
        override_stat: draft.override_stat,
        static_nlink: draft.static_nlink,
        acl: draft.acl && draft.xattrs,
        xattrs: draft.xattrs,
        dir_cache: draft.dir_cache.unwrap_or(default.dir_cache),
        timeout: draft.timeout.unwrap_or(default.timeout),
        submounts: draft.submounts,
        suid: !flags.contains(MountFlags::NOSUID),
    })
}

/// Metacopy needs redirects to be made (or, without an upper, followed):
/// asking for one without the other is an error, asking for less redirects
/// alone turns metacopy off.
fn metacopy(draft: &Draft, default: bool, writable: bool) -> Result<bool> {
    let redirects = match draft.redirect_dir {
        None | Some(Redirect::On) => true,
        Some(Redirect::Follow | Redirect::Off) => !writable,
        Some(Redirect::NoFollow) => false,
    };
    match (draft.metacopy, redirects) {
        (Some(false), _) if draft.verity != Verity::Off => {
            Err(Failure::usage("metacopy=off conflicts with the verity option given")
                .hint("the digests that verity checks are in metacopies"))
        }
        (Some(true), false) => {
            Err(Failure::usage("metacopy=on conflicts with the redirect_dir option given")
                .hint("metacopy needs redirect_dir=on, which is the default"))
        }
        (Some(asked), _) => Ok(asked),
        (None, redirects) => Ok(default && redirects),
    }
}

/// Who is shown as the owner; a number goes before `squash_to_root`.
fn squash(draft: &Draft) -> Squash {
    let root = draft.squash_to_root.then_some(0);
    match (draft.squash_uid.or(root), draft.squash_gid.or(root)) {
        (None, None) => Squash::None,
        (uid, gid) => Squash::To { uid, gid },
    }
}

/// The longest path the kernel takes, with its end.
const PATH_MAX: usize = 4096;

/// From the root, so that the daemon may leave the directory it was called in
/// and messages say which directory is meant. A path that would grow too long
/// stays as it is, and is opened before the daemon leaves.
fn absolute(path: &Path) -> PathBuf {
    match std::path::absolute(path) {
        Ok(full) if full.as_os_str().len() < PATH_MAX => full,
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Typed, Unknown};
    use crate::options;

    fn settled(name: &str, options: &str, standing: Standing) -> Result<Request> {
        let line = [name, "src", "/m", "-o", options].map(OsString::from);
        let Ok(Typed::Mount(command)) = args::parse(line) else { panic!("{name} {options}") };
        let mut draft = Draft::default();
        options::apply(&mut draft, options.as_bytes(), Unknown::Refuse)?;
        settle(draft, &command, standing)
    }

    fn root(options: &str) -> Result<Request> {
        settled("runionfs", options, Standing::Root)
    }

    #[test]
    fn kernel_rules_between_options() {
        let upper = "lowerdir=/a,upperdir=/u,workdir=/w";
        for (options, want) in [
            (format!("{upper},metacopy=on,redirect_dir=off"), None),
            (format!("{upper},metacopy=on,redirect_dir=follow"), None),
            (format!("{upper},metacopy=on,redirect_dir=nofollow"), None),
            (format!("{upper},metacopy=on,redirect_dir=on"), Some(true)),
            (format!("{upper},redirect_dir=follow"), Some(false)),
            (format!("{upper},metacopy=off,redirect_dir=on"), Some(false)),
            (upper.to_string(), Some(true)),
            (format!("{upper},metacopy=off,verity=off"), Some(false)),
            (format!("{upper},metacopy=off,verity=on"), None),
            (format!("{upper},verity=require"), Some(true)),
            ("lowerdir=/a:/b,metacopy=on,redirect_dir=follow".into(), Some(true)),
            ("lowerdir=/a::/d,metacopy=on,redirect_dir=nofollow".into(), None),
            ("lowerdir=/a,upperdir=/u".into(), None),
            ("upperdir=/u,workdir=/w".into(), None),
            ("lowerdir=,upperdir=/u,workdir=/w".into(), None),
        ] {
            let got = root(&options).map(|request| request.union.metacopy);
            assert_eq!(got.as_ref().ok(), want.as_ref(), "{options}: {got:?}");
        }
        let request = root("lowerdir=/a:/b,workdir=/w,volatile,index=on").unwrap();
        assert_eq!(request.union.upper, None);
        assert!(!request.union.volatile && request.mount.flags.contains(MountFlags::RDONLY));
    }

    #[test]
    fn set_user_id_and_devices_only_when_asked() {
        let safe = MountFlags::NOSUID | MountFlags::NODEV;
        let none = MountFlags::empty();
        for (name, standing, options, want) in [
            ("runionfs", Standing::Root, "", safe),
            ("runionfs", Standing::Root, ",suid,dev", none),
            ("runionfs", Standing::Root, ",suid", MountFlags::NODEV),
            ("mount.runionfs", Standing::Root, "", none),
            ("mount.runionfs", Standing::Root, ",nosuid,nodev", safe),
            ("runionfs", Standing::Namespace, "", MountFlags::NODEV),
            ("runionfs", Standing::Namespace, ",nosuid", safe),
            ("runionfs", Standing::User, ",suid,dev", safe),
        ] {
            let request =
                settled(name, &format!("lowerdir=/a,upperdir=/u,workdir=/w{options}"), standing).unwrap();
            assert_eq!(request.mount.flags, want, "{name} {standing:?} {options}");
            assert_eq!(request.union.suid, !want.contains(MountFlags::NOSUID));
        }
    }

    #[test]
    fn a_store_is_known_by_its_shape_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let merged = dir.path().join("overlay/0123/merged");
        std::fs::create_dir_all(&merged).unwrap();
        let store = dir.path().join("overlay");
        let chmod = |mode| rustix::fs::chmod(&store, rustix::fs::Mode::from_raw_mode(mode)).unwrap();
        chmod(0o700);
        assert_eq!(in_container_store(&merged), rustix::process::geteuid().is_root());
        chmod(0o711);
        assert!(!in_container_store(&merged));
        chmod(0o700);
        assert!(!in_container_store(&dir.path().join("overlay/0123/other")));
        assert!(!in_container_store(Path::new("/merged")));
    }

    #[test]
    fn namespaces_and_redirects() {
        for (standing, options, namespace, redirects) in [
            (Standing::Root, "", Namespace::Trusted, RedirectDir::Auto),
            (Standing::Root, ",userxattr", Namespace::User, RedirectDir::Auto),
            (Standing::Namespace, "", Namespace::User, RedirectDir::Auto),
            (Standing::User, ",redirect_dir=off", Namespace::User, RedirectDir::NoFollow),
            (Standing::Root, ",redirect_dir=off", Namespace::Trusted, RedirectDir::Follow),
            (Standing::User, ",redirect_dir=on", Namespace::User, RedirectDir::On),
        ] {
            let request = settled("runionfs", &format!("lowerdir=/a{options}"), standing).unwrap();
            assert_eq!(request.union.namespace, namespace, "{standing:?} {options}");
            assert_eq!(request.union.redirect_dir, redirects, "{standing:?} {options}");
        }
    }

    #[test]
    fn names_shown_and_owners_squashed() {
        let request = root("lowerdir=/a").unwrap();
        assert_eq!((request.mount.source, request.mount.subtype), ("src".into(), "runionfs".into()));
        assert_eq!(root("lowerdir=/a,fsname=x y").unwrap().mount.source, "x y");
        assert_eq!(
            root("lowerdir=/a,squash_to_root").unwrap().union.squash,
            Squash::To { uid: Some(0), gid: Some(0) }
        );
        let both = root("lowerdir=/a,squash_to_root,squash_to_uid=7").unwrap();
        assert_eq!(both.union.squash, Squash::To { uid: Some(7), gid: Some(0) });
        let one = root("lowerdir=/a,squash_to_gid=7").unwrap();
        assert_eq!(one.union.squash, Squash::To { uid: None, gid: Some(7) });
    }

    #[test]
    fn relative_paths_are_made_absolute() {
        let request = root("lowerdir=a").unwrap();
        assert_eq!(request.union.lowers, [std::env::current_dir().unwrap().join("a")]);
        let long = PathBuf::from("x/".repeat(2040));
        assert_eq!(absolute(&long), long);
    }
}
