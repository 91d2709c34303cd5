//! `--security-opt`.

use crate::failure::{Failure, Result};

/// What `--security-opt` says.
#[derive(Default)]
pub struct Security {
    /// Whether set-user-id programs are void.
    pub no_new_privileges: bool,
    /// `unconfined`, or a file.
    pub seccomp: Option<String>,
    /// Paths that are not to be masked; `ALL` is all.
    pub unmask: Vec<String>,
}

impl Security {
    /// All of them together.
    pub fn parse(options: &[String]) -> Result<Security> {
        let mut found = Security::default();
        for option in options {
            match option.split_once(['=', ':']).unwrap_or((option, "")) {
                ("no-new-privileges", "" | "true") => found.no_new_privileges = true,
                ("no-new-privileges", "false") => found.no_new_privileges = false,
                ("seccomp", profile) if !profile.is_empty() => found.seccomp = Some(profile.to_owned()),
                ("unmask", paths) if !paths.is_empty() => {
                    found.unmask.extend(paths.split(':').map(str::to_owned));
                }
                ("systempaths", "unconfined") => found.unmask.push("ALL".to_owned()),
                // There is none to leave.
                ("label", "disable") | ("apparmor", "unconfined") => {}
                _ => {
                    return Err(Failure::new(format!("invalid --security-opt: {option:?}"))
                        .hint("there are no-new-privileges, seccomp=unconfined|FILE, unmask=ALL|PATH:PATH"));
                }
            }
        }
        Ok(found)
    }
}
