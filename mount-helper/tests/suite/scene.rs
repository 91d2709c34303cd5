//! A scratch directory with layers in it, and a shell in a mount and a process
//! namespace of its own: what it mounts and starts is gone when the script ends.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_mount-runionfs");

/// How long a script may take before it counts as hung, in seconds.
const LIMIT: &str = "90";

/// Shell functions every script has.
const PRELUDE: &str = r#"
set -eu
# The options of a mount point, as the kernel shows them.
shown() { awk -v at="$PWD/$1" '$2 == at { line = $0 } END { print line }' /proc/self/mounts; }
# Whether a process has ended; an init may be slow to reap it.
ended() { case "$(ps -o stat= -p "$1")" in ''|Z*) true;; *) false;; esac; }
# Waits until a command succeeds.
await() { for try in $(seq 1200); do "$@" && return; sleep 0.05; done; echo "never: $*"; exit 9; }
# Waits until a process has ended.
await_end() { await ended "$1"; }
# The processes serving from this scratch directory, by their argument lists.
daemons() { for p in /proc/[0-9]*; do { tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null | grep -q "^\(/[^ ]*/\)\?[a-z.-]*runionfs .*$TAG" && ! ended "${p#/proc/}" && echo "${p#/proc/}"; done || true; }
# Waits until none is left.
await_no_daemon() { for d in $(daemons); do await_end "$d"; done; }
# Runs a command that must fail with a status and print a text.
fails() { want=$1 text=$2; shift 2; got=0; said=$("$@" 2>&1) || got=$?; [ "$got" = "$want" ] || { echo "status $got, not $want: $* ($said)"; exit 8; }; case $said in *"$text"*) ;; *) echo "no '$text' in: $said"; exit 8;; esac; }
# Whether something is mounted, or nothing.
mounted() { [ -n "$(shown "$1")" ]; }
unmounted() { [ -z "$(shown "$1")" ]; }
# Fails unless two words are one.
same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; exit 7; }; }
"#;

/// Layers, an upper and a mount point.
pub struct Scene {
    dir: tempfile::TempDir,
}

/// Whether this machine lets the tests mount; says why not.
pub fn can_mount() -> bool {
    let probe = Command::new("unshare").args(["-m", "--propagation", "private", "true"]).output();
    let able = probe.is_ok_and(|output| output.status.success()) && Path::new("/dev/fuse").exists();
    if !able {
        println!("skipped: needs the right to make a mount namespace, and /dev/fuse");
    }
    able
}

impl Scene {
    /// `l1` over `l2`, `u` and `w`, and `m` to mount on; `None` where the
    /// machine does not let us.
    pub fn new() -> Option<Scene> {
        if !can_mount() {
            return None;
        }
        let scene = Scene { dir: tempfile::Builder::new().prefix("runionfs-").tempdir().unwrap() };
        let at = |name: &str| scene.dir.path().join(name);
        for name in ["l1/d", "l2/d", "u", "w", "m", "bin"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        for (name, content) in
            [("l1/top", "1"), ("l1/d/one", "1"), ("l2/top", "2"), ("l2/below", "2"), ("l2/d/two", "2")]
        {
            std::fs::write(at(name), content).unwrap();
        }
        for name in ["runionfs", "mount.runionfs"] {
            symlink(PROGRAM, at("bin").join(name)).unwrap();
        }
        // Ordinary users of the tests must get in.
        rustix::fs::chmod(scene.dir.path(), rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        Some(scene)
    }

    /// The scratch directory.
    pub fn path(&self) -> PathBuf {
        self.dir.path().to_path_buf()
    }

    /// Runs a script in the scratch directory; everything it does must succeed.
    /// Returns what it printed.
    pub fn run(&self, script: &str) -> String {
        let output = self.shell(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        for line in out.lines().filter(|line| line.starts_with("skipped:")) {
            println!("{line}");
        }
        assert!(output.status.success(), "{}\nscript: {script}\nout: {out}\nerr: {err}", output.status);
        out
    }

    fn shell(&self, script: &str) -> Output {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.dir.path().join("bin").display());
        let mut command = Command::new("timeout");
        command.args(["-k", "5", LIMIT, "unshare", "--mount", "--propagation", "private"]);
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c"]);
        command
            .arg(format!("{PRELUDE}{script}"))
            .arg("script")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        let tag = self.dir.path().file_name().unwrap();
        command.env("PATH", path).env("TAG", tag).env("L", self.dir.path().join("l1:l2")).output().unwrap()
    }
}
