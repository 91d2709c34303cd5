//! Every option there is: one table, name by name.
//!
//! An option is ours, or a flag of the mount, or known and of no effect here,
//! or known and refused with the reason. Anything else is an error that names
//! it: what is not supported must not look as if it were. The table says what
//! an option does to a [`Draft`]; what options mean together is `request`'s.

use rustix::mount::MountFlags;

use crate::args::Unknown;
use crate::draft::Draft;
use crate::failure::{Failure, Result};
use crate::paths::split_options;

/// One option's name and effect.
pub struct Known {
    /// As it is written, without a value.
    pub name: &'static str,
    effect: Effect,
}

/// What an option does.
enum Effect {
    /// It stands alone.
    Mark(fn(&mut Draft)),
    /// It has a value, which may not do: then a sentence says why.
    Value(fn(&mut Draft, &[u8]) -> std::result::Result<(), String>),
    /// It sets a flag of mount(2).
    On(MountFlags),
    /// It clears a flag of mount(2).
    Off(MountFlags),
    /// Nothing, with a value or without.
    Nothing,
    /// An error, with a value or without; the reason.
    Refused(&'static str),
}

use Effect::{Mark, Nothing, Off, On, Refused, Value};

const fn known(name: &'static str, effect: Effect) -> Known {
    Known { name, effect }
}

/// The table. Grouped as the manual page is; `docs/mount.runionfs.8.md` must
/// name each, which a test sees to.
pub const TABLE: &[Known] = &[
    // Layers.
    known("lowerdir+", Value(Draft::append_lower)),
    known("datadir+", Value(Draft::append_data_only)),
    known("lowerdir", Value(Draft::replace_lowers)),
    known("lowersfile", Value(Draft::append_lowers_of_file)),
    known("upperdir", Value(Draft::upper)),
    known("workdir", Value(Draft::work)),
    known("hide", Value(Draft::hide)),
    known("submounts", Value(Draft::submounts)),
    // Features, in kernel overlayfs's words.
    known("redirect_dir", Value(Draft::redirect_dir)),
    known("metacopy", Value(Draft::metacopy)),
    known("index", Value(Draft::index)),
    known("xino", Value(Draft::xino)),
    known("volatile", Mark(|draft| draft.volatile = true)),
    known("userxattr", Mark(|draft| draft.userxattr = true)),
    known("nfs_export", Value(Draft::nfs_export)),
    known("verity", Value(Draft::verity)),
    known("uuid", Value(Draft::uuid)),
    // Layers are always used with the rights of who mounted.
    known("override_creds", Nothing),
    known("nooverride_creds", Refused("layers are always used with the rights of who mounted")),
    // Owners and modes, in fuse-overlayfs's words.
    known("uidmapping", Value(Draft::uid_mapping)),
    known("gidmapping", Value(Draft::gid_mapping)),
    known("squash_to_root", Mark(|draft| draft.squash_to_root = true)),
    known("squash_to_uid", Value(Draft::squash_to_uid)),
    known("squash_to_gid", Value(Draft::squash_to_gid)),
    known("xattr_permissions", Value(Draft::xattr_permissions)),
    known("static_nlink", Mark(|draft| draft.static_nlink = true)),
    known("acl", Mark(|draft| draft.acl = true)),
    known("noacl", Mark(|draft| draft.acl = false)),
    // How requests are served.
    known("threads", Value(Draft::threads)),
    known("threaded", Value(Draft::threaded)),
    known("transport", Value(Draft::transport)),
    known("data", Value(Draft::data)),
    known("writeback", Value(Draft::writeback)),
    known("spin", Value(Draft::spin)),
    known("dir_cache", Value(Draft::dir_cache)),
    known("timeout", Value(Draft::timeout)),
    known("fsync", Value(Draft::fsync)),
    known("debug", Mark(|draft| draft.foreground = true)),
    known("noxattrs", Value(Draft::noxattrs)),
    known("plugins", Refused("there are no plugins")),
    known("ino32_t", Refused("inode numbers have 64 bits")),
    // Tuning of other servers, which this one does by itself or does not need.
    known("fast_ino", Nothing),
    known("fast_ino_check", Nothing),
    known("clone_fd", Nothing),
    known("max_idle_threads", Nothing),
    known("max_threads", Nothing),
    known("kernel_cache", Nothing),
    known("auto_cache", Nothing),
    known("noauto_cache", Nothing),
    known("big_writes", Nothing),
    known("async_read", Nothing),
    known("max_write", Nothing),
    known("max_background", Nothing),
    known("congestion_threshold", Nothing),
    known("splice_read", Nothing),
    known("splice_write", Nothing),
    known("splice_move", Nothing),
    known("no_splice_read", Nothing),
    known("no_splice_write", Nothing),
    known("no_splice_move", Nothing),
    known("nonempty", Nothing),
    // The daemon unmounts whenever it ends; killed by force, nobody can.
    known("auto_unmount", Nothing),
    // The FUSE mount.
    known("allow_other", Mark(|draft| draft.allow_other = Some(true))),
    known("noallow_other", Mark(|draft| draft.allow_other = Some(false))),
    known("allow_root", Refused("the kernel knows everyone (allow_other) or the owner alone")),
    known("default_permissions", Nothing),
    known("fsname", Value(Draft::fsname)),
    known("subtype", Value(Draft::subtype)),
    known("max_read", Value(Draft::max_read)),
    known("context", Value(Draft::context)),
    known("fscontext", Value(Draft::fscontext)),
    known("defcontext", Value(Draft::defcontext)),
    known("rootcontext", Value(Draft::rootcontext)),
    known("fd", Refused("the daemon opens /dev/fuse itself")),
    // What /proc/mounts shows of a FUSE mount, and mount(8) gives back to `remount`.
    known("user_id", Nothing),
    known("group_id", Nothing),
    known("rootmode", Nothing),
    known("blksize", Nothing),
    // Flags of every mount.
    known("ro", On(MountFlags::RDONLY)),
    known("rw", Off(MountFlags::RDONLY)),
    known("nosuid", On(MountFlags::NOSUID)),
    known("suid", Off(MountFlags::NOSUID)),
    known("nodev", On(MountFlags::NODEV)),
    known("dev", Off(MountFlags::NODEV)),
    known("noexec", On(MountFlags::NOEXEC)),
    known("exec", Off(MountFlags::NOEXEC)),
    known("noatime", On(MountFlags::NOATIME)),
    known("atime", Off(MountFlags::NOATIME)),
    known("nodiratime", On(MountFlags::NODIRATIME)),
    known("diratime", Off(MountFlags::NODIRATIME)),
    known("relatime", On(MountFlags::RELATIME)),
    known("norelatime", Off(MountFlags::RELATIME)),
    known("strictatime", On(MountFlags::STRICTATIME)),
    known("nostrictatime", Off(MountFlags::STRICTATIME)),
    known("lazytime", On(MountFlags::LAZYTIME)),
    known("nolazytime", Off(MountFlags::LAZYTIME)),
    known("sync", On(MountFlags::SYNCHRONOUS)),
    known("async", Off(MountFlags::SYNCHRONOUS)),
    known("dirsync", On(MountFlags::DIRSYNC)),
    known("nosymfollow", On(MountFlags::NOSYMFOLLOW)),
    known("symfollow", Off(MountFlags::NOSYMFOLLOW)),
    known("silent", On(MountFlags::SILENT)),
    known("loud", Off(MountFlags::SILENT)),
    known("remount", Mark(|draft| draft.remount = true)),
    known("bind", Refused("it needs no mount program: use mount --bind")),
    known("rbind", Refused("it needs no mount program: use mount --rbind")),
    known("move", Refused("it needs no mount program: use mount --move")),
    // For mount(8), fstab and boot alone. mount(8) applies propagation itself
    // and passes none of it on; podman passes it on and expects nothing.
    known("defaults", Nothing),
    known("auto", Nothing),
    known("noauto", Nothing),
    known("user", Nothing),
    known("users", Nothing),
    known("nouser", Nothing),
    known("nousers", Nothing),
    known("owner", Nothing),
    known("noowner", Nothing),
    known("group", Nothing),
    known("nogroup", Nothing),
    known("nofail", Nothing),
    known("_netdev", Nothing),
    known("comment", Nothing),
    known("uhelper", Nothing),
    known("helper", Nothing),
    known("mand", Nothing),
    known("nomand", Nothing),
    known("iversion", Nothing),
    known("noiversion", Nothing),
    known("private", Nothing),
    known("rprivate", Nothing),
    known("shared", Nothing),
    known("rshared", Nothing),
    known("slave", Nothing),
    known("rslave", Nothing),
    known("unbindable", Nothing),
    known("runbindable", Nothing),
];

/// Applies one `-o` string to a draft.
///
/// # Errors
/// A usage error that names the option.
pub fn apply(draft: &mut Draft, string: &[u8], unknown: Unknown) -> Result<()> {
    for option in split_options(string) {
        let (name, value) = match option.iter().position(|&b| b == b'=') {
            Some(at) => (&option[..at], Some(&option[at + 1..])),
            None => (option, None),
        };
        // Comments of fstab and systemd, by mount(8)'s definition.
        if name.starts_with(b"x-") || name.starts_with(b"X-") {
            continue;
        }
        match (TABLE.iter().find(|known| known.name.as_bytes() == name), unknown) {
            (Some(known), _) => known.apply(draft, value)?,
            (None, Unknown::Skip) => {}
            (None, Unknown::Refuse) => return Err(stranger(option, name)),
        }
    }
    Ok(())
}

impl Known {
    fn apply(&self, draft: &mut Draft, value: Option<&[u8]>) -> Result<()> {
        let name = self.name;
        match (&self.effect, value) {
            (Nothing, _) => {}
            (Refused(reason), _) => {
                return Err(Failure::usage(format!("option {name} is not supported: {reason}")));
            }
            (Mark(mark), None) => mark(draft),
            (On(flag), None) => draft.flag_on(*flag),
            (Off(flag), None) => draft.flag_off(*flag),
            // fuse-overlayfs's `sync=0` means `fsync=0`.
            (On(flag), Some(value)) if *flag == MountFlags::SYNCHRONOUS => {
                draft.fsync(value).map_err(|reason| unfit(name, value, &reason))?;
            }
            (Mark(_) | On(_) | Off(_), Some(_)) => {
                return Err(Failure::usage(format!("option {name} takes no value")));
            }
            (Value(_), None) => return Err(Failure::usage(format!("option {name} needs a value: {name}=…"))),
            (Value(set), Some(value)) => set(draft, value).map_err(|reason| unfit(name, value, &reason))?,
        }
        Ok(())
    }
}

/// The longest value that is repeated in a message.
const SHOWN: usize = 200;

fn unfit(name: &str, value: &[u8], reason: &str) -> Failure {
    let shown = String::from_utf8_lossy(&value[..value.len().min(SHOWN)]).into_owned();
    let more = if value.len() > SHOWN { "…" } else { "" };
    Failure::usage(format!("option {name}={shown}{more}: {reason}"))
}

/// The error for an option nobody knows.
fn stranger(option: &[u8], name: &[u8]) -> Failure {
    let shown = String::from_utf8_lossy(&option[..option.len().min(SHOWN)]);
    let failure = Failure::usage(format!("unknown option {shown}"));
    let near = TABLE.iter().map(|known| (distance(known.name.as_bytes(), name), known.name)).min();
    match near {
        _ if name.contains(&b'/') => failure.hint("a comma inside a path is written \\,"),
        Some((distance, near)) if distance <= 2 && distance < near.len() => {
            failure.hint(format!("did you mean {near}?"))
        }
        _ => failure.hint("mount -s skips unknown options"),
    }
}

/// How many letters must be put in, taken out or changed to turn one word into
/// the other; words that are far apart in length count as that far.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return a.len().abs_diff(b.len());
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(string: &str) -> String {
        apply(&mut Draft::default(), string.as_bytes(), Unknown::Refuse).unwrap_err().to_string()
    }

    #[test]
    fn names_are_unique_and_in_the_manual() {
        let manual = std::fs::read_to_string("../docs/mount.runionfs.8.md").unwrap();
        for (at, known) in TABLE.iter().enumerate() {
            assert!(TABLE[..at].iter().all(|other| other.name != known.name), "{} twice", known.name);
            let words = manual.split(|c: char| c == '`' || c.is_whitespace());
            let named = words.map(|word| word.split('=').next().unwrap_or_default());
            assert!(
                named.into_iter().any(|word| word == known.name),
                "the manual does not name {}",
                known.name
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (string, parts) in [
            ("lowerdri=/a", &["unknown option lowerdri=/a", "did you mean lowerdir?"][..]),
            ("ro,quux", &["unknown option quux"]),
            ("lowerdir=/a,b/c", &["unknown option b/c", "\\,"]),
            ("volatile=1", &["option volatile takes no value"]),
            ("upperdir", &["option upperdir needs a value"]),
            ("plugins=x", &["option plugins is not supported"]),
            ("xino=maybe", &["option xino=maybe", "on, auto or off"]),
            ("nfs_export=on", &["option nfs_export=on"]),
        ] {
            let message = refuse(string);
            assert!(parts.iter().all(|part| message.contains(part)), "{string}: {message}");
        }
    }

    #[test]
    fn what_podman_and_fstab_pass_is_taken() {
        for string in [
            ",,volatile,uidmapping=:0:1:1000,gidmapping=:0:1:1000",
            "private,lazytime,metacopy=on,xattr_permissions=2,",
            "defaults,nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,comment=a b,user",
            "sync=0,fsync=1,threaded=1,timeout=0.5,fast_ino=1,writeback=0,noxattrs=0",
        ] {
            let applied = apply(&mut Draft::default(), string.as_bytes(), Unknown::Refuse);
            assert_eq!(applied, Ok(()), "{string}");
        }
        assert_eq!(apply(&mut Draft::default(), b"quux,zork=1", Unknown::Skip), Ok(()));
    }

    #[test]
    fn distances() {
        for (a, b, want) in [("ro", "rw", 1), ("lowerdir", "lowerdri", 2), ("", "ab", 2), ("same", "same", 0)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), want, "{a} {b}");
        }
    }
}
