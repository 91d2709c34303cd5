//! Commands that look over all: update, stats, events, info, version, df, prune;
//! and images in the care of their containers.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::setup::stdout;
use crate::world::{World, until};

/// What happened so far, each by a template.
fn events(world: &World, filters: &[&str], format: &str) -> Vec<String> {
    let mut words = vec!["events", "--since", "1h", "--until", "0s", "--format", format];
    words.extend(filters.iter().flat_map(|filter| ["-f", *filter]));
    world.says(&words).lines().map(str::to_owned).collect()
}

#[test]
fn what_happens_is_told() {
    let Some(world) = World::new("words-events") else { return };
    world.makes("create", &["--name", "one", "--label", "tier=front", "box", "sh", "-c", "exit 3"]);
    world.command(&["start", "-a", "one"]).stdout(Stdio::null()).status().unwrap();
    world.says(&["rename", "one", "two"]);
    world.says(&["rm", "two"]);
    let said = events(&world, &["label=tier=front"], "{{.Action}} {{.Actor.Attributes.name}}");
    assert_eq!(said, ["create one", "start one", "die one", "rename two", "destroy two"]);
    let died = events(&world, &["event=die"], "{{.Type}} {{.From}} {{.Actor.Attributes.exitCode}}");
    assert_eq!(died, ["container box 3"]);
    world.says(&["volume", "create", "vol"]);
    world.says(&["volume", "rm", "vol"]);
    world.says(&["tag", "box", "other"]);
    assert_eq!(events(&world, &["volume=vol"], "{{.Action}}"), ["create", "destroy"]);
    assert_eq!(events(&world, &["type=image"], "{{.Action}}"), ["import", "tag"]);
    let json: serde_json::Value = serde_json::from_str(&events(&world, &["event=tag"], "json")[0]).unwrap();
    assert_eq!(json["Actor"]["Attributes"]["name"], "other:latest");
    assert!(json["timeNano"].is_i64() && json["scope"] == "local", "{json}");

    world.runs("run", &[]);
    world.says(&["stop", "-t", "0", "run"]);
    let said = events(&world, &["container=run"], "{{.Action}}");
    assert_eq!(said.first().map(String::as_str), Some("create"));
    assert_eq!(said[2..].iter().filter(|action| *action == "kill").count(), 2, "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("stop"));
    assert!(world.fails(&["events", "-f", "daemon=x"]).contains("invalid filter"));
}

#[test]
fn events_are_followed() {
    let Some(world) = World::new("words-follow") else { return };
    let mut follower =
        world.command(&["events", "--format", "{{.Action}}"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(follower.stdout.take().unwrap());
    let told = std::thread::spawn(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        line
    });
    // Until it looks, what is made is before its beginning.
    until("it tells of what is made", || {
        world.says(&["volume", "create"]);
        told.is_finished()
    });
    assert_eq!(told.join().unwrap(), "create\n");
    follower.kill().unwrap();
    follower.wait().unwrap();
    let begun = Instant::now();
    assert_eq!(world.says(&["events", "--until", "1s"]), "", "a moment that has passed, and nothing since");
    assert!(begun.elapsed() < Duration::from_secs(60), "it follows nothing");
}

#[test]
fn a_container_is_changed_while_it_runs() {
    let Some(world) = World::new("words-update") else { return };
    world.makes("run", &["-d", "--name", "one", "box", "sh", "-c", "while :; do :; done"]);
    let group = world.field("one", "{{json .State}}");
    if !group.contains("\"Status\":\"running\"") {
        panic!("{group}");
    }
    let updated = world.output(&["update", "-m", "64m", "--pids-limit", "20", "--restart", "always", "one"]);
    assert_eq!(stdout(&updated), "one\n");
    let seen = world.field("one", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}");
    assert_eq!(seen, "67108864 always");
    let says = |format| world.says(&["stats", "--no-stream", "--format", format, "one"]);
    let used = says("{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}");
    match String::from_utf8_lossy(&updated.stderr).contains("WARNING") {
        true => println!("skipped: this host's limits: {}", String::from_utf8_lossy(&updated.stderr)),
        false => {
            assert!(used.contains("/ 64MiB 1\n"), "{used}");
            let share: f64 = used.split(['%', ' ']).nth(1).unwrap().parse().unwrap();
            assert!(share > 5.0, "it does nothing else: {used}");
        }
    }
    world.makes("create", &["--name", "two", "box"]);
    let all = world.says(&["stats", "--no-stream", "-a", "--format", "{{.Name}} {{.MemUsage}}"]);
    assert!(all.contains("two 0B / 0B\n") && all.contains("one "), "{all}");
    assert!(!world.says(&["stats", "--no-stream"]).contains("two"));
    assert!(world.fails(&["update", "one"]).contains("you must provide one or more flags"));
    assert!(world.fails(&["update", "-m", "64m", "none"]).contains("No such container: none"));
    world.makes("create", &["--rm", "--name", "gone", "box"]);
    assert!(world.fails(&["update", "--restart", "always", "gone"]).contains("AutoRemove is enabled"));
}

#[test]
fn an_image_is_in_the_care_of_its_containers() {
    let Some(world) = World::new("words-images") else { return };
    world.runs("run", &[]);
    world.makes("create", &["--name", "rest", "box"]);
    let id = world.says(&["images", "-q"]);
    let id = id.trim();
    assert_eq!(world.says(&["images", "--format", "{{.Containers}}"]), "2\n");
    let why = world.fails(&["rmi", "box"]);
    let by_name = "conflict: unable to remove repository reference \"box:latest\" (must force) - container ";
    assert!(why.contains(by_name) && why.contains(&format!("is using its referenced image {id}")), "{why}");
    for force in [&["rmi", id][..], &["rmi", "-f", id]] {
        let why = world.fails(force);
        assert!(why.contains("(cannot be forced) - image is being used by running container "), "{why}");
    }
    world.says(&["rm", "-f", "run"]);
    let why = world.fails(&["rmi", id]);
    assert!(why.contains("(must be forced) - image is being used by stopped container "), "{why}");
    assert_eq!(world.says(&["prune", "-a", "-f"]), "Total reclaimed space: 0B\n");
    assert_eq!(world.says(&["rmi", "-f", "box"]), "Untagged: box:latest\n");
    assert_eq!(world.says(&["prune", "-f"]), "Total reclaimed space: 0B\n", "it is dangling, and used");
    assert_eq!(world.says(&["start", "-a", "rest"]), "the image says hello\n");
    world.says(&["rm", "rest"]);
    assert!(world.says(&["prune", "-f"]).contains(&format!("deleted: sha256:{id}")));
}

#[test]
fn containers_by_ancestor_and_size() {
    let Some(world) = World::new("words-sizes") else { return };
    let line = "head -c 50000 /dev/zero > /big";
    world.makes("run", &["--name", "one", "box", "sh", "-c", line]);
    let sized = world.says(&["ps", "-a", "-s", "--format", "{{.Names}} {{.Size}}"]);
    assert!(sized.starts_with("one 50kB (virtual "), "{sized}");
    let child = "FROM";
    world.says(&["commit", "-m", child, "one", "child"]);
    world.makes("create", &["--name", "two", "child"]);
    let of = |image: &str| {
        let filter = format!("ancestor={image}");
        world.says(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"])
    };
    assert_eq!((of("box"), of("child"), of("nothing")), ("two\none\n".into(), "two\n".into(), String::new()));
}

#[test]
fn what_nothing_uses_goes() {
    let Some(world) = World::new("words-prune") else { return };
    world.makes("create", &["--name", "rest", "-v", "/anonymous", "-v", "named:/named", "box"]);
    world.says(&["network", "create", "net"]);
    world.runs("run", &[]);
    let rows = world.says(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]);
    assert_eq!(rows, "Images 1 1\nContainers 2 1\nLocal Volumes 2 2\n");
    let verbose = world.says(&["system", "df", "-v"]);
    for title in ["Images space usage:", "Containers space usage:", "Local Volumes space usage:"] {
        assert!(verbose.contains(title), "{verbose}");
    }
    let asked = world.says(&["system", "prune"]);
    assert!(asked.contains("  - all stopped containers\n") && asked.ends_with("Total reclaimed space: 0B\n"));
    assert!(world.says(&["ps", "-aq"]).lines().count() == 2, "nobody said yes");
    let said = world.says(&["system", "prune", "-a", "-f", "--volumes"]);
    for title in ["Deleted Containers:\n", "Deleted Networks:\nnet\n", "Deleted Volumes:\n"] {
        assert!(said.contains(title), "{said}");
    }
    assert!(!said.contains("Deleted Images"), "one is of the image: {said}");
    assert_eq!(world.says(&["volume", "ls", "-q"]), "named\n");
    world.says(&["rm", "-f", "run"]);
    until("the container is gone", || world.says(&["ps", "-aq"]).is_empty());
    assert!(world.says(&["system", "prune", "-a", "-f"]).contains("Deleted Images:\nuntagged: box:latest\n"));
    let refused = world.fails(&["system", "prune", "-f", "--volumes", "--filter", "until=1h"]);
    assert!(refused.contains("The \"until\" filter is not supported with \"--volumes\""), "{refused}");
}

#[test]
fn a_host_and_a_version() {
    let Some(world) = World::new("words-info") else { return };
    world.makes("create", &["box"]);
    let counts =
        "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}} {{.DockerRootDir}}";
    let expected = format!("1 0 1 1 {}\n", world.store().display());
    assert_eq!(world.says(&["info", "-f", counts]), expected);
    assert!(world.says(&["system", "info"]).starts_with("Containers: 1\n Running: 0\n"));
    let version = world.says(&["version", "-f", "{{.Client.Version}} {{.Server.Version}}"]);
    assert_eq!(version, format!("{0} {0}\n", env!("CARGO_PKG_VERSION")));
}
