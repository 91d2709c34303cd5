//! Images in files: docker's archives (`docker save`), and OCI image layouts as
//! directories or archives.

mod docker;
mod load;
mod save;
mod source;

pub use load::{Loaded, Loading, load_dir, load_file, load_stream};
pub use save::{Format, save, save_dir};
