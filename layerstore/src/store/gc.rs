//! Removing what no record leads to.
//!
//! Three steps, under the exclusive lock: which layers, documents and indexes
//! the images' records lead to; which objects those layers do; and then the
//! rest is removed, what leads before what is led to. A kill leaves less
//! garbage, and nothing that leads nowhere.

use std::collections::HashSet;

use rustix::fs::FlockOperation;

use super::Store;
use super::disk::REPAIR;
use super::images::chain_id;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
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
        let Some(_lock) = self.try_lock("lock")? else { return Ok(None) };
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
        self.tidy()?;
        Ok(collected)
    }

    /// Removes names and locks of images that are gone, and what is left in
    /// `tmp/`: who changes names or records writes there without the store's lock.
    fn tidy(&self) -> Result<()> {
        self.change_names(|names| {
            let images: HashSet<Digest> = self.digests_in("images", ".json")?.into_iter().collect();
            names.retain(|_, id| images.contains(id));
            for id in self.digests_in("images", ".lock")? {
                // Who takes it for an image that is gone does not get it either.
                if !images.contains(&id) {
                    self.remove_file(&self.root.join(format!("images/{}.lock", id.hex())))?;
                }
            }
            self.pool.clear_tmp()
        })?;
        Ok(())
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
            let layer = self
                .layer(*diff_id)?
                .ok_or_else(|| Error::new(Kind::Corrupt, format!("layer {diff_id} is lost")).hint(REPAIR))?;
            objects.extend(layer.framing()?.objects().iter().map(|object| object.id));
        }
        Ok(Live { layers, blobs, chains, objects })
    }
}
