//! What layers merge to.

use super::*;
use crate::error::Kind;

#[track_caller]
fn merged(layers: &[&[&str]], expected: &[&str]) {
    let layers: Vec<Vec<u8>> = layers.iter().map(|layer| tar(layer)).collect();
    let layers: Vec<&[u8]> = layers.iter().map(|layer| &layer[..]).collect();
    match Store::new().merge(&layers) {
        Ok(tree) => assert_eq!(listing(&tree), expected),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn refused(layers: &[&[&str]], reason: &str) {
    let layers: Vec<Vec<u8>> = layers.iter().map(|layer| tar(layer)).collect();
    let layers: Vec<&[u8]> = layers.iter().map(|layer| &layer[..]).collect();
    let error = Store::new().merge(&layers).unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.message().contains(reason), "{error}");
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    merged(&[&["a", "d/", "d/x"], &[".wh.a", "d/.wh.x", ".wh.none", "none/.wh.x"]], &["d/"]);
    merged(&[&["d/", "d/x"], &[".wh.d"]], &[]);
    for layer in [&[".wh.a", "a"], &["a", ".wh.a"]] {
        merged(&[&["a/", "a/x"], layer], &["a: a"]);
    }
    for layer in [&["d/", "d/.wh..wh..opq", "d/new"], &["d/new", "d/", "d/.wh..wh..opq"]] {
        merged(&[&["d/", "d/x", "d/e/", "d/e/y"], layer], &["d/", "d/new: d/new"]);
    }
    for layer in [&[".wh.d", "d/new"], &["d/new", ".wh.d"]] {
        merged(&[&["d/", "d/x"], layer], &["d/ 755", "d/new: d/new"]);
    }
    merged(&[&["a", "b/"], &[".wh..wh..opq", "c"]], &["c: c"]);
    merged(&[&["a", ".wh.a", ".wh..wh..opq"]], &["a: a"]);
    merged(&[&["a"], &[".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.aufs"]], &["a: a"]);
    for name in [".wh.", ".wh...", ".wh..", "d/.wh..."] {
        refused(&[&["a"], &[name]], "a whiteout of what is no name");
    }
    refused(&[&[".wh.a/b"]], "a whiteout is no directory");
}

#[test]
fn what_replaces_what() {
    merged(&[&["a/", "a/x"], &["a"]], &["a: a"]);
    merged(&[&["a"], &["a/", "a/x"]], &["a/", "a/x: a/x"]);
    merged(&[&["d/", "a -> d"], &["a/"]], &["a/", "d/"]);
    merged(&[&["d/", "a -> d"], &["a"]], &["a: a", "d/"]);
    merged(&[&["i/x"], &["i/", "i/y"]], &["i/", "i/x: i/x", "i/y: i/y"]);
    merged(&[&["a", "a -> b", "a/", "a/x", "./a"]], &["a: ./a"]);
}

#[test]
fn paths_stay_inside() {
    merged(
        &[&["/abs/../a", "./b//c/.", "d/e/../../f"]],
        &["a: /abs/../a", "b/ 755", "b/c: ./b//c/.", "f: d/e/../../f"],
    );
    for path in ["../a", "a/../../b", "/..", "..", "a/../.."] {
        refused(&[&[path]], "climbs above the root");
    }
    refused(&[&["a = ../../etc/passwd"]], "climbs above the root");
    // Symbolic links may point anywhere; what goes through them stays inside.
    merged(
        &[&["out -> ../../..", "abs -> /sub"], &["out/x", "abs/y"]],
        &["abs -> /sub", "out -> ../../..", "sub/ 755", "sub/y: abs/y", "x: out/x"],
    );
    merged(
        &[&["usr/lib/", "lib -> usr/lib"], &["lib/x", "lib/deep/y"], &["lib/.wh.x"]],
        &["lib -> usr/lib", "usr/ 755", "usr/lib/", "usr/lib/deep/ 755", "usr/lib/deep/y: lib/deep/y"],
    );
    refused(&[&["a -> b", "b -> a", "a/x"]], "too many symbolic links");
    refused(&[&["a -> a/a/a", "a/x"]], "too many symbolic links");
    refused(&[&["a", "a/b"]], "\"a\" on its way is no directory");
    refused(&[&["file", "./ -> x"]], "the root is a directory");
}

/// CVE-2021-29136, RUSTSEC-2021-0080: the directory replaces the link; what
/// the link points to keeps its attributes.
#[test]
fn a_directory_over_a_symlink() {
    let mut writer = TarWriter::new(Vec::new());
    writer.entry(&entry("d/"), &b""[..]).unwrap();
    writer.entry(&entry("l -> d"), &b""[..]).unwrap();
    let mut dir = entry("l/");
    dir.meta.mode = 0o777;
    writer.entry(&dir, &b""[..]).unwrap();
    let tree = Store::new().merge(&[&writer.finish().unwrap()]).unwrap();
    assert_eq!(listing(&tree), ["d/", "l/ 777"]);
}

#[test]
fn hard_links() {
    let store = Store::new();
    let tree = store.merge(&[&tar(&["a", "s -> a"]), &tar(&["d/b = a", "t = s", "u = d/../a"])]).unwrap();
    assert_eq!(listing(&tree), ["a: a", "d/ 755", "d/b: a", "s -> a", "t -> a", "u: a"]);
    let ids: Vec<_> = tree.entries(ROOT).collect();
    assert_eq!((ids[0].1, ids[2].1), (ids[4].1, ids[3].1));
    // A new file at one name leaves the other alone.
    merged(&[&["a", "b = a"], &["./a"]], &["a: ./a", "b: a"]);
    merged(&[&["a", "b = a"], &[".wh.a"]], &["b: a"]);
    refused(&[&["b = a"]], "which does not exist");
    refused(&[&["b = a", "a"]], "which does not exist");
    refused(&[&["a"], &[".wh.a", "b = a"]], "which does not exist");
    refused(&[&["d/", "b = d"]], "a hard link to a directory");
    refused(&[&["b = /"]], "a hard link to the root");
}

#[test]
fn attributes_are_only_recorded() {
    let mut writer = TarWriter::new(Vec::new());
    let mut file = entry("file");
    file.meta.mode = 0o6755;
    file.xattrs.insert(b"security.capability"[..].into(), b"\x01\0\0\x02"[..].into());
    writer.entry(&file, &b"file"[..]).unwrap();
    let device = crate::tree::Device { major: 1, minor: 3 };
    let null = Entry { kind: EntryKind::Char(device), ..entry("null -> x") };
    writer.entry(&null, &b""[..]).unwrap();
    let mut root = entry("./");
    root.meta.mode = 0o711;
    writer.entry(&root, &b""[..]).unwrap();
    let tree = Store::new().merge(&[&writer.finish().unwrap()]).unwrap();
    let nodes: Vec<_> = tree.entries(ROOT).map(|(_, id)| tree.get(id).unwrap()).collect();
    assert_eq!((nodes[0].meta, &nodes[0].xattrs), (file.meta, &file.xattrs));
    assert_eq!(nodes[1].content, Content::Char(device));
    assert_eq!(tree.get(ROOT).unwrap().meta, root.meta);
}
