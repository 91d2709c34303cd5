//! A commit of what was changed over an image.
//!
//! Everybody gets the same changes, made over the same image in kernel
//! overlayfs: podman in a container of its own that never runs, ours and tar in
//! one upper that is only read. What is timed is the commit alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use layerstore::store::Store as LayerStore;
use layerstore::upper::{Commit, Form, Upper};
use rustix::fs::FileType;
use rustix::mount::{UnmountFlags, unmount};
use unionfs::config::Namespace;

use super::client::{Client, Store};
use super::corpus::BASE;
use super::scene::{Scene, timed};
use crate::errors::{at, run};
use crate::figure::Figure;
use crate::stage::mount::{Union, overlay};
use crate::walk;

/// Argument by which the program knows that it is to commit an upper; a store,
/// an image and the upper follow.
pub const COMMIT: &str = "images-commit";

/// The container of podman's whose upper is committed.
const CONTAINER: &str = "changed";
/// Files in a directory.
const FILES: usize = 100;

/// Commits an upper, as a process of its own: `runion` has no command for it yet.
///
/// # Errors
/// Those of the store.
pub fn commit(store: &str, image: &str, upper: &str) -> io::Result<()> {
    let store = LayerStore::open(store).map_err(io::Error::other)?;
    let image = store.find(image).map_err(io::Error::other)?;
    let upper = Upper { path: PathBuf::from(upper), form: Form::Union(Namespace::Trusted) };
    let committed = layerstore::upper::commit(&store, &image.record, &upper, Commit::default());
    committed.map(|_| ()).map_err(io::Error::other)
}

/// One run.
///
/// # Errors
/// What the program says.
pub fn measure(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let (made, removed) = scene.plan.size.changes();
    if client == Client::Podman {
        let store = filled(scene, client)?;
        let figures = container(scene, &store, made, removed);
        store.remove()?;
        return figures;
    }
    let upper = changed(scene, made, removed)?;
    if client == Client::Tar {
        let archive = scene.scratch.join("committed.tar");
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&archive).arg("-C").arg(&upper).arg(".");
        let figures = timed(&scene.scratch, || run(&mut tar))?;
        fs::remove_file(&archive)?;
        return Ok(figures);
    }
    let store = filled(scene, client)?;
    let mut worker = Command::new(std::env::current_exe()?);
    worker.arg(COMMIT).arg(store.root()).arg(BASE).arg(&upper);
    let figures = timed(&scene.scratch, || run(&mut worker))?;
    store.remove()?;
    Ok(figures)
}

fn filled(scene: &Scene, client: Client) -> io::Result<Store> {
    let store = scene.fresh(client)?;
    store.load(&scene.corpus.archive_of(BASE), &[BASE])?;
    Ok(store)
}

fn container(scene: &Scene, store: &Store, made: usize, removed: usize) -> io::Result<Vec<Figure>> {
    run(store.command().args(["create", "--name", CONTAINER, BASE, "sh"]))?;
    let output = store.command().args(["mount", CONTAINER]).output()?;
    let root = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || root.is_empty() {
        return Err(io::Error::other("podman mount: no mount point"));
    }
    let filled = change(Path::new(&root), made, removed);
    run(store.command().args(["umount", CONTAINER]))?;
    filled?;
    let mut commit = store.command();
    commit.args(["commit", "-q", CONTAINER, "localhost/committed:1"]);
    timed(&scene.scratch, || run(&mut commit))
}

/// An upper of kernel overlayfs with the changes, made for the first who asks.
fn changed(scene: &Scene, made: usize, removed: usize) -> io::Result<PathBuf> {
    let place = scene.scratch.join("changed");
    let [root, upper, work] = ["root", "upper", "work"].map(|name| place.join(name));
    if place.is_dir() {
        return Ok(upper);
    }
    for dir in [&root, &upper, &work] {
        fs::create_dir_all(dir).map_err(|e| at(dir, e))?;
    }
    let lowers = scene.corpus.lowers(BASE);
    overlay(&Union { lowers: &lowers, upper: &upper, work: &work, root: &root }, &[])?;
    let filled = change(&root, made, removed);
    unmount(&root, UnmountFlags::empty())?;
    filled.map(|()| upper)
}

/// Removes some of the files there are and makes others.
fn change(root: &Path, made: usize, removed: usize) -> io::Result<()> {
    let documents = root.join("usr/share");
    let among = if documents.is_dir() { documents } else { root.to_owned() };
    let files = walk::paths(&among)?.into_iter().filter(|(_, kind)| *kind == FileType::RegularFile);
    for (path, _) in files.take(removed) {
        fs::remove_file(among.join(&path)).map_err(|e| at(&path, e))?;
    }
    for number in 0..made {
        let dir = root.join(format!("srv/changed/part-{:03}", number / FILES));
        if number % FILES == 0 {
            fs::create_dir_all(&dir).map_err(|e| at(&dir, e))?;
        }
        // 0.5 to 8 KB, no two alike.
        let content = format!("{number:08}\n").repeat(60 + number % 850);
        fs::write(dir.join(format!("file-{number}")), content)?;
    }
    Ok(())
}
