//! Who the command is, and how ids are mapped to make that so.
//!
//! Real root needs no user namespace. Everybody else gets one, in which the
//! mount helper and the union's server have the rights that mounting takes.
//! Files of other owners must have an owner *in that namespace*, for the kernel
//! lets nobody write into a directory whose owner it cannot name (not even
//! `/tmp`). So with subordinate ids (/etc/subuid) they are shown as root's, and
//! without as the command's own, which it may then change in the view.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, getgid, getuid};
use rustix::thread::{CapabilitySet, capabilities};
use unionfs::config::Namespace;

use super::Identity;
use crate::failure::{Context, Failure, Result};
use crate::record::Owners;

/// How ids are mapped.
pub enum Plan {
    /// Not at all: the caller is root and may mount; marks go where it may write.
    Own(Namespace),
    /// In a user namespace.
    Mapped(Mapping),
}

/// To whom files may be given.
pub enum Giving {
    /// To any owner a lower file has.
    Any,
    /// To nobody: there is one id.
    None,
}

/// The ids of a user namespace.
pub struct Mapping {
    identity: Identity,
    users: Ids,
    groups: Ids,
}

/// The users, or the groups, of a user namespace.
struct Ids {
    /// The caller's id outside.
    own: u32,
    /// The caller's id inside.
    shown: u32,
    /// The subordinate ids, if there are enough.
    subordinate: Option<Range>,
}

/// Ids in a row.
#[derive(Clone, Copy)]
struct Range {
    first: u32,
    count: u32,
}

/// How many ids there are, from 0 on.
pub struct Room {
    /// Users.
    pub users: u32,
    /// Groups.
    pub groups: u32,
}

/// Ids a system expects to exist: 0 to `nobody`.
const USUAL_IDS: u32 = 65536;
/// What an id without a mapping looks like (/proc/sys/kernel/overflowuid).
const OVERFLOW: u32 = 65534;

impl Plan {
    /// Decides for the calling process.
    pub fn new(identity: Identity) -> Result<Plan> {
        let may_mount = capabilities(None)
            .context(|| "cannot read my capabilities".to_string())?
            .effective
            .contains(CapabilitySet::SYS_ADMIN);
        if getuid().is_root() && may_mount {
            return Ok(Plan::Own(marks_of_root()));
        }
        let shown = |own| if identity == Identity::Root { 0 } else { own };
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let name = user_name(uid);
        let subordinate =
            |tool: &str, file: &str| in_path(tool).then(|| subordinate(file, &name, uid, identity)).flatten();
        let mut users = subordinate("newuidmap", "/etc/subuid");
        let mut groups = subordinate("newgidmap", "/etc/subgid");
        // Both or neither: half a mapping helps nobody.
        if users.is_none() || groups.is_none() {
            (users, groups) = (None, None);
        }
        Ok(Plan::Mapped(Mapping {
            identity,
            users: Ids { own: uid, shown: shown(uid), subordinate: users },
            groups: Ids { own: gid, shown: shown(gid), subordinate: groups },
        }))
    }

    /// How many ids its namespace has.
    pub fn room(&self) -> Room {
        match self {
            Plan::Own(_) => Room { users: room_of_mine("uid_map"), groups: room_of_mine("gid_map") },
            Plan::Mapped(mapping) => {
                let of = |ids: &Ids| ids.subordinate.map_or(1, |range| range.count);
                Room { users: of(&mapping.users), groups: of(&mapping.groups) }
            }
        }
    }

    /// How the owners in the upper will have to be read.
    pub fn owners(&self) -> Owners {
        match self {
            Plan::Own(_) => Owners::Real,
            Plan::Mapped(mapping) if mapping.identity == Identity::Caller => Owners::Caller,
            Plan::Mapped(_) => Owners::Namespace,
        }
    }

    /// Where the union keeps its marks.
    pub fn marks(&self) -> Namespace {
        match self {
            Plan::Own(namespace) => *namespace,
            Plan::Mapped(_) => Namespace::User,
        }
    }

    /// Whether files may be given to the owners they have in the lowers.
    pub fn giving(&self) -> Giving {
        match self {
            Plan::Mapped(mapping) if mapping.users.subordinate.is_none() => Giving::None,
            Plan::Own(_) | Plan::Mapped(_) => Giving::Any,
        }
    }

    /// Options of the union that belong to this identity.
    pub fn mount_options(&self) -> Vec<String> {
        match self {
            // Programs that change their user (su, sudo) work for real root.
            Plan::Own(Namespace::Trusted) => vec!["suid".to_string()],
            Plan::Own(Namespace::User) => vec!["suid".to_string(), "userxattr".to_string()],
            Plan::Mapped(mapping) if mapping.users.subordinate.is_some() => vec![
                "userxattr".to_string(),
                format!("uidmapping={}", mapping.users.swapped()),
                format!("gidmapping={}", mapping.groups.swapped()),
            ],
            Plan::Mapped(mapping) => vec![
                "userxattr".to_string(),
                format!("squash_to_uid={}", mapping.users.shown),
                format!("squash_to_gid={}", mapping.groups.shown),
            ],
        }
    }

    /// Writes the maps of a process that was just made in a user namespace.
    pub fn write_maps(&self, pid: Pid) -> Result<()> {
        let Plan::Mapped(mapping) = self else { return Ok(()) };
        let pid = pid.as_raw_nonzero().get();
        if mapping.users.subordinate.is_some() {
            map_by_tool("newuidmap", pid, &mapping.users)?;
            return map_by_tool("newgidmap", pid, &mapping.groups);
        }
        let write = |file: &str, text: String| {
            let path = format!("/proc/{pid}/{file}");
            fs::write(&path, text).context(|| format!("cannot write {path}"))
        };
        // Without subordinate ids the kernel maps one group only to a process
        // that can no longer drop groups.
        write("setgroups", "deny".to_string())?;
        write("uid_map", format!("{} {} 1", mapping.users.shown, mapping.users.own))?;
        write("gid_map", format!("{} {} 1", mapping.groups.shown, mapping.groups.own))
    }
}

impl Ids {
    /// The extents of the namespace's map: inside, outside, how many.
    fn extents(&self) -> Vec<(u32, u32, u32)> {
        let own = (self.shown, self.own, 1);
        let Some(Range { first, count }) = self.subordinate else { return vec![own] };
        // The usual ids are the subordinate ones, but for the caller's.
        if self.shown >= USUAL_IDS {
            return vec![(0, first, USUAL_IDS), own];
        }
        let below = (0, first, self.shown);
        let above = (self.shown + 1, first + self.shown + 1, count - self.shown - 1);
        [below, own, above].into_iter().filter(|&(_, _, count)| count > 0).collect()
    }

    /// The union's mapping: as found on disk, as shown, how many.
    ///
    /// Files whose owner is not in the namespace's map are found with the
    /// overflow id. They change places with root's: a system's files are
    /// mostly root's, and the namespace's own root has none yet.
    fn swapped(&self) -> String {
        let above = OVERFLOW + 1;
        let mut ranges =
            vec![(OVERFLOW, 0, 1), (0, OVERFLOW, 1), (1, 1, OVERFLOW - 1), (above, above, USUAL_IDS - above)];
        if self.shown >= USUAL_IDS {
            ranges.push((self.shown, self.shown, 1));
        }
        let words: Vec<_> =
            ranges.into_iter().map(|(found, shown, count)| format!("{found}:{shown}:{count}")).collect();
        words.join(":")
    }
}

/// Runs `newuidmap` or `newgidmap`, which alone may map subordinate ids.
fn map_by_tool(tool: &str, pid: i32, ids: &Ids) -> Result<()> {
    let numbers = ids.extents().into_iter().flat_map(|(inside, outside, count)| [inside, outside, count]);
    let output = Command::new(tool)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .context(|| format!("cannot run {tool}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("cannot map the subordinate ids: {tool}: {}", said.trim()))
        .hint("check your lines in /etc/subuid and /etc/subgid, and that newuidmap is set-user-id root"))
}

/// `trusted.` attributes are for root of the initial user namespace, the one
/// whose map is the whole range onto itself.
fn marks_of_root() -> Namespace {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if is_initial { Namespace::Trusted } else { Namespace::User }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The user's name by /etc/passwd; his number where it has none.
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    line.and_then(|line| line.split(':').next()).map_or_else(|| uid.to_string(), str::to_string)
}

/// How many ids from 0 on the caller's own namespace has.
fn room_of_mine(map: &str) -> u32 {
    let map = fs::read_to_string(format!("/proc/self/{map}")).unwrap_or_default();
    let rows = map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let first = rows.filter(|row| row.first() == Some(&"0")).find_map(|row| row.get(2)?.parse().ok());
    first.unwrap_or(1)
}

/// At least [`USUAL_IDS`] subordinate ids of a user; containers may have more.
fn subordinate(file: &str, name: &str, uid: u32, identity: Identity) -> Option<Range> {
    let text = fs::read_to_string(Path::new(file)).unwrap_or_default();
    let uid = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let first = fields.next()?.parse::<u32>().ok()?;
        let count = fields.next()?.trim().parse::<u32>().ok()?;
        let usable = (owner == name || owner == uid) && count >= USUAL_IDS;
        let count = match identity {
            Identity::Root => count.min(u32::MAX - first),
            Identity::Caller => USUAL_IDS,
        };
        (usable && first.checked_add(USUAL_IDS).is_some()).then_some(Range { first, count })
    })
}

/// Why the kernel refuses a new process its namespaces, and what helps.
pub fn cannot_make_namespaces(error: &io::Error) -> Failure {
    let failure = Failure::new(format!("cannot make namespaces: {error}"));
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSPC | libc::EUSERS | libc::EINVAL) => failure.hint(
            "user namespaces are off or used up; as root: sysctl user.max_user_namespaces=10000 \
             (and kernel.unprivileged_userns_clone=1 where that exists), or run runion as root",
        ),
        _ => failure,
    }
}

/// Why a mount was refused within the namespaces, and what helps.
pub fn cannot_mount(errno: Errno, action: &str) -> Failure {
    let failure = Failure::new(format!("cannot {action}: {errno}"));
    match errno {
        Errno::PERM | Errno::ACCESS => failure.hint(
            "this machine restricts user namespaces (Ubuntu: sysctl \
             kernel.apparmor_restrict_unprivileged_userns=0) or, in a container, masks parts of /proc; \
             run runion as root or outside of the container",
        ),
        Errno::INVAL => failure.hint(
            "the root that this was called in is no mount of its own: mount --bind DIR DIR before chroot DIR",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(own: u32, shown: u32, first: Option<u32>) -> Ids {
        Ids { own, shown, subordinate: first.map(|first| Range { first, count: USUAL_IDS }) }
    }

    #[test]
    fn the_namespace_has_every_usual_id_once() {
        assert_eq!(ids(1000, 1000, None).extents(), [(1000, 1000, 1)]);
        assert_eq!(
            ids(1000, 1000, Some(100_000)).extents(),
            [(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_001, 64535)]
        );
        assert_eq!(ids(1000, 0, Some(100_000)).extents(), [(0, 1000, 1), (1, 100_001, 65535)]);
        assert_eq!(ids(70_000, 70_000, Some(100_000)).extents(), [(0, 100_000, 65536), (70_000, 70_000, 1)]);
    }

    #[test]
    fn files_of_others_change_places_with_root_s() {
        assert_eq!(ids(1000, 1000, Some(9)).swapped(), "65534:0:1:0:65534:1:1:1:65533:65535:65535:1");
        assert!(ids(70_000, 70_000, Some(9)).swapped().ends_with(":70000:70000:1"));
    }
}
