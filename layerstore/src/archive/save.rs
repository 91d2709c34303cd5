//! Images from the store into archives and layouts.
//!
//! An archive is both at once, docker's and an OCI image layout, as docker
//! writes it: layers are plain tar streams under their digests, bit for bit as
//! they came; `manifest.json` and `index.json` lead to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

use super::docker::Listed;
use crate::digest::Digest;
use crate::document::{Descriptor, Index, Manifest, media};
use crate::error::{Context, Error, Kind, Result};
use crate::reference::Reference;
use crate::store::{ImageRecord, Store};

/// Which tables of contents an archive has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Docker's and OCI's.
    Docker,
    /// OCI's alone.
    Oci,
}

/// Where the parts go.
trait Sink {
    fn part(&mut self, path: &str, len: u64, from: &mut dyn Read) -> Result<()>;
}

struct Archive<W: Write>(tar::Builder<W>);

impl<W: Write> Sink for Archive<W> {
    fn part(&mut self, path: &str, len: u64, from: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(len);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        self.0.append_data(&mut header, path, from).context(|| format!("write {path} to the archive"))
    }
}

struct Dir<'d>(&'d Path);

impl Sink for Dir<'_> {
    fn part(&mut self, path: &str, _len: u64, from: &mut dyn Read) -> Result<()> {
        let path = self.0.join(path);
        let mut write = || -> std::io::Result<()> {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mut file = std::fs::File::create(&path)?;
            std::io::copy(from, &mut file)?;
            file.sync_all()
        };
        write().context(|| format!("write {}", path.display()))
    }
}

/// Writes images as one archive; each is given with the names it gets in there.
///
/// # Errors
/// What reading the store or writing gave; part of the archive may be written.
pub fn save(
    store: &Store,
    images: &[(ImageRecord, Vec<Reference>)],
    format: Format,
    to: impl Write,
) -> Result<()> {
    let mut archive = Archive(tar::Builder::new(to));
    write(store, images, format, &mut archive)?;
    let mut to = archive.0.into_inner().context(|| "write the archive")?;
    to.flush().context(|| "write the archive")
}

/// Writes images as an OCI image layout into a directory, which must be empty
/// or not there.
///
/// # Errors
/// As [`save`].
pub fn save_dir(store: &Store, images: &[(ImageRecord, Vec<Reference>)], dir: &Path) -> Result<()> {
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::new(Kind::InUse, format!("{} is not empty", dir.display())));
    }
    write(store, images, Format::Oci, &mut Dir(dir))
}

fn write(
    store: &Store,
    images: &[(ImageRecord, Vec<Reference>)],
    format: Format,
    sink: &mut dyn Sink,
) -> Result<()> {
    let mut there = BTreeSet::new();
    let mut listed: Vec<Listed> = Vec::new();
    let mut index = Vec::new();
    for (record, names) in images {
        let mut layers = Vec::new();
        for diff_id in &record.layers {
            let missing = || Error::new(Kind::Corrupt, format!("layer {diff_id} is lost"));
            let layer = store.layer(*diff_id)?.ok_or_else(missing)?;
            let size = layer.record().size;
            if there.insert(*diff_id) {
                let framing = layer.framing()?;
                sink.part(&blob(*diff_id), size, &mut framing.stream(store.pool())?)?;
            }
            layers.push(Descriptor::new(media::OCI_LAYER, *diff_id, size));
        }
        let config = store.blob(record.id)?;
        let mut document = |bytes: &[u8]| -> Result<()> {
            match there.insert(Digest::of(bytes)) {
                true => sink.part(&blob(Digest::of(bytes)), bytes.len() as u64, &mut &*bytes),
                false => Ok(()),
            }
        };
        document(&config)?;
        let manifest = Manifest::new(media::OCI_MANIFEST, Descriptor::of(media::OCI_CONFIG, &config), layers)
            .to_bytes()?;
        document(&manifest)?;
        listed.push(Listed {
            config: blob(record.id),
            repo_tags: names.iter().map(Reference::to_string).collect(),
            layers: record.layers.iter().map(|layer| blob(*layer)).collect(),
        });
        let descriptor = Descriptor::of(media::OCI_MANIFEST, &manifest);
        match names.is_empty() {
            true => index.push(descriptor),
            false => index.extend(names.iter().map(|name| called(&descriptor, name))),
        }
    }
    let mut document = |path: &str, bytes: Vec<u8>| sink.part(path, bytes.len() as u64, &mut &*bytes);
    document("index.json", Index::new(media::OCI_INDEX, index).to_bytes()?)?;
    document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())?;
    if format == Format::Docker {
        document("manifest.json", json(&listed)?)?;
        document("repositories", json(&repositories(images))?)?;
    }
    Ok(())
}

fn called(descriptor: &Descriptor, name: &Reference) -> Descriptor {
    let mut descriptor = descriptor.clone();
    descriptor.annotations.insert("io.containerd.image.name".into(), name.canonical());
    descriptor
        .annotations
        .insert("org.opencontainers.image.ref.name".into(), name.tag().unwrap_or_default().into());
    descriptor
}

/// The table of docker before 1.10: repository, tag, top layer.
fn repositories(images: &[(ImageRecord, Vec<Reference>)]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut table: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (record, names) in images {
        let top = record.layers.last().map(Digest::hex).unwrap_or_default();
        for name in names {
            let tags = table.entry(name.repository().to_string()).or_default();
            tags.insert(name.tag().unwrap_or_default().to_owned(), top.clone());
        }
    }
    table
}

fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(Kind::System, format!("write the archive: {error}")))
}
