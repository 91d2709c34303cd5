//! The daemons of a mount, as /proc shows them.
//!
//! A worker is the first process of a process namespace of its own, so that
//! every other process there was started by the mount.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::figure::Daemon;

/// How long a daemon may take to end after the unmount.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every process of the namespace but the worker itself.
///
/// # Errors
/// Those of reading /proc.
pub fn processes() -> io::Result<Vec<u32>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok())
            && pid != own
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What the processes have used until now.
///
/// # Errors
/// Those of reading /proc.
pub fn used(pids: &[u32]) -> io::Result<Daemon> {
    let tick = rustix::param::clock_ticks_per_second() as f64;
    let mut sum = Daemon::default();
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in brackets, may have blanks; utime and stime are 14 and 15.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let times = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        sum.cpu += times.sum::<f64>() / tick;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        sum.resident += kibibytes(&status, "VmRSS:") << 10;
        sum.peak += kibibytes(&status, "VmHWM:") << 10;
    }
    Ok(sum)
}

fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Waits until the processes have ended.
///
/// # Errors
/// The name of one that did not.
pub fn wait(pids: &[u32]) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for &pid in pids {
        let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        while fs::exists(format!("/proc/{pid}"))? {
            // Orphans are this process's children; who has another parent is
            // reaped by it.
            match waitpid(Some(process), WaitOptions::NOHANG) {
                Ok(Some(_)) => break,
                Ok(None) | Err(rustix::io::Errno::CHILD) => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("a daemon did not end after the unmount"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
