//! Docker itself is the oracle of `cp` and of volumes' words: one script, run
//! with docker and with `runion`, must say the same.

use std::path::Path;
use std::process::Command;

use crate::setup::{runion, stderr, stdout};
use crate::world::World;

/// `$K` is docker or `runion`; `$W` a directory for it alone.
const SCRIPT: &str = r#"
cd $W; mkdir -p out/dir src/tree/a; echo file > src/file; echo deep > src/tree/a/deep; ln -s file src/link; echo old > out/there
ln -s dir out/to-dir; ln -s there out/to-there
$K create --name aa -v vol:/data --network none box true > /dev/null
said() { sed "s,$W,W,g; s,^Error response from daemon: ,,; s,^Error: ,,; s,^runion: ,,; /level=error/d" said; }
try() { $K cp "$@" > said 2>&1; echo "== $* : $?"; said; }
out() {
  try aa:$1 out/$2 | sed "s,lstat .*/merged,,; s,other/:,other:,"; find out -printf '%P %y %l\n' | sort
  rm -rf out/new out/dir out/there out/none; mkdir out/dir; echo old > out/there
}
f=/data/sub/other; d=/data/sub
out $f new; out $f there; out $f dir; out $f to-dir; out $f to-there; out $f none/; out $f none/x; out /data/link to-there
out $d new; out $d there; out $d dir/; out $d/. new; out $d/. dir; out $d/ to-dir; out $d none/x; out /data/none x; out $f/ new
in() {
  $K create --name bb --network none box true > /dev/null; $K cp out/. bb:/tmp > /dev/null 2>&1
  try src/$1 bb:$2; $K cp bb:/tmp - | tar -tf - | sort; $K rm bb > /dev/null
}
in file /tmp/new; in file /tmp/there; in file /tmp/dir; in file /tmp/to-there; in file /none/; in file /none/x; in file /tmp/there/
in tree /tmp/new; in tree /tmp/there; in tree /tmp/to-dir; in tree/. /tmp/dir; in tree/ /none/x; in link /tmp/to-there; in none /tmp
try - aa:/data/file < /dev/null; try aa:/x bb:/y; try x y
word() { $K "$@" > said 2>&1; echo "== $* : $?"; said; }
word volume rm vol > used; sed 's,[0-9a-f]\{64\},ID,' used; word volume rm none; word volume rm -f none; word volume create a/b; word volume create -o foo=bar zz
word volume create -o type=nfs zz; word volume ls; word volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Options}} {{json .Labels}}' vol
word volume create --label a=b one; word volume ls -q --filter label=a; word volume ls --format '{{.Name}}|{{.Labels}}|{{.Scope}}'
word diff aa; word diff none; word commit none; $K rm -v aa > /dev/null; word volume ls -q
"#;

/// A dockerd of this test's own, where nothing of the host's network is.
const DOCKER: &str = r#"
umount /sys/fs/cgroup/unified 2>/dev/null; ip link set lo up; export K="docker -H unix://$D/s"
dockerd --data-root $D/data --exec-root $D/exec -H unix://$D/s --pidfile $D/pid --storage-driver overlay2 \
  --default-ulimit nofile=1024:20000 > $D/log 2>&1 & daemon=$!
for i in $(seq 100); do $K info > /dev/null 2>&1 && break; sleep 0.1; done
$K import $D/root.tar box > /dev/null || { tail -3 $D/log >&2; kill $daemon; exit 9; }
sh -c "$SCRIPT"; for c in $($K ps -aq); do $K rm -f $c > /dev/null; done; kill $daemon; wait $daemon; exit 0
"#;

#[test]
fn one_script_says_the_same() {
    let Some(world) = World::new("cp-docker") else { return };
    if !["/usr/sbin/dockerd", "/usr/bin/dockerd"].iter().any(|path| Path::new(path).exists()) {
        println!("skipped: no dockerd (apt-get install docker.io)");
        return;
    }
    let work = |name: &str| {
        std::fs::create_dir(world.path(name)).unwrap();
        world.path(name)
    };
    let docker = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c", DOCKER])
        .env("D", world.scratch.path())
        .env("W", work("by-docker"))
        .env("SCRIPT", SCRIPT)
        .output()
        .unwrap();
    if docker.status.code() == Some(9) {
        println!("skipped: dockerd does not run here: {}", stderr(&docker));
        return;
    }
    let ours = Command::new("sh")
        .args(["-c", SCRIPT])
        .env("K", format!("{} --root {}", runion().display(), world.store().display()))
        .env("W", work("by-runion"))
        .env("TMPDIR", world.scratch.path())
        .output()
        .unwrap();
    let (docker, ours) = (stdout(&docker), stdout(&ours));
    assert!(docker.lines().count() > 100, "{docker}");
    let differences: Vec<String> = docker
        .split("== ")
        .zip(ours.split("== "))
        .filter(|(one, other)| one != other)
        .map(|(one, other)| format!("--- docker: {one}+++ runion: {other}"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join(""));
}
