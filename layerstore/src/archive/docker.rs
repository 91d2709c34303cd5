//! `manifest.json` of docker's archives.

use serde::{Deserialize, Serialize};

/// One image of the archive; paths are of the archive's entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    /// Its configuration.
    pub config: String,
    /// Its names.
    #[serde(default, deserialize_with = "null_is_none")]
    pub repo_tags: Vec<String>,
    /// Its layers' tar streams, the bottom first.
    #[serde(default, deserialize_with = "null_is_none")]
    pub layers: Vec<String>,
}

fn null_is_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
