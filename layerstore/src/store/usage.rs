//! Where the store's bytes are: by image, by layer, by file.
//!
//! An object is counted where it is reachable from: what only one image (or one
//! layer) has is its own, everything else is shared. What no image has is
//! garbage, which [`Store::collect`] removes.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::images::chain_id;
use super::{ImageRecord, Store};
use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::object::ObjectId;

/// Where the bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By image, in no order.
    pub images: Vec<ImageUsage>,
    /// By layer that an image has, in no order.
    pub layers: Vec<LayerUsage>,
    /// The objects that images have: the contents of files, once each.
    pub objects: Amount,
    /// Those of them that more than one layer has.
    pub shared_objects: Amount,
    /// Indexes, framings, documents and records of images.
    pub metadata: Amount,
    /// What no image has: objects, and the files of layers and images.
    pub garbage: Amount,
}

/// How many, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// All their bytes.
    pub bytes: u64,
}

/// What an image takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its id.
    pub id: Digest,
    /// Bytes of its layers' files, each time they occur.
    pub contents: u64,
    /// Bytes of its objects that other images have as well.
    pub shared: u64,
    /// Bytes of its objects that no other image has.
    pub unique: u64,
}

/// What a layer takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerUsage {
    /// The digest of its tar stream.
    pub diff_id: Digest,
    /// How many images have it.
    pub images: u64,
    /// Bytes of its files, each time they occur.
    pub contents: u64,
    /// Bytes of its objects that other layers have as well.
    pub shared: u64,
    /// Bytes of its objects that no other layer has.
    pub unique: u64,
}

/// Who has an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Has {
    One(usize),
    Many,
}

/// An object that images have.
struct Object {
    size: u64,
    layer: Has,
    image: Has,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

impl Has {
    fn and(self, other: Has) -> Has {
        if self == other { self } else { Has::Many }
    }
}

impl Store {
    /// Reads every record and every framing's list of objects; nothing is
    /// collected meanwhile.
    ///
    /// # Errors
    /// What reading one of them gave.
    pub fn usage(&self) -> Result<Usage> {
        let _adding = self.adding()?;
        let records = self.records()?;
        let mut usage = Usage::default();
        let objects = self.use_of_layers(&records, &mut usage)?;
        for object in objects.values() {
            usage.objects.add(object.size);
            match object.layer {
                Has::One(layer) => own(&mut usage.layers, layer, |layer| layer.unique += object.size),
                Has::Many => usage.shared_objects.add(object.size),
            }
            if let Has::One(image) = object.image {
                own(&mut usage.images, image, |image| image.unique += object.size);
            }
        }
        self.add_files(&records, &mut usage)?;
        for id in self.pool.ids()? {
            if !objects.contains_key(&id) {
                usage.garbage.add(self.pool.len_of(&id)?.unwrap_or(0));
            }
        }
        Ok(usage)
    }

    /// Layers and images but for what they have alone, and the objects.
    fn use_of_layers(&self, records: &[ImageRecord], usage: &mut Usage) -> Result<HashMap<ObjectId, Object>> {
        let mut users: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (image, record) in records.iter().enumerate() {
            for layer in &record.layers {
                let images = users.entry(*layer).or_default();
                // A layer may be in an image twice.
                if images.last() != Some(&image) {
                    images.push(image);
                }
            }
        }
        let mut objects: HashMap<ObjectId, Object> = HashMap::new();
        let mut of_layers = HashMap::new();
        for (diff_id, images) in &users {
            let Some(layer) = self.layer(*diff_id)? else { continue };
            let at = usage.layers.len();
            let contents = layer.record().contents;
            let of_layer = layer.framing()?.objects().to_vec();
            let image = match images[..] {
                [one] => Has::One(one),
                _ => Has::Many,
            };
            for object in &of_layer {
                let new = Object { size: object.size, layer: Has::One(at), image };
                let known = objects.entry(object.id).or_insert(new);
                known.layer = known.layer.and(Has::One(at));
                known.image = known.image.and(image);
            }
            usage.layers.push(LayerUsage {
                diff_id: *diff_id,
                images: images.len() as u64,
                contents,
                shared: 0,
                unique: 0,
            });
            of_layers.insert(*diff_id, (contents, of_layer));
        }
        let size_if = |id: &ObjectId, is_shared: fn(&Object) -> bool| {
            objects.get(id).filter(|object| is_shared(object)).map_or(0, |object| object.size)
        };
        for layer in &mut usage.layers {
            let of_layer = of_layers.get(&layer.diff_id).map(|(_, objects)| objects.as_slice());
            let of_layer = of_layer.unwrap_or_default().iter();
            layer.shared =
                of_layer.map(|object| size_if(&object.id, |object| object.layer == Has::Many)).sum();
        }
        for record in records {
            let layers = record.layers.iter().filter_map(|layer| of_layers.get(layer));
            let contents = layers.clone().map(|(contents, _)| contents).sum();
            let its: HashSet<ObjectId> =
                layers.flat_map(|(_, objects)| objects.iter().map(|object| object.id)).collect();
            let shared = its.iter().map(|id| size_if(id, |object| object.image == Has::Many)).sum();
            usage.images.push(ImageUsage { id: record.id, contents, shared, unique: 0 });
        }
        Ok(objects)
    }

    /// The store's files but for objects.
    fn add_files(&self, records: &[ImageRecord], usage: &mut Usage) -> Result<()> {
        let layers: HashSet<Digest> = records.iter().flat_map(|record| record.layers.clone()).collect();
        let images: HashSet<Digest> = records.iter().map(|record| record.id).collect();
        let chains: HashSet<Digest> = records.iter().map(|record| chain_id(&record.layers)).collect();
        let manifests = records.iter().flat_map(|record| record.manifests.clone());
        let blobs: HashSet<Digest> = images.iter().copied().chain(manifests).collect();
        for (dir, suffix, live) in [
            ("images", ".json", &images),
            ("layers", ".json", &layers),
            ("layers", ".framing", &layers),
            ("indexes", ".erofs", &chains),
            ("blobs/sha256", "", &blobs),
        ] {
            for digest in self.digests_in(dir, suffix)? {
                let path: PathBuf = self.root.join(format!("{dir}/{}{suffix}", digest.hex()));
                let len = match std::fs::symlink_metadata(&path) {
                    Ok(found) => found.len(),
                    // It was removed meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).context(|| format!("look at {}", path.display())),
                };
                if live.contains(&digest) { &mut usage.metadata } else { &mut usage.garbage }.add(len);
            }
        }
        Ok(())
    }
}

fn own<T>(all: &mut [T], at: usize, add: impl FnOnce(&mut T)) {
    if let Some(one) = all.get_mut(at) {
        add(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{Importing, import};
    use crate::scratch::Scratch;

    fn archive(files: &[(&str, u8, usize)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, byte, len) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(*len as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, &vec![*byte; *len][..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn every_byte_is_counted_once_or_as_shared() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path()).unwrap();
        let how = Importing {
            platform: crate::document::Platform::host(),
            config: Default::default(),
            created: "2024-05-06T07:08:09Z".into(),
            comment: String::new(),
        };
        let add = |files: &[(&str, u8, usize)]| import(&store, &archive(files)[..], &how).unwrap();
        let first = add(&[("common", 1, 100_000), ("own", 2, 10_000), ("twice", 2, 10_000)]);
        let second = add(&[("renamed", 1, 100_000), ("other", 3, 20_000)]);
        let usage = store.usage().unwrap();
        let of = |id| usage.images.iter().find(|image| image.id == id).unwrap();
        assert_eq!(
            (of(first.id).contents, of(first.id).shared, of(first.id).unique),
            (120_000, 100_000, 10_000)
        );
        assert_eq!((of(second.id).shared, of(second.id).unique), (100_000, 20_000));
        assert_eq!(usage.objects, Amount { count: 3, bytes: 130_000 });
        assert_eq!(usage.shared_objects, Amount { count: 1, bytes: 100_000 });
        assert!(usage.layers.iter().all(|layer| layer.images == 1 && layer.shared == 100_000));
        assert_eq!(usage.garbage, Amount::default());

        store.remove_image(first.id).unwrap();
        let usage = store.usage().unwrap();
        assert_eq!(usage.images[0].unique, 120_000);
        let garbage = usage.garbage;
        assert!(garbage.bytes > 10_000);
        let collected = store.collect().unwrap();
        assert_eq!(collected.bytes, garbage.bytes);
        assert_eq!(store.usage().unwrap().garbage, Amount::default());
    }
}
