//! Bytes of one large file: of a lower layer for reading, a new one for writing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{pread, pwrite};
use rustix::mm::ProtFlags;

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::{Stage, unsupported};
use crate::sys::Mapping;

pub const WORKLOADS: &[Workload] = &[
    reading("data-read", "read a lower file of 512 MiB from front to back, 128 KiB at a time, twice", read),
    reading("data-random", "read 4 KiB at 20,000 random places of a lower file of 512 MiB, twice", random),
    reading("data-mmap", "touch every page of a mapping of a lower file of 512 MiB, twice", mapped),
    writing(
        "data-write",
        "write a file of 512 MiB, 128 KiB at a time; again; 1 MiB at a time; 4 KiB at random places",
        write,
    ),
    writing("data-append", "20,000 appends of 4 KiB to one open file", append),
    writing("data-mmap-write", "store into every page of a shared mapping of a new file of 512 MiB", store),
    writing("data-direct", "O_DIRECT on a new file: 1 MiB from front to back, 4 KiB at random", direct),
];

const fn reading(name: &'static str, about: &'static str, run: fn(&mut Stage) -> io::Result<()>) -> Workload {
    Workload {
        name,
        group: Group::Data,
        about,
        tree: Tree::Data,
        lowers: LOWERS,
        bare: Bare::Whole,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run,
    }
}

const fn writing(name: &'static str, about: &'static str, run: fn(&mut Stage) -> io::Result<()>) -> Workload {
    Workload {
        name,
        group: Group::Data,
        about,
        tree: Tree::Plain,
        lowers: LOWERS,
        bare: Bare::Copy,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run,
    }
}

const BLOCK: usize = 128 << 10;
const LARGE: usize = 1 << 20;
const PAGE: usize = 4 << 10;

fn read(stage: &mut Stage) -> io::Result<()> {
    let bytes = stage.sizes().data_bytes as usize;
    let file = open(&stage.mount()?.join("data"), OFlags::RDONLY)?;
    for pass in ["cold", "warm"] {
        stage.measure(pass, Unit::BytesPerSecond, bytes, |_| read_through(&file, bytes, &mut [0; BLOCK]))?;
    }
    Ok(())
}

fn random(stage: &mut Stage) -> io::Result<()> {
    let places = Places::of(stage);
    let file = open(&stage.mount()?.join("data"), OFlags::RDONLY)?;
    for pass in ["cold", "warm"] {
        stage.measure(pass, Unit::SecondsEach, places.count, |_| read_at(&file, &places, &mut [0; PAGE]))?;
    }
    Ok(())
}

fn mapped(stage: &mut Stage) -> io::Result<()> {
    let bytes = stage.sizes().data_bytes as usize;
    let file = open(&stage.mount()?.join("data"), OFlags::RDONLY)?;
    for pass in ["cold", "warm"] {
        let map = Mapping::new(file.as_fd(), bytes, ProtFlags::READ)?;
        stage.measure(pass, Unit::BytesPerSecond, bytes, |_| {
            std::hint::black_box(map.touch());
            Ok(())
        })?;
    }
    Ok(())
}

fn write(stage: &mut Stage) -> io::Result<()> {
    let bytes = stage.sizes().data_bytes as usize;
    let places = Places::of(stage);
    let file = open(&stage.mount()?.join("new"), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    for (pass, length) in
        [("sequential, new", BLOCK), ("sequential, again", BLOCK), ("sequential, 1 MiB", LARGE)]
    {
        let buffer = vec![b'x'; length];
        stage.measure(pass, Unit::BytesPerSecond, bytes, |_| write_through(&file, bytes, &buffer))?;
    }
    stage
        .measure("random 4 KiB", Unit::SecondsEach, places.count, |_| write_at(&file, &places, &[b'y'; PAGE]))
}

fn append(stage: &mut Stage) -> io::Result<()> {
    let count = stage.sizes().random_operations;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
    let file = open(&stage.mount()?.join("log"), flags)?;
    stage.measure("append 4 KiB", Unit::SecondsEach, count, |_| {
        (0..count).try_for_each(|_| exactly(rustix::io::write(&file, &[b'x'; PAGE])?, PAGE))
    })
}

fn store(stage: &mut Stage) -> io::Result<()> {
    let bytes = stage.sizes().data_bytes;
    let file = open(&stage.mount()?.join("new"), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    file.set_len(bytes)?;
    let mut map = Mapping::new(file.as_fd(), bytes as usize, ProtFlags::READ | ProtFlags::WRITE)?;
    stage.measure("store and fsync", Unit::BytesPerSecond, bytes as usize, |_| {
        map.fill(b'x');
        file.sync_all()
    })
}

fn direct(stage: &mut Stage) -> io::Result<()> {
    let bytes = stage.sizes().data_bytes as usize;
    let places = Places::of(stage);
    let path = stage.mount()?.join("new");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::DIRECT;
    let file = open(&path, flags).map_err(|e| match e.raw_os_error() {
        Some(libc::EINVAL) => unsupported("no O_DIRECT here"),
        _ => e,
    })?;
    let mut buffer = Aligned::new();
    stage.measure("sequential write", Unit::BytesPerSecond, bytes, |_| {
        write_through(&file, bytes, buffer.bytes(LARGE))
    })?;
    stage.measure("sequential read", Unit::BytesPerSecond, bytes, |_| {
        read_through(&file, bytes, buffer.bytes(LARGE))
    })?;
    stage.measure("random write", Unit::SecondsEach, places.count, |_| {
        write_at(&file, &places, buffer.bytes(PAGE))
    })?;
    stage.measure("random read", Unit::SecondsEach, places.count, |_| {
        read_at(&file, &places, buffer.bytes(PAGE))
    })
}

/// A buffer that O_DIRECT takes.
struct Aligned(Vec<u8>);

impl Aligned {
    fn new() -> Aligned {
        Aligned(vec![b'x'; LARGE + PAGE])
    }

    fn bytes(&mut self, length: usize) -> &mut [u8] {
        let start = self.0.as_ptr().align_offset(PAGE);
        &mut self.0[start..start + length]
    }
}

/// Places in a file, the same in every run.
struct Places {
    pages: u64,
    count: usize,
}

impl Places {
    fn of(stage: &Stage) -> Places {
        Places { pages: stage.sizes().data_bytes / PAGE as u64, count: stage.sizes().random_operations }
    }

    /// Offsets in the order of a multiplicative hash: far apart, and all different
    /// until every page has had its turn, as the number of pages is a power of two.
    fn offsets(&self) -> impl Iterator<Item = u64> {
        (0..self.count as u64).map(|i| i.wrapping_mul(0x9E37_79B1) % self.pages * PAGE as u64)
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    Ok(openat(CWD, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?.into())
}

fn read_through(file: &File, bytes: usize, buffer: &mut [u8]) -> io::Result<()> {
    let length = buffer.len();
    (0..bytes).step_by(length).try_for_each(|at| exactly(pread(file, &mut *buffer, at as u64)?, length))
}

fn write_through(file: &File, bytes: usize, buffer: &[u8]) -> io::Result<()> {
    (0..bytes)
        .step_by(buffer.len())
        .try_for_each(|at| exactly(pwrite(file, buffer, at as u64)?, buffer.len()))
}

fn read_at(file: &File, places: &Places, buffer: &mut [u8]) -> io::Result<()> {
    let length = buffer.len();
    places.offsets().try_for_each(|at| exactly(pread(file, &mut *buffer, at)?, length))
}

fn write_at(file: &File, places: &Places, buffer: &[u8]) -> io::Result<()> {
    places.offsets().try_for_each(|at| exactly(pwrite(file, buffer, at)?, buffer.len()))
}

fn exactly(length: usize, expected: usize) -> io::Result<()> {
    match length == expected {
        true => Ok(()),
        false => Err(io::Error::other(format!("{length} bytes of {expected}"))),
    }
}
