//! The workloads: one table. Each is a function that plays on a [`Stage`] and
//! measures parts of what it does; what it needs besides is in its row.

mod clients;
mod copyup;
mod data;
mod latency;
mod listing;
mod memory;
mod mounting;
mod packages;
mod programs;
mod small;
mod storm;
mod trees;
mod versions;
mod walking;

use std::io;

use crate::layers::Tree;
use crate::stage::Stage;

/// Where a workload's figures are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Names and attributes.
    Metadata,
    /// Bytes of files.
    Data,
    /// Making, renaming, removing.
    Change,
    /// Programs people run.
    Programs,
    /// Several clients, memory.
    Load,
}

impl Group {
    /// All, in the order of the tables.
    pub const ALL: [Group; 5] = [Group::Metadata, Group::Data, Group::Change, Group::Programs, Group::Load];

    /// Heading and file name.
    pub fn name(self) -> &'static str {
        match self {
            Group::Metadata => "metadata",
            Group::Data => "data",
            Group::Change => "change",
            Group::Programs => "programs",
            Group::Load => "load",
        }
    }
}

/// What the bare directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// The whole tree itself: the workload only reads.
    Whole,
    /// A copy of it on the file system of the uppers.
    Copy,
    /// Nothing to compare with.
    None,
}

/// What must be made besides the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Layers,
    /// The archive of small files.
    Archive,
    /// The packages.
    Packages,
}

/// How often a workload is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// In every round.
    EachRound,
    /// In the first only: it takes long, and comes out the same.
    Once,
}

/// One row.
pub struct Workload {
    /// As typed and as shown.
    pub name: &'static str,
    /// Where it is shown.
    pub group: Group,
    /// One line for `--list`.
    pub about: &'static str,
    /// What the lowers hold.
    pub tree: Tree,
    /// How many lowers.
    pub lowers: usize,
    /// What the bare directory is.
    pub bare: Bare,
    /// What else it needs.
    pub needs: Needs,
    /// How often it is played.
    pub repeat: Repeat,
    /// Plays it.
    pub run: fn(&mut Stage) -> io::Result<()>,
}

/// Lowers where the number is not what is measured.
const LOWERS: usize = 8;

/// Every workload, in the order of the tables.
pub fn all() -> impl Iterator<Item = &'static Workload> {
    TABLES.iter().copied().flatten()
}

const TABLES: &[&[Workload]] = &[
    mounting::WORKLOADS,
    walking::WORKLOADS,
    listing::WORKLOADS,
    small::WORKLOADS,
    data::WORKLOADS,
    storm::WORKLOADS,
    trees::WORKLOADS,
    copyup::WORKLOADS,
    versions::WORKLOADS,
    programs::WORKLOADS,
    packages::WORKLOADS,
    clients::WORKLOADS,
    latency::WORKLOADS,
    memory::WORKLOADS,
];

/// The workload of this name.
pub fn find(name: &str) -> Option<&'static Workload> {
    all().find(|workload| workload.name == name)
}

/// The workloads of a comma-separated list, in the order of the tables. A word
/// stands for the workload of this name, else for all whose names begin with
/// it, else for a group.
///
/// # Errors
/// A sentence that names the unknown workload.
pub fn parse_list(list: &str) -> Result<Vec<&'static Workload>, String> {
    let mut chosen = Vec::new();
    for word in list.split(',').filter(|word| !word.is_empty()) {
        let mut found: Vec<_> = all().filter(|workload| workload.name == word).collect();
        if found.is_empty() {
            found = all().filter(|workload| workload.name.starts_with(word)).collect();
        }
        if found.is_empty() {
            found = all().filter(|workload| workload.group.name() == word).collect();
        }
        if found.is_empty() {
            return Err(format!("unknown workload {word}\nhint: --list shows them"));
        }
        chosen.extend(found);
    }
    Ok(all().filter(|workload| chosen.iter().any(|other| other.name == workload.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        parse_list(list).unwrap().iter().map(|workload| workload.name).collect()
    }

    #[test]
    fn names_differ() {
        let mut names: Vec<_> = all().map(|workload| workload.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_word_is_a_name_a_beginning_or_a_group() {
        assert_eq!(names("stat-walk-8"), ["stat-walk-8"]);
        assert_eq!(names("stat-walk"), ["stat-walk-1", "stat-walk-8", "stat-walk-64", "stat-walk-128"]);
        assert_eq!(names("storm,mount-1"), ["mount-1", "storm"]);
        assert!(names("metadata").len() > 4);
        assert!(parse_list("nonsense").err().unwrap().starts_with("unknown workload nonsense\nhint: "));
    }
}
