//! What is in a store, and whether it is as it has to be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use layerstore::archive::{Loaded, Loading, load_file, load_stream};
use layerstore::digest::Digest;
use layerstore::store::{Repair, Store};

/// A directory that goes away: in memory, for syncs take their time on disks.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = base.join(format!("layerstore-store-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn store(&self) -> Store {
        Store::open(self.join("store")).unwrap()
    }

    /// A file of these contents, open.
    pub fn file(&self, contents: &[u8]) -> std::fs::File {
        let path = self.join("file");
        std::fs::write(&path, contents).unwrap();
        std::fs::File::open(path).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Images and their names.
pub type State = BTreeMap<Digest, BTreeSet<String>>;

pub fn state(store: &Store) -> State {
    let images = store.images().unwrap().into_iter();
    images.map(|image| (image.id(), image.names.iter().map(ToString::to_string).collect())).collect()
}

pub fn load(store: &Store, archive: &[u8]) -> layerstore::Result<Vec<Loaded>> {
    load_stream(store, Cursor::new(archive), &Loading::default())
}

pub fn load_from_file(scratch: &Scratch, store: &Store, archive: &[u8]) -> layerstore::Result<Vec<Loaded>> {
    load_file(store, scratch.file(archive), &Loading::default())
}

/// Nothing is broken.
#[track_caller]
pub fn assert_clean(store: &Store) {
    let findings = store.fsck(Repair::No).unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}

/// After a collection there is what records lead to, and not one file more.
#[track_caller]
pub fn assert_no_garbage(store: &Store) {
    store.collect().unwrap();
    let mut lead_to: BTreeSet<PathBuf> = BTreeSet::new();
    for image in store.images().unwrap() {
        let record = &image.record;
        lead_to.insert(format!("images/{}.json", record.id.hex()).into());
        lead_to.insert(format!("blobs/sha256/{}", record.id.hex()).into());
        lead_to.extend(record.manifests.iter().map(|id| format!("blobs/sha256/{}", id.hex()).into()));
        lead_to.insert(store.index_file(record).strip_prefix(store.root()).unwrap().into());
        for diff_id in &record.layers {
            lead_to.insert(format!("layers/{}.json", diff_id.hex()).into());
            lead_to.insert(format!("layers/{}.framing", diff_id.hex()).into());
            let framing = store.layer(*diff_id).unwrap().unwrap().framing().unwrap();
            let objects = framing.objects().iter();
            lead_to.extend(objects.map(|object| format!("objects/{}", object.id.path()).into()));
        }
    }
    let mut there = BTreeSet::new();
    files(store.root(), Path::new(""), &mut there);
    for name in ["version", "lock", "names.lock", "names.json"] {
        there.remove(Path::new(name));
    }
    for image in store.images().unwrap() {
        there.remove(Path::new(&format!("images/{}.lock", image.id().hex())));
    }
    assert_eq!(there, lead_to);
    let names = std::fs::read_to_string(store.root().join("names.json")).unwrap_or_default();
    let named: usize = store.images().unwrap().iter().map(|image| image.names.len()).sum();
    assert_eq!(names.matches(":\"sha256:").count(), named, "a name leads nowhere: {names}");
}

fn files(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => files(root, &path, found),
            false => drop(found.insert(path)),
        }
    }
}

/// All files of a directory, by their paths in it.
pub fn files_of(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    files(root, Path::new(""), &mut found);
    found
}

/// Copies a store.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// The tar stream of a layer.
pub fn stream(store: &Store, diff_id: Digest) -> Vec<u8> {
    let mut stream = Vec::new();
    store.layer(diff_id).unwrap().unwrap().copy(&mut stream).unwrap();
    stream
}
