//! The layers of a union, opened and told apart.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::process::Resource;

use super::maps::Maps;
use super::real::{Fds, Held, LayerId, RealDir};
use crate::config::{Config, Namespace, Submounts};
use crate::error::{Absent, Error, Result};
use crate::image::Index;
use crate::object::{Image, Object};
use crate::ondisk::override_stat;
use crate::sync::{Arc, RwLock};
use crate::sys::at::{self, Stat, Target};
use crate::sys::{handle, mount};

/// At most so many descriptors on directories are held that may be given up
/// again.
const MOST_HELD: u64 = 4096;
/// At least so many: a path is walked with fewer, but slowly.
const FEWEST_HELD: u64 = 64;

/// How many there may be under this process's limit of open files: a quarter,
/// the rest being for those files, and for the layers' own.
fn held_directories() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit / 4).clamp(FEWEST_HELD, MOST_HELD) as usize
}

/// One layer.
pub struct Layer {
    /// Its root.
    pub root: Arc<RealDir>,
    /// As the user named it.
    pub path: PathBuf,
    /// The file system's identity, as file handles carry it.
    pub uuid: [u8; 16],
    /// Whether it was mounted `nosuid`.
    pub nosuid: bool,
    /// Whether it is held so that nothing in it can be written.
    pub is_sealed: bool,
    /// The device of all its directories, where it is certain that they have
    /// the same.
    device: Option<u64>,
    /// The attribute owners and modes are kept in, if they are.
    pub override_stat: Option<&'static CStr>,
}

impl Layer {
    /// Opens one layer.
    ///
    /// # Errors
    /// A sentence that names the directory.
    pub fn open(id: LayerId, path: &Path, config: &Config) -> Result<Layer> {
        let context = |error: rustix::io::Errno| {
            Error::from(error).context(format_args!("cannot open layer {}", path.display()))
        };
        if path.is_file() {
            return Layer::of_image(id, path).map_err(|error| {
                error.context(format_args!("cannot open the image index {}", path.display()))
            });
        }
        let mount::Root { fd, is_sealed } = mount::hold_root(path, config.submounts).map_err(context)?;
        let override_stat = override_stat(config, &fd)?;
        // Where the root is not readable, no handle can be opened by it either.
        let readable = at::open_listing(fd.as_fd()).ok();
        let flags = rustix::fs::fstatvfs(&fd).map_err(context)?.f_flag;
        Ok(Layer {
            path: path.to_owned(),
            uuid: readable.as_ref().map(|fd| handle::file_system_uuid(fd.as_fd())).unwrap_or_default(),
            nosuid: flags.contains(StatVfsMountFlags::NOSUID),
            is_sealed,
            device: if is_sealed { at::only_device(fd.as_fd()).map_err(context)? } else { None },
            override_stat,
            root: RealDir::root(id, fd),
        })
    }

    /// Whether it is an image's index.
    fn is_image(&self) -> bool {
        self.root.is_of_image()
    }

    /// Opens an image's index. Nothing in it can be written; whether its files'
    /// contents can is the matter of the layers that hold them.
    fn of_image(id: LayerId, path: &Path) -> Result<Layer> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        let index = Index::open(&file)?;
        let nosuid = rustix::fs::fstatvfs(&file)?.f_flag.contains(StatVfsMountFlags::NOSUID);
        let (root, uuid) = (index.root(), index.uuid());
        // No device has so great a number.
        let image = Arc::new(Image { index, file, dev: u64::MAX - u64::from(id) });
        Ok(Layer {
            path: path.to_owned(),
            uuid,
            nosuid,
            is_sealed: true,
            device: None,
            override_stat: None,
            root: RealDir::root_held(id, Held::Image(image, root)),
        })
    }
}

/// The attribute a layer keeps owners and modes in: the one asked for, or the
/// one its root is marked with. Where set-user-id programs act for the whole
/// machine, a mark that the owner of a directory can write is not believed
/// unasked.
///
/// # Errors
/// What reading the mark gave.
pub fn override_stat(config: &Config, root: &OwnedFd) -> Result<Option<&'static CStr>> {
    match override_stat::asked(config.override_stat) {
        None if config.namespace == Namespace::Trusted && config.suid => Ok(None),
        None => override_stat::marked(Target::Fd(root.as_fd()).into()),
        asked => Ok(asked),
    }
}

/// Every read-only layer, and what is known across layers.
pub struct Layers {
    /// Lowers from the top, then data-only ones; `lower[0]` has [`LayerId`] 1.
    lower: Vec<Layer>,
    /// How many of them are ordinary lowers.
    ordinary: usize,
    /// The bounded set of directory descriptors.
    pub fds: Fds,
    /// The bounded set of name maps.
    pub maps: Maps,
    /// Where marks are kept.
    pub namespace: Namespace,
    devices: RwLock<Vec<u64>>,
    hidden: HashSet<(u64, u64)>,
    is_crossing: bool,
}

impl Layers {
    /// Opens the layers of a configuration, the upper excepted.
    ///
    /// # Errors
    /// A sentence that names the layer which cannot be opened, or `E2BIG` for
    /// more layers than an index can count.
    pub fn open(config: &Config) -> Result<Layers> {
        let paths = config.lowers.iter().chain(&config.data_only);
        let mut lower = Vec::new();
        for (index, path) in paths.enumerate() {
            let Ok(id) = LayerId::try_from(index + 1) else {
                return Err(Error::new(rustix::io::Errno::TOOBIG, "more than 65,535 layers"));
            };
            lower.push(Layer::open(id, path, config)?);
        }
        // An image's files are only as safe from writers as what holds their data.
        let holders_are_sealed = lower.iter().skip(config.lowers.len()).all(|layer| layer.is_sealed);
        for layer in lower.iter_mut().filter(|layer| layer.is_image()) {
            layer.is_sealed = holders_are_sealed;
        }
        let mut hidden = HashSet::new();
        for path in &config.hidden {
            let hidden_root = mount::hold_root(path, Submounts::Cross)
                .map_err(|e| Error::from(e).context(format_args!("cannot hide {}", path.display())))?;
            let stat = at::stat_fd(&hidden_root.fd)?;
            hidden.insert((stat.dev, stat.ino));
        }
        Ok(Layers {
            lower,
            ordinary: config.lowers.len(),
            fds: Fds::new(held_directories()),
            maps: Maps::new(config.dir_cache),
            namespace: config.namespace,
            devices: RwLock::new(Vec::new()),
            hidden,
            is_crossing: config.submounts == Submounts::Cross,
        })
    }

    /// The lowers that are listed and looked up in, topmost first.
    pub fn ordinary(&self) -> &[Layer] {
        &self.lower[..self.ordinary]
    }

    /// The layers that only hold data.
    pub fn data_only(&self) -> &[Layer] {
        &self.lower[self.ordinary..]
    }

    /// A read-only layer by its id.
    pub fn get(&self, id: LayerId) -> Option<&Layer> {
        self.lower.get(usize::from(id).checked_sub(1)?)
    }

    /// Opens a file of a layer for its data. Those of an image lie in the layers
    /// that only hold data.
    ///
    /// # Errors
    /// `EIO` for an object that is in none of them; what opening gave.
    pub fn open_file(&self, file: Object<'_>, access: OFlags) -> Result<OwnedFd> {
        match file {
            Object::Real(target) => Ok(at::open_file(target, access)?),
            Object::Image(..) if access != OFlags::RDONLY => Err(Errno::ROFS.into()),
            Object::Image(image, nid) => image.open(nid, |path| self.open_object(path)),
        }
    }

    fn open_object(&self, path: &[u8]) -> Result<OwnedFd> {
        for layer in self.data_only() {
            let Held::Fd(root) = layer.root.hold(&self.fds)? else { continue };
            if let Some(found) = at::open_beneath(root.as_fd(), path).absent()? {
                return Ok(found);
            }
        }
        let path = String::from_utf8_lossy(path);
        Err(Error::new(
            Errno::IO,
            format!("no layer has the object {path}\nhint: lowerdir=IMAGE::OBJECTS names where they are"),
        ))
    }

    /// Whether nothing ordinary is below this layer.
    pub fn is_bottom(&self, id: LayerId) -> bool {
        usize::from(id) == self.ordinary
    }

    /// A small number for a file's file system, the same for all its files.
    pub fn device(&self, stat: &Stat) -> u16 {
        self.device_number(stat.dev)
    }

    /// The same, of a directory at hand.
    ///
    /// # Errors
    /// What asking it gave, if that was necessary.
    pub fn device_in(&self, layer: LayerId, dir: &Held) -> Result<u16> {
        match self.get(layer).and_then(|layer| layer.device) {
            Some(device) => Ok(self.device_number(device)),
            None => Ok(self.device(&dir.object().stat()?)),
        }
    }

    fn device_number(&self, device: u64) -> u16 {
        let find = |devices: &[u64]| devices.iter().position(|&known| known == device);
        if let Some(index) = find(&self.devices.read()) {
            return index as u16;
        }
        let mut devices = self.devices.write();
        let index = find(&devices).unwrap_or_else(|| {
            devices.push(device);
            devices.len() - 1
        });
        // Beyond 65,535 file systems numbers may collide, and are then replaced
        // by private ones.
        index.min(usize::from(u16::MAX)) as u16
    }

    /// Whether a listed entry's number must be looked up: it may be hidden, or
    /// another file system may be mounted on it.
    pub fn must_look_up(&self, kind: FileType) -> bool {
        kind == FileType::Directory && (self.is_crossing || !self.hidden.is_empty())
    }

    /// Whether there are such directories as [`Layers::is_hidden`] asks for.
    pub fn hides(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// Whether a directory of a lower is to be treated as absent.
    pub fn is_hidden(&self, stat: &Stat) -> bool {
        !self.hidden.is_empty() && self.hidden.contains(&(stat.dev, stat.ino))
    }
}
