//! Where an archive's parts are read from: an archive that can be read anywhere,
//! a directory, or a stream that comes once.
//!
//! Parts are called by their paths. Documents are small and read whole; layers
//! are taken into the store. From a stream every part that may be a layer is
//! taken in as it goes by, for which layers the images need is told last.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::compression::decompress;
use crate::digest::Digest;
use crate::document::DOCUMENT_LIMIT;
use crate::error::{Context, Error, Kind, Result};
use crate::store::{Adding, Store};

/// Parts by path.
pub(super) enum Source {
    /// An uncompressed archive: where each part lies.
    File { file: File, parts: HashMap<String, Part> },
    /// A directory, as an OCI image layout is.
    Dir(PathBuf),
    /// What a stream has brought.
    Stream {
        documents: HashMap<String, Vec<u8>>,
        layers: HashMap<String, Result<Digest>>,
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
/// A shorter part is no layer: a tar stream ends with two blocks of zeros.
const SHORTEST_LAYER: u64 = 512;

impl Source {
    /// An uncompressed archive that can be read anywhere.
    pub fn of_file(file: File) -> Result<Source> {
        let mut parts = HashMap::new();
        let mut archive = tar::Archive::new(BufReader::new(file.try_clone()?));
        for entry in archive.entries_with_seek().context(|| "read the archive")? {
            let entry = entry.context(|| "read the archive")?;
            let part = match entry.header().entry_type() {
                kind if kind.is_file() => Part::At { offset: entry.raw_file_position(), len: entry.size() },
                kind if kind.is_symlink() || kind.is_hard_link() => Part::Link(link_of(&entry)?),
                _ => continue,
            };
            parts.insert(path_of(&entry)?, part);
        }
        Ok(Source::File { file, parts })
    }

    /// A stream, read to its end: its layers are in the store then.
    pub fn of_stream(store: &Store, adding: &Adding, stream: impl Read) -> Result<Source> {
        let (mut documents, mut layers, mut links) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut archive = tar::Archive::new(stream);
        for entry in archive.entries().context(|| "read the archive")? {
            let entry = entry.context(|| "read the archive")?;
            let path = path_of(&entry)?;
            match entry.header().entry_type() {
                kind if kind.is_symlink() || kind.is_hard_link() => {
                    links.insert(path, link_of(&entry)?);
                    continue;
                }
                kind if !kind.is_file() => continue,
                _ => {}
            }
            let len = entry.size();
            let mut body = BufReader::with_capacity(1 << 17, entry);
            let first = body.fill_buf().context(|| "read the archive")?.first().copied();
            if matches!(first, Some(b'{' | b'[')) && len <= DOCUMENT_LIMIT {
                let mut document = Vec::new();
                body.read_to_end(&mut document).context(|| format!("read {path} of the archive"))?;
                documents.insert(path, document);
            } else if len >= SHORTEST_LAYER {
                let known = path.strip_prefix("blobs/sha256/").and_then(Digest::from_hex);
                let is_here = match known {
                    Some(digest) => store.layer(digest)?.is_some(),
                    None => false,
                };
                let layer = match known.filter(|_| is_here) {
                    Some(digest) => Ok(digest),
                    None => take_in(store, adding, None, &mut body),
                };
                // A full disk is nobody's layer.
                if let Err(error) = &layer {
                    if error.kind() == Kind::System {
                        return Err(error.clone().context(format!("{path} of the archive")));
                    }
                }
                layers.insert(path, layer);
            }
        }
        Ok(Source::Stream { documents, layers, links })
    }

    /// A document; `None` if there is no such part.
    pub fn document(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let reading = || format!("read {path} of the archive");
        let bytes = match self {
            Source::Stream { documents, .. } => documents.get(&self.target(path)?).cloned(),
            Source::File { .. } | Source::Dir(_) => {
                let Some((len, reader)) = self.part(path)? else { return Ok(None) };
                crate::document::check_length(len).context(reading)?;
                let mut bytes = Vec::new();
                reader.take(len).read_to_end(&mut bytes).context(reading)?;
                Some(bytes)
            }
        };
        Ok(bytes)
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
                let found = layers.get(&self.target(path)?).cloned().ok_or_else(|| lacks(path))?;
                found.and_then(|found| match found == diff_id {
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
                match File::open(&path) {
                    Ok(file) => Ok(Some((file.metadata()?.len(), Box::new(file)))),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error).context(|| format!("open {}", path.display())),
                }
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

fn path_of<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String> {
    let bytes = entry.path_bytes();
    let path = std::str::from_utf8(&bytes)
        .map_err(|_| Error::new(Kind::Invalid, "the archive has a path that is no text"))?;
    Ok(path.trim_start_matches("./").to_owned())
}

/// Where a link leads: a symlink from its own directory, a hard link from the
/// archive's root.
fn link_of<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String> {
    let path = path_of(entry)?;
    let malformed = || Error::new(Kind::Invalid, format!("the archive's link {path} is malformed"));
    let target = entry.link_name_bytes().ok_or_else(malformed)?;
    let target = std::str::from_utf8(&target).map_err(|_| malformed())?;
    let mut parts: Vec<&str> = match entry.header().entry_type().is_symlink() {
        true => path.split('/').collect(),
        false => Vec::new(),
    };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(malformed)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
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
