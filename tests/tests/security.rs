//! Attacks that hit systems like this one, where a whole mount is needed to try
//! them. (What is promised by number is in `semantics/security.rs`: forged
//! marks, set-id files of nosuid layers, redirects, whiteouts made inside.)

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tests::mount::{Driver, Mount};
use tests::scratch::Backing;
use tests::stage::{Stage, put};
use tests::sys;
use tests::tree::Tree;

/// Runs `act` as user 1000.
fn as_user<T>(act: impl FnOnce() -> T) -> T {
    sys::become_user(1000, &[1000]).unwrap();
    let result = act();
    sys::become_root().unwrap();
    result
}

/// Permissions hold for every other user, whatever was asked for.
#[test]
fn permissions_are_always_enforced() {
    for option in ["allow_other", "allow_other,default_permissions", "timeout=0"] {
        let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
        put(&stage.lowers[0], "secret", "secret").unwrap();
        fs::set_permissions(stage.lowers[0].join("secret"), Permissions::from_mode(0o600)).unwrap();
        put(&stage.lowers[0], "closed/inside", "secret").unwrap();
        fs::set_permissions(stage.lowers[0].join("closed"), Permissions::from_mode(0o700)).unwrap();
        let mount = Mount::new(Driver::Runionfs, &stage.layers().with(option), &stage.merged).unwrap();
        // Root has looked, so that all of it is cached.
        Tree::read(mount.path()).unwrap();
        let merged = mount.path();
        let denied = |result: io::Result<()>, what: &str| {
            let errno = result.expect_err(what).raw_os_error();
            assert!(matches!(errno, Some(libc::EACCES | libc::EPERM)), "{option}: {what}: {errno:?}");
        };
        as_user(|| {
            denied(fs::read(merged.join("secret")).map(drop), "read");
            denied(File::create(merged.join("new")).map(drop), "create");
            denied(fs::remove_file(merged.join("secret")), "unlink");
            denied(fs::read_dir(merged.join("closed")).map(drop), "list");
            denied(fs::read(merged.join("closed/inside")).map(drop), "read in a closed directory");
            denied(fs::set_permissions(merged.join("secret"), Permissions::from_mode(0o666)), "chmod");
            denied(fs::rename(merged.join("secret"), merged.join("closed/taken")), "rename");
        });
        mount.unmount().unwrap();
    }
    let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    let layers = stage.layers().with("nodefault_permissions");
    assert!(Mount::new(Driver::Runionfs, &layers, &stage.merged).is_err(), "permissions can be turned off");
}

/// Someone inside exchanges a directory for a symlink that leads out while
/// files below it are copied up.
#[test]
fn a_symlink_swapped_in_never_leads_a_copy_out() {
    const FILES: usize = 300;
    let mut stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    let outside = stage.scratch.dir("outside").unwrap();
    for number in 0..FILES {
        put(&stage.lowers[0], &format!("d/f{number}"), "lower").unwrap();
        put(&outside, &format!("f{number}"), "outside").unwrap();
    }
    symlink("../outside", stage.lowers[0].join("s")).unwrap();
    stage.seal().unwrap();
    let before = Tree::read(&outside).unwrap();
    let mount = stage.mount(Driver::Runionfs).unwrap();
    let merged = mount.path();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, merged.join("d"), CWD, merged.join("s"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        for number in 0..FILES {
            // Opened where the symlink leads it would be another file: the
            // caller's own doing, so the caller does not follow it.
            let path = merged.join(format!("d/f{number}"));
            let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::APPEND;
            let inside = rustix::fs::ResolveFlags::NO_SYMLINKS;
            if let Ok(file) = rustix::fs::openat2(CWD, &path, flags, Mode::empty(), inside) {
                File::from(file).write_all(b"!").unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    mount.unmount().unwrap();
    assert_eq!(before.differences(&Tree::read(&outside).unwrap(), &[]), Vec::<String>::new());
    assert_eq!(stage.damage().unwrap(), Vec::<String>::new());
    let uppers = Tree::read(&stage.upper).unwrap();
    let copied = uppers.nodes.values().filter(|node| node.kind == FileType::RegularFile).count();
    assert!(copied > 0, "nothing was copied up, so nothing was tried");
}

/// The daemon runs out of descriptors: callers get an errno, nothing panics, and
/// it recovers.
#[test]
fn running_out_of_descriptors_is_an_errno() {
    let mut stage = Stage::new(Backing::Tmpfs, 2).unwrap();
    for lower in &stage.lowers {
        for number in 0..200 {
            put(lower, &format!("d{number}/sub/file"), "lower").unwrap();
        }
    }
    stage.seal().unwrap();
    let mount = stage.mount(Driver::Runionfs).unwrap();
    let pid = Pid::from_raw(mount.daemon().unwrap() as i32);
    let limit =
        |count| prlimit(pid, Resource::Nofile, Rlimit { current: Some(count), maximum: Some(20_000) });
    limit(40).unwrap();
    let mut held = Vec::new();
    let mut failures = 0;
    for number in 0..200 {
        let path = mount.path().join(format!("d{number}/sub/file"));
        match OpenOptions::new().read(true).append(number % 2 == 0).open(path) {
            Ok(file) => held.push(file),
            Err(error) => {
                let errno = error.raw_os_error();
                assert!(matches!(errno, Some(libc::EMFILE | libc::ENFILE | libc::EIO)), "{error}");
                failures += 1;
            }
        }
    }
    assert!(failures > 0, "the limit was never met");
    drop(held);
    limit(10_000).unwrap();
    for number in 0..200 {
        let path = mount.path().join(format!("d{number}/sub/file"));
        OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(b"!")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"lower!");
    }
    mount.unmount().unwrap();
    assert_eq!(stage.damage().unwrap(), Vec::<String>::new());
}

/// A user who is root in a namespace of his own gives a file capabilities
/// through a mount of his: on the host they must mean nothing.
#[test]
fn capabilities_given_in_a_user_namespace_stay_there() {
    let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    put(&stage.lowers[0], "program", "x").unwrap();
    for dir in [&stage.lowers[0], &stage.upper, &stage.work, &stage.merged, &stage.lowers[0].join("program")]
    {
        std::os::unix::fs::chown(dir, Some(1000), Some(1000)).unwrap();
    }
    // A device node that the user may open; the namespace is this thread's own.
    let node = stage.scratch.path().join("fuse");
    mknodat(CWD, &node, FileType::CharacterDevice, Mode::from_raw_mode(0o666), rustix::fs::makedev(10, 229))
        .unwrap();
    fs::set_permissions(&node, Permissions::from_mode(0o666)).unwrap();
    rustix::mount::mount_bind(&node, "/dev/fuse").unwrap();
    let program = stage.scratch.path().join("mount-runionfs");
    fs::copy(tests::binary::mount_runionfs().unwrap(), &program).unwrap();
    let script = "set -e; \"$0\" -o lowerdir=$1,upperdir=$2,workdir=$3 $4; \
                  setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 $4/program || true; \
                  getfattr -e hex -n security.capability $4/program || true; umount $4";
    let output = Command::new("setpriv")
        .args([
            "--reuid",
            "1000",
            "--regid",
            "1000",
            "--clear-groups",
            "--",
            "unshare",
            "-Urm",
            "sh",
            "-c",
            script,
        ])
        .arg(&program)
        .args([&stage.lowers[0], &stage.upper, &stage.work, &stage.merged])
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            return tests::skipped("capabilities_given_in_a_user_namespace_stay_there", &error.to_string());
        }
    };
    rustix::mount::unmount("/dev/fuse", rustix::mount::UnmountFlags::DETACH).unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut value = [0; 64];
    match rustix::fs::lgetxattr(stage.upper.join("program"), "security.capability", &mut value) {
        // Revision 3 names the root user they are for: not the host's.
        Ok(24) => {
            assert_eq!(value[3], 3, "revision of {value:?}");
            let root = u32::from_le_bytes([value[20], value[21], value[22], value[23]]);
            assert_eq!(root, 1000, "whose capabilities they are");
        }
        Ok(length) => panic!("capabilities of the host: {:?}", &value[..length]),
        Err(_) => println!("refused: {said}"),
    }
}

/// Directories that contain each other are refused, with both named.
#[test]
fn overlapping_directories_are_refused() {
    let refused = |change: fn(&mut Stage), names: [&str; 2]| {
        let mut stage = Stage::new(Backing::Tmpfs, 1).unwrap();
        change(&mut stage);
        let error = stage.mount(Driver::Runionfs).err().expect("mounted").to_string();
        for name in names {
            let path = stage.scratch.path().join(name);
            let last = error.rsplit("runionfs: ").next().unwrap_or_default();
            assert!(last.contains(&*path.to_string_lossy()), "{name} is not named: {error}");
        }
    };
    refused(|s| s.lowers[0] = s.upper.clone(), ["upper", "upper"]);
    refused(|s| s.work = s.upper.join("work"), ["upper", "upper"]);
    refused(|s| s.merged = s.upper.clone(), ["upper", "upper"]);
}

/// Marks that come from a hostile lower may be wrong in every way: the daemon
/// answers with an errno and goes on.
#[test]
fn malformed_marks_are_errors_not_ends() {
    let stage = Stage::new(Backing::Tmpfs, 2).unwrap();
    let values: [&[u8]; 9] =
        [b"", b"/", b"..", b"/../../etc", b"a/b", b"/a//b", b"\xff\xff", &[b'/'; 4096], &[b'a'; 300]];
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    for (number, value) in values.iter().enumerate() {
        for name in ["redirect", "metacopy", "origin", "nlink", "opaque"] {
            let path = stage.lowers[0].join(format!("{name}-{number}"));
            fs::create_dir(&path).unwrap();
            set(&path, &format!("trusted.overlay.{name}"), value);
            let file = stage.lowers[0].join(format!("file-{name}-{number}"));
            File::create(&file).unwrap().set_len(100).unwrap();
            set(&file, &format!("trusted.overlay.{name}"), value);
            set(&file, "trusted.overlay.metacopy", b"");
        }
    }
    put(&stage.lowers[1], "good", "good").unwrap();
    let mount = stage.mount(Driver::Runionfs).unwrap();
    for entry in fs::read_dir(mount.path()).unwrap() {
        let path = entry.unwrap().path();
        // Whatever it is, it is not another file, and not the end.
        if let Ok(content) = fs::read(&path) {
            assert!(content.is_empty() || path.ends_with("good") || content == [0; 100], "{path:?}");
        }
        fs::read_dir(&path).map(|entries| entries.count()).ok();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).ok();
        fs::rename(&path, path.with_extension("moved")).ok();
    }
    let names: Vec<_> = fs::read_dir(mount.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name == "good.moved"), "{names:?}");
    mount.unmount().unwrap();
}
