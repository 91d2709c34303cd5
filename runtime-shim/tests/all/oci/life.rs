//! Create, start, state, kill, exec, delete; terminals; an init; the death of a
//! maker.

use serde_json::json;

use super::bundle::{Bundle, Runtime, wait_until};
use crate::setup::{stderr, stdout};

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let Some(mut bundle) = Bundle::new("life") else { return };
    bundle.line("echo begun; sleep 1000");
    let made = bundle.create("one");
    let state = made.state();
    assert_eq!((state["status"].as_str(), state["id"].as_str()), (Some("created"), Some("one")));
    assert_eq!(made.said(), "");
    let again =
        bundle.runtime(Runtime::Ours, &["create", "-b", bundle.path().to_str().unwrap(), "one"]).output();
    assert!(stderr(&again.unwrap()).contains("container with id exists: one"));
    made.do_("start");
    assert_eq!(made.state()["status"], "running");
    made.wait_for("begun");
    for word in ["start", "delete"] {
        assert_eq!(made.try_(&[word, "one"]).status.code(), Some(1), "{word}");
    }
    let listed = made.try_(&["list", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["status"], "running");
    let pid = made.pid();
    let processes = made.do_("ps");
    assert!(stdout(&processes).lines().any(|line| line == pid.to_string()), "{}", stdout(&processes));
    made.try_(&["kill", "one", "KILL"]);
    wait_until("stopped", || made.state()["status"] == "stopped");
    assert!(!made.try_(&["kill", "one", "TERM"]).status.success());
    made.do_("delete");
    let gone = made.try_(&["state", "one"]);
    assert!(stderr(&gone).contains("container does not exist: one"), "{}", stderr(&gone));
    assert!(made.try_(&["delete", "--force", "one"]).status.success());
}

#[test]
fn processes_join_a_container_in_all_of_its_namespaces() {
    let Some(mut bundle) = Bundle::new("join") else { return };
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    for of_its_own in [false, true] {
        if of_its_own {
            bundle.namespace(json!({ "type": "user" }));
            bundle.config["linux"]["uidMappings"] = map.clone();
            bundle.config["linux"]["gidMappings"] = map.clone();
        }
        let names = "for n in pid net ipc uts cgroup user mnt; do readlink /proc/self/ns/$n; done; \
            grep -E '^(Cap|NoNew|Seccomp|Uid)' /proc/self/status; cat /proc/self/uid_map; ls /proc/self/fd | wc -l";
        bundle.line(&format!("({names}) > /dev/shm/first; echo begun; sleep 1000"));
        let running = bundle.start(if of_its_own { "mapped" } else { "plain" });
        running.wait_for("begun");
        let joined =
            running.exec(&["sh", "-c", &format!("({names}) > /dev/shm/second; cmp /dev/shm/*; exit 42")]);
        assert_eq!(joined.status.code(), Some(42), "{}{}", stdout(&joined), stderr(&joined));
        assert_eq!((stdout(&joined), stderr(&joined)), ("", ""));
        assert_eq!(running.exec(&["nosuch"]).status.code(), Some(127));
        assert_eq!(running.exec(&["/etc"]).status.code(), Some(126));
        let as_user = running.try_(&[
            "exec",
            "--user",
            "1000:7",
            "--cwd",
            "/tmp",
            &running.id,
            "sh",
            "-c",
            "id -u; id -g; pwd",
        ]);
        assert_eq!(stdout(&as_user), "1000\n7\n/tmp\n", "{}", stderr(&as_user));
        assert!(!running.try_(&["exec", "--user", "+0", &running.id, "true"]).status.success());
    }
}

#[test]
fn a_terminal_is_the_container_s_own() {
    let Some(mut bundle) = Bundle::new("terminal") else { return };
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    bundle.line("tty; stty size; stat -c '%t:%T %U' /dev/console /dev/pts/0; echo typed > /dev/tty; read line; echo got $line");
    let socket = bundle.scratch.join("console");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    bundle.write();
    let (path, id) = (bundle.path(), "tty");
    let words = ["create", "-b", path.to_str().unwrap(), "--console-socket", socket.to_str().unwrap(), id];
    let without =
        bundle.runtime(Runtime::Ours, &["create", "-b", path.to_str().unwrap(), id]).output().unwrap();
    assert!(stderr(&without).contains("--console-socket"), "{}", stderr(&without));
    let made = bundle.runtime(Runtime::Ours, &words).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let (stream, _) = listener.accept().unwrap();
    let master = receive(&stream);
    let started = bundle.runtime(Runtime::Ours, &["start", id]).output().unwrap();
    assert!(started.status.success(), "{}", stderr(&started));
    let mut terminal = std::fs::File::from(master);
    std::io::Write::write_all(&mut terminal, b"hello\n").unwrap();
    let mut said = Vec::new();
    // EIO once the last user is gone.
    std::io::Read::read_to_end(&mut terminal, &mut said).unwrap_err();
    let said = String::from_utf8(said).unwrap().replace('\r', "");
    bundle.runtime(Runtime::Ours, &["delete", "--force", id]).output().unwrap();
    for line in ["/dev/pts/0", "33 77", "88:0 user", "typed", "got hello"] {
        assert!(said.lines().any(|one| one == line), "{line}: {said}");
    }
}

fn receive(stream: &std::os::unix::net::UnixStream) -> std::os::fd::OwnedFd {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let into = &mut [std::io::IoSliceMut::new(&mut bytes)];
    rustix::net::recvmsg(stream, into, &mut ancillary, rustix::net::RecvFlags::empty()).unwrap();
    let fd = ancillary.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.unwrap()
}

#[test]
fn an_init_reaps_passes_signals_on_and_ends_as_the_command_does() {
    let Some(mut bundle) = Bundle::new("init") else { return };
    bundle.config["annotations"] = json!({ "org.runionfs.init": "true" });
    // An orphan is not left a zombie, which would keep its name.
    bundle.line(
        "test $$ = 2 || exit 1; (sleep 0.05 &) ; try=0; \
         while grep -qs '^sleep$' /proc/[0-9]*/comm && test $try -lt 600; do try=$((try + 1)); sleep 0.1; done; \
         ps | grep -c '\\[sleep\\]'; kill -9 $$",
    );
    let output = bundle.run(Runtime::Ours);
    assert_eq!((output.status.code(), stdout(&output)), (Some(137), "0\n"), "{}", stderr(&output));
    bundle.line("trap 'echo told; exit 5' TERM; echo begun; while true; do sleep 0.05; done");
    let running = bundle.start("init");
    running.wait_for("begun");
    running.try_(&["kill", "init", "TERM"]);
    running.wait_for("told");
    wait_until("stopped", || running.state()["status"] == "stopped");
}

#[test]
fn descriptors_are_handed_on_when_asked_and_only_then() {
    let Some(mut bundle) = Bundle::new("handed") else { return };
    let file = bundle.scratch.join("file");
    std::fs::write(&file, "handed on\n").unwrap();
    bundle.line("ls /proc/self/fd | wc -l; cat <&3");
    bundle.write();
    let path = bundle.path();
    let words = ["run", "-b", path.to_str().unwrap(), "--preserve-fds", "1", "handed"];
    let command = bundle.runtime(Runtime::Ours, &words);
    let output = super::bundle::with_descriptor(&command, &file, 3).output().unwrap();
    assert_eq!(stdout(&output), "5\nhanded on\n", "{}", stderr(&output));
    let words = ["run", "-b", path.to_str().unwrap(), "not"];
    let command = bundle.runtime(Runtime::Ours, &words);
    let output = super::bundle::with_descriptor(&command, &file, 3).output().unwrap();
    assert!(stdout(&output).starts_with("4\n"), "{}", stdout(&output));
}
