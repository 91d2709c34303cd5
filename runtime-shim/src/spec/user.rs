//! Who a command is: `--user` looked up in the container's own tables.
//!
//! The tables are the image's and may be anything: only a regular file, reached
//! by no link, is read, and no more of it than a table is long.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::bundle::User;
use crate::failure::{CANNOT_RUN, Context, Failure, Result};

/// A table is read so far.
const LONGEST: u64 = 1 << 20;

/// A user with what its login has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// By numbers.
    pub user: User,
    /// Where it is at home.
    pub home: String,
}

/// Finds `user`, `uid`, `user:group` or `uid:gid`, and further groups, in the
/// container whose root this is; root where nothing is said.
pub fn find(root: BorrowedFd<'_>, user: &str, more: &[String]) -> Result<Account> {
    let [users, groups] = TABLES;
    look_up(&table(root, users)?, &table(root, groups)?, user, more)
}

type Table = Vec<Vec<String>>;

fn look_up(users: &Table, groups: &Table, user: &str, more: &[String]) -> Result<Account> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let by_name = users.iter().find(|row| field(row, 0) == name);
    let by_number = || number(name).and_then(|id| users.iter().find(|row| number(field(row, 2)) == Some(id)));
    let row = by_name.or_else(by_number);
    let uid = row.and_then(|row| number(field(row, 2))).or(number(name));
    let uid = uid.ok_or_else(|| unknown("user", name))?;
    let own_group = row.and_then(|row| number(field(row, 3))).unwrap_or(0);
    let gid = match group {
        None => own_group,
        Some(group) => group_id(groups, group)?,
    };
    let login = row.map_or("", |row| field(row, 0));
    let is_member =
        |row: &&Vec<String>| field(row, 3).split(',').any(|member| !login.is_empty() && member == login);
    // Its own group among them: giving all others up must not give more.
    let mut further: Vec<u32> = vec![gid];
    if group.is_none() {
        further.extend(groups.iter().filter(is_member).filter_map(|row| number(field(row, 2))));
    }
    for group in more {
        further.push(group_id(groups, group)?);
    }
    further.sort_unstable();
    further.dedup();
    let home = row.map(|row| field(row, 5)).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(Account { user: User { uid, gid, umask: None, additional_gids: further }, home: home.to_owned() })
}

fn group_id(groups: &Table, group: &str) -> Result<u32> {
    let row = groups.iter().find(|row| field(row, 0) == group);
    row.and_then(|row| number(field(row, 2))).or(number(group)).ok_or_else(|| unknown("group", group))
}

fn field(row: &[String], at: usize) -> &str {
    row.get(at).map_or("", String::as_str)
}

/// An id that a kernel takes: -1 would mean none.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= i32::MAX as u32)
}

fn unknown(what: &str, name: &str) -> Failure {
    Failure::new(format!("unable to find {what} {name}: no matching entries in the image's tables"))
        .code(CANNOT_RUN)
}

/// The tables of users and groups.
pub const TABLES: [&str; 2] = ["etc/passwd", "etc/group"];

/// All ids that a table names, users' and groups'.
pub fn ids(table: &[u8]) -> Vec<u32> {
    let table = rows(&String::from_utf8_lossy(table));
    table.iter().flat_map(|row| [field(row, 2), field(row, 3)]).filter_map(number).collect()
}

fn rows(text: &str) -> Table {
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

fn table(root: BorrowedFd<'_>, path: &str) -> Result<Table> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let context = || format!("cannot read the container's /{path}");
    let file = match openat2(root, Path::new(path), flags, Mode::empty(), resolve) {
        // None, a link, a socket.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(Vec::new()),
        opened => opened.context(context)?,
    };
    if FileType::from_raw_mode(fstat(&file).context(context)?.st_mode) != FileType::RegularFile {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(LONGEST).read_to_end(&mut bytes).context(context)?;
    Ok(rows(&String::from_utf8_lossy(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(user: &str, more: &[&str]) -> Option<(u32, u32, Vec<u32>, String)> {
        let users = rows("root:x:0:0::/root:/bin/sh\nuser:x:7:8::/home/user:/bin/sh\n9:x:70:71::/n:/bin/sh");
        let groups = rows("root:x:0:\nown:x:8:\nmore:x:9:user,other\nadm:x:4:");
        let more: Vec<String> = more.iter().map(|group| (*group).to_owned()).collect();
        let found = look_up(&users, &groups, user, &more).ok()?;
        Some((found.user.uid, found.user.gid, found.user.additional_gids, found.home))
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(find("", &[]), Some((0, 0, vec![0], "/root".into())));
        assert_eq!(find("user", &[]), Some((7, 8, vec![8, 9], "/home/user".into())));
        assert_eq!(find("7", &[]), Some((7, 8, vec![8, 9], "/home/user".into())));
        assert_eq!(find("user:adm", &[]), Some((7, 4, vec![4], "/home/user".into())));
        assert_eq!(find("user:12", &["adm", "5"]), Some((7, 12, vec![4, 5, 12], "/home/user".into())));
        // A name that is a number is a name first.
        assert_eq!(find("9", &[]), Some((70, 71, vec![71], "/n".into())));
        assert_eq!(find("1234", &[]), Some((1234, 0, vec![0], "/".into())));
        assert_eq!(find("7:", &[]), Some((7, 8, vec![8, 9], "/home/user".into())));
    }

    #[test]
    fn ids_are_users_and_groups() {
        assert_eq!(ids(b"root:x:0:5::/:\nuser:x:7:8::/:"), [0, 5, 7, 8]);
        assert_eq!(ids(b"more:x:9:user,10\n\xff"), [9]);
    }

    #[test]
    fn what_is_no_user_is_none() {
        for bad in ["nobody-here", "-1", "4294967295", "4294967296", "+7", "user:nothing", "user:-1", " 7"] {
            assert_eq!(find(bad, &[]), None, "{bad}");
        }
        assert_eq!(find("user", &["nothing"]), None);
    }
}
