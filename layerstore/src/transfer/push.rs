//! From the store to a registry.
//!
//! A layer goes in the compressed form that the registry has already, if it has
//! one that is known; else it is compressed anew, into a file, for its digest has
//! to be told first. A manifest that fits what was sent goes as it came, and so
//! the image keeps its digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::sync::Mutex;

use super::{AT_ONCE, Step, Watch, Watched};
use crate::compression::{self, gzip};
use crate::digest::{Digest, Hashing};
use crate::document::{Compression, Descriptor, Manifest, media};
use crate::error::{Context, Error, Kind, Result};
use crate::parallel::each;
use crate::reference::{Reference, Repository};
use crate::registry::{self, Client};
use crate::store::{Blob, ImageRecord, Layer, Store};

/// Levels that cost little time: what is pushed is pulled soon.
const GZIP_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// How layers are compressed that the registry does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushing {
    /// By gzip, if nothing is said: everybody reads it.
    pub compression: Compression,
}

impl Default for Pushing {
    fn default() -> Pushing {
        Pushing { compression: Compression::Gzip }
    }
}

/// An image that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its manifest's digest there.
    pub digest: Digest,
    /// And length, in bytes.
    pub size: u64,
}

/// Pushes an image under a reference's tag.
///
/// # Errors
/// [`Kind::Denied`] by the registry; what reading the store gave.
pub fn push(
    store: &Store,
    client: &Client,
    image: &ImageRecord,
    to: &Reference,
    how: Pushing,
    watch: Watch<'_>,
) -> Result<Pushed> {
    let repository = to.repository();
    let mut layers: Vec<Digest> = image.layers.clone();
    layers.sort();
    layers.dedup();
    let sent: Mutex<BTreeMap<Digest, Descriptor>> = Mutex::default();
    each(&layers, AT_ONCE, |diff_id| {
        let missing = || Error::new(Kind::Corrupt, format!("layer {diff_id} is lost"));
        let layer = store.layer(*diff_id)?.ok_or_else(missing)?;
        let blob = push_layer(store, client, &layer, repository, how, watch)
            .context(|| format!("layer {diff_id}"))?;
        let mut sent = sent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sent.insert(*diff_id, blob);
        Ok(())
    })?;
    let sent = sent.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let blobs: Vec<Descriptor> =
        image.layers.iter().filter_map(|diff_id| sent.get(diff_id).cloned()).collect();
    let config = store.blob(image.id)?;
    let manifest = manifest(store, image, &config, blobs)?;
    let descriptor = Descriptor { digest: image.id, ..Descriptor::of(&manifest.config_type, &config) };
    client
        .push_blob(repository, &descriptor, None, |at| Ok(config.get(at as usize..).unwrap_or_default()))?;
    let digest = client.put_manifest(to, &manifest.media_type, &manifest.bytes)?;
    store.note_digest(image.id, repository, digest)?;
    Ok(Pushed { digest, size: manifest.bytes.len() as u64 })
}

/// A manifest as it is sent.
struct Ready {
    media_type: String,
    config_type: String,
    bytes: Vec<u8>,
}

/// The manifest the image came with, if it lists just these layers; else one of
/// our own.
fn manifest(store: &Store, image: &ImageRecord, config: &[u8], blobs: Vec<Descriptor>) -> Result<Ready> {
    for known in &image.manifests {
        let bytes = store.blob(*known)?;
        let manifest = Manifest::parse(&bytes, None)?;
        let same = manifest.layers.len() == blobs.len()
            && manifest.layers.iter().zip(&blobs).all(|(a, b)| a.digest == b.digest);
        if same {
            let implied = || media::OCI_MANIFEST.to_owned();
            let media_type = manifest.media_type.clone().unwrap_or_else(implied);
            return Ok(Ready { media_type, config_type: manifest.config.media_type, bytes });
        }
    }
    let manifest = Manifest::new(media::OCI_MANIFEST, Descriptor::of(media::OCI_CONFIG, config), blobs);
    Ok(Ready {
        media_type: media::OCI_MANIFEST.to_owned(),
        config_type: media::OCI_CONFIG.to_owned(),
        bytes: manifest.to_bytes()?,
    })
}

fn push_layer(
    store: &Store,
    client: &Client,
    layer: &Layer<'_>,
    to: &Repository,
    how: Pushing,
    watch: Watch<'_>,
) -> Result<Descriptor> {
    let diff_id = layer.record().diff_id;
    for known in &layer.record().blobs {
        if let Some(step) = is_there(client, known, to)? {
            watch(known.digest, step);
            note(store, diff_id, known, to)?;
            return Ok(descriptor(known));
        }
    }
    watch(diff_id, Step::Starts { total: None });
    let (file, blob) = compress(store, layer, to, how.compression)?;
    watch(diff_id, Step::Starts { total: Some(blob.size) });
    let pushed = client.push_blob(to, &descriptor(&blob), None, |at| {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Watched { from: file, digest: diff_id, watch })
    })?;
    watch(
        diff_id,
        match pushed {
            registry::Pushed::Present => Step::Exists,
            registry::Pushed::Mounted => Step::Mounted,
            registry::Pushed::Sent => Step::Done,
        },
    );
    note(store, diff_id, &blob, to)?;
    Ok(descriptor(&blob))
}

/// How a registry has a layer's known form, if it has, or can be made to.
fn is_there(client: &Client, known: &Blob, to: &Repository) -> Result<Option<Step>> {
    let Ok(at) = Repository::parse(&known.repository) else { return Ok(None) };
    if at.registry() != to.registry() {
        return Ok(None);
    }
    if client.has_blob(to, known.digest)? {
        return Ok(Some(Step::Exists));
    }
    Ok((at != *to && client.mount_blob(to, known.digest, &at)?).then_some(Step::Mounted))
}

fn descriptor(blob: &Blob) -> Descriptor {
    Descriptor::new(&blob.media_type, blob.digest, blob.size)
}

fn note(store: &Store, diff_id: Digest, blob: &Blob, to: &Repository) -> Result<()> {
    store.note_blob(diff_id, Blob { repository: to.canonical(), ..blob.clone() })
}

/// A layer's compressed form, in a file that has no name.
fn compress(store: &Store, layer: &Layer<'_>, to: &Repository, how: Compression) -> Result<(File, Blob)> {
    let file = store.scratch()?;
    let mut compressed = Hashing::new(BufWriter::with_capacity(1 << 17, file.try_clone()?));
    let media_type = match how {
        Compression::None => {
            layer.copy(&mut compressed)?;
            media::OCI_LAYER
        }
        Compression::Gzip => {
            let framing = layer.framing()?;
            gzip::compress(framing.stream(store.pool())?, &mut compressed, GZIP_LEVEL)?;
            media::OCI_LAYER_GZIP
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut compressed, ZSTD_LEVEL)?;
            // The bytes are the same however many there are, if not none.
            encoder.multithread(compression::threads())?;
            layer.copy(&mut encoder)?;
            encoder.finish()?;
            media::OCI_LAYER_ZSTD
        }
    };
    let size = compressed.len();
    let (mut buffered, digest) = compressed.finish();
    buffered.flush()?;
    Ok((file, Blob { digest, size, media_type: media_type.to_owned(), repository: to.canonical() }))
}
