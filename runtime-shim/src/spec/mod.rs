//! What a container is to be: what was typed and what its image says, as plain
//! data; and that as a bundle.
//!
//! | module | what |
//! |---|---|
//! | [`flags`], [`network`], [`health`] | docker's flags |
//! | [`config`] | a [`Config`](crate::container::Config) of them |
//! | [`words`] | the shorter words among them |
//! | [`mount`], [`device`], [`rlimit`], [`capabilities`], [`security`], [`environment`] | the longer ones |
//! | [`bundle`] | the record's bundle, with docker's defaults |
//! | [`user`] | who a command is, by the container's own tables |
//! | [`userns`] | whose ids a container has |

pub mod bundle;
pub mod capabilities;
mod config;
mod device;
pub mod environment;
pub mod flags;
pub mod health;
pub mod mount;
mod network;
mod rlimit;
mod seccomp;
mod security;
pub mod user;
pub mod userns;
pub mod words;
