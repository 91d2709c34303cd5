//! One of the two file systems under comparison.

use std::io;
use std::path::{Path, PathBuf};

use super::execute::{Place, open_root};
use super::outcome::{Known, Mtime};
use crate::mount::{Driver, Layers, Mount};
use crate::tree::Tree;

/// What stands for every modification time since the case started.
pub const RECENT: i128 = -1;

/// A union mounted by one driver, and what a program has open in it.
pub struct Side {
    driver: Driver,
    lowers: Vec<PathBuf>,
    merged: PathBuf,
    /// The upper and work directory it has now.
    pub upper: (PathBuf, PathBuf),
    /// The place first: its descriptors keep the mount busy.
    mounted: Option<(Place, Mount)>,
}

impl Side {
    /// Mounts `lowers` below a new upper, all in `scratch`.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn new(driver: Driver, lowers: &[PathBuf], scratch: &Path, name: &str) -> io::Result<Side> {
        // A directory of its own around the mount: symlinks may lead one up.
        let home = scratch.join(name);
        std::fs::create_dir(&home)?;
        let dir = |what: &str| {
            let path = home.join(what);
            std::fs::create_dir(&path).map(|()| path)
        };
        let upper = (dir("upper")?, dir("work")?);
        let merged = dir("merged")?;
        let mut side = Side { driver, lowers: lowers.to_vec(), merged, upper, mounted: None };
        side.mount()?;
        Ok(side)
    }

    /// Mounts it again, on the upper it has now.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn mount(&mut self) -> io::Result<()> {
        let lowers: Vec<&Path> = self.lowers.iter().map(PathBuf::as_path).collect();
        let mut layers = Layers::writable(&lowers, &self.upper.0, &self.upper.1);
        if std::env::var_os("TESTS_OPTIONS").is_none() {
            // By default, who reads a program of a lower does not see it change.
            layers.served = "data=upper".to_owned();
        }
        let mount = Mount::new(self.driver, &layers, &self.merged).map_err(|e| {
            io::Error::other(format!("{:?} cannot mount {:?}: {e}", self.driver, self.upper.0))
        })?;
        let root = open_root(mount.path())?;
        self.mounted = Some((Place::new(root), mount));
        Ok(())
    }

    /// Closes everything and unmounts.
    ///
    /// # Errors
    /// The mount was busy or its daemon did not end well.
    pub fn unmount(&mut self) -> io::Result<()> {
        let Some((place, mount)) = self.mounted.take() else { return Ok(()) };
        drop(place);
        mount.unmount().map_err(|e| io::Error::other(format!("{:?} cannot unmount: {e}", self.driver)))
    }

    /// Where operations happen.
    pub fn place(&mut self) -> io::Result<&mut Place> {
        self.mounted.as_mut().map(|(place, _)| place).ok_or_else(|| io::Error::other("not mounted"))
    }

    /// Tells the watchdog that the side is alive.
    pub fn is_alive(&self) {
        if let Some((_, mount)) = &self.mounted {
            mount.extend(std::time::Duration::from_secs(30));
        }
    }

    /// Everything, as it is.
    ///
    /// # Errors
    /// The first, with its path.
    pub fn tree(&self) -> io::Result<Tree> {
        Tree::read(&self.merged)
    }
}

/// A tree with all that cannot agree between two unions over different uppers
/// taken out: change times, the exact "now", and the inode numbers of an
/// upper's own objects.
pub fn comparable(tree: Tree, known: &Known) -> Tree {
    let mut tree = without_clock(tree, known);
    for node in tree.nodes.values_mut() {
        if !known.lower_inos.contains(&node.ino) {
            node.ino = 0;
        }
    }
    tree
}

/// A tree without what the clock put there.
pub fn without_clock(mut tree: Tree, known: &Known) -> Tree {
    for node in tree.nodes.values_mut() {
        node.ctime = 0;
        node.mtime = match known.mtime(node.mtime) {
            Mtime::Set(time) | Mtime::OfLower(time) => time,
            Mtime::Recent => RECENT,
        };
    }
    tree
}
