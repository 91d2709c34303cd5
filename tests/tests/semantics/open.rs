//! Files that are open: one view of the data, whatever happens to the name.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, linkat};
use rustix::io::Errno;
use tests::scratch::Backing;
use tests::stage::put;
use tests::sys;

use crate::scene::{Plan, answer, bytes, names};

fn read_at(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, offset).unwrap();
    bytes.truncate(read);
    bytes
}

/// Opens for reading and writing.
pub fn edit(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn s37_one_view_of_the_data() {
    let plan = Plan::new(1, |l| put(&l[0], "f", bytes(20_000)).unwrap());
    plan.same(|s| {
        let (one, two) = (edit(&s.at("f")), edit(&s.at("f")));
        let reader = File::open(s.at("f")).unwrap();
        one.write_all_at(b"written", 5000).unwrap();
        sys::write_mapped(two.as_fd(), 20_000, 12_000, b"mapped").unwrap();
        for file in [&one, &two, &reader] {
            assert_eq!(read_at(file, 5000, 7), b"written");
            assert_eq!(read_at(file, 12_000, 6), b"mapped");
        }
        assert_eq!(sys::read_mapped(reader.as_fd(), 20_000).unwrap()[5000..5007], *b"written");
        two.set_len(3).unwrap();
        assert_eq!(read_at(&reader, 0, 100).len(), 3);
        assert_eq!(read_at(&reader, 4000, 100), b"");
    });
}

#[test]
fn s38_files_without_a_name_live_on() {
    let plan = Plan::new(1, |l| {
        for name in ["lower", "upper", "replaced", "d/f", "other"] {
            put(&l[0], name, "0123456789").unwrap();
        }
    });
    let seen = plan.same(|s| {
        // Of the upper, of the lower but opened for writing, new, and replaced
        // by a rename.
        fs::write(s.at("upper"), "0123456789").unwrap();
        fs::write(s.at("new"), "0123456789").unwrap();
        let files = ["lower", "upper", "new", "replaced"].map(|name| edit(&s.at(name)));
        for name in ["lower", "upper", "new"] {
            fs::remove_file(s.at(name)).unwrap();
        }
        fs::rename(s.at("other"), s.at("replaced")).unwrap();
        let seen = files.map(|file| {
            file.write_all_at(b"abc", 3).unwrap();
            file.set_len(8).unwrap();
            file.set_permissions(Permissions::from_mode(0o640)).unwrap();
            std::os::unix::fs::fchown(&file, Some(3), None).unwrap();
            rustix::fs::fsetxattr(&file, "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
            let stat = file.metadata().unwrap();
            let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
            let linked = linkat(CWD, &magic, CWD, s.at("linked"), AtFlags::SYMLINK_FOLLOW);
            (read_at(&file, 0, 100), stat.nlink(), stat.mode(), stat.uid(), stat.len(), linked)
        });
        (seen, names(&s.at("")))
    });
    let file = (b"012abc67".to_vec(), 0, 0o100_640, 3, 8, Err(Errno::NOENT));
    assert_eq!(seen.0, [file.clone(), file.clone(), file.clone(), file]);
    assert_eq!(seen.1, ["d", "replaced"]);
    // One that has another name still takes a third.
    let linked = plan.same(|s| {
        fs::hard_link(s.at("upper"), s.at("second")).unwrap();
        let file = File::open(s.at("upper")).unwrap();
        fs::remove_file(s.at("upper")).unwrap();
        let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, &magic, CWD, s.at("upper"), AtFlags::SYMLINK_FOLLOW).unwrap();
        (file.metadata().unwrap().nlink(), fs::read(s.at("upper")).unwrap())
    });
    assert_eq!(linked, (2, b"0123456789".to_vec()));
}

#[test]
fn s39_appends_of_two_processes_do_not_mix() {
    const LINES: usize = 500;
    let plan = Plan::new(1, |l| put(&l[0], "log", "start\n").unwrap());
    plan.same(|s| {
        let path = s.at("log");
        let script =
            format!("for i in $(seq {LINES}); do echo \"$1 $i xxxxxxxxxxxxxxxxxxxxxxx\"; done >> \"$0\"");
        let mut writers = ["a", "b"]
            .map(|who| Command::new("bash").args(["-c", &script]).arg(&path).arg(who).spawn().unwrap());
        assert!(writers.iter_mut().all(|writer| writer.wait().unwrap().success()));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2 * LINES + 1, "{:?}", s.driver);
        for who in ["a", "b"] {
            let count = text.lines().filter(|line| line.starts_with(who)).enumerate();
            assert!(count.into_iter().all(|(n, line)| line.starts_with(&format!("{who} {} x", n + 1))));
        }
    });
}

/// Pages, at an address that direct I/O takes.
struct Aligned(Vec<u8>);

impl Aligned {
    const BLOCK: usize = 4096;

    fn new(byte: u8) -> Aligned {
        Aligned(vec![byte; 3 * Aligned::BLOCK])
    }

    fn block(&mut self) -> &mut [u8] {
        let offset = self.0.as_ptr().align_offset(Aligned::BLOCK);
        &mut self.0[offset..offset + Aligned::BLOCK]
    }
}

#[test]
fn s40_direct_io() {
    let plan = Plan::new(1, |l| put(&l[0], "f", vec![7; 3 * Aligned::BLOCK]).unwrap()).coherent();
    plan.on(Backing::Ext4(64)).same(|s| {
        let reader = File::open(s.at("f")).unwrap();
        let direct =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(s.at("f")).unwrap();
        let block = Aligned::BLOCK as u64;
        direct.write_all_at(Aligned::new(9).block(), block).unwrap();
        assert_eq!(read_at(&reader, block - 1, 2), [7, 9], "{:?}", s.driver);
        let mut read = Aligned::new(0);
        direct.read_exact_at(read.block(), block).unwrap();
        assert!(read.block().iter().all(|&byte| byte == 9));
        // What went through the cache is seen directly too.
        edit(&s.at("f")).write_all_at(&[5; Aligned::BLOCK], 0).unwrap();
        direct.read_exact_at(read.block(), 0).unwrap();
        assert!(read.block().iter().all(|&byte| byte == 5));
        assert_eq!(fs::metadata(s.at("f")).unwrap().len(), 3 * block);
    });
}

#[test]
fn s41_stores_through_a_mapping_reach_the_file() {
    let plan = Plan::new(1, |l| put(&l[0], "f", bytes(10_000)).unwrap());
    plan.same(|s| {
        let file = edit(&s.at("f"));
        sys::write_mapped(file.as_fd(), 10_000, 6000, b"stored").unwrap();
        assert_eq!(read_at(&file, 6000, 6), b"stored");
        drop(file);
        s.remount();
        let content = fs::read(s.at("f")).unwrap();
        assert_eq!((content.len(), &content[6000..6006]), (10_000, &b"stored"[..]));
        assert_eq!(content, fs::read(s.upper("f")).unwrap());
    });
}

#[test]
fn s47_truncation() {
    let plan = Plan::new(1, |l| {
        for name in ["cut", "grown", "emptied", "same"] {
            put(&l[0], name, bytes(9000)).unwrap();
        }
    });
    let seen = plan.same(|s| {
        edit(&s.at("cut")).set_len(4097).unwrap();
        edit(&s.at("grown")).set_len(20_000).unwrap();
        drop(File::options().write(true).truncate(true).open(s.at("emptied")).unwrap());
        let path = std::ffi::CString::new(s.at("same").to_str().unwrap()).unwrap();
        let modified = || fs::metadata(s.at("same")).unwrap().modified().unwrap();
        let before = modified();
        sys::truncate(&path, 9000).unwrap();
        let by_name = modified() == before;
        edit(&s.at("same")).set_len(9000).unwrap();
        let unmoved = [by_name, modified() == before];
        let names = ["cut", "grown", "emptied", "same"];
        (names.map(|name| fs::read(s.at(name)).unwrap()), answer(sys::truncate(&path, -1)), unmoved)
    });
    assert_eq!(seen.0.each_ref().map(Vec::len), [4097, 20_000, 0, 9000]);
    assert_eq!((seen.1, seen.2[1]), (Err(Errno::INVAL), false));
}

#[test]
fn s46_positions_are_each_descriptors_own() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "0123456789").unwrap());
    let seen = plan.same(|s| {
        let mut one = edit(&s.at("f"));
        let mut two = edit(&s.at("f"));
        one.write_all(b"abc").unwrap();
        let mut first = [0; 4];
        two.read_exact(&mut first).unwrap();
        let mut twin = one.try_clone().unwrap();
        twin.write_all(b"d").unwrap();
        (first, one.stream_position().unwrap(), fs::read(s.at("f")).unwrap())
    });
    assert_eq!(seen, (*b"abc3", 4, b"abcd456789".to_vec()));
}
