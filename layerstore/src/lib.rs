//! The layer store: container images as content-addressed layers, shared by
//! the file on disk and in memory.
//!
//! An image becomes one read-only metadata index (EROFS, with composefs's
//! conventions), built once from its layers; file contents lie once each in an
//! object pool, named by their fs-verity SHA-256. A union mounts it as
//! `lowerdir=IMAGE.erofs::OBJECTS`.
//!
//! This crate knows bytes, digests and names: no mounts, and no processes but
//! the programs that keep a user's passwords ([`credentials`]).
//!
//! # Map
//! | module | what |
//! |---|---|
//! | [`digest`], [`object`] | what bytes are called |
//! | [`reference`] | what users call images |
//! | [`document`] | manifests, indexes, configurations |
//! | [`pool`] | the contents of all files, once each |
//! | [`layer`] | a layer's tar stream, taken apart and put together again |
//! | [`store`] | all of it on disk: images by name, gc, fsck |
//! | [`archive`] | images in files: `load` and `save` |
//! | [`registry`], [`credentials`] | images on other machines |
//! | [`transfer`] | images between the store and registries: `pull` and `push` |
//! | [`upper`] | what a union changed about an image: `commit` and `diff` |
//! | [`import`] | a root file system's archive as an image |
//! | [`tree`] | an image's merged files in memory |
//! | [`index`] | its image, that unions and kernels mount |
//! | [`error`] | what went wrong, in words |

#![forbid(unsafe_code)]

pub mod archive;
pub mod compression;
pub mod credentials;
pub mod digest;
pub mod document;
pub mod error;
pub mod import;
pub mod index;
pub mod layer;
pub mod object;
mod parallel;
pub mod pool;
pub mod reference;
pub mod registry;
mod seal;
pub mod store;
pub mod transfer;
pub mod tree;
pub mod upper;

#[cfg(test)]
mod scratch;

pub use error::{Error, Result};
