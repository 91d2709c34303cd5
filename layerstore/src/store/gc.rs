//! Removing what no record leads to.
//!
//! Three steps, under the exclusive lock: which layers, documents and indexes
//! the images' records lead to; which objects those layers do; and then the
//! rest is removed, what leads before what is led to. A kill leaves less
//! garbage, and nothing that leads nowhere.

use std::collections::HashSet;

use rustix::fs::FlockOperation;

use super::Store;
use super::images::chain_id;
use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::object::ObjectId;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers, by their diff ids.
    pub layers: Vec<Digest>,
    /// Objects.
    pub objects: u64,
    /// Bytes of objects, framings, documents and indexes.
    pub bytes: u64,
}

/// What the images' records lead to.
struct Live {
    layers: HashSet<Digest>,
    blobs: HashSet<Digest>,
    chains: HashSet<Digest>,
    objects: HashSet<ObjectId>,
}

impl Store {
    /// Removes what no record leads to; waits for those who add to the store.
    ///
    /// # Errors
    /// What reading a record or a framing gave: then nothing was removed.
    pub fn collect(&self) -> Result<Collected> {
        let _lock = self.lock("lock", FlockOperation::LockExclusive)?;
        self.collect_locked()
    }

    /// As [`Store::collect`]; `None` if somebody is adding to the store.
    pub fn try_collect(&self) -> Result<Option<Collected>> {
        let path = self.root.join("lock");
        let file = std::fs::File::options().read(true).append(true).create(true).open(&path);
        let file = file.context(|| format!("open {}", path.display()))?;
        if !self.try_lock(&file)? {
            return Ok(None);
        }
        self.collect_locked().map(Some)
    }

    fn collect_locked(&self) -> Result<Collected> {
        let live = self.live()?;
        let mut collected = Collected::default();
        let mut remove = |path: std::path::PathBuf| -> Result<bool> {
            let len = std::fs::symlink_metadata(&path).map(|found| found.len()).unwrap_or(0);
            let was_there = self.remove_file(&path)?;
            collected.bytes += if was_there { len } else { 0 };
            Ok(was_there)
        };
        for chain in self.digests_in("indexes", ".erofs")? {
            if !live.chains.contains(&chain) {
                remove(self.index_path(chain))?;
            }
        }
        let mut layers = Vec::new();
        for diff_id in self.digests_in("layers", ".json")? {
            if !live.layers.contains(&diff_id) && remove(self.layer_path(diff_id))? {
                layers.push(diff_id);
            }
        }
        self.sync_dir(&self.root.join("layers"))?;
        for diff_id in self.digests_in("layers", ".framing")? {
            if !live.layers.contains(&diff_id) {
                remove(self.framing_path(diff_id))?;
            }
        }
        for digest in self.digests_in("blobs/sha256", "")? {
            if !live.blobs.contains(&digest) {
                remove(self.blob_path(digest))?;
            }
        }
        collected.layers = layers;
        for id in self.pool.ids()? {
            if !live.objects.contains(&id) {
                let len = self.pool.len_of(&id)?.unwrap_or(0);
                if self.pool.remove(&id)? {
                    collected.objects += 1;
                    collected.bytes += len;
                }
            }
        }
        self.pool.clear_tmp()?;
        Ok(collected)
    }

    fn live(&self) -> Result<Live> {
        let records = self.records()?;
        let layers: HashSet<Digest> =
            records.iter().flat_map(|record| record.layers.iter().copied()).collect();
        let blobs =
            records.iter().flat_map(|record| record.manifests.iter().copied().chain([record.id])).collect();
        let chains = records.iter().map(|record| chain_id(&record.layers)).collect();
        let mut objects = HashSet::new();
        for diff_id in &layers {
            if let Some(layer) = self.layer(*diff_id)? {
                objects.extend(layer.framing()?.objects().iter().map(|object| object.id));
            }
        }
        Ok(Live { layers, blobs, chains, objects })
    }
}
