//! A git repository as a tree.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use rustix::fs::FileType;

use super::Layers;
use crate::errors::run;
use crate::walk;

/// `repository/`, with so many files under version control, all committed.
pub fn repository(layers: &Layers, files: usize) -> io::Result<()> {
    let work = layers.whole.join("repository");
    for number in 0..files {
        let dir = work.join(format!("part-{:02}/module-{:02}", number % 10, number / 10 % 20));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(format!("file-{number}.txt")), format!("line {number}\n").repeat(40))?;
    }
    for arguments in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "all files"]] {
        run(git(&work).args(arguments))?;
    }
    for (number, (path, kind)) in walk::paths(&layers.whole)?.iter().enumerate() {
        if *kind == FileType::Directory {
            for lower in &layers.lowers {
                fs::create_dir_all(lower.join(path))?;
            }
        } else if let Some(lower) = layers.lowers.get(number % layers.lowers.len()) {
            fs::copy(layers.whole.join(path), lower.join(path))?;
        }
    }
    Ok(())
}

/// git in a directory, deaf to the configuration of whoever measures.
pub fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(dir).env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "benches").env(format!("GIT_{who}_EMAIL"), "benches@localhost");
    }
    git.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    git
}
