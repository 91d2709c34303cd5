//! Whatever is killed, whenever: the next command sees the truth, and nothing
//! stays behind.
//!
//! `RUNION_KILLS` says how many kills; 40 where it says nothing.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{World, until};

/// Numbers that look random, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        // xorshift64, Marsaglia 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Processes of this store: commands, monitors, servers of roots and of names;
/// not the shell, without which a command would go on unseen.
fn processes(world: &World) -> Vec<i32> {
    let store = world.scratch.join("store").display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains(&store) && !words.starts_with(b"sh\0") {
            found.push(pid);
        }
    }
    found
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    // It may have ended by itself.
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap_or_default();
}

/// What containers have outside of their directories.
fn left(world: &World) -> Vec<String> {
    let mut found = world.left();
    let links = world.in_namespace("cat").arg("/proc/net/dev").output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    found.extend(links.lines().filter(|line| line.trim_start().starts_with("rn")).map(str::to_owned));
    for group in groups() {
        found.push(group.display().to_string());
    }
    for network in fs::read_dir(world.scratch.join("store/networks")).unwrap().flatten() {
        let leases = fs::read_dir(network.path().join("leases")).into_iter().flatten().flatten();
        found.extend(leases.map(|lease| lease.path().display().to_string()));
    }
    let rules = world.in_namespace("nft").args(["list", "ruleset"]).output();
    let rules = rules.map(|rules| String::from_utf8_lossy(&rules.stdout).into_owned()).unwrap_or_default();
    found.extend(rules.lines().filter(|line| line.contains("elements")).map(str::to_owned));
    let containers = fs::read_dir(world.scratch.join("store/containers")).unwrap().flatten();
    found.extend(
        containers.map(|entry| entry.path().display().to_string()).filter(|path| !path.ends_with("names")),
    );
    found
}

/// Groups of containers, in all hierarchies.
fn groups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        for group in fs::read_dir(hierarchy.path().join("runion-test-crash")).into_iter().flatten().flatten()
        {
            if group.file_type().unwrap().is_dir() {
                found.push(group.path());
            }
        }
    }
    found
}

#[test]
fn nothing_stays_whatever_is_killed_whenever() {
    let Some(world) = World::new("crash") else { return };
    if Command::new("nft").arg("--version").output().is_err() {
        println!("skipped: no nft (apt-get install nftables)");
        return;
    }
    let kills: u64 = std::env::var("RUNION_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    // How long a whole life takes on this machine.
    let begun = Instant::now();
    life(&world, "first", &mut chance).iter_mut().for_each(|child| drop(child.wait()));
    let life_time = u64::try_from(begun.elapsed().as_micros()).unwrap();
    for round in 0..kills {
        let name = format!("c{round}");
        let mut children = life(&world, &name, &mut chance);
        std::thread::sleep(Duration::from_micros(chance.below(life_time)));
        let running = processes(&world);
        if !running.is_empty() {
            kill(running[usize::try_from(chance.below(running.len() as u64)).unwrap()]);
        }
        // What was not killed goes on to its end, or is killed too.
        if chance.below(2) == 0 {
            processes(&world).into_iter().for_each(kill);
        }
        children.iter_mut().for_each(|child| drop(child.wait()));
        // The next command sees a world that makes sense.
        let output = world.command(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "round {round}");
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in listed.lines() {
            let (_, state) = line.split_once(' ').unwrap();
            assert!(["created", "running", "exited"].contains(&state), "round {round}: {listed}");
        }
        let names = world.says(&["ps", "-aq"]);
        for name in names.lines() {
            let removed = world.command(&["rm", "-f", name]).output().unwrap();
            // One with --rm may go by itself at this moment.
            let said = String::from_utf8_lossy(&removed.stderr).into_owned();
            assert!(removed.status.success() || said.contains("No such container"), "round {round}: {said}");
        }
        let still = world.says(&["ps", "-a"]);
        let said = fs::read_to_string(world.scratch.join(&format!("said-{name}"))).unwrap();
        assert_eq!(still.lines().count(), 1, "round {round}: {still}{said}");
    }
    until("what creations left is old enough", || {
        world.says(&["container", "prune", "-f"]);
        let dirs = fs::read_dir(world.scratch.join("store/containers")).unwrap().count();
        for entry in fs::read_dir(world.scratch.join("store/containers")).unwrap().flatten() {
            // As if a minute had passed.
            if entry.file_name() != "names" {
                drop(Command::new("touch").args(["-d", "2 minutes ago"]).arg(entry.path()).status());
            }
        }
        dirs == 1
    });
    let patience = Instant::now() + Duration::from_secs(60);
    while !left(&world).is_empty() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(100));
    }
    if !left(&world).is_empty() {
        for entry in fs::read_dir(world.scratch.path()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("said-") {
                println!("{:?}: {}", entry.file_name(), fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    assert_eq!(left(&world), Vec::<String>::new());
    // And all is as before.
    assert_eq!(world.run_says(&["box", "echo", "well"]), "well\n");
    assert!(world.command(&["fsck"]).status().unwrap().success());
}

/// A container's life, begun: run, then stop and rm, by processes of their own.
fn life(world: &World, name: &str, chance: &mut Chance) -> Vec<std::process::Child> {
    let stays = chance.below(2) == 0;
    let mut script = String::from("\"$@\" run --cgroup-parent /runion-test-crash ");
    script.push_str(if stays { "-d " } else { "--rm " });
    script.push_str(&format!("--name {name} -p 8080:80 box "));
    script.push_str(if stays { "sleep 100; " } else { "true; " });
    if stays {
        script.push_str(&format!("\"$@\" stop -t 0 {name}; \"$@\" rm {name}"));
    }
    let runion = world.command(&[]);
    let words: Vec<_> = std::iter::once(runion.get_program()).chain(runion.get_args()).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).args(words).stdin(Stdio::null());
    let said = fs::File::create(world.scratch.join(&format!("said-{name}"))).unwrap();
    shell.stdout(said.try_clone().unwrap()).stderr(said);
    vec![shell.spawn().unwrap()]
}
