//! `history`, `inspect`, `diff`, `df`, `fsck`.

use std::process::Command;

use super::store::{Store, has, sh, tool};
use crate::setup::{stderr, stdout};

#[test]
fn history_tells_each_step() {
    let store = Store::new("history");
    store.ok(&["history", "hello"]);
    let ids = store.ok(&["history", "-q", "--no-trunc", "hello"]);
    let lines: Vec<&str> = ids.lines().collect();
    assert!(lines[0].starts_with("sha256:") && lines[1] == "<missing>" && lines.len() == 2, "{ids}");
    let plain = store.ok(&["history", "-H=false", "--format", "{{.CreatedAt}} {{.Size}}", "hello"]);
    assert_eq!(plain, "2026-01-01T00:00:00Z 0\n2026-01-01T00:00:00Z 553\n");
    let table = store.ok(&["history", "hello"]);
    assert!(table.starts_with("IMAGE          CREATED "), "{table}");
    assert!(table.lines().nth(1).unwrap().contains("CMD [\"/hello\"]   0B "), "{table}");
    let json = store.ok(&["history", "--format", "json", "hello"]);
    assert!(
        json.lines().next().unwrap().starts_with("{\"Comment\":\"built into runion\",\"CreatedAt\":"),
        "{json}"
    );
    let Some(layout) = store.layout() else { return };
    let loaded = store.ok(&["load", "-i", layout.to_str().unwrap()]);
    let top = loaded.lines().last().unwrap().rsplit(' ').next().unwrap();
    let steps = store.ok(&["history", "--format", "{{.CreatedBy}}|{{.Size}}", top]);
    assert!(steps.contains("umoci") && steps.contains("|5kB\n") && steps.contains("|8B\n"), "{steps}");
    assert_eq!(store.fails(1, &["history", "nothing"]), "Error: No such image: nothing:latest\n");
}

#[test]
fn inspect_shows_what_is_there_and_says_what_is_not() {
    let store = Store::new("inspect");
    let output = store.run(&["inspect", "nothing", "hello"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), "Error: No such object: nothing\n"));
    assert!(stdout(&output).starts_with("[\n    {\n        \"Id\": \"sha256:"), "{}", stdout(&output));
    let output = store.run(&["inspect", "nothing"]);
    assert_eq!((stdout(&output), stderr(&output)), ("[]\n", "Error: No such object: nothing\n"));
    let output = store.run(&["image", "inspect", "nothing"]);
    assert_eq!(stderr(&output), "Error: No such image: nothing:latest\n");
    let file = store.scratch.join("inspect.json");
    std::fs::write(&file, store.ok(&["inspect", "-s", "--type", "image", "hello"])).unwrap();
    let python = "import json,sys; d=json.load(open(sys.argv[1])); print(' '.join(d[0]))";
    assert_eq!(
        tool("python3", &["-c", python, file.to_str().unwrap()]),
        "Id RepoTags RepoDigests Parent Comment Created DockerVersion Author Config Architecture Os Size \
         GraphDriver RootFS Metadata\n"
    );
    let paths = store.ok(&["inspect", "-f", "{{range .GraphDriver.Data}}{{println .}}{{end}}", "hello"]);
    paths.split_whitespace().for_each(|path| assert!(std::path::Path::new(path).exists(), "{path}"));
    let empty = "{{.Config.Entrypoint}} {{.Config.Labels}} {{.Config.User}}|{{.Config.Labels.x}}";
    assert_eq!(store.ok(&["inspect", "-f", empty, "hello"]), "[] map[] |<no value>\n");
    assert!(store.fails(1, &["inspect", "-f", "{{.Nope}}", "hello"]).contains("there is no field .Nope"));
}

/// An image of one platform is no answer to who asks for another.
#[test]
fn another_platform_is_refused() {
    let store = Store::new("platform");
    store.import("arm", &[("x", "y")], &["--platform", "linux/arm64"]);
    for command in [&["save"][..], &["history"], &["image", "inspect"], &["push"], &["rmi"]] {
        let arguments = [command, &["--platform", "linux/amd64", "arm"]].concat();
        let complaint = store.fails(1, &arguments);
        let expected = format!(
            "Error: image with reference {} was found but does not provide the specified platform \
             (linux/amd64)\nhint: it is for linux/arm64\n",
            if command == ["push"] { "arm:latest" } else { "arm" }
        );
        assert!(complaint.ends_with(&expected), "{command:?}: {complaint}");
        assert!(
            store.fails(1, &[command, &["--platform", "a b", "arm"]].concat()).contains("is no platform")
        );
    }
    let archive = store.scratch.join("arm.saved");
    let archive = archive.to_str().unwrap();
    store.ok(&["save", "--platform", "arm64", "-o", archive, "arm"]);
    assert!(store.ok(&["history", "--platform", "linux/arm64", "arm"]).contains("Imported from"));
    let fields = "{{.Architecture}}|{{.Variant}}|{{.OsVersion}}|{{.Config.Healthcheck}}";
    assert_eq!(
        store.ok(&["image", "inspect", "--platform", "linux/arm64", "-f", fields, "arm"]),
        "arm64|||<nil>\n"
    );
    assert!(store.ok(&["rmi", "--platform", "linux/arm64", "arm"]).starts_with("Untagged: arm:latest\n"));
    let complaint = store.fails(1, &["load", "--platform", "linux/amd64", "-i", archive]);
    let expected =
        "runion: the archive has no image for linux/amd64\nhint: there are images for linux/arm64\n";
    assert_eq!(complaint, expected);
    assert_eq!(store.ok(&["images", "-q"]), "");
}

#[test]
fn diff_tells_what_changed() {
    let store = Store::new("diff");
    let tree = store.tree(
        "t",
        &[("same", "1"), ("dir/kept", "2"), ("dir/gone", "3"), ("gone/deep/x", "4"), ("mode", "5")],
    );
    let take = |name: &str| {
        let output =
            sh(&store, "tar -C \"$1\" -c . | \"$RUNION\" import - $2", &[&tree, std::path::Path::new(name)]);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    take("one");
    let line = "cd \"$1\" && rm -r gone dir/gone && echo new > dir/new && mkdir -p made/deep && echo > made/deep/f \
                && chmod 600 mode && ln -s x link && touch -d @0 . dir";
    assert!(sh(&store, line, &[&tree]).status.success());
    take("two");
    assert_eq!(
        store.ok(&["diff", "one", "two"]),
        "C /dir\nD /dir/gone\nA /dir/new\nD /gone\nA /link\nA /made\nA /made/deep\nA /made/deep/f\nC /mode\n"
    );
    let back = store.ok(&["image", "diff", "two", "one"]);
    assert_eq!(
        back,
        "C /dir\nA /dir/gone\nD /dir/new\nA /gone\nA /gone/deep\nA /gone/deep/x\nD /link\nD /made\nC /mode\n"
    );
    assert_eq!(store.ok(&["diff", "one", "one"]), "");
    // What only lies deep changes the directories above it.
    assert!(
        sh(
            &store,
            "echo deeper > \"$1/made/deep/f\"; touch -d @0 \"$1/made/deep\" \"$1/made\" \"$1\"",
            &[&tree]
        )
        .status
        .success()
    );
    take("three");
    assert!(
        sh(
            &store,
            "echo other > \"$1/made/deep/f\"; touch -d @0 \"$1/made/deep\" \"$1/made\" \"$1\"",
            &[&tree]
        )
        .status
        .success()
    );
    take("four");
    assert_eq!(store.ok(&["diff", "three", "four"]), "C /made\nC /made/deep\nC /made/deep/f\n");
    assert_eq!(
        store.fails(1, &["diff", "one"]),
        "Error: No such container: one\nhint: an image is compared with another: runion diff one IMAGE\n"
    );
    assert_eq!(store.fails(1, &["diff", "nothing"]), "Error: No such container: nothing\n");
    assert_eq!(store.fails(1, &["diff", "one", "nothing"]), "Error: No such image: nothing:latest\n");
}

#[test]
fn df_counts_every_byte_once() {
    let store = Store::new("df");
    let common = "common ".repeat(10_000);
    store.import("one", &[("a", &common), ("b", &"1".repeat(20_000))], &[]);
    store.import("two", &[("c", &common)], &[]);
    store.import("", &[("d", &"4".repeat(5_000))], &[]);
    let rows = store.ok(&[
        "df",
        "--format",
        "{{.Type}} {{.TotalCount}} {{.Size}} {{.Shared}} {{.Unique}} {{.Reclaimable}}",
    ]);
    let lines: Vec<&str> = rows.lines().collect();
    assert_eq!(lines[0], "Images 3 165kB 140kB 25kB 5kB");
    assert_eq!(lines[1], "Layers 3 165kB 140kB 25kB 0B");
    assert_eq!(lines[2], "Files 3 95kB 70kB 25kB 0B");
    assert!(lines[3].starts_with("Metadata ") && lines[4] == "Garbage 0 0B 0B 0B 0B", "{rows}");
    let long = store.ok(&["df", "-v"]);
    assert!(long.contains("SHARED SIZE   UNIQUE SIZE\n") && long.contains("<none>       <none>"), "{long}");
    assert!(long.contains("Files: 3 contents, 95kB; of these 1 in several layers, 70kB."), "{long}");
    store.ok(&["rmi", "--no-prune", "one"]);
    assert!(store.ok(&["df"]).contains("\nGarbage    "));
    store.ok(&["prune", "-af"]);
    assert_eq!(store.ok(&["df", "--format", "{{.Size}}"]), "0B\n0B\n0B\n0B\n0B\n");
    assert!(store.fails(1, &["df", "--format", "{{.X}}"]).contains("no field .X"));
}

#[test]
fn fsck_finds_and_repairs() {
    let store = Store::new("fsck");
    store.ok(&["history", "hello"]);
    store.import("other", &[("x", &"1".repeat(1000))], &[]);
    assert_eq!(store.ok(&["fsck"]), "clean\n");
    let indexes = store.path().join("indexes");
    let index = std::fs::read_dir(indexes).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&index, "broken").unwrap();
    let output = store.run(&["fsck"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("the index of image"), "{}", stdout(&output));
    assert!(store.ok(&["fsck", "--repair"]).contains(": made anew\n1 repaired\n"));
    assert_eq!(store.ok(&["fsck"]), "clean\n");
    let line = "find \"$1\" -type f | while read -r f; do chmod u+w \"$f\"; echo broken > \"$f\"; done";
    assert!(sh(&store, line, &[&store.path().join("objects")]).status.success());
    let output = store.run(&["fsck"]);
    assert_eq!(output.status.code(), Some(1));
    store.ok(&["fsck", "--repair"]);
    assert_eq!(store.ok(&["images", "-q"]), "", "what is broken is gone");
    store.ok(&["history", "hello"]);
    assert_eq!(store.ok(&["fsck"]), "clean\n");
}

/// An image's words do not steer the terminal of who looks at it; a program
/// gets them as they are.
#[test]
fn escape_sequences_stay_in_the_image() {
    let store = Store::new("escapes");
    let evil = "\u{1b}[2Jgone\u{9b}31m";
    store.import("evil", &[(&format!("name{evil}"), "x")], &["-m", evil, "-c", &format!("LABEL x={evil}")]);
    store.import("other", &[("name", "x")], &[]);
    let commands = [
        "history evil",
        "inspect evil",
        "inspect -f {{.Config.Labels.x}} evil",
        "diff other evil",
        "images -q $EVIL",
    ];
    for line in commands {
        let shell = format!("{} {line}", env!("CARGO_BIN_EXE_runion"));
        let output =
            Command::new("sh").args(["-c", &shell]).env("RUNION_ROOT", store.path()).output().unwrap();
        assert!(line.contains("EVIL") || line == "inspect evil" || stdout(&output).contains(evil), "{line}");
        if !has("script") {
            return;
        }
        let mut script = Command::new("script");
        script.args(["-qc", &shell, "/dev/null"]).env("RUNION_ROOT", store.path()).env("EVIL", evil);
        let shown = String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned();
        assert!(!shown.contains(['\u{1b}', '\u{9b}']), "{line}: {shown:?}");
    }
}
