//! A union's upper over an image: what it changed, as a layer and as a list.
//!
//! The upper is read, and of the image only what the upper names: the cost is
//! that of the changes. A layer knows no renames, so of a directory that was
//! renamed everything is in the layer; its contents are the image's objects.
//!
//! - `walk` tells, name by name, what is different, in the order of a layer;
//! - [`layer`] writes that as a tar stream, [`commit`] adds it to an image;
//! - [`changes`] words it as `docker diff` does.
//!
//! Where there is no union, a container changes a copy of the image: [`Form::Copy`].
//! That is walked as a whole (`copy`), and told in the same words.

mod changes;
mod commit;
mod copy;
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
    /// What is there.
    pub form: Form,
}

/// What there is of changes.
#[derive(Clone, Debug)]
pub enum Form {
    /// They alone, by a union that keeps its marks in this namespace.
    Union(Namespace),
    /// All files: a copy of the image, and changed.
    Copy(Copy),
}

/// How a copy of an image was made.
#[derive(Clone, Debug)]
pub struct Copy {
    /// When, by the clock of its files: seconds since 1970, and nanoseconds.
    /// What was changed since has this time of change, or a later one.
    pub made: (i64, i64),
    /// Whose its files are.
    pub ids: Ids,
    /// Whether the image's devices are there.
    pub has_devices: bool,
}

/// Whose files of a copy are.
#[derive(Clone, Debug)]
pub enum Ids {
    /// The image's ids by these ranges: of the image, on disk, how many. None
    /// where they are the same.
    Mapped {
        /// Of users.
        users: Vec<(u32, u32, u32)>,
        /// Of groups.
        groups: Vec<(u32, u32, u32)>,
    },
    /// All are one user's, whosever they were.
    One,
}

impl Upper {
    /// Marks are told by their names in this namespace; a copy has none.
    fn marks(&self) -> Namespace {
        match self.form {
            Form::Union(namespace) => namespace,
            Form::Copy(_) => Namespace::Trusted,
        }
    }
}
