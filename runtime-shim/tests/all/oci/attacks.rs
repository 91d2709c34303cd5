//! Attacks that hit runtimes like ours: each is tried.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::bundle::{Bundle, Runtime, with_descriptor};
use crate::setup::{runion, snapshot, stderr, stdout};

/// Holds a program through /proc while it runs, and opens it for writing once it
/// does not: the heart of CVE-2019-5736. Says whether that was possible.
fn overwrite(pid: u32, end: impl FnOnce()) -> std::io::Result<()> {
    let held = rustix::fs::open(
        format!("/proc/{pid}/exe"),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    end();
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let file = std::fs::File::options().write(true).open(path)?;
    std::io::Write::write_all(&mut &file, b"#!/bin/sh\necho overwritten\n")
}

#[test]
fn the_program_is_not_overwritten_through_proc() {
    let Some(mut bundle) = Bundle::new("overwrite") else { return };
    // The attack works on any program.
    let victim = bundle.scratch.join("victim");
    std::fs::copy("/bin/sleep", &victim).unwrap();
    let mut child = Command::new(&victim).arg("1000").spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    overwrite(child.id(), || {
        child.kill().unwrap();
        child.wait().unwrap();
    })
    .unwrap();
    assert!(std::fs::read(&victim).unwrap().starts_with(b"#!/bin/sh"));

    // A container that waits is still this program: one that nobody else runs.
    let program = bundle.scratch.join("runion");
    std::fs::copy(runion(), &program).unwrap();
    bundle.line("sleep 1000");
    bundle.write();
    let before = std::fs::read(&program).unwrap();
    let word = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--root").arg(bundle.scratch.join("state")).args(words).stdin(Stdio::null());
        let said = std::fs::File::create(bundle.scratch.join("said")).unwrap();
        let status = command.stdout(said.try_clone().unwrap()).stderr(said).status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(bundle.scratch.join("said")).unwrap());
    };
    let (path, pid_file) = (bundle.path(), bundle.scratch.join("pid"));
    let bundle_word = path.to_str().unwrap();
    word(&["create", "-b", bundle_word, "--pid-file", pid_file.to_str().unwrap(), "overwrite"]);
    let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    let refused = overwrite(pid, || word(&["start", "overwrite"]));
    word(&["delete", "--force", "overwrite"]);
    let refused = refused.unwrap_err();
    assert!(matches!(refused.raw_os_error(), Some(libc::EROFS | libc::EPERM)), "{refused}");
    assert!(std::fs::read(&program).unwrap() == before);
}

#[test]
fn an_interpreter_that_is_the_runtime_itself_gets_nothing() {
    let Some(mut bundle) = Bundle::new("interpreter") else { return };
    let script = bundle.root().join("bin/script");
    std::fs::write(&script, "#!/proc/self/exe\n").unwrap();
    Command::new("chmod").arg("755").arg(&script).status().unwrap();
    let before = std::fs::read(runion()).unwrap();
    // Its own program, seen from inside, cannot be opened for writing either.
    bundle.line(
        "sleep 1000 & for n in 1 2 3; do /bin/script --help >/dev/null 2>&1; done; \
         for p in /proc/[0-9]*; do (: >> $p/exe) 2>/dev/null && echo opened $p; done; echo done; kill $!",
    );
    let output = bundle.run(Runtime::Ours);
    assert_eq!(stdout(&output), "done\n", "{}", stderr(&output));
    bundle.words(&["/bin/script"]);
    let output = bundle.run(Runtime::Ours);
    assert!(!output.status.success());
    assert!(std::fs::read(runion()).unwrap() == before);
}

#[test]
fn a_working_directory_through_a_descriptor_is_not_entered() {
    let Some(mut bundle) = Bundle::new("leak") else { return };
    let host = bundle.scratch.join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("secret"), "").unwrap();
    symlink("/proc/self/fd", bundle.root().join("fds")).unwrap();
    bundle.line("pwd; ls; ls ../../.. | head -3");
    bundle.write();
    let path = bundle.path();
    for number in 3..10 {
        for cwd in [format!("/proc/self/fd/{number}"), format!("/fds/{number}")] {
            bundle.config["process"]["cwd"] = json!(cwd);
            bundle.write();
            let command = bundle.runtime(Runtime::Ours, &["run", "-b", path.to_str().unwrap(), "leak"]);
            let output = with_descriptor(&command, &host, number).output().unwrap();
            assert!(!output.status.success(), "{cwd}: {}", stdout(&output));
            assert!(stderr(&output).contains("working directory"), "{cwd}: {}", stderr(&output));
            assert!(!stdout(&output).contains("secret"));
        }
    }
    // And none is there to be found by a process.
    bundle.config["process"]["cwd"] = json!("/");
    bundle.line("for f in /proc/self/fd/* /proc/1/fd/*; do test -d $f/. && echo directory $f; done; true");
    bundle.write();
    let command = bundle.runtime(Runtime::Ours, &["run", "-b", path.to_str().unwrap(), "leak"]);
    let output = with_descriptor(&command, &host, 7).output().unwrap();
    assert_eq!(stdout(&output), "", "{}", stderr(&output));
}

#[test]
fn a_process_that_joins_is_not_entered_through_and_leaks_nothing() {
    let Some(mut bundle) = Bundle::new("join-leak") else { return };
    let all = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_KILL"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    // Looks for directories of others behind every new process.
    bundle.line(
        "echo begun; while true; do for p in /proc/[0-9]*; do for f in $p/fd/* $p/cwd $p/root; do \
         case $f in /proc/1/*|/proc/$$/*) continue;; esac; test -e $f/etc/shadow && echo LEAK $f; done; done; done",
    );
    let running = bundle.start("join-leak");
    running.wait_for("begun");
    // The caller's own root is behind a descriptor of each.
    for _ in 0..20 {
        let command = bundle.runtime(Runtime::Ours, &["exec", &running.id, "true"]);
        let output = with_descriptor(&command, Path::new("/"), 9).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert!(!running.said().contains("LEAK"), "{}", running.said());
    for cwd in ["/proc/self/fd/3", "/proc/1/cwd", "/proc/self/root/../.."] {
        let output = running.try_(&["exec", "--cwd", cwd, &running.id, "pwd"]);
        assert!(["", "/\n", "/proc\n"].contains(&stdout(&output)), "{cwd}: {}", stdout(&output));
    }
}

#[test]
fn targets_that_are_links_lead_nowhere_outside() {
    let Some(mut bundle) = Bundle::new("links") else { return };
    let host = bundle.scratch.join("host");
    std::fs::create_dir_all(host.join("etc")).unwrap();
    std::fs::write(host.join("etc/file"), "host").unwrap();
    let before = snapshot(&host);
    let root = bundle.root();
    symlink(&host, root.join("absolute")).unwrap();
    symlink("../../host", root.join("relative")).unwrap();
    symlink(host.join("new-file"), root.join("dangling")).unwrap();
    let source = bundle.scratch.join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(bundle.scratch.join("source-file"), "mounted").unwrap();
    for at in ["/absolute", "/absolute/etc", "/relative/etc/new", "/dangling/x", "/dangling"] {
        for (kind, source) in
            [("bind", &source), ("bind", &bundle.scratch.join("source-file")), ("tmpfs", &source)]
        {
            let mounts = bundle.config["mounts"].clone();
            let options = if kind == "bind" { json!(["bind"]) } else { json!([]) };
            bundle.mount(json!({ "destination": at, "type": kind, "source": source, "options": options }));
            bundle.line("true");
            // Refused, or within the root: either will do, the host stays as it is.
            bundle.run(Runtime::Ours);
            assert_eq!(snapshot(&host), before, "{at} {kind}");
            bundle.config["mounts"] = mounts;
        }
    }
    bundle.config["process"]["cwd"] = json!("/dangling/deep");
    bundle.run(Runtime::Ours);
    bundle.config["process"]["cwd"] = json!("/relative/made");
    bundle.run(Runtime::Ours);
    assert_eq!(snapshot(&host), before);
}

#[test]
fn dev_proc_and_sys_that_are_links_are_refused() {
    for name in ["dev", "proc", "sys"] {
        let Some(mut bundle) = Bundle::new("kernel-links") else { return };
        let host = bundle.scratch.join("host");
        std::fs::create_dir_all(host.join("pts")).unwrap();
        std::fs::write(host.join("ptmx"), "").unwrap();
        std::fs::write(host.join("null"), "").unwrap();
        let before = snapshot(&host);
        bundle.line("true");
        for to in [host.to_str().unwrap(), "../../host", "/tmp"] {
            std::fs::remove_dir(bundle.root().join(name)).ok();
            std::fs::remove_file(bundle.root().join(name)).ok();
            symlink(to, bundle.root().join(name)).unwrap();
            let output = bundle.run(Runtime::Ours);
            assert_eq!(output.status.code(), Some(125), "{name} -> {to}");
            assert!(stderr(&output).contains(&format!("/{name} is a symbolic link")), "{}", stderr(&output));
            assert_eq!(snapshot(&host), before, "{name} -> {to}");
        }
        // Without a mount there, devices are made, or removed, nowhere else.
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with(&format!("/{name}")));
        bundle.run(Runtime::Ours);
        assert_eq!(snapshot(&host), before, "{name}");
    }
}

#[test]
fn targets_that_change_meanwhile_lead_nowhere_outside() {
    let Some(mut bundle) = Bundle::new("race") else { return };
    let host = bundle.scratch.join("host");
    std::fs::create_dir_all(host.join("deep")).unwrap();
    let before = snapshot(&host);
    let root = bundle.root();
    std::fs::create_dir_all(root.join("a/deep")).unwrap();
    symlink("../../host", root.join("b")).unwrap();
    let source = bundle.scratch.join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "").unwrap();
    for at in ["/a/deep/er/one", "/a/two", "/a/deep/three"] {
        bundle.mount(json!({ "destination": at, "type": "bind", "source": source, "options": ["bind"] }));
    }
    bundle.mount(json!({
        "destination": "/a/deep/file", "type": "bind", "source": source.join("file"), "options": ["bind"],
    }));
    bundle.line("true");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let directory = std::fs::File::open(&root).unwrap();
            while !over.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    &directory,
                    "a",
                    &directory,
                    "b",
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        for _ in 0..40 {
            bundle.run(Runtime::Ours);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(snapshot(&host), before);
}

#[test]
fn what_hides_is_the_null_device_whatever_the_image_has() {
    let Some(mut bundle) = Bundle::new("masked") else { return };
    // The image's own /dev counts where nothing is mounted there.
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    let root = bundle.root();
    std::fs::write(root.join("etc/secret"), "secret").unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/timer_list", "/etc/secret"]);
    bundle.line("cat /etc/secret /proc/keys; stat -c '%t:%T' /etc/secret /proc/timer_list");
    for to in ["/etc/passwd", "../etc/passwd", "zero"] {
        std::fs::remove_file(root.join("dev/null")).ok();
        symlink(to, root.join("dev/null")).unwrap();
        let output = bundle.run(Runtime::Ours);
        // A device that is something else is refused by name.
        assert!(stderr(&output).contains("/dev/null: something else is there"), "{}", stderr(&output));
        assert_eq!(std::fs::read_link(root.join("dev/null")).unwrap(), Path::new(to));
    }
    std::fs::remove_file(root.join("dev/null")).unwrap();
    let output = bundle.run(Runtime::Ours);
    assert_eq!(stdout(&output), "1:3\n1:3\n", "{}", stderr(&output));
}

#[test]
fn a_console_that_is_a_link_and_false_terminals_are_refused() {
    let Some(mut bundle) = Bundle::new("console") else { return };
    let host = bundle.scratch.join("host");
    std::fs::create_dir(&host).unwrap();
    let before = snapshot(&host);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev");
    bundle.config["process"]["terminal"] = json!(true);
    let socket = bundle.scratch.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let root = bundle.root();
    for name in ["pts", "shm", "mqueue"] {
        std::fs::create_dir_all(root.join("dev").join(name)).unwrap();
    }
    let path = bundle.path();
    let words =
        ["create", "-b", path.to_str().unwrap(), "--console-socket", socket.to_str().unwrap(), "console"];
    symlink("../../../host/made", root.join("dev/console")).unwrap();
    bundle.write();
    let output = bundle.runtime(Runtime::Ours, &words).output().unwrap();
    bundle.runtime(Runtime::Ours, &["delete", "--force", "console"]).output().unwrap();
    assert!(stderr(&output).contains("cannot show /dev/console"), "{}", stderr(&output));
    std::fs::remove_file(root.join("dev/console")).unwrap();
    // A directory of the image's instead of terminals; a pipe would wait for ever.
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev/pts");
    Command::new("mkfifo").arg(root.join("dev/pts/ptmx")).status().unwrap();
    bundle.write();
    let output = bundle.runtime(Runtime::Ours, &words).output().unwrap();
    // One that was made all the same does not stay.
    bundle.runtime(Runtime::Ours, &["delete", "--force", "console"]).output().unwrap();
    assert!(stderr(&output).contains("its /dev/pts is not one of terminals"), "{}", stderr(&output));
    assert_eq!(snapshot(&host), before);
}

#[test]
fn nothing_is_mounted_within_proc_and_parameters_reach_the_kernel() {
    let Some(mut bundle) = Bundle::new("proc") else { return };
    let fake = bundle.scratch.join("fake");
    std::fs::create_dir_all(fake.join("self/attr")).unwrap();
    std::fs::create_dir_all(fake.join("sys/net/ipv4")).unwrap();
    std::fs::write(fake.join("sys/net/ipv4/ip_forward"), "fake").unwrap();
    symlink("/proc", bundle.root().join("other-name")).unwrap();
    bundle.line("cat /proc/sys/net/ipv4/ip_forward");
    let usual = bundle.config["mounts"].clone();
    for at in ["/proc/self", "/proc/self/attr", "/other-name/sys", "/proc/1/../sys/kernel", "/proc/sys"] {
        for (kind, options) in [("bind", json!(["bind"])), ("tmpfs", json!([]))] {
            bundle.mount(json!({ "destination": at, "type": kind, "source": fake, "options": options }));
            let output = bundle.run(Runtime::Ours);
            assert_eq!(output.status.code(), Some(125), "{at}");
            assert!(stderr(&output).contains("it is inside /proc"), "{at}: {}", stderr(&output));
            bundle.config["mounts"] = usual.clone();
        }
    }
    // A parameter goes to the kernel, not to what is mounted for it.
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/proc");
    bundle.mount(json!({ "destination": "/proc", "type": "bind", "source": fake, "options": ["bind"] }));
    let output = bundle.run(Runtime::Ours);
    assert_eq!(stdout(&output), "fake", "{}", stderr(&output));
    bundle.config["mounts"] = usual;
    let output = bundle.run(Runtime::Ours);
    assert_eq!(stdout(&output), "1\n", "{}", stderr(&output));
}

#[test]
fn rights_are_bounded_and_nothing_is_inherited() {
    let Some(mut bundle) = Bundle::new("bounded") else { return };
    let capabilities = json!(["CAP_CHOWN", "CAP_SETUID"]);
    bundle.config["process"]["capabilities"] =
        json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.line("grep -E 'Cap(Inh|Amb|Bnd)' /proc/self/status");
    let output = bundle.run(Runtime::Ours);
    let expected = "CapInh:\t0000000000000000\nCapBnd:\t0000000000000081\nCapAmb:\t0000000000000000\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    for (set, bad) in [("effective", "CAP_SYS_ADMIN"), ("bounding", "ALL")] {
        let before = bundle.config.clone();
        bundle.config["process"]["capabilities"][set] = json!([bad]);
        let output = bundle.run(Runtime::Ours);
        assert_eq!(output.status.code(), Some(125), "{set} {bad}");
        bundle.config = before;
    }
}

#[test]
fn a_working_directory_is_made_within_the_root() {
    let Some(mut bundle) = Bundle::new("workdir") else { return };
    symlink("/tmp", bundle.root().join("link")).unwrap();
    bundle.config["process"]["cwd"] = json!("/link/made/of/parts");
    bundle.line("pwd -P");
    let output = bundle.run(Runtime::Ours);
    assert_eq!(stdout(&output), "/tmp/made/of/parts\n", "{}", stderr(&output));
    assert!(bundle.root().join("tmp/made/of/parts").is_dir());
}

#[test]
fn the_table_of_users_may_be_anything() {
    let Some(mut bundle) = Bundle::new("table") else { return };
    bundle.config["process"]["env"] = json!(["PATH=/bin"]);
    bundle.line("echo $HOME");
    let table = bundle.root().join("etc/passwd");
    std::fs::remove_file(&table).unwrap();
    Command::new("mkfifo").arg(&table).status().unwrap();
    assert_eq!(stdout(&bundle.run(Runtime::Ours)), "/\n");
    std::fs::remove_file(&table).unwrap();
    std::fs::create_dir(&table).unwrap();
    assert_eq!(stdout(&bundle.run(Runtime::Ours)), "/\n");
    std::fs::remove_dir(&table).unwrap();
    let file = std::fs::File::create(&table).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(stdout(&bundle.run(Runtime::Ours)), "/\n");
}
