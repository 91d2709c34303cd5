//! The words after `options` of a mount, as mount(8) and the runtime
//! specification have them.

use crate::failure::{Failure, Result};

/// Attributes of mounts (linux/mount.h).
pub mod attribute {
    /// Nothing can be changed.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits are void.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes are void.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The bits in which one way of keeping access times is said; all zero is
    /// `relatime`.
    pub const ATIME: u64 = 0x70;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// They are kept always.
    pub const STRICTATIME: u64 = 0x20;
    /// They are not kept of directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// How far a word goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The mount alone.
    One,
    /// All that is mounted below it, too.
    All,
}

/// Attributes to be set and cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// To be set.
    pub set: u64,
    /// To be cleared.
    pub clear: u64,
}

/// How mounts and unmounts reach other mounts: a bit of mount(2)'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_SHARED` and so on.
    pub kind: u64,
    /// Of which mounts.
    pub depth: Depth,
}

/// What a list of words means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// It is a bind mount, of this depth.
    pub bind: Option<Depth>,
    /// Of the mount.
    pub attributes: Change,
    /// Of it and all below it.
    pub below: Change,
    /// In order.
    pub propagation: Vec<Propagation>,
    /// Owners are mapped.
    pub idmap: Option<Depth>,
    /// A tmpfs begins with what it covers.
    pub copy_up: bool,
    /// For the file system itself.
    pub data: Vec<String>,
}

impl Change {
    fn set(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn clear(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    /// Whether nothing changes.
    pub fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

impl Options {
    /// Reads the words.
    pub fn parse(words: &[String]) -> Result<Options> {
        let mut options = Options::default();
        for word in words {
            options.read(word)?;
        }
        Ok(options)
    }

    fn read(&mut self, word: &str) -> Result<()> {
        if let Some(propagation) = Propagation::parse(word) {
            self.propagation.push(propagation);
            return Ok(());
        }
        if read_attribute(word, &mut self.attributes) {
            return Ok(());
        }
        if word.strip_prefix('r').is_some_and(|word| read_attribute(word, &mut self.below)) {
            return Ok(());
        }
        match word {
            "bind" => self.bind = self.bind.or(Some(Depth::One)),
            "rbind" => self.bind = Some(Depth::All),
            "idmap" => self.idmap = Some(Depth::One),
            "ridmap" => self.idmap = Some(Depth::All),
            "tmpcopyup" => self.copy_up = true,
            // What is so anyway, or is about mount(8)'s own doings.
            "" | "defaults" | "auto" | "noauto" | "silent" | "loud" | "nouser" | "_netdev" => {}
            "remount" | "move" => {
                return Err(Failure::new(format!("the mount option {word:?} means nothing here")));
            }
            data => self.data.push(data.to_owned()),
        }
        Ok(())
    }
}

impl Propagation {
    /// One of eight words.
    pub fn parse(word: &str) -> Option<Propagation> {
        let (kind, depth) = match word.strip_prefix('r') {
            Some(kind) => (kind, Depth::All),
            None => (word, Depth::One),
        };
        let kind = match kind {
            "shared" => libc::MS_SHARED,
            "slave" => libc::MS_SLAVE,
            "private" => libc::MS_PRIVATE,
            "unbindable" => libc::MS_UNBINDABLE,
            _ => return None,
        };
        Some(Propagation { kind, depth })
    }
}

fn read_attribute(word: &str, change: &mut Change) -> bool {
    use attribute::*;
    match word {
        "ro" => change.set(RDONLY),
        "rw" => change.clear(RDONLY),
        "nosuid" => change.set(NOSUID),
        "suid" => change.clear(NOSUID),
        "nodev" => change.set(NODEV),
        "dev" => change.clear(NODEV),
        "noexec" => change.set(NOEXEC),
        "exec" => change.clear(NOEXEC),
        "nosymfollow" => change.set(NOSYMFOLLOW),
        "symfollow" => change.clear(NOSYMFOLLOW),
        "nodiratime" => change.set(NODIRATIME),
        "diratime" => change.clear(NODIRATIME),
        // One of several: setting takes that the others are cleared.
        "noatime" | "strictatime" | "relatime" => {
            change.clear |= ATIME;
            change.set &= !ATIME;
            change.set |= match word {
                "noatime" => NOATIME,
                "strictatime" => STRICTATIME,
                _ => 0,
            };
        }
        "atime" | "norelatime" | "nostrictatime" => {
            change.clear |= ATIME;
            change.set &= !ATIME;
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn later_words_count_and_an_r_reaches_below() {
        let options = parse(&["bind", "rbind", "ro", "rw", "nosuid", "rro", "rprivate", "size=4k"]);
        assert_eq!(options.bind, Some(Depth::All));
        assert_eq!(options.attributes, Change { set: attribute::NOSUID, clear: attribute::RDONLY });
        assert_eq!(options.below, Change { set: attribute::RDONLY, clear: 0 });
        assert_eq!(options.propagation, [Propagation { kind: libc::MS_PRIVATE, depth: Depth::All }]);
        assert_eq!(options.data, ["size=4k"]);
        // `relatime` is a word of its own, not an r before another.
        assert_eq!(parse(&["noatime", "relatime"]).attributes.set, 0);
        assert!(Options::parse(&["remount".to_owned()]).is_err());
    }
}
