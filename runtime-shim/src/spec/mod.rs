//! What a container is to be: what was typed and what its image says, as plain
//! data; and that as a bundle.
//!
//! | module | what |
//! |---|---|
//! | [`flags`], [`network`] | docker's flags, and a [`Config`](crate::container::Config) of them |
//! | [`mount`], [`device`], [`rlimit`], [`capabilities`] | the longer words among them |
//! | [`bundle`] | the record's bundle, with docker's defaults |
//! | [`user`] | who a command is, by the container's own tables |
//! | [`userns`] | whose ids a container has |

pub mod bundle;
pub mod capabilities;
mod device;
pub mod flags;
pub mod mount;
mod network;
mod rlimit;
mod seccomp;
pub mod user;
pub mod userns;
