//! `runion export`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use layerstore::layer;
use layerstore::store::Store;

use super::{find, sink};
use crate::cli::container;
use crate::container::Containers;
use crate::failure::{Failure, Result};

/// Export the files of a container, or of an image, all layers merged, as a tar archive
///
/// What is mounted in a container is not in it: volumes are not.
#[derive(Args)]
pub struct Export {
    /// Write to a file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// A name or an id; a container's goes before an image's
    #[arg(value_name = "CONTAINER|IMAGE")]
    name: String,
}

impl Export {
    /// Writes the archive.
    pub fn run(self, store: &Store) -> Result<u8> {
        if let Some(container) = Containers::open(store.root())?.present(&self.name)? {
            return container::export::write(&container, self.output.as_deref());
        }
        let Some(image) = find::present_or_builtin(store, &self.name)? else {
            return Err(Failure::as_docker(format!("No such container: {}", self.name)));
        };
        let _held = store.hold(image.id())?;
        let tree = store.tree(&image.record.layers)?;
        sink::write(self.output.as_deref(), "export", |out: &mut dyn Write| {
            layer::export::export(&tree, store.pool(), out).map(drop)
        })?;
        Ok(0)
    }
}
