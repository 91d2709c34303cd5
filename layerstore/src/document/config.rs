//! Configurations: how an image runs, its layers' diff ids, its history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Manifest, Other, Platform, check_length, null_is_empty, parse, to_bytes};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

/// OCI's image configuration and docker's; its digest is the image's id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, in the words of RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What it runs on.
    #[serde(default)]
    pub architecture: String,
    /// The architecture's variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// Of Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// How it runs.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub config: Execution,
    /// Its layers.
    pub rootfs: RootFs,
    /// What made each layer, the oldest first.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Fields not named here.
    #[serde(flatten)]
    pub other: Other,
}

/// Layers by the digests of their tars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The lowest first; uncompressed.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<Digest>,
    /// Fields not named here.
    #[serde(flatten)]
    pub other: Other,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it changed no file, and there is no layer of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields not named here.
    #[serde(flatten)]
    pub other: Other,
}

/// How an image runs, in docker's words. Empty and absent are the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Execution {
    /// `user`, `uid`, `user:group`, `uid:gid`.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What always runs.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Its arguments, or what runs where there is no entry point.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Where it runs.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free words about it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `port/protocol`, each with an empty object.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Other>,
    /// Paths, each with an empty object.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Other>,
    /// The signal that ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds between it and SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How to see whether it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds upon it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// What runs commands in shell form.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Of Windows.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Fields not named here.
    #[serde(flatten)]
    pub other: Other,
}

/// A health check; durations in nanoseconds, 0 for what is inherited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and arguments, or `CMD-SHELL` and a command.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Until one counts as failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// While failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks while failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row until it counts as unwell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Fields not named here.
    #[serde(flatten)]
    pub other: Other,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Default for RootFs {
    fn default() -> RootFs {
        RootFs { kind: "layers".to_owned(), diff_ids: Vec::new(), other: Other::new() }
    }
}

impl ImageConfig {
    /// A configuration. History may be short of steps (some builders write
    /// little), but has none for layers that do not exist.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        check_length(bytes.len() as u64)?;
        let config: ImageConfig = parse(bytes, "image configuration")?;
        if config.rootfs.kind != "layers" {
            let message = format!("the image's rootfs is of type {:?}, not \"layers\"", config.rootfs.kind);
            return Err(Error::new(Kind::Invalid, message));
        }
        let (steps, layers) = (config.layer_history().count(), config.rootfs.diff_ids.len());
        if steps > layers {
            let message = format!("the image's history speaks of {steps} layers and it has {layers}");
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(config)
    }

    /// Whether the manifest has as many layers.
    pub fn check_layers(&self, manifest: &Manifest) -> Result<()> {
        let (listed, known) = (manifest.layers.len(), self.rootfs.diff_ids.len());
        if listed != known {
            let message = format!("the manifest lists {listed} layers and the configuration {known}");
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(())
    }

    /// The steps that made a layer each.
    pub fn layer_history(&self) -> impl Iterator<Item = &History> {
        self.history.iter().filter(|step| !step.empty_layer)
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref().unwrap_or_default())
    }

    /// Whether it runs on a platform, as far as it says what it runs on.
    pub fn fits(&self, platform: &Platform) -> bool {
        let says_nothing = self.os.is_empty() && self.architecture.is_empty();
        says_nothing || platform.distance(&self.platform()).is_some()
    }

    /// Its bytes, to be stored or sent.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        to_bytes(self, "image configuration")
    }
}
