//! `runion export CONTAINER`.

use std::cell::Cell;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use layerstore::error::{Error, Kind};

use crate::cli::image::sink;
use crate::container::{Container, Driver};
use crate::failure::{Context, FAILED, Result};
use crate::files::{self, Borders, Owners, Packed};
use crate::reach::{self, View, reach};
use crate::settle;

/// Writes all files of a container's root as a tar archive, without what is
/// mounted there.
pub fn write(container: &Container, to: Option<&Path>) -> Result<u8> {
    let record = settle::read(container)?;
    let exported = match record.config.driver {
        Driver::Fuse | Driver::Kernel => {
            if record.state.status.is_up() {
                reach::flush(container)?;
            }
            reach::read(container, &record, &[], |union| {
                stream(to, |out| files::pack_union(union, unionfs::inode::ROOT, b"", out))
            })
        }
        Driver::Dir => reach(container, View::RootAlone, &[], |reached| {
            let owners = Owners::Kept(reached.maps.clone());
            stream(to, |out| {
                let root = reached.root.as_fd().try_clone_to_owned();
                let root = root.context(|| "cannot hold a root".to_owned())?;
                files::pack(root, b"", &owners, Borders::Mounts, out)
            })
        }),
    };
    exported?.wait()
}

/// Writes an archive to where it is to go.
fn stream(to: Option<&Path>, pack: impl Fn(&mut dyn Write) -> Result<Packed>) -> Result<()> {
    let cause = Cell::new(None);
    let written = sink::write(to, "export", |out: &mut dyn Write| match pack(out) {
        Ok(Packed::Whole) => Ok(()),
        // Whoever watches the stream knows why.
        Ok(Packed::Unread) => Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()),
        Err(failure) => {
            let error = Error::new(Kind::System, failure.message());
            cause.set(Some(failure));
            Err(error)
        }
    });
    written.map_err(|error| cause.take().unwrap_or(error).code(FAILED))
}
