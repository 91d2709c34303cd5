//! Volumes: filled once, kept, shared, listed, removed.

use std::fs;

use crate::setup::stdout;
use crate::world::World;

/// Owners, modes, kinds, links, times of what is below a directory.
const TELL: &str =
    "cd \"$0\" && /bin/busybox find . -exec /bin/busybox stat -c '%n %F %a %u:%g %h %Y %t:%T %N' {} + | sort";

#[test]
fn a_volume_is_filled_once_with_all_that_files_are() {
    let Some(world) = World::new("volume-fill") else { return };
    let image = world.makes("run", &["--rm", "box", "sh", "-c", TELL, "/data"]);
    assert!(image.contains("./device character special file") && image.contains("4751"), "{image}");
    let volume = world.makes("run", &["--rm", "-v", "vol:/data", "box", "sh", "-c", TELL, "/data"]);
    assert_eq!(volume, image);
    let on_disk = world.store().join("volumes/vol/_data/file");
    let mut note = [0; 16];
    let length = rustix::fs::getxattr(&on_disk, c"user.note", &mut note).unwrap();
    assert_eq!(&note[..length], b"said");

    assert_eq!(world.sh(&["-v", "vol:/data"], "rm -r /data/* && echo mine > /data/new"), "");
    assert_eq!(world.sh(&["-v", "vol:/data"], "ls /data; rm /data/new"), "new\n", "it keeps what it has");
    assert_eq!(world.sh(&["-v", "vol:/data"], "ls /data"), "", "it is filled once");
    assert_eq!(world.sh(&["-v", "bare:/data:nocopy"], "ls /data"), "");
    assert_eq!(world.sh(&["--mount", "src=words,dst=/data,volume-nocopy"], "ls /data"), "");
    assert_eq!(world.sh(&["-v", "late:/nothing"], "ls /nothing"), "");
    assert!(world.sh(&["-v", "late:/data"], "ls /data").contains("file\n"), "nobody had filled it yet");
}

#[test]
fn who_is_killed_half_way_is_made_good() {
    let Some(world) = World::new("volume-killed") else { return };
    world.says(&["volume", "create", "vol"]);
    let dir = world.store().join("volumes/vol");
    let begun = fs::read_to_string(dir.join("volume.json")).unwrap().replace("pending", "begun");
    fs::write(dir.join("volume.json"), begun).unwrap();
    fs::write(dir.join("_data/file"), "of th").unwrap();
    assert_eq!(
        world.sh(&["-v", "vol:/data"], "cat /data/file /data/sub/other"),
        "of the image\nof the image\n"
    );
    assert!(fs::read_to_string(dir.join("volume.json")).unwrap().contains("done"));
}

#[test]
fn two_that_start_at_once_fill_it_once() {
    let Some(world) = World::new("volume-race") else { return };
    let line = "stat -c %h /data/file; echo x >> /data/log";
    let options =
        ["run", "--rm", "--runtime", "runc", "--network", "none", "-v", "vol:/data", "box", "sh", "-c", line];
    let all: Vec<_> = (0..4)
        .map(|_| world.command(&options).stdout(std::process::Stdio::piped()).spawn().unwrap())
        .collect();
    for child in all {
        let output = child.wait_with_output().unwrap();
        assert_eq!(stdout(&output), "2\n");
    }
    assert_eq!(world.sh(&["-v", "vol:/data"], "cat /data/log"), "x\nx\nx\nx\n", "nobody's file was replaced");
}

#[test]
fn words_are_dockers() {
    let Some(world) = World::new("volume-words") else { return };
    assert_eq!(world.says(&["volume", "create", "--label", "a=b", "--label", "c", "one"]), "one\n");
    assert_eq!(world.says(&["volume", "create", "one"]), "one\n");
    let anonymous = world.says(&["volume", "create"]);
    assert_eq!(anonymous.len(), 65);
    let list = world.says(&["volume", "ls"]);
    assert!(list.starts_with("DRIVER    VOLUME NAME\nlocal     "), "{list}");
    assert!(list.contains("local     one\n"), "{list}");
    assert_eq!(world.says(&["volume", "ls", "-q", "--filter", "label=a=b", "--filter", "name=on"]), "one\n");
    assert_eq!(world.says(&["volume", "ls", "--filter", "label=a=x", "--format", "{{.Name}}"]), "");
    let format = "{{.Name}} {{.Driver}} {{.Scope}} {{index .Labels \"a\"}} {{.Mountpoint}}";
    let mountpoint = world.store().join("volumes/one/_data");
    assert_eq!(
        world.says(&["volume", "inspect", "-f", format, "one"]),
        format!("one local local b {}\n", mountpoint.display())
    );
    let missing = world.output(&["volume", "inspect", "none"]);
    assert_eq!((missing.status.code(), stdout(&missing)), (Some(1), "[]\n"));
    assert!(world.fails(&["volume", "inspect", "none"]).contains("No such volume: none"));
    assert!(world.fails(&["volume", "rm", "none"]).contains("get none: no such volume"));
    assert!(
        world
            .fails(&["volume", "create", "a/b"])
            .contains("includes invalid characters for a local volume name")
    );
    assert!(
        world.fails(&["volume", "create", "-o", "type=nfs", "-o", "device=:/x", "nn"]).contains("\"nfs\"")
    );
    assert!(world.fails(&["volume", "create", "-d", "cloud", "nn"]).contains("plugin \"cloud\" not found"));
    assert_eq!(world.says(&["volume", "rm", "-f", "none"]), "none\n");
    let prune = world.says(&["volume", "prune", "-f"]);
    assert_eq!(prune, format!("Deleted Volumes:\n{anonymous}\nTotal reclaimed space: 0B\n"));
    assert_eq!(world.says(&["volume", "ls", "-q"]), "one\n");
    fs::write(mountpoint.join("some"), "12345").unwrap();
    let kept = world.says(&["volume", "prune", "-a", "-f", "--filter", "label!=a"]);
    assert_eq!(kept, "Total reclaimed space: 0B\n");
    let gone = world.says(&["volume", "prune", "-a", "-f"]);
    assert_eq!(gone, "Deleted Volumes:\none\n\nTotal reclaimed space: 5B\n");
}

#[test]
fn a_volume_in_use_stays_and_an_anonymous_one_goes_with_its_container() {
    let Some(world) = World::new("volume-use") else { return };
    let id = world.makes("create", &["--name", "user", "-v", "vol:/data", "-v", "/own", "box"]);
    let refused = world.fails(&["volume", "rm", "vol"]);
    assert!(refused.contains(&format!("remove vol: volume is in use - [{}]", id.trim())), "{refused}");
    assert_eq!(world.says(&["volume", "ls", "-q", "--filter", "dangling=true"]), "");
    assert_eq!(world.says(&["volume", "prune", "-a", "-f"]), "Total reclaimed space: 0B\n");
    world.says(&["rm", "user"]);
    assert_eq!(world.says(&["volume", "ls", "-q"]).lines().count(), 2, "rm alone keeps them");
    world.says(&["volume", "prune", "-f"]);
    assert_eq!(world.says(&["volume", "ls", "-q"]), "vol\n");
    assert_eq!(world.says(&["volume", "rm", "vol"]), "vol\n");

    world.makes("create", &["--name", "other", "-v", "/own", "-v", "vol:/data", "box"]);
    world.says(&["rm", "-v", "other"]);
    assert_eq!(world.says(&["volume", "ls", "-q"]), "vol\n");
    assert_eq!(world.sh(&["-v", "/own", "-v", "vol:/data"], "touch /own/x"), "");
    assert_eq!(world.says(&["volume", "ls", "-q"]), "vol\n", "--rm takes it along");
}

#[test]
fn volumes_are_lent() {
    let Some(world) = World::new("volume-from") else { return };
    world.makes("run", &["--name", "first", "-v", "vol:/data", "-v", "/own", "box", "touch", "/own/here"]);
    assert_eq!(world.sh(&["--volumes-from", "first"], "ls /own; cat /data/file"), "here\nof the image\n");
    assert_eq!(world.says(&["volume", "ls", "-q"]).lines().count(), 2, "the other one still has it");
    let line = "touch /own/x 2>/dev/null || echo refused";
    assert_eq!(world.sh(&["--volumes-from", "first:ro"], line), "refused\n");
    assert_eq!(world.sh(&["--volumes-from", "first", "-v", "mine:/own"], "ls /own"), "");
    assert!(
        world.fails(&["run", "--rm", "--volumes-from", "none", "box"]).contains("No such container: none")
    );
    assert!(world.fails(&["run", "--rm", "--volumes-from", "first:xx", "box"]).contains("invalid mode"));
    // The borrower outlives the lender, and what was lent too.
    world.makes("create", &["--name", "second", "--volumes-from", "first", "box"]);
    world.says(&["rm", "-v", "first"]);
    assert_eq!(world.sh(&["--volumes-from", "second"], "ls /own"), "here\n");
    world.says(&["rm", "-v", "second"]);
    assert_eq!(world.says(&["volume", "ls", "-q"]), "mine\nvol\n");
}

#[test]
fn the_local_driver_has_two_more_kinds() {
    let Some(world) = World::new("volume-driver") else { return };
    let dir = world.path("host");
    fs::create_dir(&dir).unwrap();
    let device = format!("device={dir}");
    world.says(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"]);
    assert_eq!(world.sh(&["-v", "bound:/data"], "cat /data/file"), "of the image\n");
    assert!(fs::read_to_string(format!("{dir}/file")).is_ok(), "its files are there");
    world.says(&["volume", "rm", "bound"]);
    assert!(fs::read_to_string(format!("{dir}/file")).is_ok(), "and stay there");
    let o = ["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=64k,mode=1770"];
    world.says(&[&["volume", "create"], &o[..], &["memory"]].concat());
    assert_eq!(world.sh(&["-v", "memory:/m"], "stat -c '%a' /m; stat -f -c '%T %b' /m"), "1770\ntmpfs 16\n");
}
