//! `runion stop`.

use std::time::{Duration, Instant};

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::container::{Container, Record, Status};
use crate::failure::{Failure, Result};
use crate::{events, settle, signal, sys};

/// Ask containers to end, and kill those that do not
#[derive(Args)]
pub struct Stop {
    /// Seconds until one is killed; its own, or 10; -1 waits for ever
    #[arg(long, short, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,

    /// The signal that asks; its own, or SIGTERM
    #[arg(long, short, value_name = "SIGNAL")]
    signal: Option<String>,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// How long docker waits.
const GRACE: i64 = 10;

impl Stop {
    /// Stops each.
    pub fn run(self, store: &Store) -> Result<u8> {
        find::each(&self.containers, |text| {
            let (container, _) = find::container(store, text)?;
            stop(&container, self.signal.as_deref(), self.time)
        })
    }
}

/// Stops one that runs; back when it has ended.
pub fn stop(container: &Container, asked: Option<&str>, time: Option<i64>) -> Result<()> {
    let locked = container.lock()?;
    let record = locked.read()?;
    if !record.state.status.is_up() {
        return Ok(());
    }
    let number = signal::parse(asked.or(record.config.stop_signal.as_deref()).unwrap_or("TERM"))?;
    let record = locked.update(|record| record.state.stopped = true)?;
    locked.unlock()?;
    send(&record, number)?;
    killed(container, &record, number);
    if record.state.status == Status::Paused {
        // It takes no signal while it is held.
        super::pause::resume(container)?;
    }
    let seconds = time.or(record.config.stop_timeout).unwrap_or(GRACE);
    let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
    if !ends_within(container, patience)? {
        send(&record, libc::SIGKILL)?;
        killed(container, &record, libc::SIGKILL);
        ends_within(container, None)?;
    }
    events::of_container(container.store(), &record, "stop", &[]);
    Ok(())
}

/// Tells of a signal that was sent.
pub fn killed(container: &Container, record: &Record, number: i32) {
    events::of_container(container.store(), record, "kill", &[("signal", &number.to_string())]);
}

/// Sends a signal to the first process, if it is still that.
pub fn send(record: &Record, number: i32) -> Result<()> {
    let Some(pid) = record.state.pid else { return Ok(()) };
    if settle::since(pid) != record.state.pid_started {
        return Ok(());
    }
    match sys::kill(pid, number) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(error) => Err(Failure::failed(format!("cannot signal the container {}: {error}", record.id))),
        Ok(()) => Ok(()),
    }
}

/// Waits until its monitor is done.
fn ends_within(container: &Container, patience: Option<Duration>) -> Result<bool> {
    let Some(patience) = patience else { return container.await_end().map(|()| true) };
    let until = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        match container.is_alive() {
            Ok(true) => {}
            // It may be removed with its end.
            Ok(false) | Err(_) => return Ok(true),
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
