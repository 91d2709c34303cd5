//! The programs under test, scratch directories, and ways to run them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// `runion`, with the mount helper built beside it.
pub fn runion() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let runion = PathBuf::from(env!("CARGO_BIN_EXE_runion"));
        let profile = runion.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        // Of the whole workspace: alone its dependencies would be built once more.
        cargo.args(["build", "--quiet", "--workspace", "--bin", "mount-runionfs", "--target-dir"]);
        cargo.arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the mount helper does not build");
        runion
    })
}

/// Whether this machine can run the tests at all; says why not.
pub fn can_mount() -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if std::fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        "no /dev/fuse"
    } else {
        return true;
    };
    println!("skipped: {reason}");
    false
}

/// A directory for one test on a real file system, removed with it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/var/tmp/runion-test-{test}-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `runion try`, its state directory in here.
    pub fn try_(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(runion());
        command.arg("try").args(arguments).env("TMPDIR", self.state()).env_remove("XDG_CACHE_HOME");
        command
    }

    /// Where the state directories of this test's tries are.
    pub fn state(&self) -> PathBuf {
        let state = self.join("state");
        std::fs::create_dir_all(&state).unwrap();
        state
    }

    /// Runs a shell line in a view of the host's root.
    pub fn sh(&self, options: &[&str], line: &str) -> Output {
        let mut arguments = options.to_vec();
        arguments.extend(["--", "sh", "-c", line]);
        self.try_(&arguments).output().unwrap()
    }

    /// What a killed or finished try may not leave: names in the state
    /// directory.
    pub fn left_over(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.state()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Names, modes, owners, sizes, times, links, contents and attributes of a
/// tree, as text to be compared.
pub fn snapshot(tree: &Path) -> String {
    let script = r#"cd "$1" || exit 1
        prune='( -path ./proc -o -path ./sys -o -path ./dev ) -prune -o'
        find . $prune -type d -printf '%p %y %m %U %G %T@\n' | sort
        find . $prune ! -type d -printf '%p %y %m %U %G %s %l %n %T@\n' | sort
        find . $prune -type f -print0 | sort -z | xargs -0 -r sha256sum
        find . $prune -print0 | sort -z | xargs -0 -r getfattr -h -d -m '^(user\.|security\.|system\.)' 2>&1"#;
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(tree).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A root file system of one static program, or the reason why there is none.
pub fn busybox_root(at: &Path) -> Result<(), &'static str> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| is_static(path));
    let Some(busybox) = busybox else { return Err("no static busybox (apt-get install busybox-static)") };
    std::fs::create_dir_all(at.join("bin")).unwrap();
    std::fs::copy(busybox, at.join("bin/busybox")).unwrap();
    for applet in
        ["sh", "ls", "rm", "mv", "mkdir", "touch", "ln", "chmod", "chown", "cat", "mknod", "mkfifo", "dd"]
    {
        std::os::unix::fs::symlink("busybox", at.join("bin").join(applet)).unwrap();
    }
    Ok(())
}

/// A static program names no interpreter.
fn is_static(path: &str) -> bool {
    const INTERPRETER: &[u8] = b"/lib64/ld-linux";
    std::fs::read(path).is_ok_and(|bytes| !bytes.windows(INTERPRETER.len()).any(|part| part == INTERPRETER))
}
