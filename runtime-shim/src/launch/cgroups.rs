//! `/sys/fs/cgroup` in a container: as the machine has it, of version 1, 2 or
//! both, and of it the container's own part.
//!
//! With a cgroup namespace, new mounts show that part; without, it is bound.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;

use super::filesystems::{attach, make};
use super::mounts::Ground;
use super::options::{Depth, attribute};
use super::sources::{Planned, take};
use super::target::{self, Links};
use crate::failure::{Context, Failure, Result};
use crate::sys::Namespaces;
use crate::sys::mounts::{Reach, set_attributes};

/// Where it is on every machine.
const HOST: &str = "/sys/fs/cgroup";

/// One hierarchy of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// The directory's name in [`HOST`].
    name: String,
    /// What mounting it is told: controllers, `name=…`.
    options: Vec<String>,
}

/// What a machine has.
#[derive(Debug, PartialEq, Eq)]
enum Layout {
    /// One hierarchy of version 2.
    Unified,
    /// Several of version 1, and perhaps one of version 2 at that name.
    Several { first: Vec<Hierarchy>, second: Option<String> },
}

/// Mounts it as planned.
pub fn mount(planned: &Planned<'_>, ground: &Ground<'_>) -> Result<()> {
    let destination = &planned.mount.destination;
    let context = || format!("cannot mount cgroups on {}", destination.display());
    let table = std::fs::read_to_string("/proc/self/mountinfo").context(context)?;
    let Some(layout) = Layout::of(&table) else {
        return Err(Failure::new(format!("{}: this machine has none at {HOST}", context())));
    };
    let attributes = planned.options.attributes.set;
    let place = target::directory(ground.root, destination, 0o755, Links::Within).context(context)?;
    match layout {
        Layout::Unified => {
            let tree = second(ground, HOST, attributes).context(context)?;
            attach(&tree, &place).context(context)
        }
        Layout::Several { first, second: name } => {
            let quiet = attributes & !attribute::RDONLY;
            let top = make("tmpfs", "tmpfs", &["mode=755"], quiet).context(context)?;
            attach(&top, &place).context(context)?;
            for hierarchy in &first {
                show(top.as_fd(), hierarchy, ground, attributes)?;
            }
            if let Some(name) = name {
                show_second(top.as_fd(), &name, ground, attributes)?;
            }
            let read_only = attributes & attribute::RDONLY;
            set_attributes(&top, Reach::Mount, read_only, 0, 0).context(context)
        }
    }
}

fn show(top: BorrowedFd<'_>, hierarchy: &Hierarchy, ground: &Ground<'_>, attributes: u64) -> Result<()> {
    let context = || format!("cannot mount the cgroups {}", hierarchy.name);
    let tree = if ground.own.contains(Namespaces::CGROUP) {
        make("cgroup", "cgroup", &hierarchy.options, attributes).context(context)?
    } else {
        own_part(&hierarchy.name, &hierarchy.options, attributes).context(context)?
    };
    attach(&tree, subdirectory(top, &hierarchy.name).context(context)?).context(context)?;
    // `cpu` and `cpuacct` beside `cpu,cpuacct`, as the host has them.
    for alias in hierarchy.name.split(',').filter(|alias| *alias != hierarchy.name) {
        match symlinkat(&hierarchy.name, top, alias) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).context(context),
        }
    }
    Ok(())
}

fn show_second(top: BorrowedFd<'_>, name: &str, ground: &Ground<'_>, attributes: u64) -> Result<()> {
    let context = || format!("cannot mount the cgroups {name}");
    let tree = second(ground, &format!("{HOST}/{name}"), attributes).context(context)?;
    attach(&tree, subdirectory(top, name).context(context)?).context(context)
}

/// The hierarchy of version 2.
fn second(ground: &Ground<'_>, path: &str, attributes: u64) -> Result<OwnedFd> {
    if ground.own.contains(Namespaces::CGROUP) {
        match make("cgroup2", "cgroup", &[] as &[&str], attributes) {
            Ok(tree) => return Ok(tree),
            // A user namespace that does not own the cgroup namespace's users.
            Err(refused) if matches!(refused.errno, Errno::PERM | Errno::BUSY) => {}
            Err(refused) => return Err(refused).context(|| "cgroup2".to_string()),
        }
    }
    let own = own_path(|line| line.strip_prefix("0::")).unwrap_or_default();
    bound(&Path::new(path).join(own), attributes)
}

fn own_part(name: &str, options: &[String], attributes: u64) -> Result<OwnedFd> {
    let own = own_path(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let listed: Vec<&str> = controllers.split(',').collect();
        options.iter().any(|option| listed.contains(&option.as_str())).then_some(path)
    });
    bound(&Path::new(HOST).join(name).join(own.unwrap_or_default()), attributes)
}

fn bound(path: &Path, attributes: u64) -> Result<OwnedFd> {
    let context = || format!("cannot show {}", path.display());
    let tree = take(path, Depth::One).context(context)?;
    set_attributes(&tree, Reach::Mount, attributes, 0, libc::MS_PRIVATE).context(context)?;
    Ok(tree)
}

/// Of the lines of /proc/self/cgroup, the path that is picked.
fn own_path(pick: impl Fn(&str) -> Option<&str>) -> Option<PathBuf> {
    let lines = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    lines.lines().find_map(pick).map(|path| target::clean(Path::new(path)))
}

fn subdirectory(top: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    mkdirat(top, name, Mode::from_raw_mode(0o755))?;
    openat(top, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

impl Layout {
    /// By the lines of mountinfo (proc_pid_mountinfo(5)).
    fn of(table: &str) -> Option<Layout> {
        let (mut first, mut second) = (Vec::new(), None);
        for line in table.lines() {
            let Some((mount, system)) = line.split_once(" - ") else { continue };
            let Some(at) = mount.split(' ').nth(4) else { continue };
            let mut system = system.split(' ');
            let (kind, options) = (system.next().unwrap_or(""), system.nth(1).unwrap_or(""));
            match (kind, at) {
                ("cgroup2", HOST) => return Some(Layout::Unified),
                ("cgroup2", _) => second = name_in_host(at).or(second),
                ("cgroup", _) => {
                    let Some(name) = name_in_host(at) else { continue };
                    // Where the host's /sys is bound, its mounts are there twice.
                    if first.iter().any(|known: &Hierarchy| known.name == name) {
                        continue;
                    }
                    let is_own = |option: &&str| {
                        !matches!(*option, "rw" | "ro" | "xattr" | "clone_children" | "noprefix")
                            && !option.starts_with("release_agent=")
                    };
                    let options = options.split(',').filter(is_own).map(str::to_owned).collect();
                    first.push(Hierarchy { name, options });
                }
                _ => {}
            }
        }
        (!first.is_empty()).then_some(Layout::Several { first, second })
    }
}

fn name_in_host(at: &str) -> Option<String> {
    let name = at.strip_prefix(HOST)?.strip_prefix('/')?;
    (!name.contains('/')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_apart() {
        let hybrid = "\
25 22 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 25 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
28 25 0:24 / /sys/fs/cgroup/unified rw shared:3 - cgroup2 cgroup2 rw
48 45 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
29 25 0:24 / /elsewhere/cpu rw - cgroup cgroup rw,cpu
";
        let hierarchy = |name: &str, options: &[&str]| Hierarchy {
            name: name.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        let first =
            vec![hierarchy("cpu,cpuacct", &["cpu", "cpuacct"]), hierarchy("systemd", &["name=systemd"])];
        assert_eq!(Layout::of(hybrid), Some(Layout::Several { first, second: Some("unified".into()) }));
        let unified = "30 1 0:9 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(Layout::of(unified), Some(Layout::Unified));
        assert_eq!(Layout::of("1 1 0:1 / / rw - ext4 /dev/sda rw\n"), None);
    }
}
