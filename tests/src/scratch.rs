//! A directory for one test, on the file system the test asks for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::mount::enter_private_namespace;

/// What a scratch directory lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// The file system of the temporary directory (`TMPDIR`).
    Disk,
    /// A tmpfs of its own.
    Tmpfs,
    /// A tmpfs of so many MiB, for full disks.
    SmallTmpfs(u32),
    /// A tmpfs with room for so many inodes.
    FewInodes(u32),
    /// A fresh ext4 of so many MiB, its image held in memory: fsync is cheap
    /// and the limits are known.
    Ext4(u32),
}

/// A directory that goes away with the value, and what is mounted on it too.
pub struct Scratch {
    path: PathBuf,
    mounted: bool,
    image: Option<PathBuf>,
}

impl Scratch {
    /// A new, empty directory on `backing`. The calling thread gets a private
    /// mount namespace.
    ///
    /// # Errors
    /// Those of mkdir, mkfs and mount.
    pub fn new(backing: Backing) -> io::Result<Scratch> {
        enter_private_namespace()?;
        let path = fresh(&std::env::temp_dir());
        fs::create_dir(&path)?;
        let mut scratch = Scratch { path, mounted: false, image: None };
        match backing {
            Backing::Disk => {}
            Backing::Tmpfs => scratch.mount_tmpfs("size=4g,nr_inodes=0")?,
            Backing::SmallTmpfs(mib) => scratch.mount_tmpfs(&format!("size={mib}m,nr_inodes=0"))?,
            Backing::FewInodes(inodes) => scratch.mount_tmpfs(&format!("size=64m,nr_inodes={inodes}"))?,
            Backing::Ext4(mib) => scratch.mount_ext4(mib)?,
        }
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in it.
    ///
    /// # Errors
    /// Those of mkdir.
    pub fn dir(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    fn mount_tmpfs(&mut self, limits: &str) -> io::Result<()> {
        let options = std::ffi::CString::new(format!("{limits},mode=755"))?;
        mount("tmpfs", &self.path, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))?;
        self.mounted = true;
        Ok(())
    }

    fn mount_ext4(&mut self, mib: u32) -> io::Result<()> {
        let memory = Path::new("/dev/shm");
        let temp = std::env::temp_dir();
        let image = fresh(if memory.is_dir() { memory } else { &temp });
        fs::File::create(&image)?.set_len(u64::from(mib) << 20)?;
        self.image = Some(image.clone());
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&self.path))?;
        self.mounted = true;
        match fs::remove_dir(self.path.join("lost+found")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a union that failed to unmount may still lie inside.
            report("unmount", &self.path, unmount(&self.path, UnmountFlags::DETACH).map_err(Into::into));
        }
        if let Some(image) = &self.image {
            report("remove", image, fs::remove_file(image));
        }
        report("remove", &self.path, fs::remove_dir_all(&self.path));
    }
}

/// A failed clean-up is worth a line, not a second failure.
fn report(action: &str, path: &Path, result: io::Result<()>) {
    if let Err(error) = result {
        eprintln!("cannot {action} {}: {error}", path.display());
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}

/// A path below `parent` that no other test uses.
fn fresh(parent: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    parent.join(format!("runionfs-test-{}-{number}", std::process::id()))
}
