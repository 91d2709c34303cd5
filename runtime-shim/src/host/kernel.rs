//! The kernel: new enough, and willing to confine.

use super::Finding;

/// mount_setattr(2) is the newest call that every container takes.
const OLDEST: (u32, u32) = (5, 12);

/// Its version.
pub fn version() -> Finding {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let found = format!("Linux {release} {}", name.machine().to_string_lossy());
    match numbers(&release) {
        Some(version) if version < OLDEST => Finding::missing(
            "kernel",
            found,
            format!("a kernel since {}.{} is needed: mount_setattr(2)", OLDEST.0, OLDEST.1),
        ),
        _ => Finding::ok("kernel", found),
    }
}

/// `6.18.44-fc` is 6.18.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Filters of system calls, with the answer that a container's filter gives.
pub fn seccomp() -> Finding {
    let known = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    match known.split_whitespace().any(|action| action == "errno") {
        true => Finding::ok("seccomp", "filters of system calls"),
        false => Finding::missing(
            "seccomp",
            "no filters of system calls in this kernel",
            "build it with CONFIG_SECCOMP_FILTER=y; without: --security-opt seccomp=unconfined",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(numbers("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(numbers("5.4"), Some((5, 4)));
        assert_eq!(numbers("unknown"), None);
    }
}
