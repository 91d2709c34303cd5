//! The programs that are measured: ours is brought up to date, the others are
//! installed when asked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::errors::run;

/// Programs the runner calls, and the Debian packages that have them.
const PACKAGES: [(&str, &str); 17] = [
    ("fusermount3", "fuse3"),
    ("fuse-overlayfs", "fuse-overlayfs"),
    ("unionfs", "unionfs-fuse"),
    ("strace", "strace"),
    ("mmdebstrap", "mmdebstrap"),
    ("git", "git"),
    ("make", "make"),
    ("gcc", "gcc"),
    ("tar", "tar"),
    ("dpkg-deb", "dpkg"),
    ("unshare", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("podman", "podman"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("docker-registry", "docker-registry"),
];

/// The workspace.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The directory cargo builds into, found from the running program.
///
/// # Errors
/// The program lies outside of one.
pub fn target() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    target.map(Path::to_path_buf).ok_or_else(|| io::Error::other("benches runs outside a target directory"))
}

/// The profile the running program was built in.
///
/// # Errors
/// As [`target`].
pub fn profile() -> io::Result<Profile> {
    match target()?.join("release") == std::env::current_exe()?.with_file_name("") {
        true => Ok(Profile::Release),
        false => Ok(Profile::Debug),
    }
}

/// How programs were built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Optimised: what is measured.
    Release,
    /// Not: figures say nothing.
    Debug,
}

/// `mount-runionfs` in the profile of the runner, built if it is stale; or the
/// one that `RUNIONFS_BIN` names.
///
/// # Errors
/// Why it cannot be built.
pub fn ours() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("RUNIONFS_BIN") {
        return Ok(path.into());
    }
    built("mount-runionfs")
}

/// `runion` in the profile of the runner, built if it is stale.
///
/// # Errors
/// Why it cannot be built.
pub fn runion() -> io::Result<PathBuf> {
    built("runion")
}

/// Of the whole workspace, as its tests build it: one package alone would have its
/// dependencies with fewer features, and so built once more.
fn built(program: &str) -> io::Result<PathBuf> {
    let target = target()?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--workspace"]);
    cargo.args(["--bin", program, "--target-dir"]).arg(&target);
    let directory = match profile()? {
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
        Profile::Debug => "debug",
    };
    run(&mut cargo)?;
    Ok(target.join(directory).join(program))
}

/// `fuse-overlayfs` 2.0.0, where [`install`] puts it.
///
/// # Errors
/// As [`target`].
pub fn fuse_overlayfs_2() -> io::Result<PathBuf> {
    Ok(target()?.join("tools/fuse-overlayfs-2/bin/fuse-overlayfs"))
}

/// Installs what is missing: Debian packages as root, fuse-overlayfs 2.0.0 by
/// cargo below the target directory.
///
/// # Errors
/// What apt-get or cargo says.
pub fn install() -> io::Result<()> {
    let missing = PACKAGES.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package);
    let missing: Vec<&str> = missing.collect();
    if !missing.is_empty() {
        eprintln!("installing: {}", missing.join(" "));
        run(Command::new("apt-get").args(["update", "-q"]))?;
        let apt = ["install", "-q", "-y", "--no-install-recommends"];
        run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(apt).args(missing))?;
    }
    if fuse_overlayfs_2()?.is_file() {
        return Ok(());
    }
    eprintln!("installing: fuse-overlayfs 2.0.0");
    run(Command::new(env!("CARGO"))
        .args(["install", "--locked", "--quiet", "fuse-overlayfs", "--version", "2.0.0", "--root"])
        .arg(target()?.join("tools/fuse-overlayfs-2")))
}

/// Whether a program is found by its name.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|dir| fs::exists(dir.join(program)).unwrap_or(false))
}
