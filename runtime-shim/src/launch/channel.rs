//! What a container's process and its maker say to each other until the
//! command runs.
//!
//! One message a packet. The end of the channel is a message too: to the maker,
//! once the process was told to start, that the command runs (exec closes the
//! process's side); before, that the process died. To the process, that its
//! maker died.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::failure::{Context, Failure, Result};

/// No message is longer; a failure's words are cut.
const LONGEST: usize = 32 << 10;

/// One side.
pub struct Channel(OwnedFd);

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// To the process: make the container.
    Prepare {
        /// Its id in the maker's namespace, for hooks.
        pid: i32,
    },
    /// To the process: the maker has done what is its own to do meanwhile.
    Proceed,
    /// To the process: execute the command.
    Start,
    /// To the maker: something that was asked for could not be had.
    Warning(String),
    /// To the maker: the mounts are there, the old root is too.
    Mounted,
    /// To the maker: all but exec is done. A terminal comes with it.
    Ready,
    /// To the maker: it will not be.
    Failed {
        /// The exit code that says so.
        code: u8,
        /// In words.
        message: String,
        /// What helps.
        hint: Option<String>,
    },
}

impl Message {
    /// A failure as a message.
    pub fn of_failure(failure: &Failure) -> Message {
        let (code, message, hint) = failure.parts();
        let short = |text: &str| text.chars().take(LONGEST / 16).collect::<String>();
        Message::Failed { code, message: short(message), hint: hint.map(short) }
    }

    /// A failure that was a message.
    pub fn into_failure(code: u8, message: String, hint: Option<String>) -> Failure {
        let failure = Failure::new(message).code(code);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Channel {
    /// Both sides: the maker's and the process's.
    pub fn pair() -> Result<(Channel, Channel)> {
        let sides = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = sides.context(|| "cannot make a channel to the container".to_string())?;
        Ok((Channel(ours), Channel(theirs)))
    }

    /// A side that was connected elsewhere.
    pub fn over(socket: OwnedFd) -> Channel {
        Channel(socket)
    }

    /// Says something.
    pub fn say(&self, message: &Message) -> Result<()> {
        self.send(message, None)
    }

    /// Says something and gives a descriptor.
    pub fn give(&self, message: &Message, fd: BorrowedFd<'_>) -> Result<()> {
        self.send(message, Some(fd))
    }

    fn send(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let context = || "cannot talk about the container".to_string();
        let packet = serde_json::to_vec(message).context(context)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(|_| ()).context(context),
            }
        }
    }

    /// Waits for what is said next; nothing when the other side is gone.
    pub fn hear(&self) -> Result<Option<(Message, Option<OwnedFd>)>> {
        let context = || "cannot hear about the container".to_string();
        let mut packet = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut packet)];
            match recvmsg(&self.0, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                // It died with something unread; what it said before comes next.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                received => break received.context(context)?,
            }
        };
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match packet.get(..received.bytes) {
            None | Some([]) => Ok(None),
            Some(packet) => Ok(Some((serde_json::from_slice(packet).context(context)?, fd))),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_and_a_descriptor_come_through_and_the_end_is_heard() {
        let (ours, theirs) = Channel::pair().unwrap();
        let failure = Failure::new("x".repeat(1 << 20)).code(127).hint("look");
        theirs.say(&Message::of_failure(&failure)).unwrap();
        let Some((Message::Failed { code, message, hint }, None)) = ours.hear().unwrap() else { panic!() };
        assert_eq!((code, message.len(), hint.as_deref()), (127, LONGEST / 16, Some("look")));
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        theirs.give(&Message::Ready, pipe.as_fd()).unwrap();
        assert!(matches!(ours.hear().unwrap(), Some((Message::Ready, Some(_)))));
        drop(theirs);
        assert!(ours.hear().unwrap().is_none());
    }

    #[test]
    fn last_words_are_heard_of_one_that_did_not_listen() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.say(&Message::Prepare { pid: 1 }).unwrap();
        theirs.say(&Message::of_failure(&Failure::new("no"))).unwrap();
        drop(theirs);
        assert!(matches!(ours.hear().unwrap(), Some((Message::Failed { .. }, None))));
        assert!(ours.hear().unwrap().is_none());
    }
}
