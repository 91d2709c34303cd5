//! Every file of a store broken in every way: found and named, repaired, and whole
//! again once it is loaded again.

use std::path::{Path, PathBuf};

use layerstore::store::{Repair, Store};

use crate::actions::{Action, archive, archive_of_other};
use crate::state::{Scratch, assert_clean, assert_no_garbage, copy, files_of, load, state};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    FlipFirst,
    FlipMiddle,
    FlipLast,
    Empty,
    Half,
    LackLast,
    Longer,
    Gone,
}

const DAMAGES: [Damage; 8] = [
    Damage::FlipFirst,
    Damage::FlipMiddle,
    Damage::FlipLast,
    Damage::Empty,
    Damage::Half,
    Damage::LackLast,
    Damage::Longer,
    Damage::Gone,
];

fn damage(path: &Path, damage: Damage) {
    let mut bytes = std::fs::read(path).unwrap();
    let len = bytes.len();
    match damage {
        Damage::FlipFirst => bytes[0] ^= 1,
        Damage::FlipMiddle => bytes[len / 2] ^= 1,
        Damage::FlipLast => bytes[len - 1] ^= 1,
        Damage::Empty => bytes.clear(),
        Damage::Half => bytes.truncate(len / 2),
        Damage::LackLast => bytes.truncate(len - 1),
        Damage::Longer => bytes.push(b'\n'),
        Damage::Gone => {}
    }
    // Objects are read-only.
    std::fs::remove_file(path).unwrap();
    if damage != Damage::Gone {
        std::fs::write(path, bytes).unwrap();
    }
}

fn two_images(root: &Path) -> Store {
    let store = Action::LoadOther.prepare(root);
    load(&store, &archive_of_other()).unwrap();
    store
}

fn load_both(store: &Store) {
    load(store, &archive()).unwrap();
    load(store, &archive_of_other()).unwrap();
    assert_eq!(state(store), Action::LoadOther.after());
    assert_clean(store);
    assert_no_garbage(store);
}

/// The files that have to be as they are.
fn files(root: &Path) -> Vec<PathBuf> {
    let files = files_of(root).into_iter();
    files.filter(|path| !path.to_string_lossy().ends_with("lock") && path != Path::new("version")).collect()
}

#[test]
fn whatever_breaks() {
    let scratch = Scratch::new();
    let root = scratch.join("begin");
    two_images(&root);
    let files = files(&root);
    for kind in ["names.json", "images/", "blobs/", "layers/", "indexes/", "objects/"] {
        assert!(files.iter().any(|path| path.starts_with(kind)), "there is no {kind}");
    }
    for (number, (path, how)) in
        files.iter().flat_map(|path| DAMAGES.map(|damage| (path, damage))).enumerate()
    {
        println!("{}: {how:?}", path.display());
        let place = scratch.join(&format!("{number}"));
        copy(&root, &place);
        damage(&place.join(path), how);
        let store = Store::open(&place).unwrap();
        let found = store.fsck(Repair::No).unwrap();
        // An image whose record is gone is no image, and names may be gone.
        let is_no_fault =
            how == Damage::Gone && (path.starts_with("images") || path == Path::new("names.json"));
        assert_eq!(found.is_empty(), is_no_fault, "{found:#?}");
        assert!(found.iter().all(|finding| finding.done.is_none()));
        let name = name_of(path);
        let is_named = found.iter().any(|finding| finding.what.contains(&name));
        assert!(is_named || is_no_fault, "{name} is not named: {found:#?}");
        let repaired = store.fsck(Repair::Yes).unwrap();
        assert!(repaired.iter().all(|finding| finding.done.is_some()), "{repaired:#?}");
        assert_clean(&store);
        store.images().unwrap();
        load_both(&store);
        std::fs::remove_dir_all(&place).unwrap();
    }
}

/// What a finding has of a file: an index is named by its images.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    match path.iter().next().unwrap().to_str().unwrap() {
        "indexes" => "the index of image".to_owned(),
        "objects" => format!("{}{stem}", path.iter().nth(1).unwrap().to_str().unwrap()),
        "names.json" => "names.json".to_owned(),
        _ => stem.get(..12).unwrap().to_owned(),
    }
}

/// Without a repair, too, no load takes what is broken for what it brings.
#[test]
fn loaded_over_what_is_broken() {
    let scratch = Scratch::new();
    let root = scratch.join("begin");
    two_images(&root);
    for (number, path) in files(&root).iter().enumerate() {
        if !path.starts_with("indexes") && !path.starts_with("blobs") {
            continue;
        }
        let place = scratch.join(&format!("{number}"));
        copy(&root, &place);
        damage(&place.join(path), Damage::FlipMiddle);
        load_both(&Store::open(&place).unwrap());
    }
}

/// A collection that cannot know what an image needs takes nothing.
#[test]
fn collected_where_something_is_broken() {
    let scratch = Scratch::new();
    let root = scratch.join("begin");
    two_images(&root);
    for (number, path) in files(&root).iter().enumerate() {
        let place = scratch.join(&format!("{number}"));
        copy(&root, &place);
        let how = if path.starts_with("images") { Damage::FlipMiddle } else { Damage::Gone };
        damage(&place.join(path), how);
        let before = files_of(&place);
        let store = Store::open(&place).unwrap();
        if path.starts_with("images") || path.starts_with("layers") {
            let error = store.collect().unwrap_err();
            assert!(error.to_string().contains("fsck"), "{error}");
        } else {
            store.collect().unwrap();
        }
        let gone: Vec<_> = before.difference(&files_of(&place)).cloned().collect();
        assert!(gone.is_empty(), "without {}, {gone:?} went", path.display());
    }
}

#[test]
fn stores_of_other_formats() {
    let scratch = Scratch::new();
    let root = scratch.join("begin");
    two_images(&root);
    for version in ["", "2\n", "1.1\n", "one\n"] {
        std::fs::write(root.join("version"), version).unwrap();
        let error = Store::open(&root).err().unwrap();
        assert!(error.message().contains("has format"), "{error}");
    }
    std::fs::remove_file(root.join("version")).unwrap();
    load_both(&Store::open(&root).unwrap());
}

/// A directory that somebody has for something else stays as it is.
#[test]
fn no_store_is_made_among_other_files() {
    let scratch = Scratch::new();
    let root = scratch.join("home");
    std::fs::create_dir_all(root.join("lost+found")).unwrap();
    drop(Store::open(&root).unwrap());
    let other = scratch.join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("letter"), "").unwrap();
    let error = Store::open(&other).err().unwrap();
    assert!(error.message().ends_with("other has files in it, and none of a store"), "{error}");
    assert_eq!(files_of(&other).len(), 1);
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}
