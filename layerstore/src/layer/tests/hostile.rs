//! Archives and framing files that nobody means well with.

use std::os::unix::fs::FileExt;

use super::*;
use crate::error::Kind;

fn error(tar: &[u8]) -> Error {
    match Store::new().layer(tar) {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error,
    }
}

fn refused(tar: &[u8], reason: &str) {
    let error = error(tar);
    assert!(error.kind() == Kind::Invalid && error.message().contains(reason), "{reason}: {error:?}");
}

/// CVE-2025-62518: a PAX size that differs from the header's. What the larger
/// one covers is contents, and no entry of an inner archive comes out.
#[test]
fn the_pax_size_wins() {
    let inner = tar(&["evil"]);
    for told in [0, 512, inner.len() as u64] {
        let archive = [
            extension(b'x', &pax_record("size", &inner.len().to_string())),
            block(b'0', b"inner.tar", told).to_vec(),
            inner.clone(),
            tar(&["after"]),
        ];
        let entries = Store::new().entries(&archive.concat()).unwrap();
        let found: Vec<_> = entries.iter().map(|(entry, _)| (&entry.path[..], entry.size)).collect();
        assert_eq!(found, [(&b"inner.tar"[..], inner.len() as u64), (b"after", 5)]);
    }
}

/// CVE-2026-33055: links, devices and directories have no contents.
#[test]
fn only_files_have_contents() {
    for flag in *b"123456" {
        let mut link = block(flag, b"link", 1024);
        link[157] = b't';
        let archive = [&sum(link)[..], &tar(&["after"])].concat();
        let entries = Store::new().entries(&archive).unwrap();
        assert_eq!(entries.len(), 2, "{}", char::from(flag));
        assert_eq!(entries[1].0.path, b"after");
    }
}

/// As umoci's `insert` and other writers leave it, and Go reads it: the last
/// block is not filled up, and nothing says that it was the last.
#[test]
fn the_end_may_be_missing() {
    let good = tar(&["dir/", "file", "last"]);
    let end = good.len() - 2 * 512 - (512 - 4);
    for len in [end, end + 1, end + 507, end + 508, good.len() - 512] {
        let entries = Store::new().entries(&good[..len]).unwrap();
        assert_eq!(entries.len(), 3, "{len}");
    }
    refused(&good[..end - 1], "ends in the middle");
}

#[test]
fn what_is_malformed_is_an_error() {
    let good = tar(&["file"]);
    refused(b"not a tar archive, but some text", "ends in the middle");
    refused(&[b'x'; 1024], "checksum");
    refused(&good[..514], "ends in the middle of an entry, at byte 514");
    refused(&good[..511], "ends in the middle");
    refused(&[&[0; 512][..], &good].concat(), "single block of zeros");
    refused(&[extension(b'x', b"9 path=ab\n"), good.clone()].concat(), "malformed PAX record");
    refused(&[extension(b'x', b"99 path=ab\n"), good.clone()].concat(), "malformed PAX record");
    refused(&extension(b'x', b"8 uid=5\n"), "ends in the middle");
    refused(&[extension(b'g', &pax_record("size", "4")), good.clone()].concat(), "global PAX header");
    refused(&[extension(b'x', b"8 uid=5\n").repeat(20), good.clone()].concat(), "too many headers");
    refused(&block(b'0', b"", 0), "without a path");
    refused(&block(b'2', b"link", 0), "without a target");
    refused(&block(b'M', b"part", 0), "type 'M'");
    refused(&[extension(b'L', b""), block(b'0', b"name", 0).to_vec()].concat(), "without a path");
    let mut bad = block(b'0', b"name", 0);
    bad[124..136].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    refused(&sum(bad), "size is malformed");
    bad[124..136].copy_from_slice(b"0000000000z\0");
    refused(&sum(bad), "\"name\": its size is malformed");
}

#[test]
fn sparse_maps_are_checked() {
    let sparse = |records: &[(&str, &str)], stored: u64, data: &[u8]| {
        let records: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        let mut archive = extension(b'x', &records);
        archive.extend_from_slice(&block(b'0', b"sparse", stored));
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(512), 0);
        archive
    };
    let size = ("GNU.sparse.size", "100");
    let good = sparse(&[size, ("GNU.sparse.map", "1,2,50,2")], 4, b"abcd");
    let (entry, contents) = Store::new().entries(&good).unwrap().remove(0);
    let Contents::Inline(bytes) = contents else { panic!("{contents:?}") };
    assert_eq!(
        (entry.size, bytes.len(), &bytes[..4], &bytes[49..53]),
        (100, 100, &b"\0ab\0"[..], &b"\0cd\0"[..])
    );
    for (map, stored, reason) in [
        ("1,2,50", 4, "half a piece"),
        ("50,2,1,2", 4, "out of order"),
        ("1,2,2,2", 4, "out of order"),
        ("1,2,99,2", 4, "beyond its file"),
        ("1,9223372036854775807", 4, "beyond its file"),
        ("1,2,50,2", 3, "other data"),
        ("1,2,50,x", 4, "malformed sparse map"),
    ] {
        refused(&sparse(&[size, ("GNU.sparse.map", map)], stored, b"abcd"), reason);
    }
    refused(&sparse(&[("GNU.sparse.map", "1,2")], 2, b"ab"), "without a length");
    refused(&sparse(&[size, ("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")], 0, b""), "unknown format");
    let in_data = [size, ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
    refused(&sparse(&in_data, 4, b"1\n0\n"), "longer than its entry");
    refused(&sparse(&in_data, 512, b"18446744073709551615\n"), "malformed sparse map");
    // A hole of terabytes is refused, not hashed.
    let bomb = sparse(&[("GNU.sparse.size", "9000000000000000000"), ("GNU.sparse.map", "")], 0, b"");
    assert_eq!(error(&bomb).kind(), Kind::Limit);
}

#[test]
fn limits_have_names() {
    let archive = tar(&["dir/file", "other", &"long/".repeat(30)]);
    let defaults = Limits::default();
    let xattr = extension(b'x', &pax_record("SCHILY.xattr.user.x", &"v".repeat(100)));
    let xattr = [xattr, tar(&["file"])].concat();
    for (name, limits, archive) in [
        ("stream", Limits { stream: 2000, ..defaults }, &archive),
        ("contents", Limits { contents: 10, ..defaults }, &archive),
        ("entries", Limits { entries: 2, ..defaults }, &archive),
        ("path", Limits { path: 100, ..defaults }, &archive),
        ("name", Limits { name: 3, ..defaults }, &archive),
        ("pax", Limits { pax: 100, ..defaults }, &archive),
        ("xattr", Limits { xattr: 99, ..defaults }, &xattr),
        ("xattrs", Limits { xattrs: 100, ..defaults }, &xattr),
    ] {
        let error = Store::new().unpack(archive, &limits).map(|_| ()).unwrap_err();
        let named = error.message().contains(&format!("limit `{name}` allows"));
        assert!(error.kind() == Kind::Limit && named, "{name}: {error}");
    }
    let long = extension(b'x', &pax_record("path", &"d/".repeat(2500)));
    let error = Store::new().unpack(&[long, tar(&["file"])].concat(), &defaults).map(|_| ()).unwrap_err();
    assert!(error.message().contains("5000 of 4096") && error.message().len() < 400, "{error}");
    Store::new().unpack(&archive, &defaults).unwrap();
    let store = Store::new();
    let limits = Limits { depth: 20, ..defaults };
    let layer = store.layer(&archive).unwrap();
    let error = apply(&mut Tree::new(), layer.entries(&defaults).unwrap(), &limits).unwrap_err();
    assert!(error.message().contains("limit `depth`"), "{error}");
}

/// Every byte of a framing file that is changed is noticed before the stream ends.
#[test]
fn a_broken_framing_is_an_error() {
    let store = Store::new();
    let mut writer = TarWriter::new(Vec::new());
    let mut file = entry("file");
    for size in [5, 5000, 700] {
        file.size = size;
        writer.entry(&file, &vec![size as u8; size as usize][..]).unwrap();
    }
    let tar = writer.finish().unwrap();
    drop(store.layer(&tar).unwrap());
    let path = store.scratch.path().join("framing");
    let whole = std::fs::read(&path).unwrap();
    let result = |bytes: &[u8]| -> Result<Vec<(Entry, Contents)>> {
        let broken = store.scratch.path().join("broken");
        std::fs::write(&broken, bytes).unwrap();
        let framing = Framing::open(File::open(&broken).unwrap())?;
        framing.stream(&store.pool)?.read_to_end(&mut Vec::new())?;
        framing.entries(&Limits::default())?.collect()
    };
    let entries = result(&whole).unwrap();
    let mut harmless = 0;
    for at in 0..whole.len() {
        for flip in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            // Some bits of the compressed form mean nothing.
            if let Ok(found) = result(&bytes) {
                assert!(found == entries, "byte {at} of {}", whole.len());
                harmless += 1;
            }
        }
    }
    assert!(harmless < 10, "{harmless} changes went unnoticed");
    for len in 0..whole.len() {
        assert_eq!(result(&whole[..len]).unwrap_err().kind(), Kind::Corrupt, "{len} bytes");
    }
}

/// Records that fit their footer and lie all the same.
#[test]
fn a_lying_framing_is_an_error() {
    use super::super::entry::Segment;
    use super::super::framing::{Reference, Summary, Writer};
    let store = Store::new();
    let inserted = store.pool.insert_bytes(&[1; 5000]).unwrap();
    let object = Reference { id: inserted.id, size: 5000 };
    let absent = Reference { id: crate::object::ObjectId::of(b"absent"), size: 6 };
    let wrong = Reference { size: 4000, ..object };
    type Lie<'a> = &'a dyn Fn(&mut Writer<File>) -> Result<()>;
    let lies: [(u64, Lie<'_>); 6] = [
        (4999, &|writer| writer.object(object)),
        (5001, &|writer| writer.object(object)),
        (u64::MAX, &|writer| writer.sparse(object, &[Segment { offset: 4990, len: 11 }])),
        (u64::MAX, &|writer| writer.sparse(object, &[Segment { offset: u64::MAX, len: 11 }])),
        (6, &|writer| writer.object(absent)),
        (4000, &|writer| writer.object(wrong)),
    ];
    for (size, lie) in lies {
        let path = store.scratch.path().join("lie");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        let mut writer = Writer::new(file).unwrap();
        lie(&mut writer).unwrap();
        let summary = Summary { diff_id: Digest::of(b""), size, entries: 1 };
        let (file, _) = writer.finish(summary).unwrap();
        let framing = Framing::open(file).unwrap();
        let entries: Result<Vec<_>> = framing.entries(&Limits::default()).unwrap().collect();
        assert_eq!(entries.unwrap_err().kind(), Kind::Corrupt);
        let read = framing.stream(&store.pool).unwrap().read_to_end(&mut Vec::new());
        assert!(matches!(Error::from(read.unwrap_err()).kind(), Kind::Corrupt | Kind::NotFound));
    }
}

/// A broken object is noticed when the stream comes back.
#[test]
fn a_broken_object_is_noticed() {
    let store = Store::new();
    let mut file = entry("file");
    file.size = 5000;
    let mut writer = TarWriter::new(Vec::new());
    writer.entry(&file, &[1; 5000][..]).unwrap();
    let framing = store.layer(&writer.finish().unwrap()).unwrap();
    let path = store.scratch.path().join("pool/objects").join(framing.objects()[0].id.path());
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let object = File::options().write(true).open(&path).unwrap();
    object.write_all_at(b"x", 17).unwrap();
    let read = || Error::from(framing.stream(&store.pool).unwrap().read_to_end(&mut Vec::new()).unwrap_err());
    assert_eq!(read().kind(), Kind::Corrupt);
    object.set_len(100).unwrap();
    assert_eq!(read().kind(), Kind::Corrupt);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read().kind(), Kind::NotFound);
}
