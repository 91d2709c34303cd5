//! Connections that packet filters cannot lead to a container: a program passes
//! them on, as docker's proxy does.
//!
//! Those are connections to the host's own ::1, for which the kernel has no
//! `route_localnet`: answers to it by another link are dropped; and connections
//! by IPv6 to a container that has IPv4 only. All others never arrive here.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::listen;

use super::lease::Lease;
use super::ports::{Port, Protocol};
use crate::failure::{Context, Result};

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;
/// Connections of one port at the same time; more wait.
const MOST_CONNECTIONS: usize = 256;
/// How long a container may take to accept one.
const PATIENCE: Duration = Duration::from_secs(10);
const STACK: usize = 64 * 1024;

/// A port whose connections are passed on.
#[derive(Debug)]
pub struct Relay {
    /// The socket that keeps the port.
    pub socket: OwnedFd,
    /// Where its connections go.
    pub to: SocketAddr,
}

/// Where connections to a port are passed on to, if a program must do it.
pub fn target(port: &Port, lease: &Lease) -> Option<SocketAddr> {
    let by_hand = port.protocol == Protocol::Tcp
        && port.host_ip.is_ipv6()
        && (lease.address6.is_none() || port.host_ip.is_unspecified() || port.host_ip.is_loopback());
    let address = lease.address6.map_or(lease.address.into(), Into::into);
    by_hand.then_some(SocketAddr::new(address, port.container_port))
}

impl Relay {
    /// Passes connections on from now on, in threads of this process.
    pub fn start(self) -> Result<()> {
        let context = || format!("cannot pass connections on to {}", self.to);
        listen(&self.socket, BACKLOG).context(context)?;
        let thread = std::thread::Builder::new().stack_size(STACK);
        let (listener, to) = (TcpListener::from(self.socket), self.to);
        thread
            .spawn(move || accept(&listener, to))
            .map(drop)
            .context(|| format!("cannot pass connections on to {to}"))
    }
}

fn accept(listener: &TcpListener, to: SocketAddr) {
    let connected = Arc::new(AtomicUsize::new(0));
    loop {
        if connected.load(Ordering::Relaxed) >= MOST_CONNECTIONS {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let Ok((client, _)) = listener.accept() else {
            // It went away again, or there are no descriptors left for now.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        connected.fetch_add(1, Ordering::Relaxed);
        let done = connected.clone();
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            // A connection that cannot be made is closed, which says it.
            pass_on(&client, to).unwrap_or_default();
            done.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            connected.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Passes both directions on, each until its sender has no more to say.
fn pass_on(client: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&to, PATIENCE)?;
    std::thread::scope(|scope| {
        let answers =
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || copy(&server, client))?;
        copy(client, &server);
        answers.join().map_err(|_| io::Error::from(io::ErrorKind::Other))
    })
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    // However it ends, the other side hears that it has; that it has gone
    // itself is fine.
    io::copy(&mut from, &mut to).map(drop).unwrap_or_default();
    to.shutdown(Shutdown::Write).unwrap_or_default();
}
