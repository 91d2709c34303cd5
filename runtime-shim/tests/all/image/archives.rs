//! `load` and `save`, with what skopeo and umoci write and read.

use std::path::Path;

use super::store::{Store, has, sh, tool};
use crate::setup::{stderr, stdout};

/// The same image through every form of archive keeps its id and its layers.
#[test]
fn what_others_write_is_loaded() {
    let store = Store::new("load");
    let Some(layout) = store.layout() else { return };
    if !has("skopeo") {
        return;
    }
    let source = format!("oci:{}:top", layout.display());
    let file = |name: &str| store.scratch.join(name);
    let (docker, oci) = (file("docker.tar"), file("oci.tar"));
    tool("skopeo", &["copy", "-q", &source, &format!("docker-archive:{}:team/app:1.0", docker.display())]);
    tool(
        "skopeo",
        &["copy", "-q", &source, &format!("oci-archive:{}:registry.example/app:2", oci.display())],
    );
    assert!(sh(&store, "gzip -k \"$1\" && zstd -q \"$1\"", &[&docker]).status.success());
    assert_eq!(store.ok(&["load", "-i", docker.to_str().unwrap()]), "Loaded image: team/app:1.0\n");
    let id = store.ok(&["inspect", "-f", "{{.Id}}", "team/app:1.0"]);
    for packed in ["docker.tar.gz", "docker.tar.zst", "docker.tar"] {
        let output = sh(&store, "\"$RUNION\" load -q < \"$1\"", &[&file(packed)]);
        assert_eq!((stdout(&output), stderr(&output)), ("Loaded image: team/app:1.0\n", ""), "{packed}");
    }
    assert_eq!(
        store.ok(&["load", "--input", oci.to_str().unwrap()]),
        "Loaded image: registry.example/app:2\n"
    );
    let config = tool("skopeo", &["inspect", "--config", "--raw", &format!("oci-archive:{}", oci.display())]);
    let id_of_oci = store.ok(&["inspect", "-f", "{{.Id}}", "registry.example/app:2"]);
    assert_eq!(id_of_oci.trim(), format!("sha256:{}", sha256(&store, &config)));
    assert_eq!(store.ok(&["image", "inspect", "-f", "{{.Id}}", "team/app:1.0"]), id);
    // A name goes from one image to another, and it is said.
    let other = store.import("team/app:1.0", &[("x", "y")], &[]);
    assert_eq!(
        store.ok(&["load", "-i", docker.to_str().unwrap()]),
        format!(
            "The image team/app:1.0 already exists, renaming the old one with ID {other} to empty string\n\
             Loaded image: team/app:1.0\n"
        )
    );
    let whole = store.ok(&["load", "-i", layout.to_str().unwrap()]);
    assert_eq!(whole.matches("Loaded image ID: sha256:").count(), 2, "{whole}");
}

fn sha256(store: &Store, text: &str) -> String {
    let file = store.scratch.join("to-hash");
    std::fs::write(&file, text).unwrap();
    tool("sha256sum", &[file.to_str().unwrap()]).split(' ').next().unwrap().to_owned()
}

#[test]
fn what_is_saved_is_read_by_others_and_by_us() {
    let store = Store::new("save");
    let Some(layout) = store.layout() else { return };
    if !has("skopeo") {
        return;
    }
    let loaded = store.ok(&["load", "-i", layout.to_str().unwrap()]);
    let ids: Vec<&str> = loaded.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    store.ok(&["tag", ids[0], "app:base"]);
    store.ok(&["tag", ids[1], "app:top"]);
    store.ok(&["tag", ids[1], "other"]);
    let path = |name: &str| store.scratch.join(name).to_str().unwrap().to_owned();
    store.ok(&["save", "-o", &path("docker.tar"), "app", "other"]);
    store.ok(&["save", "-o", &path("oci.tar"), "--format", "oci-archive", "app:top"]);
    store.ok(&["save", "-o", &path("oci"), "--format", "oci-dir", "app:top"]);
    let piped = sh(&store, "\"$RUNION\" save app:top > \"$1\"", &[Path::new(&path("piped.tar"))]);
    assert!(piped.status.success(), "{}", stderr(&piped));
    for source in [
        format!("docker-archive:{}:app:top", path("docker.tar")),
        format!("docker-archive:{}", path("piped.tar")),
        format!("oci-archive:{}", path("oci.tar")),
        format!("oci:{}", path("oci")),
    ] {
        let config = tool("skopeo", &["inspect", "--config", "--raw", &source]);
        assert_eq!(format!("sha256:{}", sha256(&store, &config)), ids[1], "{source}");
    }
    tool("umoci", &["unpack", "--rootless", "--image", &format!("{}:top", path("oci")), &path("bundle")]);
    assert!(Path::new(&path("bundle/rootfs/bin/tool")).exists());
    let manifest = tool("tar", &["-xOf", &path("docker.tar"), "manifest.json"]);
    for tags in ["\"app:base\"", "\"app:top\"", "\"other:latest\""] {
        assert!(manifest.contains(tags), "{manifest}");
    }

    let again = Store::new("again");
    assert_eq!(
        again.ok(&["load", "-i", &path("docker.tar")]),
        "Loaded image: app:base\nLoaded image: app:top\nLoaded image: other:latest\n"
    );
    assert_eq!(again.ok(&["inspect", "-f", "{{.Id}}", "other"]).trim(), ids[1]);
    assert_eq!(again.ok(&["fsck"]), "clean\n");
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let store = Store::new("atomic");
    store.ok(&["history", "hello"]);
    let file = store.scratch.join("image.tar");
    std::fs::write(&file, "what was there before").unwrap();
    store.ok(&["save", "-o", file.to_str().unwrap(), "hello"]);
    assert!(std::fs::metadata(&file).unwrap().len() > 1024);
    std::fs::write(&file, "what was there before").unwrap();
    let objects = store.path().join("objects");
    std::fs::rename(&objects, store.scratch.join("elsewhere")).unwrap();
    assert!(store.fails(1, &["save", "-o", file.to_str().unwrap(), "hello"]).contains("object"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "what was there before");
    let dir = store.scratch.join("dir");
    store.fails(1, &["save", "--format", "oci-dir", "-o", dir.to_str().unwrap(), "hello"]);
    assert!(!dir.exists());
    let names = std::fs::read_dir(store.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_str().unwrap().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bad_archives_and_names_are_refused() {
    let store = Store::new("bad");
    let no_image = store.tar("rootfs", &[("etc/passwd", "root")]);
    let text = store.scratch.join("text");
    std::fs::write(&text, "no archive").unwrap();
    store.ok(&["history", "hello"]);
    let cut = store.scratch.join("cut.tar");
    store.ok(&["save", "-o", cut.to_str().unwrap(), "hello"]);
    let whole = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let full = store.scratch.join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("file"), "").unwrap();
    for (arguments, why) in [
        (&["load", "-i", "/does/not/exist"][..], "open /does/not/exist: No such file or directory"),
        (
            &["load", "-i", no_image.to_str().unwrap()],
            "hint: a root file system's archive becomes an image by `runion import`",
        ),
        (&["load", "-i", text.to_str().unwrap()], "runion: "),
        (&["load", "-i", cut.to_str().unwrap()], "runion: "),
        (&["load"], "runion: "),
        (&["load", "--platform", "a b", "-i", cut.to_str().unwrap()], "is no platform"),
        (&["load", "-i", full.to_str().unwrap()], "neither manifest.json nor index.json"),
        (&["save", "nothing"], "Error: No such image: nothing:latest"),
        (&["save", "hello", "Up"], "lower case"),
        (&["save", "-o", "/does/not/exist", "hello"], "write /does/not/exist"),
        (
            &["save", "-o", "/dev/full", "hello"],
            "write /dev/full: write the archive: No space left on device",
        ),
        (&["save", "-o", full.to_str().unwrap(), "hello"], "is a directory"),
        (&["save", "--format", "oci-dir", "-o", full.to_str().unwrap(), "hello"], "no empty directory"),
    ] {
        let complaint = store.fails(1, arguments);
        assert!(complaint.contains(why), "{arguments:?}: {complaint}");
    }
    assert!(store.fails(125, &["save", "--format", "oci-dir", "hello"]).contains("hint: name it: -o DIR"));
    assert_eq!(store.ok(&["fsck"]), "clean\n");
}

/// A screen gets no archive and gives none.
#[test]
fn terminals_are_refused() {
    if !has("script") {
        return;
    }
    let store = Store::new("terminal");
    store.ok(&["history", "hello"]);
    for (line, why) in [
        ("save hello", "cowardly refusing to save to a terminal"),
        ("export hello", "cowardly refusing to export to a terminal"),
        ("load", "requested load from stdin, but stdin is empty"),
        ("import -", "requested import from stdin, but stdin is a terminal"),
    ] {
        let command = format!("{} {line}; echo code $?", env!("CARGO_BIN_EXE_runion"));
        let mut script = std::process::Command::new("script");
        let output =
            script.args(["-qc", &command, "/dev/null"]).env("RUNION_ROOT", store.path()).output().unwrap();
        assert!(
            stdout(&output).contains(why) && stdout(&output).contains("code 1"),
            "{line}: {}",
            stdout(&output)
        );
    }
}

/// `runion … | head -c1` is nobody's failure.
#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let store = Store::new("pipe");
    store.import("big", &[("x", &"0123456789".repeat(300_000))], &[]);
    for verb in ["save", "export"] {
        let output =
            sh(&store, "(\"$RUNION\" $1 big; echo $? >&2) | head -c1 > /dev/null", &[Path::new(verb)]);
        assert_eq!(stderr(&output), "141\n", "{verb}");
    }
}

/// A save that is killed in the middle leaves what was there; while it runs,
/// its image stays.
#[test]
fn a_killed_save_leaves_nothing() {
    let store = Store::new("killed");
    let id = store.import("app", &[("x", &"contents ".repeat(100))], &[]);
    let file = store.scratch.join("image.tar");
    std::fs::write(&file, "what was there before").unwrap();
    // Whoever opens the one object waits for a writer who never comes.
    let object = tool("find", &[store.path().join("objects").to_str().unwrap(), "-type", "f"]);
    let (object, kept) = (object.trim(), store.scratch.join("object"));
    std::fs::rename(object, &kept).unwrap();
    tool("mkfifo", &[object]);
    let mut saving = store.command(&["save", "-o", file.to_str().unwrap(), "app"]).spawn().unwrap();
    let waits = || std::fs::read_to_string(format!("/proc/{}/wchan", saving.id())).unwrap_or_default();
    for _ in 0..1000 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        if waits().contains("fifo") || waits().contains("wait_for_partner") {
            break;
        }
    }
    assert!(saving.try_wait().unwrap().is_none(), "it waits");
    let conflict =
        format!("Error: conflict: unable to delete {} (cannot be forced) - image is in use\n", &id[7..19]);
    assert_eq!(store.fails(1, &["rmi", "app"]), conflict);
    assert_eq!(store.fails(1, &["rmi", "-f", &id]), conflict);
    assert_eq!(store.ok(&["prune", "-a", "-f"]), "Total reclaimed space: 0B\n");
    saving.kill().unwrap();
    saving.wait().unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "what was there before");
    let names = std::fs::read_dir(store.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.filter(|name| name.to_str().unwrap().starts_with('.')).count() == 0);
    std::fs::rename(&kept, object).unwrap();
    assert_eq!(store.ok(&["fsck"]), "clean\n");
    store.ok(&["rmi", "app"]);
}
