//! Where the kernel's groups are on this host, and where the caller is in them.
//!
//! Found from two texts of the kernel's, /proc/self/mountinfo and
//! /proc/self/cgroup; the functions that read them touch no file.
//!
//! | host | v1 mounts | v2 mount |
//! |---|---|---|
//! | v1 | controllers, `name=systemd` | |
//! | hybrid | controllers, `name=systemd` | `…/unified`, with few controllers or none |
//! | v2 | | /sys/fs/cgroup |
//!
//! Source: the kernel's admin-guide/cgroup-v1, cgroup-v2; proc_pid_mountinfo(5).

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::controller::Controller;
use crate::failure::{Context, Result};

/// All of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// Hierarchies of v1.
    pub v1: Vec<V1>,
    /// That of v2.
    pub v2: Option<Mounted>,
}

/// A hierarchy of v1.
#[derive(Debug, PartialEq, Eq)]
pub struct V1 {
    /// What it limits; several share one where the host mounts them so.
    pub controllers: Vec<Controller>,
    /// Where.
    pub mounted: Mounted,
}

/// A mount of a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Its topmost group that is seen.
    pub top: PathBuf,
    /// The caller's group, where the mount shows it.
    pub own: Option<PathBuf>,
}

/// In a word, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No groups are mounted.
    Nothing,
    /// v1.
    V1,
    /// v2.
    V2,
    /// v1, and v2 beside it.
    Hybrid,
}

impl Hierarchy {
    /// This host's.
    pub fn find() -> Result<Hierarchy> {
        let read = |path: &str| std::fs::read(path).context(|| format!("cannot read {path}"));
        let cgroup = String::from_utf8_lossy(&read("/proc/self/cgroup")?).into_owned();
        Ok(Hierarchy::of(&read("/proc/self/mountinfo")?, &cgroup))
    }

    /// That of these two texts.
    pub fn of(mountinfo: &[u8], cgroup: &str) -> Hierarchy {
        let memberships = memberships(cgroup);
        let mounts: Vec<Mount> = mountinfo.split(|&byte| byte == b'\n').filter_map(Mount::of).collect();
        let mut found = Hierarchy::default();
        for mount in mounts.iter().filter(|mount| is_visible(mount, &mounts)) {
            match mount.kind.as_slice() {
                b"cgroup2" if found.v2.is_none() => {
                    found.v2 = Some(mount.mounted(memberships.get("").map(String::as_str)));
                }
                b"cgroup" => {
                    let names = mount.options.split(|&byte| byte == b',').map(String::from_utf8_lossy);
                    let names: Vec<String> =
                        names.map(|name| name.into_owned()).filter(|n| memberships.contains_key(n)).collect();
                    let controllers: Vec<Controller> =
                        names.iter().filter_map(|name| Controller::of(name)).collect();
                    let is_known = found.v1.iter().any(|known| known.controllers == controllers);
                    if !controllers.is_empty() && !is_known {
                        let own = names.first().and_then(|name| memberships.get(name));
                        let mounted = mount.mounted(own.map(String::as_str));
                        found.v1.push(V1 { controllers, mounted });
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// In a word.
    pub fn kind(&self) -> Kind {
        let has_limits = self.v1.iter().any(|v1| v1.controllers != [Controller::Systemd]);
        match (has_limits, &self.v2) {
            (false, None) => Kind::Nothing,
            (true, None) => Kind::V1,
            (false, Some(_)) => Kind::V2,
            (true, Some(_)) => Kind::Hybrid,
        }
    }
}

/// The caller's group by controller, that of v2 by the empty name.
fn memberships(cgroup: &str) -> HashMap<String, String> {
    let mut memberships = HashMap::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_number), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        memberships.extend(names.split(',').map(|name| (name.to_owned(), path.to_owned())));
    }
    memberships
}

/// A line of mountinfo.
struct Mount {
    id: u32,
    parent: u32,
    root: PathBuf,
    point: PathBuf,
    kind: Vec<u8>,
    options: Vec<u8>,
}

impl Mount {
    /// `36 35 98:0 /root /point rw shared:1 - cgroup source rw,memory`
    fn of(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|&byte| byte == b' ');
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let (root, point) = (unescaped(fields.nth(1)?), unescaped(fields.next()?));
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = fields.next()?.to_vec();
        let options = fields.nth(1)?.to_vec();
        Some(Mount { id, parent, root, point, kind, options })
    }

    /// The caller's group is seen where it is below the mount's root.
    fn mounted(&self, own: Option<&str>) -> Mounted {
        let below = own.and_then(|own| Path::new(own).strip_prefix(&self.root).ok());
        let own = below.filter(|path| path.components().all(|part| part.as_os_str() != ".."));
        Mounted { top: self.point.clone(), own: own.map(|own| self.point.join(own)) }
    }
}

/// Whether the kernel, going along the path of the mount's point, ends in it.
fn is_visible(mount: &Mount, mounts: &[Mount]) -> bool {
    let root = mounts.iter().find(|candidate| {
        candidate.point == Path::new("/") && !mounts.iter().any(|other| other.id == candidate.parent)
    });
    // A root that is no mount is the parent of what seems to have none.
    let mut at = root.map_or(mount.parent, |root| root.id);
    if root.is_none() && mounts.iter().any(|other| other.id == mount.parent) {
        return true;
    }
    let mut prefix = PathBuf::new();
    for part in mount.point.components() {
        prefix.push(part);
        // Several at one place are one on top of the other.
        while let Some(over) =
            mounts.iter().find(|over| over.parent == at && over.point == prefix && over.id != at)
        {
            at = over.id;
        }
    }
    at == mount.id
}

/// Octal escapes stand for what would end a field.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
#[path = "hierarchy_tests.rs"]
mod tests;
