//! Volumes: directories that outlive containers.
//!
//! ```text
//! STORE/volumes/
//!     NAME/
//!         volume.json   what it is; without it there is no volume
//!         _data/        its files
//!         lock          exclusive while it is filled from an image
//! ```
//! Who uses a volume, the records of containers say: a container that is there,
//! running or not, keeps its volumes.
//!
//! | module | what |
//! |---|---|
//! | [`driver`] | the options of docker's `local` driver |
//! | [`fill`] | the image's files into a volume that is empty |

mod driver;
mod fill;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::bundle::Mount;
use crate::container::{Containers, Record, Wish, absent_is_fine, is_name};
use crate::events;
use crate::failure::{Context, Failure, OURS, Result};
use crate::output::time;
use crate::removal;
use driver::Source;

/// All volumes of a store.
pub struct Volumes {
    root: PathBuf,
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
    /// What it was made with: options of the driver.
    pub options: BTreeMap<String, String>,
    /// Whether nobody named it.
    pub anonymous: bool,
    /// How far it is filled.
    pub fill: Fill,
}

/// How far a volume is filled from an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    /// No image had anything for it yet.
    #[default]
    Pending,
    /// Somebody is at it, or was killed at it.
    Begun,
    /// It is, or had files of its own: it will not be filled again.
    Done,
}

/// The file that says what a volume is.
const FILE: &str = "volume.json";

/// A name that docker would take.
pub fn check_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Failure::as_docker(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    ))
    .code(OURS))
}

impl Volumes {
    /// Those of the store in `root`.
    pub fn open(root: &Path) -> Volumes {
        Volumes { root: root.to_owned(), dir: root.join("volumes") }
    }

    /// Where a volume's own files are.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("_data")
    }

    /// Makes a volume, or gives the one that is there.
    pub fn create(&self, volume: &Volume) -> Result<Volume> {
        let name = &volume.name;
        check_name(name)?;
        let wanted = driver::source(name, &volume.options)?;
        if let Some(there) = self.present(name)? {
            // Who names no options takes it as it is.
            if !volume.options.is_empty() && driver::source(name, &there.options)? != wanted {
                return Err(Failure::as_docker(format!(
                    "create {name}: a volume with the name {name} already exists with different options"
                )));
            }
            return Ok(there);
        }
        let dir = self.dir.join(name);
        let context = || format!("cannot make the volume {name}");
        // What containers put there may be secret, and set-user-id.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).context(context)?;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir.join("_data")).context(context)?;
        File::options().create(true).append(true).open(dir.join("lock")).context(context)?;
        let volume = Volume { created: time::now_in_documents(), ..volume.clone() };
        let new = self.stage(&volume)?;
        let published = fs::hard_link(&new, dir.join(FILE));
        fs::remove_file(&new).context(context)?;
        match published {
            // Somebody else made it at the same moment: that is the one.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => self.find(name),
            published => {
                published.context(context)?;
                self.tell("create", name);
                Ok(volume)
            }
        }
    }

    /// Replaces what is known of a volume.
    fn write(&self, volume: &Volume) -> Result<()> {
        let new = self.stage(volume)?;
        fs::rename(&new, self.dir.join(&volume.name).join(FILE))
            .context(|| format!("cannot write the volume {}", volume.name))
    }

    /// What is known of a volume in a file beside the one that counts.
    fn stage(&self, volume: &Volume) -> Result<PathBuf> {
        let context = || format!("cannot write the volume {}", volume.name);
        let new = self.dir.join(&volume.name).join(format!("volume.{}", std::process::id()));
        fs::write(&new, serde_json::to_vec(volume).context(context)?).context(context)?;
        Ok(new)
    }

    /// Nobody else fills it until this is dropped.
    fn lock(&self, name: &str) -> Result<File> {
        let context = || format!("cannot lock the volume {name}");
        let lock = File::options().append(true).open(self.dir.join(name).join("lock")).context(context)?;
        loop {
            match flock(&lock, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                locked => return locked.context(context).map(|()| lock),
            }
        }
    }

    /// A volume that must be there.
    pub fn find(&self, name: &str) -> Result<Volume> {
        self.present(name)?.ok_or_else(|| Failure::as_docker(format!("get {name}: no such volume")))
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

    /// Which containers have each volume, by its name.
    pub fn users(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in Containers::open(&self.root)?.all()? {
            let record = match container.read() {
                Ok(record) => record,
                Err(_gone) if !container.dir().exists() => continue,
                Err(failure) => return Err(failure),
            };
            for name in names(&record) {
                users.entry(name.to_owned()).or_default().push(record.id.clone());
            }
        }
        Ok(users)
    }

    /// Removes a volume that no container has.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.find(name)?;
        if let Some(users) = self.users()?.get(name) {
            return Err(Failure::as_docker(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        self.take_away(name)
    }

    /// Removes a volume and its files; what is known of it first. What is left if
    /// this is interrupted is no volume, and goes when one of its name does.
    pub fn take_away(&self, name: &str) -> Result<()> {
        let dir = self.dir.join(name);
        absent_is_fine(fs::remove_file(dir.join(FILE)))
            .context(|| format!("cannot remove the volume {name}"))?;
        removal::remove_directory(&dir)?;
        self.tell("destroy", name);
        Ok(())
    }

    fn tell(&self, action: &str, name: &str) {
        events::note(&self.root, events::Kind::Volume, action, name, &[("driver", "local")]);
    }

    /// A container's volumes and binds as a bundle's mounts, in the order of its
    /// wishes.
    pub fn mounts(&self, record: &Record) -> Result<Vec<Mount>> {
        let mounts = record.config.mounts.iter().map(|wish| match wish {
            Wish::Mount(mount) => Ok(mount.clone()),
            Wish::Volume { name, destination, options, .. } => self.mount(name, destination, options),
        });
        mounts.collect()
    }

    /// A volume as a bundle's mount; `options` are those of a bind.
    fn mount(&self, name: &str, destination: &Path, options: &[String]) -> Result<Mount> {
        let known = self.find(name)?;
        let destination = destination.to_owned();
        Ok(match driver::source(name, &known.options)? {
            Source::Own => bind(destination, self.data(name), options.to_vec()),
            Source::Directory { path, options: more } => {
                bind(destination, path, [options, more.as_slice()].concat())
            }
            Source::Temporary { options: own } => {
                // It is mounted, not bound: of a bind's options these are left.
                let kept = ["ro", "nosuid", "nodev", "noexec"];
                let more = options.iter().filter(|option| kept.contains(&option.as_str())).cloned();
                Mount {
                    destination,
                    kind: Some("tmpfs".to_owned()),
                    source: Some("tmpfs".into()),
                    options: own.into_iter().chain(more).collect(),
                    ..Mount::default()
                }
            }
        })
    }
}

fn bind(destination: PathBuf, source: PathBuf, options: Vec<String>) -> Mount {
    Mount { destination, kind: Some("bind".to_owned()), source: Some(source), options, ..Mount::default() }
}

/// The volumes that a container has.
pub fn names(record: &Record) -> impl Iterator<Item = &str> {
    record.config.mounts.iter().filter_map(|wish| match wish {
        Wish::Volume { name, .. } => Some(name.as_str()),
        Wish::Mount(_) => None,
    })
}
