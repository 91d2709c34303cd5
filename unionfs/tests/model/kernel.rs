//! Kernel overlayfs as the subject, mounted with all its features on, in a mount
//! namespace of the calling thread.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::compare::{Seen, join, walk};
use crate::reference::{Content, Ids, Replace, Slot};
use crate::steps::Operation;
use crate::{Directories, Subject};

pub struct Mounted {
    options: std::ffi::CString,
    root: PathBuf,
}

impl Mounted {
    /// Takes a private mount namespace for this thread and tries to mount.
    pub fn is_possible() -> Result<(), String> {
        // SAFETY: only the mount namespace is left; descriptors stay shared.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
            .map_err(|errno| format!("no mount namespace of one's own: {errno}"))?;
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change("/", private).map_err(|errno| format!("private mounts: {errno}"))?;
        let (directories, _) = Directories::make(&[vec![]]);
        Mounted::prepare(&directories).mount().map_err(|errno| format!("kernel overlayfs: {errno}"))
    }

    pub fn new(directories: &Directories) -> Mounted {
        let mounted = Mounted::prepare(directories);
        mounted.mount().unwrap();
        mounted
    }

    fn prepare(directories: &Directories) -> Mounted {
        let lowers: Vec<_> = directories.lowers.iter().map(|path| path.as_os_str().as_bytes()).collect();
        let options = [
            &b"redirect_dir=on,metacopy=on,index=on,xino=on,lowerdir="[..],
            &lowers.join(&b':'),
            b",upperdir=",
            directories.upper.as_os_str().as_bytes(),
            b",workdir=",
            directories.work.as_os_str().as_bytes(),
        ];
        let options = std::ffi::CString::new(options.concat()).unwrap();
        Mounted { options, root: directories.merged.clone() }
    }

    fn mount(&self) -> rustix::io::Result<()> {
        rustix::mount::mount("model", &self.root, c"overlay", MountFlags::empty(), &*self.options)
    }

    fn path(&self, slot: &Slot) -> PathBuf {
        join(&self.root, &slot.dir).join(&slot.name)
    }

    /// As root, then given away: the kernel would ask whether the caller may
    /// write in the directory, and that is not the question here.
    fn make(&self, slot: &Slot, what: &Content, mode: u32, by: Ids) -> rustix::io::Result<()> {
        let path = self.path(slot);
        let kind_mode = Mode::from_raw_mode(mode);
        match what {
            Content::Dir(_) => rustix::fs::mkdir(&path, kind_mode)?,
            Content::File(_) => rustix::fs::mknodat(CWD, &path, FileType::RegularFile, kind_mode, 0)?,
            Content::Fifo => rustix::fs::mknodat(CWD, &path, FileType::Fifo, kind_mode, 0)?,
            Content::Symlink(target) => rustix::fs::symlink(target, &path)?,
        }
        let passes_group = join(&self.root, &slot.dir).metadata().unwrap().mode() & 0o2000 != 0;
        let gid = if passes_group { None } else { Some(by.gid) };
        std::os::unix::fs::lchown(&path, Some(by.uid), gid).unwrap();
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(errno) = rustix::mount::unmount(&self.root, UnmountFlags::DETACH) {
            // It goes with the namespace.
            println!("{} stays mounted: {errno}", self.root.display());
        }
    }
}

impl Subject for Mounted {
    fn apply(&mut self, operation: &Operation) -> Result<(), Errno> {
        let io = |result: std::io::Result<()>| {
            result.map_err(|error| Errno::from_raw_os_error(error.raw_os_error().unwrap()))
        };
        match operation {
            Operation::Make { at, what, mode, by } => self.make(at, what, *mode, *by),
            Operation::Unlink(file) => rustix::fs::unlink(self.path(file)),
            Operation::Rmdir(dir) => rustix::fs::rmdir(self.path(dir)),
            Operation::Link { file, new } => rustix::fs::link(self.path(file), self.path(new)),
            Operation::Rename { from, to, replace } => {
                let flags = match replace {
                    Replace::Allowed => RenameFlags::empty(),
                    Replace::Refused => RenameFlags::NOREPLACE,
                    Replace::Exchange => RenameFlags::EXCHANGE,
                };
                rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), flags)
            }
            Operation::Write { file, offset, bytes } => {
                // A fifo would wait for its reader.
                let path = self.path(file);
                if !path.symlink_metadata().unwrap().is_file() {
                    return Err(Errno::INVAL);
                }
                let file = std::fs::File::options().write(true).open(path);
                io(file.and_then(|file| file.write_all_at(bytes, *offset as u64)))
            }
            Operation::Truncate { file, len } => {
                let path = self.path(file);
                if !path.symlink_metadata().unwrap().is_file() {
                    return Err(Errno::INVAL);
                }
                io(std::fs::File::options().write(true).open(path).and_then(|file| file.set_len(*len as u64)))
            }
            Operation::Chmod { file, mode } => {
                let path = self.path(file);
                if path.is_symlink() {
                    return Err(Errno::OPNOTSUPP);
                }
                io(std::fs::set_permissions(path, PermissionsExt::from_mode(*mode)))
            }
            Operation::Chown { file, ids } => {
                io(std::os::unix::fs::lchown(self.path(file), Some(ids.uid), Some(ids.gid)))
            }
            Operation::SetXattr { file, name, value: Some(value) } => {
                rustix::fs::lsetxattr(self.path(file), *name, value, XattrFlags::empty())
            }
            Operation::SetXattr { file, name, value: None } => {
                rustix::fs::lremovexattr(self.path(file), *name)
            }
            Operation::Reopen => {
                rustix::mount::unmount(&self.root, UnmountFlags::empty())?;
                self.mount()
            }
        }
    }

    fn observe(&mut self) -> Seen {
        walk(&self.root)
    }

    fn has_vfs(&self) -> bool {
        true
    }
}
