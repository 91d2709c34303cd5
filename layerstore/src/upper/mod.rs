//! A union's upper over an image: what it changed, as a layer and as a list.
//!
//! The upper is read, and of the image only what the upper names: the cost is
//! that of the changes. A layer knows no renames, so of a directory that was
//! renamed everything is in the layer; its contents are the image's objects.
//!
//! - `walk` tells, name by name, what is different, in the order of a layer;
//! - [`layer`] writes that as a tar stream, [`commit`] adds it to an image;
//! - [`changes`] words it as `docker diff` does.

mod changes;
mod commit;
mod layer;
mod walk;

pub use changes::{Change, ChangeKind, changes};
pub use commit::{Commit, commit};
pub use layer::layer;

use std::path::PathBuf;

use unionfs::config::Namespace;

/// An upper directory, while nobody writes to it.
#[derive(Clone, Debug)]
pub struct Upper {
    /// Where it is.
    pub path: PathBuf,
    /// Where the union that wrote it keeps its marks.
    pub namespace: Namespace,
}
