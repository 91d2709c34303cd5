//! What families of images take on disk.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::corpus::Family;
use super::scene::{Scene, figure, sync};
use crate::figure::{Figure, Unit};
use crate::walk;

/// Bytes of files, each once however many names it has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Blocks of the disk, those of directories among them.
    pub allocated: f64,
    /// Lengths of regular files.
    pub apparent: f64,
}

impl std::ops::Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage { allocated: self.allocated + other.allocated, apparent: self.apparent + other.apparent }
    }
}

/// What a directory takes.
///
/// # Errors
/// Those of reading it.
pub fn usage(dir: &Path) -> io::Result<Usage> {
    let mut seen = HashSet::new();
    let mut sum = Usage::default();
    for path in std::iter::once(PathBuf::new()).chain(walk::paths(dir)?.into_iter().map(|(path, _)| path)) {
        let metadata = dir.join(path).symlink_metadata()?;
        if seen.insert((metadata.dev(), metadata.ino())) {
            sum.allocated += metadata.blocks() as f64 * 512.0;
            sum.apparent += if metadata.is_file() { metadata.len() as f64 } else { 0.0 };
        }
    }
    Ok(sum)
}

/// In the order in which they come, and what there is then.
const FAMILIES: [(Family, &str); 3] =
    [(Family::A, "family A"), (Family::B, "families A and B"), (Family::C, "A, B and a rebuild of A")];

/// The families, one after the other in one fresh store.
///
/// # Errors
/// What the program says.
pub fn measure(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut tell = |name: &str, usage: Usage| {
        figures.push(figure(&format!("{name}: on disk"), Unit::Bytes, usage.allocated));
        figures.push(figure(&format!("{name}: lengths of files"), Unit::Bytes, usage.apparent));
    };
    if client == Client::Layers {
        let of = |family| {
            let dirs = scene.corpus.directories(family);
            dirs.iter().try_fold(Usage::default(), |sum, dir| Ok::<_, io::Error>(sum + usage(dir)?))
        };
        let mut sum = Usage::default();
        for (family, shown) in FAMILIES {
            sum = sum + of(family)?;
            tell(shown, sum);
        }
        return Ok(figures);
    }
    let store = scene.fresh(client)?;
    for (family, shown) in FAMILIES {
        for name in scene.corpus.names(family) {
            store.load(&scene.corpus.archive_of(&name), &[&name])?;
        }
        // Delayed allocation counts no blocks until then.
        sync(&scene.scratch)?;
        tell(shown, usage(&store.root())?);
    }
    store.remove()?;
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_two_names_counts_once() {
        let dir = std::env::temp_dir().join(format!("benches-disk-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("a"), vec![1; 5000]).unwrap();
        std::fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
        let usage = usage(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(usage.apparent, 5000.0);
    }
}
