//! What the options said, one by one and in any order, before it is known
//! whether they go together.
//!
//! Each method is one option of the table in `options`; the sentence it
//! returns completes "option NAME=VALUE: …".

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;
use unionfs::config::{IdRange, OverrideStat, Submounts, Verity};
use unionfs::fuse::{DataPath, Transport};

use crate::paths;
use crate::values::{directory, mapping, number, text, word};

/// Options as they were given. What was not given is `None` or empty, and
/// `request` decides on it.
#[derive(Debug)]
pub struct Draft {
    /// Read-only layers, topmost first.
    pub lowers: Vec<PathBuf>,
    /// Layers of file data.
    pub data_only: Vec<PathBuf>,
    /// Directories of the lowers that are left out.
    pub hidden: Vec<PathBuf>,
    /// What is done with mounts below the lowers.
    pub submounts: Submounts,
    /// The writable layer.
    pub upper: Option<PathBuf>,
    /// Its working directory.
    pub work: Option<PathBuf>,
    /// The word after `redirect_dir=`.
    pub redirect_dir: Option<Redirect>,
    /// `metacopy=`.
    pub metacopy: Option<bool>,
    /// `verity=`.
    pub verity: Verity,
    /// `index=`.
    pub index: Option<bool>,
    /// `xino=`.
    pub xino: Option<bool>,
    /// `volatile`, `fsync=0`.
    pub volatile: bool,
    /// `userxattr`.
    pub userxattr: bool,
    /// `uidmapping=`.
    pub uid_map: Vec<IdRange>,
    /// `gidmapping=`.
    pub gid_map: Vec<IdRange>,
    /// `squash_to_root`.
    pub squash_to_root: bool,
    /// `squash_to_uid=`.
    pub squash_uid: Option<u32>,
    /// `squash_to_gid=`.
    pub squash_gid: Option<u32>,
    /// `xattr_permissions=`.
    pub override_stat: OverrideStat,
    /// `static_nlink`.
    pub static_nlink: bool,
    /// Not `noacl`.
    pub acl: bool,
    /// `timeout=`.
    pub timeout: Option<Duration>,
    /// `threads=`, `threaded=0`.
    pub threads: Option<usize>,
    /// `transport=`.
    pub transport: Transport,
    /// `data=`.
    pub data: DataPath,
    /// `noxattrs=0`.
    pub xattrs: bool,
    /// `writeback=`.
    pub writeback: bool,
    /// `spin=`.
    pub spin: Option<Duration>,
    /// `dir_cache=`.
    pub dir_cache: Option<usize>,
    /// `debug`.
    pub foreground: bool,
    /// `remount`.
    pub remount: bool,
    /// `allow_other` or not, if either was said.
    pub allow_other: Option<bool>,
    /// `fsname=`.
    pub fsname: Option<OsString>,
    /// `subtype=`.
    pub subtype: Option<OsString>,
    /// `max_read=`.
    pub max_read: Option<u32>,
    /// `context=` and its like, by name.
    pub labels: Vec<(&'static str, OsString)>,
    /// Flags of mount(2) that were asked for.
    pub on: MountFlags,
    /// Flags of mount(2) whose absence was asked for.
    pub off: MountFlags,
}

/// The words of `redirect_dir=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Follow and create.
    On,
    /// Create none; following is left to the namespace.
    Off,
    /// Follow, create none.
    Follow,
    /// Neither.
    NoFollow,
}

type Set = Result<(), String>;

impl Default for Draft {
    fn default() -> Self {
        Draft {
            lowers: Vec::new(),
            data_only: Vec::new(),
            hidden: Vec::new(),
            submounts: Submounts::Hide,
            upper: None,
            work: None,
            redirect_dir: None,
            metacopy: None,
            verity: Verity::Off,
            index: None,
            xino: None,
            volatile: false,
            userxattr: false,
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            squash_to_root: false,
            squash_uid: None,
            squash_gid: None,
            override_stat: OverrideStat::Off,
            static_nlink: false,
            acl: true,
            timeout: None,
            threads: None,
            transport: Transport::Auto,
            data: DataPath::Auto,
            xattrs: true,
            writeback: false,
            spin: None,
            dir_cache: None,
            foreground: false,
            remount: false,
            allow_other: None,
            fsname: None,
            subtype: None,
            max_read: None,
            labels: Vec::new(),
            on: MountFlags::empty(),
            off: MountFlags::empty(),
        }
    }
}

/// Layers.
impl Draft {
    /// A later `lowerdir=` takes the place of an earlier one, as in the kernel.
    pub fn replace_lowers(&mut self, value: &[u8]) -> Set {
        let lowers = paths::split_lowers(value)?;
        (self.lowers, self.data_only) = (lowers.named, lowers.data_only);
        Ok(())
    }

    /// `lowerdir+=` goes below what is there.
    pub fn append_lower(&mut self, value: &[u8]) -> Set {
        self.lowers.push(directory(paths::unescape_one(value))?);
        Ok(())
    }

    /// `datadir+=`.
    pub fn append_data_only(&mut self, value: &[u8]) -> Set {
        self.data_only.push(directory(paths::unescape_one(value))?);
        Ok(())
    }

    /// `lowersfile=`: as `lowerdir+=` for each line of a file.
    pub fn append_lowers_of_file(&mut self, value: &[u8]) -> Set {
        let content =
            std::fs::read(paths::unescape(value)).map_err(|error| format!("cannot read it: {error}"))?;
        let lowers = paths::lines(&content);
        if lowers.is_empty() {
            return Err("the file names no directory".into());
        }
        self.lowers.extend(lowers);
        Ok(())
    }

    /// `upperdir=`.
    pub fn upper(&mut self, value: &[u8]) -> Set {
        self.upper = Some(directory(paths::unescape(value))?);
        Ok(())
    }

    /// `workdir=`.
    pub fn work(&mut self, value: &[u8]) -> Set {
        self.work = Some(directory(paths::unescape(value))?);
        Ok(())
    }

    /// `hide=`, repeatable.
    pub fn hide(&mut self, value: &[u8]) -> Set {
        self.hidden.push(directory(paths::unescape_one(value))?);
        Ok(())
    }

    /// `submounts=`.
    pub fn submounts(&mut self, value: &[u8]) -> Set {
        self.submounts = word(value, &[("hide", Submounts::Hide), ("cross", Submounts::Cross)])?;
        Ok(())
    }
}

/// Features.
impl Draft {
    /// `redirect_dir=`.
    pub fn redirect_dir(&mut self, value: &[u8]) -> Set {
        let words = [
            ("on", Redirect::On),
            ("off", Redirect::Off),
            ("follow", Redirect::Follow),
            ("nofollow", Redirect::NoFollow),
        ];
        self.redirect_dir = Some(word(value, &words)?);
        Ok(())
    }

    /// `metacopy=`.
    pub fn metacopy(&mut self, value: &[u8]) -> Set {
        self.metacopy = Some(word(value, &[("on", true), ("off", false)])?);
        Ok(())
    }

    /// `index=`.
    pub fn index(&mut self, value: &[u8]) -> Set {
        self.index = Some(word(value, &[("on", true), ("off", false)])?);
        Ok(())
    }

    /// `xino=`: automatic is on, where there are bits to spare.
    pub fn xino(&mut self, value: &[u8]) -> Set {
        self.xino = Some(word(value, &[("on", true), ("auto", true), ("off", false)])?);
        Ok(())
    }

    /// `nfs_export=`: only `off` can be had.
    pub fn nfs_export(&mut self, value: &[u8]) -> Set {
        match word(value, &[("on", true), ("off", false)])? {
            true => Err("a FUSE mount cannot be exported with stable handles".into()),
            false => Ok(()),
        }
    }

    /// `verity=`.
    pub fn verity(&mut self, value: &[u8]) -> Set {
        self.verity = word(value, &[("off", Verity::Off), ("on", Verity::On), ("require", Verity::Require)])?;
        Ok(())
    }

    /// `uuid=`: a FUSE mount has none of its own.
    pub fn uuid(&mut self, value: &[u8]) -> Set {
        match word(value, &[("auto", true), ("null", true), ("off", false), ("on", false)])? {
            true => Ok(()),
            false => Err("a FUSE mount has no uuid of its own; auto and null are accepted".into()),
        }
    }
}

/// Owners and modes.
impl Draft {
    /// `uidmapping=`.
    pub fn uid_mapping(&mut self, value: &[u8]) -> Set {
        self.uid_map = mapping(value)?;
        Ok(())
    }

    /// `gidmapping=`.
    pub fn gid_mapping(&mut self, value: &[u8]) -> Set {
        self.gid_map = mapping(value)?;
        Ok(())
    }

    /// `squash_to_uid=`.
    pub fn squash_to_uid(&mut self, value: &[u8]) -> Set {
        self.squash_uid = Some(number(value)?);
        Ok(())
    }

    /// `squash_to_gid=`.
    pub fn squash_to_gid(&mut self, value: &[u8]) -> Set {
        self.squash_gid = Some(number(value)?);
        Ok(())
    }

    /// `xattr_permissions=`.
    pub fn xattr_permissions(&mut self, value: &[u8]) -> Set {
        let words =
            [("0", OverrideStat::Off), ("1", OverrideStat::Fuseoverlayfs), ("2", OverrideStat::Containers)];
        self.override_stat = word(value, &words)?;
        Ok(())
    }
}

/// How requests are served, and the mount itself.
impl Draft {
    /// `threads=`.
    pub fn threads(&mut self, value: &[u8]) -> Set {
        match number(value)? {
            threads @ 1..=64 => self.threads = Some(threads as usize),
            _ => return Err("expected 1 to 64".into()),
        }
        Ok(())
    }

    /// `transport=`.
    pub fn transport(&mut self, value: &[u8]) -> Set {
        self.transport = word(
            value,
            &[
                ("auto", Transport::Auto),
                ("uring", Transport::Uring),
                ("dev", Transport::Device),
                ("fuser", Transport::Fuser),
            ],
        )?;
        Ok(())
    }

    /// `data=`.
    pub fn data(&mut self, value: &[u8]) -> Set {
        self.data = word(
            value,
            &[
                ("auto", DataPath::Auto),
                ("passthrough", DataPath::Passthrough),
                ("programs", DataPath::Programs),
                ("upper", DataPath::Upper),
                ("cached", DataPath::Cached),
                ("unopened", DataPath::Unopened),
            ],
        )?;
        Ok(())
    }

    /// fuse-overlayfs's `writeback=`.
    pub fn writeback(&mut self, value: &[u8]) -> Set {
        self.writeback = word(value, &[("0", false), ("1", true)])?;
        Ok(())
    }

    /// `spin=` in microseconds.
    pub fn spin(&mut self, value: &[u8]) -> Set {
        match number(value)? {
            micros @ 0..=1000 => self.spin = Some(Duration::from_micros(micros.into())),
            _ => return Err("expected 0 to 1000 microseconds".into()),
        }
        Ok(())
    }

    /// fuse-overlayfs's `threaded=`.
    pub fn threaded(&mut self, value: &[u8]) -> Set {
        self.threads = word(value, &[("1", None), ("0", Some(1))])?;
        Ok(())
    }

    /// `dir_cache=`.
    pub fn dir_cache(&mut self, value: &[u8]) -> Set {
        self.dir_cache = Some(usize::try_from(number(value)?).unwrap_or(usize::MAX));
        Ok(())
    }

    /// `timeout=` in seconds, with a fraction.
    pub fn timeout(&mut self, value: &[u8]) -> Set {
        let seconds: f64 = text(value)?.parse().map_err(|_| "expected seconds")?;
        // fuse-overlayfs's default of a milliard seconds stands for ever.
        self.timeout = match seconds >= 1e9 {
            true => Some(Duration::MAX),
            false => Some(Duration::try_from_secs_f64(seconds).map_err(|_| "expected seconds")?),
        };
        Ok(())
    }

    /// fuse-overlayfs's `fsync=`: no fsync is `volatile`.
    pub fn fsync(&mut self, value: &[u8]) -> Set {
        self.volatile = word(value, &[("1", false), ("0", true)])?;
        Ok(())
    }

    /// fuse-overlayfs's `noxattrs=`.
    pub fn noxattrs(&mut self, value: &[u8]) -> Set {
        self.xattrs = word(value, &[("1", false), ("0", true)])?;
        Ok(())
    }

    /// `fsname=`: what /proc/mounts shows as the source.
    pub fn fsname(&mut self, value: &[u8]) -> Set {
        self.fsname = Some(paths::unescape_one(value).into_os_string());
        Ok(())
    }

    /// `subtype=`: what /proc/mounts shows after `fuse.`.
    pub fn subtype(&mut self, value: &[u8]) -> Set {
        match value.is_empty() || value.contains(&b',') {
            true => Err("expected a word".into()),
            false => {
                self.subtype = Some(OsStr::from_bytes(value).to_owned());
                Ok(())
            }
        }
    }

    /// `max_read=`: the largest read request, in bytes.
    pub fn max_read(&mut self, value: &[u8]) -> Set {
        self.max_read = Some(number(value)?);
        Ok(())
    }

    /// `context=`.
    pub fn context(&mut self, value: &[u8]) -> Set {
        self.label("context", value)
    }

    /// `fscontext=`.
    pub fn fscontext(&mut self, value: &[u8]) -> Set {
        self.label("fscontext", value)
    }

    /// `defcontext=`.
    pub fn defcontext(&mut self, value: &[u8]) -> Set {
        self.label("defcontext", value)
    }

    /// `rootcontext=`.
    pub fn rootcontext(&mut self, value: &[u8]) -> Set {
        self.label("rootcontext", value)
    }

    fn label(&mut self, name: &'static str, value: &[u8]) -> Set {
        let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
        self.labels.push((name, OsString::from_vec(bare.to_vec())));
        Ok(())
    }

    /// A flag that was asked for.
    pub fn flag_on(&mut self, flag: MountFlags) {
        self.on.insert(flag);
        self.off.remove(flag);
    }

    /// A flag whose absence was asked for.
    pub fn flag_off(&mut self, flag: MountFlags) {
        self.off.insert(flag);
        self.on.remove(flag);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn timeouts() {
        let mut draft = Draft::default();
        for (value, want) in
            [("0", Duration::ZERO), ("1.5", Duration::from_millis(1500)), ("1e10", Duration::MAX)]
        {
            draft.timeout(value.as_bytes()).unwrap();
            assert_eq!(draft.timeout, Some(want));
        }
        for bad in ["", "-1", "x", "nan"] {
            assert!(draft.timeout(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_word_on_a_flag_wins() {
        let mut draft = Draft::default();
        draft.flag_on(MountFlags::RDONLY);
        draft.flag_off(MountFlags::RDONLY);
        assert_eq!((draft.on, draft.off), (MountFlags::empty(), MountFlags::RDONLY));
    }

    #[test]
    fn lowers_are_replaced_and_appended() {
        let mut draft = Draft::default();
        draft.replace_lowers(b"/a:/b").unwrap();
        draft.replace_lowers(b"/c").unwrap();
        draft.append_lower(b"/d\\,e:f").unwrap();
        assert_eq!(draft.lowers, [Path::new("/c"), Path::new("/d,e:f")]);
        assert!(draft.append_lower(b"").is_err() && draft.upper(b"").is_err());
    }
}
