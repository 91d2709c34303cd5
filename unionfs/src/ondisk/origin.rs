//! Where a copied-up file came from: the values of `overlay.origin`,
//! `overlay.upper` and `overlay.nlink`, and the names in the index directory,
//! byte for byte as kernel overlayfs writes them.
//!
//! A value is a header of 21 bytes and a file handle of the real file
//! (`struct ovl_fb` of fs/overlayfs/overlayfs.h):
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 0 |
//! | 1 | magic, 0xfb |
//! | 2 | length of all |
//! | 3 | flags: big endian 1, any endian 2, the file is in the upper 4 |
//! | 4 | kind of handle |
//! | 5–20 | UUID of the file system |
//! | 21– | the handle |
//!
//! An empty value says "copied up, origin unknown". Pure: no system calls.

use rustix::io::Errno;

use crate::name::{Name, NameBuf};
use crate::sys::handle::{HANDLE_MAX, Handle};

const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
const HEADER: usize = 21;

const BIG_ENDIAN: u8 = 1;
const ANY_ENDIAN: u8 = 2;
const PATH_UPPER: u8 = 4;
const ALL_FLAGS: u8 = BIG_ENDIAN | ANY_ENDIAN | PATH_UPPER;
const CPU_ENDIAN: u8 = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };

/// In which layer the file lies that a value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In a lower: the value of `overlay.origin`.
    Lower,
    /// In the upper: the value of `overlay.upper`.
    Upper,
}

/// What a value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There is an origin, and this machine cannot know it: an empty value, a
    /// later version of the format, or the other byte order.
    Unknown,
    /// The file with this handle on the file system with this UUID.
    Handle {
        /// The file.
        handle: Handle,
        /// Its file system; zeros where that has none.
        uuid: [u8; 16],
        /// Its layer.
        side: Side,
    },
    /// Not a value that overlay writes.
    Invalid,
}

/// The value that names a file. A handle that the format cannot hold (none of
/// the kernel's file systems makes one) becomes the empty value.
pub fn encode(handle: &Handle, uuid: &[u8; 16], side: Side) -> Vec<u8> {
    let Ok(kind) = u8::try_from(handle.kind) else { return Vec::new() };
    let Some(len) = value_len(handle) else { return Vec::new() };
    let side_flag = match side {
        Side::Lower => 0,
        Side::Upper => PATH_UPPER,
    };
    let mut value = Vec::with_capacity(len.into());
    value.extend([VERSION, MAGIC, len, CPU_ENDIAN | side_flag, kind]);
    value.extend(uuid);
    value.extend(&handle.bytes[..]);
    value
}

fn value_len(handle: &Handle) -> Option<u8> {
    if handle.bytes.len() > HANDLE_MAX {
        return None;
    }
    u8::try_from(HEADER + handle.bytes.len()).ok()
}

/// Reads a value, as forgiving as the kernel: bytes after the stated length are
/// ignored, what comes from the future is [`Origin::Unknown`].
pub fn decode(value: &[u8]) -> Origin {
    if value.is_empty() {
        return Origin::Unknown;
    }
    let Some((header, _)) = value.split_first_chunk::<HEADER>() else { return Origin::Invalid };
    let [version, magic, len, flags, kind, uuid @ ..] = *header;
    let Some(handle) = value.get(HEADER..len.into()) else { return Origin::Invalid };
    if magic != MAGIC {
        return Origin::Invalid;
    }
    let known = version == VERSION && flags & !ALL_FLAGS == 0;
    let readable = flags & ANY_ENDIAN != 0 || flags & BIG_ENDIAN == CPU_ENDIAN;
    if !known || !readable {
        return Origin::Unknown;
    }
    let side = if flags & PATH_UPPER == 0 { Side::Lower } else { Side::Upper };
    Origin::Handle { handle: Handle { kind: kind.into(), bytes: handle.into() }, uuid, side }
}

/// The name in the index directory of the lower file that `origin` (a value of
/// [`encode`]) names.
///
/// # Errors
/// `ENAMETOOLONG` for a handle of more than 106 bytes: hexadecimal digits make
/// it longer than a name may be. `EINVAL` for an empty value.
pub fn index_name(origin: &[u8]) -> rustix::io::Result<NameBuf> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS[usize::from(value & 0xf)];
    let name: Vec<u8> = origin.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect();
    Ok(Name::new(&name)?.to_buf())
}

/// The value of `overlay.nlink`: the number of links that the mount shows, as a
/// difference from one that is stored anyway, so that a crash between a change
/// and its record does little harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nlink {
    /// That many more than the upper file has.
    Upper(i32),
    /// That many more than the lower file has.
    Lower(i32),
}

impl Nlink {
    /// Reads a value.
    ///
    /// # Errors
    /// `EINVAL` for what overlay does not write.
    pub fn parse(value: &[u8]) -> rustix::io::Result<Nlink> {
        let (base, difference) = value.split_first().ok_or(Errno::INVAL)?;
        // Without a sign it is not one, although a number would parse.
        if !matches!(difference.first(), Some(b'+' | b'-')) {
            return Err(Errno::INVAL);
        }
        let text = std::str::from_utf8(difference).map_err(|_| Errno::INVAL)?;
        let difference = text.parse().map_err(|_| Errno::INVAL)?;
        match base {
            b'U' => Ok(Nlink::Upper(difference)),
            b'L' => Ok(Nlink::Lower(difference)),
            _ => Err(Errno::INVAL),
        }
    }

    /// Writes a value.
    pub fn format(self) -> String {
        match self {
            Nlink::Upper(difference) => format!("U{difference:+}"),
            Nlink::Lower(difference) => format!("L{difference:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, OsStr};
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use smallvec::SmallVec;

    use super::*;
    use crate::sys::handle;
    use crate::sys::scratch::Scratch;
    use crate::sys::xattr::{Target, get_vec};

    fn sample() -> Handle {
        Handle { kind: 1, bytes: SmallVec::from_slice(&[9, 8, 7, 6, 5, 4, 3, 2]) }
    }

    #[test]
    fn what_is_written_is_read() {
        for side in [Side::Lower, Side::Upper] {
            let value = encode(&sample(), &[3; 16], side);
            assert_eq!(decode(&value), Origin::Handle { handle: sample(), uuid: [3; 16], side });
        }
        let longest = Handle { kind: 0xff, bytes: SmallVec::from_elem(1, HANDLE_MAX) };
        assert!(matches!(decode(&encode(&longest, &[0; 16], Side::Lower)), Origin::Handle { .. }));
        for bad in [
            Handle { kind: 1, bytes: SmallVec::from_elem(1, HANDLE_MAX + 1) },
            Handle { kind: 256, ..sample() },
            Handle { kind: -1, ..sample() },
        ] {
            assert_eq!(encode(&bad, &[0; 16], Side::Lower), b"");
        }
    }

    #[test]
    fn the_future_is_unknown_and_rubbish_is_invalid() {
        let good = encode(&sample(), &[3; 16], Side::Lower);
        let with = |at: usize, byte: u8| {
            let mut value = good.clone();
            value[at] = byte;
            decode(&value)
        };
        assert_eq!(decode(b""), Origin::Unknown);
        assert_eq!(with(0, 1), Origin::Unknown);
        assert_eq!(with(3, 8), Origin::Unknown);
        assert_eq!(with(3, CPU_ENDIAN ^ BIG_ENDIAN), Origin::Unknown);
        assert!(matches!(with(3, ANY_ENDIAN | (CPU_ENDIAN ^ BIG_ENDIAN)), Origin::Handle { .. }));
        assert_eq!(with(1, 0xfa), Origin::Invalid);
        assert_eq!(with(2, 20), Origin::Invalid);
        assert_eq!(with(2, 200), Origin::Invalid);
        assert_eq!(decode(&good[..20]), Origin::Invalid);
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(decode(&longer), decode(&good));
    }

    #[test]
    fn an_index_name_is_hexadecimal_and_fits() {
        assert_eq!(index_name(&[0x00, 0xfb, 0x1d]).unwrap().as_name().bytes(), b"00fb1d");
        assert_eq!(index_name(&[0; 127]).unwrap().as_name().bytes().len(), 254);
        assert_eq!(index_name(&[0; 128]).unwrap_err(), Errno::NAMETOOLONG);
    }

    #[test]
    fn nlink_is_a_signed_difference() {
        for (value, meaning) in
            [("U+1", Nlink::Upper(1)), ("L-2", Nlink::Lower(-2)), ("U+0", Nlink::Upper(0))]
        {
            assert_eq!(Nlink::parse(value.as_bytes()), Ok(meaning));
            assert_eq!(meaning.format(), value);
        }
        for bad in ["", "U", "U1", "X+1", "U+", "U+-1", "U+1 ", "L+99999999999"] {
            assert_eq!(Nlink::parse(bad.as_bytes()), Err(Errno::INVAL), "{bad:?}");
        }
    }

    /// Lets kernel overlayfs copy files up; false where it cannot be mounted.
    fn kernel_copies_up(dir: &Scratch) -> bool {
        let script = r#"
            mkdir lower upper work merged && mkdir lower/dir && echo plain > lower/plain &&
            echo hard > lower/hard && ln lower/hard lower/link && ln lower/hard lower/third || exit 1
            mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work,index=on,metacopy=off merged ||
                exit 77
            echo more >> merged/plain && echo more >> merged/hard && rm merged/third && touch merged/dir/new
            made=$?
            umount merged && exit $made"#;
        let status = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", script])
            .current_dir(dir.path())
            .status()
            .unwrap();
        match status.code() {
            Some(0) => true,
            // 1 from unshare itself leaves no trace behind.
            Some(77) => false,
            _ if !dir.path().join("lower").exists() => false,
            _ => panic!("copy up by the kernel: {status}"),
        }
    }

    #[test]
    fn kernel_overlayfs_writes_the_same_bytes() {
        for dir in Scratch::on_each_file_system("origin") {
            if !kernel_copies_up(&dir) {
                println!("skipped: kernel overlayfs cannot be mounted here");
                continue;
            }
            let real = |path: &str| File::open(dir.path().join(path)).unwrap();
            let written = |path: &str, name: &CStr| get_vec(Target::Fd(real(path).as_fd()), name).unwrap();
            let ours = |path: &str, side| {
                let file = real(path);
                let fd = file.as_fd();
                encode(&handle::of(fd, None).unwrap().unwrap(), &handle::file_system_uuid(fd), side)
            };
            for name in ["plain", "hard", "dir", ""] {
                let (lower, upper) = (format!("lower/{name}"), format!("upper/{name}"));
                let origin = written(&upper, c"trusted.overlay.origin").expect(&upper);
                assert_eq!(origin, ours(&lower, Side::Lower), "{name}");
                assert!(matches!(decode(&origin), Origin::Handle { side: Side::Lower, .. }));
            }
            let upper = written("work/index", c"trusted.overlay.upper").unwrap();
            assert_eq!(upper, ours("upper", Side::Upper));
            let entry = index_name(&ours("lower/hard", Side::Lower)).unwrap();
            let names = std::fs::read_dir(dir.path().join("work/index")).unwrap();
            let names = names.map(|found| found.unwrap().file_name());
            // The kernel also keeps a whiteout here, to make others by linking it.
            let names: Vec<_> = names.filter(|found| !found.as_encoded_bytes().starts_with(b"#")).collect();
            assert_eq!(names, [OsStr::from_bytes(entry.as_name().bytes())]);
            let nlink = written("upper/hard", c"trusted.overlay.nlink").unwrap();
            // Three links, one removed; the upper has the index's and its own.
            assert_eq!(Nlink::parse(&nlink), Ok(Nlink::Upper(0)));
            assert_eq!(Nlink::Upper(0).format().as_bytes(), nlink);
        }
    }
}
