//! `runion export`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use layerstore::layer;
use layerstore::store::Store;

use super::{find, sink};
use crate::failure::Result;

/// Export an image's files, all layers merged, as a tar archive
#[derive(Args)]
pub struct Export {
    /// Write to a file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// A name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Export {
    /// Writes the archive.
    pub fn run(self, store: &Store) -> Result<u8> {
        let image = find::image(store, &self.image)?;
        let _held = store.hold(image.id())?;
        let tree = store.tree(&image.record.layers)?;
        sink::write(self.output.as_deref(), "export", |out: &mut dyn Write| {
            layer::export::export(&tree, store.pool(), out).map(drop)
        })?;
        Ok(0)
    }
}
