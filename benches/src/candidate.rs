//! Who is measured: one table, and the parsing of the lists typed against it.
//!
//! A candidate is a program, its options and a standing. Besides the names of
//! the table, `NAME:OPTION+OPTION` stands for a candidate of the table with more
//! options (`ours:threads=1`), so that an option can be tried without a line here.

use serde::{Deserialize, Serialize};

/// What makes the union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// No union: the same files in one directory.
    Bare,
    /// Kernel overlayfs.
    Overlay,
    /// `fuse-overlayfs` of the distribution, in C.
    FuseOverlayfs1,
    /// `fuse-overlayfs` 2.0.0, in Rust.
    FuseOverlayfs2,
    /// `unionfs` of unionfs-fuse.
    UnionfsFuse,
    /// `mount-runionfs` of this workspace.
    Ours,
}

/// Who mounts it and works in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Real root.
    Root,
    /// Root of a user namespace: no privilege outside of it.
    Namespace,
}

/// Whether the kernel must allow FUSE over io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Uring {
    /// The kernel's setting stays as it is.
    Unneeded,
    /// `enable_uring` is set for the run, and put back.
    Needed,
}

/// One column of every table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// As typed and as shown.
    pub name: String,
    /// What makes the union.
    pub program: Program,
    /// Mount options beyond the layers.
    pub options: Vec<String>,
    /// Who mounts it.
    pub standing: Standing,
    /// What the kernel must allow.
    pub uring: Uring,
}

impl Candidate {
    /// Whether a daemon serves it.
    pub fn has_daemon(&self) -> bool {
        !matches!(self.program, Program::Bare | Program::Overlay)
    }
}

/// Whether a candidate runs when none are named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Always,
    WhenNamed,
}

type Row = (&'static str, Program, &'static [&'static str], Standing, Run);

const TABLE: &[Row] = &[
    ("bare", Program::Bare, &[], Standing::Root, Run::Always),
    ("overlay", Program::Overlay, &[], Standing::Root, Run::Always),
    ("overlay-redirect", Program::Overlay, &["redirect_dir=on", "metacopy=on"], Standing::Root, Run::Always),
    ("fuse-overlayfs-1", Program::FuseOverlayfs1, &[], Standing::Root, Run::Always),
    ("fuse-overlayfs-2", Program::FuseOverlayfs2, &[], Standing::Root, Run::Always),
    ("unionfs-fuse", Program::UnionfsFuse, &[], Standing::Root, Run::Always),
    ("ours", Program::Ours, &[], Standing::Root, Run::Always),
    ("ours-rootless", Program::Ours, &[], Standing::Namespace, Run::Always),
    ("ours-dev", Program::Ours, &["transport=dev"], Standing::Root, Run::Always),
    ("ours-uring", Program::Ours, &["transport=uring"], Standing::Root, Run::Always),
    ("ours-fuser", Program::Ours, &["transport=fuser"], Standing::Root, Run::Always),
    ("overlay-rootless", Program::Overlay, &["userxattr"], Standing::Namespace, Run::WhenNamed),
    ("fuse-overlayfs-2-rootless", Program::FuseOverlayfs2, &[], Standing::Namespace, Run::Always),
];

/// Every name of the table, with what `--list` says of it.
pub fn described() -> Vec<(&'static str, String)> {
    let describe = |(name, program, options, standing, run): &Row| {
        let mut text = match program {
            Program::Bare => "the same files in one plain directory",
            Program::Overlay => "kernel overlayfs",
            Program::FuseOverlayfs1 => "fuse-overlayfs of the distribution (C)",
            Program::FuseOverlayfs2 => "fuse-overlayfs 2.0.0 (Rust)",
            Program::UnionfsFuse => "unionfs-fuse, with cow",
            Program::Ours => "mount-runionfs of this workspace",
        }
        .to_owned();
        if !options.is_empty() {
            text = format!("{text}, -o {}", options.join(","));
        }
        if *standing == Standing::Namespace {
            text.push_str(", in a user namespace");
        }
        if *run == Run::WhenNamed {
            text.push_str(" (only when named)");
        }
        (*name, text)
    };
    TABLE.iter().map(describe).collect()
}

/// The candidates that run when none are named.
pub fn usual() -> Vec<Candidate> {
    TABLE.iter().filter(|row| row.4 == Run::Always).map(build).collect()
}

/// The candidates of a comma-separated list, in its order.
///
/// # Errors
/// A sentence that names the unknown candidate.
pub fn parse_list(list: &str) -> Result<Vec<Candidate>, String> {
    list.split(',').filter(|word| !word.is_empty()).map(parse).collect()
}

fn parse(word: &str) -> Result<Candidate, String> {
    let (name, more) = word.split_once(':').unwrap_or((word, ""));
    let Some(row) = TABLE.iter().find(|row| row.0 == name) else {
        let known: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
        return Err(format!("unknown candidate {name}\nhint: one of {}", known.join(", ")));
    };
    let mut candidate = build(row);
    candidate.name = word.to_owned();
    candidate.options.extend(more.split('+').filter(|option| !option.is_empty()).map(str::to_owned));
    candidate.uring = uring_of(&candidate.options);
    Ok(candidate)
}

fn build(&(name, program, options, standing, _): &Row) -> Candidate {
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    Candidate { name: name.to_owned(), program, uring: uring_of(&options), options, standing }
}

fn uring_of(options: &[String]) -> Uring {
    match options.iter().any(|option| option == "transport=uring") {
        true => Uring::Needed,
        false => Uring::Unneeded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_and_skips_nothing() {
        let list = parse_list("ours,bare,overlay-redirect").unwrap();
        let names: Vec<&str> = list.iter().map(|candidate| candidate.name.as_str()).collect();
        assert_eq!(names, ["ours", "bare", "overlay-redirect"]);
        assert_eq!(list[2].options, ["redirect_dir=on", "metacopy=on"]);
    }

    #[test]
    fn options_may_be_added_to_a_name() {
        let list = parse_list("ours-rootless:transport=uring+threads=1").unwrap();
        assert_eq!(list[0].options, ["transport=uring", "threads=1"]);
        assert_eq!((list[0].standing, list[0].uring), (Standing::Namespace, Uring::Needed));
        assert_eq!(list[0].name, "ours-rootless:transport=uring+threads=1");
    }

    #[test]
    fn an_unknown_name_is_named() {
        let error = parse_list("bare,theirs").unwrap_err();
        assert!(error.starts_with("unknown candidate theirs\nhint: one of bare, "), "{error}");
    }

    #[test]
    fn the_usual_ones_leave_out_what_must_be_named() {
        assert!(usual().iter().all(|candidate| candidate.name != "overlay-rootless"));
        assert_eq!(usual().len(), 12);
    }
}
