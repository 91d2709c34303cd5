//! Paths inside option strings: splitting and un-escaping, on bytes, once over.
//!
//! Commas part options and colons part lower layers; a backslash takes the
//! meaning from the character after it, as in kernel overlayfs. So every path
//! can be written, and a string of a megabyte costs one pass.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Options whose value mount(8) lets stand in double quotes, for its commas.
const LABELS: [&[u8]; 4] = [b"context=", b"fscontext=", b"defcontext=", b"rootcontext="];

/// The options of one string, escapes left in; empty ones are skipped.
pub fn split_options(string: &[u8]) -> Vec<&[u8]> {
    let mut options = Vec::new();
    let mut rest = string;
    while !rest.is_empty() {
        let end = option_end(rest);
        if end > 0 {
            options.push(&rest[..end]);
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    options
}

/// Where the option at the start of `bytes` ends: at a comma or at the end.
fn option_end(bytes: &[u8]) -> usize {
    let quoted = LABELS.iter().find(|label| bytes.starts_with(label)).map(|label| label.len());
    let start = quoted.filter(|&at| bytes.get(at) == Some(&b'"')).map_or(0, |open| {
        let close = bytes[open + 1..].iter().position(|&b| b == b'"');
        close.map_or(0, |length| open + 1 + length)
    });
    start + find_bare(&bytes[start..], b',').unwrap_or(bytes.len() - start)
}

/// The first `wanted` that no backslash stands before.
fn find_bare(bytes: &[u8], wanted: u8) -> Option<usize> {
    let mut escaped = false;
    bytes.iter().position(|&b| {
        let found = b == wanted && !escaped;
        escaped = b == b'\\' && !escaped;
        found
    })
}

/// Directories of a `lowerdir=`: those of names, and those of data only.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lowers {
    /// Before the first `::`.
    pub named: Vec<PathBuf>,
    /// Each after a `::`.
    pub data_only: Vec<PathBuf>,
}

/// Splits the value of `lowerdir=`.
///
/// # Errors
/// A sentence about a colon that parts nothing.
pub fn split_lowers(value: &[u8]) -> Result<Lowers, String> {
    let mut lowers = Lowers::default();
    let mut rest = value;
    let mut after_data_mark = false;
    loop {
        let colon = find_bare(rest, b':');
        let part = &rest[..colon.unwrap_or(rest.len())];
        if part.is_empty() {
            return Err("an empty directory name: write a colon inside a name as \\:".into());
        }
        match after_data_mark {
            true => lowers.data_only.push(unescape(part)),
            false if lowers.data_only.is_empty() => lowers.named.push(unescape(part)),
            false => return Err("an ordinary layer cannot follow a data-only layer (a::b)".into()),
        }
        let Some(colon) = colon else { return Ok(lowers) };
        rest = &rest[colon + 1..];
        after_data_mark = rest.first() == Some(&b':');
        if after_data_mark {
            rest = &rest[1..];
        }
    }
}

/// A path with each backslash taken away and the character after it kept, as
/// the kernel does for `lowerdir`, `upperdir` and `workdir`.
pub fn unescape(value: &[u8]) -> PathBuf {
    take_backslashes(value, |_| true)
}

/// A path of an option that takes one directory (`lowerdir+=`). The kernel
/// takes it as it stands; we must give commas a spelling, so a backslash
/// counts before `\`, `,` and `:` and is a letter elsewhere.
pub fn unescape_one(value: &[u8]) -> PathBuf {
    take_backslashes(value, |b| matches!(b, b'\\' | b',' | b':'))
}

fn take_backslashes(value: &[u8], counts: impl Fn(u8) -> bool) -> PathBuf {
    let mut bytes = Vec::with_capacity(value.len());
    let mut letters = value.iter().copied().peekable();
    while let Some(b) = letters.next() {
        bytes.push(letters.next_if(|&next| b == b'\\' && counts(next)).unwrap_or(b));
    }
    OsString::from_vec(bytes).into()
}

/// The directories in a file of lowers: one a line, or NUL-separated when the
/// file has any NUL; nothing is escaped, empty lines are skipped.
pub fn lines(content: &[u8]) -> Vec<PathBuf> {
    let end = if content.contains(&0) { 0 } else { b'\n' };
    let parts = content.split(|&b| b == end).filter(|part| !part.is_empty());
    parts.map(|part| OsString::from_vec(part.to_vec()).into()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn escape(path: &[u8], special: &[u8]) -> Vec<u8> {
        let escaped = path.iter().flat_map(|b| match special.contains(b) {
            true => vec![b'\\', *b],
            false => vec![*b],
        });
        escaped.collect()
    }

    fn a_path() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'\\'), Just(b','), Just(b':'), Just(b'"'), 1u8..=255];
        proptest::collection::vec(byte, 1..12)
    }

    proptest! {
        #[test]
        fn every_list_of_lowers_can_be_written(
            named in proptest::collection::vec(a_path(), 1..6),
            data in proptest::collection::vec(a_path(), 0..3),
        ) {
            let write = |path: &Vec<u8>| escape(path, b"\\,:");
            let mut value = named.iter().map(write).collect::<Vec<_>>().join(&b':');
            for path in &data {
                value.extend_from_slice(b"::");
                value.extend(write(path));
            }
            let string = [b"lowerdir=", &value[..], b",ro"].concat();
            let options = split_options(&string);
            prop_assert_eq!(options.len(), 2);
            let lowers = split_lowers(&options[0][b"lowerdir=".len()..]).unwrap();
            let bytes = |paths: &[PathBuf]| -> Vec<Vec<u8>> {
                paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect()
            };
            prop_assert_eq!(bytes(&lowers.named), named);
            prop_assert_eq!(bytes(&lowers.data_only), data);
        }

        #[test]
        fn every_single_path_can_be_written(path in a_path()) {
            for unescape in [unescape, unescape_one] {
                let string = [b"upperdir=", &escape(&path, b"\\,:")[..], b",x"].concat();
                let options = split_options(&string);
                prop_assert_eq!(options.len(), 2);
                let read = unescape(&options[0][b"upperdir=".len()..]);
                prop_assert_eq!(read.as_os_str().as_bytes(), &path[..]);
            }
        }

        #[test]
        fn no_string_panics(string in proptest::collection::vec(any::<u8>(), 0..64)) {
            for option in split_options(&string) {
                prop_assert!(!option.is_empty());
            }
            prop_assert!(split_lowers(&string).map_or(true, |lowers| !lowers.named.is_empty()
                || string.starts_with(b":")));
        }
    }

    #[test]
    fn options_part_at_bare_commas() {
        assert_eq!(split_options(b",,a,,b\\,c,d=\"e,f\",,"), [&b"a"[..], b"b\\,c", b"d=\"e", b"f\""]);
        let label: &[u8] = b"context=\"u:r:t:s0:c1,c2\",ro";
        assert_eq!(split_options(label), [&b"context=\"u:r:t:s0:c1,c2\""[..], b"ro"]);
        assert_eq!(split_options(b"context=\"open,ro"), [&b"context=\"open"[..], b"ro"]);
        assert_eq!(split_options(b""), Vec::<&[u8]>::new());
    }

    #[test]
    fn the_kernels_colons() {
        let lowers = split_lowers(b"a:b\\:c::d::e").unwrap();
        assert_eq!(lowers.named, [Path::new("a"), Path::new("b:c")]);
        assert_eq!(lowers.data_only, [Path::new("d"), Path::new("e")]);
        for bad in [&b""[..], b":a", b"::a", b"a:", b"a::", b"a:::b", b"a::b:c"] {
            assert!(split_lowers(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(unescape(b"c\\\\d\\e\\"), Path::new("c\\de\\"));
        assert_eq!(unescape_one(b"c\\d\\,e\\"), Path::new("c\\d,e\\"));
    }

    #[test]
    fn files_of_lowers() {
        assert_eq!(lines(b"/a\n/b c\\:\n\n"), [Path::new("/a"), Path::new("/b c\\:")]);
        assert_eq!(lines(b"/a\nb\0/c\0"), [Path::new("/a\nb"), Path::new("/c")]);
    }

    #[test]
    fn long_strings_take_linear_time() {
        let value = b"/a/lower/layer:".repeat(200_000);
        let value = &value[..value.len() - 1];
        let start = std::time::Instant::now();
        assert_eq!(split_lowers(value).unwrap().named.len(), 200_000);
        assert_eq!(split_options(value).len(), 1);
        let many = b"lowerdir+=/a/lower/layer,".repeat(200_000);
        assert_eq!(split_options(&many).len(), 200_000);
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}
