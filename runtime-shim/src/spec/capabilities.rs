//! Which capabilities a container has: docker's list, and what `--cap-add` and
//! `--cap-drop` make of it.

use crate::bundle::Capabilities;
use crate::failure::{Failure, Result};
use crate::launch::CAPABILITIES as ALL;

/// What docker leaves to a container by default.
pub const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The sets of a container's first process, root or not: docker gives no
/// inheritable and no ambient ones.
pub fn of(add: &[String], drop: &[String], privileged: bool) -> Result<Capabilities> {
    let (add, drop) = (names(add)?, names(drop)?);
    let has_all = |list: &[Word]| list.contains(&Word::All);
    let mut kept: Vec<&str> = match privileged || has_all(&add) {
        true => ALL.to_vec(),
        false if has_all(&drop) => Vec::new(),
        false => DEFAULT.to_vec(),
    };
    if !privileged {
        kept.retain(|name| !drop.contains(&Word::One(name)));
        for word in &add {
            let Word::One(name) = word else { continue };
            if !kept.contains(name) {
                kept.push(name);
            }
        }
    }
    kept.sort_unstable();
    let kept: Vec<String> = kept.into_iter().map(str::to_owned).collect();
    Ok(Capabilities {
        bounding: kept.clone(),
        effective: kept.clone(),
        permitted: kept,
        inheritable: Vec::new(),
        ambient: Vec::new(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    All,
    One(&'static str),
}

fn names(list: &[String]) -> Result<Vec<Word>> {
    list.iter().flat_map(|text| text.split(',')).map(name).collect()
}

/// `chown`, `CAP_CHOWN`, `all`.
fn name(text: &str) -> Result<Word> {
    let upper = text.trim().to_uppercase();
    if matches!(upper.as_str(), "ALL" | "CAP_ALL") {
        return Ok(Word::All);
    }
    let known = ALL.iter().find(|name| **name == upper || name.strip_prefix("CAP_") == Some(&upper));
    known.map(|name| Word::One(name)).ok_or_else(|| {
        Failure::new(format!("invalid capability: {text:?}"))
            .hint("names are those of capabilities(7), or ALL")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounding(add: &[&str], drop: &[&str], privileged: bool) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        of(&owned(add), &owned(drop), privileged).unwrap().bounding
    }

    #[test]
    fn as_docker_adds_and_drops() {
        assert_eq!(bounding(&[], &[], false), DEFAULT);
        assert_eq!(bounding(&["sys_admin"], &["all"], false), ["CAP_SYS_ADMIN"]);
        assert_eq!(bounding(&[], &["ALL"], false), Vec::<String>::new());
        assert_eq!(bounding(&["ALL"], &["CAP_BPF"], false).len(), 40);
        assert_eq!(bounding(&[], &["ALL"], true).len(), 41);
        let without = bounding(&[], &["chown,mknod"], false);
        assert!(without.len() == 12 && !without.contains(&"CAP_CHOWN".to_owned()));
        assert!(of(&["nonsense".to_owned()], &[], false).is_err());
    }
}
