//! The server of names inside a container: 127.0.0.11, as docker has it.
//!
//! Its sockets are in the container's network namespace; it itself stands
//! where the host stands, so that a server on the host's loopback can be asked
//! too. Neighbours' names it knows from the leases, everything else it passes
//! on as bytes. A container that is on internal networks only gets no answer
//! about anything outside: names carry messages.
//!
//! One loop, which waits for nothing but sockets; a connection gets a thread,
//! of which there are few. Nothing that a client or a server sends ends it.

mod message;
mod names;
mod redirect;
mod upstream;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use message::{LONGEST_DATAGRAM, Question, Refusal};
use names::{Known, Names, Outside};
use upstream::{Pending, ask_connected, read_framed, write_framed};

use super::files::{DnsWish, EMBEDDED, HostResolver};
use super::inside::inside;
use super::store::Networks;
use crate::failure::{Context, Result};

const PORT: u16 = 53;
/// Questions on their way at the same time; more are refused.
const MOST_PENDING: usize = 128;
/// Connections at the same time; more are closed.
const MOST_CONNECTIONS: usize = 16;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(5);
/// Questions on one connection.
const MOST_ON_A_CONNECTION: usize = 100;
const STACK: usize = 128 * 1024;

/// Where the container's questions arrive.
pub struct Sockets {
    datagrams: UdpSocket,
    connections: TcpListener,
}

impl Sockets {
    /// All of them, for a process that is to keep nothing else.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.datagrams.as_fd(), self.connections.as_fd()]
    }
}

/// Whose questions are answered, and who is asked what we do not know.
#[derive(Clone)]
pub struct Resolver {
    /// The networks.
    pub networks: Networks,
    /// The container that asks.
    pub container: String,
    /// The user's servers; the host's are looked up whenever they are needed.
    pub wish: DnsWish,
}

/// Takes the address in a container's network namespace, whose loopback is up.
///
/// Port 53 itself stays free for the container, where packets can be led on.
pub fn bind(namespace: BorrowedFd) -> Result<Sockets> {
    inside(namespace, || {
        let sockets = Sockets::bind(0)?;
        let ports = (sockets.datagrams.local_addr(), sockets.connections.local_addr());
        match ports {
            (Ok(datagrams), Ok(connections))
                if redirect::install(datagrams.port(), connections.port()).is_ok() =>
            {
                Ok(sockets)
            }
            _ => Sockets::bind(PORT),
        }
    })
}

impl Sockets {
    fn bind(port: u16) -> Result<Sockets> {
        let address = SocketAddr::new(EMBEDDED.into(), port);
        let context = || format!("cannot bind {address} in the container");
        let datagrams = UdpSocket::bind(address).context(context)?;
        let connections = TcpListener::bind(address).context(context)?;
        datagrams.set_nonblocking(true).context(context)?;
        connections.set_nonblocking(true).context(context)?;
        Ok(Sockets { datagrams, connections })
    }
}

/// Answers for as long as the process lives; comes back only when that is no
/// longer possible.
pub fn serve(sockets: &Sockets, resolver: &Resolver) -> Result<()> {
    let mut names = Names::new(resolver.networks.clone(), resolver.container.clone());
    let mut pending: Vec<Pending> = Vec::new();
    let connected = Arc::new(AtomicUsize::new(0));
    loop {
        wait(sockets, &pending).context(|| "cannot wait for questions of names".to_owned())?;
        pending.retain_mut(|question| !settle(sockets, question));
        while let Some((message, client)) = receive(&sockets.datagrams) {
            let answer = match answer(&mut names, &message, LONGEST_DATAGRAM) {
                Answer::Ready(answer) => Some(answer),
                Answer::None => None,
                Answer::Ask(question) if pending.len() >= MOST_PENDING => {
                    Some(question.refuse(Refusal::Failed))
                }
                Answer::Ask(question) => {
                    let refusal = question.refuse(Refusal::Failed);
                    match Pending::start(client, question, &message, servers(resolver)) {
                        Ok(question) => {
                            pending.push(question);
                            None
                        }
                        Err(_nobody_to_ask) => Some(refusal),
                    }
                }
            };
            if let Some(answer) = answer {
                send(&sockets.datagrams, &answer, client);
            }
        }
        while let Ok((connection, _)) = sockets.connections.accept() {
            attend(connection, resolver, &connected);
        }
    }
}

/// What is said to a message.
enum Answer {
    Ready(Vec<u8>),
    Ask(Question),
    None,
}

fn answer(names: &mut Names, message: &[u8], longest: usize) -> Answer {
    let question = match Question::parse(message) {
        Ok(question) => question,
        Err(Some(refusal)) => return Answer::Ready(refusal),
        Err(None) => return Answer::None,
    };
    if names.refresh().is_err() {
        return Answer::Ready(question.refuse(Refusal::Failed));
    }
    match (names.look_up(&question), names.outside()) {
        (Known::Records(records), _) => Answer::Ready(question.answer(&records, longest)),
        (Known::Nothing, _) | (Known::Foreign, Outside::Closed) => {
            Answer::Ready(question.refuse(Refusal::NoSuchName))
        }
        (Known::Foreign, Outside::Reachable) => Answer::Ask(question),
    }
}

fn servers(resolver: &Resolver) -> Vec<SocketAddr> {
    HostResolver::read().upstreams(&resolver.wish)
}

/// Waits until something comes, or a question has waited long enough.
fn wait(sockets: &Sockets, pending: &[Pending]) -> io::Result<()> {
    let own = [sockets.datagrams.as_fd(), sockets.connections.as_fd()];
    let asked = pending.iter().map(|question| question.socket().as_fd());
    let mut polled: Vec<PollFd> =
        own.into_iter().chain(asked).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let left = pending.iter().map(Pending::deadline).min();
    let left = left.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    match poll(&mut polled, timeout.as_ref()) {
        Err(rustix::io::Errno::INTR) => Ok(()),
        polled => Ok(polled.map(|_ready| ())?),
    }
}

/// Whether a question that was passed on is done with.
fn settle(sockets: &Sockets, question: &mut Pending) -> bool {
    if let Some(answer) = question.receive() {
        send(&sockets.datagrams, &answer, question.client);
        return true;
    }
    if question.deadline() > Instant::now() || question.ask_next().is_ok() {
        return false;
    }
    send(&sockets.datagrams, &question.question.refuse(Refusal::Failed), question.client);
    true
}

fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 4096];
    let (length, client) = socket.recv_from(&mut buffer).ok()?;
    buffer.truncate(length);
    Some((buffer, client))
}

/// Sends an answer. That an asker is gone, or takes no more, is its own affair:
/// it asks again.
fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    socket.send_to(answer, client).map(drop).unwrap_or_default();
}

/// Serves a connection in a thread; closes it where there are too many.
fn attend(connection: TcpStream, resolver: &Resolver, connected: &Arc<AtomicUsize>) {
    if connected.load(Ordering::Relaxed) >= MOST_CONNECTIONS {
        return;
    }
    connected.fetch_add(1, Ordering::Relaxed);
    let (resolver, done) = (resolver.clone(), connected.clone());
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        // A connection that fails is closed, and no more can be said to it.
        converse(connection, &resolver).unwrap_or_default();
        done.fetch_sub(1, Ordering::Relaxed);
    });
    if thread.is_err() {
        connected.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(mut connection: TcpStream, resolver: &Resolver) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(IDLE))?;
    connection.set_write_timeout(Some(IDLE))?;
    let mut names = Names::new(resolver.networks.clone(), resolver.container.clone());
    for _ in 0..MOST_ON_A_CONNECTION {
        let message = read_framed(&mut connection)?;
        let answer = match answer(&mut names, &message, usize::from(u16::MAX)) {
            Answer::Ready(answer) => answer,
            Answer::None => return Ok(()),
            Answer::Ask(question) => ask_connected(&question, &message, &servers(resolver))
                .unwrap_or_else(|_nobody| question.refuse(Refusal::Failed)),
        };
        write_framed(&mut connection, &answer)?;
    }
    Ok(())
}

#[cfg(test)]
pub mod tests;
