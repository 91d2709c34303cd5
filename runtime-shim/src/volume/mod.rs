//! Volumes: directories that outlive containers.
//!
//! ```text
//! STORE/volumes/
//!     NAME/
//!         volume.json   what it is; without it there is no volume
//!         _data/        its files
//!         lock          exclusive while it is filled from an image
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::absent_is_fine;
use crate::failure::{Context, Failure, OURS, Result};
use crate::output::time;

/// All volumes of a store.
pub struct Volumes {
    dir: PathBuf,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// What it is called.
    pub name: String,
    /// When it was made, in the words of RFC 3339.
    pub created: String,
    /// Words about it.
    pub labels: BTreeMap<String, String>,
    /// What it was made with.
    pub options: BTreeMap<String, String>,
    /// Whether nobody named it.
    pub anonymous: bool,
    /// Whether an image's files were put into it, or never will be.
    pub filled: bool,
}

/// The file that says what a volume is.
const FILE: &str = "volume.json";

/// A name that docker would take.
pub fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let more = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && more && (2..=200).contains(&name.len()) {
        return Ok(());
    }
    Err(Failure::as_docker(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
    ))
    .code(OURS)
    .hint("a directory of the host's begins with / or ./"))
}

impl Volumes {
    /// Those of the store in `root`.
    pub fn open(root: &Path) -> Volumes {
        Volumes { dir: root.join("volumes") }
    }

    /// Where a volume's files are.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("_data")
    }

    /// Makes a volume, or gives the one that is there.
    pub fn create(&self, volume: &Volume) -> Result<Volume> {
        check_name(&volume.name)?;
        if let Some(there) = self.present(&volume.name)? {
            return Ok(there);
        }
        let dir = self.dir.join(&volume.name);
        let context = || format!("cannot make the volume {}", volume.name);
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o711).create(&dir).context(context)?;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir.join("_data")).context(context)?;
        let volume = Volume { created: time::now_in_documents(), ..volume.clone() };
        self.write(&volume)?;
        Ok(volume)
    }

    /// Replaces what is known of a volume.
    pub fn write(&self, volume: &Volume) -> Result<()> {
        let dir = self.dir.join(&volume.name);
        let context = || format!("cannot write the volume {}", volume.name);
        let text = serde_json::to_vec(volume).context(context)?;
        let new = dir.join("volume.new");
        fs::write(&new, text).context(context)?;
        fs::rename(&new, dir.join(FILE)).context(context)
    }

    /// A volume that must be there.
    pub fn find(&self, name: &str) -> Result<Volume> {
        self.present(name)?.ok_or_else(|| Failure::as_docker(format!("No such volume: {name}")))
    }

    /// A volume, if it is there.
    pub fn present(&self, name: &str) -> Result<Option<Volume>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let path = self.dir.join(name).join(FILE);
        let context = || format!("cannot read {}", path.display());
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).context(context).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(context),
        }
    }

    /// All volumes, by name.
    pub fn all(&self) -> Result<Vec<Volume>> {
        let context = || format!("cannot list {}", self.dir.display());
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(context)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            if let Some(name) = entry.context(context)?.file_name().to_str() {
                found.extend(self.present(name)?);
            }
        }
        found.sort_by(|one: &Volume, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Removes a volume and its files; what is known of it first.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.find(name)?;
        let dir = self.dir.join(name);
        let context = || format!("cannot remove the volume {name}");
        absent_is_fine(fs::remove_file(dir.join(FILE))).context(context)?;
        crate::state::remove(&dir)
    }
}
