//! Ranges of ids that a container has for itself: `--userns auto`.
//!
//! A container's record is its lease: it is there before the container is, and
//! gone when that is removed, whoever was killed between. So a range is free if
//! no record names it; one lock is held from the look until the new record is
//! written. Ranges are those of the user `containers` in /etc/subuid and
//! /etc/subgid; an ordinary user's are his own namespace's, all but himself.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::{Config, Containers};
use crate::bundle::IdMapping;
use crate::failure::{Context, Failure, Result};
use crate::sandbox::Identity;
use crate::sandbox::identity::Plan;
use crate::settle;

/// Whose ranges root gives to containers, as podman has it.
const OWNER: &str = "containers";

/// Holds other containers' taking of ranges up until this one's record is
/// written.
pub struct Turn {
    _lock: File,
}

/// Ids in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

impl Containers {
    /// Takes `size` users and groups that no container of this store has.
    pub fn take_ids(&self, config: &mut Config, size: u32) -> Result<Turn> {
        let path = self.dir.join("ids.lock");
        let context = || format!("cannot lock {}", path.display());
        let lock = File::options().create(true).append(true).open(&path).context(context)?;
        flock(&lock, FlockOperation::LockExclusive).context(context)?;
        let (users, groups) = pools()?;
        let found = match self.free(&users, &groups, size)? {
            Some(found) => Some(found),
            None => {
                // What killed monitors left may have some.
                settle::sweep(self.store())?;
                self.free(&users, &groups, size)?
            }
        };
        let (uid, gid) = found.ok_or_else(|| too_few(size))?;
        config.uid_map = vec![IdMapping { container_id: 0, host_id: uid, size }];
        config.gid_map = vec![IdMapping { container_id: 0, host_id: gid, size }];
        Ok(Turn { _lock: lock })
    }

    fn free(&self, users: &[Range], groups: &[Range], size: u32) -> Result<Option<(u32, u32)>> {
        let (mut uids, mut gids) = (Vec::new(), Vec::new());
        let ranges = |maps: &[IdMapping]| -> Vec<Range> {
            maps.iter().map(|map| Range { first: map.host_id, count: map.size }).collect()
        };
        for container in self.all()? {
            // One that goes meanwhile has none.
            let Ok(record) = container.read() else { continue };
            uids.extend(ranges(&record.config.uid_map));
            gids.extend(ranges(&record.config.gid_map));
        }
        Ok(lowest(users, uids, size).zip(lowest(groups, gids, size)))
    }

    fn store(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }
}

/// Users and groups that there are for containers.
fn pools() -> Result<(Vec<Range>, Vec<Range>)> {
    match Plan::new(Identity::Root)? {
        Plan::Own(_) => {
            let read = |path: &str| ranges_of(&fs::read_to_string(path).unwrap_or_default(), OWNER);
            Ok((read("/etc/subuid"), read("/etc/subgid")))
        }
        plan @ Plan::Mapped(_) => {
            let room = plan.room();
            let but_himself = |count: u32| vec![Range { first: 1, count: count - 1 }];
            Ok((but_himself(room.users), but_himself(room.groups)))
        }
    }
}

fn ranges_of(text: &str, owner: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut fields = line.split(':');
        let is_theirs = fields.next() == Some(owner);
        let first = fields.next()?.parse().ok()?;
        let count = fields.next()?.trim().parse().ok()?;
        (is_theirs && u32::checked_add(first, count).is_some()).then_some(Range { first, count })
    };
    text.lines().filter_map(range).collect()
}

/// The lowest of `size` ids in a row that nobody has.
fn lowest(pool: &[Range], mut taken: Vec<Range>, size: u32) -> Option<u32> {
    taken.sort_by_key(|range| range.first);
    pool.iter().find_map(|range| {
        let end = range.first.checked_add(range.count)?;
        let mut first = range.first;
        for other in &taken {
            if first.checked_add(size).is_some_and(|after| after <= other.first) {
                break;
            }
            first = first.max(other.first.saturating_add(other.count));
        }
        first.checked_add(size).filter(|after| *after <= end).map(|_after| first)
    })
}

fn too_few(size: u32) -> Failure {
    let failure = Failure::new(format!("there are no {size} ids for a container of its own (--userns auto)"));
    match rustix::process::geteuid().is_root() {
        true => failure.hint(format!(
            "write ranges for the user {OWNER} into /etc/subuid and /etc/subgid, and do not use them \
             elsewhere: {OWNER}:2147483647:2147483648"
        )),
        false => failure.hint(
            "as root: usermod --add-subuids 200000-1248575 --add-subgids 200000-1248575 USER; or remove \
             containers, or ask for fewer: --userns auto:size=COUNT",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, count: u32) -> Range {
        Range { first, count }
    }

    #[test]
    fn the_lowest_that_is_free() {
        let pool = [range(100, 10), range(200, 100)];
        assert_eq!(lowest(&pool, vec![], 10), Some(100));
        assert_eq!(lowest(&pool, vec![], 11), Some(200));
        assert_eq!(lowest(&pool, vec![range(103, 2)], 3), Some(100));
        assert_eq!(lowest(&pool, vec![range(103, 2)], 4), Some(105));
        assert_eq!(lowest(&pool, vec![range(250, 40), range(90, 110), range(200, 20)], 30), Some(220));
        assert_eq!(lowest(&pool, vec![range(200, 100)], 11), None);
        assert_eq!(lowest(&pool, vec![range(0, u32::MAX)], 1), None);
    }

    #[test]
    fn ranges_are_of_who_is_meant() {
        let text =
            "containers:5:6\nother:1:2\nbad\ncontainers:x:1\ncontainers:4294967295:2\ncontainers:70:80\n";
        assert_eq!(ranges_of(text, OWNER), [range(5, 6), range(70, 80)]);
    }
}
