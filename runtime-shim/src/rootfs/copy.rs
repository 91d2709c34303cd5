//! The storage driver `dir`: a container's root is a copy of its image, for
//! hosts where neither FUSE nor overlayfs can be had.
//!
//! The copy lies where other containers have what they changed. It is made
//! before the container is first looked into or started; a file beside it says
//! that it is whole, and by its time when: what was changed since has a later
//! time of change. Files have the container's ids, for nothing maps them as
//! they are shown; devices and owners are made as far as this user may.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use layerstore::layer::export;
use layerstore::store::{Image, Store};
use layerstore::upper::{Copy, Form, Ids};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::{CapabilitySet, capabilities};
use unionfs::config::Namespace;

use crate::bundle::IdMapping;
use crate::container::{Container, Lifetime, Record};
use crate::failure::{Context, Failure, Result};
use crate::files::{self, Maps, Owners, Place};
use crate::sandbox::identity::{Giving, Plan};
use crate::sandbox::launch::fork;
use crate::state;

/// Says that the copy is whole.
fn mark(container: &Container) -> PathBuf {
    container.dir().join("copied")
}

/// Makes the copy, if it is not there.
pub fn ready(
    container: &Container,
    record: &Record,
    plan: &Plan,
    store: &Store,
    image: &Image,
) -> Result<()> {
    if mark(container).exists() {
        return Ok(());
    }
    // All names of an image are in memory meanwhile: another process's.
    let pid = fork(|| match make(container, record, plan, store, image) {
        Ok(()) => 0,
        Err(failure) => failure.report(),
    })?;
    let context = || "cannot copy the image".to_owned();
    let ended = waitpid(Some(pid), WaitOptions::empty()).context(context)?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        _ => Err(Failure::new(context())),
    }
}

fn make(container: &Container, record: &Record, plan: &Plan, store: &Store, image: &Image) -> Result<()> {
    let copy = container.upper();
    let context = || format!("cannot copy the image to {}", copy.display());
    // What a start that was killed left.
    state::remove(&copy)?;
    fs::DirBuilder::new().mode(0o755).create(&copy).context(context)?;
    state::raise_descriptor_limit();
    let dir = File::open(&copy).context(context)?;
    let tree = store.tree(&image.record.layers)?;
    let owners = match plan.giving() {
        Giving::Any => Maps { users: record.config.uid_map.clone(), groups: record.config.gid_map.clone() },
        Giving::None => Maps::default(),
    };
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context(context)?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            let out = BufWriter::with_capacity(1 << 16, File::from(writer));
            export::export(&tree, store.pool(), out)?.flush().context(context)
        });
        let stream = BufReader::with_capacity(1 << 16, File::from(reader));
        let unpacked = files::unpack(stream, &Place::Over(dir.as_fd()), &Owners::Possible(owners));
        // Whose stream is not read to its end fails by that.
        let written = writing.join().unwrap_or_else(|_| Err(Failure::new(context())));
        unpacked.and(written)
    })?;
    if record.config.lifetime == Lifetime::Stays {
        rustix::fs::syncfs(&dir).context(context)?;
    }
    fs::write(mark(container), "").context(context)
}

/// How the copy is to be read; none where it was not made yet.
pub fn form(container: &Container, record: &Record, plan: &Plan) -> Result<Option<Form>> {
    let path = mark(container);
    let made = match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        found => found.context(|| format!("cannot look at {}", path.display()))?,
    };
    let ids = |map: &[IdMapping]| {
        map.iter().map(|range| (range.container_id, range.host_id, range.size)).collect::<Vec<_>>()
    };
    let ids = match plan.giving() {
        Giving::Any => {
            Ids::Mapped { users: ids(&record.config.uid_map), groups: ids(&record.config.gid_map) }
        }
        Giving::None => Ids::One,
    };
    let may = capabilities(None).context(|| "cannot read my capabilities".to_owned())?.effective;
    let has_devices = matches!(plan, Plan::Own(Namespace::Trusted)) && may.contains(CapabilitySet::MKNOD);
    Ok(Some(Form::Copy(Copy { made: (made.mtime(), made.mtime_nsec()), ids, has_devices })))
}
