//! `cp`: docker's table both ways, archives, and what a container may try.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::setup::{stderr, stdout};
use crate::world::World;

/// A container `run` that runs and one `rest` that never did.
fn world(name: &str) -> Option<World> {
    let world = World::new(name)?;
    world.runs("run", &["-v", "vol:/data"]);
    world.makes("create", &["--name", "rest", "-v", "other:/data", "box"]);
    Some(world)
}

/// Files below a directory, and what is in them.
fn tell(dir: impl AsRef<Path>) -> String {
    let script = "cd \"$1\" && find . -type f | sort | while read f; do echo \"$f=$(cat $f)\"; done";
    let output =
        std::process::Command::new("sh").args(["-c", script, "sh"]).arg(dir.as_ref()).output().unwrap();
    stdout(&output).replace('\n', " ")
}

#[test]
fn to_the_host_by_dockers_table() {
    let Some(world) = world("cp-host") else { return };
    for name in ["run", "rest"] {
        let at = |path: &str| format!("{name}:{path}");
        let out = |path: &str| world.path(&format!("{name}/{path}"));
        fs::create_dir_all(out("dir")).unwrap();
        fs::write(out("there"), "old").unwrap();
        let sub = "other=of the image ";
        for (from, to, dir, told) in [
            ("/data/sub/other", "new", ".", "./new=of the image ./there=old "),
            ("/data/sub/other", "there", ".", "./new=of the image ./there=of the image "),
            ("/data/sub/other", "dir", "dir", &format!("./{sub}")),
            ("data/sub/other", "dir/", "dir", &format!("./{sub}")),
            ("/data/sub", "made", "made", &format!("./{sub}")),
            ("/data/sub/.", "made2", "made2", &format!("./{sub}")),
            ("/data/sub", "dir", "dir", &format!("./{sub}./sub/{sub}")),
            ("/data/sub/", "dir", "dir", &format!("./{sub}./sub/{sub}")),
            ("/data/sub/.", "dir", "dir", &format!("./{sub}./sub/{sub}")),
            ("../data/../../data/sub/.", "up", "up", &format!("./{sub}")),
        ] {
            world.says(&["cp", &at(from), &out(to)]);
            assert_eq!(tell(out(dir)), told, "{name} {from} {to}");
        }
        for (from, to, why) in [
            ("/data/sub/other", "none/", "no such directory"),
            ("/data/sub/other", "none/x", "does not exist"),
            ("/data/sub/other", "there/", "not a directory"),
            ("/data/sub", "there", "cannot copy directory"),
            ("/data/none", "x", &format!("Could not find the file /data/none in container {name}")),
            ("/data/sub/other/", "x", "not a directory"),
        ] {
            let output = world.output(&["cp", &at(from), &out(to)]);
            assert!(stderr(&output).contains(why), "{name} {from} {to}: {}", stderr(&output));
            assert_eq!(output.status.code(), Some(1), "{name} {from} {to}");
        }
    }
    for (from, to, why) in [
        ("run:/x", "rest:/x", "copying between containers is not supported"),
        ("/x", "/y", "must specify at least one container source"),
        ("none:/x", "/y", "No such container: none"),
        ("run:", "/y", "can not be empty"),
    ] {
        assert!(world.fails(&["cp", from, to]).contains(why), "{from} {to}");
    }
}

#[test]
fn to_a_container_by_dockers_table() {
    let Some(world) = world("cp-in") else { return };
    world.write("from/tree/a/file", "A");
    let file = world.path("from/tree/a/file");
    let tree = world.path("from/tree");
    let contents = format!("{tree}/.");
    for name in ["run", "rest"] {
        let at = |path: &str| format!("{name}:{path}");
        for (from, to) in [
            (&file, "/new"),
            (&file, "/tmp"),
            (&file, "/etc/passwd"),
            (&file, "/data/sub/"),
            (&tree, "/made"),
            (&contents, "/made2"),
            (&tree, "/tmp"),
            (&contents, "/tmp/."),
            (&file, "/data/link"),
        ] {
            world.says(&["cp", from, &at(to)]);
        }
        world.says(&["cp", &at("/."), &world.path(&format!("{name}.all"))]);
        let root = world.path(&format!("{name}.all"));
        for path in [
            "new",
            "tmp/file",
            "etc/passwd",
            "data/sub/file",
            "made/a/file",
            "made2/a/file",
            "tmp/tree/a/file",
            "tmp/a/file",
        ] {
            assert_eq!(fs::read_to_string(format!("{root}/{path}")).unwrap(), "A", "{name} {path}");
        }
        for (from, to, why) in [
            (&file, "/none/", "no such directory"),
            (&file, "/none/x", "Could not find the file /none in container"),
            (&file, "/new/", "no such directory"),
            (&tree, "/new", "cannot copy directory"),
            (&tree, "/made2/a/file", "cannot copy directory"),
            (&world.path("none"), "/x", "no such file or directory"),
            (&format!("{file}/"), "/x", "not a directory"),
        ] {
            let output = world.output(&["cp", from, &at(to)]);
            assert!(stderr(&output).contains(why), "{name} {from} {to}: {}", stderr(&output));
            assert_eq!(output.status.code(), Some(1), "{name} {from} {to}");
        }
    }
    // What does not run has volumes too, filled before anything is put there.
    assert_eq!(world.sh(&["-v", "other:/data"], "cat /data/sub/file /data/file"), "Aof the image\n");
    assert_eq!(world.says(&["start", "-a", "rest"]), "the image says hello\n");
    world.makes("create", &["--name", "fixed", "--read-only", "-v", "vol:/data", "box"]);
    assert!(world.fails(&["cp", &file, "fixed:/tmp"]).contains("container rootfs is marked read-only"));
    world.says(&["cp", &file, "fixed:/data/volume"]);
    assert_eq!(world.sh(&["-v", "vol:/data"], "cat /data/volume"), "A");
}

#[test]
fn owners_and_modes_are_kept_where_that_was_asked_for() {
    let Some(world) = world("cp-owners") else { return };
    let file = world.write("file", "A");
    std::os::unix::fs::chown(&file, Some(12), Some(34)).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o4750)).unwrap();
    let file = file.to_str().unwrap();
    world.says(&["cp", file, "rest:/tmp/plain"]);
    world.says(&["cp", "-a", file, "rest:/tmp/kept"]);
    let out = |name: &str| world.path(name);
    world.says(&["cp", "-a", "rest:/tmp/plain", &out("one")]);
    world.says(&["cp", "-a", "rest:/tmp/kept", &out("two")]);
    world.says(&["cp", "rest:/tmp/kept", &out("three")]);
    let told = |name: &str| {
        let stat = fs::metadata(out(name)).unwrap();
        (stat.uid(), stat.gid(), stat.mode() & 0o7777)
    };
    assert_eq!(told("one"), (0, 0, 0o750));
    assert_eq!(told("two"), (12, 34, 0o4750));
    assert_eq!(
        told("three"),
        (0, 0, 0o750),
        "nothing that came out of a container is set-user-id by accident"
    );
    assert_eq!(fs::metadata(out("two")).unwrap().mtime_nsec(), fs::metadata(file).unwrap().mtime_nsec());

    world.says(&["cp", "run:/data/link", &out("link")]);
    assert_eq!(fs::read_link(out("link")).unwrap(), Path::new("/etc/passwd"));
    world.says(&["cp", "-L", "run:/data/link", &out("followed")]);
    let followed = fs::read_to_string(out("followed")).unwrap();
    assert!(followed.ends_with("user:x:7:8::/home/user:/bin/sh\n"), "the container's, not: {followed}");
    symlink("file", out("to-file")).unwrap();
    world.says(&["cp", &out("to-file"), "run:/tmp/"]);
    world.says(&["cp", "-L", &out("to-file"), "run:/tmp/got"]);
    world.says(&["cp", "run:/tmp/.", &out("got")]);
    assert_eq!(fs::read_link(out("got/to-file")).unwrap(), Path::new("file"));
    assert_eq!(fs::read_to_string(out("got/got")).unwrap(), "A");
}

#[test]
fn archives_go_both_ways() {
    let Some(world) = world("cp-tar") else { return };
    for name in ["run", "rest"] {
        let archive = world.output(&["cp", &format!("{name}:/data"), "-"]);
        assert!(archive.status.success(), "{}", stderr(&archive));
        let put = |to: &str| {
            let mut child = world
                .command(&["cp", "-", &format!("{name}:{to}")])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // Who refuses does not read.
            child.stdin.take().unwrap().write_all(&archive.stdout).unwrap_or_default();
            child.wait_with_output().unwrap()
        };
        let output = put("/tmp");
        assert!(output.status.success(), "{}", stderr(&output));
        let back = world.output(&["cp", &format!("{name}:/tmp/data"), "-"]);
        assert_eq!(back.stdout, archive.stdout, "{name}: the same to the byte");
        let refused = put("/etc/passwd");
        let why = format!("destination \"{name}:/etc/passwd\" must be a directory");
        assert!(stderr(&refused).contains(&why), "{}", stderr(&refused));
        let out = world.path(&format!("{name}.out"));
        fs::create_dir(&out).unwrap();
        let mut tar = std::process::Command::new("tar")
            .args(["-xpf", "-", "-C", &out])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&archive.stdout).unwrap();
        assert!(tar.wait().unwrap().success());
        let stat = fs::metadata(format!("{out}/data/sub/other")).unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.nlink()), (7, 8, 2));
        assert!(fs::metadata(format!("{out}/data/fifo")).unwrap().file_type().is_fifo());
    }
}

/// A tar stream of these, by the system's tar.
fn hostile(world: &World, script: &str) -> Vec<u8> {
    let dir = world.path("hostile");
    fs::create_dir_all(&dir).unwrap();
    let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(&dir).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    fs::remove_dir_all(&dir).unwrap();
    made.stdout
}

#[test]
fn links_and_dots_lead_nowhere_else() {
    let Some(world) = world("cp-links") else { return };
    let secret = world.write("secret", "of the host");
    let mark = world.path("mark");
    world.runs("evil", &[]);
    // Links as deep as the host's root, by every way there is.
    let script = format!(
        "ln -s {secret} /tmp/abs; ln -s ../../../../../../..{secret} /tmp/rel; ln -s / /tmp/root
         ln -s /proc/1/root /tmp/magic; ln -s /proc/self/root /tmp/self; ln -s {mark} /tmp/dangling; ln -s loop /tmp/loop",
        secret = secret.display()
    );
    let links = world.write("links.sh", &script);
    world.says(&["cp", links.to_str().unwrap(), "evil:/links.sh"]);
    world.says(&["cp", "evil:/links.sh", &world.path("links.back")]);
    // The container itself makes them.
    world.makes("create", &["--name", "maker", "box", "sh", "/links.sh"]);
    world.says(&["cp", links.to_str().unwrap(), "maker:/links.sh"]);
    world.says(&["start", "-a", "maker"]);
    let out = world.path("out");
    for path in ["/tmp/abs", "/tmp/rel", "/tmp/dangling", "/tmp/loop", "/tmp/magic/etc", "/tmp/self/etc"] {
        let failure = world.fails(&["cp", "-L", &format!("maker:{path}"), &out]);
        assert!(failure.contains("Could not find the file"), "{path}: {failure}");
        assert!(!Path::new(&out).exists(), "{path}");
    }
    for path in ["/tmp/root/tmp/rel", "../../../../../../../../tmp/abs"] {
        world.says(&["cp", &format!("maker:{path}"), &out]);
        assert!(fs::symlink_metadata(&out).unwrap().is_symlink());
        fs::remove_file(&out).unwrap();
    }
    // Written through: it lands where the link leads within the container.
    let new = world.write("new", "N");
    let failure = world.fails(&["cp", new.to_str().unwrap(), "maker:/tmp/abs"]);
    assert!(failure.contains("Could not find the file"), "{failure}");
    world.says(&["cp", new.to_str().unwrap(), "maker:/tmp/root/tmp/written"]);
    world.says(&["cp", "maker:/tmp/written", &out]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "N");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "of the host");
    assert!(!Path::new(&mark).exists());

    for (script, why) in [
        ("echo x > x; tar -cPf - --transform 's,^,../../../../tmp/,' x", "leads up"),
        ("echo x > x; ln -s /proc/1/root d; mkdir e; tar -cf - d; echo", ""),
        (
            "mkdir d; echo x > d/x; tar -cf a d/x; rm -r d; ln -s / d; tar -cf b d; tar -Af b a; cat b",
            "no directory",
        ),
    ] {
        let stream = hostile(&world, script);
        let mut child = world
            .command(&["cp", "-", "evil:/tmp"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&stream).unwrap_or_default();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.success(), why.is_empty(), "{script}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{script}: {}", stderr(&output));
    }
}

#[test]
fn a_container_that_swaps_its_files_gets_nothing_of_the_host() {
    let Some(world) = World::new("cp-race") else { return };
    let secret = world.write("secret/file", "of the host");
    let dir = secret.parent().unwrap();
    let before = tell(dir);
    // A directory, a link to the host's, a FIFO, as fast as it can.
    let line = format!(
        "mkdir -p /race/a /race/b; echo in > /race/a/file; ln -s {dir} /race/l; mkfifo /race/f; ln /race/a/file /race/g
         while :; do mv /race/a /race/x; mv -T /race/l /race/a; mv -T /race/a /race/l; mv /race/x /race/a
         mv /race/g /race/y; mv /race/f /race/g; mv /race/g /race/f; mv /race/y /race/g; done",
        dir = dir.display()
    );
    let options =
        ["run", "-d", "--name", "racer", "--runtime", "runc", "--network", "none", "box", "sh", "-c"];
    world.says(&[&options[..], &[&line]].concat());
    let new = world.write("new", "N");
    let new = new.to_str().unwrap();
    world.write("more/file", "M");
    let more = world.path("more/.");
    for round in 0..25 {
        let out = world.path(&format!("out{round}"));
        // Each of these may fail, for the file is not there at that moment.
        for arguments in [
            ["cp", "-L", "racer:/race/a/file", &out],
            ["cp", "-L", "racer:/race/g", &format!("{out}.g")],
            ["cp", new, "racer:/race/a/file", ""],
            ["cp", "racer:/race/.", &format!("{out}.all"), ""],
            ["cp", &more, "racer:/race/a", ""],
        ] {
            let arguments: Vec<&str> = arguments.into_iter().filter(|word| !word.is_empty()).collect();
            world.output(&arguments);
        }
    }
    assert_eq!(tell(dir), before, "nothing was written there");
    for round in 0..25 {
        if let Ok(read) = fs::read_to_string(world.path(&format!("out{round}"))) {
            assert_ne!(read, "of the host", "by a link of the container's");
        }
    }
}

#[test]
fn a_full_disk_is_said() {
    let Some(world) = World::new("cp-full") else { return };
    world.runs("small", &["--tmpfs", "/small:size=1m"]);
    for file in 0..100 {
        world.write(&format!("from/f{file}"), &"x".repeat(30_000));
    }
    let failure = world.fails(&["cp", &world.path("from/."), "small:/small"]);
    assert!(failure.starts_with("runion: cannot write ./f"), "{failure}");
    assert!(failure.contains("No space left on device"), "{failure}");
    assert_eq!(failure.lines().count(), 1, "{failure}");
    world.says(&["cp", &world.path("from/f1"), "small:/tmp/still"]);
}

#[test]
fn a_copy_that_is_killed_leaves_a_container_that_starts() {
    let Some(world) = World::new("cp-killed") else { return };
    world.makes("create", &["--name", "rest", "-v", "vol:/data", "box", "sh", "-c", "ls /data/sub"]);
    let mut copy = world.command(&["cp", "-", "rest:/tmp"]).stdin(Stdio::piped()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", copy.id());
    let reached = || {
        let child = fs::read_to_string(&children).unwrap();
        let child = child.split_whitespace().next()?.to_owned();
        // What has a volume mounted has everything mounted.
        let mounts = fs::read_to_string(format!("/proc/{child}/mounts")).ok()?;
        mounts.contains("/rootfs/data").then_some(child)
    };
    let child = (0..3000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        reached()
    });
    let child =
        rustix::process::Pid::from_raw(child.expect("it reached the container").parse().unwrap()).unwrap();
    copy.kill().unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    copy.wait().unwrap();
    assert_eq!(world.says(&["start", "-a", "rest"]), "other\n");
    assert_eq!(world.says(&["diff", "rest"]), "");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains("runion-test-cp-killed"), "{mounts}");
}

#[test]
fn nothing_of_the_container_is_run() {
    let Some(world) = World::new("cp-helpers") else { return };
    world.runs("evil", &[]);
    let mark = "#!/bin/sh\necho run > /tmp/mark\n";
    let trap = world.write("trap", mark);
    fs::set_permissions(&trap, PermissionsExt::from_mode(0o755)).unwrap();
    let trap = trap.to_str().unwrap();
    for path in ["/bin/tar", "/bin/docker-untar", "/etc/ld.so.preload", "/bin/sh"] {
        world.says(&["cp", trap, &format!("evil:{path}")]);
    }
    world.says(&["cp", "evil:/bin/.", &world.path("bin")]);
    world.says(&["cp", trap, "evil:/again"]);
    assert!(world.fails(&["cp", "evil:/tmp/mark", &world.path("mark")]).contains("Could not find"));
}

/// One that runs is read as it lies on disk where nothing is mounted.
#[test]
fn a_directory_is_the_same_however_it_is_read() {
    let Some(world) = world("cp-read") else { return };
    let line = "mkdir -p /made/sub/deep /made/point; echo 1 > /made/a; ln /made/a /made/sub/b; ln -s a /made/c; \
                chown 7:8 /made/sub/b; chmod 4755 /made/a; mkfifo /made/sub/p; touch -d 2001-02-03 /made/sub/deep; \
                ln -s made /way; rm -r /tmp; cp /etc/passwd /made/passwd; mkdir /usr; mv /bin /usr/moved";
    world.runs("read", &["--privileged", "-v", "vol2:/vol/ume"]);
    world.says(&["exec", "read", "sh", "-c", line]);
    let archive = |path: &str| world.output(&["cp", &format!("read:{path}"), "-"]).stdout;
    let paths = ["/made", "/made/.", "/made/sub/", "/usr"];
    let running = paths.map(archive);
    world.says(&["exec", "read", "/usr/moved/sh", "-c", "/usr/moved/touch /vol/ume/inside"]);
    world.says(&["cp", "read:/vol", &world.path("vol")]);
    assert_eq!(tell(world.path("vol")).trim(), "./ume/inside=");
    world.says(&["cp", "read:/way/.", &world.path("way")]);
    assert!(tell(world.path("way")).starts_with("./a=1 "), "{}", tell(world.path("way")));
    assert!(
        world.fails(&["cp", "read:/tmp", "-"]).contains("Could not find the file /tmp in container read")
    );
    // What its processes mount is seen.
    world.says(&["exec", "read", "/usr/moved/mount", "--bind", "/etc", "/made/point"]);
    world.says(&["cp", "read:/made", &world.path("bound")]);
    assert!(Path::new(&world.path("bound/point/passwd")).exists());
    world.says(&["stop", "-t", "0", "read"]);
    for (path, running) in paths.iter().zip(running) {
        assert!(running.len() > 1024);
        assert!(archive(path) == running, "{path}: the same to the byte, running or not");
    }
}
