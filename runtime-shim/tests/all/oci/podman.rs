//! podman is given `--runtime runion`, in mount and network namespaces of its
//! own.

use std::process::{Command, Output};

use super::bundle::Bundle;
use crate::setup::{runion, stderr, stdout};

/// A shell with `P` as podman over ours, and the image `box`; gone with its
/// store.
fn podman(bundle: &Bundle, script: &str) -> Output {
    let scratch = bundle.scratch.path().display();
    let configuration = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:20000\", \"nproc=32768:32768\"]\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runion\"\n\
         [engine.runtimes]\nrunion = [\"{}\"]\n",
        runion().display()
    );
    std::fs::write(bundle.scratch.join("containers.conf"), configuration).unwrap();
    let prelude = format!(
        "umount /sys/fs/cgroup/unified 2>/dev/null; mount -t tmpfs tmpfs /run || exit 1\n\
         P() {{ podman --root {scratch}/root --runroot {scratch}/runroot --storage-driver vfs \"$@\"; }}\n\
         tar -C {scratch}/b/rootfs -c . | P import -c 'CMD [\"/bin/sh\"]' - box >/dev/null 2>&1 || exit 1\n"
    );
    let mut command = Command::new("timeout");
    command.args(["60", "unshare", "--net", "--mount", "--propagation", "private", "bash", "-c"]);
    command.arg(format!("{prelude}{script}"));
    command.env("CONTAINERS_CONF", bundle.scratch.join("containers.conf")).output().unwrap()
}

fn is_here() -> bool {
    let missing =
        ["podman", "conmon"].into_iter().find(|name| Command::new(name).arg("--version").output().is_err());
    if let Some(name) = missing {
        println!("skipped: no {name} (apt-get install podman)");
    }
    missing.is_none()
}

#[test]
fn it_runs_joins_stops_and_removes_containers() {
    let Some(bundle) = Bundle::new("podman") else { return };
    if !is_here() {
        return;
    }
    let output = podman(
        &bundle,
        "R='--network none'\n\
         P run --rm $R box sh -c 'id -u; grep -E \"^(CapBnd|Seccomp):\" /proc/self/status; exit 3'; echo code $?\n\
         echo typed | P run -i --rm $R box cat; echo code $?\n\
         P run --rm $R box nosuch 2>/dev/null; echo code $?\n\
         P run --rm $R box /etc 2>/dev/null; echo code $?\n\
         P run --rm $R -u 1000:5 -w /tmp -e A=b -h name --read-only --tmpfs /t --pids-limit 50 -v /usr:/v:ro box \
            sh -c 'exec 2>&1; id; pwd; echo $A; hostname; touch /x /v/x; touch /t/x && ls /t'; echo code $?\n\
         P run -d --name one $R box sh -c 'trap \"echo told; exit 4\" TERM; echo begun; while true; do sleep 0.1; done' >/dev/null\n\
         for i in $(seq 300); do P logs one | grep -q begun && break; sleep 0.2; done\n\
         P exec one sh -c 'echo joined; exit 5'; echo code $?\n\
         P exec -u 1000 one id -u; P exec one nosuch 2>/dev/null; echo code $?\n\
         P pause one >/dev/null && P inspect -f '{{.State.Status}}' one && P unpause one >/dev/null\n\
         P top one pid | wc -l; P stop -t 10 one >/dev/null; P logs one; P inspect -f '{{.State.ExitCode}}' one\n\
         P rm one >/dev/null; P ps -aq; ls /run/runion/oci; rmdir /sys/fs/cgroup/*/libpod_parent 2>/dev/null; true",
    );
    let expected = "0\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\ncode 3\ntyped\ncode 0\ncode 127\ncode 126\n\
        uid=1000(user) gid=5(5) groups=5(5)\n/tmp\nb\nname\ntouch: /x: Read-only file system\n\
        touch: /v/x: Read-only file system\nx\ncode 0\njoined\ncode 5\n1000\ncode 127\npaused\n";
    assert!(stdout(&output).starts_with(expected), "{}\n{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).ends_with("begun\ntold\n4\n"), "{}\n{}", stdout(&output), stderr(&output));
}
