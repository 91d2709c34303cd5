//! Random cases: layers to start from and a program to run on them.
//!
//! The alphabet is tiny, the paths shallow, and a path used lately is likely to
//! be used again, so that operations meet. Everything a seed gives is fixed.

use super::op::{
    Action, At, Caller, Case, Layer, Made, NAMES, Octal, Op, OpenFlags, SLOTS, Step, Time, Trailing,
    XattrValue,
};
use super::rng::Rng;

/// How often both whole trees are compared, in operations.
const COMPARE_EVERY: usize = 60;
/// How often both are unmounted, in operations.
const REMOUNT_EVERY: usize = 400;

/// The attribute names programs use. The trusted mount's own marks are among
/// them: through a mount they must be escaped.
const XATTRS: [&str; 9] = [
    "user.overlay.opaque",
    "user.x",
    "user.y",
    "trusted.t",
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "trusted.overlay.opaque",
    "trusted.overlay.redirect",
];

const MODES: [u32; 12] =
    [0o644, 0o755, 0o600, 0o700, 0o777, 0o000, 0o555, 0o444, 0o4755, 0o2755, 0o1777, 0o2775];
const IDS: [u32; 4] = [0, 1000, 1001, 2000];
const LENGTHS: [u32; 8] = [0, 1, 10, 100, 4095, 4096, 5000, 9000];
const OFFSETS: [u32; 8] = [0, 0, 1, 50, 4096, 8192, 12_288, 70_000];
const TARGETS: [&str; 6] = ["a", "../b", "a/b", "nowhere", "c/", "."];

/// Makes the case of `seed`, with so many operations.
pub fn case(seed: u64, length: usize) -> Case {
    let mut generator = Generator { rng: Rng::new(seed), recent: Vec::new() };
    let layers = (0..1 + generator.rng.below(4)).map(|n| generator.layer(n as usize)).collect();
    generator.recent.clear();
    let mut ops = Vec::with_capacity(length + length / COMPARE_EVERY + 4);
    for number in 1..=length {
        ops.push(generator.op());
        if number % REMOUNT_EVERY == 0 {
            ops.push(plain(if generator.rng.chance(50) { Action::Remount } else { Action::Swap }));
        } else if number % COMPARE_EVERY == 0 {
            ops.push(plain(Action::Compare));
        }
    }
    ops.extend([Action::Compare, Action::Remount, Action::Swap].map(plain));
    Case { seed, layers, ops }
}

/// An action by root with the usual umask.
pub fn plain(action: Action) -> Op {
    Op { caller: Caller { uid: 0, umask: Octal(0o22) }, action }
}

struct Generator {
    rng: Rng,
    recent: Vec<Vec<u8>>,
}

impl Generator {
    fn layer(&mut self, number: usize) -> Layer {
        let made = if number > 0 && self.rng.chance(50) { Made::ThroughOverlay } else { Made::Bare };
        let mut steps = Vec::new();
        // Directories first: without them the rest finds no place.
        for _ in 0..self.rng.below(8) {
            steps.push(Step::Do(Action::Mkdir { path: self.below_root(2), mode: self.mode() }));
        }
        for _ in 0..10 + self.rng.below(30) {
            steps.push(match made {
                Made::Bare => self.bare_step(number),
                Made::ThroughOverlay => Step::Do(self.change()),
            });
        }
        Layer { made, steps }
    }

    fn bare_step(&mut self, number: usize) -> Step {
        let path = self.below_root(3);
        match self.rng.below(100) {
            0..8 if number > 0 => Step::Whiteout(path),
            8..11 if number > 0 => Step::XattrWhiteout(path),
            11..15 => Step::OpaqueDir(path),
            _ => Step::Do(self.change()),
        }
    }

    fn op(&mut self) -> Op {
        let mut uid = self.rng.pick(&[0, 0, 0, 0, 0, 0, 1000, 1001]);
        let umask = Octal(self.rng.pick(&[0o22, 0o22, 0o22, 0o22, 0, 0o27, 0o77]));
        let action = match self.rng.below(100) {
            0..38 => self.change(),
            38..66 => self.question(),
            66..78 => self.open(),
            _ => self.on_descriptor(),
        };
        let sets_acl = matches!(
            &action,
            Action::Setxattr { name, .. } | Action::Fsetxattr { name, .. } if *name == "system.posix_acl_access"
        );
        if sets_acl {
            uid = 0; // See `deviations`.
        }
        Op { caller: Caller { uid, umask }, action }
    }

    fn below_root(&mut self, deepest: u32) -> At {
        let depth = 1 + [0, 0, 0, 1, 1, 2][self.rng.below(6) as usize].min(deepest - 1);
        At::root((0..depth).map(|_| self.rng.below(NAMES.len() as u32) as u8).collect())
    }

    /// A path: lately used, beside or below one lately used, or any.
    fn path(&mut self) -> At {
        let mut names = if !self.recent.is_empty() && self.rng.chance(55) {
            self.recent[self.rng.below(self.recent.len() as u32) as usize].clone()
        } else {
            self.below_root(3).names
        };
        if self.rng.chance(25) {
            names.pop();
            names.push(self.rng.below(NAMES.len() as u32) as u8);
        } else if self.rng.chance(12) && names.len() < 4 {
            names.push(self.rng.below(NAMES.len() as u32) as u8);
        } else if self.rng.chance(2) {
            names.clear();
        }
        if self.recent.len() < 6 {
            self.recent.push(names.clone());
        } else {
            let slot = self.rng.below(6) as usize;
            self.recent[slot] = names.clone();
        }
        let trailing = if self.rng.chance(2) { Trailing::Slash } else { Trailing::Name };
        if self.rng.chance(3) {
            names.truncate(1);
            return At { base: Some(self.slot()), names, trailing };
        }
        At { base: None, names, trailing }
    }

    fn slot(&mut self) -> usize {
        self.rng.below(SLOTS as u32) as usize
    }

    fn mode(&mut self) -> Octal {
        Octal(self.rng.pick(&MODES))
    }

    fn len(&mut self) -> u32 {
        self.rng.pick(&LENGTHS)
    }

    fn offset(&mut self) -> u32 {
        self.rng.pick(&OFFSETS)
    }

    fn fill(&mut self) -> u8 {
        1 + self.rng.below(200) as u8
    }

    /// Owner and group for chown: one of them may be left, but not both.
    fn owner(&mut self) -> (u32, u32) {
        let (uid, gid) = (self.rng.pick(&IDS), self.rng.pick(&IDS));
        self.rng.pick(&[(uid, gid), (uid, u32::MAX), (u32::MAX, gid)])
    }

    fn time(&mut self) -> Time {
        match self.rng.below(5) {
            0 => Time::Now,
            1 => Time::Omit,
            2 => Time::At(0, 0),
            3 => Time::At(1_000_000_005, 123_456_789),
            _ => Time::At(2_000_000_000, 999_999_999),
        }
    }

    fn xattr(&mut self) -> (&'static str, XattrValue) {
        let name = self.rng.pick(&XATTRS);
        let letter = XattrValue::Letter(self.rng.pick(b"yxn"));
        let permissions = self.rng.below(8) as u16;
        let value = match name {
            "security.capability" => XattrValue::Capability,
            _ if name.starts_with("system.posix_acl") && self.rng.chance(30) => {
                XattrValue::MinimalAcl(permissions)
            }
            _ if name.starts_with("system.posix_acl") => XattrValue::Acl(permissions),
            _ if name.contains("overlay") => letter,
            _ => XattrValue::Bytes(self.rng.pick(&[0, 1, 20, 300])),
        };
        (name, value)
    }

    fn change(&mut self) -> Action {
        let path = self.path();
        match self.rng.below(100) {
            0..14 => Action::Open {
                slot: self.slot(),
                path,
                flags: OpenFlags(
                    libc::O_CREAT | libc::O_RDWR | self.rng.pick(&[0, libc::O_EXCL, libc::O_TRUNC]),
                ),
                mode: self.mode(),
            },
            14..19 => Action::Truncate { path, len: self.len() },
            19..22 => Action::MmapWrite { path, offset: self.offset(), fill: self.fill() },
            22..33 => Action::Mkdir { path, mode: self.mode() },
            33..37 => self.mknod(path),
            37..42 => Action::Symlink { target: self.rng.pick(&TARGETS), path },
            42..49 => Action::Link {
                from: path,
                to: self.path(),
                flags: self.rng.pick(&[0, 0, 0, libc::AT_SYMLINK_FOLLOW]),
            },
            49..57 => Action::Unlink { path },
            57..63 => Action::Rmdir { path },
            63..79 => self.rename(path),
            79..84 => Action::Chmod { path, mode: self.mode() },
            84..88 => {
                let (uid, gid) = self.owner();
                Action::Chown { path, uid, gid }
            }
            88..92 => Action::Utimens { path, atime: self.time(), mtime: self.time() },
            92..98 => {
                let (name, value) = self.xattr();
                let flags = self.rng.pick(&[0, 0, 0, libc::XATTR_CREATE as u32, libc::XATTR_REPLACE as u32]);
                Action::Setxattr { path, name, value, flags }
            }
            _ => Action::Removexattr { path, name: self.rng.pick(&XATTRS) },
        }
    }

    fn mknod(&mut self, path: At) -> Action {
        let (kind, dev) = self.rng.pick(&[
            (libc::S_IFIFO, 0),
            (libc::S_IFSOCK, 0),
            (libc::S_IFCHR, 0x103),
            (libc::S_IFBLK, 0x6301),
            (libc::S_IFCHR, 0),
            (libc::S_IFREG, 0),
        ]);
        Action::Mknod { path, mode: Octal(kind | self.rng.pick(&MODES)), dev }
    }

    fn rename(&mut self, from: At) -> Action {
        let flags = match self.rng.below(10) {
            0..6 => 0,
            6..8 => libc::RENAME_EXCHANGE,
            8 => libc::RENAME_NOREPLACE,
            _ => self.rng.pick(&[libc::RENAME_WHITEOUT, libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE]),
        };
        Action::Rename { from, to: self.path(), flags }
    }

    fn question(&mut self) -> Action {
        let path = self.path();
        match self.rng.below(100) {
            0..30 => Action::Lstat { path },
            30..40 => Action::Stat { path },
            40..45 => Action::Readlink { path },
            45..58 => Action::Readdir { path },
            58..70 => Action::ReaddirStat { path },
            70..73 => Action::Statfs { path },
            73..81 => Action::Access { path, mode: self.rng.below(8) },
            81..87 => Action::Getxattr { path, name: self.rng.pick(&XATTRS) },
            87..92 => Action::Listxattr { path },
            _ => Action::MmapRead { path },
        }
    }

    fn open(&mut self) -> Action {
        let mut flags =
            self.rng.pick(&[libc::O_RDONLY, libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR]);
        let extras = [
            (libc::O_CREAT, 30),
            (libc::O_EXCL, 8),
            (libc::O_TRUNC, 12),
            (libc::O_APPEND, 12),
            (libc::O_NOFOLLOW, 12),
            (libc::O_DIRECTORY, 12),
            (libc::O_PATH, 8),
            (libc::O_DSYNC, 3),
            (libc::O_NOATIME, 3),
        ];
        for (flag, percent) in extras {
            if self.rng.chance(percent) {
                flags |= flag;
            }
        }
        Action::Open { slot: self.slot(), path: self.path(), flags: OpenFlags(flags), mode: self.mode() }
    }

    fn on_descriptor(&mut self) -> Action {
        let slot = self.slot();
        match self.rng.below(100) {
            0..10 => Action::Read { slot, len: self.len() },
            10..20 => Action::Pread { slot, len: 9000, offset: self.offset() },
            20..32 => Action::Write { slot, len: self.len(), fill: self.fill() },
            32..42 => Action::Pwrite { slot, len: self.len(), offset: self.offset(), fill: self.fill() },
            42..47 => Action::Seek { slot, whence: self.rng.below(5) as i32, offset: self.offset() },
            47..52 => Action::Ftruncate { slot, len: self.len() },
            52..55 => self.fallocate(slot),
            55..59 => Action::CopyRange {
                from: slot,
                to: self.slot(),
                from_offset: self.offset(),
                to_offset: self.offset(),
                len: self.len(),
            },
            59..70 => Action::Fstat { slot },
            70..73 => Action::Fchmod { slot, mode: self.mode() },
            73..76 => {
                let (uid, gid) = self.owner();
                Action::Fchown { slot, uid, gid }
            }
            76..78 => Action::Futimens { slot, atime: self.time(), mtime: self.time() },
            78..79 => Action::Fsync { slot },
            79..82 => {
                let (name, value) = self.xattr();
                Action::Fsetxattr { slot, name, value, flags: 0 }
            }
            82..84 => Action::Fgetxattr { slot, name: self.rng.pick(&XATTRS) },
            84..89 => Action::FdReaddir { slot },
            89..91 => Action::Flock {
                slot,
                operation: self.rng.pick(&[libc::LOCK_SH, libc::LOCK_EX, libc::LOCK_UN]),
            },
            91..94 => Action::OfdLock {
                slot,
                kind: self.rng.pick(&[libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK]),
                start: self.offset(),
                len: self.len(),
            },
            94..97 => Action::LinkFd { slot, to: self.path() },
            _ => Action::Close { slot },
        }
    }

    fn fallocate(&mut self, slot: usize) -> Action {
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        let modes = [
            0,
            keep,
            keep | libc::FALLOC_FL_PUNCH_HOLE,
            libc::FALLOC_FL_ZERO_RANGE,
            libc::FALLOC_FL_PUNCH_HOLE,
        ];
        Action::Fallocate { slot, mode: self.rng.pick(&modes) as u32, offset: self.offset(), len: self.len() }
    }
}
