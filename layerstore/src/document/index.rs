//! Indexes: one name for the images of several platforms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, Other, Platform, null_is_empty, to_bytes};
use crate::error::{Error, Kind, Result};

/// OCI's index, and docker's manifest list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What kind of index it says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, those that are liked better first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
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

impl Index {
    /// One of this media type and manifests.
    pub fn new(media_type: &str, manifests: Vec<Descriptor>) -> Index {
        Index {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            other: Other::new(),
        }
    }

    /// The manifest that runs best on a platform: the nearest variant, the
    /// first of equals; one that names no platform only if nothing else fits.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor> {
        let images = || self.images();
        let ranked = images().filter_map(|manifest| Some((manifest.platform.as_ref()?, manifest)));
        let best = ranked
            .filter_map(|(offered, manifest)| Some((platform.distance(offered)?, manifest)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, manifest)| manifest);
        best.or_else(|| images().find(|manifest| manifest.platform.is_none())).ok_or_else(|| {
            let offered: Vec<_> =
                images().filter_map(|manifest| manifest.platform.as_ref()).map(Platform::to_string).collect();
            let error = Error::new(Kind::NotFound, format!("there is no image for {platform}"));
            match offered.is_empty() {
                true => error,
                false => error.hint(format!("there are images for {}", offered.join(", "))),
            }
        })
    }

    /// Its manifests but for attestations about others, which BuildKit files
    /// among them.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|manifest| {
            let unknown = manifest.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
            !unknown && !manifest.annotations.contains_key("vnd.docker.reference.type")
        })
    }

    /// Its bytes, to be stored or sent.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        to_bytes(self, "index")
    }
}
