//! What is bound into a container, taken before its process is made.
//!
//! A source is cloned as a detached mount in the caller's namespace, with the
//! caller's rights over the path: the container's own root may not even be
//! allowed to look there. What happens to the path afterwards does not matter.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::namespaces::Users;
use super::options::{Depth, Options};
use super::users;
use crate::bundle::{Linux, Mount, Spec};
use crate::failure::{Context, Failure, Result};
use crate::sys::mounts::{Reach, map_owners};

/// A mount with what was found out about it.
pub struct Planned<'a> {
    /// As the bundle has it.
    pub mount: &'a Mount,
    /// Its words.
    pub options: Options,
    /// The source of a bind mount: a detached tree.
    pub source: Option<OwnedFd>,
}

/// Takes the root: a detached tree of it and all that is mounted there.
pub fn root(spec: &Spec, bundle: &Path) -> Result<OwnedFd> {
    let path = spec.root.as_ref().map(|root| bundle.join(&root.path)).unwrap_or_default();
    let context = || format!("cannot take the root {}", path.display());
    let tree = take(&path, Depth::All).context(context)?;
    if !super::target::is_directory(tree.as_fd()).context(context)? {
        return Err(Failure::new(format!("{}: it is not a directory", context())));
    }
    Ok(tree)
}

/// Takes what all mounts need.
pub fn take_all<'a>(spec: &'a Spec, linux: &Linux, bundle: &Path, own: &Users) -> Result<Vec<Planned<'a>>> {
    spec.mounts.iter().map(|mount| plan(mount, linux, bundle, own)).collect()
}

fn plan<'a>(mount: &'a Mount, linux: &Linux, bundle: &Path, own: &Users) -> Result<Planned<'a>> {
    let mut options = Options::parse(&mount.options)?;
    if mount.kind.as_deref() == Some("bind") && options.bind.is_none() {
        options.bind = Some(Depth::One);
    }
    let at = mount.destination.display();
    if !mount.destination.is_absolute() {
        return Err(Failure::new(format!("cannot mount {at:?}: the destination is not absolute")));
    }
    let Some(depth) = options.bind else { return Ok(Planned { mount, options, source: None }) };
    let path: PathBuf = bundle.join(mount.source.as_deref().unwrap_or(Path::new("")));
    let context = || format!("cannot mount {} on {at}", path.display());
    if mount.source.is_none() {
        return Err(Failure::new(format!("cannot mount {at}: a bind mount takes a source")));
    }
    // Parameters of file systems are void here, as mount(2) has it; another word
    // may be a misspelt restriction.
    if let Some(word) = options.data.iter().find(|word| !word.contains('=')) {
        return Err(Failure::new(format!("{}: a bind mount has no option {word:?}", context())));
    }
    let source = take(&path, depth).context(context)?;
    let mapped = options.idmap.or((!mount.uid_mappings.is_empty()).then_some(Depth::One));
    if let Some(depth) = mapped {
        let users = match (mount.uid_mappings.is_empty(), own) {
            (false, _) => users::namespace(&mount.uid_mappings, &mount.gid_mappings)?,
            (true, Users::Own { .. }) => users::namespace(&linux.uid_mappings, &linux.gid_mappings)?,
            (true, Users::Shared | Users::Joined) => {
                return Err(Failure::new(format!(
                    "{}: idmap takes mappings, or users of its own",
                    context()
                )));
            }
        };
        let reach = if depth == Depth::All { Reach::Tree } else { Reach::Mount };
        map_owners(&source, reach, users.as_fd())
            .context(|| format!("{}: its file system cannot be id-mapped", context()))?;
    }
    Ok(Planned { mount, options, source: Some(source) })
}

/// A detached clone of what is mounted at a path.
pub fn take(path: &Path, depth: Depth) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let below = if depth == Depth::All { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    open_tree(CWD, path, flags | below)
}
