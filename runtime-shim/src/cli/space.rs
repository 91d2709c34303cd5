//! How much files take.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of all files below a directory, each once however many names it has.
/// What cannot be looked at counts nothing: it may be another user's of the
/// container's own.
pub fn of(dir: &Path) -> u64 {
    sum(dir, &|stat| stat.size())
}

/// The same in what they take of the disk.
pub fn on_disk(dir: &Path) -> u64 {
    sum(dir, &|stat| stat.blocks() * 512)
}

fn sum(dir: &Path, size: &dyn Fn(&Metadata) -> u64) -> u64 {
    let (mut bytes, mut todo, mut seen) = (0, vec![dir.to_owned()], HashSet::new());
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(stat) if stat.is_dir() => todo.push(entry.path()),
                Ok(stat) if stat.nlink() == 1 || seen.insert((stat.dev(), stat.ino())) => {
                    bytes += size(&stat);
                }
                Ok(_counted) => {}
                Err(_unreadable) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_file_counts_once() {
        let dir = std::env::temp_dir().join(format!("runion-space-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("deep")).unwrap();
        std::fs::write(dir.join("one"), [0; 1000]).unwrap();
        std::fs::hard_link(dir.join("one"), dir.join("deep/same")).unwrap();
        std::fs::write(dir.join("deep/other"), [0; 10]).unwrap();
        assert_eq!(super::of(&dir), 1010);
        assert!(super::on_disk(&dir) >= 1010);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(super::of(&dir), 0);
    }
}
