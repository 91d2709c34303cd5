//! `--userns`: whose ids a container has, in podman's words.
//!
//! | word | ids |
//! |---|---|
//! | `host` | the caller's, or of an ordinary user those of his namespace |
//! | `keep-id[:uid=N,gid=N]` | the caller's own id is the same inside, or this one |
//! | `auto[:size=N]` | a range that no other container has (`container::ids`) |
//!
//! Files have the image's ids on disk whatever is said here: the union shows
//! them as those of the namespace.

use rustix::process::{getegid, geteuid};

use crate::bundle::IdMapping;
use crate::container::{Config, Mode};
use crate::failure::{Failure, Result};
use crate::sandbox::Identity;
use crate::sandbox::identity::Plan;

/// As many ids as podman gives at least.
const LEAST: u32 = 1024;
/// And as many as a system expects to exist: 0 to `nobody`.
const USUAL_IDS: u32 = 65536;

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Host,
    KeepId { uid: Option<u32>, gid: Option<u32> },
    Auto { size: Option<u32> },
}

fn parse(text: &str) -> Result<Wanted> {
    let invalid = || {
        Failure::new(format!("invalid userns mode: {text}"))
            .hint("there are host, keep-id[:uid=UID,gid=GID], auto[:size=COUNT]")
    };
    let (word, options) = text.split_once(':').unwrap_or((text, ""));
    let mut wanted = match word {
        "host" if options.is_empty() => Wanted::Host,
        "keep-id" => Wanted::KeepId { uid: None, gid: None },
        "auto" => Wanted::Auto { size: None },
        _ => return Err(invalid()),
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').ok_or_else(invalid)?;
        let number = value.parse::<u32>().ok().filter(|number| *number <= i32::MAX as u32);
        let number = number.ok_or_else(invalid)?;
        match (&mut wanted, key) {
            (Wanted::KeepId { uid, .. }, "uid") => *uid = Some(number),
            (Wanted::KeepId { gid, .. }, "gid") => *gid = Some(number),
            (Wanted::Auto { size }, "size") if number > 0 => *size = Some(number),
            _ => return Err(invalid()),
        }
    }
    Ok(wanted)
}

/// Puts what was typed into a container's configuration. A range of its own is
/// taken later: when it is made.
pub fn apply(config: &mut Config, text: Option<&str>) -> Result<()> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
    let wanted = parse(text)?;
    if wanted != Wanted::Host && !(config.uid_map.is_empty() && config.gid_map.is_empty()) {
        return Err(Failure::new(format!("--userns {text} and --uidmap, --gidmap exclude each other")));
    }
    config.userns = if wanted == Wanted::Host { Mode::Host } else { Mode::Named(text.to_owned()) };
    let Wanted::KeepId { uid, gid } = wanted else { return Ok(()) };
    let uid = uid.unwrap_or(geteuid().as_raw());
    let gid = gid.unwrap_or(getegid().as_raw());
    let room = Plan::new(Identity::Root)?.room();
    config.uid_map = kept(uid, room.users);
    config.gid_map = kept(gid, room.groups);
    if config.user.is_empty() {
        config.user = format!("{uid}:{gid}");
    }
    Ok(())
}

/// Whether a container has a user namespace of its own.
pub fn has_its_own(config: &Config) -> bool {
    !config.uid_map.is_empty() || matches!(config.userns, Mode::Named(_))
}

/// The caller, who is 0 where the container is made, as `id`; everybody else
/// moves up by one, as far as there are ids.
fn kept(id: u32, room: u32) -> Vec<IdMapping> {
    let range = |container_id, host_id, size| IdMapping { container_id, host_id, size };
    let below = id.min(room - 1);
    let above = room - 1 - below;
    [range(0, 1, below), range(id, 0, 1), range(id.saturating_add(1), below + 1, above)]
        .into_iter()
        .filter(|range| range.size > 0)
        .collect()
}

/// How many ids a container wants of its own; none if it wants no such range.
/// Where nobody says it, as many as its users and groups need.
pub fn size(config: &Config, tables: impl FnOnce() -> Result<Vec<u32>>) -> Result<Option<u32>> {
    let Mode::Named(text) = &config.userns else { return Ok(None) };
    match parse(text)? {
        Wanted::Host | Wanted::KeepId { .. } => Ok(None),
        Wanted::Auto { size: Some(size) } => Ok(Some(size)),
        Wanted::Auto { size: None } => {
            let user = config.user.split(':').filter_map(|id| id.parse().ok());
            // Not nobody's, or it would always be all.
            let ids = tables()?.into_iter().filter(|id| *id < USUAL_IDS - 2).chain(user);
            Ok(Some(ids.max().map_or(LEAST, |id: u32| id.saturating_add(1).max(LEAST))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_podman_s() {
        assert_eq!(parse("host").unwrap(), Wanted::Host);
        assert_eq!(parse("keep-id").unwrap(), Wanted::KeepId { uid: None, gid: None });
        assert_eq!(parse("keep-id:gid=3,uid=2").unwrap(), Wanted::KeepId { uid: Some(2), gid: Some(3) });
        assert_eq!(parse("auto:size=70000").unwrap(), Wanted::Auto { size: Some(70_000) });
        for bad in ["", "hosts", "host:x=1", "keep-id:size=1", "auto:size=0", "auto:size=", "auto:uid=1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whoever_keeps_his_id_changes_places() {
        let told = |id, room| -> Vec<(u32, u32, u32)> {
            let ranges = kept(id, room);
            ranges.iter().map(|range| (range.container_id, range.host_id, range.size)).collect()
        };
        assert_eq!(told(1000, 65536), [(0, 1, 1000), (1000, 0, 1), (1001, 1001, 64535)]);
        assert_eq!(told(1000, 1), [(1000, 0, 1)]);
        assert_eq!(told(0, 65536), [(0, 0, 1), (1, 1, 65535)]);
        assert_eq!(told(70_000, 65536), [(0, 1, 65535), (70_000, 0, 1)]);
    }

    #[test]
    fn a_range_is_as_long_as_its_users_need() {
        let of = |text: &str, user: &str, ids: Vec<u32>| {
            let (userns, user) = (Mode::Named(text.to_owned()), user.to_owned());
            size(&Config { userns, user, ..Config::default() }, || Ok(ids)).unwrap()
        };
        assert_eq!(of("auto", "", vec![0, 65534]), Some(1024));
        assert_eq!(of("auto", "", vec![0, 2000, 5]), Some(2001));
        assert_eq!(of("auto", "3000:5", vec![0, 2000]), Some(3001));
        assert_eq!(of("auto:size=5", "", vec![2000]), Some(5));
        assert_eq!(of("keep-id", "", vec![]), None);
    }
}
