//! Debian's docker-registry on a free port, gone with its guard.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory of its own, gone at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("layerstore-registry-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A registry that runs.
pub struct Registry {
    pub host: String,
    pub scratch: Scratch,
    child: Child,
}

/// How it is to be spoken to.
pub enum Access {
    Open,
    /// As `user` with the password `word`.
    Password,
    /// Over TLS, its certificate in `ca.crt` of the scratch directory.
    Tls,
    /// The same with a certificate that vouches for itself, as docker's manual
    /// has people make them.
    SelfSigned,
}

impl Registry {
    /// `None`, and the reason on standard output, if a program is missing.
    pub fn start(access: Access) -> Option<Registry> {
        let mut needed = vec!["docker-registry"];
        let scratch = Scratch::new();
        let dir = &scratch.0;
        let extra = match access {
            Access::Open => String::new(),
            Access::Password => {
                needed.push("htpasswd");
                format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", dir.join("htpasswd").display())
            }
            Access::Tls | Access::SelfSigned => {
                needed.push("openssl");
                String::new()
            }
        };
        for program in needed {
            if !is_there(program) {
                println!("skipped: {program} is not installed");
                return None;
            }
        }
        let mut tls = String::new();
        match access {
            Access::Open => {}
            Access::Password => {
                run(Command::new("htpasswd").args(["-Bbc", "htpasswd", "user", "word"]).current_dir(dir))
            }
            Access::Tls | Access::SelfSigned => {
                match access {
                    Access::SelfSigned => make_own_certificate(dir),
                    _ => make_certificates(dir),
                }
                let (certificate, key) = (dir.join("server.crt"), dir.join("server.key"));
                tls = format!(
                    "  tls:\n    certificate: {}\n    key: {}\n",
                    certificate.display(),
                    key.display()
                );
            }
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let store = dir.join("store");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {host}\n{tls}{extra}",
            store.display()
        );
        let file = dir.join("config.yml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Registry { host, scratch, child };
        let start = Instant::now();
        while TcpStream::connect(&registry.host).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority of our own, and what it says of 127.0.0.1.
fn make_certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split_whitespace()).current_dir(dir));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=test-ca -days 2");
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=test");
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile san",
    );
}

/// A certificate of 127.0.0.1 by nobody else, for the server and for who trusts it.
pub fn make_own_certificate(dir: &Path) {
    let arguments = "req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.crt -subj /CN=test -days 2 \
                     -addext subjectAltName=IP:127.0.0.1";
    run(Command::new("openssl").args(arguments.split_whitespace()).current_dir(dir));
    std::fs::copy(dir.join("server.crt"), dir.join("ca.crt")).unwrap();
}
