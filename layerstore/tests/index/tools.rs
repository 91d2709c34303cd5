//! `fsck.erofs` takes our images, and we those of `mkfs.erofs`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use unionfs::image::{Contents, Index, Kind, Nid};

use crate::fixed::mixed;
use crate::kernel::Scratch;
use crate::reading::written;

/// Whether a program of erofs-utils is here; says so where it is not.
fn is_here(program: &str) -> bool {
    let is_here = Command::new(program).arg("--help").output().is_ok();
    if !is_here {
        println!("skipped: no {program}");
    }
    is_here
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn fsck_finds_nothing() {
    if !is_here("fsck.erofs") {
        return;
    }
    let scratch = Scratch::new("fsck");
    let image = scratch.path.join("image");
    fs::write(&image, written(&mixed().tree)).unwrap();
    run(Command::new("fsck.erofs").arg(&image));
}

/// Compact and extended inodes, small and large directories, contents in blocks,
/// with tails, in chunks that are all holes.
#[test]
fn images_of_mkfs_are_read() {
    if !is_here("mkfs.erofs") {
        return;
    }
    let scratch = Scratch::new("mkfs");
    let dir = scratch.path.join("dir");
    fs::create_dir_all(dir.join("many")).unwrap();
    for i in 0..1500 {
        fs::write(dir.join(format!("many/file-{i}")), vec![b'x'; i * 17]).unwrap();
    }
    std::os::unix::fs::symlink("a target", dir.join("link")).unwrap();
    fs::hard_link(dir.join("many/file-7"), dir.join("seven")).unwrap();
    run(Command::new("mkfifo").arg(dir.join("fifo")));
    let file = fs::File::open(dir.join("seven")).unwrap();
    let has_xattrs =
        rustix::fs::fsetxattr(&file, "user.name", b"value", rustix::fs::XattrFlags::empty()).is_ok();
    for options in
        [&[][..], &["-Eforce-inode-compact", "-T5"], &["-Eforce-inode-extended"], &["-Enoinline_data"]]
    {
        let image = scratch.path.join("image");
        run(Command::new("mkfs.erofs").args(options).arg(&image).arg(&dir));
        let index = Index::open(fs::File::open(&image).unwrap()).unwrap();
        same(&index, index.root(), &dir, !options.contains(&"-T5"));
        if has_xattrs {
            let seven = index.lookup(index.root(), b"seven").unwrap().unwrap();
            assert_eq!(index.xattr(seven, b"user.name").unwrap(), Some(&b"value"[..]));
        }
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn compression_is_refused() {
    if !is_here("mkfs.erofs") {
        return;
    }
    let scratch = Scratch::new("compressed");
    let (dir, image) = (scratch.path.join("dir"), scratch.path.join("image"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("data"), [1; 100_000]).unwrap();
    run(Command::new("mkfs.erofs").arg("-zlz4").arg(&image).arg(&dir));
    let said = match Index::open(fs::File::open(&image).unwrap()) {
        Ok(index) => index.contents(index.lookup(index.root(), b"data").unwrap().unwrap()).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(said.errno(), rustix::io::Errno::OPNOTSUPP, "{said}");
}

fn same(index: &Index, nid: Nid, path: &Path, has_times: bool) {
    let (attr, meta) = (index.attr(nid).unwrap(), fs::symlink_metadata(path).unwrap());
    assert_eq!(u32::from(attr.mode), meta.mode() & 0o7777, "{path:?}");
    assert_eq!((attr.uid, attr.gid), (meta.uid(), meta.gid()), "{path:?}");
    if has_times {
        assert_eq!((attr.mtime, i64::from(attr.mtime_nsec)), (meta.mtime(), meta.mtime_nsec()), "{path:?}");
    }
    match attr.kind {
        Kind::Dir => {
            let names: Vec<_> = index.entries(nid, 0).unwrap().map(|entry| entry.unwrap().name).collect();
            assert_eq!(names.len(), fs::read_dir(path).unwrap().count());
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let child = index.lookup(nid, entry.file_name().as_bytes()).unwrap().unwrap();
                same(index, child, &entry.path(), has_times);
            }
        }
        Kind::File => {
            assert_eq!(u64::from(attr.nlink), meta.nlink(), "{path:?}");
            let Contents::Inline(data) = index.contents(nid).unwrap() else { panic!("{path:?}") };
            let expected = fs::read(path).unwrap();
            assert_eq!(data.pieces().concat(), expected, "{path:?}");
            let mut piece = vec![0; 5000];
            let len = data.read_at(4000, &mut piece);
            assert_eq!(piece[..len], expected[expected.len().min(4000)..expected.len().min(9000)]);
        }
        Kind::Symlink => {
            assert_eq!(index.readlink(nid).unwrap(), fs::read_link(path).unwrap().as_os_str().as_bytes())
        }
        Kind::Fifo => assert!(meta.file_type().is_fifo()),
        kind => panic!("{path:?} is {kind:?}"),
    }
}
