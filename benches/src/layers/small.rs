//! Trees of many files.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::Layers;
use crate::errors::{at, run};

/// Files in a directory of the trees of small files.
pub const PER_DIRECTORY: usize = 100;

/// The path of a small file in its tree.
pub fn path_of(number: usize) -> String {
    format!("tree/dir-{:03}/file-{:02}", number / PER_DIRECTORY, number % PER_DIRECTORY)
}

/// Small files of 0.5 to 8 KB, each directory merged from all layers.
pub fn files(layers: &Layers, count: usize) -> io::Result<()> {
    let content: Vec<u8> = (0..8192_u32).map(|i| b'a' + (i * i % 26) as u8).collect();
    for dir in 0..count.div_ceil(PER_DIRECTORY) {
        for home in layers.all() {
            fs::create_dir_all(home.join(format!("tree/dir-{dir:03}")))?;
        }
    }
    for number in 0..count {
        let length = 512 + number * 7919 % 7680;
        for home in layers.homes(number) {
            fs::write(home.join(path_of(number)), &content[..length])?;
        }
    }
    Ok(())
}

/// One directory of small files.
pub fn names(layers: &Layers, count: usize) -> io::Result<()> {
    for home in layers.all() {
        fs::create_dir_all(home.join("flat"))?;
    }
    for number in 0..count {
        for home in layers.homes(number) {
            fs::write(home.join(format!("flat/name-{number:05}")), "content\n")?;
        }
    }
    Ok(())
}

/// Empty files, a thousand a directory; each directory in one layer only, and
/// none whole: the bare directory has no daemon whose memory would be measured.
pub fn many(layers: &Layers, count: usize) -> io::Result<()> {
    for number in 0..count {
        let dir = format!("many/dir-{:04}", number / 1000);
        for home in layers.homes(number / 1000).skip(1) {
            if number % 1000 == 0 {
                fs::create_dir_all(home.join(&dir))?;
            }
            let path = home.join(format!("{dir}/{number:07}"));
            fs::File::create(&path).map_err(|e| at(&path, e))?;
        }
    }
    Ok(())
}

/// An archive of the small files, made if it is not there.
pub fn archive(layers: &Layers, path: &Path) -> io::Result<()> {
    if path.is_file() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let part = path.with_extension("part");
    run(Command::new("tar").arg("-cf").arg(&part).arg("-C").arg(&layers.whole).arg("tree"))?;
    fs::rename(&part, path)
}
