//! The machine in plain words: no names, no paths.

use std::fs;
use std::path::Path;

use crate::plan::Upper;

/// Sentences that a reader needs to judge figures of mounts by.
pub fn described(home: &Path, upper: Upper) -> Vec<String> {
    let upper = match upper {
        Upper::Tmpfs => "tmpfs, new for each run",
        Upper::Ext4 => "ext4 in an image in memory, new for each run",
    };
    let mut sentences = hardware();
    sentences
        .push(format!("lower layers on {}, their pages cached; upper layer on {upper}", file_system(home)));
    sentences
}

/// Processors, memory, kernel.
pub fn hardware() -> Vec<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field(&cpuinfo, "model name").unwrap_or_else(|| "of unknown make".to_owned());
    let virtual_machine =
        if cpuinfo.split_whitespace().any(|word| word == "hypervisor") { ", a virtual machine" } else { "" };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = field(&memory, "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or_else(String::new, |kib| format!(", {} GiB of memory", (kib + (1 << 19)) >> 20));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    vec![format!("{cpus} CPUs ({model}){memory}{virtual_machine}"), format!("Linux {kernel}")]
}

/// The type of the file system that `path` lies on.
pub fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let deepest = mounts
        .lines()
        .filter_map(|line| {
            let (ours, theirs) = line.split_once(" - ")?;
            let point = ours.split(' ').nth(4)?;
            path.starts_with(point).then_some((point.len(), theirs.split(' ').next()?))
        })
        .max_by_key(|(length, _)| *length);
    deepest.map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind.to_owned())
}
