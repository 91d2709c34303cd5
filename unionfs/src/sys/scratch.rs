//! A directory for one test, removed with it. Compiled for tests only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};

/// An empty directory of this test's own.
pub struct Scratch {
    path: PathBuf,
    dir: OwnedFd,
}

impl Scratch {
    /// Below `parent`; the name tells the test and the process.
    pub fn on(parent: impl AsRef<Path>, test: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.as_ref().join(format!("unionfs-{test}-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let dir = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        Scratch { path, dir }
    }

    /// On the file system of the temporary directory.
    pub fn new(test: &str) -> Scratch {
        Scratch::on(std::env::temp_dir(), test)
    }

    /// One on the disk and one on tmpfs.
    pub fn on_each_file_system(test: &str) -> [Scratch; 2] {
        [Scratch::new(test), Scratch::on("/dev/shm", test)]
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It, open.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}
