//! Whether everything is what its name says, and what can be done where it is
//! not.
//!
//! From the bottom up: objects, layers, documents, indexes, images. A repair
//! removes what is broken and what needs it, down to images that lack a layer:
//! who loads or pulls them again gets them whole. An index is made anew.

use std::collections::HashSet;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::images::{chain_id, contents_of, short};
use super::{ImageRecord, Store};
use crate::digest::{Digest, Hashing};
use crate::error::{Error, Kind, Result};
use crate::seal::Contents;

/// What is done about what is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It is told.
    No,
    /// It is removed, or made anew.
    Yes,
}

/// Something that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The thing and what is wrong with it.
    pub what: String,
    /// What was done about it.
    pub done: Option<String>,
}

/// One run.
struct Check<'s> {
    store: &'s Store,
    repair: Repair,
    findings: Vec<Finding>,
    /// Whole files that the kernel could hold to what they are, and does not.
    unsealed: Vec<PathBuf>,
}

impl Store {
    /// Reads everything there is and compares it with its names; nobody adds or
    /// removes meanwhile.
    ///
    /// # Errors
    /// What could not be read at all. What is broken is no error: it is found.
    pub fn fsck(&self, repair: Repair) -> Result<Vec<Finding>> {
        let _lock = self.lock("lock", FlockOperation::LockExclusive)?;
        let mut check = Check { store: self, repair, findings: Vec::new(), unsealed: Vec::new() };
        check.objects()?;
        let whole = check.layers()?;
        // Before the images: no record changes where the names cannot be read.
        check.names()?;
        check.images(&whole)?;
        check.seals()?;
        Ok(check.findings)
    }
}

impl Check<'_> {
    fn found(&mut self, what: String, done: impl FnOnce() -> Result<String>) -> Result<()> {
        let done = match self.repair {
            Repair::Yes => Some(done()?),
            Repair::No => None,
        };
        self.findings.push(Finding { what, done });
        Ok(())
    }

    fn objects(&mut self) -> Result<()> {
        let store = self.store;
        for id in store.pool.ids()? {
            match broken(store.pool.verify(&id))? {
                Ok(found) => self.note_seal(found, || store.objects().join(id.path())),
                Err(error) => self.found(error, || store.pool.remove(&id).map(|_| "removed".to_owned()))?,
            }
        }
        Ok(())
    }

    /// The layers that give their streams back.
    fn layers(&mut self) -> Result<HashSet<Digest>> {
        let store = self.store;
        let mut whole = HashSet::new();
        let has_damage = !self.findings.is_empty();
        for diff_id in store.digests_in("layers", ".json")? {
            let stream = match broken(stream_of(store, diff_id)) {
                // An object that cannot be read, and is still there.
                Err(error) if has_damage && self.repair == Repair::No => Err(error.message().to_owned()),
                stream => stream?,
            };
            match stream {
                Ok(found) if found == diff_id => {
                    whole.insert(diff_id);
                    continue;
                }
                Ok(found) => self.layer(diff_id, &format!("gives back {found}"))?,
                Err(error) => self.layer(diff_id, &error)?,
            }
        }
        Ok(whole)
    }

    fn layer(&mut self, diff_id: Digest, wrong: &str) -> Result<()> {
        let store = self.store;
        self.found(format!("layer {diff_id}: {wrong}"), || {
            store.remove_file(&store.layer_path(diff_id))?;
            store.remove_file(&store.framing_path(diff_id))?;
            Ok("removed".to_owned())
        })
    }

    fn images(&mut self, layers: &HashSet<Digest>) -> Result<()> {
        let store = self.store;
        for id in store.digests_in("images", ".json")? {
            match broken(store.read::<ImageRecord>(&store.record_path(id)))? {
                Ok(Some(record)) => self.image(id, &record, layers)?,
                // Removed since it was listed, for which nobody waits for us.
                Ok(None) => {}
                Err(error) => self.remove_image(id, &error)?,
            }
        }
        Ok(())
    }

    fn image(&mut self, id: Digest, record: &ImageRecord, layers: &HashSet<Digest>) -> Result<()> {
        let store = self.store;
        let config = broken(store.config(record))?;
        let lost = record.layers.iter().find(|layer| !layers.contains(layer));
        match (&config, lost) {
            _ if record.id != id => return self.remove_image(id, "its record is another's"),
            (Err(error), _) => return self.remove_image(id, error),
            (Ok(config), _) if config.rootfs.diff_ids != record.layers => {
                return self.remove_image(id, "its record lists other layers than its configuration");
            }
            (Ok(_), Some(lost)) => return self.remove_image(id, &format!("layer {lost} is lost")),
            (Ok(_), None) => {}
        }
        for manifest in &record.manifests {
            if let Err(error) = broken(store.blob(*manifest))? {
                self.remove_image(id, &error)?;
                return Ok(());
            }
        }
        let path = store.index_path(chain_id(&record.layers));
        match broken(contents_of(&path))? {
            Ok(found) if found.id == record.index => {
                self.note_seal(found, || path);
                Ok(())
            }
            found => {
                let wrong =
                    found.map_or_else(|error| error, |found| format!("its digest is {}", found.id.hex()));
                self.found(format!("the index of image {}: {wrong}", short(&id)), || {
                    let index = store.index_of(&record.layers, None)?;
                    store.change_record(id, |record| record.index = index)?;
                    Ok("made anew".to_owned())
                })
            }
        }
    }

    fn note_seal(&mut self, found: Contents, path: impl FnOnce() -> PathBuf) {
        if !found.is_sealed && self.store.pool.is_sealing() {
            self.unsealed.push(path());
        }
    }

    /// What was stored before its file system had fs-verity, or we used it.
    fn seals(&mut self) -> Result<()> {
        let (store, unsealed) = (self.store, std::mem::take(&mut self.unsealed));
        let Some(first) = unsealed.first() else { return Ok(()) };
        let what = match unsealed.len() {
            1 => format!("{} is not sealed by fs-verity", first.display()),
            all => format!("{} and {} more files are not sealed by fs-verity", first.display(), all - 1),
        };
        self.found(what, || {
            let mut sealed = 0;
            for path in &unsealed {
                sealed += usize::from(store.pool.seal_at(path)?);
            }
            Ok(if sealed == unsealed.len() { "sealed" } else { "the file system does not seal them" }
                .to_owned())
        })
    }

    fn remove_image(&mut self, id: Digest, wrong: &str) -> Result<()> {
        let store = self.store;
        self.found(format!("image {}: {wrong}", short(&id)), || {
            store.remove_file(&store.root().join(format!("images/{}.json", id.hex())))?;
            Ok("removed; load or pull it again".to_owned())
        })
    }

    fn names(&mut self) -> Result<()> {
        let store = self.store;
        match broken(store.names())? {
            Ok(_) => Ok(()),
            Err(error) => self.found(error, || {
                store.remove_file(&store.root().join("names.json"))?;
                Ok("removed; the images have no names any more".to_owned())
            }),
        }
    }
}

/// The digest of the stream a layer gives back.
fn stream_of(store: &Store, diff_id: Digest) -> Result<Digest> {
    let layer = store.layer(diff_id)?;
    let layer = layer.ok_or_else(|| Error::new(Kind::NotFound, "its record is gone"))?;
    let mut stream = Hashing::new(std::io::sink());
    layer.copy(&mut stream)?;
    Ok(stream.finish().1)
}

/// Tells what is broken, or lost, from what cannot be read at the moment.
fn broken<T>(result: Result<T>) -> Result<Result<T, String>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => match error.kind() {
            Kind::Corrupt | Kind::Invalid | Kind::NotFound | Kind::Limit => {
                Ok(Err(error.message().to_owned()))
            }
            Kind::Denied | Kind::InUse | Kind::System => Err(error),
        },
    }
}
