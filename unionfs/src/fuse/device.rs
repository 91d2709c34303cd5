//! The transport that reads `/dev/fuse`: threads that read a request, have it
//! handled and write the reply.

use std::io;

use super::SessionConfig;
use super::abi::{InHeader, OutHeader};
use super::channel::{Channel, Received};
use super::greeting::{MAX_DATA, Terms};
use super::reply::Room;
use super::request::{Request, SetxattrForm};
use super::server::{Answer, Server};
use crate::log;
use crate::sys::fuse::Blocking;
use rustix::io::Errno;

/// Headers and structures around the data of the largest request or reply.
const AROUND: usize = 4096;

/// Serves until the file system is unmounted, by `config.threads` threads.
///
/// # Errors
/// What broke the connection, if not an unmount; the first thread's.
pub fn serve(server: &Server, channel: &Channel, terms: &Terms, config: &SessionConfig) -> io::Result<()> {
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 1..config.threads.max(1) {
            let worker = Worker::new(server, channel, terms.setxattr);
            let thread = std::thread::Builder::new().name(format!("fuse-{number}"));
            threads.push(thread.spawn_scoped(scope, move || worker.run())?);
        }
        let mut result = Worker::new(server, channel, terms.setxattr).run();
        for thread in threads {
            let ended =
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the server died")));
            result = result.and(ended);
        }
        result
    })
}

/// One thread.
struct Worker<'s> {
    server: &'s Server,
    channel: Channel,
    form: SetxattrForm,
}

impl<'s> Worker<'s> {
    fn new(server: &'s Server, channel: &Channel, form: SetxattrForm) -> Worker<'s> {
        // Where /dev/fuse cannot be opened again, the threads share one.
        let own = channel.clone_device(Blocking::Waits).unwrap_or_else(|_| channel.clone());
        Worker { server, channel: own, form }
    }

    fn run(&self) -> io::Result<()> {
        self.server.ready_thread();
        let mut request = vec![0; MAX_DATA as usize + AROUND];
        let mut reply = vec![0; MAX_DATA as usize + AROUND];
        loop {
            match self.channel.receive(&mut request)? {
                Received::Request(len) => self.answer(request.get(..len).unwrap_or_default(), &mut reply),
                Received::Nothing => {}
                Received::End => return Ok(()),
            }
        }
    }

    fn answer(&self, bytes: &[u8], reply: &mut [u8]) {
        let request = match Request::whole(bytes, self.form) {
            Ok(request) => request,
            Err(header) => return self.refuse(header, reply),
        };
        let room = Room::new(reply.get_mut(size_of::<OutHeader>()..).unwrap_or_default());
        let result = match self.server.handle(&request, room) {
            Answer::Done(len) => Ok(len),
            Answer::Failed(errno) => Err(errno),
            Answer::Silence => return,
        };
        self.channel.reply(request.header.unique, result, reply);
    }

    fn refuse(&self, header: Option<InHeader>, reply: &mut [u8]) {
        let Some(header) = header else {
            return log::warn(format_args!("the kernel sent a request without a header"));
        };
        log::warn(format_args!("the kernel sent a malformed request, opcode {}", header.opcode));
        self.channel.reply(header.unique, Err(Errno::IO), reply);
    }
}
