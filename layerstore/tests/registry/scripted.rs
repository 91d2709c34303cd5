//! A web server that does what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What is answered; the connection is closed behind it.
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How much of the body is sent before the connection breaks.
    until: usize,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into(), until: usize::MAX }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn until(mut self, until: usize) -> Answer {
        self.until = until;
        self
    }
}

pub struct Server {
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each request by `answer`, one after the other.
    pub fn start(mut answer: impl FnMut(&Asked) -> Answer + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (asked, ends) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, end) = (asked.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let mut connection = connection.unwrap();
                let Some(request) = read(&connection) else { continue };
                let is_probe = request.path == "/v2/" && request.header("authorization").is_none();
                if !is_probe {
                    log.lock().unwrap().push(request.clone());
                }
                write(&mut connection, &request, answer(&request));
            }
        });
        Server { host, asked, ends, thread: Some(thread) }
    }

    /// All that was asked, but whether there is a server.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if TcpStream::connect(&self.host).is_ok() {
            self.thread.take().unwrap().join().unwrap();
        }
    }
}

fn read(connection: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut asked = Asked { method, path, headers, body: Vec::new() };
    let len = asked.header("content-length").map_or(0, |len| len.parse().unwrap());
    reader.take(len).read_to_end(&mut asked.body).ok()?;
    Some(asked)
}

/// A client that left early is what some tests are about.
fn write(connection: &mut TcpStream, asked: &Asked, answer: Answer) {
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", answer.status);
    if !answer.headers.iter().any(|(name, _)| name == "Content-Length" || name == "Transfer-Encoding") {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body =
        if asked.method == "HEAD" { &[][..] } else { &answer.body[..answer.body.len().min(answer.until)] };
    let sent =
        connection.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| connection.write_all(body));
    if let Err(error) = sent {
        eprintln!("{} {}: {error}", asked.method, asked.path);
    }
}
