//! Manifests: what one image is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, Document, Other, null_is_empty, to_bytes};
use crate::error::{Error, Kind, Result};

/// An image's configuration and layers; OCI's, and docker's schema 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What kind of manifest it says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// What this artifact is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free words about it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields not named here.
    #[serde(flatten)]
    pub other: Other,
}

impl Manifest {
    /// One of these media type, configuration and layers.
    pub fn new(media_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            other: Other::new(),
        }
    }

    /// A manifest, and nothing else; see [`Document::parse`].
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Manifest> {
        match Document::parse(bytes, media_type)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => Err(Error::new(Kind::Invalid, "an index stands where a manifest should")),
        }
    }

    /// Its bytes, to be stored or sent.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        to_bytes(self, "manifest")
    }
}
