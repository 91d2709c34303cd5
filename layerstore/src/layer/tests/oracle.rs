//! Merged trees against real unpackers: umoci for layers with whiteouts, GNU
//! tar for one big layer, and the way back through our export.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use super::*;

/// What a path is, in a line: kind, attributes, contents, and which other path
/// it is the same file as.
type Picture = BTreeMap<Vec<u8>, String>;

fn picture_of_tree(store: &Store, tree: &Tree) -> Picture {
    let mut picture = Picture::new();
    let mut first = BTreeMap::new();
    let mut ahead = vec![(Vec::new(), ROOT)];
    while let Some((path, id)) = ahead.pop() {
        let node = tree.get(id).unwrap();
        let what = match &node.content {
            Content::Dir(entries) => {
                ahead.extend(entries.iter().map(|(name, &id)| ([&path[..], b"/", name].concat(), id)));
                String::from("dir")
            }
            Content::Inline(bytes) => format!("file {}", Digest::of(bytes)),
            Content::Object { id, size } => {
                let mut bytes = Vec::new();
                store.pool.get(id).unwrap().read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, *size);
                format!("file {}", Digest::of(&bytes))
            }
            Content::Symlink(target) => format!("link {:?}", String::from_utf8_lossy(target)),
            Content::Char(device) => format!("char {}:{}", device.major, device.minor),
            Content::Block(device) => format!("block {}:{}", device.major, device.minor),
            Content::Fifo => String::from("fifo"),
            Content::Socket => String::from("socket"),
        };
        let meta = node.meta;
        let attributes = match node.content {
            Content::Symlink(_) => format!("{} {}", meta.uid, meta.gid),
            _ => format!("{:o} {} {} {}.{:09}", meta.mode, meta.uid, meta.gid, meta.mtime, meta.mtime_nsec),
        };
        if !matches!(node.content, Content::Dir(_)) {
            first.entry(id).or_insert_with(Vec::new).push(path.clone());
        }
        picture.insert(path, format!("{what} {attributes}"));
    }
    note_links(&mut picture, first.into_values());
    picture
}

fn picture_of_directory(root: &Path) -> Picture {
    let mut picture = Picture::new();
    let mut first = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        let device = || (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
        let what = if kind.is_dir() {
            ahead.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::from("dir")
        } else if kind.is_file() {
            format!("file {}", Digest::of(&std::fs::read(&path).unwrap()))
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            format!("link {:?}", String::from_utf8_lossy(target.as_os_str().as_bytes()))
        } else if kind.is_fifo() {
            String::from("fifo")
        } else {
            let kind = if kind.is_char_device() { "char" } else { "block" };
            format!("{kind} {}:{}", device().0, device().1)
        };
        let (uid, gid) = (stat.uid(), stat.gid());
        let attributes = match kind.is_symlink() {
            true => format!("{uid} {gid}"),
            false => {
                format!("{:o} {uid} {gid} {}.{:09}", stat.mode() & 0o7777, stat.mtime(), stat.mtime_nsec())
            }
        };
        let name = path.as_os_str().as_bytes()[root.as_os_str().len()..].to_vec();
        if !kind.is_dir() {
            first.entry(stat.ino()).or_insert_with(Vec::new).push(name.clone());
        }
        picture.insert(name, format!("{what} {attributes}"));
    }
    note_links(&mut picture, first.into_values());
    picture
}

fn note_links(picture: &mut Picture, files: impl Iterator<Item = Vec<Vec<u8>>>) {
    for mut names in files.filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            let line = picture.get_mut(name).unwrap();
            line.push_str(&format!(" as {:?}", String::from_utf8_lossy(&names[0])));
        }
    }
}

#[track_caller]
fn same(ours: &Picture, theirs: &Picture) {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    for (path, line) in ours {
        assert_eq!(Some(line), theirs.get(path), "{}", text(path));
    }
    for path in theirs.keys() {
        assert!(ours.contains_key(path), "{} is missing", text(path));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            println!("skipped: {command:?}: {error}");
            false
        }
    }
}

/// Part of this machine's own files, unpacked by GNU tar and by us, and our
/// tree exported and unpacked by GNU tar again.
#[test]
fn a_real_tree() {
    if !is_root() {
        return println!("skipped: only root's tar keeps owners");
    }
    let store = Store::new();
    let at = |name: &str| store.scratch.path().join(name);
    let what = ["etc", "usr/share/perl5", "usr/share/zoneinfo", "bin", "lib64", "dev/null"];
    let what = what.into_iter().filter(|path| Path::new("/").join(path).symlink_metadata().is_ok());
    let mut tar = Command::new("tar");
    tar.args(["-C", "/", "--format=posix", "--sparse", "-cf"]).arg(at("a.tar"));
    assert!(run(tar.arg("--exclude=etc/ssl/private").args(what)));
    let tree = store.merge(&[&std::fs::read(at("a.tar")).unwrap()]).unwrap();
    // Twice the same layer changes nothing.
    let exported = super::super::export::export(&tree, &store.pool, Vec::new()).unwrap();
    let mut again = tree.clone();
    let layer = store.layer(&exported).unwrap();
    apply(&mut again, layer.entries(&Limits::default()).unwrap(), &Limits::default()).unwrap();

    std::fs::write(at("b.tar"), &exported).unwrap();
    for name in ["a", "b"] {
        std::fs::create_dir(at(name)).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "-xpf"]).arg(at(&format!("{name}.tar"))).arg("-C").arg(at(name));
        assert!(run(&mut tar));
    }
    let without_implied = |mut picture: Picture| {
        // What no entry gives: the root, and directories on the way to the others.
        for path in ["", "/usr", "/usr/share", "/usr/lib", "/dev"] {
            picture.remove(path.as_bytes());
        }
        picture
    };
    let ours = picture_of_tree(&store, &tree);
    assert!(ours.len() > 500, "only {} files", ours.len());
    let ours = without_implied(ours);
    same(&ours, &without_implied(picture_of_directory(&at("a"))));
    same(&ours, &without_implied(picture_of_directory(&at("b"))));
    same(&ours, &without_implied(picture_of_tree(&store, &again)));
}

/// Layers with whiteouts, unpacked by umoci and by us.
#[test]
fn layers_as_umoci_unpacks_them() {
    if !is_root() {
        return println!("skipped: only root's umoci keeps owners");
    }
    let layers = [
        tar(&[
            "./",
            "usr/",
            "usr/lib/",
            "usr/lib/a",
            "lib -> usr/lib",
            "etc/",
            "etc/x",
            "etc/y",
            "gone/",
            "gone/z",
            "h",
            "h2 = h",
        ]),
        tar(&[
            "etc/",
            "etc/.wh.x",
            ".wh.gone",
            "lib/through",
            "new/",
            "new/deep/",
            "new/deep/file",
            "s -> /etc",
        ]),
        tar(&[
            "etc/",
            "etc/.wh..wh..opq",
            "etc/only",
            "usr/",
            "usr/lib/",
            "usr/lib/a/",
            "usr/lib/a/inside",
            "./h",
        ]),
        tar(&["gone", "s/", "s/real", "new", "lib/.wh.through", "h3 = h2"]),
    ];
    let store = Store::new();
    let layers: Vec<&[u8]> = layers.iter().map(|layer| &layer[..]).collect();
    let tree = store.merge(&layers).unwrap();
    let image = store.scratch.path().join("image");
    oci_layout(&image, &layers);
    let bundle = store.scratch.path().join("bundle");
    let mut umoci = Command::new("umoci");
    if !run(umoci.args(["unpack", "--image"]).arg(format!("{}:t", image.display())).arg(&bundle)) {
        return;
    }
    let mut ours = picture_of_tree(&store, &tree);
    let mut theirs = picture_of_directory(&bundle.join("rootfs"));
    // umoci sets a directory's time when it has put something in.
    for picture in [&mut ours, &mut theirs] {
        for line in picture.values_mut().filter(|line| line.starts_with("dir")) {
            line.truncate(line.rfind(' ').unwrap());
        }
    }
    same(&ours, &theirs);
}

fn oci_layout(image: &Path, layers: &[&[u8]]) {
    let blobs = image.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8], media: &str| {
        std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
        let media = format!("application/vnd.oci.image.{media}");
        format!(r#"{{"mediaType":"{media}","digest":"{}","size":{}"#, Digest::of(bytes), bytes.len())
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let rootfs = format!(r#"{{"type":"layers","diff_ids":[{}]}}"#, diff_ids.join(","));
    let config = format!(r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{rootfs}}}"#);
    let config = blob(config.as_bytes(), "config.v1+json") + "}";
    let layers: Vec<String> = layers.iter().map(|layer| blob(layer, "layer.v1.tar") + "}").collect();
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","));
    let manifest = blob(manifest.as_bytes(), "manifest.v1+json");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{manifest},"annotations":{{"org.opencontainers.image.ref.name":"t"}}}}]}}"#
    );
    std::fs::write(image.join("index.json"), index).unwrap();
    std::fs::write(image.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}
