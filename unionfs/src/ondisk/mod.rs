//! The marks a union leaves on disk: the only place that spells them.
//!
//! Kernel overlayfs's formats are written; those of fuse-overlayfs and aufs
//! are read as well. Nothing here knows layers or inodes.

pub mod marks;
pub mod origin;
pub mod override_stat;
pub mod private;
pub mod redirect;
pub mod whiteout;
