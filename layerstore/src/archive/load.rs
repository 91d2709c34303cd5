//! Images from archives and layouts into the store.
//!
//! What the archive lists decides: `manifest.json` of docker's, else the
//! `index.json` of an OCI layout. An image is there once all of its layers are;
//! its names come last.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use super::docker::Listed;
use super::source::Source;
use crate::compression::decompress;
use crate::digest::Digest;
use crate::document::{Descriptor, Document, ImageConfig, Index, Manifest, Platform};
use crate::error::{Context, Error, Kind, Result};
use crate::parallel::each;
use crate::reference::Reference;
use crate::store::{Adding, ImageRecord, Store};

/// What an OCI index says an image is called.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes in indexes are followed so far.
const DEEPEST: usize = 4;

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// Its names, as the archive gave them.
    pub names: Vec<Reference>,
    /// Other images that had one of these names, and lost it.
    pub displaced: Vec<(Reference, Digest)>,
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Loading {
    /// Only images for it. If none is said: of an index's images the one for this
    /// machine, and all that an archive lists by themselves.
    pub platform: Option<Platform>,
}

/// Loads the images of an archive that comes once, compressed or not.
///
/// # Errors
/// [`Kind::Invalid`] for what is no archive of images; what the layers gave.
/// Images that came before it stay.
pub fn load_stream(store: &Store, stream: impl Read, how: &Loading) -> Result<Vec<Loaded>> {
    store.add_whole(|adding| {
        let source = Source::of_stream(store, adding, decompress(stream)?)?;
        load(store, adding, &source, how)
    })
}

/// Loads the images of an archive. One that is not compressed is read where it
/// has to be: layers that are here already are not read at all, the others side
/// by side.
///
/// # Errors
/// As [`load_stream`].
pub fn load_file(store: &Store, mut file: File, how: &Loading) -> Result<Vec<Loaded>> {
    // What a pipe has given it does not give again.
    if file.rewind().is_err() {
        return load_stream(store, file, how);
    }
    let mut head = [0; 512];
    let is_tar = file.read_exact(&mut head).is_ok() && head.get(257..262) == Some(b"ustar");
    file.rewind().context(|| "read the archive")?;
    if !is_tar {
        return load_stream(store, file, how);
    }
    store.add_whole(|adding| load(store, adding, &Source::of_file(file)?, how))
}

/// Loads the images of an OCI image layout.
///
/// # Errors
/// As [`load_stream`].
pub fn load_dir(store: &Store, dir: &Path, how: &Loading) -> Result<Vec<Loaded>> {
    store.add_whole(|adding| load(store, adding, &Source::Dir(dir.to_owned()), how))
}

fn load(store: &Store, adding: &Adding, source: &Source, how: &Loading) -> Result<Vec<Loaded>> {
    if let Some(manifest) = source.document("manifest.json")? {
        return load_docker(store, adding, source, &manifest, how);
    }
    let Some(index) = source.document("index.json")? else {
        if source.is_empty() {
            return Err(Error::new(Kind::Invalid, "there is nothing in the archive"));
        }
        return Err(Error::new(
            Kind::Invalid,
            "this is no archive of images: it has neither manifest.json nor index.json",
        )
        .hint("a root file system's archive becomes an image by `runion import`"));
    };
    let Document::Index(index) = Document::parse(&index, None)? else {
        return Err(Error::new(Kind::Invalid, "the layout's index.json is no index"));
    };
    load_layout(store, adding, source, &index, how)
}

fn load_docker(
    store: &Store,
    adding: &Adding,
    source: &Source,
    manifest: &[u8],
    how: &Loading,
) -> Result<Vec<Loaded>> {
    let listed: Vec<Listed> = serde_json::from_slice(manifest).map_err(|error| {
        let message = format!("the archive's manifest.json is malformed: {error}");
        let error = Error::new(Kind::Invalid, message);
        match Manifest::parse(manifest, None) {
            Ok(_) => {
                error.hint("skopeo copy dir:DIR oci:LAYOUT:NAME makes a layout of skopeo's own directory")
            }
            Err(_) => error,
        }
    })?;
    let (mut loaded, mut others) = (Vec::new(), Vec::new());
    for image in &listed {
        let bytes = source.expect(&image.config)?;
        let config = ImageConfig::parse(&bytes)?;
        match how.platform.as_ref().is_none_or(|platform| config.fits(platform)) {
            true => loaded.push(load_listed(store, adding, source, image, &bytes, config)?),
            false => others.push(config.platform()),
        }
    }
    some_loaded(loaded, how, &others)
}

/// What was loaded, if there was anything for the platform that was asked for.
fn some_loaded(loaded: Vec<Loaded>, how: &Loading, others: &[Platform]) -> Result<Vec<Loaded>> {
    let Some(platform) = how.platform.as_ref().filter(|_| loaded.is_empty() && !others.is_empty()) else {
        return Ok(loaded);
    };
    let others = others.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ");
    Err(Error::new(Kind::NotFound, format!("the archive has no image for {platform}"))
        .hint(format!("there are images for {others}")))
}

fn load_listed(
    store: &Store,
    adding: &Adding,
    source: &Source,
    image: &Listed,
    bytes: &[u8],
    config: ImageConfig,
) -> Result<Loaded> {
    let names = image.repo_tags.iter().filter_map(|name| parse_name(name).transpose());
    let names = names.collect::<Result<Vec<_>>>()?;
    let (listed, known) = (image.layers.len(), config.rootfs.diff_ids.len());
    if listed != known {
        let message =
            format!("the archive lists {listed} layers of {} and its configuration {known}", image.config);
        return Err(Error::new(Kind::Invalid, message));
    }
    let layers: Vec<(&str, Digest)> =
        image.layers.iter().map(String::as_str).zip(config.rootfs.diff_ids).collect();
    take_layers(store, adding, source, &layers)?;
    named(store, store.add_image(adding, bytes, None)?, names)
}

fn load_layout(
    store: &Store,
    adding: &Adding,
    source: &Source,
    index: &Index,
    how: &Loading,
) -> Result<Vec<Loaded>> {
    let (mut loaded, mut others) = (Vec::new(), Vec::new());
    for descriptor in index.images() {
        let name = [CONTAINERD_NAME, REF_NAME].iter().find_map(|key| descriptor.annotations.get(*key));
        // A bare tag says nothing of the repository.
        let name = name.filter(|name| name.contains([':', '/'])).map(|name| parse_name(name)).transpose()?;
        let Some((bytes, manifest)) = manifest_of(source, descriptor, how, DEEPEST)? else {
            continue;
        };
        let config_bytes = document(source, &manifest.config)?;
        let config = ImageConfig::parse(&config_bytes)?;
        if how.platform.as_ref().is_some_and(|platform| !config.fits(platform)) {
            others.push(config.platform());
            continue;
        }
        config.check_layers(&manifest)?;
        for layer in &manifest.layers {
            check_length(source, layer)?;
        }
        let paths: Vec<String> = manifest.layers.iter().map(|layer| blob(layer.digest)).collect();
        let layers: Vec<(&str, Digest)> =
            paths.iter().map(String::as_str).zip(config.rootfs.diff_ids).collect();
        take_layers(store, adding, source, &layers)?;
        let record = store.add_image(adding, &config_bytes, Some(&bytes))?;
        loaded.push(named(store, record, name.flatten().into_iter().collect())?);
    }
    if loaded.is_empty() && others.is_empty() {
        return Err(Error::new(Kind::NotFound, "there is no image in the layout"));
    }
    some_loaded(loaded, how, &others)
}

/// The manifest that a descriptor leads to, over indexes; `None` for what is no
/// image.
fn manifest_of(
    source: &Source,
    descriptor: &Descriptor,
    how: &Loading,
    deepest: usize,
) -> Result<Option<(Vec<u8>, Manifest)>> {
    let bytes = document(source, descriptor)?;
    match Document::parse(&bytes, Some(&descriptor.media_type))? {
        Document::Manifest(manifest) if crate::document::media::is_config(&manifest.config.media_type) => {
            Ok(Some((bytes, *manifest)))
        }
        // An artifact of another kind.
        Document::Manifest(_) => Ok(None),
        Document::Index(index) => {
            let Some(deepest) = deepest.checked_sub(1) else {
                return Err(Error::new(
                    Kind::Limit,
                    format!("more than {DEEPEST} indexes lead to each other"),
                ));
            };
            let platform = how.platform.clone().unwrap_or_else(Platform::host);
            manifest_of(source, index.choose(&platform)?, how, deepest)
        }
    }
}

/// The document that a descriptor speaks of, as it has to be.
fn document(source: &Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let path = blob(descriptor.digest);
    let bytes = source.expect(&path)?;
    descriptor.verify(&bytes).context(|| format!("{path} of the archive"))?;
    Ok(bytes)
}

/// What a layer's bytes are is told by its diff id once they are decompressed;
/// how many they are, here.
fn check_length(source: &Source, layer: &Descriptor) -> Result<()> {
    let path = blob(layer.digest);
    match source.len_of(&path)? {
        Some(len) if len != layer.size => {
            let message = format!("{path} of the archive has {len} bytes instead of {}", layer.size);
            Err(Error::new(Kind::Corrupt, message))
        }
        // One that is lacking may be in the store.
        Some(_) | None => Ok(()),
    }
}

fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A name as an archive gives it. One by digest alone is none: it says what the
/// image is, which is known by now.
fn parse_name(text: &str) -> Result<Option<Reference>> {
    Ok(Some(Reference::parse(text)?).filter(|name| name.tag().is_some()))
}

fn named(store: &Store, record: ImageRecord, names: Vec<Reference>) -> Result<Loaded> {
    let mut displaced = Vec::new();
    for name in &names {
        displaced.extend(store.tag(record.id, name)?.map(|before| (name.clone(), before)));
    }
    Ok(Loaded { id: record.id, names, displaced })
}

/// Takes layers in, side by side. The first error ends it.
fn take_layers(store: &Store, adding: &Adding, source: &Source, layers: &[(&str, Digest)]) -> Result<()> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    each(layers, at_once, |(path, diff_id)| source.layer(store, adding, path, *diff_id))
}
