//! User namespaces, and ids to fill them with.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::probe::{self, Bits, Refused};
use super::{Caller, Finding, in_path, sysctl};
use crate::sys::Namespaces;

/// Ids a system expects to exist: 0 to `nobody`.
const USUAL_IDS: u64 = 65536;

/// Whether one can be made, and its root may mount.
pub fn namespaces(caller: Caller) -> Finding {
    const CHECK: &str = "user namespaces";
    let refused = match probe::try_as_root_of_its_own(Namespaces::KEEPER, mount_something) {
        Ok(_) => return Finding::ok(CHECK, "can be made, and their root may mount"),
        Err(refused) => refused,
    };
    let found = match &refused {
        Refused::Namespaces(Some(errno)) => format!("cannot be made: {errno}"),
        Refused::Namespaces(None) => "cannot be made".to_owned(),
        Refused::Trial(errno) => format!("can be made, and their root may not mount: {errno}"),
    };
    match caller {
        Caller::Ordinary => Finding::missing(CHECK, found, remedy(&refused)),
        Caller::Root => Finding::limited(
            CHECK,
            found,
            format!("root needs them for --userns alone; {}", remedy(&refused)),
        ),
    }
}

fn mount_something() -> rustix::io::Result<Bits> {
    probe::keep_mounts()?;
    mount("runion", "/proc", "tmpfs", MountFlags::empty(), None)?;
    Ok(0)
}

/// What stands in the way, as far as it can be read.
fn remedy(refused: &Refused) -> String {
    const NUMBER: &str = "user.max_user_namespaces";
    let set = |name: &str, value: u32| format!("as root: sysctl {name}={value}");
    if sysctl(NUMBER) == Some(0) {
        return set(NUMBER, 10_000);
    }
    if sysctl("kernel.unprivileged_userns_clone") == Some(0) {
        return set("kernel.unprivileged_userns_clone", 1);
    }
    if sysctl("kernel.apparmor_restrict_unprivileged_userns").is_some_and(|value| value != 0) {
        return format!(
            "{}, or give runion an AppArmor profile with `userns,`",
            set("kernel.apparmor_restrict_unprivileged_userns", 0)
        );
    }
    match refused {
        Refused::Namespaces(Some(Errno::NOSPC | Errno::USERS)) => {
            format!("they are used up; {}", set(NUMBER, 10_000))
        }
        Refused::Namespaces(Some(Errno::INVAL)) => "build the kernel with CONFIG_USER_NS=y".to_owned(),
        Refused::Namespaces(_) => {
            "a filter of system calls or a security module forbids it: run runion outside of this container, or as root"
                .to_owned()
        }
        Refused::Trial(_) => "a security module or masked parts of /proc forbid it: run runion as root".to_owned(),
    }
}

/// Whether there are enough, and the programs that may map them.
pub fn subordinate(caller: Caller) -> Finding {
    const CHECK: &str = "subordinate ids";
    if caller == Caller::Root {
        return Finding::ok(CHECK, "root needs none");
    }
    let uid = rustix::process::getuid().as_raw();
    let name = user_name(uid);
    let lacking: Vec<&str> =
        ["newuidmap", "newgidmap"].into_iter().filter(|tool| !is_privileged(tool)).collect();
    if let Some(tool) = lacking.first() {
        return Finding::limited(
            CHECK,
            format!(
                "{tool} is not installed, or without its privileges: all files of an image belong to one user"
            ),
            "as root: apt-get install uidmap, dnf install shadow-utils, or chmod u+s it",
        );
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if most_of(&text, &name, uid) < USUAL_IDS {
            return Finding::limited(
                CHECK,
                format!("{file} gives {name} no {USUAL_IDS} ids: all files of an image belong to one user"),
                format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"),
            );
        }
    }
    Finding::ok(CHECK, format!("enough of them for {name}"))
}

/// Set-user-id root, or with capabilities of its own.
fn is_privileged(tool: &str) -> bool {
    let Some(path) = in_path(tool) else { return false };
    let is_root_s =
        path.metadata().is_ok_and(|stat| stat.uid() == 0 && stat.permissions().mode() & 0o4000 != 0);
    is_root_s || has_capabilities(&path)
}

fn has_capabilities(path: &Path) -> bool {
    let mut value = [0_u8; 32];
    rustix::fs::getxattr(path, "security.capability", &mut value).is_ok_and(|length| length > 0)
}

/// The longest range of a user in /etc/subuid or /etc/subgid.
fn most_of(text: &str, name: &str, uid: u32) -> u64 {
    let uid = uid.to_string();
    let count = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let count = fields.nth(1)?.trim().parse().ok()?;
        (owner == name || owner == uid).then_some(count)
    };
    text.lines().filter_map(count).max().unwrap_or(0)
}

/// The user's name by /etc/passwd; his number where it has none.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    line.and_then(|line| line.split(':').next()).map_or_else(|| uid.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::most_of;

    #[test]
    fn ranges_are_of_the_user_by_name_or_number() {
        let text = "root:1:70000\nanna:100000:65536\n1000:5:7\nbad\nanna:x:y\n";
        assert_eq!(most_of(text, "anna", 1000), 65536);
        assert_eq!(most_of(text, "berta", 1000), 7);
        assert_eq!(most_of(text, "cora", 2), 0);
    }
}
