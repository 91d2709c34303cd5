//! Health checks: docker's flags, states and words.

use std::time::{Duration, Instant};

use crate::world::{World, until};

const LINE: &str = "trap exit TERM; while :; do sleep 0.1; done";
/// Quick ones.
const OFTEN: [&str; 4] = ["--health-interval", "100ms", "--health-retries", "2"];

fn starts(world: &World, name: &str, options: &[&str]) {
    world.makes("run", &[&["-d", "--name", name], options, &["box", "sh", "-c", LINE]].concat());
}

fn health(world: &World, name: &str) -> String {
    world.field(name, "{{with .State.Health}}{{.Status}}{{else}}none{{end}}")
}

fn status(world: &World, name: &str) -> String {
    let filter = format!("name={name}");
    world.says(&["ps", "-a", "--filter", &filter, "--format", "{{.Status}}"]).trim_end().to_owned()
}

fn becomes(world: &World, name: &str, status: &str) {
    until(&format!("{name} is {status}"), || health(world, name) == status);
}

#[test]
fn a_container_is_well_as_its_checks_find_it() {
    let Some(world) = World::new("health") else { return };
    let check = "echo checked as $(id -u) in $PWD with $WHAT; cat /tmp/well";
    let options = [&["-w", "/etc", "-u", "user", "--health-cmd", check], &OFTEN[..]].concat();
    starts(&world, "well", &options);
    // One that is not asked soon, however slow this machine is.
    starts(&world, "new", &["--health-cmd", "false", "--health-interval", "1h"]);
    assert!(status(&world, "new").ends_with("(health: starting)"), "{}", status(&world, "new"));
    world.says(&["rm", "-f", "new"]);
    becomes(&world, "well", "unhealthy");
    assert!(status(&world, "well").ends_with("(unhealthy)"));
    assert_eq!(world.field("well", "{{ge .State.Health.FailingStreak 2}}"), "true");
    let last = "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}";
    let told = "1 checked as 7 in /etc with hello\ncat: can't open '/tmp/well': No such file or directory";
    assert_eq!(world.field("well", last), told);
    world.says(&["exec", "-u", "0", "well", "touch", "/tmp/well"]);
    becomes(&world, "well", "healthy");
    assert!(status(&world, "well").ends_with("(healthy)"));
    assert_eq!(world.field("well", "{{.State.Health.FailingStreak}}"), "0");
    until("five are remembered", || world.field("well", "{{len .State.Health.Log}}") == "5");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(world.field("well", "{{len .State.Health.Log}}"), "5");

    starts(&world, "unchecked", &[]);
    let named = |filter: &str| world.says(&["ps", "--filter", filter, "--format", "{{.Names}}"]);
    assert_eq!(named("health=healthy"), "well\n");
    assert_eq!(named("health=none"), "unchecked\n");
    assert!(
        world.fails(&["ps", "--filter", "health=ill"]).contains("Unrecognised filter value for health: ill")
    );
    assert!(!status(&world, "unchecked").contains('('));

    world.says(&["stop", "-t", "5", "well"]);
    assert_eq!(health(&world, "well"), "unhealthy", "as docker has it");
    assert!(status(&world, "well").starts_with("Exited (0)"));
    let events = ["events", "--since", "1h", "--until", "0s", "--filter", "event=health_status"];
    let events = world.says(&[&events[..], &["--format", "{{.Action}}"]].concat());
    assert_eq!(events, "health_status: unhealthy\nhealth_status: healthy\n");
}

#[test]
fn an_image_says_how_it_is_checked() {
    let Some(world) = World::new("health-image") else { return };
    starts(&world, "made", &[&["--health-cmd", "true", "--health-timeout=7s"], &OFTEN[..]].concat());
    becomes(&world, "made", "healthy");
    world.says(&["commit", "made", "checked"]);
    let change = "HEALTHCHECK --interval=100ms --retries=1 CMD [\"/bin/false\"]";
    world.says(&["commit", "--change", change, "made", "ill"]);
    let archive = world.path("checked.tar");
    world.says(&["save", "-o", &archive, "checked"]);
    world.says(&["rm", "-f", "made"]);
    world.says(&["rmi", "checked"]);
    world.says(&["load", "-i", &archive]);
    let run = |name: &str, options: &[&str], image: &str| {
        world.makes("run", &[&["-d", "--name", name], options, &[image, "sh", "-c", LINE]].concat())
    };
    run("well", &[], "checked");
    becomes(&world, "well", "healthy");
    let how = "{{with .Config.Healthcheck}}{{json .Test}} {{.Interval}} {{.Timeout}} {{.Retries}}{{end}}";
    assert_eq!(world.field("well", how), "[\"CMD-SHELL\",\"true\"] 100000000 7000000000 2");
    run("ill", &[], "ill");
    becomes(&world, "ill", "unhealthy");
    run("else", &["--health-cmd", "exit 0"], "ill");
    becomes(&world, "else", "healthy");
    run("never", &["--no-healthcheck"], "ill");
    assert_eq!(health(&world, "never"), "none");
    assert_eq!(world.field("never", "{{json .Config.Healthcheck.Test}}"), "[\"NONE\"]");
}

#[test]
fn a_check_that_hangs_or_cannot_run_has_failed() {
    let Some(world) = World::new("health-hangs") else { return };
    let hangs = ["--health-cmd", "echo begun; sleep 1000", "--health-timeout", "1s"];
    starts(&world, "hangs", &[&hangs, &OFTEN[..]].concat());
    starts(
        &world,
        "floods",
        &[&["--health-cmd", "yes; true", "--health-timeout", "1s"], &OFTEN[..]].concat(),
    );
    becomes(&world, "hangs", "unhealthy");
    let last = "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}";
    assert_eq!(world.field("hangs", last), "-1 Health check exceeded timeout (1s): begun");
    becomes(&world, "floods", "unhealthy");
    let cut = world.field("floods", last);
    assert!(cut.ends_with("...") && cut.len() < 5000, "{} {}", cut.len(), cut.get(..60).unwrap_or_default());
    world.says(&[
        "commit",
        "--change",
        "HEALTHCHECK --interval=100ms --retries=1 CMD [\"/none\"]",
        "hangs",
        "none",
    ]);
    world.makes("run", &["-d", "--name", "none", "none", "sh", "-c", LINE]);
    becomes(&world, "none", "unhealthy");
    assert!(world.field("none", last).starts_with("-1 "), "{}", world.field("none", last));
    // Nothing of a check outlives it, nor the container.
    let begun = Instant::now();
    world.says(&["rm", "-f", "hangs", "floods", "none"]);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(world.left(), Vec::<String>::new());
}

#[test]
fn a_start_has_time_and_a_pause_is_not_an_illness() {
    let Some(world) = World::new("health-pause") else { return };
    let start = [
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "100ms",
        "--health-cmd",
        "test -e /tmp/up",
    ];
    starts(&world, "slow", &[&start[..], &["--health-interval", "100ms", "--health-retries", "1"]].concat());
    until("it was checked", || world.field("slow", "{{len .State.Health.Log}}").as_str() >= "3");
    assert_eq!(health(&world, "slow"), "starting");
    assert_eq!(world.field("slow", "{{.State.Health.FailingStreak}}"), "0");
    world.says(&["exec", "slow", "touch", "/tmp/up"]);
    becomes(&world, "slow", "healthy");
    world.says(&["exec", "slow", "rm", "/tmp/up"]);
    becomes(&world, "slow", "unhealthy");
    world.says(&["exec", "slow", "touch", "/tmp/up"]);
    becomes(&world, "slow", "healthy");
    if !world.output(&["pause", "slow"]).status.success() {
        println!("skipped: no cgroup to hold a container by");
        return;
    }
    assert_eq!(health(&world, "slow"), "unhealthy", "nobody looks, as docker has it");
    let streak = world.field("slow", "{{.State.Health.FailingStreak}}");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(world.field("slow", "{{.State.Health.FailingStreak}}"), streak);
    assert!(status(&world, "slow").ends_with("(Paused)"));
    world.says(&["unpause", "slow"]);
    becomes(&world, "slow", "healthy");
    let (former, begun) =
        (world.field("slow", "{{.State.Pid}}"), world.field("slow", "{{.State.StartedAt}}"));
    world.says(&["exec", "slow", "rm", "/tmp/up"]);
    world.says(&["restart", "-t", "5", "slow"]);
    assert_ne!(
        (world.field("slow", "{{.State.Pid}}"), world.field("slow", "{{.State.StartedAt}}")),
        (former, begun)
    );
    assert_eq!(health(&world, "slow"), "starting");
}

#[test]
fn flags_that_contradict_are_refused() {
    let Some(world) = World::new("health-flags") else { return };
    let refused = world.output(&["create", "--no-healthcheck", "--health-cmd", "x", "box"]);
    assert_eq!(refused.status.code(), Some(125));
    assert!(crate::setup::stderr(&refused).contains("--no-healthcheck conflicts with --health-* options"));
    let refused = world.fails(&["create", "--health-interval", "soon", "box"]);
    assert!(refused.contains("invalid value \"soon\" for --health-interval"), "{refused}");
}
