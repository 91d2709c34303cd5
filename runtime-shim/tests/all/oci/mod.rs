//! Bundles, run by `runion` as an OCI runtime: beside crun and runc, under
//! attack, and by podman.

mod attacks;
mod bundle;
mod clients;
mod compare;
mod hooks;
mod life;
mod limits;
mod mounts;
mod namespaces;
mod podman;
mod profile;
