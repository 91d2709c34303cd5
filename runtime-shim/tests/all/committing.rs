//! `diff`, `commit` and `export` of containers, running or not.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use crate::setup::{stderr, stdout};
use crate::world::{World, until};

/// Changes of every kind.
const LINE: &str = "echo new > /etc/new; echo more >> /etc/passwd; rm /data/file; rm -r /data/sub; mkdir -p /made/deep; \
                    echo x > /made/deep/file; ln /made/deep/file /made/other; chmod 700 /tmp; mv /bin/cat /bin/dog";

const CHANGES: &str = "C /bin\nD /bin/cat\nA /bin/dog\nC /data\nD /data/file\nD /data/sub\nC /etc\nA /etc/new\n\
                       C /etc/passwd\nA /made\nA /made/deep\nA /made/deep/file\nA /made/other\nC /tmp\n";

#[test]
fn what_a_container_changed_is_listed() {
    let Some(world) = World::new("diff") else { return };
    world.makes("run", &["--name", "untouched", "--hostname", "named", "box", "true"]);
    assert_eq!(
        world.says(&["diff", "untouched"]),
        "",
        "what the runner makes to mount on is nobody's change"
    );
    world.makes("create", &["--name", "new", "box"]);
    assert_eq!(world.says(&["diff", "new"]), "");
    world.makes("run", &["--name", "one", "box", "sh", "-c", LINE]);
    assert_eq!(world.says(&["diff", "one"]), CHANGES);
    let wait = format!("{LINE}; while :; do sleep 0.1; done");
    world.makes("run", &["-d", "--name", "two", "box", "sh", "-c", &wait]);
    // What it does first it has done when the last of it is there.
    while !world.says(&["container", "diff", "two"]).contains("dog") {}
    assert_eq!(world.says(&["diff", "two"]), CHANGES);
    assert!(world.fails(&["diff", "none"]).contains("No such container: none"));
    // Volumes are not the container's.
    world.makes("run", &["--name", "three", "-v", "vol:/data", "box", "sh", "-c", "rm /data/file"]);
    assert_eq!(world.says(&["diff", "three"]), "");
}

#[test]
fn a_commit_is_the_image_and_the_changes() {
    let Some(world) = World::new("commit") else { return };
    let options = ["--name", "one", "-e", "WORD=said", "-w", "/tmp", "--label", "a=b", "-u", "0:0"];
    world.makes("run", &[&options[..], &["box", "sh", "-c", LINE]].concat());
    let id = world.says(&[
        "commit",
        "-a",
        "Somebody",
        "-m",
        "why",
        "-c",
        "CMD [\"/bin/busybox\", \"cat\", \"/made/other\"]",
        "-c",
        "EXPOSE 80",
        "one",
        "got:1",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(world.makes("run", &["--rm", "got:1"]), "x\n");
    let format = "{{.Id}} {{.Author}} {{.Comment}} {{json .Config.Cmd}} {{.Config.WorkingDir}} {{.Config.User}} \
                  {{index .Config.Labels \"a\"}} {{json .Config.ExposedPorts}} {{len .RootFS.Layers}}";
    assert_eq!(
        world.says(&["inspect", "--type", "image", "-f", format, "got:1"]),
        format!(
            "{} Somebody why [\"/bin/busybox\",\"cat\",\"/made/other\"] /tmp 0:0 b {{\"80/tcp\":{{}}}} 2\n",
            id.trim()
        )
    );
    let history = world.says(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "got:1"]);
    assert!(history.starts_with(&format!("sh -c {LINE}|why\n")), "{history}");
    assert_eq!(
        world.makes("run", &["--rm", "got:1", "sh", "-c", "echo $WORD; ls /data; stat -c %h /made/other"]),
        "said\ndevice\nfifo\nlink\n2\n"
    );
    // Both images compared say what the container said.
    assert_eq!(world.says(&["diff", "box", "got:1"]), CHANGES);
    let plain = world.says(&["commit", "one"]);
    assert_eq!(world.makes("run", &["--rm", plain.trim(), "sh", "-c", "ls /made"]), "deep\nother\n");
    assert!(world.fails(&["commit", "none"]).contains("No such container: none"));
    assert!(world.fails(&["commit", "-c", "RUN x", "one"]).contains("RUN is no instruction"));
    // Nothing changed: one more layer, with nothing in it.
    world.makes("create", &["--name", "new", "box"]);
    world.says(&["commit", "new", "same"]);
    assert_eq!(world.says(&["diff", "box", "same"]), "");
}

#[test]
fn a_running_container_is_committed() {
    let Some(world) = World::new("commit-running") else { return };
    let wait = format!("{LINE}; while :; do sleep 0.1; done");
    world.makes("run", &["-d", "--name", "one", "box", "sh", "-c", &wait]);
    while !world.says(&["diff", "one"]).contains("dog") {}
    let output = world.output(&["commit", "one", "got"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(world.says(&["diff", "box", "got"]), CHANGES);
    assert_eq!(world.says(&["ps", "--format", "{{.State}}"]), "running\n", "it goes on");
}

/// Names in a tar archive, as the system's tar reads it.
fn names(archive: &[u8], at: &str) -> BTreeSet<String> {
    fs::write(at, archive).unwrap();
    let tar = Command::new("tar").args(["-tf", at]).output().unwrap();
    assert!(tar.status.success(), "{}", stderr(&tar));
    stdout(&tar).lines().map(|line| line.trim_end_matches('/').to_owned()).collect()
}

#[test]
fn an_export_is_all_of_the_root_and_nothing_that_is_mounted_there() {
    let Some(world) = World::new("export") else { return };
    let wait = format!("{LINE}; echo in > /volume/inside; while :; do sleep 0.1; done");
    world.makes("run", &["-d", "--name", "one", "-v", "/volume", "box", "sh", "-c", &wait]);
    while !world.says(&["diff", "one"]).contains("dog") {}
    let running = world.output(&["export", "one"]);
    assert!(running.status.success(), "{}", stderr(&running));
    let found = names(&running.stdout, &world.path("running.tar"));
    for there in ["bin/dog", "made/deep/file", "etc/passwd", "proc", "volume", "data/link"] {
        assert!(found.contains(there), "{there}: {found:?}");
    }
    for not in ["bin/cat", "data/file", "volume/inside", "proc/self", "proc/1", "dev/null"] {
        assert!(!found.contains(not), "{not}: {found:?}");
    }
    world.says(&["kill", "one"]);
    world.says(&["wait", "one"]);
    let file = world.path("stopped.tar");
    world.says(&["export", "-o", &file, "one"]);
    assert_eq!(fs::read(&file).unwrap(), running.stdout, "the same to the byte, running or not");
    world.says(&["import", "-c", "CMD [\"/bin/busybox\", \"cat\", \"/made/other\"]", &file, "flat"]);
    assert_eq!(world.makes("run", &["--rm", "flat"]), "x\n");
    assert!(world.output(&["export", "box"]).status.success(), "an image, where no container has the name");
    assert!(world.fails(&["export", "none"]).contains("No such container: none"));
}

/// Who commits holds the container; if he is killed, the next command that looks
/// lets it go on.
#[test]
fn a_commit_that_was_killed_holds_nothing() {
    let Some(world) = World::new("commit-killed") else { return };
    let line =
        "dd if=/dev/urandom of=/big bs=1M count=200 2> /dev/null; echo ready; while :; do sleep 0.1; done";
    world.makes("run", &["-d", "--name", "one", "box", "sh", "-c", line]);
    until("it is written", || world.says(&["logs", "one"]) == "ready\n");
    let id = world.field("one", "{{.Id}}");
    let state = world.store().join("containers").join(id).join("state.json");
    let is = |status: &str| fs::read_to_string(&state).unwrap().contains(&format!("\"status\":\"{status}\""));
    let mut commit = world.command(&["commit", "one", "got"]).spawn().unwrap();
    until("it is held", || is("paused"));
    // As long as the commit lives it stays so.
    assert!(world.says(&["ps"]).contains("(Paused)"));
    // Elsewhere its number is nobody's, or another's.
    let mut elsewhere = world.in_namespace("unshare");
    elsewhere.args(["--pid", "--fork", "--mount-proc", "--"]).arg(crate::setup::runion());
    let elsewhere = elsewhere.arg("--root").arg(world.store()).arg("ps").output().unwrap();
    assert!(stdout(&elsewhere).contains("(Paused)"), "{}{}", stdout(&elsewhere), stderr(&elsewhere));
    assert!(is("paused"));
    commit.kill().unwrap();
    commit.wait().unwrap();
    assert!(is("paused"));
    assert!(!world.says(&["ps"]).contains("(Paused)"));
    assert!(is("running"));
    assert_eq!(world.says(&["exec", "one", "echo", "on"]), "on\n");
    // What a user pauses stays paused.
    world.says(&["pause", "one"]);
    assert!(world.says(&["ps"]).contains("(Paused)"));
    world.says(&["unpause", "one"]);
}

/// An image is removed, or has a container; never both.
#[test]
fn an_image_that_a_container_was_made_of_is_there() {
    let Some(world) = World::new("image-race") else { return };
    world.makes("run", &["--name", "base", "box", "touch", "/new"]);
    let (mut made, mut removed) = (0, 0);
    for _ in 0..30 {
        world.says(&["commit", "base", "other"]);
        let mut create = world.command(&["create", "--pull", "never", "other", "true"]);
        let create = create.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let remove = world.output(&["rmi", "other"]);
        let create = create.wait_with_output().unwrap();
        removed += u32::from(remove.status.success());
        if !create.status.success() {
            continue;
        }
        made += 1;
        let id = stdout(&create).trim();
        world.says(&["inspect", "-f", "{{.Id}}", &world.field(id, "{{.Image}}")]);
        world.says(&["rm", id]);
        world.output(&["rmi", "-f", "other"]);
    }
    println!("{made} made, {removed} removed");
    assert!(made > 0);
}
