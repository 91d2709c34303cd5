//! A union file system: read-only lower layers under one writable upper, with
//! copy-on-write and whiteouts, on disk interchangeable with kernel overlayfs.
//!
//! # The model in five nouns
//! - A **layer** is a directory tree, read through held descriptors.
//! - The **stack** of layers has a merge rule: which layer has a name, and what
//!   it hides below.
//! - An **inode** is a file of the union: a number that stays, and a place (in a
//!   lower layer, then in the upper) that changes once, by copy-up.
//! - Something **staged** is finished but not visible: it is published by one
//!   system call, or vanishes.
//! - The **union** is all of it; its operations are plain functions that take a
//!   caller and return values. [`fuse`] serves them to the kernel.
//!
//! # Map
//! | module | what | never |
//! |---|---|---|
//! | [`fuse`] | requests to operations to replies | decides on files |
//! | [`ops`] | the semantics; the only lock-taker | raw descriptors, marks' spelling |
//! | `copyup` | lower to upper | the inode table |
//! | [`inode`] | identity in memory | system calls |
//! | `stack` | layers and the merge rule | inode numbers |
//! | `ondisk` | what marks look like | layers, inodes |
//! | `object` | one file of any layer, to be read | writes |
//! | [`image`] | a container image's files, from one mapped index | layers, inodes |
//! | [`verity`] | files' fs-verity digests | layers, inodes |
//! | `sys` | system calls; the only unsafe | decisions |
//!
//! # Limits
//! Names have at most 255 bytes, a union at most 65,535 layers. What is not
//! promised, and where this differs from the kernel, is in `SEMANTICS.md`.

mod acl;
pub mod changes;
pub mod config;
mod copyup;
pub mod error;
pub mod fuse;
mod ids;
pub mod image;
pub mod inode;
mod log;
pub mod name;
mod object;
mod ondisk;
pub mod ops;
mod stack;
mod stats;
pub mod sync;
mod sys;
pub mod verity;

pub use config::Config;
pub use error::{Error, Result};

use rustix::io::Errno;

use ids::IdMap;
use inode::idle::IdleFiles;
use inode::number::Numbers;
use inode::table::{Key, Side, Table};
use inode::{Body, Dir, Inode, Learnt, NodeId, Traits};
use stack::layer::Layers;
use stack::names::Merged;
use stack::upper::Upper;
use stats::Stats;
use sync::atomic::AtomicU64;
use sync::{Arc, Mutex, RwLock};

/// One union: its layers and everything known about them.
pub struct Union {
    config: Config,
    layers: Layers,
    upper: Option<Upper>,
    table: Table,
    root: Arc<Inode>,
    numbers: Numbers,
    uids: IdMap,
    gids: IdMap,
    stats: Stats,
    /// How often a file was copied up, given its data, or its links counted, by
    /// another directory's name than one it may be looked up by meanwhile.
    copies: AtomicU64,
    /// Nodes whose attributes changed without the kernel's knowledge.
    changed: Mutex<Vec<NodeId>>,
    /// Set once a kernel takes files over; none does in a union without a mount.
    passthrough: std::sync::OnceLock<ops::Passthrough>,
    /// The node whose capability was taken away last: who does so is about to
    /// write to it.
    uncapped: AtomicU64,
    /// What some file of the upper was found to lack: where one can say so, a
    /// new one need not be asked.
    can_lack: Learnt,
    /// Files that are open for whoever asks next.
    idle: IdleFiles,
    /// Data that was verified.
    verified: ops::Verified,
}

impl Union {
    /// Opens the layers, checks them against each other and readies the
    /// working directory.
    ///
    /// # Errors
    /// A sentence that names the directory: missing, not a directory, upper and
    /// work on different file systems, or an upper that another union holds.
    pub fn open(config: Config) -> Result<Union> {
        let layers = Layers::open(&config)?;
        let upper = match &config.upper {
            Some(dirs) => Some(Upper::open(dirs, &config)?),
            None => None,
        };
        let merged = Merged {
            upper: upper.as_ref().map(|upper| upper.root.clone()),
            lowers: layers.ordinary().iter().map(|layer| layer.root.clone()).collect(),
        };
        let Some(top) = merged.top().cloned() else {
            return Err(Error::new(
                Errno::INVAL,
                "a union needs at least one layer\nhint: give lowerdir=DIR",
            ));
        };
        let stat = top.hold(&layers.fds)?.object().stat()?;
        let side = if merged.upper.is_some() { Side::Upper } else { Side::Lower };
        let key = Key { side, device: layers.device(&stat), ino: stat.ino };
        let (table, root) = Table::new(Body::Dir(Box::new(Dir {
            link: RwLock::new(None),
            merged: RwLock::new(Arc::new(merged)),
            names: Arc::default(),
            redirect: RwLock::new(None),
            traits: Traits::default(),
        })));
        table.add_key(&root, key);
        Ok(Union {
            uids: IdMap::new(config.uid_map.clone())?,
            gids: IdMap::new(config.gid_map.clone())?,
            layers,
            upper,
            table,
            root,
            numbers: Numbers::default(),
            stats: Stats::default(),
            copies: AtomicU64::new(0),
            changed: Mutex::new(Vec::new()),
            passthrough: std::sync::OnceLock::new(),
            can_lack: Learnt::default(),
            idle: IdleFiles::default(),
            verified: ops::Verified::default(),
            uncapped: AtomicU64::new(0),
            config,
        })
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The nodes that an operation changed on its way: directories copied up,
    /// whose link counts are shown otherwise now; files that another node has
    /// taken the place of. Whoever caches attributes must ask again.
    pub fn take_changed(&self) -> Vec<NodeId> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// Tells the union that files are read and written without being opened
    /// first: at most `limit` of them are kept open between.
    pub fn spare_opens(&self, limit: usize) {
        self.idle.set_limit(limit);
    }

    /// What the union was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
