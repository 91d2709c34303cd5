//! Debian packages of the runner's own making.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::remove_if_there;
use crate::errors::run;

/// Files in a package.
const FILES: usize = 50;

/// A directory of `count` packages, made if it is not there.
pub fn make(dir: &Path, count: usize) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let part = dir.with_extension("part");
    remove_if_there(&part)?;
    let tree = part.join("tree");
    for package in 0..count {
        let content = tree.join(format!("usr/share/bench-{package}"));
        fs::create_dir_all(&content)?;
        fs::create_dir_all(tree.join("DEBIAN"))?;
        let control = format!(
            "Package: bench-{package}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: files\n"
        );
        fs::write(tree.join("DEBIAN/control"), control)?;
        for file in 0..FILES {
            fs::write(content.join(format!("file-{file}")), format!("{package}/{file}\n").repeat(300))?;
        }
        run(Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Znone", "--build"])
            .arg(&tree)
            .arg(part.join(format!("{package}.deb"))))?;
        fs::remove_dir_all(&tree)?;
    }
    fs::rename(&part, dir)
}
