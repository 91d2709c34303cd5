//! The writable layer: the only module that changes anything on disk.
//!
//! Every change becomes visible by one system call. What needs more than one
//! is prepared in the work directory, whose leftovers the next mount removes:
//! a crash leaves the old tree or the new one.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::real::{Fds, RealDir};
use crate::config::{Config, Namespace, UpperDirs};
use crate::error::{Absent, Error, Result};
use crate::name::{Name, NameBuf};
use crate::ondisk::marks::{self, Mark};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sys::at::{self, Target};
use crate::sys::{handle, mount};

/// How long the last user of an upper may take to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How "not here" is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhiteoutForm {
    /// A character device 0/0.
    Device,
    /// An empty file with an attribute, in a directory that is marked for it.
    Xattr,
}

/// The writable layer.
pub struct Upper {
    /// Root of the tree of changes.
    pub root: Arc<RealDir>,
    /// Where hard-linked lower files are kept by their file handle.
    pub index: Option<Arc<RealDir>>,
    /// The namespace marks are written in.
    pub namespace: Namespace,
    /// The attribute owners and modes are kept in, if they are.
    pub override_stat: Option<&'static CStr>,
    /// The file system's identity, as file handles carry it.
    pub uuid: [u8; 16],
    work: OwnedFd,
    whiteouts: WhiteoutForm,
    /// Whether the file system can make unnamed files.
    unnamed: bool,
    /// Whether marks can be written.
    marked: bool,
    /// Whether what is published must have reached the disk first.
    durable: bool,
    sequence: AtomicU64,
    /// Held while mounted, so that nobody else uses the same upper.
    _locks: [OwnedFd; 2],
}

impl Upper {
    /// Opens the writable layer, takes it for this union alone and removes
    /// what an earlier one left in the work directory.
    ///
    /// # Errors
    /// A sentence that names the directory: missing, in use, or on another file
    /// system than its companion.
    pub fn open(dirs: &UpperDirs, config: &Config) -> Result<Upper> {
        let namespace = config.namespace;
        let [upper, work_root] = open_roots(dirs)?;
        check_companions(dirs, &upper, &work_root)?;
        let locks = [lock(&dirs.upper, &upper)?, lock(&dirs.work, &work_root)?];
        let work = open_work(&dirs.work, &work_root)?;
        let marked = probe_marks(dirs, work.as_fd(), namespace)?;
        let index_dir = match config.index && marked {
            true => Some(RealDir::root(0, make_dir(work_root.as_fd(), name(b"index")?)?)),
            false => None,
        };
        let uuid = handle::file_system_uuid(locks[0].as_fd());
        let whiteouts = probe_whiteouts(work.as_fd())?;
        let unnamed = at::tmpfile(work.as_fd(), 0o600).is_ok();
        Ok(Upper {
            override_stat: super::layer::override_stat(config, &upper)?,
            root: RealDir::root(0, upper),
            index: index_dir,
            namespace,
            uuid,
            work,
            whiteouts,
            unnamed,
            marked,
            durable: !config.volatile,
            sequence: AtomicU64::new(0),
            _locks: locks,
        })
    }

    /// The directory changes are prepared in.
    pub fn work(&self) -> BorrowedFd<'_> {
        self.work.as_fd()
    }

    /// Whether files can be staged without a name.
    pub fn has_unnamed(&self) -> bool {
        self.unnamed
    }

    /// Whether marks can be written: metacopies, redirects and the index are
    /// nothing without.
    pub fn has_marks(&self) -> bool {
        self.marked
    }

    /// Whether fsync is asked for before a file shows.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// A name in the work directory that nobody has.
    pub fn temporary(&self) -> Result<NameBuf> {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        Ok(Name::new(format!("#{number:x}").as_bytes())?.to_buf())
    }

    /// Hides a name of the lowers where the upper has nothing.
    ///
    /// # Errors
    /// What the file system gave.
    pub fn whiteout(&self, dir: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
        match self.whiteouts {
            WhiteoutForm::Device => Ok(at::mknod(dir, name, FileType::CharacterDevice, 0, 0)?),
            WhiteoutForm::Xattr => {
                let staged = self.stage_xattr_whiteout(dir)?;
                self.rename_from_work(staged.as_name(), dir, name, RenameFlags::NOREPLACE)
            }
        }
    }

    /// Replaces the upper's entry by a whiteout; the entry goes to the work
    /// directory and is returned by its name there, to be discarded.
    ///
    /// # Errors
    /// What the file system gave; the entry then is where it was.
    pub fn whiteout_over(&self, dir: BorrowedFd<'_>, name: Name<'_>) -> Result<NameBuf> {
        let out = self.temporary()?;
        if self.whiteouts == WhiteoutForm::Device {
            match at::rename(dir, name, self.work(), out.as_name(), RenameFlags::WHITEOUT) {
                // Not every file system has it; an exchange does the same.
                Err(Errno::INVAL) => {}
                result => return result.map(|()| out).map_err(Error::from),
            }
        }
        let staged = match self.whiteouts {
            WhiteoutForm::Device => {
                at::mknod(self.work(), out.as_name(), FileType::CharacterDevice, 0, 0)?;
                out
            }
            WhiteoutForm::Xattr => self.stage_xattr_whiteout(dir)?,
        };
        self.rename_from_work(staged.as_name(), dir, name, RenameFlags::EXCHANGE)?;
        Ok(staged)
    }

    /// Moves an entry, leaving a whiteout where it was.
    ///
    /// # Errors
    /// What the file system gave. Without RENAME_WHITEOUT the move and the
    /// whiteout are two steps, and a crash between them leaves the whiteout out.
    pub fn move_leaving_whiteout(
        &self,
        from: (BorrowedFd<'_>, Name<'_>),
        to: (BorrowedFd<'_>, Name<'_>),
    ) -> Result<()> {
        if self.whiteouts == WhiteoutForm::Device {
            match at::rename(from.0, from.1, to.0, to.1, RenameFlags::WHITEOUT) {
                Err(Errno::INVAL) => {}
                result => return Ok(result?),
            }
        }
        at::rename(from.0, from.1, to.0, to.1, RenameFlags::empty())?;
        self.whiteout(from.0, from.1)
    }

    fn stage_xattr_whiteout(&self, dir: BorrowedFd<'_>) -> Result<NameBuf> {
        marks::set(Target::Fd(dir), self.namespace, Mark::Opaque, b"x")?;
        let staged = self.temporary()?;
        at::create(self.work(), staged.as_name(), 0)?;
        marks::set(Target::At(self.work(), staged.as_name()), self.namespace, Mark::Whiteout, b"y")?;
        Ok(staged)
    }

    fn rename_from_work(
        &self,
        staged: Name<'_>,
        dir: BorrowedFd<'_>,
        name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<()> {
        let renamed = at::rename(self.work(), staged, dir, name, flags);
        if renamed.is_err() {
            self.discard(staged);
        }
        Ok(renamed?)
    }

    /// Removes what lies under a name of the work directory, a whole tree of
    /// whiteouts included. A failure is tolerated: nothing there is reachable,
    /// and the next mount empties the directory.
    pub fn discard(&self, name: Name<'_>) {
        remove_tree(self.work(), name).unwrap_or_else(|error| {
            crate::log::warn(format_args!("cannot empty the work directory: {error}"));
        });
    }

    /// Puts the upper's own descriptor set to rest on disk.
    ///
    /// # Errors
    /// What syncfs gave.
    pub fn sync(&self) -> Result<()> {
        if self.durable {
            rustix::fs::syncfs(&self._locks[0])?;
        }
        Ok(())
    }

    /// Opens the upper's root for statfs.
    pub fn root_fd(&self, fds: &Fds) -> Result<super::real::Fd> {
        self.root.fd(fds)
    }
}

fn name(bytes: &[u8]) -> Result<Name<'_>> {
    Ok(Name::new(bytes)?)
}

fn open_roots(dirs: &UpperDirs) -> Result<[OwnedFd; 2]> {
    mount::hold_pair([&dirs.upper, &dirs.work]).map_err(|errno| {
        let (upper, work) = (dirs.upper.display(), dirs.work.display());
        Error::from(errno).context(format_args!("cannot open upperdir {upper} or workdir {work}"))
    })
}

fn check_companions(dirs: &UpperDirs, upper: &OwnedFd, work: &OwnedFd) -> Result<()> {
    let (upper_stat, work_stat) = (at::stat_fd(upper)?, at::stat_fd(work)?);
    if upper_stat.dev != work_stat.dev {
        let sentence = format!(
            "upperdir {} and workdir {} are on different file systems\nhint: put workdir beside upperdir",
            dirs.upper.display(),
            dirs.work.display()
        );
        return Err(Error::new(Errno::XDEV, sentence));
    }
    if upper_stat.ino == work_stat.ino {
        let sentence = format!("upperdir and workdir are both {}", dirs.upper.display());
        return Err(Error::new(Errno::INVAL, sentence));
    }
    Ok(())
}

/// Takes a directory for this process until it ends. The process of a mount
/// that is gone may not have ended yet: nothing waits for it in umount(2).
fn lock(path: &Path, dir: &OwnedFd) -> Result<OwnedFd> {
    let context = |errno: Errno| Error::from(errno).context(format_args!("cannot open {}", path.display()));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, c".", flags, Mode::empty()).map_err(context)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    let attempt = loop {
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            attempt => break attempt,
        }
    };
    match attempt {
        Ok(()) => Ok(fd),
        Err(Errno::WOULDBLOCK) => {
            let sentence = format!(
                "{} is in use by another mount\nhint: every mount needs an upperdir and a workdir of its own",
                path.display()
            );
            Err(Error::new(Errno::BUSY, sentence))
        }
        Err(errno) => Err(context(errno)),
    }
}

/// Opens `work` in the work directory, empty.
fn open_work(path: &Path, root: &OwnedFd) -> Result<OwnedFd> {
    let work = name(b"work")?;
    let context = |error: Error| error.context(format_args!("cannot ready {}", path.display()));
    if let Some(dir) = at::open_dir(root.as_fd(), work).absent()? {
        if at::stat(Target::At(dir.as_fd(), name(b"incompat")?)).absent()?.is_some() {
            let sentence = format!(
                "{0} was last used by a volatile mount of the kernel's\nhint: if the machine did not go down meanwhile, remove {0}/work/incompat",
                path.display()
            );
            return Err(Error::new(Errno::INVAL, sentence));
        }
        empty(dir.as_fd()).map_err(context)?;
    }
    make_dir(root.as_fd(), work).map_err(context)
}

fn make_dir(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<OwnedFd> {
    match at::mkdir(dir, name, 0o700) {
        Ok(()) | Err(Errno::EXIST) => Ok(at::open_dir(dir, name)?),
        Err(errno) => Err(errno.into()),
    }
}

/// Tries whether this file system carries the mount's marks.
fn probe_marks(dirs: &UpperDirs, work: BorrowedFd<'_>, namespace: Namespace) -> Result<bool> {
    let target = Target::Fd(work);
    match marks::set(target, namespace, Mark::Opaque, b"0") {
        Ok(()) => marks::clear(target, namespace, Mark::Opaque).map(|()| true),
        Err(error) if matches!(error.errno(), Errno::OPNOTSUPP | Errno::NOSYS) => {
            crate::log::warn(format_args!(
                "upperdir {} carries no extended attributes: no metacopies, no index, and directories of the lowers do not move",
                dirs.upper.display()
            ));
            Ok(false)
        }
        Err(error) => Err(error.context("cannot mark the work directory")),
    }
}

/// Tries what this file system and this process allow.
fn probe_whiteouts(work: BorrowedFd<'_>) -> Result<WhiteoutForm> {
    let probe = name(b"#probe")?;
    match at::mknod(work, probe, FileType::CharacterDevice, 0, 0) {
        Ok(()) => {
            at::unlink(work, probe)?;
            Ok(WhiteoutForm::Device)
        }
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => Ok(WhiteoutForm::Xattr),
        Err(errno) => Err(Error::from(errno).context("cannot write to the work directory")),
    }
}

/// Removes every entry of a directory.
fn empty(dir: BorrowedFd<'_>) -> Result<()> {
    let mut entries = Vec::new();
    at::list(dir, |entry| -> Result<()> {
        entries.push(Name::new(entry.name)?.to_buf());
        Ok(())
    })?;
    for entry in entries {
        remove_tree(dir, entry.as_name())?;
    }
    Ok(())
}

/// Removes a file or a directory with all it holds, never through a symlink.
/// Depth is bounded by what was staged: directories in work are made of
/// whiteouts, one level deep, and of what earlier crashes left.
fn remove_tree(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
    match at::unlink(dir, name) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    match at::rmdir(dir, name) {
        Ok(()) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            let inner = at::open_dir(dir, name)?;
            empty(inner.as_fd())?;
            Ok(at::rmdir(dir, name)?)
        }
        Err(errno) => Err(errno.into()),
    }
}
