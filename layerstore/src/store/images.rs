//! Images: their records, and finding them by what users call them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use unionfs::config::Verity;
use unionfs::verity::{self, Measured};

use super::disk::REPAIR;
use super::names::{self, Names, not_found};
use super::{Adding, ImageRecord, Store};
use crate::digest::Digest;
use crate::document::{ImageConfig, Manifest};
use crate::error::{Context, Error, Kind, Result};
use crate::index;
use crate::layer::apply;
use crate::object::{ObjectId, VerityHash};
use crate::reference::{IdPrefix, Reference};
use crate::seal::{self, Contents};
use crate::tree::Tree;

/// An image that is here.
#[derive(Clone, Debug)]
pub struct Image {
    /// What is remembered of it.
    pub record: ImageRecord,
    /// Its names, as references are displayed, sorted.
    pub names: Vec<Reference>,
}

/// Proof that an image's files stay while it is held.
pub struct InUse {
    _record: File,
}

impl Image {
    /// Its id: the digest of its configuration.
    pub fn id(&self) -> Digest {
        self.record.id
    }
}

impl Store {
    pub(super) fn record_path(&self, id: Digest) -> PathBuf {
        self.root.join(format!("images/{}.json", id.hex()))
    }

    pub(super) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root.join(format!("blobs/sha256/{}", digest.hex()))
    }

    pub(super) fn index_path(&self, chain: Digest) -> PathBuf {
        self.root.join(format!("indexes/{}.erofs", chain.hex()))
    }

    pub(super) fn record(&self, id: Digest) -> Result<ImageRecord> {
        self.read(&self.record_path(id))?.ok_or_else(|| not_found(&id.to_string()))
    }

    /// The records of all images, in no order.
    pub(super) fn records(&self) -> Result<Vec<ImageRecord>> {
        // One that was listed may be gone by now.
        let records = self.digests_in("images", ".json")?.into_iter();
        records.filter_map(|id| self.read(&self.record_path(id)).transpose()).collect()
    }

    /// All images, in no order.
    pub fn images(&self) -> Result<Vec<Image>> {
        let names = self.names()?;
        let mut images: Vec<Image> =
            self.records()?.into_iter().map(|record| Image { record, names: Vec::new() }).collect();
        let by_id: std::collections::HashMap<Digest, usize> =
            images.iter().enumerate().map(|(at, image)| (image.id(), at)).collect();
        for (name, id) in &names {
            if let Some(image) = by_id.get(id).and_then(|&at| images.get_mut(at)) {
                image.names.push(Reference::parse(name)?);
            }
        }
        Ok(images)
    }

    /// The image a user means: a name, a name with a digest, or an id or the
    /// beginning of one.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or [`Kind::Invalid`] for what is no reference, or the
    /// beginning of several ids.
    pub fn find(&self, text: &str) -> Result<Image> {
        let names = self.names()?;
        let reference = Reference::parse(text);
        let by_name = match &reference {
            Ok(reference) if reference.digest().is_none() => names.get(&names::key(reference)?).copied(),
            _ => None,
        };
        let id = match (by_name, &reference, IdPrefix::parse(text)) {
            (Some(id), _, _) => id,
            (None, _, Some(prefix)) => self.by_prefix(text, &prefix)?,
            (None, Ok(reference), None) => self.by_digest(reference)?,
            (None, Err(error), None) => return Err(error.clone()),
        };
        let record = self.record(id)?;
        let names = names.iter().filter(|(_, named)| **named == id);
        let names = names.map(|(name, _)| Reference::parse(name)).collect::<Result<_>>()?;
        Ok(Image { record, names })
    }

    fn by_prefix(&self, text: &str, prefix: &IdPrefix) -> Result<Digest> {
        let ids = self.digests_in("images", ".json")?;
        let mut matching = ids.into_iter().filter(|id| prefix.matches(id));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(not_found(text)),
            (Some(_), Some(_)) => {
                Err(Error::new(Kind::Invalid, format!("several images' ids begin with {text}"))
                    .hint("give more digits"))
            }
        }
    }

    fn by_digest(&self, reference: &Reference) -> Result<Digest> {
        let Some(digest) = reference.digest() else { return Err(not_found(&reference.to_string())) };
        let wanted = format!("{}@{digest}", reference.repository().canonical());
        let found = self.records()?.into_iter().find(|record| record.digests.contains(&wanted));
        found.map(|record| record.id).ok_or_else(|| not_found(&reference.to_string()))
    }

    /// An image's configuration.
    pub fn config(&self, image: &ImageRecord) -> Result<ImageConfig> {
        ImageConfig::parse(&self.blob(image.id)?)
    }

    /// A document kept as it came: a configuration or a manifest.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] where it is not what its name says.
    pub fn blob(&self, digest: Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = std::fs::read(&path).context(|| format!("read {}", path.display()))?;
        match Digest::of(&bytes) == digest {
            true => Ok(bytes),
            false => {
                Err(Error::new(Kind::Corrupt, format!("{} is not what it was", path.display())).hint(REPAIR))
            }
        }
    }

    fn add_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(digest);
        // One that is broken is made whole.
        if !std::fs::read(&path).is_ok_and(|there| there == bytes) {
            self.replace(&path, bytes)?;
        }
        Ok(digest)
    }

    /// Adds an image whose layers are all here. One that is here already learns
    /// of the manifest.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a layer that is not here; what applying the layers
    /// gave.
    pub fn add_image(&self, _adding: &Adding, config: &[u8], manifest: Option<&[u8]>) -> Result<ImageRecord> {
        let parsed = ImageConfig::parse(config)?;
        if let Some(manifest) = manifest {
            parsed.check_layers(&Manifest::parse(manifest, None)?)?;
        }
        let layers = parsed.rootfs.diff_ids;
        let id = self.add_blob(config)?;
        let known = self.read::<ImageRecord>(&self.record_path(id))?;
        let index = self.index_of(&layers, known.map(|known| known.index))?;
        let manifests: Vec<Digest> =
            manifest.map(|bytes| self.add_blob(bytes)).transpose()?.into_iter().collect();
        self.change_names(|_| {
            let known = self.read::<ImageRecord>(&self.record_path(id))?;
            let mut record = known.clone().unwrap_or(ImageRecord {
                id,
                layers,
                index,
                manifests: vec![],
                digests: vec![],
            });
            record.index = index;
            for manifest in manifests {
                if !record.manifests.contains(&manifest) {
                    record.manifests.push(manifest);
                }
            }
            self.rewrite(known.as_ref(), &record)?;
            Ok(record)
        })
    }

    /// Remembers that an image has this digest in a repository.
    pub fn note_digest(
        &self,
        id: Digest,
        repository: &crate::reference::Repository,
        digest: Digest,
    ) -> Result<()> {
        let noted = format!("{}@{digest}", repository.canonical());
        self.change_record(id, |record| {
            if !record.digests.contains(&noted) {
                record.digests.push(noted);
                record.digests.sort();
            }
        })
    }

    /// Changes an image's record.
    pub(super) fn change_record(&self, id: Digest, change: impl FnOnce(&mut ImageRecord)) -> Result<()> {
        self.change_names(|_| {
            let known = self.record(id)?;
            let mut record = known.clone();
            change(&mut record);
            self.rewrite(Some(&known), &record)
        })
    }

    /// Forgets that an image has a digest in a repository, written as
    /// [`ImageRecord::digests`] has it.
    pub fn forget_digest(&self, id: Digest, noted: &str) -> Result<()> {
        self.change_names(|_| {
            let known = self.record(id)?;
            let mut record = known.clone();
            record.digests.retain(|digest| digest != noted);
            self.rewrite(Some(&known), &record)
        })
    }

    /// Writes a record that has changed. Who uses the image has a lock on the
    /// file itself: it is written in place of the old one, which they keep.
    fn rewrite(&self, known: Option<&ImageRecord>, record: &ImageRecord) -> Result<()> {
        match known == Some(record) {
            true => Ok(()),
            false => self.write(&self.record_path(record.id), record),
        }
    }

    /// The index of an image of these layers, made unless it is there with the
    /// digest that a record knows: one that nobody knows may be broken. Its digest.
    pub(super) fn index_of(&self, layers: &[Digest], known: Option<ObjectId>) -> Result<ObjectId> {
        let path = self.index_path(chain_id(layers));
        if let Some(known) = known {
            match contents_of(&path) {
                Ok(found) if found.id == known => return Ok(known),
                Err(error) if !matches!(error.kind(), Kind::Corrupt | Kind::NotFound) => return Err(error),
                _ => {}
            }
        }
        let tree = self.tree(layers)?;
        let mut staged = self.stage()?;
        let digest = {
            let to = std::io::BufWriter::with_capacity(1 << 20, &mut staged);
            let mut hashing = Hashed { to, hash: VerityHash::new() };
            let written =
                index::write(&tree, uuid_of(layers), &mut hashing).and_then(|()| Ok(hashing.flush()?));
            written.context(|| format!("write {}", path.display()))?;
            ObjectId(hashing.hash.finish())
        };
        staged.publish_sealed(&path)?;
        Ok(digest)
    }

    /// The files of these layers, merged; the bottom layer first.
    pub fn tree(&self, layers: &[Digest]) -> Result<Tree> {
        let mut tree = Tree::new();
        for diff_id in layers {
            let layer = self.layer(*diff_id)?;
            let layer =
                layer.ok_or_else(|| Error::new(Kind::NotFound, format!("no such layer: {diff_id}")))?;
            let framing = layer.framing()?;
            apply::apply(&mut tree, framing.entries(&self.limits)?, &self.limits)
                .context(|| format!("layer {diff_id}"))?;
        }
        Ok(tree)
    }

    /// Where an image's index is, for a union's lower.
    pub fn index_file(&self, image: &ImageRecord) -> PathBuf {
        self.index_path(chain_id(&image.layers))
    }

    /// How an image's files are verified: as it is asked for, else wherever that
    /// costs nothing, its index being sealed. If they are, the index is what its
    /// record says: of a sealed one the kernel tells, another is read.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] where it is not, or is not sealed and has to be.
    pub fn verity(&self, image: &ImageRecord, asked: Option<Verity>) -> Result<Verity> {
        if asked == Some(Verity::Off) {
            return Ok(Verity::Off);
        }
        let path = self.index_file(image);
        let reading = || format!("read {}", path.display());
        let file = File::open(&path).context(reading)?;
        let found = match (asked, verity::measure(&file).context(reading)?) {
            (_, Measured::Sealed(found)) => found,
            (None, _) => return Ok(Verity::Off),
            (Some(Verity::Require), _) => {
                let message = format!("{} is not sealed by fs-verity", path.display());
                return Err(Error::new(Kind::Corrupt, message)
                    .hint("where the file system has fs-verity, `runion fsck --repair` seals it"));
            }
            (Some(_), _) => verity::digest_of(&file).context(reading)?,
        };
        if ObjectId(found) != image.index {
            let message = format!("{} has the digest {}", path.display(), ObjectId(found).hex());
            return Err(Error::new(Kind::Corrupt, message).hint("`runion fsck --repair` makes it anew"));
        }
        Ok(asked.unwrap_or(Verity::On))
    }

    /// Holds an image: it is not removed while the proof is there.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn hold(&self, id: Digest) -> Result<InUse> {
        loop {
            let lock = self.lock(&lock_name(id), FlockOperation::LockShared)?;
            self.record(id)?;
            // Whoever removed the image while we waited has removed the lock too:
            // an image that came since has another one.
            if self.is_at(&lock, &lock_name(id))? || self.is_read_only()? {
                return Ok(InUse { _record: lock });
            }
        }
    }

    /// Removes an image with all its names; its layers stay until
    /// [`Store::collect`].
    ///
    /// # Errors
    /// [`Kind::InUse`] while somebody holds it.
    pub fn remove_image(&self, id: Digest) -> Result<()> {
        self.change_names(|names| self.remove_record(id, names, || false))
    }

    /// Removes an image that is still called what it was when it was found; false,
    /// and nothing is done, if it has gained or lost a name or a digest since: who
    /// decided by them has to look again.
    ///
    /// Whether it is used by what the store does not know is asked once nobody can
    /// hold the image any more: who holds it while he becomes a user is seen,
    /// either by his hold or by what he has become.
    ///
    /// # Errors
    /// As [`Store::remove_image`].
    pub fn remove_unchanged(&self, image: &Image, is_used: impl FnOnce() -> bool) -> Result<bool> {
        let id = image.id();
        self.change_names(|names| {
            let called = names.iter().filter(|(_, named)| **named == id).map(|(name, _)| name.clone());
            let was_called = image.names.iter().map(names::key).collect::<Result<BTreeSet<_>>>()?;
            let is_same = called.collect::<BTreeSet<_>>() == was_called
                && self.record(id)?.digests == image.record.digests;
            if is_same {
                self.remove_record(id, names, is_used)?;
            }
            Ok(is_same)
        })
    }

    fn remove_record(&self, id: Digest, names: &mut Names, is_used: impl FnOnce() -> bool) -> Result<()> {
        self.record(id)?;
        let lock = self.try_lock(&lock_name(id))?;
        if lock.is_none() || is_used() {
            return Err(Error::new(Kind::InUse, format!("the image {} is in use", short(&id))));
        }
        self.remove_file(&self.record_path(id))?;
        self.remove_file(&self.root.join(lock_name(id)))?;
        self.sync_dir(&self.root.join("images"))?;
        // A kill before they are gone leaves names that lead nowhere, which
        // the next collection removes.
        names.retain(|_, named| *named != id);
        Ok(())
    }
}

/// The lock of an image, in the store.
fn lock_name(id: Digest) -> String {
    format!("images/{}.lock", id.hex())
}

/// The first twelve digits, as images are listed.
pub fn short(id: &Digest) -> String {
    id.hex().chars().take(12).collect()
}

/// What a stack of layers is called, the bottom first (OCI image specification,
/// "Layer ChainID"); of none at all, the digest of nothing.
pub(super) fn chain_id(layers: &[Digest]) -> Digest {
    let mut rest = layers.iter();
    let first = rest.next().copied().unwrap_or_else(|| Digest::of(b""));
    rest.fold(first, |chain, layer| Digest::of(format!("{chain} {layer}").as_bytes()))
}

/// Tells an index from others: the beginning of its layers' chain id.
fn uuid_of(layers: &[Digest]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(chain_id(layers).bytes()).for_each(|(to, byte)| *to = *byte);
    uuid
}

/// What a file contains.
pub(super) fn contents_of(path: &Path) -> Result<Contents> {
    let file = File::open(path).context(|| format!("read {}", path.display()))?;
    seal::contents(&file, || path.display().to_string())
}

/// Writes on, and computes the fs-verity digest.
struct Hashed<W> {
    to: W,
    hash: VerityHash,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
