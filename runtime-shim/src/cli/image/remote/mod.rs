//! The commands about registries, and how a registry is spoken to.
//!
//! Who we are, docker's and podman's files say. Registries that are spoken to
//! without certificates, and mirrors, are said by option or in
//! `registries.json`, of the user (`~/.config/runion/`) or of all (`/etc/runion/`):
//!
//! ```json
//! {"insecure": ["registry.lan:5000"], "mirrors": {"docker.io": ["mirror.lan"]}}
//! ```

pub mod login;
pub mod pull;
pub mod push;
pub mod search;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use layerstore::error::{Context, Error, Kind};
use layerstore::reference::Repository;
use layerstore::registry::{Client, Config};
use serde::Deserialize;

use crate::failure::Result;
use crate::output::progress::Look;

/// How a registry is spoken to.
#[derive(Args, Debug, Default)]
pub struct Access {
    /// Whether registries must prove who they are; false also allows plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub tls_verify: bool,
}

/// `registries.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Registries {
    insecure: Vec<String>,
    mirrors: BTreeMap<String, Vec<String>>,
}

impl Access {
    /// A client that speaks so to `registry`, and to others as the files say.
    pub fn client(&self, registry: &str) -> Result<Client> {
        let mut config = Config::default();
        for path in files() {
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).context(|| format!("read {}", path.display())).map_err(Into::into);
                }
            };
            let read: Registries = serde_json::from_slice(&text).map_err(|error| {
                Error::new(Kind::Invalid, format!("{} is malformed: {error}", path.display()))
            })?;
            config.insecure.extend(read.insecure);
            for (registry, mirrors) in read.mirrors {
                config.mirrors.entry(registry).or_insert(mirrors);
            }
        }
        if !self.tls_verify {
            config.insecure.push(registry.to_owned());
        }
        Ok(Client::new(config))
    }
}

fn files() -> Vec<PathBuf> {
    let given = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = given("XDG_CONFIG_HOME").or_else(|| given("HOME").map(|home| home.join(".config")));
    own.into_iter().chain([PathBuf::from("/etc")]).map(|dir| dir.join("runion/registries.json")).collect()
}

/// What is said where a user wrote neither tag nor digest.
const USING_DEFAULT_TAG: &str = "Using default tag: latest\n";

/// Whether a user wrote neither, in a name that parses.
fn default_tag(name: &str) -> bool {
    Repository::parse(name).is_ok()
}

/// How progress is shown.
pub fn look(quiet: bool) -> Look {
    match (quiet, std::io::stdout().is_terminal()) {
        (true, _) => Look::Quiet,
        (false, true) => Look::Screen,
        (false, false) => Look::Lines,
    }
}
