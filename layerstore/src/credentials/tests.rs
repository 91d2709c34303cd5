use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// A directory of its own, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("layerstore-credentials-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    fn file(&self, name: &str, content: &Value) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn auth(user: &str) -> Value {
    json!({ "auth": BASE64_STANDARD.encode(format!("{user}:word:{user}")) })
}

fn user(credentials: &Credentials, repository: &str) -> Option<String> {
    match credentials.find(&Repository::parse(repository).unwrap()).unwrap()? {
        Credential::Password { user, password } => {
            assert_eq!(password.reveal(), format!("word:{user}"));
            Some(user)
        }
        Credential::IdentityToken(token) => Some(format!("token {}", token.reveal())),
    }
}

#[test]
fn the_nearest_key_counts() {
    let scratch = Scratch::new("keys");
    let first = scratch.file(
        "first.json",
        &json!({ "auths": {
            "quay.io": auth("registry"),
            "quay.io/team": auth("team"),
            "quay.io/team/app": auth("app"),
            "https://index.docker.io/v1/": auth("docker"),
            "https://old.example.com/v2/": auth("old"),
            "token.example.com": { "auth": "dTo=", "identitytoken": "t" },
            "empty.example.com": {},
        }}),
    );
    let second = scratch.file(
        "second.json",
        &json!({ "auths": { "quay.io": auth("second"), "empty.example.com": auth("second") } }),
    );
    let credentials = Credentials::in_files(vec![scratch.0.join("absent"), first, second]);
    for (repository, expected) in [
        ("quay.io/team/app", Some("app")),
        ("quay.io/team/app/more", Some("app")),
        ("quay.io/team/other", Some("team")),
        ("quay.io/teams/other", Some("registry")),
        ("nginx", Some("docker")),
        ("index.docker.io/a/b", Some("docker")),
        ("old.example.com/a", Some("old")),
        ("token.example.com/a", Some("token t")),
        ("empty.example.com/a", Some("second")),
        ("example.com/quay.io", None),
    ] {
        assert_eq!(user(&credentials, repository).as_deref(), expected, "{repository}");
    }
}

#[test]
fn a_login_is_kept_and_forgotten() {
    let scratch = Scratch::new("login");
    let path = scratch.0.join("new/auth.json");
    let credentials = Credentials::in_files(vec![path.clone()]);
    assert_eq!(credentials.login("quay.io", &Credential::password("u", "word:u")).unwrap(), path);
    assert_eq!(user(&credentials, "quay.io/a").as_deref(), Some("u"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        read(&path),
        json!({ "auths": { "quay.io": { "auth": BASE64_STANDARD.encode("u:word:u") } } })
    );

    credentials.login("docker.io", &Credential::IdentityToken(Secret::new("t"))).unwrap();
    assert_eq!(read(&path)["auths"]["https://index.docker.io/v1/"], json!({ "identitytoken": "t" }));
    assert!(credentials.logout("docker.io").unwrap());
    assert!(!credentials.logout("docker.io").unwrap());
    assert_eq!(user(&credentials, "quay.io/a").as_deref(), Some("u"));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn what_else_is_in_a_file_stays() {
    let scratch = Scratch::new("rest");
    let other = scratch.file("other.json", &json!({}));
    let target = scratch.file(
        "target.json",
        &json!({ "psFormat": "x", "auths": { "http://quay.io/v1/": auth("old"), "quay.io/a": auth("a") } }),
    );
    let link = scratch.0.join("link.json");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let credentials = Credentials::in_files(vec![other.clone(), link.clone()]);
    assert_eq!(credentials.login("quay.io", &Credential::password("u", "word:u")).unwrap(), link);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    let now = json!({ "auth": BASE64_STANDARD.encode("u:word:u") });
    assert_eq!(
        read(&target),
        json!({ "psFormat": "x", "auths": { "quay.io": now, "quay.io/a": auth("a") } })
    );
    assert_eq!(read(&other), json!({}));
}

/// Docker's directory, once it is named, comes before what happens to be there.
#[test]
fn a_directory_of_docker_s_that_is_named_goes_first() {
    let scratch = Scratch::new("named");
    std::fs::create_dir_all(scratch.0.join("home/.config/containers")).unwrap();
    std::fs::create_dir_all(scratch.0.join("home/.docker")).unwrap();
    let own =
        scratch.file("home/.config/containers/auth.json", &json!({ "auths": { "quay.io": auth("own") } }));
    let usual = scratch.file("home/.docker/config.json", &json!({ "auths": { "ghcr.io": auth("usual") } }));
    let credentials = |docker: Option<&str>| {
        Credentials::of(|name| match name {
            "HOME" => Some(scratch.0.join("home")),
            "XDG_RUNTIME_DIR" => Some(scratch.0.join("session")),
            "DOCKER_CONFIG" => docker.map(|dir| scratch.0.join(dir)),
            _ => None,
        })
    };
    let password = Credential::password("u", "word:u");
    assert_eq!(user(&credentials(None), "ghcr.io/a").as_deref(), Some("usual"));
    assert_eq!(credentials(None).login("example.com", &password).unwrap(), own);
    let named = credentials(Some("named"));
    let path = scratch.0.join("named/config.json");
    assert_eq!(named.login("new.example.com", &password).unwrap(), path);
    assert_eq!(named.login("ghcr.io", &password).unwrap(), path);
    assert_eq!(read(&path)["auths"].as_object().unwrap().len(), 2, "what was there stays");
    assert_eq!(user(&named, "quay.io/a").as_deref(), Some("own"), "the user's own is read too");
    assert_eq!(read(&usual)["auths"]["ghcr.io"], auth("usual"), "and docker's usual one is not");
}

#[test]
fn helpers_are_asked() {
    let name = format!("layerstore-test-{}", std::process::id());
    let dir = Path::new("/usr/local/bin");
    let program = dir.join(format!("docker-credential-{name}"));
    let scratch = Scratch::new("helper");
    let kept = scratch.0.join("kept");
    let script = format!(
        "#!/bin/sh\nkept={}\nread -r line\ncase $1 in\nstore) echo \"$line\" >$kept ;;\n\
         erase) rm $kept ;;\nget) [ -e $kept ] && cat $kept && exit\n\
         echo credentials not found in native keychain; exit 1 ;;\nesac\n",
        kept.display()
    );
    if std::fs::write(&program, script).is_err() {
        println!("skipped: {} is not writable", dir.display());
        return;
    }
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = scratch.file("auth.json", &json!({ "credHelpers": { "quay.io": name } }));
    let credentials = Credentials::in_files(vec![file.clone()]);
    let found = std::panic::catch_unwind(|| {
        assert_eq!(user(&credentials, "quay.io/a"), None);
        credentials.login("quay.io", &Credential::password("u", "word:u")).unwrap();
        assert_eq!(read(&file)["auths"], json!({ "quay.io": {} }));
        assert_eq!(user(&credentials, "quay.io/a").as_deref(), Some("u"));
        assert_eq!(user(&credentials, "ghcr.io/a"), None);
        assert!(credentials.logout("quay.io").unwrap());
        assert!(!kept.exists());
        assert_eq!(user(&credentials, "quay.io/a"), None);
    });
    std::fs::remove_file(&program).unwrap();
    found.unwrap();
}

#[test]
fn nothing_secret_is_shown() {
    let scratch = Scratch::new("secret");
    let credential = Credential::password("u", "pass-word");
    assert!(!format!("{credential:?}").contains("pass-word"));
    let not_base64 = json!({ "auths": { "quay.io": { "auth": "pass-word" } } });
    let not_auths = json!("pass-word");
    let wrong_type = json!({ "auths": "pass-word" });
    for (at, content) in [not_base64, not_auths, wrong_type].iter().enumerate() {
        let file = scratch.file(&format!("{at}.json"), content);
        let credentials = Credentials::in_files(vec![file]);
        let found = credentials.find(&Repository::parse("quay.io/a").unwrap());
        let stored = credentials.login("ghcr.io", &credential);
        for shown in [format!("{found:?}"), format!("{stored:?}")] {
            assert!(!shown.contains("pass-word"), "{shown}");
        }
    }
    let bad_name = scratch.file("n.json", &json!({ "credsStore": "../evil" }));
    let found = Credentials::in_files(vec![bad_name]).find(&Repository::parse("a").unwrap());
    assert!(found.unwrap_err().message().contains("no name of a credential helper"));
}
