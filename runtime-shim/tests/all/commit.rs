//! Keeping changes, going on with them, and applying them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::setup::{Scratch, busybox_root, can_mount, runion, snapshot, stderr, stdout};

/// A lower with one of everything, and a script that changes all of it.
const SETUP: &str = r"
    mkdir -p a/deep/er b c d/x && mkdir -m 1777 sticky && echo one > a/one && echo two > a/deep/two
    echo f > b/f && echo g > b/g && ln b/g b/g2 && echo big > c/big && chmod 640 c/big
    dd if=/dev/zero of=c/sparse bs=1 count=1 seek=1M 2>/dev/null
    ln -s one a/link && echo x > d/x/y && mkfifo d/fifo && setfattr -n user.k -v v c/big
    setfacl -m u:77:r b/f && setfattr -n user.gone -v x a/one";
const CHANGES: &str = r"
    echo changed >> /a/one && mv /a /A && echo new > /A/new && mkdir /A/newdir && echo n > /A/newdir/n
    rm -r /d && mkdir /d && echo fresh > /d/fresh && chmod 600 /c/big && chown 7:8 /c/big
    mv /c/sparse /c/moved && echo more >> /b/g && rm /b/f && mkdir /b/f && echo infile > /b/f/i
    ln /A/new /A/newlink && rm -r /sticky && echo was > /sticky && mkdir -m 2750 /perm
    mknod /perm/dev c 5 1 && mkfifo /perm/pipe && ln -s ../x /perm/sl && touch -d 200102030000 /perm
    mv /A/deep/er /er && chmod u+s /A/new";

struct Kept {
    scratch: Scratch,
    lower: PathBuf,
    dir: PathBuf,
}

impl Kept {
    /// A lower, and changes to it kept; `None` where that cannot be.
    fn new(test: &str, setup: &str, changes: &str) -> Option<Kept> {
        if !can_mount() {
            return None;
        }
        let scratch = Scratch::new(test);
        let (lower, dir) = (scratch.join("lower"), scratch.join("kept"));
        if let Err(reason) = busybox_root(&lower) {
            println!("skipped: {reason}");
            return None;
        }
        shell(&lower, setup);
        let kept = Kept { scratch, lower, dir };
        let output = kept.go_on(changes);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("hint: runion try --commit"), "{}", stderr(&output));
        Some(kept)
    }

    /// One more command over the kept changes.
    fn go_on(&self, changes: &str) -> Output {
        let (lower, dir) = (self.lower.to_str().unwrap(), self.dir.to_str().unwrap());
        let line = format!("set -e\n{changes}");
        self.scratch.try_(&["--keep", dir, "--lower", lower, "--", "/bin/sh", "-c", &line]).output().unwrap()
    }

    fn commit(&self, options: &[&str]) -> Output {
        let mut arguments = vec!["--commit", self.dir.to_str().unwrap()];
        arguments.extend(options);
        self.scratch.try_(&arguments).output().unwrap()
    }

    /// What the union of the kept changes and the lower shows.
    fn view(&self) -> String {
        let options = format!(
            "lowerdir={},upperdir={1}/upper,workdir={1}/work",
            self.lower.display(),
            self.dir.display()
        );
        let mnt = self.scratch.join("view");
        std::fs::create_dir(&mnt).unwrap();
        let helper = runion().with_file_name("mount-runionfs");
        assert!(Command::new(helper).arg("-o").arg(options).arg(&mnt).status().unwrap().success());
        let shown = snapshot(&mnt);
        assert!(Command::new("umount").arg(&mnt).status().unwrap().success());
        shown
    }
}

fn shell(dir: &Path, script: &str) {
    let output =
        Command::new("sh").args(["-c", &format!("set -e\n{script}")]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_commit_makes_the_lower_what_the_view_was() {
    let Some(kept) = Kept::new("commit", SETUP, CHANGES) else { return };
    let before = snapshot(&kept.lower);
    let view = kept.view();
    assert_eq!(snapshot(&kept.lower), before, "the try changed its lower");

    let output = kept.commit(&["--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(snapshot(&kept.lower), view);
    let names: Vec<_> = walk(&kept.lower).into_iter().filter(|name| name.contains(".runion")).collect();
    assert_eq!(names, Vec::<String>::new());
    assert!(!kept.dir.exists());
}

#[test]
fn a_kept_try_is_gone_on_with() {
    let Some(kept) = Kept::new("resume", SETUP, CHANGES) else { return };
    let output =
        kept.go_on("cat /A/newdir/n && echo again >> /A/new && rm /er /perm/pipe -r && mv /c/moved /c/back");
    assert_eq!(stdout(&output), "n\n", "{}", stderr(&output));
    let view = kept.view();
    assert!(kept.commit(&["--yes"]).status.success());
    assert_eq!(snapshot(&kept.lower), view);
}

#[test]
fn it_asks_first() {
    let Some(kept) = Kept::new("ask", "echo x > file", "echo y > /file") else { return };
    for (answer, content) in [("", "x\n"), ("n\n", "x\n"), ("y\n", "y\n")] {
        let dir = kept.dir.to_str().unwrap();
        let mut child = kept
            .scratch
            .try_(&["--commit", dir])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(stderr(&output).starts_with("C /file\napply these 1 changes to "), "{}", stderr(&output));
        assert_eq!(std::fs::read_to_string(kept.lower.join("file")).unwrap(), content, "after {answer:?}");
    }
}

#[test]
fn what_was_kept_can_be_discarded() {
    let Some(kept) = Kept::new("discard", SETUP, CHANGES) else { return };
    let before = snapshot(&kept.lower);
    let discard = format!("--discard={}", kept.dir.display());
    assert_eq!(kept.scratch.try_(&[&discard, "--", "true"]).status().unwrap().code(), Some(125));
    assert!(kept.scratch.try_(&[&discard]).status().unwrap().success());
    assert!(!kept.dir.exists());
    assert_eq!(snapshot(&kept.lower), before);
    let not_kept = format!("--discard={}", kept.lower.display());
    assert_eq!(kept.scratch.try_(&[&not_kept]).status().unwrap().code(), Some(125));
    assert_eq!(snapshot(&kept.lower), before);
}

#[test]
fn what_changed_meanwhile_is_refused_unless_forced() {
    let setup = "echo x > file; echo x > other; mkdir gone dir; echo x > dir/x; echo x > meta";
    let changes =
        "echo y > /file; echo y > /other; rm -r /dir; chmod 600 /meta; echo y > /gone/new; echo new > /added";
    let Some(kept) = Kept::new("conflict", setup, changes) else { return };
    shell(&kept.lower, "echo z > file; echo z > dir/new; rm meta; echo z > added");
    let before = snapshot(&kept.lower);
    let refused = kept.commit(&["--yes"]);
    assert_eq!(refused.status.code(), Some(125));
    let said: Vec<_> = stderr(&refused).lines().take(4).collect();
    assert_eq!(
        said,
        [
            "runion: /added: modified since",
            "runion: /dir: modified since",
            "runion: /file: modified since",
            "runion: /meta: gone since"
        ],
        "{}",
        stderr(&refused)
    );
    assert_eq!(snapshot(&kept.lower), before);

    shell(&kept.lower, "echo x > meta");
    let forced = kept.commit(&["--yes", "--force"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert_eq!(std::fs::read_to_string(kept.lower.join("file")).unwrap(), "y\n");
    assert!(!kept.lower.join("dir").exists());
}

#[test]
fn what_cannot_be_committed_is_refused_with_a_reason() {
    let Some(kept) = Kept::new("refused", "", "echo > /new") else { return };
    let scratch = &kept.scratch;
    let refused = |arguments: &[&str]| {
        let output = scratch.try_(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        stderr(&output).to_string()
    };
    let dir = kept.dir.to_str().unwrap();
    let (lower, more) = (kept.lower.to_str().unwrap(), scratch.join("more"));
    std::fs::create_dir(&more).unwrap();
    assert!(refused(&["--commit", lower, "--yes"]).contains("hint: name a directory that runion try --keep"));
    assert!(refused(&["--keep", lower, "--", "true"]).contains("not empty"));
    assert!(refused(&["--keep", dir, "--", "true"]).contains("cannot go on in"), "another lower");
    let two = scratch.join("two");
    let two = two.to_str().unwrap();
    let lowers =
        ["--keep", two, "--lower", more.to_str().unwrap(), "--lower", lower, "--", "/bin/sh", "-c", ":"];
    assert!(scratch.try_(&lowers).status().unwrap().success());
    assert!(refused(&["--commit", two, "--yes"]).contains("over several lowers"));
}

fn walk(dir: &Path) -> Vec<String> {
    let output = Command::new("find").arg(dir).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect()
}
