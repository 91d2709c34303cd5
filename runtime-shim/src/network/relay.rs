//! What packet filters cannot lead to a container: a program passes it on, as
//! docker's proxy does.
//!
//! That is what is for the host's own ::1, for which the kernel has no
//! `route_localnet`: answers to it by another link are dropped; what comes by
//! IPv6 for a container that has IPv4 only; and without root everything, for the
//! host's filters are root's. All else never arrives here.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::listen;

use super::lease::Lease;
use super::ports::{Port, Protocol};
use crate::failure::{Context, Result};

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;
/// Connections, or askers, of one port at the same time. More connections wait; an
/// asker more takes the place of the one that was silent for longest.
const MOST: usize = 256;
/// How long a container may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an asker that sends nothing more is remembered, as kernels do it.
const IDLE: Duration = Duration::from_secs(120);
/// Datagrams of one sender before another's turn comes.
const AT_ONCE: usize = 64;
const LONGEST_DATAGRAM: usize = 65_536;
/// Of one direction of a connection: beyond it, larger ones gain little.
const BUFFER: usize = 64 * 1024;
const STACK: usize = 64 * 1024;

/// A port that is passed on.
#[derive(Debug)]
pub struct Relay {
    /// The socket that keeps the port.
    pub socket: OwnedFd,
    /// What arrives there.
    pub protocol: Protocol,
    /// Where it goes.
    pub to: SocketAddr,
}

/// Who leads packets to a container's published ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LedBy {
    /// Packet filters, wherever they can.
    #[default]
    Filters,
    /// A program alone: the ports are those of another network namespace.
    Program,
}

/// Where a port is passed on to, if a program must do it.
pub fn target(port: &Port, lease: &Lease, led_by: LedBy) -> Option<SocketAddr> {
    let beyond_filters = port.host_ip.is_ipv6()
        && (lease.address6.is_none() || port.host_ip.is_unspecified() || port.host_ip.is_loopback());
    let address = match lease.address6 {
        Some(address) if port.host_ip.is_ipv6() => address.into(),
        _ => lease.address.into(),
    };
    let by_program = led_by == LedBy::Program || beyond_filters;
    by_program.then_some(SocketAddr::new(address, port.container_port))
}

impl Relay {
    /// Passes everything on from now on, in threads of this process.
    pub fn start(self) -> Result<()> {
        let Relay { socket, protocol, to } = self;
        let context = || format!("cannot pass on to {to}");
        let thread = std::thread::Builder::new().stack_size(STACK);
        match protocol {
            Protocol::Tcp => {
                listen(&socket, BACKLOG).context(context)?;
                let listener = TcpListener::from(socket);
                thread.spawn(move || accept(&listener, to)).map(drop).context(context)
            }
            Protocol::Udp => {
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(true).context(context)?;
                let mut exchange = Exchange { socket, to, askers: HashMap::new() };
                let mut buffer = vec![0; LONGEST_DATAGRAM];
                thread.spawn(move || while exchange.turn(&mut buffer).is_ok() {}).map(drop).context(context)
            }
        }
    }
}

fn accept(listener: &TcpListener, to: SocketAddr) {
    let connected = Arc::new(AtomicUsize::new(0));
    loop {
        if connected.load(Ordering::Relaxed) >= MOST {
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

fn copy(from: &TcpStream, to: &TcpStream) {
    // However it ends, the other side hears that it has; that it has gone
    // itself is fine.
    stream(from, to).unwrap_or_default();
    to.shutdown(Shutdown::Write).unwrap_or_default();
}

fn stream(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match buffer.get(..length) {
            None | Some([]) => return Ok(()),
            Some(bytes) => to.write_all(bytes)?,
        }
    }
}

/// The datagrams of one port.
struct Exchange {
    socket: UdpSocket,
    to: SocketAddr,
    askers: HashMap<SocketAddr, Asker>,
}

/// Who sent a datagram.
struct Asker {
    /// His own towards the container, by which answers find back.
    socket: UdpSocket,
    /// When something was last passed on, either way.
    heard: Instant,
}

impl Exchange {
    /// Waits for datagrams and passes them on.
    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let towards = self.askers.values().map(|asker| asker.socket.as_fd());
        let mut polled: Vec<PollFd> = std::iter::once(self.socket.as_fd())
            .chain(towards)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // Only where there is somebody to be forgotten.
        let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
        let timeout = (!self.askers.is_empty()).then_some(&timeout);
        match poll(&mut polled, timeout) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            polled => polled?,
        };
        let answers: Vec<bool> = polled.iter().skip(1).map(|fd| !fd.revents().is_empty()).collect();
        for ((address, asker), _) in self.askers.iter_mut().zip(answers).filter(|(_, answers)| *answers) {
            for _ in 0..AT_ONCE {
                let Ok(length) = asker.socket.recv(buffer) else { break };
                asker.heard = Instant::now();
                give(|bytes| self.socket.send_to(bytes, address), buffer.get(..length));
            }
        }
        self.askers.retain(|_, asker| asker.heard.elapsed() < IDLE);
        for _ in 0..AT_ONCE {
            let Ok((length, address)) = self.socket.recv_from(buffer) else { break };
            if let Some(socket) = self.towards(address) {
                give(|bytes| socket.send(bytes), buffer.get(..length));
            }
        }
        Ok(())
    }

    /// The asker's socket, a new one for a new asker.
    fn towards(&mut self, address: SocketAddr) -> Option<&UdpSocket> {
        if !self.askers.contains_key(&address) {
            let any = match self.to {
                SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
            };
            let silent = self.askers.iter().min_by_key(|(_, asker)| asker.heard).map(|(address, _)| *address);
            if let Some(silent) = silent.filter(|_| self.askers.len() >= MOST) {
                self.askers.remove(&silent);
            }
            let socket = UdpSocket::bind(any).ok()?;
            socket.set_nonblocking(true).ok()?;
            socket.connect(self.to).ok()?;
            self.askers.insert(address, Asker { socket, heard: Instant::now() });
        }
        let asker = self.askers.get_mut(&address)?;
        asker.heard = Instant::now();
        Some(&asker.socket)
    }
}

/// Sends a datagram. That nobody takes it is how datagrams are.
fn give(send: impl FnOnce(&[u8]) -> io::Result<usize>, bytes: Option<&[u8]>) {
    send(bytes.unwrap_or_default()).map(drop).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asker_is_answered_however_many_there_were() {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = echo.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, peer)) = echo.recv_from(&mut buffer) {
                echo.send_to(&buffer[..length], peer).unwrap();
            }
        });
        let published = UdpSocket::bind("[::1]:0").unwrap();
        let address = published.local_addr().unwrap();
        Relay { socket: published.into(), protocol: Protocol::Udp, to }.start().unwrap();
        let mut askers = Vec::new();
        for number in 0..MOST + 20 {
            let asker = UdpSocket::bind("[::1]:0").unwrap();
            asker.set_read_timeout(Some(PATIENCE)).unwrap();
            let question = number.to_be_bytes();
            // The first asks on: it is not the one that is forgotten.
            for asker in askers.first().into_iter().chain([&asker]) {
                asker.send_to(&question, address).unwrap();
                let mut buffer = [0; 64];
                let (length, peer) = asker.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..length], peer), (&question[..], address), "asker {number}");
            }
            askers.push(asker);
        }
    }
}
