//! The programs under test: found beside the test itself, built when stale.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The mount program of this workspace, in the profile the test was built in.
///
/// `RUNIONFS_BIN` names another one.
///
/// # Errors
/// Why it could not be built.
pub fn mount_runionfs() -> io::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("RUNIONFS_BIN") {
        return Ok(path.into());
    }
    BUILT.get_or_init(|| build("mount-runionfs")).clone().map_err(io::Error::other)
}

/// `target/PROFILE/BINARY`, after cargo has brought it up to date: `cargo test
/// -p tests` alone would leave a stale one. Of the whole workspace, as the gate
/// builds it: one package alone would have its dependencies with fewer features,
/// and so built once more.
fn build(binary: &str) -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|e| format!("cannot find the running test: {e}"))?;
    let profile = test.parent().and_then(Path::parent).ok_or("the test lies outside a target directory")?;
    let target = profile.parent().ok_or("the test lies outside a target directory")?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace).args(["build", "--quiet", "--workspace", "--bin", binary]);
    cargo.arg("--target-dir").arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().map_err(|e| format!("cannot run cargo: {e}"))?;
    if !status.success() {
        return Err(format!("cannot build {binary}: cargo: {status}"));
    }
    Ok(profile.join(binary))
}
