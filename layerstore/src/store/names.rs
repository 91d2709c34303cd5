//! Names of images: `names.json`, one table, replaced as a whole.

use std::collections::BTreeMap;

use rustix::fs::FlockOperation;

use super::Store;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::reference::Reference;

/// Image ids by canonical reference with a tag: `docker.io/library/nginx:latest`.
pub(super) type Names = BTreeMap<String, Digest>;

impl Store {
    pub(super) fn names(&self) -> Result<Names> {
        Ok(self.read(&self.root.join("names.json"))?.unwrap_or_default())
    }

    /// Changes names and records: nobody else does meanwhile. What `change`
    /// gives is returned once the names are on disk.
    pub(super) fn change_names<T>(&self, change: impl FnOnce(&mut Names) -> Result<T>) -> Result<T> {
        let _lock = self.lock("names.lock", FlockOperation::LockExclusive)?;
        let mut names = self.names()?;
        let before = names.clone();
        let value = change(&mut names)?;
        if names != before {
            self.write(&self.root.join("names.json"), &names)?;
        }
        Ok(value)
    }

    /// Gives an image a name, which another image may lose by it; gives that
    /// one's id.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a reference without a tag, [`Kind::NotFound`] for an
    /// image that is not there.
    pub fn tag(&self, id: Digest, name: &Reference) -> Result<Option<Digest>> {
        let key = key(name)?;
        self.change_names(|names| {
            self.record(id)?;
            Ok(names.insert(key, id).filter(|before| *before != id))
        })
    }

    /// The image a name leads to at the moment.
    pub fn name_leads_to(&self, name: &Reference) -> Result<Option<Digest>> {
        Ok(self.names()?.get(&key(name)?).copied())
    }

    /// Takes a name away; the image stays, perhaps without any.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a name that nothing has.
    pub fn untag(&self, name: &Reference) -> Result<Digest> {
        let key = key(name)?;
        self.change_names(|names| names.remove(&key).ok_or_else(|| not_found(&name.to_string())))
    }
}

/// How a reference is written in the table.
pub(super) fn key(name: &Reference) -> Result<String> {
    match name.tag() {
        Some(tag) => Ok(name.with_tag(tag)?.canonical()),
        None => {
            Err(Error::new(Kind::Invalid, format!("{name} has no tag")).hint("name it as repository:tag"))
        }
    }
}

pub(super) fn not_found(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("no such image: {name}"))
}
