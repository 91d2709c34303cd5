//! What runs share: the corpus, stores that are only read, and the clock.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, mount};

use super::Plan;
use super::client::{self, Client, Store};
use super::corpus::{Corpus, Size};
use super::registry::Registry;
use crate::figure::{Figure, Unit};
use crate::walk;

/// The scene of all runs of a session.
pub struct Scene {
    /// What is measured, and with what.
    pub plan: Plan,
    /// The images.
    pub corpus: Corpus,
    /// Where stores and mounts are made.
    pub scratch: PathBuf,
    /// A registry that has the image, once somebody needed it.
    pub registry: Option<Registry>,
    /// How many entries the mounted image has, once somebody has counted.
    pub entries: Option<u64>,
    loaded: HashMap<(Client, PathBuf), Store>,
    _lock: fs::File,
}

impl Scene {
    /// The corpus, made if it is not there, and an empty place for the rest.
    ///
    /// # Errors
    /// What keeps them from being made.
    pub fn new(plan: Plan) -> io::Result<Scene> {
        mount("tmpfs", client::RUN, "tmpfs", MountFlags::empty(), None)?;
        fs::create_dir_all(plan.home.join("images"))?;
        let lock = fs::File::create(plan.home.join("images/lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("images are being measured already"))?;
        let corpus = Corpus::make(&plan.home, plan.size)?;
        let scratch = plan.home.join("images/scratch");
        client::remove(&scratch)?;
        fs::create_dir_all(&scratch)?;
        if plan.size == Size::Quick {
            // Nobody waits for a disk that others write to.
            mount("tmpfs", &scratch, "tmpfs", MountFlags::empty(), None)?;
        }
        Ok(Scene {
            plan,
            corpus,
            scratch,
            registry: None,
            entries: None,
            loaded: HashMap::new(),
            _lock: lock,
        })
    }

    /// An empty store.
    ///
    /// # Errors
    /// Those of making it.
    pub fn fresh(&self, client: Client) -> io::Result<Store> {
        Store::create(client, self.scratch.join(format!("fresh-{}", client.name())), &self.plan.runion)
    }

    /// A store that holds an archive's images, and is only read: made for the
    /// first who asks.
    ///
    /// # Errors
    /// Those of loading.
    pub fn loaded(&mut self, client: Client, archive: PathBuf, names: &[&str]) -> io::Result<Store> {
        if let Some(store) = self.loaded.get(&(client, archive.clone())) {
            return Ok(store.clone());
        }
        let stem = archive.file_stem().unwrap_or_default().to_string_lossy();
        let dir = self.scratch.join(format!("loaded-{}-{stem}", client.name()));
        let store = Store::create(client, dir, &self.plan.runion)?;
        store.load(&archive, names)?;
        self.loaded.insert((client, archive), store.clone());
        Ok(store)
    }

    /// Takes everything away but the corpus.
    ///
    /// # Errors
    /// Those of removing files.
    pub fn clear(self) -> io::Result<()> {
        drop(self.registry);
        client::remove(&self.scratch)
    }
}

/// Does something and tells how long it took until it returned, and until all
/// that it wrote to the file system of `place` was on disk: not everybody waits
/// for that.
///
/// # Errors
/// Those of what is done.
pub fn timed(place: &Path, action: impl FnOnce() -> io::Result<()>) -> io::Result<Vec<Figure>> {
    sync(place)?;
    let started = Instant::now();
    action()?;
    let returned = started.elapsed();
    sync(place)?;
    let durable = started.elapsed();
    Ok(vec![
        figure("until it returns", Unit::Seconds, returned.as_secs_f64()),
        figure("until it is on disk", Unit::Seconds, durable.as_secs_f64()),
    ])
}

/// A number that was measured once.
pub fn figure(name: &str, unit: Unit, value: f64) -> Figure {
    Figure { name: name.to_owned(), value, unit, operations: 1, requests: Default::default() }
}

/// Waits until the file system of `place` has everything on disk.
///
/// # Errors
/// Those of syncfs(2).
pub fn sync(place: &Path) -> io::Result<()> {
    rustix::fs::syncfs(walk::open(place)?).map_err(Into::into)
}
