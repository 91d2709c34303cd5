//! Images by what users call them, with docker's words for what is not there.

use layerstore::digest::Digest;
use layerstore::error::Kind;
use layerstore::reference::Reference;
use layerstore::store::{Image, LayerRecord, Store};
use std::collections::HashMap;

use crate::builtin;
use crate::failure::{Failure, Result};

/// The image a user means. `hello` is taken in first if it is not there.
pub fn image(store: &Store, text: &str) -> Result<Image> {
    present_or_builtin(store, text)?.ok_or_else(|| no_such_image(text))
}

/// As [`image`]; `None` for what is not there.
pub fn present_or_builtin(store: &Store, text: &str) -> Result<Option<Image>> {
    match present(store, text)? {
        None if builtin::is_meant(text) => {
            builtin::take_in(store)?;
            present(store, builtin::NAME)
        }
        found => Ok(found),
    }
}

/// The image a user means, if the store has it.
pub fn present(store: &Store, text: &str) -> Result<Option<Image>> {
    match store.find(text) {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// In docker's words.
pub fn no_such_image(text: &str) -> Failure {
    Failure::as_docker(format!("No such image: {}", shown(text)))
}

/// A name with its tag, as docker repeats it; everything else as it is.
fn shown(text: &str) -> String {
    let is_id = layerstore::reference::IdPrefix::parse(text).is_some();
    match Reference::parse(text) {
        Ok(name) if !is_id => name.to_string(),
        _ => text.to_owned(),
    }
}

/// How a user referred to an image.
pub enum Named {
    /// By a name it has.
    Name(Reference),
    /// By a digest it has in a repository, as its record has it.
    Digest(String),
    /// By its id.
    Id,
}

/// How `text`, which led to the image, did so.
pub fn named(image: &Image, text: &str) -> Named {
    let Ok(name) = Reference::parse(text) else { return Named::Id };
    if let Some(digest) = name.digest() {
        return Named::Digest(format!("{}@{digest}", name.repository().canonical()));
    }
    match image.names.contains(&name) {
        true => Named::Name(name),
        false => Named::Id,
    }
}

/// Records of layers, each read once.
#[derive(Default)]
pub struct Layers(HashMap<Digest, Option<LayerRecord>>);

impl Layers {
    /// A layer's record; none if it is lost.
    pub fn get(&mut self, store: &Store, diff_id: Digest) -> Result<Option<&LayerRecord>> {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.0.entry(diff_id) {
            entry.insert(store.layer(diff_id)?.map(|layer| layer.record().clone()));
        }
        Ok(self.0.get(&diff_id).and_then(Option::as_ref))
    }

    /// The bytes of all files of an image's layers, as docker counts them.
    pub fn size(&mut self, store: &Store, image: &Image) -> Result<u64> {
        let mut size = 0;
        for diff_id in &image.record.layers {
            size += self.get(store, *diff_id)?.map_or(0, |layer| layer.contents);
        }
        Ok(size)
    }
}
