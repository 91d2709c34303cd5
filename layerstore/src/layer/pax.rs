//! PAX extended headers (POSIX.1-2001, pax, "Extended Header"): records
//! `LENGTH KEY=VALUE\n`, values of any bytes.

use std::collections::BTreeMap;

use super::sparse;

/// What PAX headers say of an entry, or of all entries after a global one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Seconds and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    /// Without the `SCHILY.xattr.` before their names.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub sparse: sparse::Records,
}

/// Why a header is malformed.
type Reason = &'static str;

impl Pax {
    /// The records of a header. An empty value takes back what the header
    /// before it, or the header block, says.
    pub fn parse(mut records: &[u8]) -> Result<Pax, Reason> {
        let mut pax = Pax::default();
        while !records.is_empty() {
            let (key, value, rest) = split_record(records).ok_or("a malformed PAX record")?;
            pax.set(key, value)?;
            records = rest;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err("an extended attribute without a name");
            }
            self.xattrs.insert(name.into(), value.into());
            return Ok(());
        }
        if key.starts_with(b"GNU.sparse.") {
            return self.sparse.set(key, value);
        }
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| without_nul(value)).transpose()?,
            b"linkpath" => self.link = given.then(|| without_nul(value)).transpose()?,
            b"size" => self.size = given.then(|| decimal(value).ok_or("a malformed PAX size")).transpose()?,
            b"uid" => self.uid = given.then(|| owner(value)).transpose()?,
            b"gid" => self.gid = given.then(|| owner(value)).transpose()?,
            b"mtime" => self.mtime = given.then(|| time(value).ok_or("a malformed PAX time")).transpose()?,
            // Other times, names of owners, comments, character sets: no part of an image.
            _ => {}
        }
        Ok(())
    }

    /// Whether it says what can be true of one entry only.
    pub fn is_of_one_entry(&self) -> bool {
        self.path.is_some()
            || self.link.is_some()
            || self.size.is_some()
            || self.sparse != sparse::Records::default()
    }

    /// These records over those of a global header.
    pub fn over(mut self, global: &Pax) -> Pax {
        self.uid = self.uid.or(global.uid);
        self.gid = self.gid.or(global.gid);
        self.mtime = self.mtime.or(global.mtime);
        for (name, value) in &global.xattrs {
            self.xattrs.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self
    }
}

/// The first record's key and value, and the records after it.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|&byte| byte == b' ')?;
    let len = usize::try_from(decimal(records.get(..space)?)?).ok()?;
    let record = records.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let key = record.get(..equals).filter(|key| !key.is_empty() && !key.contains(&0))?;
    Some((key, record.get(equals + 1..)?, records.get(len..)?))
}

fn without_nul(value: &[u8]) -> Result<Vec<u8>, Reason> {
    if value.contains(&0) { Err("a PAX path with a NUL") } else { Ok(value.to_vec()) }
}

fn owner(value: &[u8]) -> Result<u32, Reason> {
    decimal(value).and_then(|id| u32::try_from(id).ok()).ok_or("an owner that is no number of 32 bits")
}

/// Digits only, and below 2^63: nobody's idea of a size is larger.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    value.filter(|&value| i64::try_from(value).is_ok())
}

/// Seconds with a fraction, perhaps before 1970; finer than nanoseconds is cut off.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let pax = Pax::parse(
            b"15 path=a\nb=c\xff\n19 size=1234567890\n23 SCHILY.xattr.u.v=\0\n\n22 mtime=-1.500000000\n",
        )
        .unwrap_or_else(|reason| panic!("{reason}"));
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb=c\xff"[..]));
        assert_eq!((pax.size, pax.mtime), (Some(1234567890), Some((-2, 500_000_000))));
        assert_eq!(pax.xattrs, BTreeMap::from([(b"u.v"[..].into(), b"\0\n"[..].into())]));
        assert_eq!(Pax::parse(b"8 uid=5\n7 uid=\n").unwrap().uid, None);
    }

    #[test]
    fn malformed_records() {
        let malformed: [&[u8]; 14] = [
            b"11 path=a\n",
            b"9 path=ab\n",
            b"path=a\n",
            b" path=a\n",
            b"-9 path=a\n",
            b"0 a=b\n",
            b"6 a=\n",
            b"4 a\n",
            b"6 =bc\n",
            b"99999999999999999999 a=b\n",
            b"11 size=-1\n",
            b"27 size=9223372036854775808\n",
            b"18 uid=4294967296\n",
            b"11 path=a\0\n",
        ];
        for records in malformed {
            assert!(Pax::parse(records).is_err(), "{:?}", String::from_utf8_lossy(records));
        }
    }

    #[test]
    fn times() {
        let known: [(&str, Option<(i64, u32)>); 7] = [
            ("0", Some((0, 0))),
            ("1.", Some((1, 0))),
            ("1.1234567899", Some((1, 123456789))),
            ("-0.1", Some((-1, 900_000_000))),
            ("-3", Some((-3, 0))),
            ("1.-1", None),
            (".5", None),
        ];
        for (text, value) in known {
            assert_eq!(time(text.as_bytes()), value, "{text}");
        }
    }
}
