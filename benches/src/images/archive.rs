//! Docker archives, written by tar.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use layerstore::digest::{Digest, Hashing};
use serde_json::json;

use crate::errors::{at, run};

/// An image that is to be in an archive.
pub struct Image {
    /// With its tag.
    pub name: String,
    /// Tar files, the lowest first.
    pub layers: Vec<PathBuf>,
    /// What tells it apart from others of the same layers.
    pub label: String,
}

/// Writes an archive of images, if it is not there.
///
/// # Errors
/// Those of reading the layers and of tar.
pub fn write(archive: &Path, images: &[Image]) -> io::Result<()> {
    if archive.is_file() {
        return Ok(());
    }
    let stage = archive.with_extension("stage");
    crate::layers::remove_if_there(&stage)?;
    fs::create_dir_all(&stage).map_err(|e| at(&stage, e))?;
    let mut known: Vec<(PathBuf, Digest)> = Vec::new();
    let mut manifest = Vec::new();
    for image in images {
        let mut diff_ids = Vec::new();
        for layer in &image.layers {
            let id = match known.iter().find(|(path, _)| path == layer) {
                Some((_, id)) => *id,
                None => {
                    let id = place(layer, &stage)?;
                    known.push((layer.clone(), id));
                    id
                }
            };
            diff_ids.push(id);
        }
        let config = config(&diff_ids, &image.label).to_string();
        let file = format!("{}.json", Digest::of(config.as_bytes()).hex());
        fs::write(stage.join(&file), config)?;
        let layers: Vec<String> = diff_ids.iter().map(|id| format!("{}.tar", id.hex())).collect();
        manifest.push(json!({"Config": file, "RepoTags": [image.name], "Layers": layers}));
    }
    fs::write(stage.join("manifest.json"), serde_json::Value::from(manifest).to_string())?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&stage)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let part = archive.with_extension("part");
    run(Command::new("tar").arg("-cf").arg(&part).arg("-C").arg(&stage).args(names))?;
    fs::remove_dir_all(&stage)?;
    fs::rename(&part, archive).map_err(|e| at(archive, e))
}

/// Links a layer into the stage under its digest.
fn place(layer: &Path, stage: &Path) -> io::Result<Digest> {
    let mut reading = Hashing::new(fs::File::open(layer).map_err(|e| at(layer, e))?);
    io::copy(&mut reading, &mut io::sink())?;
    let id = reading.digest();
    match fs::hard_link(layer, stage.join(format!("{}.tar", id.hex()))) {
        // Layers of the same bytes are one.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(layer, error)),
        _ => Ok(id),
    }
}

fn config(diff_ids: &[Digest], label: &str) -> serde_json::Value {
    let ids: Vec<String> = diff_ids.iter().map(|id| format!("sha256:{}", id.hex())).collect();
    let history: Vec<_> = ids.iter().map(|_| json!({"created": MADE, "created_by": "benches"})).collect();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": MADE,
        "config": {"Cmd": ["/bin/sh"], "Labels": {"benches": label}},
        "rootfs": {"type": "layers", "diff_ids": ids},
        "history": history,
    })
}

/// Images say when they were made; these say always the same.
const MADE: &str = "2024-01-01T00:00:00Z";

/// The sum of the sizes of files.
///
/// # Errors
/// Those of stat(2).
pub fn bytes(files: &[PathBuf]) -> io::Result<u64> {
    files.iter().map(|file| Ok(fs::metadata(file).map_err(|e| at(file, e))?.size())).sum()
}
