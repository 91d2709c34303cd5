//! A container's root: mounted for its monitor and whoever that makes, gone
//! with the last of them.
//!
//! The mount helper leaves a server behind, in the mount namespace that it was
//! called in. So the mount is taken out of that namespace at once, and placed
//! in a second one that the server is not in: when the monitor and the
//! container are gone, however they went, so is the mount, and with it the
//! server. Where there is neither FUSE nor overlayfs, it is a copy ([`copy`]).

pub mod copy;
pub mod file;
pub mod offline;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use layerstore::store::{InUse, Store};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use unionfs::config::{Namespace, Verity};

use crate::bundle::IdMapping;
use crate::container::{Container, Driver, Lifetime, Record};
use crate::failure::{Context, Failure, Result};
use crate::mounting::{self, Options};
use crate::sandbox::identity::{self, Plan};
use crate::sandbox::{attach, bind, file_system};
use crate::sys::{self, SignalSet};

/// A container's root, mounted at [`Container::rootfs`].
pub struct Rootfs {
    root: OwnedFd,
    path: PathBuf,
    _image: Option<InUse>,
}

/// What a container's root is made of.
struct Source {
    files: Files,
    /// Whether their data is verified.
    verity: Verity,
    /// Nobody removes what is mounted.
    image: Option<InUse>,
}

/// Where a container's files come from.
enum Files {
    /// An image's index, and where its files' contents are.
    Image { index: PathBuf, objects: PathBuf },
    /// A directory.
    Directory(PathBuf),
}

impl Rootfs {
    /// Mounts it. The caller is in a mount namespace of its own, and is in
    /// another afterwards.
    pub fn mount(container: &Container, record: &Record, plan: &Plan, signals: &SignalSet) -> Result<Rootfs> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|errno| identity::cannot_mount(errno, "make the mounts private"))?;
        let Source { files, verity, image } = Source::of(container, record)?;
        if record.config.driver != Driver::Dir {
            dress_upper(container, record, plan, &files)?;
        }
        let path = container.rootfs();
        let tree = match record.config.driver {
            Driver::Fuse => by_helper(container, record, plan, signals, (&files, verity))?,
            Driver::Kernel => by_kernel(container, plan, (&files, verity))?,
            Driver::Dir => by_copy(container, record, plan)?,
        };
        sys::new_mount_namespace().context(|| "cannot make a mount namespace".to_owned())?;
        let context = || format!("cannot mount {}", path.display());
        let point = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(context)?;
        attach(tree.as_fd(), point.as_fd()).context(context)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &path, flags, Mode::empty()).context(context)?;
        Ok(Rootfs { root, path, _image: image })
    }

    /// Whether data is compared with what the image says of it.
    pub fn verifies(container: &Container, record: &Record) -> Result<bool> {
        Ok(Source::of(container, record)?.verity != Verity::Off)
    }

    /// The root itself.
    pub fn root(&self) -> rustix::fd::BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Takes the monitor's own use of it away.
    pub fn unmount(self) -> Result<()> {
        let Rootfs { root, path, _image } = self;
        drop(root);
        unmount(&path, UnmountFlags::DETACH).context(|| format!("cannot unmount {}", path.display()))
    }
}

impl Source {
    fn of(container: &Container, record: &Record) -> Result<Source> {
        let asked = record.config.verity.map(Verity::from);
        if let Some(dir) = &record.config.rootfs {
            let verity = asked.unwrap_or(Verity::Off);
            return Ok(Source { files: Files::Directory(dir.clone()), verity, image: None });
        }
        let Some(image) = &record.config.image else {
            return Err(Failure::new("the container has neither an image nor a directory"));
        };
        let store = Store::open(container.store())?;
        let found = store.find(&image.id)?;
        let held = store.hold(found.id())?;
        // The kernel's overlay reads nothing but what is sealed, and knows the option
        // since Linux 6.6.
        let unasked = if record.config.driver == Driver::Fuse { None } else { Some(Verity::Off) };
        let verity = store.verity(&found.record, asked.or(unasked))?;
        let files = Files::Image { index: store.index_file(&found.record), objects: store.objects() };
        Ok(Source { files, verity, image: Some(held) })
    }
}

/// The option's word.
fn word(verity: Verity) -> &'static str {
    match verity {
        Verity::Off => "off",
        Verity::On => "on",
        Verity::Require => "require",
    }
}

/// Gives the top of a fresh upper the mode of what it stands for.
fn dress_upper(container: &Container, record: &Record, plan: &Plan, files: &Files) -> Result<()> {
    if record.state.started.is_some() {
        return Ok(());
    }
    let upper = container.upper();
    let context = || format!("cannot ready {}", upper.display());
    let (mode, owner) = match files {
        Files::Directory(dir) => {
            let stat = rustix::fs::stat(dir).context(|| format!("cannot look at {}", dir.display()))?;
            (stat.st_mode, (stat.st_uid, stat.st_gid))
        }
        Files::Image { index, .. } => {
            let context = || format!("cannot read the image index {}", index.display());
            let file = std::fs::File::open(index).context(context)?;
            let index = unionfs::image::Index::open(&file).context(context)?;
            let root = index.attr(index.root()).context(context)?;
            (root.mode.into(), (root.uid, root.gid))
        }
    };
    if matches!(plan.giving(), identity::Giving::Any) {
        let (uid, gid) = (on_disk(owner.0, &record.config.uid_map), on_disk(owner.1, &record.config.gid_map));
        match std::os::unix::fs::chown(&upper, Some(uid), Some(gid)) {
            // An owner that this user namespace does not have.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            given => given.context(context)?,
        }
    }
    rustix::fs::chmod(&upper, Mode::from_raw_mode(mode & 0o7777)).context(context)
}

/// What the upper holds is as the image has it: the union maps ids as it shows
/// them.
fn on_disk(id: u32, _map: &[IdMapping]) -> u32 {
    id
}

/// By our union.
fn by_helper(
    container: &Container,
    record: &Record,
    plan: &Plan,
    signals: &SignalSet,
    (files, verity): (&Files, Verity),
) -> Result<OwnedFd> {
    mounting::check_device().map_err(|failure| match failure.hint_text() {
        Some(hint) => {
            let hint = format!("{hint}; or have the image copied: --storage-driver dir");
            failure.hint(hint)
        }
        None => failure,
    })?;
    let helper = mounting::find()?;
    let options = match files {
        Files::Image { index, objects } => Options::image(index, objects),
        Files::Directory(dir) => Options::new(std::slice::from_ref(dir)),
    };
    let mut options =
        options.path("upperdir", &container.upper()).path("workdir", &container.work()).plain("allow_other");
    if record.config.lifetime == Lifetime::Removed {
        options = options.plain("volatile");
    }
    if verity != Verity::Off {
        options = options.plain(&format!("verity={}", word(verity)));
    }
    // An image's ids are those of the namespace it runs in.
    let is_mapping = |option: &String| option.starts_with("uidmapping=") || option.starts_with("gidmapping=");
    for option in plan.mount_options().into_iter().filter(|option| !is_mapping(option)) {
        options = options.plain(&option);
    }
    // Where there is one id, everything is shown as that.
    if matches!(plan.giving(), identity::Giving::Any) && !record.config.uid_map.is_empty() {
        options = options.plain(&mapping("uidmapping", &record.config.uid_map));
        options = options.plain(&mapping("gidmapping", &record.config.gid_map));
    }
    mounting::mount(&helper, signals, options, &container.rootfs())
}

/// By a copy of the image.
fn by_copy(container: &Container, record: &Record, plan: &Plan) -> Result<OwnedFd> {
    let Some(image) = &record.config.image else {
        return Err(Failure::new("the storage driver dir copies images, not directories"));
    };
    let store = Store::open(container.store())?;
    copy::ready(container, record, plan, &store, &store.find(&image.id)?)?;
    let context = || format!("cannot mount {}", container.upper().display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let copy = openat(CWD, container.upper(), flags, Mode::empty()).context(context)?;
    bind(copy.as_fd()).context(context)
}

/// A container's ids, shown as those of its user namespace outside.
fn mapping(option: &str, map: &[IdMapping]) -> String {
    let ranges: Vec<String> =
        map.iter().map(|range| format!("{}:{}:{}", range.container_id, range.host_id, range.size)).collect();
    format!("{option}={}", ranges.join(":"))
}

/// By the kernel's own overlay, over its own reader of the image's index.
fn by_kernel(container: &Container, plan: &Plan, (files, verity): (&Files, Verity)) -> Result<OwnedFd> {
    if !matches!(plan, Plan::Own(Namespace::Trusted)) {
        return Err(Failure::new("the storage driver kernel is for root only").hint("--storage-driver fuse"));
    }
    let context = || "cannot mount by the kernel's overlay".to_owned();
    let shown = |path: &Path| -> Result<String> {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("{}: {} is not text", context(), path.display())))
    };
    let (upper, work) = (shown(&container.upper())?, shown(&container.work())?);
    let lowers = match files {
        Files::Directory(dir) => vec![("lowerdir+", shown(dir)?)],
        Files::Image { index, objects } => {
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
            let erofs =
                file_system(c"erofs", &[("source", &shown(index)?)], attributes).map_err(|errno| {
                    Failure::new(format!("cannot mount the image's index by the kernel's erofs: {errno}"))
                    .hint("it takes a kernel with erofs on files (6.12); --storage-driver fuse needs neither")
                })?;
            let path = container.dir().join("index");
            std::fs::create_dir_all(&path).context(context)?;
            let point = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(context)?;
            attach(erofs.as_fd(), point.as_fd()).context(context)?;
            vec![("lowerdir+", shown(&path)?), ("datadir+", shown(objects)?)]
        }
    };
    let mut settings = vec![("source", "runion")];
    settings.extend(lowers.iter().map(|(key, value)| (*key, value.as_str())));
    settings.extend([
        ("upperdir", upper.as_str()),
        ("workdir", work.as_str()),
        ("metacopy", "on"),
        ("redirect_dir", "on"),
    ]);
    if verity != Verity::Off {
        settings.push(("verity", word(verity)));
    }
    let tree = file_system(c"overlay", &settings, MountAttrFlags::empty()).context(context)?;
    if matches!(files, Files::Image { .. }) {
        let path = container.dir().join("index");
        unmount(&path, UnmountFlags::DETACH).context(context)?;
    }
    Ok(tree)
}
