//! The fields of a tar header block, as POSIX.1-1988 (ustar), GNU tar and the
//! seventh edition of Unix lay them out.

/// Headers and padding come in blocks of this many bytes.
pub const BLOCK: usize = 512;

/// One header block.
pub struct Header(pub [u8; BLOCK]);

/// Which of the layouts a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing beyond the link's target.
    V7,
    /// A prefix of the path, device numbers. PAX headers are such.
    Ustar,
    /// Ustar with a shorter prefix, by Schilling's star.
    Star,
    /// Device numbers, times and a sparse map where ustar has its prefix.
    Gnu,
}

/// The bytes of a field.
#[derive(Clone, Copy)]
pub struct Field(usize, usize);

impl Field {
    const NAME: Field = Field(0, 100);
    pub const MODE: Field = Field(100, 8);
    pub const UID: Field = Field(108, 8);
    pub const GID: Field = Field(116, 8);
    pub const SIZE: Field = Field(124, 12);
    pub const MTIME: Field = Field(136, 12);
    const CHECKSUM: Field = Field(148, 8);
    const LINK: Field = Field(157, 100);
    const MAGIC: Field = Field(257, 8);
    pub const MAJOR: Field = Field(329, 8);
    pub const MINOR: Field = Field(337, 8);
    const PREFIX: Field = Field(345, 155);
    const STAR_PREFIX: Field = Field(345, 131);
    const STAR_TRAILER: Field = Field(508, 4);
    const GNU_ATIME: Field = Field(345, 12);
    const GNU_CTIME: Field = Field(357, 12);
    /// Four pairs of offset and length.
    pub const GNU_SPARSE: Field = Field(386, 96);
    pub const GNU_EXTENDED: Field = Field(482, 1);
    pub const GNU_REALSIZE: Field = Field(483, 12);
}

impl Header {
    /// A field's bytes.
    pub fn field(&self, field: Field) -> &[u8] {
        self.0.get(field.0..field.0 + field.1).unwrap_or_default()
    }

    /// Whether it marks the end of the archive.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; BLOCK]
    }

    /// What kind of entry it begins.
    pub fn flag(&self) -> u8 {
        self.0[156]
    }

    /// Whether its checksum is its own; some writers summed signed bytes.
    pub fn checksum_is_right(&self) -> bool {
        let Some(told) = number(self.field(Field::CHECKSUM)) else { return false };
        told == checksum(&self.0) || told == summands(&self.0).map(|byte| i64::from(byte as i8)).sum::<i64>()
    }

    /// The layout, by its magic.
    pub fn format(&self) -> Format {
        match self.field(Field::MAGIC) {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") => {
                if self.field(Field::STAR_TRAILER) == b"tar\0" {
                    Format::Star
                } else {
                    Format::Ustar
                }
            }
            _ => Format::V7,
        }
    }

    /// The path, its prefix before it.
    pub fn path(&self) -> Vec<u8> {
        let prefix = match self.format() {
            Format::V7 => &[],
            Format::Ustar => text(self.field(Field::PREFIX)),
            Format::Star => text(self.field(Field::STAR_PREFIX)),
            Format::Gnu => self.gnu_prefix(),
        };
        let name = text(self.field(Field::NAME));
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// GNU headers have times there. Images made with Go before 1.8 have a
    /// prefix all the same, which no number resembles.
    fn gnu_prefix(&self) -> &[u8] {
        let times = [Field::GNU_ATIME, Field::GNU_CTIME].map(|time| number(self.field(time)));
        let prefix = text(self.field(Field::PREFIX));
        if times.contains(&None) && prefix.is_ascii() { prefix } else { &[] }
    }

    /// A link's target.
    pub fn link(&self) -> &[u8] {
        text(self.field(Field::LINK))
    }
}

/// The sum of a header's bytes, its checksum's own taken as spaces.
pub fn checksum(header: &[u8; BLOCK]) -> i64 {
    summands(header).map(i64::from).sum()
}

fn summands(header: &[u8; BLOCK]) -> impl Iterator<Item = u8> {
    let own = Field::CHECKSUM.0..Field::CHECKSUM.0 + Field::CHECKSUM.1;
    header.iter().enumerate().map(move |(at, &byte)| if own.contains(&at) { b' ' } else { byte })
}

/// Up to the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number: octal digits among spaces and NULs, or GNU's base 256 (two's
/// complement, the first bit set, the second the sign).
pub fn number(field: &[u8]) -> Option<i64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let first = if negative { first | 0x80 } else { first & 0x3f };
            let begin = if negative { i128::from(first as i8) } else { i128::from(first) };
            let value = rest.iter().try_fold(begin, |value, &byte| {
                value.checked_mul(256).map(|value| value + i128::from(byte))
            })?;
            i64::try_from(value).ok()
        }
        _ => {
            let is_space = |byte: &u8| matches!(byte, b' ' | 0);
            let begin = field.iter().position(|byte| !is_space(byte)).unwrap_or(field.len());
            let end = field.iter().rposition(|byte| !is_space(byte)).map_or(begin, |last| last + 1);
            let digits = text(field.get(begin..end)?);
            digits.iter().try_fold(0_i64, |value, digit| match digit {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
                _ => None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_kinds() {
        let known: [(&[u8], Option<i64>); 11] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"77777777777", Some(0o77777777777)),
            (b"8", None),
            (b"-1", None),
            (b"7 7", None),
            (b"\x80\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\x80\0\0\0\0\0\0\0", None),
        ];
        for (field, value) in known {
            assert_eq!(number(field), value, "{field:?}");
        }
        assert_eq!(number(&[0x80; 20]), None);
    }
}
