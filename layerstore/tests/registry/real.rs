//! Against a real registry.

use std::io::Read;
use std::process::Command;

use layerstore::credentials::{Credential, Credentials};
use layerstore::digest::Digest;
use layerstore::document::{Descriptor, Document, Index, Platform, media};
use layerstore::error::Kind;
use layerstore::reference::{Reference, Repository};
use layerstore::registry::{Client, Config, Pushed};

use crate::server::{Access, Registry, Scratch, is_there, make_own_certificate, run};
use crate::{Sample, client, config, noise};

fn reference(registry: &Registry, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", registry.host)).unwrap()
}

/// Sends an image as a caller would.
fn push(client: &Client, sample: &Sample, reference: &Reference) {
    let repository = reference.repository();
    for (blob, bytes) in
        [(&sample.manifest.config, &sample.config), (&sample.manifest.layers[0], &sample.layer)]
    {
        client.push_blob(repository, blob, None, |at| Ok(&bytes[at as usize..])).unwrap();
    }
    let digest = client.put_manifest(reference, media::OCI_MANIFEST, &sample.bytes).unwrap();
    assert_eq!(digest, Digest::of(&sample.bytes));
}

fn read_blob(client: &Client, repository: &Repository, blob: &Descriptor, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.blob(repository, blob, offset).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_pushed_is_pulled() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let client = client();
    let sample = Sample::new("amd64", noise(3 << 20));
    let reference = reference(&registry, "team/app:v1");
    let repository = reference.repository();
    let layer = &sample.manifest.layers[0];

    assert_eq!(client.resolve(&reference).unwrap(), None);
    assert!(!client.has_blob(repository, layer.digest).unwrap());
    let open = |at| Ok(&sample.layer[at as usize..]);
    assert_eq!(client.push_blob(repository, layer, None, open).unwrap(), Pushed::Sent);
    assert_eq!(client.push_blob(repository, layer, None, open).unwrap(), Pushed::Present);
    push(&client, &sample, &reference);

    assert_eq!(client.resolve(&reference).unwrap(), Some(sample.descriptor()));
    let image = client.image(&reference, &Platform::host()).unwrap();
    assert_eq!((&image.bytes, &image.manifest), (&sample.bytes, &sample.manifest));
    assert_eq!(client.small_blob(repository, &image.manifest.config).unwrap(), sample.config);
    assert_eq!(read_blob(&client, repository, layer, 0), sample.layer);
    assert_eq!(read_blob(&client, repository, layer, 1_000_001), sample.layer[1_000_001..]);
    assert_eq!(read_blob(&client, repository, layer, layer.size), b"");

    let other = Repository::parse(&format!("{}/other", registry.host)).unwrap();
    let never = |_| -> layerstore::Result<&[u8]> { panic!("it is there to be mounted") };
    assert_eq!(client.push_blob(&other, layer, Some(repository), never).unwrap(), Pushed::Mounted);
    assert!(client.mount_blob(&other, sample.manifest.config.digest, repository).unwrap());
    assert!(client.has_blob(&other, layer.digest).unwrap());
    let absent = Digest::of(b"absent");
    assert!(!client.mount_blob(&other, absent, repository).unwrap());

    client.put_manifest(&reference.with_tag("v2").unwrap(), media::OCI_MANIFEST, &sample.bytes).unwrap();
    assert_eq!(client.tags(repository).unwrap(), ["v1", "v2"]);
    assert_eq!(client.catalog(&registry.host).unwrap(), ["other", "team/app"]);
}

#[test]
fn skopeo_sees_what_we_pushed_and_we_what_it_did() {
    if !is_there("skopeo") {
        println!("skipped: skopeo is not installed");
        return;
    }
    let Some(registry) = Registry::start(Access::Open) else { return };
    let client = client();
    let sample = Sample::new("amd64", noise(100_000));
    let ours = reference(&registry, "ours:1");
    push(&client, &sample, &ours);
    let copy = |from: &str, to: &str| {
        let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        run(Command::new("skopeo").args(["--insecure-policy", "copy"]).args(insecure).args([from, to]));
    };
    let dir = registry.scratch.0.join("dir");
    copy(&format!("docker://{ours}"), &format!("dir:{}", dir.display()));
    assert_eq!(std::fs::read(dir.join("manifest.json")).unwrap(), sample.bytes);
    assert_eq!(std::fs::read(dir.join(sample.manifest.layers[0].digest.hex())).unwrap(), sample.layer);

    let theirs = reference(&registry, "theirs/deep/er:2");
    copy(&format!("dir:{}", dir.display()), &format!("docker://{theirs}"));
    let image = client.image(&theirs, &Platform::host()).unwrap();
    assert_eq!(image.bytes, sample.bytes);
    assert_eq!(read_blob(&client, theirs.repository(), &image.manifest.layers[0], 0), sample.layer);
}

#[test]
fn an_index_leads_to_its_platforms() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let client = client();
    let named = reference(&registry, "multi:1");
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let sample = Sample::new(architecture, noise(1000));
        push(&client, &sample, &named.with_tag(architecture).unwrap());
        let mut descriptor = sample.descriptor();
        descriptor.platform = Some(Platform::new("linux", architecture, ""));
        manifests.push(descriptor);
    }
    let bytes = Index::new(media::OCI_INDEX, manifests.clone()).to_bytes().unwrap();
    client.put_manifest(&named, media::OCI_INDEX, &bytes).unwrap();
    for (at, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
        let image = client.image(&named, &architecture.parse().unwrap()).unwrap();
        assert_eq!(Digest::of(&image.bytes), manifests[at].digest);
        assert!(matches!(image.named.document, Document::Index(_)));
    }
    let error = client.image(&named, &"s390x".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.remedy(), Some("there are images for linux/amd64, linux/arm64"));
}

#[test]
fn what_is_not_there_is_named() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let absent = reference(&registry, "absent:1");
    let error = client().manifest(&absent).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.message(), format!("{absent} is not in the registry {}", registry.host));
    let blob = Descriptor::of(media::OCI_LAYER, b"absent");
    let error = client().blob(absent.repository(), &blob, 0).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let sample = Sample::new("amd64", noise(10));
    let error = client().put_manifest(&absent, media::OCI_MANIFEST, &sample.bytes).unwrap_err();
    assert!(error.message().contains("BLOB_UNKNOWN"), "{error}");
    let error = client().search(&registry.host, "x", 5).unwrap_err();
    assert!(error.message().contains("offers no search"), "{error}");
}

#[test]
fn passwords_are_asked_for() {
    let Some(registry) = Registry::start(Access::Password) else { return };
    let host = &registry.host;
    let named = reference(&registry, "private:1");
    let error = client().manifest(&named).unwrap_err();
    assert_eq!((error.kind(), error.remedy()), (Kind::Denied, Some(&*format!("runion login {host}"))));
    assert_eq!(client().check_login(host, None).unwrap_err().kind(), Kind::Denied);

    let (right, wrong) = (Credential::password("user", "word"), Credential::password("user", "wr0ng"));
    let error = client().check_login(host, Some(&wrong)).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!error.to_string().contains("wr0ng"));
    client().check_login(host, Some(&right)).unwrap();

    let credentials = Credentials::in_files(vec![registry.scratch.0.join("auth.json")]);
    credentials.login(host, &right).unwrap();
    let client = Client::new(Config { credentials: credentials.clone(), ..config() });
    let sample = Sample::new("amd64", noise(10));
    push(&client, &sample, &named);
    assert_eq!(client.manifest(&named).unwrap().bytes, sample.bytes);
    if is_there("skopeo") {
        run(Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{named}")])
            .env("REGISTRY_AUTH_FILE", registry.scratch.0.join("auth.json")));
    }
    assert!(credentials.logout(host).unwrap());
    assert!(Client::new(Config { credentials, ..config() }).manifest(&named).is_err());
}

#[test]
fn an_authority_of_its_own_is_trusted_for_its_host() {
    let Some(registry) = Registry::start(Access::Tls) else { return };
    let named = reference(&registry, "tls:1");
    let error = client().manifest(&named).unwrap_err();
    assert!(error.message().contains("certificate"), "{error}");
    assert!(error.remedy().unwrap_or_default().contains("certs.d"), "{error:?}");

    let certificates = registry.scratch.0.join("certs.d");
    let own = certificates.join(&registry.host);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(registry.scratch.0.join("ca.crt"), own.join("ca.crt")).unwrap();
    let client = Client::new(Config { certificates: vec![certificates], ..config() });
    let sample = Sample::new("amd64", noise(300_000));
    push(&client, &sample, &named);
    assert_eq!(client.manifest(&named).unwrap().bytes, sample.bytes);
    assert_eq!(read_blob(&client, named.repository(), &sample.manifest.layers[0], 7), sample.layer[7..]);

    let insecure = Client::new(Config { insecure: vec![registry.host.clone()], ..config() });
    assert_eq!(insecure.manifest(&named).unwrap().bytes, sample.bytes);
}

/// A certificate by nobody else is trusted where it lies in the host's directory:
/// itself, by its name, and no other.
#[test]
fn a_certificate_that_vouches_for_itself_is_trusted_by_itself() {
    let Some(registry) = Registry::start(Access::SelfSigned) else { return };
    let named = reference(&registry, "own:1");
    let error = client().manifest(&named).unwrap_err();
    assert!(error.message().ends_with("its certificate is vouched for by itself alone"), "{error}");
    assert!(error.remedy().unwrap_or_default().contains("certs.d"), "{error:?}");

    let certificates = registry.scratch.0.join("certs.d");
    let trusting = |host: &str, certificate: &std::path::Path| {
        let own = certificates.join(host);
        std::fs::create_dir_all(&own).unwrap();
        std::fs::copy(certificate, own.join("ca.crt")).unwrap();
        Client::new(Config { certificates: vec![certificates.clone()], ..config() })
    };
    let client = trusting(&registry.host, &registry.scratch.0.join("ca.crt"));
    let sample = Sample::new("amd64", noise(300_000));
    push(&client, &sample, &named);
    assert_eq!(client.manifest(&named).unwrap().bytes, sample.bytes);
    assert_eq!(read_blob(&client, named.repository(), &sample.manifest.layers[0], 7), sample.layer[7..]);

    let by_another_name = registry.host.replace("127.0.0.1", "localhost");
    let client = trusting(&by_another_name, &registry.scratch.0.join("ca.crt"));
    let error = client.manifest(&format!("{by_another_name}/own:1").parse().unwrap()).unwrap_err();
    assert!(error.message().contains("certificate"), "{error}");

    let other = Scratch::new();
    make_own_certificate(&other.0);
    let client = trusting(&registry.host, &other.0.join("ca.crt"));
    let error = client.manifest(&named).unwrap_err();
    assert!(error.message().contains("certificate"), "{error}");
}

#[test]
fn threads_share_a_client() {
    let Some(registry) = Registry::start(Access::Open) else { return };
    let client = client();
    let named = reference(&registry, "parallel:1");
    let layers: Vec<_> = (0..6).map(|n| noise(200_000 + n)).collect();
    std::thread::scope(|scope| {
        for layer in &layers {
            scope.spawn(|| {
                let blob = Descriptor::of(media::OCI_LAYER, layer);
                client.push_blob(named.repository(), &blob, None, |at| Ok(&layer[at as usize..])).unwrap();
                assert_eq!(read_blob(&client, named.repository(), &blob, 0), *layer);
            });
        }
    });
}
