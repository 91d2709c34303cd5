//! The lower layers: made once, kept below `target/bench/layers`, read by every
//! run and written by none.
//!
//! A tree is there twice: `whole`, which the bare directory shows, and split
//! over so many lowers that the union shows the same. Files go to layers by
//! their number, so that directories are merged from several. A tree is made
//! under another name and renamed when it is complete.

pub mod debian;
pub mod git;
mod packages;
mod plain;
pub mod small;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::errors::at;
use crate::size::Sizes;

/// What the layers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tree {
    /// A few directories with a file each, in every layer.
    Plain,
    /// A Debian system with a compiler, git and python.
    Debian,
    /// `tree/`: many small files.
    Small,
    /// `flat/`: one directory with many names.
    Flat,
    /// `big`: one large file, in the lowest layer.
    Big,
    /// `data`: the file of the data workloads, in the lowest layer.
    Data,
    /// `many/`: more files than memory likes; not there whole.
    Many,
    /// The small files, the many names and the big file together.
    Mixed,
    /// `repository/`: a git repository with its work tree.
    Repository,
}

/// A tree, made.
#[derive(Clone, Debug)]
pub struct Layers {
    /// All of it in one directory.
    pub whole: PathBuf,
    /// The same, topmost first.
    pub lowers: Vec<PathBuf>,
}

impl Layers {
    /// Where a tree split over `count` lowers is or will be.
    pub fn of(home: &Path, tree: Tree, count: usize, sizes: &Sizes) -> Layers {
        let name = match tree {
            Tree::Plain => "plain".to_owned(),
            Tree::Debian => "debian".to_owned(),
            Tree::Small => format!("small-{}", sizes.small_files),
            Tree::Flat => format!("flat-{}", sizes.flat_names),
            Tree::Big => format!("big-{}", sizes.big_bytes >> 20),
            Tree::Data => format!("data-{}", sizes.data_bytes >> 20),
            Tree::Many => format!("many-{}", sizes.many_files),
            Tree::Mixed => format!("mixed-{}-{}", sizes.small_files, sizes.big_bytes >> 20),
            Tree::Repository => format!("repository-{}", sizes.tracked_files),
        };
        let home = home.join("layers");
        let split = home.join(format!("{name}-over-{count}"));
        let whole = match tree {
            Tree::Debian => home.join(name),
            _ => split.join("whole"),
        };
        Layers { whole, lowers: (0..count).map(|layer| split.join(layer.to_string())).collect() }
    }

    /// The layers, made if they are not there.
    ///
    /// # Errors
    /// What keeps them from being made.
    pub fn make(home: &Path, tree: Tree, count: usize, sizes: &Sizes) -> io::Result<Layers> {
        let layers = Layers::of(home, tree, count, sizes);
        if tree == Tree::Debian {
            debian::make(&layers.whole)?;
        }
        let Some(split) = layers.lowers.first().and_then(|lower| lower.parent()) else {
            return Err(io::Error::other("a tree needs at least one layer"));
        };
        if split.is_dir() {
            return Ok(layers);
        }
        eprintln!("making {} (once)", split.display());
        let part = split.with_extension("part");
        remove_if_there(&part)?;
        let place = |path: &Path| part.join(path.strip_prefix(split).unwrap_or(path));
        let staged = Layers {
            whole: if tree == Tree::Debian { layers.whole.clone() } else { place(&layers.whole) },
            lowers: layers.lowers.iter().map(|lower| place(lower)).collect(),
        };
        for dir in staged.lowers.iter().chain([&staged.whole]) {
            fs::create_dir_all(dir).map_err(|e| at(dir, e))?;
        }
        staged.fill(tree, sizes)?;
        fs::rename(&part, split)?;
        Ok(layers)
    }

    fn fill(&self, tree: Tree, sizes: &Sizes) -> io::Result<()> {
        match tree {
            Tree::Plain => plain::directories(self),
            Tree::Debian => debian::split(self),
            Tree::Small => small::files(self, sizes.small_files),
            Tree::Flat => small::names(self, sizes.flat_names),
            Tree::Big => plain::file(self, "big", sizes.big_bytes),
            Tree::Data => plain::file(self, "data", sizes.data_bytes),
            Tree::Many => small::many(self, sizes.many_files),
            Tree::Mixed => {
                small::files(self, sizes.small_files)?;
                plain::file(self, "big", sizes.big_bytes)
            }
            Tree::Repository => git::repository(self, sizes.tracked_files),
        }
    }

    /// The directories in which the file with this number lies.
    fn homes(&self, number: usize) -> impl Iterator<Item = &Path> {
        let lower = self.lowers.get(number % self.lowers.len().max(1));
        [Some(&self.whole), lower].into_iter().flatten().map(PathBuf::as_path)
    }

    /// Every directory that holds a part of the tree.
    fn all(&self) -> impl Iterator<Item = &Path> {
        self.lowers.iter().chain([&self.whole]).map(PathBuf::as_path)
    }
}

/// Where what is no layer is kept: archives, packages.
pub struct Files {
    /// An archive of the small files.
    pub archive: PathBuf,
    /// A directory of packages.
    pub packages: PathBuf,
}

impl Files {
    /// Where they are or will be.
    pub fn of(home: &Path, sizes: &Sizes) -> Files {
        let home = home.join("files");
        Files {
            archive: home.join(format!("small-{}.tar", sizes.small_files)),
            packages: home.join(format!("packages-{}", sizes.packages)),
        }
    }

    /// The archive, made if it is not there.
    ///
    /// # Errors
    /// What keeps it from being made.
    pub fn make_archive(home: &Path, sizes: &Sizes) -> io::Result<()> {
        let layers = Layers::make(home, Tree::Small, 8, sizes)?;
        small::archive(&layers, &Files::of(home, sizes).archive)
    }

    /// The packages, made if they are not there.
    ///
    /// # Errors
    /// What keeps them from being made.
    pub fn make_packages(home: &Path, sizes: &Sizes) -> io::Result<()> {
        packages::make(&Files::of(home, sizes).packages, sizes.packages)
    }
}

/// Removes a directory with all that is in it, where there is one.
///
/// # Errors
/// Those of removing files.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, error)),
        _ => Ok(()),
    }
}
