//! `runion run --rm`, as a user types it: busybox from its package as an image,
//! and the built-in one.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::setup::{runion, stderr};
use crate::world::World;

#[test]
fn an_image_runs_as_it_says() {
    let Some(world) = World::new("run") else { return };
    assert_eq!(world.run_says(&["box"]), "the image says hello\n");
    assert_eq!(world.run_says(&["-e", "WHAT=more", "box"]), "the image says more\n");
    assert_eq!(world.run_says(&["--entrypoint", "/bin/pwd", "-w", "/new/dir", "box"]), "/new/dir\n");
    // What follows the image is the command's, whatever it looks like.
    assert_eq!(world.run_says(&["--entrypoint", "sh", "box", "-c", "echo $0", "--rm"]), "--rm\n");
    assert_eq!(world.run_says(&["--entrypoint", "/bin/echo", "box", "--", "-d"]), "-- -d\n");
    let unknown = world.fails(&["run", "--nosuch", "box", "true"]);
    assert!(unknown.contains("unexpected argument '--nosuch'"), "{unknown}");
    assert!(world.run_says(&["hello"]).starts_with("Hello from runion!\n"));
}

#[test]
fn exit_codes_are_dockers() {
    let Some(world) = World::new("run-codes") else { return };
    for (arguments, code) in [
        (&["box", "sh", "-c", "exit 7"][..], 7),
        (&["--init", "box", "sh", "-c", "kill -9 $$"], 137),
        (&["box", "nothing"], 127),
        (&["box", "/etc/passwd"], 126),
        (&["none"], 125),
        (&["-u", "nobody-here", "box", "id"], 126),
        (&["-it", "box", "id"], 125),
    ] {
        let output = world.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_command_is_who_it_should_be() {
    let Some(world) = World::new("run-user") else { return };
    assert_eq!(
        world.run_says(&["-u", "user", "box", "id"]),
        "uid=7(user) gid=8(own) groups=8(own),9(more)\n"
    );
    assert_eq!(world.run_says(&["-u", "7:9", "box", "id"]), "uid=7(user) gid=9(more) groups=9(more)\n");
    assert_eq!(world.run_says(&["-u", "user", "box", "sh", "-c", "echo $HOME"]), "/home/user\n");
    assert!(!world.run(&["-u", "user", "box", "touch", "/etc/new"]).status.success());
    // The caller's further groups are none of the container's.
    let mut grouped = world.in_namespace("setpriv");
    grouped.args(["--groups", "0,4321"]).arg(runion()).arg("--root").arg(world.scratch.join("store"));
    grouped.args(["run", "--rm", "--pull", "never", "box", "id"]).env("TMPDIR", world.scratch.path());
    let grouped = grouped.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grouped.stdout), "uid=0(root) gid=0(root) groups=0(root)\n");
    let status = world.run_says(&["box", "cat", "/proc/self/status"]);
    assert!(status.contains("CapBnd:\t00000000a80425fb\n"), "docker's default: {status}");
    assert!(status.contains("CapInh:\t0000000000000000\n"), "{status}");
    let user = world.run_says(&["-u", "user", "box", "cat", "/proc/self/status"]);
    assert!(
        user.contains("CapEff:\t0000000000000000\n") && user.contains("CapPrm:\t0000000000000000\n"),
        "{user}"
    );
}

#[test]
fn system_calls_that_reach_beyond_are_refused() {
    let Some(world) = World::new("run-calls") else { return };
    let lines = |arguments: &[&str]| {
        let status = world.run_says(
            &[arguments, &["box", "grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"]].concat(),
        );
        status.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]), ["NoNewPrivs:", "0", "Seccomp:", "2"]);
    let open = ["--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges"];
    assert_eq!(lines(&open), ["NoNewPrivs:", "1", "Seccomp:", "0"]);
    for call in ["unshare -U true", "unshare -m true", "mount -t tmpfs t /tmp"] {
        let refused = world.run(&["box", "sh", "-c", &format!("/bin/busybox {call}")]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && said.contains("ermitted") || said.contains("denied"),
            "{call}: {said}"
        );
    }
    assert_eq!(world.run(&["--security-opt", "seccomp=file.json", "box"]).status.code(), Some(125));
}

#[test]
fn a_container_is_alone() {
    let Some(world) = World::new("run-alone") else { return };
    assert_eq!(world.run_says(&["-h", "name", "box", "hostname"]), "name\n");
    let network = world.run_says(&["--network", "none", "box", "cat", "/proc/net/dev"]);
    assert_eq!(network.lines().skip(2).count(), 1, "only lo: {network}");
    let host = world.run_says(&["--network", "host", "box", "cat", "/proc/net/dev"]);
    let names = |table: &str| -> Vec<String> {
        table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    };
    let outside = world.in_namespace("cat").arg("/proc/net/dev").output().unwrap();
    assert_eq!(names(&host), names(&String::from_utf8_lossy(&outside.stdout)));
    assert_eq!(world.run_says(&["box", "sh", "-c", "echo $$"]), "1\n");
    assert_eq!(
        world.run_says(&[
            "box",
            "sh",
            "-c",
            "ls -a /proc/scsi /sys/firmware 2>/dev/null | grep -v ':' | grep -v '^[.]*$'; echo none"
        ]),
        "none\n"
    );
    let read = world.run(&["box", "sh", "-c", "cat /proc/keys /proc/timer_list 2>/dev/null"]);
    assert_eq!(String::from_utf8_lossy(&read.stdout), "", "masked files are empty");
    assert!(!world.run(&["box", "sh", "-c", "echo b > /proc/sysrq-trigger"]).status.success());
    assert!(!world.run_says(&["box", "ls", "/dev"]).contains("fuse"));
}

#[test]
fn nothing_is_left_and_the_image_is_as_it_was() {
    let Some(world) = World::new("run-rest") else { return };
    let left = || {
        let mut names: Vec<_> =
            fs::read_dir(world.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = left();
    assert_eq!(
        world.run_says(&["box", "sh", "-c", "echo new > /etc/passwd; rm /bin/cat; echo done"]),
        "done\n"
    );
    assert_eq!(world.run_says(&["box", "grep", "-c", "root", "/etc/passwd"]), "1\n");
    assert_eq!(left(), before);
    let fsck = world.command(&["fsck"]).output().unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
}

#[test]
fn an_image_in_use_is_not_removed() {
    let Some(world) = World::new("run-held") else { return };
    let mut child = world
        .command(&["run", "--rm", "-i", "box", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"said\n").unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(&said, b"said\n");
    let id = world.says(&["images", "-q"]);
    assert!(world.fails(&["rmi", "box"]).contains("is using its referenced image"));
    let refused = world.fails(&["rmi", "-f", id.trim()]);
    assert!(refused.contains("image is being used by running container"), "{refused}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(world.command(&["rmi", "-f", "box"]).status().unwrap().success());
}

#[test]
fn streams_are_the_callers_where_they_are_asked_for() {
    let Some(world) = World::new("run-streams") else { return };
    let with_input = |arguments: &[&str]| {
        let mut child = world
            .command(&["run", "--rm"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who does not read may be gone already.
        child.stdin.take().unwrap().write_all(b"input\n").unwrap_or_default();
        child.wait_with_output().unwrap()
    };
    assert_eq!(with_input(&["-i", "box", "cat"]).stdout, b"input\n");
    assert_eq!(with_input(&["box", "cat"]).stdout, b"");
    let both = with_input(&["box", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((&both.stdout[..], &both.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let file = world.scratch.join("env");
    fs::write(&file, "# a comment\nONE=1\n\nTWO=a b\r\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(world.run_says(&["--env-file", file, "box", "sh", "-c", "echo $ONE $TWO"]), "1 a b\n");
}

#[test]
fn values_that_are_wrong_are_refused_in_dockers_words() {
    let Some(world) = World::new("run-wrong") else { return };
    let file = world.write("env", "GOOD=1\n  NAME WITH=2\n");
    for (options, why) in [
        (&["--env-file", file.to_str().unwrap()][..], "variable 'NAME WITH' contains whitespaces"),
        (
            &["--workdir", "relative"],
            "the working directory 'relative' is invalid, it needs to be an absolute path",
        ),
        (&["--uts", "host", "-h", "name"], "conflicting options: hostname and the UTS mode"),
        (
            &["--network-alias", "name"],
            "network-scoped alias is supported only for containers in user defined",
        ),
        (&["--network", "bridge", "--network-alias", "name"], "network-scoped alias is supported only for"),
        (
            &["--network", "host", "--ip", "10.0.0.9"],
            "user specified IP address is supported on user defined",
        ),
    ] {
        let output = world.run(&[options, &["box", "true"]].concat());
        assert_eq!(output.status.code(), Some(125), "{options:?}");
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
    let output = world.run(&["--network", "none", "-p", "80", "box", "true"]);
    assert!(output.status.success());
    assert_eq!(stderr(&output), "WARNING: Published ports are discarded when using none network mode\n");
    assert!(world.fails(&["ps", "--filter", "status=asleep"]).contains("Invalid filter 'status=asleep'"));
    assert_eq!(world.says(&["ps", "-q", "--filter", "status=dead"]), "");
}

#[test]
fn an_init_tells_nothing_of_its_caller() {
    let Some(world) = World::new("run-init") else { return };
    let look = "cat /proc/1/environ; echo; cat /proc/1/cmdline";
    let options =
        ["run", "--rm", "--network", "none", "--init", "--cap-add", "SYS_PTRACE", "box", "sh", "-c", look];
    let output = world.command(&options).env("OF_THE_HOST", "a secret").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(said.trim_matches(['\0', '\n']), "runion init", "and no variable");
}

/// What is here is of one platform: another one's is not taken for it, and its own is
/// said where nobody asked.
#[test]
fn an_image_of_another_platform_is_told_from_ours() {
    let Some(world) = World::new("run-platform") else { return };
    world.says(&["create", "--name", "one", "box"]);
    let file = world.path("rootfs.tar");
    world.says(&["export", "-o", &file, "one"]);
    world.says(&["import", "--platform", "linux/riscv64", &file, "other"]);
    let made = world.output(&["create", "--network", "none", "other", "true"]);
    let said = stderr(&made);
    assert!(made.status.success(), "{said}");
    assert!(
        said.starts_with("WARNING: The requested image's platform (linux/riscv64) does not match"),
        "{said}"
    );
    let asked =
        world.output(&["create", "--platform", "linux/riscv64", "--network", "none", "other", "true"]);
    assert_eq!((asked.status.success(), stderr(&asked)), (true, ""));
    let refused = world.fails(&["create", "--pull", "never", "--platform", "linux/riscv64", "box", "true"]);
    assert!(refused.contains("image with reference box was found but does not provide"), "{refused}");
    // It is pulled, if it can be.
    world.says(&["tag", "box", "127.0.0.1:1/box"]);
    let pulled = world.fails(&["create", "--platform", "linux/riscv64", "127.0.0.1:1/box", "true"]);
    assert!(pulled.contains("Unable to find image '127.0.0.1:1/box:latest' locally"), "{pulled}");
}

/// In a chroot to a mere directory nothing can be made private.
#[test]
fn a_root_that_cannot_be_left_is_named_with_a_remedy() {
    let Some(world) = World::new("run-chroot") else { return };
    let script = "cd \"$1\"; mkdir bare; for name in /*; do
            if test -L $name; then cp -P $name bare; elif test -d $name; then
            mkdir bare$name; mount --rbind $name bare$name; fi; done
        exec chroot bare \"$2\" --root \"$1/store\" run --rm --network none box true";
    let mut inside = world.in_namespace("unshare");
    inside.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    let output = inside.arg(world.scratch.path()).arg(runion()).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    for words in ["cannot make the mounts private", "hint: ", "mount --bind DIR DIR before chroot DIR"] {
        assert!(said.contains(words), "{said}");
    }
}
