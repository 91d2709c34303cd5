//! Counting a daemon's system calls by strace.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// strace, attached to the daemons until they end.
pub struct Strace {
    process: Child,
    summary: PathBuf,
}

impl Strace {
    /// Attaches; returns when every thread is traced.
    ///
    /// # Errors
    /// strace cannot be run, or does not attach.
    pub fn attach(pids: &[u32], dir: &Path) -> io::Result<Strace> {
        let summary = dir.join("strace");
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-U", "name,calls", "-o"]).arg(&summary);
        for pid in pids {
            command.arg("-p").arg(pid.to_string());
        }
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = quiet.spawn().map_err(|e| io::Error::other(format!("cannot run strace: {e}")))?;
        let strace = Strace { process, summary };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !all_traced(pids)? {
            if Instant::now() > deadline {
                return Err(io::Error::other("strace did not attach to the daemon"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(strace)
    }

    /// The counts, after the daemons have ended.
    ///
    /// # Errors
    /// Those of waiting and of reading the summary.
    pub fn finish(mut self) -> io::Result<BTreeMap<String, u64>> {
        self.process.wait()?;
        Ok(parse(&fs::read_to_string(&self.summary)?))
    }
}

fn all_traced(pids: &[u32]) -> io::Result<bool> {
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            if status.lines().any(|line| line.starts_with("TracerPid:\t0")) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Lines of a name and a count, between two rules.
fn parse(summary: &str) -> BTreeMap<String, u64> {
    let fields = summary.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter_map(|fields| match fields[..] {
            [name, count] if name != "total" => Some((name.to_owned(), count.parse().ok()?)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_summary_is_read() {
        let text = "syscall              calls\n---------------- ---------\nread                   12\nwritev                  7\n---------------- ---------\ntotal                  19\n";
        let counts = super::parse(text);
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("read".into(), 12), ("writev".into(), 7)]);
    }
}
