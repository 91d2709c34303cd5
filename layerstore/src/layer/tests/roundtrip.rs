//! Archives of the real writers come back bit for bit, with the right entries.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::*;

/// A directory with a file of every kind that archives know.
fn sources(dir: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    std::fs::create_dir_all(dir.join("sub/empty")).unwrap();
    write("none", b"");
    write("small", b"a few bytes");
    write("sub/block", &[7; 4096]);
    let large: Vec<u8> = (0..700_001_u32).map(|i| (i / 3) as u8).collect();
    write("sub/large", &large);
    std::fs::hard_link(dir.join("small"), dir.join("sub/hard")).unwrap();
    std::os::unix::fs::symlink("../small", dir.join("sub/soft")).unwrap();
    let sparse = File::create(dir.join("sparse")).unwrap();
    for place in 0..40_u64 {
        sparse.write_all_at(b"data", place * 200_000).unwrap();
    }
    sparse.set_len(10_000_000).unwrap();
    File::create(dir.join("hole")).unwrap().set_len(3_000_000).unwrap();
    Command::new("mkfifo").arg(dir.join("pipe")).status().unwrap();
    Command::new("setfattr").args(["-n", "user.key", "-v", "value\n"]).arg(dir.join("small")).status().ok();
}

fn long_names(dir: &Path) {
    let deep = dir.join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("f".repeat(200)), "deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), dir.join("far")).unwrap();
    let bytes = std::ffi::OsStr::from_bytes(b"not \xff utf-8");
    std::fs::write(dir.join(bytes), [1; 1000]).unwrap();
}

use std::os::unix::ffi::OsStrExt;

/// The archive as written, and the entries' contents against the directory.
fn check(store: &Store, dir: &Path, command: &mut Command) -> usize {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let framing = store.layer(&output.stdout).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut sparse = 0;
    for entry in framing.entries(&Limits::default()).unwrap() {
        let (entry, contents) = entry.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let path = dir.join(std::ffi::OsStr::from_bytes(&entry.path));
        sparse += usize::from(entry.sparse.is_some());
        let found = match contents {
            Contents::None => continue,
            Contents::Inline(bytes) => bytes.to_vec(),
            Contents::Object { id, .. } => {
                let mut bytes = Vec::new();
                store.pool.get(&id).unwrap().read_to_end(&mut bytes).unwrap();
                bytes
            }
        };
        assert!(found == std::fs::read(&path).unwrap(), "{command:?}: {path:?}");
    }
    sparse
}

#[test]
fn gnu_tar() {
    let store = Store::new();
    let dir = store.scratch.path().join("src");
    sources(&dir);
    let tar = |args: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(&dir).args(args).args(["--sort=name", "-cf-", "."]);
        command
    };
    for format in ["v7", "ustar"] {
        let format = format!("--format={format}");
        check(&store, &dir, tar(&[&format, "--exclude=pipe"]).arg("--warning=none"));
    }
    long_names(&dir);
    for format in ["oldgnu", "gnu", "posix"] {
        let format = format!("--format={format}");
        check(&store, &dir, &mut tar(&[&format]));
        assert_eq!(check(&store, &dir, &mut tar(&[&format, "--sparse"])), 2, "{format}");
    }
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        assert_eq!(check(&store, &dir, &mut tar(&["--format=posix", "--sparse", &version])), 2, "{version}");
    }
    check(
        &store,
        &dir,
        &mut tar(&["--format=posix", "--xattrs", "--pax-option=globexthdr.mtime=1,comment=x"]),
    );
    check(
        &store,
        &dir,
        &mut tar(&["--blocking-factor=200", "--numeric-owner", "--owner=5000000", "--mtime=@-5.5"]),
    );
}

#[test]
fn other_writers() {
    let store = Store::new();
    let dir = store.scratch.path().join("src");
    sources(&dir);
    long_names(&dir);
    for format in ["ustar", "pax", "gnutar", "v7"] {
        let mut command = Command::new("bsdtar");
        command.arg("-C").arg(&dir).args(["--format", format, "-cf-"]);
        // The old formats hold no such names, and no pipes.
        if matches!(format, "ustar" | "v7") {
            command.args(["none", "small", "sub", "sparse"]);
        } else {
            command.arg(".");
        }
        match command.output() {
            Ok(_) => drop(check(&store, &dir, &mut command)),
            Err(error) => println!("skipped: bsdtar: {error}"),
        }
    }
    let mut command = Command::new("busybox");
    command.args(["tar", "-C"]).arg(&dir).args(["-cf-", "none", "small", "sub", "sparse"]);
    match command.output() {
        Ok(_) => drop(check(&store, &dir, &mut command)),
        Err(error) => println!("skipped: busybox: {error}"),
    }
    let script = "import tarfile,sys,os; os.chdir(sys.argv[1]); \
        tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=int(sys.argv[2])).__enter__().add('.')";
    for format in ["1", "2"] {
        let mut command = Command::new("python3");
        command.args(["-c", &format!("{script}; ")]).arg(&dir).arg(format);
        match command.output() {
            Ok(_) => drop(check(&store, &dir, &mut command)),
            Err(error) => println!("skipped: python3: {error}"),
        }
    }
}

/// What our writer writes, our parser and GNU tar read as it was meant.
#[test]
fn our_writer() {
    let store = Store::new();
    let long = "x/".repeat(100) + "name";
    let mut given = [entry("d/"), entry("d/file"), entry("l -> é"), entry("h = d/file"), entry(&long)];
    given[1].meta = Meta { mode: 0o6755, uid: u32::MAX, gid: 0o10000000, mtime: -2, mtime_nsec: 500_000_000 };
    given[1].xattrs.insert(b"security.capability"[..].into(), b"\0\n=\xff"[..].into());
    given[4].path = [&b"x/"[..], &[0xff; 200]].concat();
    given[4].meta.mtime = 1 << 40;
    let device = |kind| Entry { kind, path: b"dev".into(), ..entry("l -> x") };
    let more = [
        device(EntryKind::Fifo),
        device(EntryKind::Char(crate::tree::Device { major: 4095, minor: 1048575 })),
        device(EntryKind::Block(crate::tree::Device { major: 8, minor: 0 })),
    ];
    let given: Vec<Entry> = given.into_iter().chain(more).collect();
    let mut writer = TarWriter::new(Vec::new());
    for entry in &given {
        writer.entry(entry, &vec![b'x'; entry.size as usize][..]).unwrap();
    }
    let tar = writer.finish().unwrap();
    let found: Vec<Entry> = store.entries(&tar).unwrap().into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(found, given);

    let path = store.scratch.path().join("x.tar");
    std::fs::write(&path, tar).unwrap();
    let output = Command::new("tar").arg("--numeric-owner").arg("-tvf").arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("-rwsr-sr-x 4294967295/2097152") && text.contains("4095,1048575"), "{text}");
}

#[test]
fn a_writer_wants_what_it_was_told() {
    for contents in [&b"123"[..], b"12345"] {
        let mut entry = entry("file");
        entry.size = 4;
        assert!(TarWriter::new(Vec::new()).entry(&entry, contents).is_err());
    }
}
