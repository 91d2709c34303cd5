//! `runion export CONTAINER`.

use std::cell::Cell;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use layerstore::error::{Error, Kind};

use crate::cli::image::sink;
use crate::container::Container;
use crate::failure::{Context, FAILED, Failure, Result};
use crate::files::{self, Borders, Owners, Packed};
use crate::reach::{View, reach};

/// Writes all files of a container's root as a tar archive, without what is
/// mounted there.
pub fn write(container: &Container, to: Option<&Path>) -> Result<u8> {
    let exported = reach(container, View::RootAlone, &[], |reached| {
        let cause = Cell::new(None);
        let written = sink::write(to, "export", |out: &mut dyn Write| {
            let pack = || -> Result<Packed> {
                let root = reached.root.as_fd().try_clone_to_owned();
                let root = root.context(|| "cannot hold a root".to_owned())?;
                files::pack(root, b"", &Owners::Kept(reached.maps.clone()), Borders::Mounts, out)
            };
            match pack() {
                Ok(Packed::Whole) => Ok(()),
                // Whoever watches the stream knows why.
                Ok(Packed::Unread) => Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()),
                Err(failure) => {
                    let error = Error::new(Kind::System, failure.message());
                    cause.set(Some(failure));
                    Err(error)
                }
            }
        });
        let failure = |failure: Failure| cause.take().unwrap_or(failure);
        written.map_err(|error| failure(error).code(FAILED))
    })?;
    exported.wait()
}
