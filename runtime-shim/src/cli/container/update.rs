//! `runion update`.

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::bundle::Resources;
use crate::cgroup::{Group, flags::Limits};
use crate::container::{Container, Lifetime, Record, Restart, RestartPolicy, Status};
use crate::events;
use crate::failure::{Context, Failure, Result, say};

/// Give containers other limits, running or not, or another restart policy
#[derive(Args)]
pub struct Update {
    #[command(flatten)]
    limits: Limits,

    /// When it comes back: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Update {
    /// Changes each.
    pub fn run(self, store: &Store) -> Result<u8> {
        if self.limits == Limits::default() && self.restart.is_none() {
            return Err(Failure::as_docker("you must provide one or more flags when using this command"));
        }
        let changes = self.limits.changes().map_err(|failure| failure.code(crate::failure::FAILED))?;
        let restart = self.restart.as_deref().map(crate::spec::words::restart).transpose()?;
        find::each(&self.containers, |text| {
            let (container, _) = find::container(store, text)?;
            update(&container, &changes, restart)
        })
    }
}

fn update(container: &Container, changes: &Resources, restart: Option<Restart>) -> Result<()> {
    let locked = container.lock()?;
    let record = locked.read()?;
    let refused = |why: &str| Failure::as_docker(format!("Cannot update container {}: {why}", record.id));
    if record.state.status == Status::Removing {
        return Err(refused("Container is marked for removal and cannot be \"update\"."));
    }
    let comes_back = restart.is_some_and(|restart| restart.policy != RestartPolicy::No);
    if comes_back && record.config.lifetime == Lifetime::Removed {
        return Err(refused(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    if exceeds_swap(&record.config.resources, changes) {
        return Err(refused(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same \
             time",
        ));
    }
    let resources = record.config.resources.updated(changes).context(|| "cannot note limits".to_owned())?;
    if *changes != Resources::default() && matches!(record.state.status, Status::Running | Status::Paused) {
        for warning in group(&record)?.update(changes)? {
            say(&format!("WARNING: {warning}"));
        }
    }
    let record = locked.update(|record| {
        record.config.resources = resources;
        record.config.restart = restart.unwrap_or(record.config.restart);
    })?;
    events::of_container(container.store(), &record, "update", &[]);
    Ok(())
}

/// Whether memory alone would be more than memory and swap together.
fn exceeds_swap(now: &Resources, changes: &Resources) -> bool {
    let limit = changes.memory.as_ref().and_then(|memory| memory.limit);
    let is_said_anew = changes.memory.as_ref().is_some_and(|memory| memory.swap.is_some());
    let swap = now.memory.as_ref().and_then(|memory| memory.swap).filter(|swap| *swap > 0);
    !is_said_anew && limit.zip(swap).is_some_and(|(limit, swap)| limit > swap)
}

fn group(record: &Record) -> Result<Group> {
    let group = record.state.cgroup.clone().and_then(|group| serde_json::from_value(group).ok());
    group.ok_or_else(|| {
        Failure::failed(format!("cannot limit the container {}: it has no cgroup", record.id))
            .hint("runion system check says which cgroups this host lets you have")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Memory;

    #[test]
    fn memory_is_no_more_than_with_swap() {
        let resources = |limit, swap| Resources {
            memory: Some(Memory { limit, swap, ..Memory::default() }),
            ..Resources::default()
        };
        let now = resources(Some(10), Some(20));
        assert!(exceeds_swap(&now, &resources(Some(21), None)));
        assert!(!exceeds_swap(&now, &resources(Some(20), None)));
        assert!(!exceeds_swap(&now, &resources(Some(21), Some(30))));
        assert!(!exceeds_swap(&resources(Some(10), Some(-1)), &resources(Some(21), None)));
        assert!(!exceeds_swap(&Resources::default(), &resources(Some(21), None)));
    }
}
