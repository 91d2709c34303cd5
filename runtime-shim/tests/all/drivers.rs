//! A container behaves alike whether our union or the kernel's makes its root.

use std::fs;

use crate::setup::{stderr, stdout};
use crate::world::World;

const DRIVERS: [&str; 2] = ["fuse", "kernel"];

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
    if !has_kernel_driver(&world) {
        return;
    }
    let mut told = Vec::new();
    for driver in DRIVERS {
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
    assert_eq!(told.first(), told.get(1));
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
