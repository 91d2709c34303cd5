//! Docker's own client is the oracle for how things look: it is shown our
//! images by a daemon that is none, and must print what we print.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::store::{Store, has, tool};
use crate::setup::{stderr, stdout};

/// What a daemon answers: documents by the end of a request's path.
type Answers = Vec<(String, Value)>;

/// A socket behind which every request gets its document.
fn daemon(store: &Store, answers: Answers) -> PathBuf {
    let socket = store.scratch.join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            // A client that goes away is no matter.
            answer(client.unwrap(), &answers).ok();
        }
    });
    socket
}

fn answer(client: UnixStream, answers: &Answers) -> std::io::Result<()> {
    let mut lines = BufReader::new(client);
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut len = 0;
        loop {
            let mut header = String::new();
            lines.read_line(&mut header)?;
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
            if header.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut lines.by_ref().take(len), &mut std::io::sink())?;
        let path = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
        let found = answers.iter().find(|(end, _)| path.ends_with(end.as_str()));
        let (status, body) = match (path, found) {
            ("/_ping", _) => ("200 OK", "OK".to_owned()),
            (_, Some((_, document))) => ("200 OK", document.to_string()),
            (_, None) => {
                ("404 Not Found", json!({ "message": format!("no such thing: {path}") }).to_string())
            }
        };
        let body = if request.starts_with("HEAD") { String::new() } else { body };
        let head = format!(
            "HTTP/1.1 {status}\r\nApi-Version: 1.43\r\nOstype: linux\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        lines.get_mut().write_all(format!("{head}{body}").as_bytes())?;
    }
}

/// The images of a store as docker's API tells them.
fn answers(store: &Store) -> Answers {
    let ids = store.ok(&["images", "-q", "--no-trunc"]);
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.dedup();
    let mut listed = Vec::new();
    let mut answers = Answers::new();
    for id in ids {
        let shown: Value = serde_json::from_str(&store.ok(&["inspect", id])).unwrap();
        let image = shown[0].clone();
        let seconds = |time: &Value| -> i64 {
            tool("date", &["-d", time.as_str().unwrap(), "+%s"]).trim().parse().unwrap()
        };
        listed.push(json!({
            "Id": image["Id"], "ParentId": "", "RepoTags": image["RepoTags"], "RepoDigests": image["RepoDigests"],
            "Created": seconds(&image["Created"]), "Size": image["Size"], "VirtualSize": image["Size"],
            "SharedSize": -1, "Containers": -1, "Labels": null,
        }));
        let plain = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
        let steps = store.ok(&["history", "-H=false", "--no-trunc", "--format", plain, id]);
        let steps = steps.lines().map(|line| {
            let [id, created, by, size, comment] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            json!({
                "Id": id, "Created": seconds(&created.into()), "CreatedBy": by,
                "Size": size.parse::<u64>().unwrap(), "Comment": comment, "Tags": null,
            })
        });
        let steps: Value = steps.collect();
        for name in image["RepoTags"].as_array().unwrap() {
            let name = name.as_str().unwrap().split(':').next().unwrap();
            answers.push((format!("/images/{name}/history"), steps.clone()));
        }
        answers.push((format!("/images/{id}/history"), steps));
        answers.push((format!("/images/{id}/json"), image));
    }
    answers.push(("/images/json".to_owned(), listed.into()));
    answers
}

struct Docker {
    store: Store,
    socket: PathBuf,
}

impl Docker {
    fn new(test: &str) -> Option<Docker> {
        if !has("docker") {
            return None;
        }
        let store = Store::new(test);
        store.ok(&["history", "hello"]);
        store.ok(&["tag", "hello", "localhost:5000/a/very/long/name/of/an/image:and-a-long-tag"]);
        let app = store.import(
            "app:1.0",
            &[("a", &"x".repeat(1_234_567))],
            &[
                "-c",
                "ENV A=1 B=\"2 3\"",
                "-c",
                "LABEL x.y=z k=v",
                "-c",
                "CMD [\"/bin/app\"]",
                "-c",
                "EXPOSE 80 53/udp",
                "-m",
                "a comment that is longer than any column would like it to be",
            ],
        );
        store.import("", &[("b", "nameless")], &[]);
        let pulled = store.import("", &[("c", "only by digest")], &[]);
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        store.note_digest(&app, &format!("docker.io/library/app@{}", digest("a")));
        store.note_digest(&pulled, &format!("localhost:5000/team/pulled@{}", digest("b")));
        // The words for a moment ago change every second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let socket = daemon(&store, answers(&store));
        Some(Docker { store, socket })
    }

    /// Both say the same.
    fn agrees(&self, arguments: &[&str]) {
        self.agrees_in("UTC", arguments);
    }

    /// The same where the clock shows another time.
    fn agrees_in(&self, zone: &str, arguments: &[&str]) {
        let mut docker = Command::new("docker");
        docker.args(arguments).env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        docker
            .env("DOCKER_CONFIG", self.store.scratch.path())
            .env("TZ", zone)
            .env_remove("DOCKER_API_VERSION");
        // A second may begin between the two.
        for attempt in 0..3 {
            let (theirs, ours) =
                (docker.output().unwrap(), self.store.command(arguments).env("TZ", zone).output().unwrap());
            // JSON may be written so or so.
            let plain = stdout(&theirs).replace("\\u003c", "<").replace("\\u003e", ">");
            if stdout(&ours) == plain && theirs.status.success() && ours.status.success() {
                return;
            }
            if attempt == 2 {
                panic!(
                    "{arguments:?}\ndocker:\n{}{}\nrunion:\n{}{}",
                    stdout(&theirs),
                    stderr(&theirs),
                    stdout(&ours),
                    stderr(&ours)
                );
            }
        }
    }
}

#[test]
fn lists_look_as_docker_s() {
    let Some(docker) = Docker::new("docker-lists") else { return };
    for arguments in [
        &["images"][..],
        &["images", "-a", "--no-trunc"],
        &["images", "--digests"],
        &["images", "-q"],
        &["images", "-q", "--no-trunc"],
        &["image", "ls"],
        &[
            "images",
            "--digests",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}} {{.Digest}} {{.CreatedSince}} {{.CreatedAt}} {{.Size}}",
        ],
        &["images", "--format", "table {{.ID}}\t{{.Size}}"],
        &["images", "--format", "table {{.Repository}}\\t{{.CreatedAt}}\\t{{.Tag}}"],
        &["images", "--format", "table {{upper .Repository}} {{.Tag}}"],
        &["images", "--format", "{{json .Repository}} {{len .ID}} {{printf \"%-12s|\" .Tag}}"],
        &["images", "--format", "{{if eq .Tag \"latest\"}}{{.ID}}{{else}}-{{end}}"],
    ] {
        docker.agrees(arguments);
    }
}

#[test]
fn times_are_shown_as_docker_does() {
    let Some(docker) = Docker::new("docker-times") else { return };
    for zone in ["America/New_York", "Asia/Kathmandu", "Europe/Berlin", "EST5EDT", "Nowhere/At_All", ""] {
        docker.agrees_in(zone, &["images", "--format", "{{.CreatedAt}}"]);
        docker.agrees_in(zone, &["history", "-H=false", "hello"]);
    }
}

#[test]
fn histories_look_as_docker_s() {
    let Some(docker) = Docker::new("docker-history") else { return };
    let ids = docker.store.ok(&["images", "-q", "--no-trunc"]);
    for id in ids.lines() {
        for options in [
            &[][..],
            &["--no-trunc"],
            &["-q"],
            &["-q", "--no-trunc"],
            &["-H=false"],
            &["--human=false", "--no-trunc"],
            &["--format", "json"],
            &["--format", "{{.ID}} {{.CreatedSince}} {{.CreatedAt}} {{.CreatedBy}} {{.Size}} {{.Comment}}"],
            &["--format", "table {{.CreatedBy}}\t{{.Size}}"],
        ] {
            docker.agrees(&[&["history"], options, &[id]].concat());
        }
    }
}

#[test]
fn templates_give_what_docker_s_give() {
    let Some(docker) = Docker::new("docker-templates") else { return };
    let ids = docker.store.ok(&["images", "-q", "--no-trunc"]);
    for id in ids.lines() {
        for template in [
            "{{.Id}} {{.Architecture}} {{.Os}} {{.Size}}",
            "{{json .RepoTags}}",
            "{{.RepoTags}}",
            "{{join .RepoTags \", \"}}",
            "{{range .RepoTags}}{{.}} {{end}}",
            "{{range $i, $e := .RootFS.Layers}}{{$i}}:{{$e}}{{\"\\n\"}}{{end}}",
            "{{len .RootFS.Layers}} {{index .RootFS.Layers 0}} {{.RootFS.Type}}",
            "{{json .Config.Cmd}}",
            "{{.Config.Env}} {{.Config.Cmd}}",
            "{{range .Config.Env}}{{println .}}{{end}}",
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "{{json .Config.Labels}}",
            "{{.Config.Labels}}",
            "{{index .Config.Labels \"x.y\"}}|",
            "{{with .Config.Labels}}{{.k}}{{else}}none{{end}}",
            "{{if .Config.Entrypoint}}entry{{else if .Config.Cmd}}cmd{{else}}nothing{{end}}",
            "{{if and .Config.Cmd (not .Config.User)}}{{.Config.Cmd | len}}{{end}}",
            "{{- .Id -}} {{/* a comment */}} x {{- \" y\"}}",
            "{{printf \"%s %d %q %v\" .Os .Size .Architecture .RootFS.Layers}}",
            "{{print .Size .Os .Size .Size}}",
            "{{$x := .Config}}{{$x.WorkingDir}}{{(index .RootFS.Layers 0) | len}}",
            "{{truncate .Id 9}}",
            "{{upper .Os}} {{title .Os}} {{lower \"ABC\"}} {{split .Os \"n\"}} {{pad .Os 1 2}}|",
            "{{eq .Os \"linux\" \"other\"}} {{ne .Size 0}} {{lt .Size 600}} {{ge 3 3}} {{or .Author .Os}}",
            "{{json .GraphDriver.Name}} {{.GraphDriver.Data.Index}}",
        ] {
            let arguments = ["image", "inspect", "-f", template, id];
            docker.agrees(&arguments);
        }
    }
}
