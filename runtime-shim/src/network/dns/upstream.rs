//! Questions that are passed on to the host's servers, and their answers.
//!
//! Each goes out by a socket of its own, from a port and under a number that
//! nobody can guess, and an answer counts only from the server that was asked.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{Question, renumber};
use crate::random;

/// How long a server is waited for before the next is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long an asker is kept waiting at most: less than the five seconds after
/// which it asks again.
const MOST: Duration = Duration::from_millis(4500);
/// What a server may answer in one datagram.
const LONGEST: usize = 4096;

/// A question on its way.
pub struct Pending {
    /// Who asked.
    pub client: SocketAddr,
    /// What.
    pub question: Question,
    message: Vec<u8>,
    servers: Vec<SocketAddr>,
    next: usize,
    id: [u8; 2],
    socket: UdpSocket,
    asked: Instant,
    begun: Instant,
}

impl Pending {
    /// Passes a question on to the first server that takes it.
    pub fn start(
        client: SocketAddr,
        question: Question,
        message: &[u8],
        servers: Vec<SocketAddr>,
    ) -> io::Result<Pending> {
        let (id, now) = (random::bytes()?, Instant::now());
        let first = servers.first().copied().ok_or(io::ErrorKind::NotFound)?;
        let mut pending = Pending {
            client,
            question,
            message: message.to_vec(),
            servers,
            next: 0,
            id,
            socket: socket_for(first)?,
            asked: now,
            begun: now,
        };
        pending.ask_next()?;
        Ok(pending)
    }

    /// What to wait on.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Until when.
    pub fn deadline(&self) -> Instant {
        (self.asked + PATIENCE).min(self.begun + MOST)
    }

    /// The server's answer under the asker's number, if that is what came.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; LONGEST];
        let length = self.socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        if !self.question.is_answered_by(&buffer, self.id) {
            return None;
        }
        renumber(&mut buffer, self.question.id);
        Some(buffer)
    }

    /// Asks the next server, in turn; fails when it has taken long enough.
    pub fn ask_next(&mut self) -> io::Result<()> {
        for _ in 0..self.servers.len() {
            if self.begun.elapsed() >= MOST {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let server = self.servers.get(self.next % self.servers.len()).copied();
            let server = server.ok_or(io::ErrorKind::NotFound)?;
            self.next += 1;
            self.id = random::bytes()?;
            renumber(&mut self.message, self.id);
            // One that cannot be reached at all fails here; the next may not.
            let sent = socket_for(server).and_then(|socket| socket.send(&self.message).map(|_| socket));
            if let Ok(socket) = sent {
                (self.socket, self.asked) = (socket, Instant::now());
                return Ok(());
            }
        }
        Err(io::ErrorKind::HostUnreachable.into())
    }
}

fn socket_for(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    Ok(socket)
}

/// Asks by a connection, one server after the other, and waits.
pub fn ask_connected(question: &Question, message: &[u8], servers: &[SocketAddr]) -> io::Result<Vec<u8>> {
    let mut last = io::ErrorKind::NotFound.into();
    for &server in servers {
        let mut message = message.to_vec();
        let id = random::bytes()?;
        renumber(&mut message, id);
        match exchange(server, &message) {
            Ok(mut answer) if question.is_answered_by(&answer, id) => {
                renumber(&mut answer, question.id);
                return Ok(answer);
            }
            Ok(_) => last = io::ErrorKind::InvalidData.into(),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect_timeout(&server, PATIENCE)?;
    connection.set_read_timeout(Some(MOST))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    write_framed(&mut connection, message)?;
    read_framed(&mut connection)
}

/// A message on a connection comes after its length.
pub fn read_framed(connection: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    connection.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    connection.read_exact(&mut message)?;
    Ok(message)
}

/// See [`read_framed`].
pub fn write_framed(connection: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    connection.write_all(&[&length.to_be_bytes(), message].concat())
}
