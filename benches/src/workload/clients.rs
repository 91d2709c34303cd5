//! One, two and eight clients at once.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, statat};

use super::storm::{create, names, new_directory};
use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::figure::Unit;
use crate::layers::{Tree, small::path_of};
use crate::stage::Stage;
use crate::walk;

pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "clients-stat",
        group: Group::Load,
        about: "stat files for the first time, by 1, 2 and 8 clients, each in directories of its own",
        tree: Tree::Small,
        lowers: LOWERS,
        bare: Bare::Whole,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run: stat,
    },
    Workload {
        name: "clients-create",
        group: Group::Load,
        about: "create files of 4 KiB, by 1, 2 and 8 clients, each in a directory of its own",
        tree: Tree::Plain,
        lowers: LOWERS,
        bare: Bare::Copy,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run: make,
    },
];

const CLIENTS: [usize; 3] = [1, 2, 8];

/// Each number of clients has a third of the files to itself.
fn stat(stage: &mut Stage) -> io::Result<()> {
    let paths: Vec<String> = (0..stage.sizes().small_files).map(path_of).collect();
    let root = walk::open(&stage.mount()?)?;
    for (clients, paths) in CLIENTS.iter().zip(paths.chunks(paths.len() / CLIENTS.len())) {
        let shares = paths.chunks(paths.len().div_ceil(*clients));
        stage.measure(&figure(*clients), Unit::OperationsPerSecond, paths.len(), |_| {
            at_once(shares, |share| {
                let stat = |path: &String| Ok(statat(&root, path, AtFlags::SYMLINK_NOFOLLOW).map(|_| ())?);
                share.iter().try_for_each(stat)
            })
        })?;
    }
    Ok(())
}

fn make(stage: &mut Stage) -> io::Result<()> {
    let count = stage.sizes().storm_files;
    let root = stage.mount()?;
    for clients in CLIENTS {
        let directories: Vec<OwnedFd> = (0..clients)
            .map(|client| new_directory(&root, &format!("of-{client}-of-{clients}")))
            .collect::<io::Result<_>>()?;
        let names = names("made", count / clients)?;
        let files = names.len() * clients;
        stage.measure(&figure(clients), Unit::OperationsPerSecond, files, |_| {
            at_once(directories.iter(), |dir| names.iter().try_for_each(|name| create(dir, name)))
        })?;
    }
    Ok(())
}

fn figure(clients: usize) -> String {
    if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") }
}

/// Gives each share to a thread of its own.
fn at_once<T: Send>(
    shares: impl Iterator<Item = T>,
    work: impl Fn(T) -> io::Result<()> + Sync,
) -> io::Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let clients: Vec<_> = shares.map(|share| scope.spawn(move || work(share))).collect();
        clients.into_iter().try_for_each(|client| {
            client.join().unwrap_or_else(|_| Err(io::Error::other("a client panicked")))
        })
    })
}
