//! The program of a command: found as the container's own `PATH` says, in the
//! container, and executed.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::init::FirstProcess;
use crate::bundle::Process;
use crate::failure::{CANNOT_RUN, Context, Failure, NOT_FOUND, Result};
use crate::sys::process;

/// Where programs are if nothing is said.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A table of users is read so far.
const LONGEST_TABLE: u64 = 1 << 20;

/// A command that is ready to be executed.
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    shown: String,
    /// What is pid 1.
    pub first: FirstProcess,
}

impl Program {
    /// Finds it; in the container's root, as the user it will be.
    pub fn find(command: &Process, first: FirstProcess) -> Result<Program> {
        let shown = command.args.first().cloned().unwrap_or_default();
        let path = look_up(&shown, &command.env).map_err(|error| refusal(&shown, &error))?;
        let text = |text: &str| {
            CString::new(text).context(|| format!("cannot run {shown:?}: a word of its has a zero byte"))
        };
        let path = text(&path.to_string_lossy())?;
        let arguments = command.args.iter().map(|word| text(word)).collect::<Result<Vec<_>>>()?;
        let mut environment = command.env.iter().map(|pair| text(pair)).collect::<Result<Vec<_>>>()?;
        if !command.env.iter().any(|pair| pair.starts_with("HOME=")) {
            environment.push(text(&format!("HOME={}", home_of(command.user.uid)))?);
        }
        Ok(Program { path, arguments, environment, shown, first })
    }

    /// Becomes it; comes back with the reason why not.
    pub fn execute(&self) -> Failure {
        let error = process::execute(&self.path, &self.arguments, &self.environment);
        refusal(&self.shown, &error)
    }
}

/// A user's directory by the container's table, or the root. The table may be
/// anything: only a regular file is read, and no more than tables are long.
fn home_of(uid: u32) -> String {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let read = || {
        let file = File::from(rustix::fs::open("/etc/passwd", flags, Mode::empty()).ok()?);
        let is_regular = file.metadata().ok()?.is_file();
        let mut bytes = Vec::new();
        if !is_regular {
            return None;
        }
        file.take(LONGEST_TABLE).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let of_user = |line: &&str| line.split(':').nth(2).and_then(|id| id.parse().ok()) == Some(uid);
        text.lines().find(of_user)?.split(':').nth(5).filter(|home| home.starts_with('/')).map(str::to_owned)
    };
    read().unwrap_or_else(|| "/".to_owned())
}

/// As execvp(3) looks, but by the container's environment.
fn look_up(name: &str, environment: &[String]) -> io::Result<PathBuf> {
    if name.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    if name.contains('/') {
        return usable(Path::new(name)).map(|()| PathBuf::from(name));
    }
    let path = environment.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or(USUAL_PATH);
    let mut denied = false;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(name);
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => denied |= error.raw_os_error() == Some(libc::EACCES),
        }
    }
    Err(io::Error::from_raw_os_error(if denied { libc::EACCES } else { libc::ENOENT }))
}

/// Whether it is a file that this process may execute.
fn usable(path: &Path) -> io::Result<()> {
    let stat = std::fs::metadata(path)?;
    if stat.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if stat.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS)?;
    Ok(())
}

/// Why a command could not be run, in docker's words and with its exit codes.
pub fn refusal(name: &str, error: &io::Error) -> Failure {
    let is_path = name.contains('/');
    let words = match error.raw_os_error() {
        Some(libc::ENOENT) if is_path => format!("exec: {name:?}: stat {name}: no such file or directory"),
        Some(libc::ENOENT) => format!("exec: {name:?}: executable file not found in $PATH"),
        Some(libc::EACCES) => format!("exec: {name:?}: permission denied"),
        Some(libc::EISDIR) => format!("exec: {name:?}: is a directory"),
        Some(libc::ENOEXEC) => format!("exec {name}: exec format error"),
        _ => format!("exec: {name:?}: {error}"),
    };
    let code = if error.raw_os_error() == Some(libc::ENOENT) { NOT_FOUND } else { CANNOT_RUN };
    Failure::new(words).code(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_s_path_counts_and_codes_are_docker_s() {
        let path = |value: &str| vec![format!("PATH={value}")];
        assert_eq!(look_up("sh", &path("/nowhere:/bin")).unwrap(), Path::new("/bin/sh"));
        let code = |name: &str, env: &[String]| refusal(name, &look_up(name, env).unwrap_err()).parts().0;
        assert_eq!(code("sh", &path("/nowhere")), NOT_FOUND);
        assert_eq!(code("/nowhere/sh", &[]), NOT_FOUND);
        assert_eq!(code("/etc", &[]), CANNOT_RUN);
        assert_eq!(code("/etc/passwd", &[]), CANNOT_RUN);
        assert_eq!(code("", &[]), NOT_FOUND);
    }
}
