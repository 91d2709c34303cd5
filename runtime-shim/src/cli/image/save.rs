//! `runion save`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use layerstore::archive::{self, Format};
use layerstore::error::Context;
use layerstore::reference::{Reference, Repository};
use layerstore::store::{Image, ImageRecord, Store};

use super::find::{self, Named};
use super::platform::OfPlatform;
use super::sink;
use crate::failure::{Failure, Result};

/// Save images to an archive, on stdout or in a file
///
/// A name without a tag saves all tags of the repository. The layers are in it
/// bit for bit as they came.
#[derive(Args)]
pub struct Save {
    /// Write to a file (with --format oci-dir: a directory) instead of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// docker-archive can be read by docker and as an OCI archive
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Written,

    #[command(flatten)]
    platform: OfPlatform,

    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    DockerArchive,
    OciArchive,
    OciDir,
}

/// Images, each with the names it gets in the archive.
type Chosen = Vec<(ImageRecord, Vec<Reference>)>;

impl Save {
    /// Writes the archive.
    pub fn run(self, store: &Store) -> Result<u8> {
        let chosen = self.chosen(store)?;
        // Nobody removes them while they are read.
        let _held =
            chosen.iter().map(|(record, _)| store.hold(record.id)).collect::<layerstore::Result<Vec<_>>>()?;
        let to = self.output.as_deref();
        match (self.format, to) {
            (Written::OciDir, None) => {
                return Err(Failure::new("--format oci-dir writes a directory").hint("name it: -o DIR"));
            }
            (Written::OciDir, Some(dir)) => save_dir(store, &chosen, dir)?,
            (Written::DockerArchive, to) => save(store, &chosen, Format::Docker, to)?,
            (Written::OciArchive, to) => save(store, &chosen, Format::Oci, to)?,
        }
        Ok(0)
    }

    fn chosen(&self, store: &Store) -> Result<Chosen> {
        let mut chosen: Chosen = Vec::new();
        for text in &self.images {
            for (image, name) in meant(store, text)? {
                self.platform.check(store, &image, text)?;
                let record = image.record;
                let at = match chosen.iter().position(|(known, _)| known.id == record.id) {
                    Some(at) => at,
                    None => {
                        chosen.push((record, Vec::new()));
                        chosen.len() - 1
                    }
                };
                if let Some((_, names)) = chosen.get_mut(at) {
                    names.extend(name.filter(|name| !names.contains(name)));
                }
            }
        }
        Ok(chosen)
    }
}

/// What one argument means: an image by id or name, or a repository's images.
fn meant(store: &Store, text: &str) -> Result<Vec<(Image, Option<Reference>)>> {
    if let Ok(repository) = Repository::parse(text) {
        let mut all = Vec::new();
        for image in store.images()? {
            let names = image.names.iter().filter(|name| *name.repository() == repository);
            all.extend(names.map(|name| (image.clone(), Some(name.clone()))));
        }
        if !all.is_empty() {
            all.sort_by(|(_, a), (_, b)| a.cmp(b));
            return Ok(all);
        }
    }
    let image = find::image(store, text)?;
    let name = match find::named(&image, text) {
        Named::Name(name) => Some(name),
        Named::Digest(_) | Named::Id => None,
    };
    Ok(vec![(image, name)])
}

fn save(store: &Store, chosen: &Chosen, format: Format, to: Option<&Path>) -> Result<()> {
    sink::write(to, "save", |out| archive::save(store, chosen, format, out))
}

/// A layout is made beside its place, and moved there when it is whole.
fn save_dir(store: &Store, chosen: &Chosen, dir: &Path) -> Result<()> {
    let writing = || format!("write {}", dir.display());
    let is_taken = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if is_taken {
        return Err(Failure::failed(format!("{} is there and no empty directory", dir.display())));
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = sink::temporary(dir, parent);
    let saved = archive::save_dir(store, chosen, &temporary)
        .and_then(|()| std::fs::rename(&temporary, dir).context(writing));
    if saved.is_err() {
        // The failure is told; what is left has a name that says whose it was.
        std::fs::remove_dir_all(&temporary).unwrap_or_default();
    }
    Ok(saved?)
}
