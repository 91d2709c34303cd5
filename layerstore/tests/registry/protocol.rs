//! What a real registry does not do on request.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use layerstore::credentials::{Credential, Credentials};
use layerstore::digest::Digest;
use layerstore::document::{DOCUMENT_LIMIT, Descriptor, Index, Platform, media};
use layerstore::error::{Error, Kind};
use layerstore::reference::{Reference, Repository};
use layerstore::registry::{Client, Config, Pushed};

use crate::scripted::{Answer, Asked, Server};
use crate::server::Scratch;
use crate::{Sample, client, config, noise};

fn reference(server: &Server) -> Reference {
    Reference::parse(&format!("{}/app:1", server.host)).unwrap()
}

fn manifest_answer(sample: &Sample) -> Answer {
    Answer::new(200, sample.bytes.clone()).header("Content-Type", media::OCI_MANIFEST)
}

/// Serves these bytes as any blob, from where it is asked to.
fn range_answer(asked: &Asked, bytes: &[u8]) -> Answer {
    match asked.header("range") {
        None => Answer::new(200, bytes),
        Some(range) => {
            let start: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            let content = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::new(206, &bytes[start..]).header("Content-Range", content)
        }
    }
}

fn read_blob(client: &Client, server: &Server, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let blob = Descriptor::of(media::OCI_LAYER, bytes);
    let mut read = Vec::new();
    client.blob(reference(server).repository(), &blob, 0)?.read_to_end(&mut read)?;
    Ok(read)
}

/// A server that wants tokens, and counts those it gives.
fn token_server(sample: Sample, life: u64) -> (Server, Arc<Mutex<u32>>) {
    let given = Arc::new(Mutex::new(0));
    let counter = given.clone();
    let server = Server::start(move |asked| {
        let host = asked.header("host").unwrap();
        if asked.path.starts_with("/token") {
            *counter.lock().unwrap() += 1;
            let token = format!("{{\"token\":\"t{}\",\"expires_in\":{life}}}", counter.lock().unwrap());
            return Answer::new(200, token);
        }
        let valid = format!("Bearer t{}", counter.lock().unwrap());
        if asked.header("authorization") != Some(&valid) {
            let challenge =
                format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:app:pull\"");
            return Answer::new(401, "").header("WWW-Authenticate", challenge);
        }
        manifest_answer(&sample)
    });
    (server, given)
}

#[test]
fn a_token_is_fetched_once() {
    let sample = Sample::new("amd64", noise(10));
    let bytes = sample.bytes.clone();
    let (server, given) = token_server(sample, 300);
    let client = client();
    for _ in 0..3 {
        assert_eq!(client.manifest(&reference(&server)).unwrap().bytes, bytes);
    }
    assert_eq!(*given.lock().unwrap(), 1);
    let paths: Vec<_> = server.asked().into_iter().map(|asked| asked.path).collect();
    let manifest = "/v2/app/manifests/1";
    assert_eq!(paths, [manifest, "/token?service=s&scope=repository:app:pull", manifest, manifest, manifest]);

    // One that the server takes no longer, though its time is not up.
    *given.lock().unwrap() += 1;
    client.manifest(&reference(&server)).unwrap();
    assert_eq!(*given.lock().unwrap(), 3);
}

#[test]
fn an_old_token_is_not_shown() {
    let (server, given) = token_server(Sample::new("amd64", noise(10)), 1);
    let client = client();
    client.manifest(&reference(&server)).unwrap();
    client.manifest(&reference(&server)).unwrap();
    assert_eq!(*given.lock().unwrap(), 2);
    let refused = server.asked().iter().filter(|asked| asked.path.starts_with("/v2")).count();
    assert_eq!(refused, 3, "the second request came with a new token");
}

#[test]
fn the_token_server_learns_who_asks() {
    let scratch = Scratch::new();
    for (credential, expected) in [
        (Credential::password("me", "word"), "GET /token?service=s&scope=repository:app:pull&account=me"),
        (Credential::IdentityToken(layerstore::credentials::Secret::new("id+1")), "POST /token"),
    ] {
        let (server, _) = token_server(Sample::new("amd64", noise(10)), 300);
        let credentials = Credentials::in_files(vec![scratch.0.join("auth.json")]);
        credentials.login(&server.host, &credential).unwrap();
        let client = Client::new(Config { credentials, ..config() });
        client.manifest(&reference(&server)).unwrap();
        let asked = server.asked().into_iter().find(|asked| asked.path.starts_with("/token")).unwrap();
        assert_eq!(format!("{} {}", asked.method, asked.path), expected);
        if asked.method == "GET" {
            assert_eq!(asked.header("authorization"), Some("Basic bWU6d29yZA=="));
        } else {
            let body = String::from_utf8(asked.body).unwrap();
            assert!(body.contains("refresh_token=id%2B1&service=s&scope=repository:app:pull"), "{body}");
        }
        client.check_login(&server.host, Some(&credential)).unwrap();
    }
}

#[test]
fn a_redirect_takes_no_credential_along() {
    let layer = noise(5000);
    let bytes = layer.clone();
    let store = Server::start(move |asked| range_answer(asked, &bytes));
    let location = format!("http://{}/somewhere?signature=x", store.host);
    let server = Server::start(move |asked| match asked.header("authorization") {
        None => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Answer::new(307, "").header("Location", location.clone()),
    });
    let scratch = Scratch::new();
    let credentials = Credentials::in_files(vec![scratch.0.join("auth.json")]);
    credentials.login(&server.host, &Credential::password("me", "word")).unwrap();
    let client = Client::new(Config { credentials, ..config() });
    assert_eq!(read_blob(&client, &server, &layer).unwrap(), layer);
    let asked = store.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((&*asked[0].path, asked[0].header("authorization")), ("/somewhere?signature=x", None));
    assert!(server.asked().iter().any(|asked| asked.header("authorization").is_some()));
}

#[test]
fn redirects_end() {
    let server = Server::start(|_| Answer::new(302, "").header("Location", "again"));
    assert_eq!(client().manifest(&reference(&server)).unwrap_err().kind(), Kind::Limit);
}

#[test]
fn a_broken_download_goes_on() {
    let layer = noise(400_000);
    let bytes = layer.clone();
    let server = Server::start(move |asked| range_answer(asked, &bytes).until(70_000));
    assert_eq!(read_blob(&client(), &server, &layer).unwrap(), layer);
    let ranges: Vec<_> =
        server.asked().iter().map(|asked| asked.header("range").map(str::to_owned)).collect();
    let expected: Vec<_> = (1..6).map(|n| Some(format!("bytes={}-", n * 70_000))).collect();
    assert_eq!((&ranges[0], &ranges[1..]), (&None, &expected[..]));
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let layer = noise(100_000);
    let bytes = layer.clone();
    let mut times = 0;
    let server = Server::start(move |_| {
        times += 1;
        Answer::new(200, bytes.clone()).until(if times == 1 { 60_000 } else { usize::MAX })
    });
    assert_eq!(read_blob(&client(), &server, &layer).unwrap(), layer);
}

#[test]
fn a_download_that_never_gets_on_ends() {
    let layer = noise(100_000);
    let bytes = layer.clone();
    let server = Server::start(move |asked| range_answer(asked, &bytes).until(10));
    let error = read_blob(&client(), &server, &layer).unwrap_err();
    assert!(error.message().contains("broke off at byte 40 of 100000"), "{error}");
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn a_blob_has_the_length_it_should() {
    let layer = noise(1000);
    for wrong in [noise(999), noise(1001)] {
        let bytes = wrong.clone();
        let server = Server::start(move |asked| range_answer(asked, &bytes));
        assert_eq!(read_blob(&client(), &server, &layer).unwrap_err().kind(), Kind::Corrupt);

        // The same without its length being said.
        let chunked = [format!("{:x}\r\n", wrong.len()).as_bytes(), &wrong, b"\r\n0\r\n\r\n"].concat();
        let server =
            Server::start(move |_| Answer::new(200, chunked.clone()).header("Transfer-Encoding", "chunked"));
        assert!(read_blob(&client(), &server, &layer).is_err());
    }
}

#[test]
fn busy_servers_are_asked_again() {
    let sample = Sample::new("amd64", noise(10));
    let bytes = sample.bytes.clone();
    let mut times = 0;
    let server = Server::start(move |_| {
        times += 1;
        match times {
            1 | 2 => Answer::new(429, "").header("Retry-After", "1"),
            3 | 4 => Answer::new(503, ""),
            _ => manifest_answer(&sample),
        }
    });
    let start = Instant::now();
    // The first answer is to whether there is a server.
    assert_eq!(client().manifest(&reference(&server)).unwrap().bytes, bytes);
    assert!(start.elapsed() >= Duration::from_secs(1), "as long as it asked for");
    assert_eq!(server.asked().len(), 4);

    let server = Server::start(|_| {
        Answer::new(503, r#"{"errors":[{"code":"UNAVAILABLE","message":"service down"}]}"#)
    });
    let error = client().manifest(&reference(&server)).unwrap_err();
    assert!(error.message().ends_with("503 (service unavailable): service down (UNAVAILABLE)"), "{error}");
    assert_eq!(server.asked().len(), 4);

    let server = Server::start(|_| Answer::new(429, "").header("Retry-After", "86400"));
    assert!(client().manifest(&reference(&server)).is_err());
    assert_eq!(server.asked().len(), 1, "nobody waits a day");
}

#[test]
fn a_manifest_that_breaks_off_is_asked_for_again() {
    let sample = Sample::new("amd64", noise(10));
    let bytes = sample.bytes.clone();
    let mut times = 0;
    let server = Server::start(move |asked| {
        times += u32::from(asked.path.contains("/manifests/"));
        manifest_answer(&sample).until(if times < 3 { 20 } else { usize::MAX })
    });
    assert_eq!(client().manifest(&reference(&server)).unwrap().bytes, bytes);
    assert_eq!(server.asked().len(), 3);

    let server = Server::start(move |_| Answer::new(200, bytes.clone()).until(20));
    let error = client().manifest(&reference(&server)).unwrap_err();
    assert!(error.message().starts_with("cannot get 127.0.0.1"), "{error}");
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn manifests_are_what_their_digests_say() {
    let sample = Sample::new("amd64", noise(10));
    let digest = Digest::of(&sample.bytes);
    let other = Sample::new("arm64", noise(11));
    let server = Server::start(move |_| manifest_answer(&other));
    let error = client().manifest(&reference(&server).with_digest(digest)).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.message().contains(&digest.to_string()), "{error}");

    let server = Server::start(move |_| {
        manifest_answer(&sample).header("Docker-Content-Digest", Digest::of(b"x").to_string())
    });
    assert_eq!(client().manifest(&reference(&server)).unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn hostile_documents_are_refused() {
    let sample = Sample::new("amd64", noise(10));
    let both = String::from_utf8(sample.bytes.clone()).unwrap().replacen('{', "{\"manifests\":[],", 1);
    let loops = Descriptor::new(media::OCI_INDEX, Digest::of(b"x"), 10);
    let index = Index::new(media::OCI_INDEX, vec![loops]).to_bytes().unwrap();
    for (answer, words) in [
        (Answer::new(200, both), "CVE-2021-41190"),
        (Answer::new(200, sample.bytes.clone()).header("Content-Type", media::OCI_INDEX), "given as"),
        (Answer::new(200, "{\"schemaVersion\":1}"), "schema 1"),
        (Answer::new(200, "<html>"), "malformed"),
        (Answer::new(200, vec![b' '; DOCUMENT_LIMIT as usize + 1]), "4 MiB"),
        (Answer::new(200, "").header("Content-Length", "99999999999"), "4 MiB"),
        (Answer::new(200, index), "should be"),
    ] {
        let answer = Mutex::new(Some(answer));
        let again = noise(10);
        let server = Server::start(move |asked| match asked.path.contains("/manifests/") {
            true => answer.lock().unwrap().take().unwrap_or_else(|| Answer::new(200, again.clone())),
            false => Answer::new(200, ""),
        });
        let error = client().image(&reference(&server), &Platform::host()).unwrap_err();
        assert!(error.message().contains(words), "{words}: {error}");
    }
}

#[test]
fn mirrors_come_first() {
    let sample = Sample::new("amd64", noise(1000));
    let (bytes, layer) = (sample.bytes.clone(), sample.layer.clone());
    let down = Server::start(|_| Answer::new(404, ""));
    let mirror = Server::start(move |asked| match asked.path.contains("/blobs/") {
        true => range_answer(asked, &sample.layer),
        false => manifest_answer(&sample),
    });
    let mirrors = vec![format!("http://{}/prefix", down.host), format!("http://{}/prefix/", mirror.host)];
    let mirrors = [("docker.io".to_owned(), mirrors)].into();
    let client = Client::new(Config { mirrors, ..config() });
    assert_eq!(client.manifest(&Reference::parse("nginx").unwrap()).unwrap().bytes, bytes);
    let blob = Descriptor::of(media::OCI_LAYER, &layer);
    let mut read = Vec::new();
    let repository = Repository::parse("nginx").unwrap();
    client.blob(&repository, &blob, 0).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, layer);
    assert_eq!(down.asked().len(), 2);
    assert_eq!(mirror.asked()[0].path, "/prefix/v2/library/nginx/manifests/latest");
}

#[test]
fn an_upload_that_breaks_is_sent_again() {
    let layer = noise(50_000);
    let blob = Descriptor::of(media::OCI_LAYER, &layer);
    let mut uploads = 0;
    let server = Server::start(move |asked| match &*asked.method {
        "HEAD" => Answer::new(404, ""),
        "POST" => Answer::new(202, "").header("Location", "/up?state=a"),
        "PUT" => {
            uploads += 1;
            Answer::new(if uploads == 1 { 502 } else { 201 }, "")
        }
        _ => Answer::new(200, ""),
    });
    let named = reference(&server);
    let pushed = client().push_blob(named.repository(), &blob, None, |at| Ok(&layer[at as usize..])).unwrap();
    assert_eq!(pushed, Pushed::Sent);
    let asked = server.asked();
    let last = asked.last().unwrap();
    assert_eq!((&last.body, &*last.path), (&layer, &*format!("/up?state=a&digest={}", blob.digest)));

    // A source that ends early is no blob.
    let short = &layer[..100];
    let error = client().push_blob(named.repository(), &blob, None, |_| Ok(short)).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.message().ends_with("ends after 100 of 50000 bytes"), "{error}");
}

/// A registry that says what it has gets the rest, and not again what it has.
#[test]
fn an_upload_goes_on_where_it_broke() {
    let layer = noise(2 << 20);
    let blob = Descriptor::of(media::OCI_LAYER, &layer);
    let mut has: Vec<u8> = Vec::new();
    let mut requests = 0;
    let (told, digest) = (Arc::new(Mutex::new(Vec::new())), blob.digest);
    let tell = told.clone();
    let server = Server::start(move |asked| match &*asked.method {
        "HEAD" => Answer::new(404, ""),
        "POST" => Answer::new(202, "").header("Location", "/up?at=0"),
        "GET" if asked.path.starts_with("/up") => Answer::new(204, "")
            .header("Location", format!("/up?at={}", has.len()))
            .header("Range", format!("0-{}", has.len() - 1)),
        "PATCH" => {
            requests += 1;
            assert_eq!(asked.path, format!("/up?at={}", has.len()), "the session is the last that was told");
            tell.lock().unwrap().push(asked.header("content-range").map(str::to_owned));
            // Two of three get lost, after some of them.
            let len = if requests < 3 { 700_000 } else { asked.body.len() };
            has.extend(&asked.body[..len]);
            let answer = Answer::new(if requests < 3 { 502 } else { 202 }, "");
            answer.header("Location", format!("/up?at={}", has.len()))
        }
        "PUT" => Answer::new(if Digest::of(&has) == digest { 201 } else { 400 }, ""),
        _ => Answer::new(200, ""),
    });
    let named = reference(&server);
    let open = |at| Ok(&layer[at as usize..]);
    assert_eq!(client().push_blob(named.repository(), &blob, None, open).unwrap(), Pushed::Sent);
    let ranges = [None, Some("700000-2097151".to_owned()), Some("1400000-2097151".to_owned())];
    assert_eq!(*told.lock().unwrap(), ranges);
    assert_eq!(server.asked().last().unwrap().path, format!("/up?at=2097152&digest={}", blob.digest));
}

#[test]
fn lists_come_in_pages() {
    let mut page = 0;
    let server = Server::start(move |asked| {
        if asked.path == "/v2/" {
            return Answer::new(200, "");
        }
        page += 1;
        let answer = Answer::new(200, format!("{{\"name\":\"app\",\"tags\":[\"t{page}\"]}}"));
        if page == 3 {
            answer
        } else {
            answer.header("Link", format!("</v2/app/tags/list?last=t{page}>; rel=\"next\""))
        }
    });
    assert_eq!(client().tags(reference(&server).repository()).unwrap(), ["t1", "t2", "t3"]);
    assert_eq!(server.asked()[2].path, "/v2/app/tags/list?last=t2");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let server = Server::start(|_| Answer::new(200, ""));
    let named = reference(&server);
    let host = server.host.clone();
    drop(server);
    let start = Instant::now();
    let error = client().manifest(&named).unwrap_err();
    assert_eq!(error.kind(), Kind::System);
    assert_eq!(error.message().to_lowercase(), format!("cannot reach {host}: connection refused"));
    assert!(start.elapsed() < Duration::from_secs(2));
}
