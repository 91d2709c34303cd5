//! Where an archive's parts are read from: an archive that can be read anywhere,
//! a directory, or a stream that comes once.
//!
//! Parts are called by their paths. Documents are small and read whole; layers
//! are taken into the store. From a stream every part that may be a layer is
//! taken in as it goes by, for which layers the images need is told last.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::compression::decompress;
use crate::digest::Digest;
use crate::document::{DOCUMENT_LIMIT, check_length};
use crate::error::{Context, Error, Kind, Result};
use crate::layer::Limits;
use crate::layer::entry::{Entry, EntryKind, Parser};
use crate::store::{Adding, Store};

/// Parts by path.
pub(super) enum Source {
    /// An uncompressed archive: where each part lies.
    File { file: File, parts: HashMap<String, Part> },
    /// A directory, as an OCI image layout is.
    Dir(PathBuf),
    /// What a stream has brought; of layers also how long they were.
    Stream {
        documents: HashMap<String, Result<Vec<u8>>>,
        layers: HashMap<String, (u64, Result<Digest>)>,
        links: HashMap<String, String>,
    },
}

/// One part of an archive.
pub(super) enum Part {
    At {
        offset: u64,
        len: u64,
    },
    /// The same as another part.
    Link(String),
}

/// Links from part to part that are followed at most.
const MOST_LINKS: usize = 8;
/// Parts of an archive: a thousand images of a hundred layers have less.
const MOST_PARTS: u64 = 1 << 20;
/// Bytes of all documents of a stream, which are held until its end.
const MOST_DOCUMENTS: u64 = 256 << 20;

impl Source {
    /// An uncompressed archive that can be read anywhere.
    pub fn of_file(file: File) -> Result<Source> {
        let end = file.metadata()?.len();
        let mut parts = HashMap::new();
        let mut archive = Parser::new(BufReader::new(file.try_clone()?), limits());
        while let Some(entry) = archive.next_entry().context(reading)? {
            let path = path_of(&entry)?;
            let (offset, len) = (archive.offset(), archive.body_left());
            if end.checked_sub(offset).is_none_or(|left| left < len) {
                return Err(Error::new(Kind::Invalid, format!("the archive ends in the middle of {path}")));
            }
            // No file is longer than that.
            archive.source_mut().seek_relative(len as i64).context(reading)?;
            archive.body_is_elsewhere();
            if let Some(target) = link_of(&entry, &path)? {
                parts.insert(path, Part::Link(target));
            } else if is_part(&entry) {
                parts.insert(path, Part::At { offset, len });
            }
        }
        Ok(Source::File { file, parts })
    }

    /// A stream, read to the archive's end: its layers are in the store then.
    pub fn of_stream(store: &Store, adding: &Adding, stream: impl Read) -> Result<Source> {
        let (mut documents, mut layers, mut links) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut held = 0;
        let mut archive = Parser::new(stream, limits());
        while let Some(entry) = archive.next_entry().context(reading)? {
            let path = path_of(&entry)?;
            if let Some(target) = link_of(&entry, &path)? {
                links.insert(path, target);
                continue;
            }
            if !is_part(&entry) {
                continue;
            }
            let len = entry.size;
            let mut body = BufReader::with_capacity(1 << 17, Body(&mut archive));
            let head = body.fill_buf().context(reading)?;
            let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
            if matches!(first, Some(b'{' | b'[')) {
                let document = match check_length(len) {
                    Ok(()) => {
                        held += len;
                        Limits::check("documents of an archive", MOST_DOCUMENTS, held)?;
                        let mut document = Vec::new();
                        body.read_to_end(&mut document).context(reading)?;
                        Ok(document)
                    }
                    Err(error) => Err(error),
                };
                documents.insert(path, document);
                continue;
            }
            let is_here = match diff_id_of(&path) {
                Some(diff_id) => store.layer(diff_id)?.map(|_| diff_id),
                None => None,
            };
            let layer = match is_here {
                Some(diff_id) => Ok(diff_id),
                None => take_in(store, adding, None, &mut body),
            };
            // What is no layer may be what nobody asks for; a full disk is not.
            if let Err(error) = &layer {
                if !matches!(error.kind(), Kind::Invalid | Kind::Corrupt | Kind::Limit) {
                    return Err(error.clone().context(format!("{path} of the archive")));
                }
            }
            layers.insert(path, (len, layer));
        }
        Ok(Source::Stream { documents, layers, links })
    }

    /// Whether it has no part at all.
    pub fn is_empty(&self) -> bool {
        match self {
            Source::File { parts, .. } => parts.is_empty(),
            Source::Dir(dir) => std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()),
            Source::Stream { documents, layers, links } => {
                documents.is_empty() && layers.is_empty() && links.is_empty()
            }
        }
    }

    /// A document; `None` if there is no such part.
    pub fn document(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let reading = || format!("read {path} of the archive");
        match self {
            Source::Stream { documents, .. } => {
                documents.get(&self.target(path)?).cloned().transpose().context(reading)
            }
            Source::File { .. } | Source::Dir(_) => {
                let Some((len, reader)) = self.part(path)? else { return Ok(None) };
                check_length(len).context(reading)?;
                let mut bytes = Vec::new();
                reader.take(DOCUMENT_LIMIT).read_to_end(&mut bytes).context(reading)?;
                Ok(Some(bytes))
            }
        }
    }

    /// A document that has to be there.
    pub fn expect(&self, path: &str) -> Result<Vec<u8>> {
        self.document(path)?.ok_or_else(|| lacks(path))
    }

    /// Takes a layer into the store, unless it is there.
    pub fn layer(&self, store: &Store, adding: &Adding, path: &str, diff_id: Digest) -> Result<()> {
        if store.layer(diff_id)?.is_some() {
            return Ok(());
        }
        let taken = match self {
            Source::Stream { layers, .. } => {
                let (_, found) = layers.get(&self.target(path)?).ok_or_else(|| lacks(path))?;
                found.clone().and_then(|found| match found == diff_id {
                    true => Ok(()),
                    false => Err(Error::new(
                        Kind::Corrupt,
                        format!("it should be the layer {diff_id} and is {found}"),
                    )),
                })
            }
            Source::File { .. } | Source::Dir(_) => {
                let (_, reader) = self.part(path)?.ok_or_else(|| lacks(path))?;
                take_in(store, adding, Some(diff_id), reader).map(drop)
            }
        };
        taken.context(|| format!("{path} of the archive"))
    }

    /// How long a part is that may be a layer; `None` if there is no such part.
    pub fn len_of(&self, path: &str) -> Result<Option<u64>> {
        match self {
            Source::Stream { layers, .. } => Ok(layers.get(&self.target(path)?).map(|(len, _)| *len)),
            Source::File { .. } | Source::Dir(_) => Ok(self.part(path)?.map(|(len, _)| len)),
        }
    }

    fn part(&self, path: &str) -> Result<Option<(u64, Box<dyn Read + '_>)>> {
        match self {
            Source::File { file, parts } => match parts.get(&self.target(path)?) {
                Some(&Part::At { offset, len }) => {
                    Ok(Some((len, Box::new(Section { file, offset, left: len }))))
                }
                _ => Ok(None),
            },
            Source::Dir(dir) => {
                let path = dir.join(checked(path)?);
                let opened = open_regular(&path);
                Ok(opened?.map(|(len, file)| (len, Box::new(file) as Box<dyn Read>)))
            }
            Source::Stream { .. } => Ok(None),
        }
    }

    /// The part a path leads to, over links.
    fn target(&self, path: &str) -> Result<String> {
        let mut path = path.trim_start_matches("./").to_owned();
        for _ in 0..MOST_LINKS {
            let next = match self {
                Source::File { parts, .. } => match parts.get(&path) {
                    Some(Part::Link(target)) => Some(target),
                    _ => None,
                },
                Source::Stream { links, .. } => links.get(&path),
                Source::Dir(_) => None,
            };
            match next {
                Some(next) => path = next.clone(),
                None => return Ok(path),
            }
        }
        Err(Error::new(Kind::Invalid, format!("too many links lead on from {path} in the archive")))
    }
}

fn take_in(store: &Store, adding: &Adding, expected: Option<Digest>, body: impl Read) -> Result<Digest> {
    Ok(store.add_layer(adding, expected, decompress(body)?)?.diff_id)
}

fn lacks(path: &str) -> Error {
    Error::new(Kind::Invalid, format!("the archive lacks {path}"))
}

/// A path of a layout, which must stay inside.
fn checked(path: &str) -> Result<&Path> {
    let path = Path::new(path);
    let stays = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    match stays {
        true => Ok(path),
        false => Err(Error::new(Kind::Invalid, format!("{} leads out of the layout", path.display()))),
    }
}

/// A file and its length. A layout may be of links, but their ends are regular
/// files: a pipe would be waited for, a device never ends.
fn open_regular(path: &Path) -> Result<Option<(u64, File)>> {
    let opening = || format!("open {}", path.display());
    // A pipe would wait here already.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(opening),
    };
    let meta = file.metadata().context(opening)?;
    match meta.is_file() {
        true => Ok(Some((meta.len(), file))),
        false => Err(Error::new(Kind::Invalid, format!("{} is no file", path.display()))),
    }
}

/// What an archive may cost beside its layers, which have limits of their own.
fn limits() -> Limits {
    Limits { stream: u64::MAX, contents: u64::MAX, entries: MOST_PARTS, ..Limits::default() }
}

fn reading() -> &'static str {
    "read the archive"
}

/// Whether an entry is a file; no archiver makes sparse ones of parts.
fn is_part(entry: &Entry) -> bool {
    entry.kind == EntryKind::File && entry.sparse.is_none()
}

/// The diff id that plain layers are named by, in archives of docker, skopeo and
/// ours.
fn diff_id_of(path: &str) -> Option<Digest> {
    let name = path.strip_prefix("blobs/sha256/").or_else(|| path.strip_suffix(".tar"));
    name.and_then(Digest::from_hex)
}

fn path_of(entry: &Entry) -> Result<String> {
    let path = std::str::from_utf8(&entry.path)
        .map_err(|_| Error::new(Kind::Invalid, "the archive has a path that is no text"))?;
    Ok(path.trim_start_matches("./").to_owned())
}

/// Where a link leads: a symlink from its own directory, a hard link from the
/// archive's root. `None` for what is no link.
fn link_of(entry: &Entry, path: &str) -> Result<Option<String>> {
    let malformed = || Error::new(Kind::Invalid, format!("the archive's link {path} is malformed"));
    let (target, mut parts) = match &entry.kind {
        EntryKind::Symlink(target) => (target, path.split('/').collect()),
        EntryKind::HardLink(target) => (target, Vec::new()),
        _ => return Ok(None),
    };
    let target = std::str::from_utf8(target).map_err(|_| malformed())?;
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(malformed)?),
            part => parts.push(part),
        }
    }
    Ok(Some(parts.join("/")))
}

/// The contents of the entry an archive is at.
struct Body<'p, R>(&'p mut Parser<R>);

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(self.0.read_body(buffer)?)
    }
}

/// Some bytes of a file; several may be read at once.
struct Section<'f> {
    file: &'f File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.file.read_at(buffer, self.offset)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
