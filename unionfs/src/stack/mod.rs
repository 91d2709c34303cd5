//! Layers and the merge rule: which layer has a name, and what it hides.
//! Only `upper` changes anything on disk. No inode numbers, no callers.

pub mod asking;
pub mod layer;
pub mod listing;
pub mod maps;
pub mod names;
pub mod real;
pub mod resolve;
pub mod upper;
