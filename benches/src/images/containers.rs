//! Containers started and ended: `true` in the image of one layer, several times
//! in turn, or many at once.
//!
//! Everybody runs in one network namespace made for it, with the hierarchy of
//! cgroup v2 out of sight, which crun does not take beside version 1. A first
//! run that is not measured makes bridges and rules.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::client::Client;
use super::corpus::BASE;
use super::scene::{Scene, figure};
use crate::errors::run;
use crate::figure::{Figure, Unit};

/// Runs, one after the other, of which the mean is a figure.
const TIMES: u32 = 10;
/// Containers at once.
const MANY: u32 = 50;

/// `run --rm --network none`.
///
/// # Errors
/// What the program says.
pub fn start_alone(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    in_turn(scene, client, "none")
}

/// `run --rm` on a bridge.
///
/// # Errors
/// What the program says.
pub fn start_bridged(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    in_turn(scene, client, "bridge")
}

/// Many of them at once, without a network.
///
/// # Errors
/// What the program says.
pub fn start_many(scene: &mut Scene, client: Client) -> io::Result<Vec<Figure>> {
    let place = Place::new()?;
    let container = Container::new(scene, client, "none")?;
    run(&mut place.within(&container.command(0)))?;
    let began = Instant::now();
    let children: Vec<Child> = (1..=MANY)
        .map(|number| place.within(&container.command(number)).stdout(Stdio::null()).spawn())
        .collect::<io::Result<_>>()?;
    for mut child in children {
        if !child.wait()?.success() {
            return Err(io::Error::other("a container failed"));
        }
    }
    Ok(vec![figure("all of them", Unit::Seconds, began.elapsed().as_secs_f64())])
}

fn in_turn(scene: &mut Scene, client: Client, network: &'static str) -> io::Result<Vec<Figure>> {
    let place = Place::new()?;
    let container = Container::new(scene, client, network)?;
    run(&mut place.within(&container.command(0)))?;
    let began = Instant::now();
    for number in 1..=TIMES {
        run(&mut place.within(&container.command(number)))?;
    }
    Ok(vec![figure("each", Unit::Seconds, began.elapsed().as_secs_f64() / f64::from(TIMES))])
}

/// Namespaces that all of a run share.
struct Place(Child);

impl Place {
    fn new() -> io::Result<Place> {
        let script =
            "umount /sys/fs/cgroup/unified 2>/dev/null; ip link set lo up; echo ready; exec sleep 600";
        let mut holder = Command::new("unshare");
        holder.args(["--net", "--mount", "--propagation", "private", "sh", "-c", script]);
        let mut holder = holder.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        match said.as_str() {
            "ready\n" => Ok(Place(holder)),
            _ => Err(io::Error::other("cannot make namespaces for containers")),
        }
    }

    /// The same command in there.
    fn within(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        let namespace = |kind: &str| format!("/proc/{}/ns/{kind}", self.0.id());
        inside.arg(format!("--net={}", namespace("net"))).arg(format!("--mount={}", namespace("mnt")));
        inside.arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(name, value);
            }
        }
        inside.stdin(Stdio::null());
        inside
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It may be gone already, and nobody else waits for it.
        self.0.kill().and_then(|()| self.0.wait()).map_or_else(|_gone| (), drop);
    }
}

/// What is run.
enum Container {
    /// By a client with a store.
    Stored(Box<super::client::Store>, &'static str),
    /// By crun, over an overlay that is mounted for it and unmounted again.
    Bundle(String),
}

impl Container {
    fn new(scene: &mut Scene, client: Client, network: &'static str) -> io::Result<Container> {
        if client != Client::Crun {
            let archive = scene.corpus.archive_of(BASE);
            return Ok(Container::Stored(Box::new(scene.loaded(client, archive, &[BASE])?), network));
        }
        let place = scene.scratch.join("crun");
        let lowers: Vec<String> =
            scene.corpus.lowers(BASE).iter().map(|lower| lower.display().to_string()).collect();
        let prepare = "mkdir -p \"$1\" && cd \"$1\" && { [ -e config.json ] || crun spec; } && \
                       sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"true\"/' config.json";
        run(Command::new("sh").args(["-c", prepare, "sh"]).arg(&place))?;
        let (at, lowers) = (place.display(), lowers.join(":"));
        Ok(Container::Bundle(format!(
            "d={at}/$0; mkdir -p $d/upper $d/work $d/rootfs && cp {at}/config.json $d && \
             mount -t overlay -o lowerdir={lowers},upperdir=$d/upper,workdir=$d/work overlay $d/rootfs && \
             crun run -b $d bench-$0 && umount $d/rootfs && rm -r $d"
        )))
    }

    fn command(&self, number: u32) -> Command {
        match self {
            Container::Stored(store, network) => {
                let mut command = store.command();
                command.args(["run", "--rm", "--network", network, BASE, "true"]);
                command
            }
            Container::Bundle(script) => {
                let mut command = Command::new("sh");
                command.args(["-c", script, &format!("c{number}")]);
                command
            }
        }
    }
}
