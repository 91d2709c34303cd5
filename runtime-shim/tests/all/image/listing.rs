//! `images`, its filters and formats, `--tree`, and the built-in image.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::store::{Store, sh, tool};
use crate::setup::{stderr, stdout};

#[test]
fn the_first_command_needs_nothing() {
    let store = Store::new("hello");
    assert_eq!(store.ok(&["images"]), "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n");
    let history = store.ok(&["history", "hello"]);
    assert!(history.contains("CMD [\"/hello\"]"), "{history}");
    assert!(store.ok(&["images"]).contains("hello        latest"));
    let line = "\"$RUNION\" export hello:latest | tar -xf - -C \"$1\" && \"$1/hello\"";
    let output = sh(&store, line, &[store.scratch.path()]);
    assert!(stdout(&output).starts_with("Hello from runion!\n"), "{}", stderr(&output));
    assert!(std::fs::metadata(store.scratch.join("hello")).unwrap().len() < 4096);
    assert_eq!(store.ok(&["fsck"]), "clean\n");
    // Only what asks for it takes it in: who removes it does not.
    store.ok(&["rmi", "hello"]);
    assert_eq!(store.fails(1, &["rmi", "hello"]), "Error: No such image: hello:latest\n");
}

#[test]
fn columns_and_words_are_docker_s() {
    let store = Store::new("columns");
    let id = store.import("team/app:1.0", &[("a", &"x".repeat(2_345))], &[]);
    let id = id.strip_prefix("sha256:").unwrap();
    // The words change with the clock, and the column with them.
    let agree = (0..5).any(|_| {
        let age = store.ok(&["images", "--format", "{{.CreatedSince}}"]);
        let (age, width) = (age.trim(), (age.trim().len() + 3).max(10));
        let expected = format!(
            "REPOSITORY   TAG       IMAGE ID       {:width$}SIZE\nteam/app     1.0       {}   {:width$}2.35kB\n",
            "CREATED", &id[..12], age
        );
        age.ends_with(" ago") && store.ok(&["images"]) == expected
    });
    assert!(agree, "{}", store.ok(&["images"]));
    assert_eq!(store.ok(&["images", "-q"]), format!("{}\n", &id[..12]));
    assert_eq!(store.ok(&["image", "ls", "-q", "--no-trunc"]), format!("sha256:{id}\n"));
    let digests = store.ok(&["images", "--digests", "--format", "table {{.Tag}}\\t{{.Digest}}"]);
    assert_eq!(digests, "TAG       DIGEST\n1.0       <none>\n");
}

#[test]
fn images_are_filtered_as_docker_does() {
    let store = Store::new("filters");
    let load = |name: &str, created: &str, label: &str| {
        let id = store.import("", &[("name", name)], &["-c", &format!("LABEL {label}"), "-m", created]);
        store.ok(&["tag", &id, name]);
        id
    };
    load("registry.example:5000/team/app:1", "a", "stage=test");
    load("debian:12", "b", "stage=live");
    load("debian:13", "c", "other=1");
    let unnamed = store.import("", &[("x", "unnamed")], &[]);
    let names = |filters: &[&str]| {
        let mut arguments = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        filters.iter().for_each(|filter| arguments.extend(["-f", filter]));
        let mut names: Vec<String> = store.ok(&arguments).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(&[]), ["<none>:<none>", "debian:12", "debian:13", "registry.example:5000/team/app:1"]);
    assert_eq!(names(&["dangling=true"]), ["<none>:<none>"]);
    assert_eq!(names(&["dangling=false"]).len(), 3);
    assert_eq!(names(&["label=stage"]), ["debian:12", "registry.example:5000/team/app:1"]);
    assert_eq!(names(&["label=stage=live"]), ["debian:12"]);
    assert_eq!(names(&["label!=stage", "dangling=false"]), ["debian:13"]);
    assert_eq!(names(&["reference=debian"]), ["debian:12", "debian:13"]);
    assert_eq!(names(&["reference=debian:*3"]), ["debian:13"]);
    assert_eq!(names(&["reference=docker.io/library/debian"]), ["debian:12", "debian:13"]);
    assert_eq!(names(&["reference=docker.io/*/*:12"]), ["debian:12"]);
    assert_eq!(names(&["reference=*/*/app"]), ["registry.example:5000/team/app:1"]);
    assert_eq!(names(&["since=hello"]).len(), 4);
    assert_eq!(names(&["before=hello"]), [] as [&str; 0]);
    assert_eq!(names(&["until=10m"]), ["hello:latest"]);
    let shown = store.ok(&["images", "debian:12", "--format", "{{.Tag}}"]);
    assert_eq!(shown, "12\n");
    assert_eq!(store.ok(&["images", "-q", "nothing"]), "");
    assert_eq!(store.ok(&["images", "-q", "-f", "dangling=true", "--no-trunc"]), format!("{unnamed}\n"));

    assert!(store.fails(1, &["images", "-f", "colour=red"]).starts_with("runion: invalid filter 'colour'\n"));
    assert!(store.fails(1, &["images", "-f", "dangling"]).contains("not of the form key=value"));
    assert!(store.fails(1, &["images", "-f", "dangling=maybe"]).contains("invalid filter 'dangling=maybe'"));
    assert!(store.fails(1, &["images", "-f", "before=nothing"]).contains("No such image: nothing:latest"));
    assert!(store.fails(1, &["images", "-f", "until=soon"]).contains("hint:"));
}

#[test]
fn templates_and_their_errors() {
    let store = Store::new("templates");
    store.ok(&["history", "hello"]);
    let json = store.ok(&["images", "--format", "json"]);
    assert!(
        json.starts_with("{\"Containers\":\"0\",\"CreatedAt\":\"2026-01-01 00:00:00 +0000 UTC\","),
        "{json}"
    );
    assert_eq!(store.ok(&["images", "--format", "{{upper .Repository}}\\t{{.Tag}}"]), "HELLO\tlatest\n");
    assert_eq!(
        store.fails(1, &["images", "--format", "{{.Name}}"]).lines().collect::<Vec<_>>(),
        [
            "runion: the template is wrong: there is no field .Name; there are Containers, CreatedAt, CreatedSince, \
             Digest, ID, Platform, Repository, SharedSize, Size, Tag, UniqueSize, VirtualSize",
            "  {{.Name}}",
            "    ^",
        ],
    );
    assert!(store.fails(1, &["images", "--format", "{{.ID"]).contains("without \"}}\""));
}

#[test]
fn the_tree_shows_what_is_shared() {
    let store = Store::new("tree");
    let Some(layout) = store.layout() else { return };
    store.ok(&["load", "-i", layout.to_str().unwrap()]);
    let tree = store.ok(&["images", "--tree"]);
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("LAYER"), "{tree}");
    assert!(lines[1].contains("   2         <none> ("), "the base is in both: {tree}");
    assert!(lines[2].starts_with("└─ ") && lines[2].contains("   1         <none> ("), "{tree}");
    assert_eq!(tree, store.ok(&["image", "tree"]));
    high_stacks_are_drawn(&store);
    assert!(tree.contains("% less)"), "{tree}");
}

/// An image may say that it has the same layer three thousand times.
fn high_stacks_are_drawn(store: &Store) {
    let archive = store.scratch.join("hello.tar");
    store.ok(&["save", "-o", archive.to_str().unwrap(), "hello"]);
    let layer = store.ok(&["inspect", "-f", "{{index .RootFS.Layers 0}}", "hello"]);
    let layer = layer.trim();
    let dir = store.tree("high", &[]);
    tool("tar", &["-C", dir.to_str().unwrap(), "-xf", archive.to_str().unwrap()]);
    let many = |text: &str| vec![format!("\"{text}\""); 3_000].join(",");
    let blob = format!("blobs/sha256/{}", layer.strip_prefix("sha256:").unwrap());
    let config = format!("{{\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}", many(layer));
    std::fs::write(dir.join("config.json"), config).unwrap();
    let manifest =
        format!("[{{\"Config\":\"config.json\",\"RepoTags\":[\"high:1\"],\"Layers\":[{}]}}]", many(&blob));
    std::fs::write(dir.join("manifest.json"), manifest).unwrap();
    assert_eq!(store.ok(&["load", "-i", dir.to_str().unwrap()]), "Loaded image: high:1\n");
    let tree = store.ok(&["images", "--tree"]);
    assert!(tree.len() < 3_000 * 400 && tree.lines().count() > 3_000, "{}", tree.len());
}

#[test]
fn words_that_mean_nothing_are_125() {
    let store = Store::new("usage");
    for arguments in [
        &["images", "--nothing"][..],
        &["images", "a", "b"],
        &["load", "--platform"],
        &["save"],
        &["save", "--format", "zip", "hello"],
        &["import"],
        &["export"],
        &["tag", "a"],
        &["untag"],
        &["rmi"],
        &["history"],
        &["inspect"],
        &["inspect", "--type", "nothing", "hello"],
        &["diff"],
        &["df", "x"],
        &["fsck", "--mend"],
        &["prune", "x"],
        &["image"],
        &["image", "nothing"],
    ] {
        let usage = store.fails(125, arguments);
        assert!(usage.contains("Usage: ") || usage.contains("error: "), "{arguments:?}: {usage}");
    }
}

#[test]
fn every_command_explains_itself() {
    let store = Store::new("help");
    for verb in "images load save import export tag untag rmi prune history inspect diff df fsck".split(' ') {
        let help = store.ok(&[verb, "--help"]);
        assert!(help.contains(&format!("Usage: runion {verb} ")), "{help}");
    }
    for verb in
        "ls list rm remove load save import export tag untag prune history inspect diff tree".split(' ')
    {
        assert!(store.ok(&["image", verb, "--help"]).contains("Usage: runion image "), "{verb}");
    }
    assert!(!store.path().exists(), "help makes no store");
}

#[test]
fn the_store_is_where_it_is_said_to_be() {
    let store = Store::new("where");
    let at = |directory: &str| store.scratch.join(directory);
    let run = |command: &mut std::process::Command| {
        assert!(command.stdout(Stdio::null()).status().unwrap().success())
    };
    run(&mut store.command(&["--root", at("named").to_str().unwrap(), "images"]));
    assert!(at("named/version").exists() && !store.path().exists());
    let mode = std::fs::metadata(at("named")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "an image may hold secrets");
    let relative = ["--root", "relative", "inspect", "-f", "{{.GraphDriver.Data.Objects}}", "hello"];
    let output = store.command(&relative).current_dir(store.scratch.path()).output().unwrap();
    assert_eq!(stdout(&output).trim(), at("relative/objects").to_str().unwrap());
    assert!(store.fails(125, &["--root", "", "images"]).contains("a value is required"));
    assert!(
        store
            .fails(1, &["--root", "/dev/null/x", "images"])
            .contains("open the store /dev/null/x: Not a directory")
    );
    let Some(nobody) = Nobody::new(&store) else { return };
    let output = nobody.runion(&["images"]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    assert!(nobody.home.join(".local/share/runion/version").exists());
    let output = nobody.runion(&["images"]).env_remove("HOME").output().unwrap();
    assert!(stderr(&output).contains("hint: name one: runion --root DIR"), "{}", stderr(&output));
}

/// Who has no privilege keeps the owners, devices and capabilities of an image
/// all the same.
#[test]
fn an_ordinary_user_stores_any_image() {
    let store = Store::new("ordinary");
    let Some(nobody) = Nobody::new(&store) else { return };
    let tree = store.tree("any", &[("etc/shadow", "secret"), ("bin/ping", "program")]);
    let line = "cd \"$1\" && chown -R 1234:5678 bin && chown 0:42 etc/shadow && chmod 640 etc/shadow && mknod -m 666 null c 1 3 && mkfifo fifo \
                && chmod 4755 bin/ping && setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 \
                bin/ping && tar --format=posix --xattrs --xattrs-include='*' -cf \"$2\" .";
    let (archive, out) = (nobody.home.join("in.tar"), nobody.home.join("out.tar"));
    assert!(sh(&store, line, &[&tree, &archive]).status.success());
    let run = |arguments: &[&str]| {
        let output = nobody.runion(arguments).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{arguments:?}");
    };
    run(&["import", archive.to_str().unwrap(), "any"]);
    run(&["export", "-o", out.to_str().unwrap(), "any"]);
    let list = |archive: &std::path::Path| {
        let listed = tool(
            "tar",
            &["--numeric-owner", "--xattrs", "--xattrs-include=*", "-tvvf", archive.to_str().unwrap()],
        );
        let mut lines: Vec<String> = listed.lines().map(|line| line.replace(" ./", " ")).collect();
        lines.sort();
        lines
    };
    assert_eq!(list(&out), list(&archive));
    for part in ["crw-rw-rw-", "-rwsr-xr-x", "security.capability"] {
        assert!(list(&out).iter().any(|line| line.contains(part)), "{part}: {:?}", list(&out));
    }
    run(&["fsck"]);
}

/// Somebody without any privilege, who has a home.
struct Nobody {
    home: std::path::PathBuf,
}

impl Nobody {
    fn new(store: &Store) -> Option<Nobody> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root, who can be somebody else");
            return None;
        }
        let home = store.scratch.join("home");
        std::fs::create_dir(&home).unwrap();
        // The program may lie where nobody else may look.
        let home_text = home.to_str().unwrap();
        tool("install", &["-m755", env!("CARGO_BIN_EXE_runion"), home_text]);
        tool("chown", &["65534:65534", home_text]);
        Some(Nobody { home })
    }

    fn runion(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]);
        command.arg(self.home.join("runion")).args(arguments).current_dir("/").stdin(Stdio::null());
        command.env_remove("RUNION_ROOT").env_remove("XDG_DATA_HOME").env("HOME", &self.home);
        command
    }
}
