//! An upper as one more layer of an image.

use std::io::{BufReader, BufWriter, Write};

use super::{Upper, layer};
use crate::document::{Execution, History, ImageConfig};
use crate::error::{Context, Error, Kind, Result};
use crate::store::{Adding, ImageRecord, Store};

/// What a commit says of itself, beside the layer.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// What is run, and how, where that changes.
    pub config: Option<Execution>,
    /// Who.
    pub author: Option<String>,
    /// Why.
    pub comment: Option<String>,
    /// By what: a command.
    pub created_by: Option<String>,
    /// When, as RFC 3339 has it.
    pub created: Option<String>,
}

/// Makes an image of another and an upper over it; it has no name yet.
///
/// # Errors
/// What reading the upper or writing the store gave.
pub fn commit(store: &Store, base: &ImageRecord, upper: &Upper, how: Commit) -> Result<ImageRecord> {
    store.add_whole(|adding| add(store, adding, base, upper, how))
}

fn add(
    store: &Store,
    adding: &Adding,
    base: &ImageRecord,
    upper: &Upper,
    how: Commit,
) -> Result<ImageRecord> {
    let tree = store.tree(&base.layers)?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (written, added) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            let out = BufWriter::with_capacity(1 << 16, std::fs::File::from(writer));
            layer(upper, &tree, store.pool(), out)?.flush().context(|| "write a layer")
        });
        let added = store.add_layer(adding, None, BufReader::new(std::fs::File::from(reader)));
        (writing.join(), added)
    });
    let written =
        written.unwrap_or_else(|_| Err(Error::new(Kind::System, "the thread that wrote a layer died")));
    let layer = match (written, added) {
        // A writer that failed leaves a stream cut short: its error is the cause. For
        // one whose reader failed the pipe is broken: then it is the reader's.
        (Err(cause), Err(seen)) if seen.kind() == Kind::Invalid => return Err(cause),
        (_, Err(error)) | (Err(error), Ok(_)) => return Err(error),
        (Ok(()), Ok(layer)) => layer,
    };
    let mut config: ImageConfig = store.config(base)?;
    config.rootfs.diff_ids.push(layer.diff_id);
    let Commit { config: execution, author, comment, created_by, created } = how;
    config.config = execution.unwrap_or(config.config);
    config.created.clone_from(&created);
    config.author.clone_from(&author);
    config.history.push(History { created, created_by, author, comment, ..History::default() });
    store.add_image(adding, &config.to_bytes()?, None)
}
