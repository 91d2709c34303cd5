//! The layer store: container images as content-addressed layers, shared by
//! the file on disk and in memory.
//!
//! This crate holds its plan only; no image command works yet.
//!
//! # Plan
//! - An image becomes one read-only metadata index (EROFS, with composefs's
//!   conventions), built once from its layers; file contents lie once each in
//!   an object pool, named by their fs-verity SHA-256.
//! - A union mounts it as `lowerdir=IMAGE.erofs::OBJECTS`: the same data-only
//!   mechanism that `unionfs` has for directories.
//! - Sources (registry, docker archive, OCI layout, root file system tar) are
//!   verified byte streams; unpacking decides on each entry without touching
//!   the disk; nothing is reachable before its reference is written, last.
//! - This crate knows bytes, digests and names: no mounts, no processes.

#![forbid(unsafe_code)]
