//! `runion load`.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use layerstore::archive::{self, Loaded, Loading};
use layerstore::error::Context;
use layerstore::store::Store;

use super::platform;
use crate::failure::{Failure, Result};
use crate::output;

/// Load images from an archive: docker's or OCI's, compressed or not
#[derive(Args)]
pub struct Load {
    /// Read from a file, or from the directory of an OCI image layout, instead of stdin
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Which of several platforms' images to load: os[/arch[/variant]]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Say only what was loaded: nothing else is said yet
    #[arg(long, short)]
    quiet: bool,
}

impl Load {
    /// Loads, and says what.
    pub fn run(self, store: &Store) -> Result<u8> {
        let platform = platform::wanted(self.platform.as_deref())?;
        let how = Loading { platform };
        let loaded = match self.input.as_deref().filter(|path| *path != Path::new("-")) {
            Some(path) if path.is_dir() => archive::load_dir(store, path, &how)?,
            Some(path) => {
                let file = File::open(path).context(|| format!("open {}", path.display()))?;
                archive::load_file(store, file, &how)?
            }
            None if std::io::stdin().is_terminal() => {
                return Err(Failure::failed("requested load from stdin, but stdin is empty")
                    .hint("name an archive with -i FILE, or redirect one"));
            }
            None => archive::load_stream(store, std::io::stdin().lock(), &how)?,
        };
        for loaded in &loaded {
            super::tell(store, "load", &loaded.id, loaded.names.first());
        }
        output::print(&loaded.iter().map(said).collect::<String>())?;
        Ok(0)
    }
}

fn said(loaded: &Loaded) -> String {
    if loaded.names.is_empty() {
        return format!("Loaded image ID: {}\n", loaded.id);
    }
    let displaced = loaded.displaced.iter().map(|(name, before)| {
        format!("The image {name} already exists, renaming the old one with ID {before} to empty string\n")
    });
    displaced.chain(loaded.names.iter().map(|name| format!("Loaded image: {name}\n"))).collect()
}
