use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use layerstore::layer::entry::{Entry, EntryKind};
use layerstore::layer::write::TarWriter;
use layerstore::tree::Meta;
use rustix::fs::CWD;

use super::*;
use crate::failure::Result;

/// A directory that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = PathBuf::from(format!("/var/tmp/runion-files-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn dir(&self, name: &str) -> (PathBuf, OwnedFd) {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap();
        let fd = openat(CWD, &path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (path, fd)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn packed(parent: &OwnedFd, name: &str, owners: &Owners) -> Vec<u8> {
    let (top, mut out) = (openat(parent, name, OFlags::PATH, Mode::empty()).unwrap(), Vec::new());
    assert_eq!(pack(top, b".", owners, Borders::Volumes, &mut out).unwrap(), Packed::Whole);
    out
}

fn stream(entries: &[(&str, EntryKind)]) -> Vec<u8> {
    let mut out = TarWriter::new(Vec::new());
    for (path, kind) in entries {
        let meta = Meta { mode: 0o644, ..Meta::default() };
        let size = if *kind == EntryKind::File { 3 } else { 0 };
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind: kind.clone(),
            meta,
            xattrs: Default::default(),
            size,
            stored: size,
            sparse: None,
        };
        out.entry(&entry, &b"new"[..size as usize]).unwrap();
    }
    out.finish().unwrap()
}

/// Files one after another, each with its own contents.
fn files(names: impl Iterator<Item = (String, String)>) -> Vec<u8> {
    let mut out = TarWriter::new(Vec::new());
    for (name, contents) in names {
        let (path, meta) = (name.into_bytes(), Meta { mode: 0o644, ..Meta::default() });
        let size = contents.len() as u64;
        let (kind, xattrs) = (EntryKind::File, Default::default());
        let entry = Entry { path, kind, meta, xattrs, size, stored: size, sparse: None };
        out.entry(&entry, contents.as_bytes()).unwrap();
    }
    out.finish().unwrap()
}

fn unpacked(stream: &[u8], place: &Place<'_>) -> Result<()> {
    unpack(stream, place, &Owners::Writers)
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let scratch = Scratch::new("round");
    let (from, _) = scratch.dir("top/from");
    let (_, top) = scratch.dir("top");
    fs::create_dir_all(from.join("sub/deep")).unwrap();
    fs::write(from.join("sub/file"), "contents").unwrap();
    fs::write(from.join("holes"), vec![0; 1 << 20]).unwrap();
    fs::hard_link(from.join("sub/file"), from.join("other")).unwrap();
    symlink("/nowhere/else", from.join("sub/link")).unwrap();
    rustix::fs::mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    rustix::fs::setxattr(from.join("other"), c"user.note", b"said", rustix::fs::XattrFlags::empty()).unwrap();
    fs::set_permissions(from.join("sub/deep"), PermissionsExt::from_mode(0o1511)).unwrap();
    fs::set_permissions(from.join("sub/file"), PermissionsExt::from_mode(0o4755)).unwrap();

    let stream = packed(&top, "from", &Owners::Kept(Maps::default()));
    let (to, place) = scratch.dir("to");
    unpack(&stream[..], &Place::Over(place.as_fd()), &Owners::Kept(Maps::default())).unwrap();
    let told = |path: &Path| {
        let script =
            "cd \"$1\"; find . -printf '%p %y %m %U %G %n %l %T@\\n' | sort; cat sub/file; getfattr -d other";
        let output = std::process::Command::new("sh").args(["-c", script, "sh"]).arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(told(&to), told(&from));
    assert!(told(&to).contains("user.note=\"said\""), "{}", told(&to));
    assert_eq!(fs::metadata(to.join("holes")).unwrap().blocks(), 0, "zeros are holes");

    let (given, place) = scratch.dir("given");
    unpacked(&packed(&top, "from", &Owners::Writers), &Place::Into(place.as_fd())).unwrap();
    assert_eq!(fs::metadata(given.join("sub/file")).unwrap().mode() & 0o7777, 0o755, "nothing makes it more");
}

#[test]
fn nothing_is_made_outside_of_the_place() {
    let scratch = Scratch::new("inside");
    let (out, _) = scratch.dir("out");
    fs::write(out.join("file"), "old").unwrap();
    let link = |to: &str| EntryKind::Symlink(to.as_bytes().to_vec());
    let hard = |to: &str| EntryKind::HardLink(to.as_bytes().to_vec());
    for (at, entries) in [
        vec![("../out/file", EntryKind::File)],
        vec![("a/../../out/file", EntryKind::File)],
        vec![("up", link("../out")), ("up/file", EntryKind::File)],
        vec![("up", link("../out")), ("up/new/file", EntryKind::File)],
        vec![("up", link("../out")), ("up/", EntryKind::Dir)],
        vec![("up", link("../out")), ("got", hard("up/file"))],
        vec![("got", hard("../out/file"))],
        vec![("there/file", EntryKind::File)],
        vec![("there/", EntryKind::Dir), ("there/file", EntryKind::File)],
    ]
    .into_iter()
    .enumerate()
    {
        let (place, fd) = scratch.dir(&format!("place{at}"));
        symlink("../out", place.join("there")).unwrap();
        let failure = unpacked(&stream(&entries), &Place::Into(fd.as_fd())).unwrap_err();
        assert_eq!(fs::read(out.join("file")).unwrap(), b"old", "{entries:?}: {failure}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "{entries:?}: {failure}");
        assert!(!place.join("got").exists(), "{failure}");
    }
    let (place, fd) = scratch.dir("absolute");
    unpacked(&stream(&[("/etc/new", EntryKind::File)]), &Place::Into(fd.as_fd())).unwrap();
    assert_eq!(fs::read(place.join("etc/new")).unwrap(), b"new");
}

#[test]
fn files_and_directories_do_not_take_each_other_s_place() {
    let scratch = Scratch::new("kinds");
    let (place, fd) = scratch.dir("place");
    fs::create_dir(place.join("dir")).unwrap();
    fs::write(place.join("file"), "old").unwrap();
    let over = |path: &str, kind| unpacked(&stream(&[(path, kind)]), &Place::Into(fd.as_fd()));
    let message = |result: Result<()>| result.unwrap_err().message().to_owned();
    assert_eq!(
        message(over("dir", EntryKind::File)),
        "cannot overwrite directory \"dir\" with non-directory \"dir\""
    );
    assert_eq!(
        message(over("file", EntryKind::Dir)),
        "cannot overwrite non-directory \"file\" with directory \"file\""
    );
    over("file", EntryKind::File).unwrap();
    assert_eq!(fs::read(place.join("file")).unwrap(), b"new");
    unpacked(&stream(&[(".", EntryKind::File)]), &Place::As(fd.as_fd(), b"called")).unwrap();
    assert_eq!(fs::read(place.join("called")).unwrap(), b"new");
}

#[test]
fn what_is_made_by_several_threads_is_as_if_by_one() {
    let scratch = Scratch::new("threads");
    let (place, fd) = scratch.dir("place");
    // A path that comes again by another spelling, large or small: the last one stays.
    let long = "x".repeat(100_000);
    let spelt = |round: usize| ["d/f", "./d/f", "d//./f"][round % 3];
    let again = (0..2000).map(|round| {
        let contents = if round % 5 == 0 { format!("{round}{long}") } else { round.to_string() };
        (format!("{}{}", spelt(round), round % 7), contents)
    });
    unpacked(&files(again), &Place::Into(fd.as_fd())).unwrap();
    for (name, last) in (0..7).map(|name| (name, (1993..2000).find(|round| round % 7 == name).unwrap())) {
        let found = fs::read_to_string(place.join(format!("d/f{name}"))).unwrap();
        assert_eq!(found.trim_end_matches('x'), last.to_string());
        assert_eq!(found.len() > 1000, last % 5 == 0, "{last}");
    }

    // A link is one to the file before it, not to the one after.
    let hard = |to: &str| EntryKind::HardLink(to.as_bytes().to_vec());
    let names: Vec<[String; 3]> =
        (0..500).map(|at| [format!("a{at}"), format!("b/b{at}"), format!("c{at}")]).collect();
    let mut entries = Vec::new();
    for [file, link, symlink] in &names {
        entries.push((&**file, EntryKind::File));
        entries.push((&**link, hard(file)));
        entries.push((&**file, EntryKind::Symlink(b"elsewhere".to_vec())));
        entries.push((&**symlink, EntryKind::Symlink(b"before".to_vec())));
        entries.push((&**symlink, hard(link)));
    }
    unpacked(&stream(&entries), &Place::Into(fd.as_fd())).unwrap();
    for [file, link, symlink] in &names {
        assert_eq!(fs::read_link(place.join(file)).unwrap(), Path::new("elsewhere"));
        assert_eq!(fs::read(place.join(link)).unwrap(), b"new");
        assert_eq!(fs::metadata(place.join(symlink)).unwrap().nlink(), 2, "{symlink}");
    }
}

#[test]
fn a_thread_that_fails_is_the_reason_that_is_given() {
    let scratch = Scratch::new("thread-fails");
    let (place, fd) = scratch.dir("place");
    fs::create_dir(place.join("f700")).unwrap();
    let many = files((0..5000).map(|at| (format!("f{at}"), String::from("some"))));
    let failure = unpacked(&many, &Place::Into(fd.as_fd())).unwrap_err();
    assert_eq!(failure.message(), "cannot overwrite directory \"f700\" with non-directory \"f700\"");
    assert!(!place.join("f4999").exists(), "nobody goes on for long");
    // A link to what was not made is no reason of its own.
    let hard = EntryKind::HardLink(b"f700".to_vec());
    let failure = unpacked(&stream(&[("f700", EntryKind::File), ("link", hard)]), &Place::Into(fd.as_fd()));
    assert!(failure.unwrap_err().message().starts_with("cannot overwrite directory"));
}

#[test]
fn directories_become_what_they_are_to_be_when_all_is_in_them() {
    let scratch = Scratch::new("thread-dirs");
    let (from, _) = scratch.dir("top/from");
    let (_, top) = scratch.dir("top");
    for dir in 0..50 {
        let dir = from.join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..20 {
            fs::write(dir.join(format!("f{file}")), "some").unwrap();
        }
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o555)).unwrap();
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        fs::File::open(&dir).unwrap().set_modified(then).unwrap();
    }
    let (to, place) = scratch.dir("to");
    unpacked(&packed(&top, "from", &Owners::Writers), &Place::Into(place.as_fd())).unwrap();
    for dir in 0..50 {
        let dir = to.join(format!("d{dir}"));
        let stat = fs::metadata(&dir).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o555, 1_000_000_000));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 20);
    }
}

#[test]
fn ids_are_the_container_s_in_a_stream() {
    let range = |container_id, host_id, size| IdMapping { container_id, host_id, size };
    let maps = Maps { users: vec![range(0, 1000, 1), range(1, 5000, 9)], groups: Vec::new() };
    assert_eq!(maps.outside(0, 7), (1000, 7));
    assert_eq!(maps.outside(3, 0), (5002, 0));
    assert_eq!(maps.outside(10, 0), (NOBODY, 0));
}
