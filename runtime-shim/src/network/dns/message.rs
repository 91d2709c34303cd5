//! Messages of RFC 1035, as far as a server needs them that answers for a few
//! names of its own and passes everything else on as bytes: a question is read,
//! an answer is written.
//!
//! What comes in is anybody's: every length is checked, nothing is followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
/// RFC 1035, 2.3.4.
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: u8 = 63;
/// What every client takes in one datagram.
pub const LONGEST_DATAGRAM: usize = 512;
/// Nobody is to remember an answer: containers come and go.
const TIME_TO_LIVE: [u8; 4] = [0; 4];

/// Bits of the header's third and fourth byte.
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;

const INTERNET: u16 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses.
    A,
    /// Addresses of IPv6.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Anything else.
    Other,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is none.
    Malformed = 1,
    /// Nobody could be asked.
    Failed = 2,
    /// There is no such name.
    NoSuchName = 3,
    /// It is not one that anybody asks.
    NotImplemented = 4,
}

/// A question, and the bytes it came as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The message's number.
    pub id: [u8; 2],
    /// The name in lower case, without the last dot.
    pub name: String,
    /// What is asked about it.
    pub kind: Kind,
    /// Whether it is a question about the internet's names, in one of this crate's kinds.
    flags: u8,
    /// The question section as it came.
    section: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An address of the protocol asked for.
    Address(IpAddr),
    /// A name.
    Name(String),
}

impl Question {
    /// Reads a message that asks one thing. For one that does not, what can be
    /// said of it to its sender: nothing to what is not even a question.
    pub fn parse(message: &[u8]) -> Result<Question, Option<Vec<u8>>> {
        let header: [u8; HEADER] =
            message.get(..HEADER).and_then(|header| header.try_into().ok()).ok_or(None)?;
        let [id0, id1, flags, _, count0, count1, ..] = header;
        if flags & RESPONSE != 0 {
            return Err(None);
        }
        let bare =
            Question { id: [id0, id1], name: String::new(), kind: Kind::Other, flags, section: Vec::new() };
        if flags & OPCODE != 0 {
            return Err(Some(bare.refuse(Refusal::NotImplemented)));
        }
        let malformed = || Some(bare.refuse(Refusal::Malformed));
        if [count0, count1] != [0, 1] {
            return Err(malformed());
        }
        let (name, after) = read_name(message, HEADER).ok_or_else(malformed)?;
        let section = message.get(HEADER..after + 4).ok_or_else(malformed)?;
        let field = |at| {
            message.get(at..at + 2).map(|bytes| bytes.iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte)))
        };
        let kind = match (field(after), field(after + 2)) {
            (Some(1), Some(INTERNET)) => Kind::A,
            (Some(28), Some(INTERNET)) => Kind::Aaaa,
            (Some(12), Some(INTERNET)) => Kind::Ptr,
            _ => Kind::Other,
        };
        Ok(Question { name, kind, section: section.to_vec(), ..bare })
    }

    /// The answer that there is none, and why.
    pub fn refuse(&self, why: Refusal) -> Vec<u8> {
        self.message(0, why as u8, 0, &[])
    }

    /// An answer of ours; no records mean that the name exists and has none.
    /// At most `longest` bytes: what does not fit is left out, and that is said.
    pub fn answer(&self, records: &[Record], longest: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let (mut count, mut flags) = (0u16, AUTHORITATIVE);
        for record in records {
            let record = written(record);
            if HEADER + self.section.len() + body.len() + record.len() > longest || count == u16::MAX {
                flags |= TRUNCATED;
                break;
            }
            body.extend(record);
            count += 1;
        }
        self.message(flags, 0, count, &body)
    }

    fn message(&self, flags: u8, code: u8, count: u16, body: &[u8]) -> Vec<u8> {
        let asked = u8::from(!self.section.is_empty());
        let mut message = self.id.to_vec();
        message.push(RESPONSE | self.flags & (OPCODE | RECURSION_DESIRED) | flags);
        message.push(RECURSION_AVAILABLE | code);
        message.extend([0, asked]);
        message.extend(count.to_be_bytes());
        message.extend([0; 4]);
        message.extend(&self.section);
        message.extend(body);
        message
    }

    /// Whether a message answers this question under the number `id`.
    pub fn is_answered_by(&self, message: &[u8], id: [u8; 2]) -> bool {
        let is_answer = message.get(2).is_some_and(|flags| flags & RESPONSE != 0);
        let same = |one: &[u8]| one.eq_ignore_ascii_case(&self.section);
        // One that refuses may leave the question out.
        let counts = message.get(4..6);
        let section = message.get(HEADER..HEADER + self.section.len());
        message.starts_with(&id)
            && is_answer
            && (counts == Some(&[0, 0]) || counts == Some(&[0, 1]) && section.is_some_and(same))
    }
}

/// Puts another number on a message.
pub fn renumber(message: &mut [u8], id: [u8; 2]) {
    for (to, from) in message.iter_mut().zip(id) {
        *to = from;
    }
}

/// A name without compression, which in a first question has nothing to refer
/// to; and where it ends.
fn read_name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = start;
    loop {
        let length = *message.get(at)?;
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        let label = message.get(at..at + usize::from(length))?;
        at += usize::from(length);
        if length > LONGEST_LABEL || at - start > LONGEST_NAME {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        // A byte that is no letter of ours is in no name of ours: any mark will
        // do, but for the dot that it may be.
        let letter = |byte: &u8| match byte.to_ascii_lowercase() {
            letter if letter.is_ascii_graphic() && letter != b'.' => char::from(letter),
            _ => '\u{fffd}',
        };
        name.extend(label.iter().map(letter));
    }
}

/// A record about the name in the question.
fn written(record: &Record) -> Vec<u8> {
    let (kind, data) = match record {
        Record::Address(IpAddr::V4(ip)) => (1u16, ip.octets().to_vec()),
        Record::Address(IpAddr::V6(ip)) => (28, ip.octets().to_vec()),
        Record::Name(name) => (12, written_name(name)),
    };
    let mut bytes = vec![0xc0, HEADER as u8];
    bytes.extend(kind.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    bytes.extend(TIME_TO_LIVE);
    bytes.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn written_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = label.as_bytes().get(..usize::from(LONGEST_LABEL)).unwrap_or(label.as_bytes());
        if bytes.len() + label.len() + 2 > LONGEST_NAME {
            break;
        }
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// The address that `2.0.86.10.in-addr.arpa` and its like stand for.
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0u128;
    let mut parts = digits.split('.');
    for at in 0..32 {
        let digit = parts.next().filter(|digit| digit.len() == 1)?;
        bits |= u128::from_str_radix(digit, 16).ok()? << (4 * at);
    }
    parts.next().is_none().then(|| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A question as clients send it.
    fn asked(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![7, 8, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(written_name(name));
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let question = Question::parse(&asked("Web.Front", 1)).unwrap();
        assert_eq!((question.name.as_str(), question.kind), ("web.front", Kind::A));
        let answer = question.answer(&[Record::Address("10.86.0.2".parse().unwrap())], LONGEST_DATAGRAM);
        let head = [7, 8, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 86, 0, 2];
        assert_eq!(answer, [&head[..], &asked("Web.Front", 1)[12..], &record].concat());
        assert!(question.is_answered_by(&answer, [7, 8]));
        assert!(!question.is_answered_by(&answer, [7, 9]));
        let other = Question::parse(&asked("web.back", 1)).unwrap();
        assert!(!other.is_answered_by(&answer, [7, 8]));
        assert_eq!(question.refuse(Refusal::NoSuchName)[3], 0x83);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_that_is_said() {
        let question = Question::parse(&asked("web", 28)).unwrap();
        let records: Vec<_> = (0..100).map(|at| Record::Address(Ipv6Addr::from_bits(at).into())).collect();
        let answer = question.answer(&records, LONGEST_DATAGRAM);
        assert!(answer.len() <= LONGEST_DATAGRAM && answer.len() > LONGEST_DATAGRAM - 28);
        assert_eq!(answer[2] & TRUNCATED, TRUNCATED);
        assert_eq!(question.answer(&records, 65535)[2] & TRUNCATED, 0);
    }

    #[test]
    fn what_asks_nothing_is_refused() {
        let whole = asked("web", 1);
        assert_eq!(Question::parse(&whole[..11]), Err(None));
        let mut answer = whole.clone();
        answer[2] |= RESPONSE;
        assert_eq!(
            Question::parse(&answer),
            Err(None),
            "no word to what is an answer, or two would talk for ever"
        );
        for (at, byte, code) in [(2, 0x28, 4), (5, 2, 1), (5, 0, 1), (12, 0xc0, 1), (12, 64, 1), (12, 60, 1)]
        {
            let mut bad = whole.clone();
            bad[at] = byte;
            let refusal = Question::parse(&bad).unwrap_err().unwrap();
            assert_eq!((refusal[3] & 15, refusal.len()), (code, 12), "{at} {byte}");
        }
        let mut long = whole[..12].to_vec();
        for _ in 0..128 {
            long.extend([1, b'a']);
        }
        long.extend([0, 0, 1, 0, 1]);
        assert!(Question::parse(&long).is_err());
    }

    #[test]
    fn addresses_are_read_backwards() {
        let is = |name: &str, ip: &str| assert_eq!(reversed(name), Some(ip.parse().unwrap()));
        is("2.0.86.10.in-addr.arpa", "10.86.0.2");
        is(&format!("{}.ip6.arpa", "2.0.0.0.".repeat(7) + "1.0.d.f"), "fd01:2:2:2:2:2:2:2");
        for name in [
            "in-addr.arpa",
            "1.2.3.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "256.0.0.1.in-addr.arpa",
            "1.ip6.arpa",
        ] {
            assert_eq!(reversed(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(question) = Question::parse(&bytes) {
                prop_assert!(question.name.chars().count() <= LONGEST_NAME);
                prop_assert!(question.answer(&[], LONGEST_DATAGRAM).len() <= LONGEST_DATAGRAM);
            }
        }

        #[test]
        fn no_change_to_a_question_does_harm(at in 0usize..40, byte in any::<u8>(), cut in 0usize..40) {
            let mut message = asked("some.name.of.ours", 28);
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            message.truncate(message.len() - cut.min(message.len()));
            if let Ok(question) = Question::parse(&message) {
                let answer = question.answer(&[Record::Name("a.b".to_owned())], LONGEST_DATAGRAM);
                prop_assert!(question.is_answered_by(&answer, question.id));
            }
        }
    }
}
