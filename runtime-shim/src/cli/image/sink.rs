//! Where an archive goes: a file that is there whole or not at all, or stdout
//! unless that is a screen.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use layerstore::error::Context;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::failure::{Failure, Result};
use crate::output;

/// How much is written at once.
const BUFFER: usize = 1 << 17;

/// Lets `write` write to the file, or to stdout. A file appears, or is replaced,
/// when it is whole and on disk.
pub fn write(
    to: Option<&Path>,
    verb: &str,
    write: impl FnOnce(&mut dyn Write) -> layerstore::Result<()>,
) -> Result<()> {
    match to {
        Some(path) => write_file(path, write),
        None if output::is_screen() => {
            Err(Failure::failed(format!("cowardly refusing to {verb} to a terminal"))
                .hint("use the -o flag or redirect"))
        }
        None => {
            let mut stdout =
                BufWriter::with_capacity(BUFFER, Watched { inner: std::io::stdout().lock(), closed: false });
            let written = write(&mut stdout).and_then(|()| Ok(stdout.flush()?));
            match written {
                Err(_) if stdout.get_ref().closed => Err(Failure::silent()),
                written => Ok(written?),
            }
        }
    }
}

/// Remembers that whoever reads had enough.
struct Watched<W> {
    inner: W,
    closed: bool,
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner
            .write(bytes)
            .inspect_err(|error| self.closed |= error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> layerstore::Result<()>) -> Result<()> {
    let writing = || format!("write {}", path.display());
    // What a link leads to is replaced, not the link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match path.metadata() {
        Ok(found) if found.is_dir() => {
            return Err(Failure::failed(format!("{} is a directory", path.display())));
        }
        // A pipe or a device is not replaced.
        Ok(found) if !found.is_file() => {
            let file = File::options().write(true).open(&path).context(writing)?;
            let mut file = BufWriter::with_capacity(BUFFER, file);
            write(&mut file).and_then(|()| Ok(file.flush()?)).context(writing)?;
            return Ok(());
        }
        _ => {}
    }
    let hidden = Hidden::beside(&path).context(writing)?;
    let mut file = BufWriter::with_capacity(BUFFER, &hidden.file);
    write(&mut file).and_then(|()| Ok(file.flush()?)).context(writing)?;
    drop(file);
    hidden.file.sync_all().context(writing)?;
    Ok(hidden.publish(&path).context(writing)?)
}

/// A file without a name, or, where the file system knows none, with one that
/// goes when it is dropped.
struct Hidden {
    file: File,
    temporary: PathBuf,
    is_named: bool,
}

/// As docker makes them: an image may hold secrets.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Hidden {
    fn beside(path: &Path) -> std::io::Result<Hidden> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let temporary = temporary(path, dir);
        match rustix::fs::open(dir, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TMPFILE, MODE) {
            Ok(file) => return Ok(Hidden { file: file.into(), temporary, is_named: false }),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        let file = rustix::fs::open(&temporary, flags, MODE)?;
        Ok(Hidden { file: file.into(), temporary, is_named: true })
    }

    /// A link does not replace a file, a rename does: it gets a name for an
    /// instant.
    fn publish(mut self, path: &Path) -> std::io::Result<()> {
        if !self.is_named {
            let fd = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, fd, CWD, &self.temporary, AtFlags::SYMLINK_FOLLOW)?;
            self.is_named = true;
        }
        std::fs::rename(&self.temporary, path)?;
        self.is_named = false;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.is_named {
            // The failure that led here is told; nothing can be added to it.
            std::fs::remove_file(&self.temporary).unwrap_or_default();
        }
    }
}

/// A name beside a path that nobody else uses.
pub fn temporary(path: &Path, dir: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    dir.join(format!(".{name}.runion-{}", std::process::id()))
}
