//! A file's digest, computed as fs-verity does: as a tree of 4096-byte blocks
//! (Linux, Documentation/filesystems/fsverity.rst).

use sha2::{Digest as _, Sha256};

use super::Digest;

const BLOCK: usize = 4096;
const HASHES_IN_A_BLOCK: usize = BLOCK / 32;

/// Computes a digest as contents go by; its memory does not depend on how many
/// there are.
pub struct Hash {
    block: Vec<u8>,
    /// Finished hashes that wait for their block to fill, by level of the tree.
    levels: Vec<Vec<[u8; 32]>>,
    len: u64,
}

impl Hash {
    /// Of nothing yet.
    pub fn new() -> Hash {
        Hash { block: Vec::with_capacity(BLOCK), levels: Vec::new(), len: 0 }
    }

    /// More contents.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.block.is_empty() && bytes.len() >= BLOCK {
                let (whole, rest) = bytes.split_at(BLOCK);
                self.push(0, Sha256::digest(whole).into());
                bytes = rest;
                continue;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == BLOCK {
                let hash = Sha256::digest(&self.block).into();
                self.block.clear();
                self.push(0, hash);
            }
        }
    }

    /// So many zeros more, as a hole has them: a block costs its share of the
    /// tree above it, not a hash of its own.
    pub fn update_zeros(&mut self, mut len: u64) {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        let head = len.min(((BLOCK - self.block.len()) % BLOCK) as u64);
        self.update(&ZEROS[..head as usize]);
        len -= head;
        if len >= BLOCK as u64 {
            let hash: [u8; 32] = Sha256::digest(ZEROS).into();
            let blocks = len / BLOCK as u64;
            (0..blocks).for_each(|_| self.push(0, hash));
            self.len += blocks * BLOCK as u64;
            len -= blocks * BLOCK as u64;
        }
        self.update(&ZEROS[..len as usize]);
    }

    fn push(&mut self, level: usize, hash: [u8; 32]) {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        let Some(waiting) = self.levels.get_mut(level) else { return };
        waiting.push(hash);
        if waiting.len() == HASHES_IN_A_BLOCK {
            let above = hash_block(waiting.as_flattened());
            waiting.clear();
            self.push(level + 1, above);
        }
    }

    /// The digest of all that went by.
    pub fn finish(mut self) -> Digest {
        if !self.block.is_empty() {
            let last = hash_block(&self.block);
            self.push(0, last);
        }
        // The root is the only hash of its level, and no level is above it.
        let mut level = 0;
        let root = loop {
            let is_top = self.levels.len() <= level + 1;
            let Some(waiting) = self.levels.get_mut(level) else { break [0; 32] };
            match (is_top, &waiting[..]) {
                (true, [root]) => break *root,
                (_, []) => {}
                (_, hashes) => {
                    let above = hash_block(hashes.as_flattened());
                    waiting.clear();
                    self.push(level + 1, above);
                }
            }
            level += 1;
        };
        Sha256::digest(descriptor(root, self.len)).into()
    }
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

/// The hash of a block that zeros fill up.
fn hash_block(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.update(&[0; BLOCK][bytes.len().min(BLOCK)..]);
    hash.finalize().into()
}

/// `struct fsverity_descriptor`: version 1, SHA-256, blocks of 2^12 bytes.
fn descriptor(root: [u8; 32], len: u64) -> [u8; 256] {
    let mut bytes = [0; 256];
    bytes[..3].copy_from_slice(&[1, 1, 12]);
    bytes[8..16].copy_from_slice(&len.to_le_bytes());
    bytes[16..48].copy_from_slice(&root);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(contents: &[u8]) -> Digest {
        let mut hash = Hash::new();
        hash.update(contents);
        hash.finish()
    }

    fn hex(digest: &Digest) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Digests that `fsverity digest` gives.
    #[test]
    fn known_digests() {
        let known = [
            (0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"),
            (1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"),
            (4096, "babc284ee4ffe7f449377fbf6692715b43aec7bc39c094a95878904d34bac97e"),
            (4097, "093756e4ea9683329106d4a16982682ed182c14bf076463a9e7f97305cbac743"),
            (524288, "2d15bd7832895de85aa3d5bdfb57251e27bbec75ff467408340ab3eba858a2e1"),
            (524289, "e4143a5705610b7ad2eb85482cfc033c7062a89b9faf9118603f592d53fd10e0"),
        ];
        for (len, digest) in known {
            assert_eq!(hex(&of(&vec![0; len])), digest, "{len} zeros");
        }
    }

    #[test]
    fn pieces_do_not_matter() {
        let contents: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 7) as u8).collect();
        for len in [1, 4095, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 256 * 4096, contents.len()] {
            let contents = &contents[..len];
            let mut hash = Hash::new();
            contents.chunks(1000).for_each(|piece| hash.update(piece));
            assert_eq!(hash.finish(), of(contents), "{len} bytes");
        }
    }

    #[test]
    fn holes_are_zeros() {
        for (data, hole, rest) in
            [(0, 0, 0), (0, 1, 0), (10, 4096, 3), (4096, 600_000, 1), (5, 4091, 0), (1, 2, 3)]
        {
            let mut hash = Hash::new();
            hash.update(&vec![7; data]);
            hash.update_zeros(hole as u64);
            hash.update(&vec![9; rest]);
            let mut contents = vec![7; data];
            contents.resize(data + hole, 0);
            contents.resize(data + hole + rest, 9);
            assert_eq!(hash.finish(), of(&contents), "{data}, {hole}, {rest}");
        }
    }
}
