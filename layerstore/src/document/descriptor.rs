//! Descriptors: how a document refers to bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Other, Platform, null_is_empty};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

/// Some bytes: what they are, what they hash to, how many there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What they are.
    pub media_type: String,
    /// What they hash to.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// Other places to have them from; never followed.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free words about them.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What runs them, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The kind of artifact they are the manifest of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Fields not named here.
    #[serde(flatten)]
    pub other: Other,
}

impl Descriptor {
    /// Of bytes that are here.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Of bytes that are elsewhere.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            other: Other::new(),
        }
    }

    /// Whether these are the bytes it speaks of.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != self.size {
            let message = format!("{} has {} bytes instead of {}", self.digest, bytes.len(), self.size);
            return Err(Error::new(Kind::Corrupt, message));
        }
        let found = Digest::of(bytes);
        if found != self.digest {
            let message = format!("bytes that should be {} are {found}", self.digest);
            return Err(Error::new(Kind::Corrupt, message));
        }
        Ok(())
    }
}
