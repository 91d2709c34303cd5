//! `runion cp`.

mod name;
mod place;

use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use clap::Args;
use layerstore::store::Store;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::find;
use crate::container::{Container, Driver, Record};
use crate::failure::{Context, FAILED, Failure, Result};
use crate::files::{self, Borders, Maps, Owners, Packed, Place};
use crate::reach::{self, Reached, Reaching, View, inside, reach};
use name::{End, Name, words};
use place::Target;

/// Copy files between a container and the host
///
/// With - for what is the host's, a tar archive is written to stdout, or read
/// from stdin and extracted in a directory of the container's. Whether the
/// container runs does not matter.
///
/// A directory goes into one that is there, and becomes one that is not; with
/// /. at its end only what is in it is copied. What is copied to a container
/// is its root's, what is copied to the host whoever's who copies it.
#[derive(Args)]
pub struct Copy {
    /// Keep owners, attributes, and all of the modes
    #[arg(long, short)]
    archive: bool,

    /// Copy what a symbolic link leads to
    #[arg(long, short = 'L')]
    follow_link: bool,

    /// Say nothing; nothing is said anyway
    #[arg(long, short, hide = true)]
    quiet: bool,

    /// CONTAINER:PATH, a path of the host's, or -
    #[arg(value_name = "SOURCE")]
    source: String,

    /// CONTAINER:PATH, a path of the host's, or -
    #[arg(value_name = "DESTINATION")]
    destination: String,
}

/// What is copied, once it is found.
struct Source {
    file: OwnedFd,
    is_dir: bool,
}

impl Copy {
    /// Copies.
    pub fn run(self, store: &Store) -> Result<u8> {
        self.copy(store).map_err(|failure| failure.code(FAILED))
    }

    fn copy(&self, store: &Store) -> Result<u8> {
        match (split(&self.source)?, split(&self.destination)?) {
            ((Some(_), _), (Some(_), _)) => {
                Err(Failure::as_docker("copying between containers is not supported"))
            }
            ((None, _), (None, _)) => Err(Failure::as_docker("must specify at least one container source")),
            ((Some(text), path), (None, to)) => {
                let (container, record) = find::container(store, text)?;
                self.to_host(
                    &Origin { container: &container, record: &record, text, name: Name::in_container(path) },
                    to,
                )
            }
            ((None, from), (Some(text), path)) => {
                let (container, record) = find::container(store, text)?;
                let to = To { text, record: &record, name: Name::in_container(path) };
                match from {
                    "-" => self.stdin_to_container(&container, &to),
                    from => self.to_container(&container, &Name::on_host(from)?, &to),
                }
            }
        }
    }

    /// A container's files, as what writes the stream of them reads them.
    fn owners(&self, maps: &Maps) -> Owners {
        match self.archive {
            true => Owners::Kept(maps.clone()),
            false => Owners::Writers,
        }
    }

    fn to_host(&self, from: &Origin<'_>, to: &str) -> Result<u8> {
        if to == "-" {
            if std::io::stdout().is_terminal() {
                return Err(Failure::failed("cowardly refusing to copy to a terminal")
                    .hint("redirect it, or name a file"));
            }
            let stdout = std::io::stdout();
            let shown = if from.name.end == End::Contents { b"." } else { &from.name.base[..] };
            let stream = Stream {
                shown: |_is_dir| Ok(shown),
                out: || Ok(stdout.lock()),
                ended: |packed| match packed {
                    Packed::Whole => Ok(()),
                    Packed::Unread => Err(Failure::silent()),
                },
            };
            return self.pack(from, |maps| Owners::Kept(maps.clone()), &[], &stream)?.wait();
        }
        let target = Target::on_host(to)?;
        let (reader, writer) = pipe()?;
        let stream = Stream {
            shown: |is_dir| target.name_for(is_dir, &from.name),
            out: || Ok(File::from(writer.try_clone().context(|| "cannot write".to_owned())?)),
            // Who reads says why he does not.
            ended: |_packed| Ok(()),
        };
        let copied = self.pack(from, |maps| self.owners(maps), &[writer.as_fd()], &stream)?;
        drop(writer);
        let place = Place::Into(target.dir());
        let unpacked =
            files::unpack(BufReader::new(File::from(reader)), &place, &self.owners(&Maps::default()));
        // It said itself what went wrong, and so the stream was cut short.
        match copied.wait()? {
            0 => unpacked.map(|()| 0),
            code => Ok(code),
        }
    }
    /// Has what a container's path leads to written as an archive, in another process.
    ///
    /// A directory of one that runs is read as it lies on disk where that is what the
    /// container sees: with many small files that takes a fraction of the time.
    fn pack<'c, 'n, W: Write>(
        &self,
        from: &'c Origin<'_>,
        owners: impl Fn(&Maps) -> Owners,
        kept: &[BorrowedFd<'_>],
        to: &Stream<impl Fn(bool) -> Result<&'n [u8]>, impl Fn() -> Result<W>>,
    ) -> Result<Reaching<'c>> {
        let Origin { container, record, name, .. } = from;
        let is_union = record.state.status.is_up() && record.config.driver == Driver::Fuse;
        if is_union && reach::is_bare(container, record, &name.path)? {
            return reach::read(container, record, kept, |union| {
                failed(|| {
                    let top = files::dir_in_union(union, &name.path)?.ok_or_else(|| from.missing())?;
                    (to.ended)(files::pack_union(union, top, (to.shown)(true)?, (to.out)()?)?)
                })
            });
        }
        reach(container, View::Whole, kept, |reached| {
            failed(|| {
                let flags = if self.follows(name) { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
                let source = match inside(reached.root.as_fd(), &*name.path, flags) {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(from.missing()),
                    file => source(file.context(|| format!("cannot open {}", name.shown()))?, name)?,
                };
                let (shown, owners) = ((to.shown)(source.is_dir)?, owners(&reached.maps));
                (to.ended)(files::pack(source.file, shown, &owners, Borders::Volumes, (to.out)()?)?)
            })
        })
    }

    fn to_container(&self, container: &Container, from: &Name, to: &To<'_>) -> Result<u8> {
        let flags = if self.follows(from) { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        let file = rustix::fs::open(&*from.path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty());
        let file =
            file.map_err(|errno| Failure::as_docker(format!("lstat {}: {}", from.shown(), words(errno))))?;
        let source = source(file, from)?;
        let (reader, writer) = pipe()?;
        let copied = reach(container, View::Whole, &[reader.as_fd()], |reached| {
            failed(|| {
                let target = Target::in_container(reached, &to.name, to.text)?;
                to.check(reached, &target)?;
                let place = target.place(source.is_dir, from)?;
                let owners = match self.archive {
                    true => Owners::Kept(reached.maps.clone()),
                    false => {
                        let (uid, gid) = reached.maps.outside(0, 0);
                        Owners::Given(uid, gid)
                    }
                };
                let reader = File::from(reader.try_clone().context(|| "cannot read".to_owned())?);
                files::unpack(BufReader::new(reader), &place, &owners)
            })
        })?;
        drop(reader);
        let writer = File::from(writer);
        let packed = files::pack(source.file, b".", &self.owners(&Maps::default()), Borders::None, writer);
        match packed {
            // A stream that was cut short is none: the other side fails too, and says so.
            Err(failure) => {
                copied.wait()?;
                Err(failure)
            }
            Ok(Packed::Whole | Packed::Unread) => copied.wait(),
        }
    }

    fn stdin_to_container(&self, container: &Container, to: &To<'_>) -> Result<u8> {
        let copied = reach(container, View::Whole, &[], |reached| {
            failed(|| {
                let target = Target::in_container(reached, &to.name, to.text)?;
                to.check(reached, &target)?;
                let Target::Dir(dir) = &target else {
                    let shown = format!("{}:{}", to.text, to.name.shown());
                    return Err(Failure::as_docker(format!("destination \"{shown}\" must be a directory")));
                };
                let stdin = BufReader::new(std::io::stdin().lock());
                let stream = layerstore::compression::decompress(stdin)?;
                files::unpack(stream, &Place::Into(dir.as_fd()), &Owners::Kept(reached.maps.clone()))
            })
        })?;
        copied.wait()
    }

    /// Whether a link is followed that is itself named.
    fn follows(&self, name: &Name) -> bool {
        self.follow_link || name.end != End::Plain
    }
}

/// Where in a container something comes from.
struct Origin<'a> {
    text: &'a str,
    container: &'a Container,
    record: &'a Record,
    name: Name,
}

impl Origin<'_> {
    fn missing(&self) -> Failure {
        Failure::as_docker(format!(
            "Could not find the file {} in container {}",
            String::from_utf8_lossy(&self.name.path),
            self.text
        ))
    }
}

/// How an archive is written.
struct Stream<S, O> {
    /// What the top is called there, a directory or not.
    shown: S,
    out: O,
    ended: fn(Packed) -> Result<()>,
}

/// Where in a container something goes.
struct To<'a> {
    text: &'a str,
    record: &'a Record,
    name: Name,
}

impl To<'_> {
    /// A root that nobody may change is not changed from here either.
    fn check(&self, reached: &Reached, target: &Target) -> Result<()> {
        let device = |fd: rustix::fd::BorrowedFd<'_>| fstat(fd).map(|stat| stat.st_dev);
        let is_root = device(reached.root.as_fd()).ok() == device(target.dir()).ok();
        match self.record.config.read_only && is_root {
            true => Err(Failure::as_docker("container rootfs is marked read-only")),
            false => Ok(()),
        }
    }
}

/// Failures of what is not a command: docker's code.
fn failed(work: impl FnOnce() -> Result<()>) -> Result<()> {
    work().map_err(|failure| failure.code(FAILED))
}

/// Whatever has a slash at its end is a directory.
fn source(file: OwnedFd, name: &Name) -> Result<Source> {
    let stat = fstat(&file).context(|| format!("cannot look at {}", name.shown()))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match is_dir || name.end == End::Plain {
        true => Ok(Source { file, is_dir }),
        false => Err(Failure::as_docker(format!("{}: not a directory", name.shown()))),
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).context(|| "cannot make a pipe".to_owned())
}

/// `CONTAINER:PATH`, or a path of the host's: one that begins with a slash or a
/// dot is that, whatever colons it has.
fn split(text: &str) -> Result<(Option<&str>, &str)> {
    if text.is_empty() {
        return Err(Failure::as_docker("source and destination can not be empty"));
    }
    match text.split_once(':') {
        Some((name, path)) if !text.starts_with(['/', '.']) => match path.is_empty() {
            true => Err(Failure::as_docker("source and destination can not be empty")),
            false => Ok((Some(name), path)),
        },
        _ => Ok((None, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_is_not_always_a_container_s() {
        assert_eq!(split("c:/x:y").unwrap(), (Some("c"), "/x:y"));
        assert_eq!(split("c:x").unwrap(), (Some("c"), "x"));
        for host in ["/a:b", "./a:b", "../a:b", ".a:b", "file", "-"] {
            assert_eq!(split(host).unwrap(), (None, host));
        }
        assert!(split("").is_err() && split("c:").is_err());
    }
}
