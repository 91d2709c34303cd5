//! Mounts of an image: our index in a union, the same index in the kernel, and
//! unpacked layers in kernel overlayfs and in fuse-overlayfs. Each has an upper,
//! as a container's has.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, statat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::client::{self, Client};
use super::scene::{Scene, figure, sync};
use crate::errors::{at, run};
use crate::figure::{Figure, Unit};
use crate::stage::daemon;
use crate::stage::mount::{Union, overlay, plain, start};
use crate::walk;

/// How often an image is mounted in a run.
const MOUNTS: u32 = 10;

/// See the table of workloads.
///
/// # Errors
/// What the program or the kernel says.
pub fn mount_one(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    first_ls(scene, client, 1)
}

/// See the table of workloads.
///
/// # Errors
/// What the program or the kernel says.
pub fn mount_hundred(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    first_ls(scene, client, 100)
}

/// See the table of workloads.
///
/// # Errors
/// What the program or the kernel says.
pub fn walk_one(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    stat_walk(scene, client, 1)
}

/// See the table of workloads.
///
/// # Errors
/// What the program or the kernel says.
pub fn walk_hundred(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    stat_walk(scene, client, 100)
}

fn first_ls(scene: &mut Scene, client: Client, layers: usize) -> io::Result<Vec<Figure>> {
    let image = Image::new(scene, client, layers)?;
    image.warm()?;
    let ls = || {
        let (mounted, took) = image.mount()?;
        let started = Instant::now();
        let dir = walk::open(mounted.root())?;
        for name in walk::names(dir.as_fd())? {
            statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let took = took + started.elapsed();
        drop(dir);
        mounted.unmount()?;
        Ok::<_, io::Error>(took)
    };
    let mut sum = Duration::ZERO;
    for _ in 0..MOUNTS {
        sum += ls()?;
    }
    drop_caches(&scene.scratch)?;
    let dropped = ls()?;
    Ok(vec![
        figure("caches warm", Unit::SecondsEach, (sum / MOUNTS).as_secs_f64()),
        figure("caches dropped", Unit::SecondsEach, dropped.as_secs_f64()),
    ])
}

fn stat_walk(scene: &mut Scene, client: Client, layers: usize) -> io::Result<Vec<Figure>> {
    let image = Image::new(scene, client, layers)?;
    let timed = |mounted: &Mounted, name: &str| {
        let started = Instant::now();
        let count = walk::stat_all(mounted.root(), usize::MAX)?;
        let took = started.elapsed().as_secs_f64();
        Ok::<_, io::Error>(Figure { operations: count as u64, ..figure(name, Unit::Seconds, took) })
    };
    drop_caches(&scene.scratch)?;
    let mounted = image.mount()?.0;
    let mut figures = vec![timed(&mounted, "fresh mount, caches dropped")?];
    mounted.unmount()?;
    image.warm()?;
    let mounted = image.mount()?.0;
    figures.push(timed(&mounted, "fresh mount")?);
    figures.push(timed(&mounted, "again")?);
    mounted.unmount()?;
    // All show the same files, or nothing can be compared.
    let counts = figures.iter().map(|figure| figure.operations);
    for count in counts {
        match *scene.entries.get_or_insert(count) {
            expected if expected == count => {}
            expected => return Err(io::Error::other(format!("{count} entries in the place of {expected}"))),
        }
    }
    Ok(figures)
}

/// What the kernel knows of files is forgotten: attributes, names, contents.
fn drop_caches(place: &Path) -> io::Result<()> {
    sync(place)?;
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// An image that can be mounted.
struct Image {
    client: Client,
    lowers: Vec<PathBuf>,
    index: Option<(PathBuf, PathBuf)>,
    place: PathBuf,
    program: PathBuf,
}

impl Image {
    /// The image of so many layers, unpacked, and in a store of ours.
    fn new(scene: &mut Scene, client: Client, layers: usize) -> io::Result<Image> {
        let (lowers, archive, name) = scene.corpus.spread(layers)?;
        let index = match client {
            Client::Runion | Client::Erofs => {
                Some(scene.loaded(Client::Runion, archive, &[&name])?.index(&name)?)
            }
            _ => None,
        };
        let place = scene.scratch.join("mounted");
        Ok(Image { client, lowers, index, place, program: scene.plan.mount_runionfs.clone() })
    }

    /// Makes the kernel know what lies below the mount.
    fn warm(&self) -> io::Result<()> {
        match &self.index {
            Some((index, _)) => fs::read(index).map(|_| ()).map_err(|e| at(index, e)),
            None => self.lowers.iter().try_for_each(|dir| walk::stat_all(dir, usize::MAX).map(|_| ())),
        }
    }

    /// Mounts it with a new upper, and tells how long that took.
    fn mount(&self) -> io::Result<(Mounted, Duration)> {
        client::remove(&self.place)?;
        let [root, upper, work, metadata] =
            ["root", "upper", "work", "metadata"].map(|name| self.place.join(name));
        for dir in [&root, &upper, &work, &metadata] {
            fs::create_dir_all(dir).map_err(|e| at(dir, e))?;
        }
        let union = Union { lowers: &self.lowers, upper: &upper, work: &work, root: &root };
        let before = daemon::processes()?;
        let started = Instant::now();
        match (self.client, &self.index) {
            (Client::Erofs, Some((index, objects))) => kernel(&union, index, objects, &metadata)?,
            (Client::Runion, Some((index, objects))) => {
                let lowerdir = format!("{}::{}", plain(index)?, plain(objects)?);
                // By this name it takes mount(8)'s words, and gives root suid and dev.
                let mut command = Command::new(&self.program);
                command.arg0("mount.runionfs").arg("union").arg(&root);
                start(command.arg("-o").arg(options(&lowerdir, &union)?), &union)?;
            }
            (Client::FuseOverlayfs, _) => {
                let lowers: io::Result<Vec<&str>> = self.lowers.iter().map(|path| plain(path)).collect();
                let mut command = Command::new("fuse-overlayfs");
                start(command.arg("-o").arg(options(&lowers?.join(":"), &union)?).arg(&root), &union)?;
            }
            _ => overlay(&union, &[])?,
        }
        let took = started.elapsed();
        let mut daemons = daemon::processes()?;
        daemons.retain(|pid| !before.contains(pid));
        let points = match self.client {
            Client::Erofs => vec![root, metadata],
            _ => vec![root],
        };
        Ok((Mounted { points, daemons }, took))
    }
}

fn options(lowerdir: &str, union: &Union<'_>) -> io::Result<String> {
    Ok(format!("lowerdir={lowerdir},upperdir={},workdir={}", plain(union.upper)?, plain(union.work)?))
}

/// The kernel's own: erofs for the names, overlayfs for the objects behind them.
fn kernel(union: &Union<'_>, index: &Path, objects: &Path, metadata: &Path) -> io::Result<()> {
    // From Linux 6.12 on a file will do; before, it takes a loop device.
    if mount(index, metadata, "erofs", MountFlags::RDONLY, None).is_err() {
        run(Command::new("mount").args(["-t", "erofs", "-o", "ro,loop"]).args([index, metadata]))
            .map_err(|error| crate::stage::unsupported(error.to_string()))?;
    }
    let lowers = [metadata.to_owned()];
    let options = [format!("datadir+={}", objects.display()), "metacopy=on".into(), "redirect_dir=on".into()];
    overlay(&Union { lowers: &lowers, ..*union }, &options)
}

/// A mount, with what must end with it.
struct Mounted {
    points: Vec<PathBuf>,
    daemons: Vec<u32>,
}

impl Mounted {
    fn root(&self) -> &Path {
        self.points.first().map_or(Path::new(""), PathBuf::as_path)
    }

    fn unmount(self) -> io::Result<()> {
        for point in &self.points {
            unmount(point, UnmountFlags::empty()).map_err(|e| at(point, e.into()))?;
        }
        daemon::wait(&self.daemons)
    }
}
