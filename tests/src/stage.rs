//! The usual set-up of a test: some lower layers, an upper, a mount point.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::mount::{Driver, Layers, Mount};
use crate::scratch::{Backing, Scratch};
use crate::tree::Tree;

/// Directories for one union.
pub struct Stage {
    /// What all of it lies in.
    pub scratch: Scratch,
    /// Topmost first.
    pub lowers: Vec<PathBuf>,
    /// The upper directory.
    pub upper: PathBuf,
    /// The work directory.
    pub work: PathBuf,
    /// The mount point.
    pub merged: PathBuf,
    before: Vec<Tree>,
}

impl Stage {
    /// So many empty lower layers, and the rest.
    ///
    /// # Errors
    /// Those of the backing and of mkdir.
    pub fn new(backing: Backing, lowers: usize) -> io::Result<Stage> {
        let scratch = Scratch::new(backing)?;
        let lowers =
            (0..lowers).map(|n| scratch.dir(&format!("lower{n}"))).collect::<io::Result<Vec<_>>>()?;
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| scratch.dir(name));
        Ok(Stage { lowers, upper: upper?, work: work?, merged: merged?, scratch, before: Vec::new() })
    }

    /// The layers with the default features.
    pub fn layers(&self) -> Layers {
        Layers {
            lowers: self.lowers.clone(),
            upper: Some((self.upper.clone(), self.work.clone())),
            ..Layers::default()
        }
    }

    /// Mounts them.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn mount(&self, driver: Driver) -> io::Result<Mount> {
        Mount::new(driver, &self.layers(), &self.merged)
    }

    /// Remembers the lower layers as they are.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn seal(&mut self) -> io::Result<()> {
        self.before = self.lowers.iter().map(|lower| Tree::read(lower)).collect::<io::Result<_>>()?;
        Ok(())
    }

    /// How the lower layers differ from what they were when sealed.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn damage(&self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        for (lower, before) in self.lowers.iter().zip(&self.before) {
            lines.extend(before.differences(&Tree::read(lower)?, &[]));
        }
        Ok(lines)
    }

    /// Empties upper and work directory.
    ///
    /// # Errors
    /// Those of rm and mkdir.
    pub fn renew(&self) -> io::Result<()> {
        for dir in [&self.upper, &self.work] {
            fs::remove_dir_all(dir)?;
            fs::create_dir(dir)?;
        }
        Ok(())
    }
}

/// Writes `path` below `root` with its parents.
///
/// # Errors
/// Those of mkdir and write.
pub fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)
}
