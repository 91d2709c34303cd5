//! Trees of a few files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::Layers;
use crate::errors::at;

/// Four directories, merged from all layers, with a file of each layer.
pub fn directories(layers: &Layers) -> io::Result<()> {
    for (number, _) in layers.lowers.iter().enumerate() {
        for name in ["a", "b", "c", "d"] {
            for home in layers.homes(number) {
                let dir = home.join(name);
                fs::create_dir_all(&dir)?;
                fs::write(dir.join(format!("of-layer-{number}")), "content\n")?;
            }
        }
    }
    Ok(())
}

/// One file of so many bytes, none of them a hole, in the lowest layer.
pub fn file(layers: &Layers, name: &str, bytes: u64) -> io::Result<()> {
    for home in layers.homes(layers.lowers.len() - 1) {
        write(&home.join(name), bytes)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: u64) -> io::Result<()> {
    let block: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut file = File::create(path).map_err(|e| at(path, e))?;
    let mut left = bytes;
    while left > 0 {
        let length = left.min(block.len() as u64);
        file.write_all(&block[..length as usize])?;
        left -= length;
    }
    file.sync_all()
}
