//! What is said about the changes.

use crate::setup::{Scratch, can_mount, stderr, stdout};

#[test]
fn changes_are_listed_as_docker_diff_does() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("listing");
    let tree = scratch.join("tree");
    for dir in ["kept", "gone/deep", "replaced", "renamed/inner", "meta", "looked-at"] {
        std::fs::create_dir_all(tree.join(dir)).unwrap();
    }
    for file in
        ["kept/a", "kept/b", "gone/deep/x", "replaced/old", "replaced/both", "renamed/inner/y", "looked-at/z"]
    {
        std::fs::write(tree.join(file), "x").unwrap();
    }
    let line = format!(
        "cd {} && echo >> kept/a && echo > kept/new && rm -r gone && rm -r replaced && \
         mkdir replaced && echo > replaced/both && mv renamed other && chmod 700 meta && \
         touch looked-at/passing && rm looked-at/passing && cat looked-at/z && \
         mkdir -p made/below && echo > made/below/f && ln -s nowhere link",
        tree.display()
    );
    let output = scratch.sh(&[], &line);
    let prefix = tree.to_str().unwrap();
    let listed: Vec<_> = stderr(&output)
        .lines()
        .filter_map(|line| {
            let (letter, path) = line.split_once(' ')?;
            Some(format!("{letter} {}", path.strip_prefix(prefix)?.strip_prefix('/')?))
        })
        .collect();
    let expected = [
        "D gone",
        "C kept",
        "C kept/a",
        "A kept/new",
        "A link",
        "A made",
        "A made/below",
        "A made/below/f",
        "C meta",
        "A other",
        "A other/inner",
        "A other/inner/y",
        "D renamed",
        "C replaced",
        "C replaced/both",
        "D replaced/old",
    ];
    assert_eq!(listed, expected, "{}", stderr(&output));
    let directories = stderr(&output).lines().filter(|line| prefix.starts_with(&line[2..]));
    assert!(directories.clone().count() > 2 && directories.clone().all(|line| line.starts_with("C /")));
}

#[test]
fn a_command_that_changes_nothing_lists_nothing() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("nothing");
    let output = scratch.sh(&[], "ls / > /dev/null; cat /etc/passwd > /dev/null; echo out");
    assert_eq!((stdout(&output), stderr(&output)), ("out\n", ""));
    let quiet = scratch.sh(&["--quiet"], "echo > /new");
    assert_eq!(stderr(&quiet), "");
}
