//! What the store remembers of an image and of a layer, as JSON.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::object::ObjectId;

/// An image: `images/<digest of its configuration>.json`. With this file it is
/// there; without it, it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of its configuration: its id.
    pub id: Digest,
    /// Its layers, the bottom first, by the digests of their tar streams.
    pub layers: Vec<Digest>,
    /// The fs-verity digest of its index, the file of `indexes/` that is named by
    /// the layers' chain id: all of the image's files are in this one digest.
    pub index: ObjectId,
    /// The manifests it is known to registries by, kept in `blobs/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Digest>,
    /// The repositories it was pulled from or pushed to, with the digest of the
    /// manifest or index there: `registry/path@sha256:…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<String>,
}

/// A layer: `layers/<diff id>.json`, beside its framing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The digest of its tar stream.
    pub diff_id: Digest,
    /// The length of its tar stream, bytes.
    pub size: u64,
    /// The bytes of its files' contents.
    pub contents: u64,
    /// Its entries.
    pub entries: u64,
    /// What it is compressed on registries, as far as known: a push of the same
    /// need not compress it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Blob>,
}

/// A compressed form of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The digest of the compressed bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// As what it is served.
    pub media_type: String,
    /// The repository it was seen in: `registry/path`.
    pub repository: String,
}
