//! `pull`, `push`, `login`, `logout` and `search`, as a user types them, with
//! Debian's docker-registry.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::setup::{Scratch, runion};

struct Registry {
    host: String,
    scratch: Scratch,
    server: Child,
}

impl Registry {
    /// With a password (`user`, `word`) if `auth`.
    fn start(name: &str, auth: bool) -> Option<Registry> {
        let needed: &[&str] = if auth { &["docker-registry", "htpasswd"] } else { &["docker-registry"] };
        for program in needed {
            let there =
                Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if there.is_err() {
                println!("skipped: {program} is not installed");
                return None;
            }
        }
        let scratch = Scratch::new(name);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            scratch.join("registry").display()
        );
        if auth {
            let file = scratch.join("htpasswd");
            let made = Command::new("htpasswd").args(["-Bbc"]).arg(&file).args(["user", "word"]).status();
            assert!(made.unwrap().success());
            config.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display()));
        }
        fs::write(scratch.join("config.yml"), config).unwrap();
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(scratch.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Registry { host, scratch, server };
        let started = Instant::now();
        while TcpStream::connect(&registry.host).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "the registry does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    fn run(&self, store: &str, arguments: &[&str]) -> Output {
        let auth: PathBuf = self.scratch.join("auth.json");
        Command::new(runion())
            .arg("--root")
            .arg(self.scratch.join(store))
            .args(arguments)
            .env("REGISTRY_AUTH_FILE", auth)
            .env("HOME", self.scratch.path())
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn said(&self, store: &str, arguments: &[&str]) -> String {
        let output = self.run(store, arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.into_owned()
    }

    fn refused(&self, store: &str, arguments: &[&str]) -> String {
        let output = self.run(store, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let Some(registry) = Registry::start("remote", false) else { return };
    let name = format!("{}/team/hello:1", registry.host);
    registry.said("one", &["tag", "hello", &name]);
    let pushed = registry.said("one", &["push", &name]);
    let lines: Vec<&str> = pushed.lines().collect();
    assert_eq!(lines[0], format!("The push refers to repository [{}/team/hello]", registry.host));
    assert!(lines.last().unwrap().starts_with("1: digest: sha256:"), "{pushed}");
    assert!(registry.said("one", &["push", &name]).contains(": Layer already exists\n"));

    let pulled = registry.said("two", &["pull", &name]);
    assert!(pulled.starts_with("1: Pulling from team/hello\n"), "{pulled}");
    assert!(pulled.contains(": Pull complete\nDigest: sha256:"), "{pulled}");
    assert!(pulled.contains(&format!("Status: Downloaded newer image for {name}\n")), "{pulled}");
    let again = registry.said("two", &["pull", &name]);
    assert!(again.contains(": Already exists\n") && again.contains("Image is up to date for"), "{again}");
    assert_eq!(registry.said("two", &["pull", "-q", &name]), format!("{name}\n"));
    let ids = ["one", "two"].map(|store| registry.said(store, &["images", "-q", "--no-trunc", &name]));
    assert_eq!(ids[0], ids[1]);
    let all = registry.said("three", &["pull", "-a", &format!("{}/team/hello", registry.host)]);
    assert!(all.contains("Downloaded newer image"), "{all}");
}

/// Names in full and through a mirror, by digest, without a tag, of another
/// platform.
#[test]
fn what_is_said_fits_what_was_typed() {
    let Some(registry) = Registry::start("remote-words", false) else { return };
    let dir = registry.scratch.join(".config/runion");
    fs::create_dir_all(&dir).unwrap();
    let mirrors = format!("{{\"mirrors\": {{\"docker.io\": [\"{}\"]}}}}", registry.host);
    fs::write(dir.join("registries.json"), mirrors).unwrap();
    let name = format!("{}/library/hello", registry.host);
    registry.said("one", &["tag", "hello", &name]);
    let pushed = registry.said("one", &["push", &name]);
    assert!(pushed.starts_with("Using default tag: latest\nThe push refers to "), "{pushed}");
    let full = registry.said("one", &["push", &format!("{name}:latest")]);
    assert!(full.starts_with("The push refers to "), "{full}");

    let full = registry.said("two", &["pull", "docker.io/library/hello:latest"]);
    assert!(full.starts_with("latest: Pulling from library/hello\n"), "{full}");
    assert!(full.ends_with("docker.io/library/hello:latest\n"), "{full}");
    let short = registry.said("three", &["pull", "docker.io/hello"]);
    assert!(short.starts_with("Using default tag: latest\nlatest: Pulling"), "{short}");
    let tagged = registry.refused("two", &["pull", "-a", "docker.io/library/hello:latest"]);
    assert!(tagged.contains("tag can't be used with --all-tags"), "{tagged}");

    let digest = full.lines().find_map(|line| line.strip_prefix("Digest: ")).unwrap();
    let by_digest = format!("{name}@{digest}");
    assert!(registry.said("four", &["pull", &by_digest]).contains("Status: Downloaded newer image for"));
    assert!(registry.said("four", &["pull", &by_digest]).contains("Status: Image is up to date for"));

    let other = registry.run("five", &["pull", "--platform", "linux/riscv64", &name]);
    let warning = String::from_utf8_lossy(&other.stderr);
    let expected = format!(
        "WARNING: image with reference {name}:latest was found but its platform (linux/amd64) does not match \
         the specified platform (linux/riscv64)\n"
    );
    assert_eq!((other.status.code(), &*warning), (Some(0), &*expected));
    let own = registry.run("six", &["pull", "--platform", "linux/amd64", &name]);
    assert!(own.stderr.is_empty());
}

#[test]
fn what_cannot_be_had_is_said() {
    let Some(registry) = Registry::start("remote-refusals", false) else { return };
    let absent = format!("{}/none:1", registry.host);
    assert!(registry.refused("one", &["pull", &absent]).contains(&absent));
    let unknown = registry.refused("one", &["push", &absent]);
    assert!(unknown.contains("An image does not exist locally with the tag"), "{unknown}");
    assert!(registry.refused("one", &["pull", "Upper"]).contains("lower case"));
    assert!(registry.refused("one", &["search", &format!("{}/x", registry.host)]).contains("no search"));
    let nobody = registry.refused("one", &["pull", "127.0.0.1:1/none:1"]);
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
    assert_eq!(registry.said("one", &["images", "-q"]), "");
}

#[test]
fn a_login_is_remembered_until_it_is_forgotten() {
    let Some(registry) = Registry::start("remote-login", true) else { return };
    let name = format!("{}/hello:1", registry.host);
    registry.said("one", &["tag", "hello", &name]);
    let refused = registry.refused("one", &["push", &name]);
    assert!(refused.contains(&format!("runion login {}", registry.host)), "{refused}");
    assert!(
        registry.run("one", &["login", "-u", "user", "-p", "wrong", &registry.host]).status.code() == Some(1)
    );
    assert!(
        registry
            .said("one", &["login", "-u", "user", "-p", "word", &registry.host])
            .starts_with("Login Succeeded\n")
    );
    registry.said("one", &["push", &name]);
    registry.said("two", &["pull", &name]);
    assert!(registry.said("one", &["logout", &registry.host]).starts_with("Removing login credentials for"));
    registry.refused("two", &["pull", &name]);
}

/// A server that offers docker's search of old, and nothing else.
fn searched(arguments: &[&str]) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let results = r#"{"results": [
            {"name": "nginx", "description": "the server", "star_count": 900, "is_official": true},
            {"name": "someone/nginx", "description": "", "star_count": 3}
        ]}"#;
        // Whether it is a registry is asked first.
        loop {
            let mut stream = listener.accept().unwrap().0;
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let is_search = request.starts_with("GET /v1/search");
            let body = if is_search { results } else { "{}" };
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}", body.len());
            // Who has gone wants no answer.
            stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).ok();
            if is_search || request == "x" {
                return request;
            }
        }
    });
    let scratch = Scratch::new("remote-search");
    let mut command = Command::new(runion());
    command.args(["search", "--format", "{{.Name}} {{.StarCount}}{{.IsOfficial}}"]).args(arguments);
    let output = command.arg(format!("{host}/nginx")).env("HOME", scratch.path()).output().unwrap();
    if !output.status.success() {
        TcpStream::connect(&host).unwrap().write_all(b"x").unwrap();
    }
    let request = server.join().unwrap();
    assert!(!output.status.success() || request.starts_with("GET /v1/search?q=nginx&n=25 "), "{request}");
    output
}

#[test]
fn what_is_found_is_filtered() {
    let names = |arguments: &[&str]| String::from_utf8(searched(arguments).stdout).unwrap();
    assert_eq!(names(&[]), "nginx 900[OK]\nsomeone/nginx 3\n");
    assert_eq!(names(&["--filter", "stars=100"]), "nginx 900[OK]\n");
    assert_eq!(names(&["--filter", "is-official=false"]), "someone/nginx 3\n");
    assert_eq!(names(&["--filter", "stars=3", "-f", "is-official=true"]), "nginx 900[OK]\n");
    for wrong in ["stars", "stars=many", "is-official=perhaps", "colour=red"] {
        let output = searched(&["--filter", wrong]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            said,
            format!("runion: invalid filter '{wrong}'\nhint: there are stars=N, is-official=true|false\n")
        );
    }
}
