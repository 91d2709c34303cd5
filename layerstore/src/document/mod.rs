//! The documents of images: manifests, indexes, configurations.
//!
//! OCI's and docker's (schema 2) are read into the same types; the few fields
//! that differ are all kept. What a type does not name survives in its `other`
//! map, so a document we rewrite loses nothing; documents we only store are
//! kept as bytes and never written anew.
//!
//! The types are our own and not the crate `oci-spec`'s, which drops unknown
//! fields, knows none of docker's, and brings four derive crates.
//!
//! A document says what it is in up to three ways: its `mediaType`, the media
//! type it was served or referred to with, and its contents. They have to
//! agree, or two programs would see two images in one digest (CVE-2021-41190).

mod config;
mod descriptor;
mod index;
mod manifest;
pub mod media;
mod platform;
mod shape;

pub use config::{Execution, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use index::Index;
pub use manifest::Manifest;
pub use media::Compression;
pub use platform::Platform;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Kind, Result};
use shape::Shape;

/// Fields that a type does not name.
pub type Other = serde_json::Map<String, serde_json::Value>;

/// The longest document that is read, in bytes; registries take no longer ones.
pub const DOCUMENT_LIMIT: u64 = 4 << 20;

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// One image, or an artifact of another kind.
    Manifest(Box<Manifest>),
    /// Several, one for each platform.
    Index(Box<Index>),
}

impl Document {
    /// A manifest or an index. `media_type` is what it was served as or what
    /// its descriptor says, if either is known; parameters behind `;` are ignored.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Document> {
        check_length(bytes.len() as u64)?;
        let served = media_type.map(media::essence).filter(|media| !media::is_vague(media));
        let shape = Shape::of(bytes)?;
        let kind = shape.kind(served.as_deref())?;
        Ok(match kind {
            shape::DocumentKind::Manifest => Document::Manifest(Box::new(parse(bytes, "manifest")?)),
            shape::DocumentKind::Index => Document::Index(Box::new(parse(bytes, "index")?)),
        })
    }

    /// The media type it goes by: its own, or the one its contents imply.
    pub fn media_type(&self) -> &str {
        let (own, implied) = match self {
            Document::Manifest(manifest) => (&manifest.media_type, media::OCI_MANIFEST),
            Document::Index(index) => (&index.media_type, media::OCI_INDEX),
        };
        own.as_deref().unwrap_or(implied)
    }
}

/// Refuses documents over [`DOCUMENT_LIMIT`] by their length alone.
pub fn check_length(len: u64) -> Result<()> {
    if len > DOCUMENT_LIMIT {
        return Err(Error::new(
            Kind::Limit,
            format!("a document of {len} bytes is over the limit of {DOCUMENT_LIMIT} bytes (4 MiB)"),
        ));
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| malformed(what, &error))
}

fn malformed(what: &str, error: &serde_json::Error) -> Error {
    Error::new(Kind::Invalid, format!("the {what} is malformed: {error}"))
}

/// The bytes of a document of ours.
fn to_bytes(document: &impl serde::Serialize, what: &str) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| malformed(what, &error))
}

/// `null` for what is empty, as Go programs write it.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
