//! Images into stores and out of them, and the list of those that are there.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use super::client::{Client, Store};
use super::corpus::ONE;
use super::registry::Registry;
use super::scene::{Scene, figure, timed};
use crate::errors::run;
use crate::figure::{Figure, Unit};
use crate::programs::on_path;
use crate::stage::unsupported;

/// How often the list is asked for in a run, if that does not take too long.
const LISTS: u32 = 5;
/// After so long it is not asked for once more.
const ENOUGH: Duration = Duration::from_secs(10);
/// Who has not told the list after so many seconds is not waited for.
const PATIENCE: u64 = 120;
/// timeout(1)'s code for that.
const TIMED_OUT: i32 = 124;
/// What the image is called on registries.
const REMOTE: &str = "bench/one:1";

/// An archive into a fresh store.
///
/// # Errors
/// What the program says.
pub fn load(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let archive = scene.corpus.archive_of(ONE);
    let store = scene.fresh(client)?;
    let figures = timed(&scene.scratch, || store.load(&archive, &[ONE]))?;
    store.remove()?;
    Ok(figures)
}

/// An image out of a store as an archive.
///
/// # Errors
/// What the program says.
pub fn save(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let store = holder(scene, client)?;
    let archive = scene.scratch.join("saved.tar");
    let figures = timed(&scene.scratch, || store.save(ONE, &archive))?;
    std::fs::remove_file(&archive)?;
    Ok(figures)
}

/// From a registry into a fresh store.
///
/// # Errors
/// What the program says.
pub fn pull(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let name = match &scene.registry {
        Some(registry) => registry.name(REMOTE),
        None => {
            if !on_path("skopeo") {
                return Err(unsupported("skopeo, which fills the registry, is not installed"));
            }
            let registry = Registry::start(scene.scratch.join("registry"))?;
            let name = registry.name(REMOTE);
            let from = format!("docker-archive:{}:{ONE}", scene.corpus.archive_of(ONE).display());
            let filling = scene.fresh(Client::Skopeo)?;
            let copy = ["copy", "-q", "--dest-tls-verify=false", &from, &format!("docker://{name}")];
            run(filling.command().args(copy))?;
            scene.registry = Some(registry);
            name
        }
    };
    let store = scene.fresh(client)?;
    let figures = timed(&scene.scratch, || store.pull(&name))?;
    store.remove()?;
    Ok(figures)
}

/// Out of a store to a fresh registry.
///
/// # Errors
/// What the program says.
pub fn push(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let store = holder(scene, client)?;
    // A store may remember what a registry of some name has: no two have one.
    let registry = Registry::start(scene.scratch.join("pushed"))?;
    let mut pushing = store.name_for_push(ONE, &registry.name(REMOTE))?;
    let mut figures = timed(&scene.scratch, || run(&mut pushing))?;
    figures.push(figure(
        "bytes in the registry",
        Unit::Bytes,
        super::disk::usage(&registry.data())?.apparent,
    ));
    registry.remove()?;
    Ok(figures)
}

/// The list of some images.
///
/// # Errors
/// What the program says; that it does not answer.
pub fn images_some(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let (some, _) = scene.plan.size.listed();
    images(scene, client, some)
}

/// The list of many images.
///
/// # Errors
/// As [`images_some`].
pub fn images_many(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let (_, many) = scene.plan.size.listed();
    images(scene, client, many)
}

fn images(scene: &mut Scene, client: Client, expected: usize) -> io::Result<Vec<Figure>> {
    let archive = scene.corpus.many(expected)?;
    let store = scene.loaded(client, archive, &[])?;
    let listed = bounded(store.command().args(["images", "-q"])).output()?;
    if listed.status.code() == Some(TIMED_OUT) {
        return Err(io::Error::other(format!("{expected} images are not listed within {PATIENCE} seconds")));
    }
    let count = listed.stdout.split(|byte| *byte == b'\n').count() - 1;
    if count != expected {
        return Err(io::Error::other(format!("{count} images in the place of {expected}")));
    }
    let started = Instant::now();
    let mut lists = 0;
    while lists == 0 || lists < LISTS && started.elapsed() < ENOUGH {
        run(store.command().arg("images"))?;
        lists += 1;
    }
    let each = started.elapsed() / lists;
    Ok(vec![figure("each list", Unit::SecondsEach, each.as_secs_f64())])
}

/// The same command, ended after [`PATIENCE`].
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded
        .args(["--kill-after=5", &PATIENCE.to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded
}

fn holder(scene: &mut Scene, client: Client) -> io::Result<Store> {
    let archive = scene.corpus.archive_of(ONE);
    scene.loaded(client, archive, &[ONE])
}
