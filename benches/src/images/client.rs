//! The programs that are measured, and a store of each: who has which command.
//!
//! podman runs on kernel overlayfs, without systemd, with limits that a process
//! without privileges over them may have, and with all that is its own in
//! directories of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};

use crate::errors::{at, run};
use crate::programs::on_path;
use crate::stage::unsupported;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Ours.
    Runion,
    /// podman with containers/storage on kernel overlayfs.
    Podman,
    /// skopeo alone: an OCI layout, nothing unpacked.
    Skopeo,
    /// skopeo to an OCI layout, and umoci to unpack it.
    Umoci,
    /// An upper of kernel overlayfs written by tar: no store at all.
    Tar,
    /// Every layer unpacked once: the layout of docker's overlay2.
    Layers,
    /// Kernel overlayfs over unpacked layers.
    Overlay,
    /// The kernel's mount of our index: erofs, and overlayfs over it.
    Erofs,
    /// fuse-overlayfs 1.10 over unpacked layers.
    FuseOverlayfs,
    /// crun alone, over kernel overlayfs over unpacked layers.
    Crun,
}

impl Client {
    /// In tables.
    pub fn name(self) -> &'static str {
        match self {
            Client::Runion => "runion",
            Client::Podman => "podman",
            Client::Skopeo => "skopeo",
            Client::Umoci => "skopeo+umoci",
            Client::Tar => "overlay+tar",
            Client::Layers => "unpacked layers",
            Client::Overlay => "overlay",
            Client::Erofs => "erofs+overlay",
            Client::FuseOverlayfs => "fuse-overlayfs",
            Client::Crun => "crun+overlay",
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Client::Runion | Client::Layers | Client::Overlay => &[],
            Client::Podman => &["podman"],
            Client::Skopeo => &["skopeo"],
            Client::Umoci => &["skopeo", "umoci"],
            Client::Tar => &["tar"],
            Client::Erofs => &["mount"],
            Client::FuseOverlayfs => &["fuse-overlayfs"],
            Client::Crun => &["crun", "ip"],
        }
    }

    /// Why it cannot be measured here, if it cannot.
    pub fn missing(self) -> Option<String> {
        let missing = self.programs().iter().find(|program| !on_path(program))?;
        Some(format!("{missing} is not installed"))
    }

    /// The versions of its programs, as they give them.
    pub fn versions(self) -> Vec<String> {
        let first = |program: &&str| {
            let output = Command::new(program).arg("--version").output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // fuse-overlayfs begins with those of what it uses.
            Some(text.lines().find(|line| line.contains(program))?.trim().to_owned())
        };
        self.programs().iter().filter_map(first).collect()
    }
}

/// A store of one of them, below a directory of its own.
#[derive(Clone, Debug)]
pub struct Store {
    client: Client,
    dir: PathBuf,
    runion: PathBuf,
}

impl Store {
    /// An empty store in the place of what is there.
    ///
    /// # Errors
    /// Those of removing and making files.
    pub fn create(client: Client, dir: PathBuf, runion: &Path) -> io::Result<Store> {
        remove(&dir)?;
        fs::create_dir_all(dir.join("tmp")).map_err(|e| at(&dir, e))?;
        fs::write(dir.join("containers.conf"), CONTAINERS)?;
        let (root, run) = (dir.join("root"), run_root(&dir));
        remove(&run)?;
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            root.display(),
            run.display()
        );
        fs::write(dir.join("storage.conf"), storage)?;
        Ok(Store { client, dir, runion: runion.to_owned() })
    }

    /// The directory in which images lie, and nothing else.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The client's program, told where its store is.
    pub fn command(&self) -> Command {
        let program = match self.client {
            Client::Runion => self.runion.as_os_str(),
            Client::Podman => "podman".as_ref(),
            _ => "skopeo".as_ref(),
        };
        let mut command = Command::new(program);
        command.env("TMPDIR", self.dir.join("tmp"));
        match self.client {
            Client::Runion => {
                command.arg("--root").arg(self.root());
            }
            Client::Podman => {
                command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
                command.env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"));
                command.args(["--storage-driver", "overlay", "--root"]).arg(self.root());
                command.arg("--runroot").arg(run_root(&self.dir));
                command.arg("--tmpdir").arg(self.dir.join("tmp"));
            }
            _ => {
                command.args(["--insecure-policy", "--tmpdir"]).arg(self.dir.join("tmp"));
            }
        }
        command
    }

    /// Takes in an archive with the images of these names.
    ///
    /// # Errors
    /// What the program says.
    pub fn load(&self, archive: &Path, names: &[&str]) -> io::Result<()> {
        match self.client {
            Client::Runion | Client::Podman => run(self.command().args(["load", "-q", "-i"]).arg(archive)),
            _ => names.iter().try_for_each(|name| {
                let from = format!("docker-archive:{}:{name}", archive.display());
                run(self.command().args(["copy", "-q", &from, &self.layout(name)]))?;
                self.unpack(name)
            }),
        }
    }

    /// Writes an image as a docker archive.
    ///
    /// # Errors
    /// What the program says.
    pub fn save(&self, name: &str, to: &Path) -> io::Result<()> {
        match self.client {
            Client::Runion => run(self.command().args(["save", "-o"]).arg(to).arg(name)),
            Client::Podman => run(self.command().args(["save", "-q", "-o"]).arg(to).arg(name)),
            _ => {
                let archive = format!("docker-archive:{}:{name}", to.display());
                run(self.command().args(["copy", "-q", &self.layout(name), &archive]))
            }
        }
    }

    /// Gets an image from a registry.
    ///
    /// # Errors
    /// What the program says.
    pub fn pull(&self, name: &str) -> io::Result<()> {
        match self.client {
            Client::Runion => run(self.command().args(["pull", "-q", name])),
            Client::Podman => run(self.command().args(["pull", "-q", "--tls-verify=false", name])),
            _ => {
                let from = format!("docker://{name}");
                let copy = ["copy", "-q", "--src-tls-verify=false", &from, &self.layout(name)];
                run(self.command().args(copy))?;
                self.unpack(name)
            }
        }
    }

    /// Sends an image that is here under one name to a registry under another.
    /// Naming it is no part of `pushing`, which does the rest.
    ///
    /// # Errors
    /// What the program says.
    pub fn name_for_push(&self, name: &str, to: &str) -> io::Result<Command> {
        let mut pushing = self.command();
        match self.client {
            Client::Runion => {
                run(self.command().args(["tag", name, to]))?;
                pushing.args(["push", "-q", to]);
            }
            Client::Podman => {
                pushing.args(["push", "-q", "--tls-verify=false", name, &format!("docker://{to}")]);
            }
            _ => {
                let (from, to) = (self.layout(name), format!("docker://{to}"));
                pushing.args(["copy", "-q", "--dest-tls-verify=false", &from, &to]);
            }
        }
        Ok(pushing)
    }

    /// An image of this name in an OCI layout.
    fn layout(&self, name: &str) -> String {
        format!("oci:{}:{}", self.root().display(), tag(name))
    }

    fn unpack(&self, name: &str) -> io::Result<()> {
        if self.client != Client::Umoci {
            return Ok(());
        }
        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--image", &format!("{}:{}", self.root().display(), tag(name))]);
        run(umoci.arg(self.dir.join(format!("bundle-{}", tag(name)))))
    }

    /// The image's index, and the contents of its files.
    ///
    /// # Errors
    /// Those of the store; that it is not ours.
    pub fn index(&self, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        if self.client != Client::Runion {
            return Err(unsupported("only a store of ours has indexes"));
        }
        let store = layerstore::store::Store::open(self.root()).map_err(io::Error::other)?;
        let image = store.find(name).map_err(io::Error::other)?;
        Ok((store.index_file(&image.record), store.objects()))
    }

    /// Takes the store away.
    ///
    /// # Errors
    /// Those of unmounting and of removing files.
    pub fn remove(self) -> io::Result<()> {
        remove(&run_root(&self.dir))?;
        remove(&self.dir)
    }
}

/// Where a session has a tmpfs of its own, in its mount namespace: podman wants
/// a short path for what does not outlive the machine's run.
pub const RUN: &str = "/mnt";

fn run_root(dir: &Path) -> PathBuf {
    Path::new(RUN).join(dir.file_name().unwrap_or_default())
}

/// The name of an image in an OCI layout.
fn tag(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).replace(':', "-")
}

/// Limits that a process without CAP_SYS_RESOURCE may have, and no systemd.
const CONTAINERS: &str = "\
[containers]
default_ulimits = [\"nofile=1024:20000\", \"nproc=32768:32768\"]
[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
";

/// Removes a directory with what is mounted in it.
///
/// # Errors
/// Those of unmounting and of removing files.
pub fn remove(dir: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| Path::new(point).starts_with(dir)) {
        unmount(point, UnmountFlags::DETACH).map_err(|e| at(Path::new(point), e.into()))?;
    }
    crate::layers::remove_if_there(dir)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_become_tags_of_a_layout() {
        assert_eq!(super::tag("localhost/a-dev:1"), "a-dev-1");
        assert_eq!(super::tag("127.0.0.1:5000/x:2"), "x-2");
    }
}
