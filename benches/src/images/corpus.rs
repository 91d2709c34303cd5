//! Families of images, made once and kept in `target/bench/images`: each
//! layer as a directory, as kernel overlayfs made it, and as a tar file with
//! OCI's whiteouts.
//!
//! Family A is a Debian suite with python, a compiler over that, and a web server
//! beside; family B another suite with python; family C is two images of A, made
//! anew from the same packages. `--quick` has the same
//! shape of files of the host's `/usr/share`, some of which both families have.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::FileType;
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

use super::archive::{self, Image};
use super::client::remove;
use crate::errors::{at, run};
use crate::layers::{Layers, debian};
use crate::stage::mount::{Union, overlay};
use crate::walk;

/// How large everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// Files of the host's `/usr/share`.
    Quick,
    /// Debian systems.
    Full,
}

impl Size {
    /// Where its images are kept, below `target/bench/images`.
    pub fn name(self) -> &'static str {
        match self {
            Size::Quick => "quick",
            Size::Full => "full",
        }
    }

    /// Images in a short list and in a long one.
    pub fn listed(self) -> (usize, usize) {
        match self {
            Size::Quick => (20, 40),
            Size::Full => (200, 1_000),
        }
    }

    /// Files made before a commit, and files removed.
    pub fn changes(self) -> (usize, usize) {
        match self {
            Size::Quick => (300, 20),
            Size::Full => (20_000, 148),
        }
    }
}

/// A layer: its name, what it lies on, what is in it.
struct Recipe {
    name: &'static str,
    below: &'static [&'static str],
    full: Content,
    /// Which of the paths of `/usr/share`, by their number, `--quick` takes.
    quick: std::ops::Range<usize>,
}

/// What is in a layer of Debian's.
enum Content {
    /// A minimal system of this suite.
    Suite(&'static str),
    /// These packages.
    Packages(&'static [&'static str]),
}

const RECIPES: [Recipe; 8] = [
    Recipe { name: "a-base", below: &[], full: Content::Suite("bookworm"), quick: 0..800 },
    Recipe { name: "a-python", below: &["a-base"], full: Content::Packages(&["python3"]), quick: 800..1_100 },
    Recipe {
        name: "a-dev",
        below: &["a-base", "a-python"],
        full: Content::Packages(&["build-essential"]),
        quick: 1_100..1_500,
    },
    Recipe { name: "a-nginx", below: &["a-base"], full: Content::Packages(&["nginx"]), quick: 1_500..1_700 },
    Recipe { name: "b-base", below: &[], full: Content::Suite("trixie"), quick: 400..1_000 },
    Recipe {
        name: "b-python",
        below: &["b-base"],
        full: Content::Packages(&["python3"]),
        quick: 1_000..1_200,
    },
    Recipe { name: "c-base", below: &[], full: Content::Suite("bookworm"), quick: 0..790 },
    Recipe { name: "c-python", below: &["c-base"], full: Content::Packages(&["python3"]), quick: 790..1_090 },
];

/// The image that is loaded, saved, pulled, pushed and walked.
pub const ONE: &str = "localhost/a-dev:1";
/// The image over which changes are committed.
pub const BASE: &str = "localhost/a-base:1";

/// A family of images that share layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Four images on one base.
    A,
    /// Two on another.
    B,
    /// Two of the first made anew: what an image's next release is.
    C,
}

impl Family {
    fn prefix(self) -> &'static str {
        match self {
            Family::A => "a-",
            Family::B => "b-",
            Family::C => "c-",
        }
    }

    fn recipes(self) -> impl Iterator<Item = &'static Recipe> {
        RECIPES.iter().filter(move |recipe| recipe.name.starts_with(self.prefix()))
    }
}

/// What is kept, by name.
#[derive(Clone, Debug)]
pub struct Corpus {
    dir: PathBuf,
    size: Size,
}

impl Corpus {
    /// Everything of a size, made as far as it is not there.
    ///
    /// # Errors
    /// What keeps it from being made.
    pub fn make(home: &Path, size: Size) -> io::Result<Corpus> {
        let corpus = Corpus { dir: home.join("images").join(size.name()), size };
        fs::create_dir_all(&corpus.dir).map_err(|e| at(&corpus.dir, e))?;
        for recipe in &RECIPES {
            corpus.layer(recipe)?;
            tar_of(&corpus.directory(recipe.name), &corpus.tar(recipe.name))?;
        }
        for recipe in &RECIPES {
            archive::write(&corpus.archive(recipe.name), &[corpus.image(recipe)])?;
        }
        Ok(corpus)
    }

    /// An unpacked layer.
    fn directory(&self, layer: &str) -> PathBuf {
        self.dir.join(layer)
    }

    fn tar(&self, layer: &str) -> PathBuf {
        self.dir.join(format!("{layer}.layer"))
    }

    fn archive(&self, image: &str) -> PathBuf {
        self.dir.join(format!("{image}.tar"))
    }

    fn image(&self, recipe: &Recipe) -> Image {
        let layers = recipe.below.iter().chain([&recipe.name]).map(|layer| self.tar(layer)).collect();
        Image { name: format!("localhost/{}:1", recipe.name), layers, label: recipe.name.to_owned() }
    }

    /// The docker archive of an image, by its name.
    pub fn archive_of(&self, name: &str) -> PathBuf {
        let short = name.rsplit('/').next().unwrap_or(name);
        self.archive(short.split(':').next().unwrap_or(short))
    }

    /// The names of a family's images.
    pub fn names(&self, family: Family) -> Vec<String> {
        family.recipes().map(|recipe| format!("localhost/{}:1", recipe.name)).collect()
    }

    /// A family's unpacked layers, each once.
    pub fn directories(&self, family: Family) -> Vec<PathBuf> {
        family.recipes().map(|recipe| self.directory(recipe.name)).collect()
    }

    /// The unpacked layers of an image, topmost first.
    pub fn lowers(&self, name: &str) -> Vec<PathBuf> {
        let recipe = RECIPES.iter().find(|recipe| name == format!("localhost/{}:1", recipe.name));
        let layers = recipe.map(|recipe| recipe.below.iter().chain([&recipe.name]).rev());
        layers.into_iter().flatten().map(|layer| self.directory(layer)).collect()
    }

    /// Sentences about the images, for a page.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn described(&self) -> io::Result<Vec<String>> {
        let what = |recipe: &Recipe| match (self.size, &recipe.full) {
            (Size::Quick, _) => "files of /usr/share".to_owned(),
            (_, Content::Suite(suite)) => format!("Debian {suite}, minbase"),
            (_, Content::Packages(packages)) => format!("+ {}", packages.join(", ")),
        };
        let sentence = |recipe: &Recipe| {
            let mib = archive::bytes(&[self.tar(recipe.name)])? >> 20;
            let below = match recipe.below {
                [] => String::new(),
                below => format!(" on {}", below.join(", ")),
            };
            Ok(format!("layer {}: {}{below}; {mib} MiB as a tar file", recipe.name, what(recipe)))
        };
        RECIPES.iter().map(sentence).collect()
    }

    fn layer(&self, recipe: &Recipe) -> io::Result<()> {
        let dir = self.directory(recipe.name);
        if dir.is_dir() {
            return Ok(());
        }
        eprintln!("making {} (once)", dir.display());
        let part = dir.with_extension("part");
        remove(&part)?;
        match (self.size, &recipe.full) {
            (Size::Quick, _) => debian::take(recipe.quick.clone(), &part)?,
            (Size::Full, Content::Suite(suite)) => suite_tree(suite, &part)?,
            (Size::Full, Content::Packages(packages)) => self.install(recipe, packages, &part)?,
        }
        fs::rename(&part, &dir).map_err(|e| at(&dir, e))
    }

    /// Installs packages in a kernel overlay over the layers below: its upper
    /// is the layer.
    fn install(&self, recipe: &Recipe, packages: &[&str], upper: &Path) -> io::Result<()> {
        let place = self.dir.join("installing");
        remove(&place)?;
        let (root, work) = (place.join("root"), place.join("work"));
        for dir in [&root, &work, &upper.to_owned()] {
            fs::create_dir_all(dir).map_err(|e| at(dir, e))?;
        }
        let lowers: Vec<PathBuf> = recipe.below.iter().rev().map(|layer| self.directory(layer)).collect();
        overlay(&Union { lowers: &lowers, upper, work: &work, root: &root }, &[])?;
        let installed = apt(&root, packages);
        unmount(&root, UnmountFlags::DETACH)?;
        installed?;
        remove(&place)
    }

    /// The files of the image over `count` layers: as directories, topmost
    /// first, and as an archive.
    ///
    /// # Errors
    /// What keeps them from being made.
    pub fn spread(&self, count: usize) -> io::Result<(Vec<PathBuf>, PathBuf, String)> {
        let dir = self.dir.join(format!("over-{count}"));
        let lowers = |dir: &Path| (0..count).map(|layer| dir.join(layer.to_string())).collect::<Vec<_>>();
        let (archive, name) = (dir.with_extension("tar"), format!("localhost/over-{count}:1"));
        if !dir.is_dir() {
            eprintln!("making {} (once)", dir.display());
            let part = dir.with_extension("part");
            remove(&part)?;
            self.split(&part, lowers(&part))?;
            fs::rename(&part, &dir).map_err(|e| at(&dir, e))?;
        }
        let mut tars = Vec::new();
        for lower in lowers(&dir).iter().rev() {
            let tar = lower.with_extension("layer");
            tar_of(lower, &tar)?;
            tars.push(tar);
        }
        archive::write(&archive, &[Image { name: name.clone(), layers: tars, label: String::new() }])?;
        Ok((lowers(&dir), archive, name))
    }

    fn split(&self, place: &Path, lowers: Vec<PathBuf>) -> io::Result<()> {
        let (whole, upper, work) = (place.join("whole"), place.join("upper"), place.join("work"));
        for dir in lowers.iter().chain([&whole, &upper, &work]) {
            fs::create_dir_all(dir).map_err(|e| at(dir, e))?;
        }
        let union = Union { lowers: &self.lowers(ONE), upper: &upper, work: &work, root: &whole };
        overlay(&union, &[])?;
        let split = debian::split(&Layers { whole: whole.clone(), lowers });
        unmount(&whole, UnmountFlags::DETACH)?;
        split?;
        [whole, upper, work].iter().try_for_each(|dir| remove(dir))
    }

    /// An archive of so many images of one small layer.
    ///
    /// # Errors
    /// What keeps it from being made.
    pub fn many(&self, count: usize) -> io::Result<PathBuf> {
        let (tree, layer) = (self.dir.join("many"), self.dir.join("many.layer"));
        fs::create_dir_all(&tree)?;
        fs::write(tree.join("file"), "content\n")?;
        tar_of(&tree, &layer)?;
        let image = |number: usize| Image {
            name: format!("localhost/many-{:02}:{number}", number % 100),
            layers: vec![layer.clone()],
            label: number.to_string(),
        };
        let archive = self.dir.join(format!("many-{count}.tar"));
        archive::write(&archive, &(0..count).map(image).collect::<Vec<_>>())?;
        Ok(archive)
    }
}

fn suite_tree(suite: &str, part: &Path) -> io::Result<()> {
    run(Command::new("mmdebstrap").args(["--variant=minbase", "--mode=root", "--quiet", suite]).arg(part))
}

/// Installs packages in a tree as a Dockerfile would, and leaves no lists and no
/// packages behind.
fn apt(root: &Path, packages: &[&str]) -> io::Result<()> {
    let resolver = root.join("etc/resolv.conf");
    // The host's: mmdebstrap has given the base the same.
    fs::copy("/etc/resolv.conf", &resolver).map_err(|e| at(&resolver, e))?;
    let policy = root.join("usr/sbin/policy-rc.d");
    fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
    run(Command::new("chmod").arg("755").arg(&policy))?;
    let mut devices = Command::new("mount");
    run(devices.args(["--bind", "/dev"]).arg(root.join("dev")))?;
    run(Command::new("mount").args(["-t", "proc", "proc"]).arg(root.join("proc")))?;
    let script = format!(
        "apt-get -q update && apt-get -q -y --no-install-recommends -o DPkg::Options::=--force-unsafe-io \
         install {} && apt-get clean && rm -rf /var/lib/apt/lists/*",
        packages.join(" ")
    );
    let installed = run(Command::new("chroot")
        .arg(root)
        .args(["/bin/sh", "-c", &script])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C"));
    for point in ["proc", "dev"] {
        unmount(root.join(point), UnmountFlags::DETACH)?;
    }
    fs::remove_file(&policy)?;
    installed
}

/// Writes a layer as a tar file, if it is not there: overlayfs's marks become
/// OCI's.
fn tar_of(dir: &Path, tar: &Path) -> io::Result<()> {
    if tar.is_file() {
        return Ok(());
    }
    let (part, marks) = (tar.with_extension("part"), tar.with_extension("marks"));
    remove(&marks)?;
    fs::create_dir_all(&marks)?;
    let mut hidden = Vec::new();
    for (path, kind) in walk::paths(dir)? {
        let mark = match kind {
            FileType::CharacterDevice if is_whiteout(&dir.join(&path))? => {
                hidden.push(path.clone());
                whiteout(&path)
            }
            FileType::Directory if is_opaque(&dir.join(&path)) => path.join(".wh..wh..opq"),
            _ => continue,
        };
        let mark = marks.join(mark);
        fs::create_dir_all(mark.parent().unwrap_or(&marks))?;
        fs::write(mark, "")?;
    }
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--numeric-owner", "-cf"]).arg(&part).arg("-C").arg(dir).arg("--anchored");
    command.arg("--no-wildcards");
    for path in hidden {
        command.arg("--exclude").arg(Path::new(".").join(path));
    }
    run(command.arg("."))?;
    let files = walk::paths(&marks)?.into_iter().filter(|(_, kind)| *kind == FileType::RegularFile);
    let files: Vec<PathBuf> = files.map(|(path, _)| path).collect();
    if !files.is_empty() {
        run(Command::new("tar").arg("-rf").arg(&part).arg("-C").arg(&marks).args(files))?;
    }
    fs::remove_dir_all(&marks)?;
    fs::rename(&part, tar).map_err(|e| at(tar, e))
}

fn is_whiteout(path: &Path) -> io::Result<bool> {
    let metadata = path.symlink_metadata()?;
    Ok(metadata.file_type().is_char_device() && metadata.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value), Ok(1)) && value == *b"y"
}

fn whiteout(path: &Path) -> PathBuf {
    let mut name = OsString::from(".wh.");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_on_layers_of_their_own_family() {
        let corpus = Corpus { dir: PathBuf::from("/c"), size: Size::Quick };
        assert_eq!(corpus.lowers(ONE), ["/c/a-dev", "/c/a-python", "/c/a-base"].map(PathBuf::from));
        assert_eq!(corpus.archive_of(ONE), Path::new("/c/a-dev.tar"));
        assert_eq!(corpus.names(Family::B), ["localhost/b-base:1", "localhost/b-python:1"]);
        for recipe in &RECIPES {
            assert!(recipe.below.iter().all(|below| below[..2] == recipe.name[..2]), "{}", recipe.name);
        }
    }

    #[test]
    fn a_whiteout_stands_beside_what_it_hides() {
        assert_eq!(whiteout(Path::new("etc/motd")), Path::new("etc/.wh.motd"));
    }
}
