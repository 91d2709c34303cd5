//! `tag`, `untag`, `rmi`, `prune`.

use std::io::Write;
use std::process::Stdio;

use super::store::Store;
use crate::setup::{stderr, stdout};

#[test]
fn names_come_and_go() {
    let store = Store::new("names");
    let id = store.import("a:1", &[("x", "y")], &[]);
    assert_eq!(store.ok(&["tag", "a:1", "b"]), "");
    assert_eq!(store.ok(&["image", "tag", &id[7..15], "localhost:5000/c/d:e"]), "");
    assert_eq!(
        store.ok(&["inspect", "-f", "{{join .RepoTags \" \"}}", &id]),
        "a:1 b:latest localhost:5000/c/d:e\n"
    );
    assert_eq!(store.ok(&["untag", "a:1", "b"]), "Untagged: a:1\nUntagged: b:latest\n");
    assert_eq!(store.fails(1, &["untag", "a:1"]), "Error: No such image: a:1\n");
    let other = store.import("other", &[("x", "z")], &[]);
    store.ok(&["tag", "other", "localhost:5000/c/d:e"]);
    assert_eq!(store.ok(&["inspect", "-f", "{{.Id}}", "localhost:5000/c/d:e"]).trim(), other);
    assert_eq!(store.ok(&["inspect", "-f", "{{len .RepoTags}}", &id]), "0\n");
    for (arguments, why) in [
        (["tag", "nothing", "x"], "Error: No such image: nothing:latest"),
        (["tag", "other", "Up"], "lower case"),
        (["tag", "other", "a:b:c"], "':' cannot stand in a tag"),
        (["tag", "other", ""], "empty"),
    ] {
        let complaint = store.fails(1, &arguments);
        assert!(complaint.contains(why), "{arguments:?}: {complaint}");
    }
}

#[test]
fn rmi_removes_names_then_images() {
    let store = Store::new("rmi");
    let id = store.import("a:1", &[("x", "some contents")], &[]);
    let layer = store.ok(&["inspect", "-f", "{{index .RootFS.Layers 0}}", &id]);
    store.ok(&["tag", "a:1", "b:1"]);
    let conflict = store.fails(1, &["rmi", &id[7..19]]);
    let expected = format!(
        "Error: conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories\n",
        &id[7..19]
    );
    assert!(conflict.starts_with(&expected), "{conflict}");
    assert_eq!(store.ok(&["rmi", "a:1"]), "Untagged: a:1\n");
    assert_eq!(store.ok(&["rmi", "b:1"]), format!("Untagged: b:1\nDeleted: {id}\nDeleted: {layer}"));
    assert_eq!(store.ok(&["images", "-q"]), "");

    let id = store.import("a:1", &[("x", "some contents")], &[]);
    store.ok(&["tag", "a:1", "b:1"]);
    let forced = store.ok(&["image", "rm", "-f", &id]);
    assert!(forced.starts_with("Untagged: a:1\nUntagged: b:1\nDeleted: sha256:"), "{forced}");
    assert_eq!(store.fails(1, &["rmi", "a:1"]), "Error: No such image: a:1\n");
    let output = store.run(&["rmi", "-f", "a:1"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), "Error: No such image: a:1\n"));
    assert!(store.fails(1, &["rmi", "Up"]).contains("lower case"));
    assert_eq!(store.ok(&["fsck"]), "clean\n");
}

#[test]
fn one_that_is_missing_does_not_keep_the_others() {
    let store = Store::new("several");
    store.import("a:1", &[("x", "1")], &[]);
    store.import("b:1", &[("x", "2")], &[]);
    let output = store.run(&["rmi", "a:1", "nothing", "b:1"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), "Error: No such image: nothing:latest\n"));
    assert_eq!(stdout(&output).matches("Deleted: ").count(), 4, "{}", stdout(&output));
    assert_eq!(store.ok(&["images", "-q"]), "");
}

#[test]
fn layers_stay_while_others_have_them() {
    let store = Store::new("shared");
    let Some(layout) = store.layout() else { return };
    let loaded = store.ok(&["load", "-i", layout.to_str().unwrap()]);
    let ids: Vec<&str> = loaded.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{loaded}");
    let removed = store.ok(&["rmi", ids[1]]);
    assert_eq!(removed.matches("Deleted: ").count(), 2, "the image and its own layer: {removed}");
    assert!(store.ok(&["export", ids[0]]).contains("os-release"));
    assert_eq!(store.ok(&["rmi", "--no-prune", ids[0]]), format!("Deleted: {}\n", ids[0]));
    let pruned = store.ok(&["prune", "-f"]);
    assert!(pruned.starts_with("Deleted Images:\ndeleted: sha256:"), "{pruned}");
    assert!(pruned.contains("\n\nTotal reclaimed space: "), "{pruned}");
    assert_eq!(store.ok(&["prune", "-f"]), "Total reclaimed space: 0B\n");
}

#[test]
fn prune_asks_and_removes_what_has_no_name() {
    let store = Store::new("prune");
    let unnamed = store.import("", &[("x", "unnamed")], &[]);
    store.import("named", &[("x", "named")], &["-c", "LABEL keep=yes"]);
    let answer = |words: &str, options: &[&str]| {
        let mut child = store.command(&[&["prune"], options].concat());
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        stdout(&output).to_owned()
    };
    for no in ["n\n", "", "perhaps\n"] {
        let said = answer(no, &[]);
        assert!(said.starts_with("WARNING! This will remove all dangling images.\nAre you sure"), "{said}");
        assert!(said.ends_with("[y/N] Total reclaimed space: 0B\n"), "{said}");
    }
    assert_eq!(store.ok(&["images", "-q"]).lines().count(), 2);
    assert!(answer("y\n", &[]).contains(&format!("Deleted Images:\ndeleted: {unnamed}\n")));
    assert_eq!(store.ok(&["images", "--format", "{{.Repository}}"]), "named\n");
    assert_eq!(store.ok(&["prune", "-af", "--filter", "label!=keep"]), "Total reclaimed space: 0B\n");
    assert_eq!(store.ok(&["prune", "-af", "--filter", "until=24h"]), "Total reclaimed space: 0B\n");
    let pruned = store.ok(&["image", "prune", "-a", "-f", "--filter", "label=keep=yes"]);
    assert!(pruned.contains("untagged: named:latest\n"), "{pruned}");
    assert!(
        store.fails(1, &["prune", "-f", "--filter", "dangling=true"]).contains("invalid filter 'dangling'")
    );
    assert_eq!(store.ok(&["fsck"]), "clean\n");
}

#[test]
fn digests_of_registries_go_with_the_image() {
    let store = Store::new("digests");
    let id = store.import("app:1", &[("x", "y")], &[]);
    let at = |digit: &str| format!("localhost:5000/app@sha256:{}", digit.repeat(64));
    store.note_digest(&id, &at("a"));
    store.note_digest(&id, &at("b"));
    assert_eq!(store.ok(&["inspect", "-f", "{{len .RepoDigests}} {{.Id}}", &at("a")]), format!("2 {id}\n"));
    assert_eq!(store.fails(1, &["rmi", &at("c")]), format!("Error: No such image: {}\n", at("c")));
    assert_eq!(store.ok(&["rmi", &at("a")]), format!("Untagged: {}\n", at("a")));
    assert_eq!(store.ok(&["untag", "app:1"]), "Untagged: app:1\n");
    let rows = store.ok(&["images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"]);
    assert_eq!(rows, format!("localhost:5000/app <none> sha256:{}\n", "b".repeat(64)));
    let removed = store.ok(&["rmi", "--no-prune", &at("b")]);
    assert_eq!(removed, format!("Untagged: {}\nDeleted: {id}\n", at("b")));
}
