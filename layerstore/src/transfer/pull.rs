//! From a registry into the store.

use std::collections::HashSet;
use std::io::Read;

use super::{AT_ONCE, Step, Watch, Watched};
use crate::compression::decompress;
use crate::digest::{Digest, Hashing};
use crate::document::{Compression, Descriptor, ImageConfig, Platform};
use crate::error::{Context, Error, Kind, Result};
use crate::parallel::each;
use crate::reference::Reference;
use crate::registry::Client;
use crate::store::{Adding, Blob, Store};

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Its id.
    pub id: Digest,
    /// The digest of what the reference names: a manifest or an index.
    pub digest: Digest,
    /// Whether the reference did not lead to this image before.
    pub is_news: bool,
}

/// One layer to be had.
struct Wanted<'m> {
    diff_id: Digest,
    blob: &'m Descriptor,
}

/// Pulls the image a reference names, for a platform, and gives it that name.
///
/// # Errors
/// [`Kind::NotFound`] or [`Kind::Denied`] by the registry; [`Kind::Corrupt`] where
/// bytes are not what their digest says; what unpacking gave.
pub fn pull(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    watch: Watch<'_>,
) -> Result<Pulled> {
    let adding = store.adding()?;
    let repository = reference.repository();
    let image = client.image(reference, platform)?;
    let config_bytes = client.small_blob(repository, &image.manifest.config)?;
    let config = ImageConfig::parse(&config_bytes)?;
    config.check_layers(&image.manifest)?;
    let mut seen = HashSet::new();
    let wanted: Vec<Wanted<'_>> = config
        .rootfs
        .diff_ids
        .iter()
        .zip(&image.manifest.layers)
        .filter(|(diff_id, _)| seen.insert(**diff_id))
        .map(|(diff_id, blob)| Wanted { diff_id: *diff_id, blob })
        .collect();
    each(&wanted, AT_ONCE, |wanted| {
        take(store, &adding, client, reference, wanted, watch)
            .context(|| format!("layer {}", wanted.blob.digest))
    })?;
    let record = store.add_image(&adding, &config_bytes, Some(&image.bytes))?;
    let digest = image.named.descriptor.digest;
    let is_news = match reference.tag() {
        Some(_) => store.name_leads_to(reference)? != Some(record.id),
        None => !record.digests.contains(&format!("{}@{digest}", repository.canonical())),
    };
    store.note_digest(record.id, repository, digest)?;
    if reference.tag().is_some() {
        store.tag(record.id, reference)?;
    }
    Ok(Pulled { id: record.id, digest, is_news })
}

fn take(
    store: &Store,
    adding: &Adding,
    client: &Client,
    reference: &Reference,
    wanted: &Wanted<'_>,
    watch: Watch<'_>,
) -> Result<()> {
    let (blob, repository) = (wanted.blob, reference.repository());
    Compression::of_layer(&blob.media_type)?;
    if store.layer(wanted.diff_id)?.is_some() {
        watch(blob.digest, Step::Exists);
    } else {
        watch(blob.digest, Step::Starts { total: Some(blob.size) });
        let download = client.blob(repository, blob, 0)?;
        let mut compressed = Hashing::new(Watched { from: download, digest: blob.digest, watch });
        store.add_layer(adding, Some(wanted.diff_id), decompress(&mut compressed)?)?;
        // What follows the compressed stream counts for its digest.
        std::io::copy(&mut compressed.by_ref(), &mut std::io::sink())?;
        let (_, found) = compressed.finish();
        if found != blob.digest {
            return Err(Error::new(Kind::Corrupt, format!("the registry sent {found}")));
        }
        watch(blob.digest, Step::Done);
    }
    let noted = Blob {
        digest: blob.digest,
        size: blob.size,
        media_type: blob.media_type.clone(),
        repository: repository.canonical(),
    };
    store.note_blob(wanted.diff_id, noted)
}
