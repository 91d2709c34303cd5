//! Layers: their framing and records, from a tar stream and back to it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use super::disk::REPAIR;
use super::{Adding, Blob, LayerRecord, Store};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::layer::framing::{Framing, Summary};
use crate::layer::unpack;

/// A layer that is here.
pub struct Layer<'s> {
    store: &'s Store,
    record: LayerRecord,
}

impl Layer<'_> {
    /// What is remembered of it.
    pub fn record(&self) -> &LayerRecord {
        &self.record
    }

    /// Its framing.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] where it is broken, or lost.
    pub fn framing(&self) -> Result<Framing> {
        let path = self.store.framing_path(self.record.diff_id);
        let open = || Framing::open(File::open(&path)?);
        open().context(|| format!("read {}", path.display())).map_err(|error| match error.kind() {
            Kind::Corrupt | Kind::NotFound => Error::new(Kind::Corrupt, error.message()).hint(REPAIR),
            _ => error,
        })
    }

    /// Copies its tar stream, bit for bit.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] at the end of a stream that is not what it was.
    pub fn copy(&self, to: &mut impl Write) -> Result<u64> {
        let framing = self.framing()?;
        let mut stream = framing.stream(&self.store.pool)?;
        std::io::copy(&mut stream, to).context(|| format!("copy layer {}", self.record.diff_id))
    }
}

impl Store {
    pub(super) fn framing_path(&self, diff_id: Digest) -> PathBuf {
        self.root.join(format!("layers/{}.framing", diff_id.hex()))
    }

    pub(super) fn layer_path(&self, diff_id: Digest) -> PathBuf {
        self.root.join(format!("layers/{}.json", diff_id.hex()))
    }

    /// A layer by its diff id, if it is here.
    pub fn layer(&self, diff_id: Digest) -> Result<Option<Layer<'_>>> {
        let record = self.read(&self.layer_path(diff_id))?;
        Ok(record.map(|record| Layer { store: self, record }))
    }

    /// Takes a layer in, from its decompressed tar stream, which is read to its
    /// end. One that is here already is read all the same, for its digest.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] where `expected` is another; what reading, parsing or
    /// writing gave.
    pub fn add_layer(
        &self,
        _adding: &Adding,
        expected: Option<Digest>,
        tar: impl Read,
    ) -> Result<LayerRecord> {
        let mut staged = self.stage()?;
        let (unpacked, _) = unpack::unpack(tar, &self.pool, &self.limits, &mut staged)?;
        let Summary { diff_id, size, entries, .. } = unpacked.summary;
        let contents = unpacked.contents;
        if let Some(expected) = expected.filter(|expected| *expected != diff_id) {
            return Err(Error::new(Kind::Corrupt, format!("the layer {expected} is {diff_id} in fact")));
        }
        if let Some(known) = self.layer(diff_id)? {
            return Ok(known.record);
        }
        // The contents first: a record must not lead to what a power cut took.
        self.pool.sync()?;
        staged.publish(&self.framing_path(diff_id))?;
        let record = LayerRecord { diff_id, size, contents, entries, blobs: Vec::new() };
        self.write(&self.layer_path(diff_id), &record)?;
        Ok(record)
    }

    /// Remembers a compressed form of a layer.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a layer that is not here.
    pub fn note_blob(&self, diff_id: Digest, blob: Blob) -> Result<()> {
        // Or a collection might take the framing, and leave the record that is
        // written here.
        let _adding = self.adding()?;
        self.change_names(|_| {
            let path = self.layer_path(diff_id);
            let Some(mut record) = self.read::<LayerRecord>(&path)? else {
                return Err(Error::new(Kind::NotFound, format!("no such layer: {diff_id}")));
            };
            if !record.blobs.contains(&blob) {
                record.blobs.push(blob);
                self.write(&path, &record)?;
            }
            Ok(())
        })
    }
}
