//! One directory of one layer, and the bounded set of descriptors held on them.
//!
//! Everything in a layer is reached as (directory descriptor, name). A
//! [`RealDir`] knows its parent and name, so a descriptor that was given up can
//! be had again; a directory moved by a rename is told its new place, and one
//! that was removed keeps its descriptor to the end.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::Result;
use crate::image::Nid;
use crate::name::{Name, NameBuf};
use crate::object::{Image, Object, file_type};
use crate::ondisk::marks::Opacity;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Arc, Mutex, RwLock, Weak};
use crate::sys::at::{self, DirEntry, Target};
use crate::sys::handle::{self, Handle};

/// Index of a layer in the stack: 0 is the upper (there or not), then the
/// lowers from the top, then the data-only ones.
pub type LayerId = u16;

/// A descriptor that several operations may be using.
pub type Fd = Arc<OwnedFd>;

/// A directory of a layer, at hand.
#[derive(Clone)]
pub enum Held {
    /// Of a file system, by a descriptor that may be `O_PATH`.
    Fd(Fd),
    /// Of an image.
    Image(Arc<Image>, Nid),
}

impl Held {
    /// The directory itself.
    pub fn object(&self) -> Object<'_> {
        match self {
            Held::Fd(fd) => Target::Fd(fd.as_fd()).into(),
            Held::Image(image, dir) => Object::Image(image, Some(*dir)),
        }
    }

    /// What has this name in it, which may be nothing.
    ///
    /// # Errors
    /// Of an image: what is wrong with it.
    pub fn at<'a>(&'a self, name: Name<'a>) -> rustix::io::Result<Object<'a>> {
        match self {
            Held::Fd(fd) => Ok(Target::At(fd.as_fd(), name).into()),
            Held::Image(image, dir) => Ok(Object::Image(image, image.find(*dir, name.bytes())?)),
        }
    }

    fn list(&self, mut visit: impl FnMut(DirEntry<'_>) -> Result<()>) -> Result<()> {
        match self {
            Held::Fd(fd) => at::list(fd.as_fd(), visit),
            Held::Image(image, dir) => {
                for entry in image.index.entries(*dir, 0)? {
                    let entry = entry?;
                    visit(DirEntry { name: entry.name, kind: file_type(entry.kind), ino: entry.nid.0 })?;
                }
                Ok(())
            }
        }
    }

    /// Its descriptor.
    ///
    /// # Errors
    /// `EROFS` for what is in no file system.
    pub fn fd(self) -> Result<Fd> {
        match self {
            Held::Fd(fd) => Ok(fd),
            Held::Image(..) => Err(Errno::ROFS.into()),
        }
    }

    /// The handle of the directory, or of what has a name in it; `None` where the
    /// file system has none.
    ///
    /// # Errors
    /// What the system call says.
    pub fn handle(&self, name: Option<Name<'_>>) -> Result<Option<Handle>> {
        match (self, name) {
            (Held::Fd(fd), name) => handle::of(fd.as_fd(), name),
            (Held::Image(_, dir), None) => Ok(Some(Image::handle(*dir))),
            (Held::Image(image, dir), Some(name)) => {
                Ok(Some(Image::handle(image.find(*dir, name.bytes())?.ok_or(Errno::NOENT)?)))
            }
        }
    }
}

/// How a directory is opened: by its parent's descriptor and its name.
type Open = fn(BorrowedFd<'_>, Name<'_>) -> rustix::io::Result<OwnedFd>;

/// A directory at hand, to be listed once.
pub struct Unlisted {
    held: Held,
    opened: Opened,
}

/// Whether a directory was at hand before it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    /// It was, perhaps by a descriptor that reads nothing.
    Before,
    /// It was opened for the purpose, and nobody else reads by the descriptor.
    Now,
}

impl Unlisted {
    /// The directory.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Calls `visit` for each entry but `.` and `..`, and gives the directory.
    ///
    /// # Errors
    /// What opening or reading it gave, or `visit`.
    pub fn list(self, fds: &Fds, mut visit: impl FnMut(DirEntry<'_>) -> Result<()>) -> Result<Held> {
        match (&self.held, self.opened) {
            (Held::Fd(fd), Opened::Now) => at::list_opened(fd.as_fd(), visit)?,
            (held, _) => fds.making_room(|| held.list(&mut visit))?,
        }
        Ok(self.held)
    }
}

/// One directory of one layer.
pub struct RealDir {
    /// Its layer.
    pub layer: LayerId,
    at: RwLock<Place>,
    held: RwLock<Option<Held>>,
    used: AtomicBool,
    opacity: AtomicU8,
    has_no_opaque_file: AtomicBool,
}

enum Place {
    /// The layer's root: its descriptor is never given up.
    Root,
    /// An entry of another directory.
    In(Arc<RealDir>, NameBuf),
    /// Removed: only the descriptor is left.
    Gone,
}

impl RealDir {
    /// The root of a layer in a file system.
    pub fn root(layer: LayerId, fd: OwnedFd) -> Arc<RealDir> {
        RealDir::root_held(layer, Held::Fd(Arc::new(fd)))
    }

    /// The root of a layer.
    pub fn root_held(layer: LayerId, root: Held) -> Arc<RealDir> {
        Arc::new(RealDir {
            layer,
            at: RwLock::new(Place::Root),
            held: RwLock::new(Some(root)),
            used: AtomicBool::new(true),
            opacity: AtomicU8::new(0),
            has_no_opaque_file: AtomicBool::new(false),
        })
    }

    /// The directory `name` in `parent`, not opened yet.
    pub fn new(parent: &Arc<RealDir>, name: Name<'_>) -> Arc<RealDir> {
        Arc::new(RealDir {
            layer: parent.layer,
            at: RwLock::new(Place::In(parent.clone(), name.to_buf())),
            held: RwLock::new(None),
            used: AtomicBool::new(false),
            opacity: AtomicU8::new(0),
            has_no_opaque_file: AtomicBool::new(false),
        })
    }

    /// Whether it is a directory of an image; known of one at hand.
    pub fn is_of_image(&self) -> bool {
        matches!(*self.held.read(), Some(Held::Image(..)))
    }

    /// A descriptor of the directory, opened if none is held.
    ///
    /// # Errors
    /// As [`RealDir::hold`]; `EROFS` for what is in no file system.
    pub fn fd(self: &Arc<Self>, fds: &Fds) -> Result<Fd> {
        self.hold(fds)?.fd()
    }

    /// The directory at hand, opened if it is not.
    ///
    /// # Errors
    /// What opening it gave; `ENOENT` once it is gone without a descriptor.
    pub fn hold(self: &Arc<Self>, fds: &Fds) -> Result<Held> {
        Ok(self.open(fds, at::open_dir)?.0)
    }

    /// The directory at hand, to be listed: if it has to be opened, then in such
    /// a way that it need not be opened once more.
    ///
    /// # Errors
    /// As [`RealDir::hold`], and `EACCES`.
    pub fn unlisted(self: &Arc<Self>, fds: &Fds) -> Result<Unlisted> {
        let (held, opened) = self.open(fds, at::open_dir_to_list)?;
        Ok(Unlisted { held, opened })
    }

    fn open(self: &Arc<Self>, fds: &Fds, how: Open) -> Result<(Held, Opened)> {
        if let Some(held) = self.held() {
            return Ok((held, Opened::Before));
        }
        // Up to the first directory with a descriptor, then down again: paths
        // may be far deeper than a stack.
        let mut closed = vec![self.clone()];
        let mut held = loop {
            let parent = match closed.last().map(|dir| dir.parent()) {
                Some(Some(parent)) => parent,
                _ => return Err(Errno::NOENT.into()),
            };
            match parent.held() {
                Some(held) => break held,
                None => closed.push(parent),
            }
        };
        let mut opened = Opened::Before;
        for dir in closed.iter().rev() {
            let how = if Arc::ptr_eq(dir, self) { how } else { at::open_dir };
            (held, opened) = fds.making_room(|| dir.open_in(&held, how))?;
            if let Held::Fd(_) = held {
                fds.opened(dir);
            }
        }
        Ok((held, opened))
    }

    /// What its marks say of the layers below, if they were read.
    pub fn opacity(&self) -> Option<Opacity> {
        let known = self.opacity.load(Ordering::Relaxed);
        OPACITIES.into_iter().find(|opacity| known == code(*opacity))
    }

    /// Notes what its marks say of the layers below; of lowers, which do not
    /// change.
    pub fn note_opacity(&self, opacity: Opacity) {
        self.opacity.store(code(opacity), Ordering::Relaxed);
    }

    /// Whether it was found to hold no file that makes it opaque.
    pub fn is_known_without_opaque_file(&self) -> bool {
        self.has_no_opaque_file.load(Ordering::Relaxed)
    }

    /// Notes that it holds no such file.
    pub fn note_no_opaque_file(&self) {
        self.has_no_opaque_file.store(true, Ordering::Relaxed);
    }

    fn held(&self) -> Option<Held> {
        let held = self.held.read().clone();
        if held.is_some() {
            self.used.store(true, Ordering::Relaxed);
        }
        held
    }

    fn parent(&self) -> Option<Arc<RealDir>> {
        match &*self.at.read() {
            Place::In(parent, _) => Some(parent.clone()),
            Place::Root | Place::Gone => None,
        }
    }

    /// Opens the directory below its parent's descriptor; a rename of it waits.
    fn open_in(&self, parent: &Held, how: Open) -> Result<(Held, Opened)> {
        let at = self.at.read();
        let Place::In(_, name) = &*at else { return Err(Errno::NOENT.into()) };
        let new = match parent {
            Held::Fd(parent) => Held::Fd(Arc::new(how(parent.as_fd(), name.as_name())?)),
            Held::Image(image, parent) => {
                let found = image.find(*parent, name.as_name().bytes())?.ok_or(Errno::NOENT)?;
                Held::Image(image.clone(), found)
            }
        };
        let mut held = self.held.write();
        Ok(match &*held {
            Some(held) => (held.clone(), Opened::Before),
            None => (held.insert(new).clone(), Opened::Now),
        })
    }

    /// Runs `rename`, which gives the directory a new place, and notes it: no
    /// descriptor is opened by the old place meanwhile.
    ///
    /// # Errors
    /// What `rename` gave; the place is then unchanged.
    pub fn moved<T>(
        &self,
        parent: &Arc<RealDir>,
        name: Name<'_>,
        rename: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut at = self.at.write();
        let value = rename()?;
        *at = Place::In(parent.clone(), name.to_buf());
        Ok(value)
    }

    /// Runs `remove`, after which the directory has no place: its descriptor
    /// stays for whoever still holds it.
    ///
    /// # Errors
    /// What opening it or `remove` gave; nothing is changed then.
    pub fn removed<T>(self: &Arc<Self>, fds: &Fds, remove: impl FnOnce() -> Result<T>) -> Result<T> {
        let held = self.hold(fds)?;
        let mut at = self.at.write();
        let value = remove()?;
        *at = Place::Gone;
        *self.held.write() = Some(held);
        Ok(value)
    }

    /// The names from the layer's root down to here.
    pub fn path(&self) -> Vec<NameBuf> {
        let mut names = Vec::new();
        let mut next = self.step(&mut names);
        while let Some(dir) = next {
            next = dir.step(&mut names);
        }
        names.reverse();
        names
    }

    fn step(&self, names: &mut Vec<NameBuf>) -> Option<Arc<RealDir>> {
        match &*self.at.read() {
            Place::In(parent, name) => {
                names.push(name.clone());
                Some(parent.clone())
            }
            Place::Root | Place::Gone => None,
        }
    }

    /// Gives up the descriptor, unless the directory could not be had again.
    fn give_up(&self) {
        if matches!(*self.at.read(), Place::In(..)) {
            *self.held.write() = None;
        }
    }
}

const OPACITIES: [Opacity; 3] = [Opacity::Transparent, Opacity::XattrWhiteouts, Opacity::Opaque];

/// 0 is not known.
fn code(opacity: Opacity) -> u8 {
    opacity as u8 + 1
}

/// The directories whose descriptors may be given up, oldest first: a clock.
pub struct Fds {
    limit: usize,
    queue: Mutex<VecDeque<Weak<RealDir>>>,
}

impl Fds {
    /// Holds at most about `limit` descriptors.
    pub fn new(limit: usize) -> Fds {
        Fds { limit, queue: Mutex::new(VecDeque::new()) }
    }

    /// Opens something, and tries once more with half of the directories closed
    /// where this process may have no more descriptors.
    ///
    /// # Errors
    /// What `open` gave.
    pub fn making_room<T>(&self, mut open: impl FnMut() -> Result<T>) -> Result<T> {
        match open() {
            Err(error) if error.errno() == Errno::MFILE => {
                self.give_up_half();
                open()
            }
            result => result,
        }
    }

    fn give_up_half(&self) {
        let victims: Vec<_> = {
            let mut queue = self.queue.lock();
            let half = queue.len().div_ceil(2);
            queue.drain(..half).collect()
        };
        for victim in victims.iter().filter_map(Weak::upgrade) {
            victim.give_up();
        }
    }

    fn opened(&self, dir: &Arc<RealDir>) {
        let mut victims = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.push_back(Arc::downgrade(dir));
            let mut chances = queue.len();
            while queue.len() > self.limit && chances > 0 {
                chances -= 1;
                let Some(oldest) = queue.pop_front() else { break };
                let Some(oldest) = oldest.upgrade() else { continue };
                if oldest.used.swap(false, Ordering::Relaxed) {
                    queue.push_back(Arc::downgrade(&oldest));
                } else {
                    victims.push(oldest);
                }
            }
        }
        for victim in victims {
            victim.give_up();
        }
    }
}

/// A file of a layer: its directory there and its name.
#[derive(Clone)]
pub struct Spot {
    /// The directory.
    pub dir: Arc<RealDir>,
    /// The name in it.
    pub name: NameBuf,
}

impl Spot {
    /// Calls `f` with the file as a system call names it.
    ///
    /// # Errors
    /// What opening the directory or `f` gave.
    pub fn with<T>(&self, fds: &Fds, f: impl FnOnce(Object<'_>) -> Result<T>) -> Result<T> {
        f(self.dir.hold(fds)?.at(self.name.as_name())?)
    }
}
