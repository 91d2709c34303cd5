//! A container behaves alike whether our union or the kernel's makes its root, or
//! a copy is it.

use std::fs;

use crate::setup::{runion, stderr, stdout};
use crate::world::{World, until};

/// Those that can be compared; says why another cannot.
fn drivers(world: &World) -> Vec<&'static str> {
    let kernel = has_kernel_driver(world).then_some("kernel");
    ["fuse", "dir"].into_iter().chain(kernel).collect()
}

/// Whether the kernel can do it: overlays over an index in a file.
fn has_kernel_driver(world: &World) -> bool {
    let arguments = ["run", "--rm", "--network", "none", "--storage-driver", "kernel", "box", "true"];
    let output = world.output(&arguments);
    let said = stderr(&output);
    if !output.status.success() {
        assert!(said.contains("erofs") || said.contains("overlay"), "{said}");
        println!("skipped: {said}");
    }
    output.status.success()
}

/// What is done in a container, with all that an overlay has marks for: whiteouts,
/// opaque directories, renamed directories, copies of metadata alone, hard links.
const LINE: &str = "echo more >> /data/file; rm /data/link; rm -r /data/sub; mkdir /data/sub; echo n > /data/sub/new; \
                    mv /lib/deep /moved; chmod 711 /bin/busybox; ln /data/file /data/twice; rm /etc/passwd; \
                    mkdir /etc/passwd; touch -d '2020-01-02 03:04:05' /tmp; chmod 700 /tmp";

const CHANGES: &str = "C /bin\nC /bin/busybox\nC /data\nC /data/file\nD /data/link\nC /data/sub\nA /data/sub/new\n\
                       D /data/sub/other\nA /data/twice\nC /etc\nC /etc/passwd\nC /lib\nD /lib/deep\nA /moved\n\
                       A /moved/a\nA /moved/b\nA /moved/b/c\nC /tmp\n";

/// All of the root, in an order, without what is mounted there.
const TELL: &str = "cd /; for d in bin data etc lib moved tmp; do find $d | sort; done | while read f; do \
                    stat -c '%n %F %a %u:%g' $f; test -f $f && /bin/busybox cksum $f; done; true";

fn world(name: &str) -> Option<World> {
    let world = World::new(name)?;
    // One more layer: a directory to be renamed.
    let line = "mkdir -p /lib/deep/b; echo a > /lib/deep/a; echo c > /lib/deep/b/c";
    world.makes("run", &["--name", "base", "box", "sh", "-c", line]);
    world.says(&["commit", "base", "two"]);
    world.says(&["rm", "base"]);
    Some(world)
}

fn makes(world: &World, driver: &str, name: &str) {
    let options = ["run", "--network", "none", "--storage-driver", driver, "--name", name, "two", "sh", "-c"];
    world.says(&[&options[..], &[LINE]].concat());
}

#[test]
fn changes_are_the_same_on_each() {
    let Some(world) = world("drivers") else { return };
    let mut told = Vec::new();
    for driver in drivers(&world) {
        makes(&world, driver, driver);
        assert_eq!(world.says(&["diff", driver]), CHANGES, "{driver}");
        let image = format!("of-{driver}");
        world.says(&["commit", driver, &image]);
        assert_eq!(world.says(&["diff", "two", &image]), CHANGES, "{driver}");
        let archive = world.output(&["export", driver]);
        assert!(archive.status.success(), "{driver}: {}", stderr(&archive));
        fs::write(world.path(driver), &archive.stdout).unwrap();
        let names = std::process::Command::new("tar").args(["-tvf", &world.path(driver)]).output().unwrap();
        // Of what was made just now, all but the moment.
        let names: Vec<String> = stdout(&names)
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                [&words[..3], &words[5..]].concat().join(" ")
            })
            .collect();
        let run = world.sh_of(&image, driver, TELL);
        told.push((names, run));
        world.says(&["cp", &format!("{driver}:/moved/b/c"), &world.path("c")]);
        assert_eq!(fs::read_to_string(world.path("c")).unwrap(), "c\n", "{driver}");
    }
    for other in &told {
        assert_eq!(told.first(), Some(other));
    }
}

/// An object that was damaged on disk: found where that is asked for.
#[test]
fn data_is_verified_where_it_is_asked_for() {
    let Some(world) = World::new("drivers-verity") else { return };
    if layerstore::store::Store::open(world.store()).unwrap().pool().is_sealing() {
        println!("skipped: objects are sealed here, which tests/fs-verity is about");
        return;
    }
    world.makes("run", &["--name", "base", "box", "sh", "-c", "head -c 5000 /dev/zero > /large"]);
    world.says(&["commit", "base", "two"]);
    let id = layerstore::object::ObjectId::of(&[0; 5000]);
    let object = world.store().join("objects").join(id.path());
    // Whole, and not sealed: the kernel's overlay would not read it.
    world.makes("create", &["--name", "whole", "--storage-opt", "verity=on", "two", "true"]);
    world.says(&["cp", "whole:/large", &world.path("large")]);
    assert_eq!(fs::read(world.path("large")).unwrap(), [0; 5000]);
    fs::remove_file(&object).unwrap();
    fs::write(&object, [1; 5000]).unwrap();
    let line = "wc -c < /large; cat /large > /dev/null 2>&1 || echo damaged";
    let run =
        |options: &[&str]| world.makes("run", &[&["--rm"], options, &["two", "sh", "-c", line]].concat());
    for quiet in [&[][..], &["--storage-opt", "verity=off"]] {
        assert_eq!(run(quiet), "5000\n");
    }
    assert_eq!(run(&["--storage-opt", "verity=on"]), "damaged\n");
    world.makes("create", &["--name", "asked", "--storage-opt", "verity=on", "two", "true"]);
    world.fails(&["cp", "whole:/large", &world.path("damaged")]);
    let said = world.fails(&["export", "asked"]);
    assert!(said.contains(&id.path()), "{said}");
    let fails = |options: &[&str]| {
        world.fails(&[&["run", "--rm", "--network", "none"], options, &["two", "true"]].concat())
    };
    let required = ["--storage-opt", "verity=require"];
    for driver in ["fuse", "kernel"] {
        let said = fails(&[&["--storage-driver", driver], &required[..]].concat());
        assert!(said.contains("is not sealed by fs-verity") && said.contains("hint: "), "{said}");
    }
    if has_kernel_driver(&world) {
        // Nor does the kernel's overlay read what is not sealed.
        fails(&["--storage-driver", "kernel", "--storage-opt", "verity=on"]);
    }
    for unknown in ["verity=yes", "size=1g", "verity"] {
        let said = fails(&["--storage-opt", unknown]);
        assert!(said.contains(unknown) && said.contains("verity=require"), "{said}");
    }
    let said = fails(&["--storage-driver", "dir", "--storage-opt", "verity=on"]);
    assert!(said.contains("the storage driver dir"), "{said}");
}

/// Running, copied into, started again, read-only, removed.
#[test]
fn a_life_is_the_same_on_each() {
    let Some(world) = world("drivers-life") else { return };
    let mut told = Vec::new();
    for driver in drivers(&world) {
        let line = "echo $(( $(cat /count 2> /dev/null) + 1 )) > /count; cat /count; trap exit TERM; \
                    while :; do sleep 0.1; done";
        let options = ["-d", "--name", driver, "--storage-driver", driver, "two", "sh", "-c", line];
        world.makes("run", &options);
        until("it counts", || world.says(&["logs", driver]) == "1\n");
        let file = world.write("in", "brought\n");
        world.says(&["cp", file.to_str().unwrap(), &format!("{driver}:/tmp/in")]);
        world.says(&[
            "exec",
            driver,
            "sh",
            "-c",
            "ln /lib/deep/a /data/a; echo x >> /tmp/in; mknod /null c 1 3",
        ]);
        let mut said = vec![world.says(&["diff", driver])];
        world.says(&["commit", driver, &format!("live-{driver}")]);
        world.says(&["restart", "-t", "1", driver]);
        until("it counts on", || world.says(&["logs", driver]) == "1\n2\n");
        world.says(&["stop", "-t", "1", driver]);
        said.push(world.says(&["diff", driver]));
        world.says(&["cp", &format!("{driver}:/tmp/in"), &world.path("out")]);
        said.push(fs::read_to_string(world.path("out")).unwrap());
        let line = "stat -c '%n %F %h %u:%g %a %t' /null /data/file /data/a /lib/deep/a; cat /tmp/in";
        said.push(world.sh_of(&format!("live-{driver}"), driver, line));
        let options = ["--rm", "--read-only", "--storage-driver", driver, "two", "sh", "-c"];
        said.push(world.makes("run", &[&options[..], &["touch /x 2> /dev/null || echo refused"]].concat()));
        world.makes("create", &["--name", "new", "--storage-driver", driver, "two", "true"]);
        said.push(world.says(&["diff", "new"]));
        world.says(&["cp", "new:/lib/deep/a", &world.path("out")]);
        said.push(world.says(&["diff", "new"]));
        world.says(&["rm", driver, "new"]);
        said.push(fs::read_dir(world.store().join("containers")).unwrap().count().to_string());
        told.push(said);
    }
    for other in &told {
        assert_eq!(told.first(), Some(other));
    }
}

/// What was changed and looks as it did is told by its contents; what was only
/// looked at is not.
#[test]
fn a_copy_knows_what_was_changed() {
    let Some(world) = world("drivers-copy") else { return };
    let line = "cat /data/file > /dev/null; ls -lR / > /dev/null; touch -r /lib/deep/a /tmp/ref; echo b > /lib/deep/a; \
                touch -r /tmp/ref /lib/deep/a; rm /tmp/ref; chmod 600 /etc/group; chmod 644 /etc/group; mv /bin/ls /x; mv /x /bin/ls";
    world.makes("run", &["--name", "one", "--storage-driver", "dir", "two", "sh", "-c", line]);
    assert_eq!(world.says(&["diff", "one"]), "C /lib\nC /lib/deep\nC /lib/deep/a\n");
    world.says(&["commit", "one", "got"]);
    assert_eq!(world.sh_of("got", "dir", "cat /lib/deep/a"), "b\n");
    // A copy that was not finished is made anew.
    world.makes("create", &["--name", "half", "--storage-driver", "dir", "two", "ls", "/"]);
    let id = world.field("half", "{{.Id}}");
    let container = world.store().join("containers").join(id);
    fs::create_dir_all(container.join("upper/junk/deep")).unwrap();
    assert!(!world.says(&["start", "-a", "half"]).contains("junk"));
    assert!(container.join("copied").exists());
    let said = world.fails(&["run", "--rm", "--storage-driver", "dir", "--rootfs", "/", "true"]);
    assert!(said.contains("hint: make it one"), "{said}");
}

#[test]
fn a_copy_does_without_fuse() {
    let Some(world) = World::new("drivers-poor") else { return };
    let run = "$R run --rm --network none";
    let line = format!(
        "mount --bind /dev/null /dev/fuse; {run} --storage-driver dir box echo copied; {run} box echo no"
    );
    let mut command = world.in_namespace("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &line]);
    command.env("R", format!("{} --root {}", runion().display(), world.store().display()));
    let output = command.output().unwrap();
    assert_eq!(stdout(&output), "copied\n", "{}", stderr(&output));
}

/// Its owners are those of its range on disk, and the image's in what comes of it.
#[test]
fn a_copy_has_the_ids_of_its_container() {
    let Some(world) = world("drivers-ids") else { return };
    let maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536", "--storage-driver", "dir"];
    let line = "stat -c %u:%g /data/sub /data/file; touch /new; chown 5:6 /new";
    let said = world.makes("run", &[&["--name", "one"], &maps[..], &["two", "sh", "-c", line]].concat());
    assert_eq!(said, "7:8\n7:8\n");
    assert_eq!(world.says(&["diff", "one"]), "A /new\n");
    world.says(&["commit", "one", "got"]);
    assert_eq!(world.sh_of("got", "fuse", "stat -c %u:%g /new /data/sub"), "5:6\n7:8\n");
}

#[test]
fn a_container_goes_on_with_the_other_one() {
    let Some(world) = world("drivers-both") else { return };
    if !has_kernel_driver(&world) {
        return;
    }
    for (first, second) in [("fuse", "kernel"), ("kernel", "fuse")] {
        makes(&world, first, first);
        let before = world.output(&["export", first]).stdout;
        let id = world.says(&["ps", "-aq", "--no-trunc", "--filter", &format!("name={first}")]);
        let state = world.store().join("containers").join(id.trim()).join("state.json");
        let record = fs::read_to_string(&state).unwrap();
        let other = record.replace(&format!("\"driver\":\"{first}\""), &format!("\"driver\":\"{second}\""));
        assert_ne!(other, record);
        fs::write(&state, other).unwrap();
        assert_eq!(world.says(&["diff", first]), CHANGES, "{first}, then {second}");
        assert!(world.output(&["export", first]).stdout == before, "{first}, then {second}");
        // It runs once more, over what the first one left.
        let output = world.output(&["start", "-a", first]);
        let said = stderr(&output);
        assert!(said.contains("/lib/deep") || said.contains("/data/link"), "it finds its changes: {said}");
        let line = "C /data/file\nD /data/link\nC /data/sub\n";
        assert!(world.says(&["diff", first]).contains(line), "{first}, then {second}");
    }
}
