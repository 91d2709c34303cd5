//! Signals by the names and numbers that users type.

use crate::failure::{Failure, Result};

const NAMES: [(&str, i32); 33] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The kernel's realtime signals that the C library leaves to programs.
const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub fn parse(text: &str) -> Result<i32> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let by_number = || name.parse::<i32>().ok().filter(|number| (1..=64).contains(number));
    let by_name = || NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let realtime = || {
        let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(offset), _) => (*REALTIME.start(), offset),
            (_, Some(offset)) => (*REALTIME.end(), offset),
            _ => return None,
        };
        let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().ok()? };
        Some(base.checked_add(offset)?).filter(|number| REALTIME.contains(number))
    };
    by_name()
        .or_else(by_number)
        .or_else(realtime)
        .ok_or_else(|| Failure::as_docker(format!("Invalid signal: {text}")))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("sigkill", 9), ("1", 1), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("64", 64)]
        {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "NOTHING", "RTMIN+31", "-9", "SIG"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
