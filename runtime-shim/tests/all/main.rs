//! `runion` run for real: real mounts, real namespaces, the host's own root.
//!
//! Each test says what the host looks like before and after. What cannot be
//! tested on a machine is printed as `skipped:` with the reason.

mod commit;
mod committing;
mod confinement;
mod copying;
mod copying_as_docker;
mod crash;
mod drivers;
mod health;
mod host;
mod ids;
mod image;
mod life;
mod listing;
mod oci;
mod ordinary;
mod page;
mod process;
mod programs;
mod remote;
mod run;
mod setup;
mod system;
mod volumes;
mod words;
mod world;
