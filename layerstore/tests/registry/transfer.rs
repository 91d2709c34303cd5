//! Images between stores over a real registry, with skopeo beside.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use layerstore::digest::Digest;
use layerstore::document::{Compression, ImageConfig, Platform, RootFs};
use layerstore::error::Kind;
use layerstore::reference::Reference;
use layerstore::store::{ImageRecord, Repair, Store};
use layerstore::transfer::{Pushing, Step, pull, push};

use crate::server::{Access, Registry, Scratch, is_there, run};
use crate::{client, noise};

/// A layer's tar stream, by GNU tar.
fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let scratch = Scratch::new();
    for (path, contents) in files {
        let path = scratch.0.join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    let archive = scratch.0.join("layer.tar");
    run(Command::new("tar")
        .args(["--mtime=@0", "--sort=name", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(scratch.0.join("root"))
        .arg("."));
    fs::read(archive).unwrap()
}

/// An image of two layers, each with files of several sizes.
fn image(store: &Store, salt: u8) -> ImageRecord {
    let adding = store.adding().unwrap();
    let layers = [
        tar(&[("base/large", vec![1; 300_000]), ("base/small", b"small".to_vec())]),
        tar(&[("top/large", [noise(1_300_000), vec![salt]].concat()), ("top/small", vec![salt])]),
    ];
    let add = |layer: &Vec<u8>| store.add_layer(&adding, None, &layer[..]).unwrap().diff_id;
    let rootfs = RootFs { diff_ids: layers.iter().map(add).collect(), ..RootFs::default() };
    let host = Platform::host();
    let config =
        ImageConfig { architecture: host.architecture, os: host.os, rootfs, ..ImageConfig::default() };
    store.add_image(&adding, &config.to_bytes().unwrap(), None).unwrap()
}

fn store(scratch: &Scratch, name: &str) -> Store {
    Store::open(scratch.0.join(name)).unwrap()
}

fn reference(registry: &Registry, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", registry.host)).unwrap()
}

/// What was told of each layer, in order, but for bytes that passed.
#[derive(Default)]
struct Told(Mutex<BTreeMap<Digest, Vec<Step>>>);

impl Told {
    fn watch(&self, digest: Digest, step: Step) {
        if !matches!(step, Step::Passed { .. }) {
            self.0.lock().unwrap().entry(digest).or_default().push(step);
        }
    }

    fn last(self) -> Vec<Step> {
        self.0.into_inner().unwrap().into_values().filter_map(|steps| steps.last().copied()).collect()
    }
}

fn streams(store: &Store, image: &ImageRecord) -> Vec<Vec<u8>> {
    let stream = |diff_id: &Digest| {
        let mut bytes = Vec::new();
        store.layer(*diff_id).unwrap().unwrap().copy(&mut bytes).unwrap();
        bytes
    };
    image.layers.iter().map(stream).collect()
}

#[test]
fn what_was_pushed_is_pulled_whole() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let scratch = Scratch::new();
    let (from, to) = (store(&scratch, "from"), store(&scratch, "to"));
    let original = image(&from, 7);
    for (tag, compression) in
        [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("plain", Compression::None)]
    {
        let name = reference(&registry, &format!("{tag}/app:{tag}"));
        let pushed = push(&from, &client(), &original, &name, Pushing { compression }, &|_, _| {}).unwrap();
        let told = Told::default();
        let pulled =
            pull(&to, &client(), &name, &Platform::host(), &|digest, step| told.watch(digest, step)).unwrap();
        assert_eq!((pulled.id, pulled.digest), (original.id, pushed.digest), "{tag}");
        let copied = to.find(&name.to_string()).unwrap();
        assert_eq!(copied.record.layers, original.layers);
        assert_eq!(streams(&to, &copied.record), streams(&from, &original), "{tag}");
        to.remove_image(original.id).unwrap();
        to.collect().unwrap();
        assert!(to.layer(original.layers[0]).unwrap().is_none());
    }
    assert_eq!(to.fsck(Repair::No).unwrap(), []);
}

#[test]
fn what_is_there_is_not_moved_again() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let scratch = Scratch::new();
    let (from, to) = (store(&scratch, "from"), store(&scratch, "to"));
    let (first, second) = (image(&from, 1), image(&from, 2));
    let push_told = |image: &ImageRecord, name: &str| {
        let told = Told::default();
        let name = reference(&registry, name);
        push(&from, &client(), image, &name, Pushing::default(), &|digest, step| told.watch(digest, step))
            .unwrap();
        told.last()
    };
    assert_eq!(push_told(&first, "app:1"), [Step::Done; 2]);
    assert_eq!(push_told(&first, "app:1"), [Step::Exists; 2]);
    let mut shared = push_told(&second, "app:2");
    shared.sort_by_key(|step| *step == Step::Done);
    assert_eq!(shared, [Step::Exists, Step::Done], "the base layer is there");
    assert_eq!(push_told(&first, "other/app:1"), [Step::Mounted; 2]);
    let pull_told = |name: &str| {
        let told = Told::default();
        let name = reference(&registry, name);
        let pulled = pull(&to, &client(), &name, &Platform::host(), &|digest, step| told.watch(digest, step));
        (pulled.unwrap().is_news, told.last())
    };
    assert_eq!(pull_told("app:1"), (true, vec![Step::Done; 2]));
    assert_eq!(pull_told("app:1"), (false, vec![Step::Exists; 2]));
    assert_eq!(pull_told("app:2").1.iter().filter(|step| **step == Step::Exists).count(), 1);
}

#[test]
fn an_image_keeps_its_digest_from_registry_to_registry_and_back() {
    let (Some(one), Some(other)) = (Registry::start(Access::Open), Registry::start(Access::Open)) else {
        return;
    };
    let scratch = Scratch::new();
    let (from, to) = (store(&scratch, "from"), store(&scratch, "to"));
    let original = image(&from, 9);
    let pushed =
        push(&from, &client(), &original, &reference(&one, "app:1"), Pushing::default(), &|_, _| {}).unwrap();
    let by_digest = reference(&one, &format!("app@{}", pushed.digest));
    let pulled = pull(&to, &client(), &by_digest, &Platform::host(), &|_, _| {}).unwrap();
    let again = pull(&to, &client(), &by_digest, &Platform::host(), &|_, _| {}).unwrap();
    assert_eq!((pulled.is_news, again.is_news), (true, false));
    let image = to.find(&by_digest.to_string()).unwrap();
    assert_eq!((image.id(), image.names.len()), (pulled.id, 0), "a digest alone gives no name");
    // The same compressor gives the same bytes, hence the same manifest.
    let again =
        push(&to, &client(), &image.record, &reference(&other, "app:1"), Pushing::default(), &|_, _| {})
            .unwrap();
    assert_eq!(again.digest, pushed.digest);
}

#[test]
fn skopeo_and_we_read_each_others_images() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    if !is_there("skopeo") {
        println!("skipped: skopeo is not installed");
        return;
    }
    let scratch = Scratch::new();
    let (from, to) = (store(&scratch, "from"), store(&scratch, "to"));
    let original = image(&from, 5);
    let ours = reference(&registry, "ours:1");
    push(&from, &client(), &original, &ours, Pushing::default(), &|_, _| {}).unwrap();
    let layout = scratch.0.join("layout");
    let theirs = format!("docker://{}/theirs:1", registry.host);
    let copy = |from: &str, to: &str, extra: &[&str]| {
        let mut skopeo = Command::new("skopeo");
        skopeo.args([
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "--insecure-policy",
        ]);
        run(skopeo.args(extra).args([from, to]));
    };
    copy(&format!("docker://{ours}"), &format!("oci:{}:x", layout.display()), &[]);
    copy(
        &format!("oci:{}:x", layout.display()),
        &theirs,
        &["--format", "v2s2", "--dest-compress-format", "zstd"][..2],
    );
    let name = reference(&registry, "theirs:1");
    let pulled = pull(&to, &client(), &name, &Platform::host(), &|_, _| {}).unwrap();
    let copied = to.find(&pulled.id.to_string()).unwrap();
    assert_eq!(streams(&to, &copied.record), streams(&from, &original));
}

/// Whether nothing of a pull that failed is left once the garbage is gone.
fn is_clean(store: &Store) {
    assert!(store.images().unwrap().is_empty());
    store.collect().unwrap();
    assert_eq!(store.pool().ids().unwrap(), []);
    assert_eq!(store.fsck(Repair::No).unwrap(), []);
}

#[test]
fn bytes_that_were_changed_on_the_registry_are_refused() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let scratch = Scratch::new();
    let (from, to) = (store(&scratch, "from"), store(&scratch, "to"));
    let name = reference(&registry, "app:1");
    let original = image(&from, 3);
    push(&from, &client(), &original, &name, Pushing::default(), &|_, _| {}).unwrap();
    let mut blobs = Vec::new();
    data_files(&registry.scratch.0.join("store"), &mut blobs);
    blobs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    let mut bytes = fs::read(&blobs[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blobs[0], bytes).unwrap();
    let error = pull(&to, &client(), &name, &Platform::host(), &|_, _| {}).unwrap_err();
    assert!(matches!(error.kind(), Kind::Corrupt | Kind::Invalid | Kind::System), "{error}");
    assert!(error.message().contains("layer sha256:"), "{error}");
    is_clean(&to);
}

/// Before a server, on a port of its own: cuts each of the first connections once
/// this many bytes have gone to the server, which are some of a layer.
struct Cutting {
    host: String,
    cut: Arc<AtomicUsize>,
}

const CUT_AFTER: usize = 400_000;

impl Cutting {
    fn start(server: &str, times: usize) -> Cutting {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (host, server) = (listener.local_addr().unwrap().to_string(), server.to_owned());
        let cut = Arc::new(AtomicUsize::new(0));
        let done = cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut answers, &mut back).ok());
                let done = done.clone();
                std::thread::spawn(move || {
                    let (mut from, mut to) = (&client, &server);
                    std::io::copy(&mut from.take(CUT_AFTER as u64), &mut to).ok();
                    let mut next = [0];
                    if from.read(&mut next).is_ok_and(|read| read > 0) {
                        let is_cut =
                            done.fetch_update(Relaxed, Relaxed, |cut| (cut < times).then_some(cut + 1));
                        if is_cut.is_err() {
                            std::io::Write::write_all(&mut to, &next).ok();
                            std::io::copy(&mut from, &mut to).ok();
                        }
                    }
                    client.shutdown(Shutdown::Both).ok();
                    server.shutdown(Shutdown::Both).ok();
                });
            }
        });
        Cutting { host, cut }
    }
}

#[test]
fn a_push_gets_over_connections_that_are_cut() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let cutting = Cutting::start(&registry.host, 3);
    let scratch = Scratch::new();
    let (from, to) = (store(&scratch, "from"), store(&scratch, "to"));
    let original = image(&from, 4);
    let through = Reference::parse(&format!("{}/app:1", cutting.host)).unwrap();
    let pushed = push(&from, &client(), &original, &through, Pushing::default(), &|_, _| {}).unwrap();
    assert_eq!(cutting.cut.load(Relaxed), 3);
    let name = reference(&registry, "app:1");
    let pulled = pull(&to, &client(), &name, &Platform::host(), &|_, _| {}).unwrap();
    assert_eq!((pulled.id, pulled.digest), (original.id, pushed.digest));
    assert_eq!(to.fsck(Repair::No).unwrap(), []);
}

fn data_files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => data_files(&path, found),
            false if path.ends_with("data") => found.push(path),
            false => {}
        }
    }
}

#[test]
fn what_is_not_there_is_named() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let scratch = Scratch::new();
    let to = store(&scratch, "to");
    let error =
        pull(&to, &client(), &reference(&registry, "none:1"), &Platform::host(), &|_, _| {}).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.message().contains("none:1"), "{error}");
    is_clean(&to);
}
