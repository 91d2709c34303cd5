//! The value of `overlay.redirect`: where in the lower layers the content of a
//! directory or metacopy file is found, when that is not its own name.
//!
//! Either one name (beside the parent's own place) or a path from the root of
//! the layers. It may come from a hostile layer, so every part is a checked
//! [`Name`]: no `..` leads out and no empty part hides anything. Pure.

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::name::{Name, NameBuf};

/// The longest value read, the kernel's limit for any attribute.
pub const VALUE_MAX: usize = 64 << 10;

/// Where to look in the next layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Under this path from the root of each layer, outermost name first.
    Absolute(Vec<NameBuf>),
    /// Under this name, in the same directory.
    Sibling(NameBuf),
}

/// Reads a value.
///
/// # Errors
/// `EINVAL`, with the value in the sentence, for what overlay does not write: an
/// empty value or part, `.` or `..`, a NUL, a relative path of several parts, a
/// part over 255 bytes, more than [`VALUE_MAX`] bytes.
pub fn parse(value: &[u8]) -> Result<Redirect> {
    if value.len() > VALUE_MAX {
        return Err(invalid(value));
    }
    let name = |part| Name::new(part).map(Name::to_buf).map_err(|_| invalid(value));
    match value.strip_prefix(b"/") {
        Some(path) => {
            let names: Result<_> = path.split(|&byte| byte == b'/').map(name).collect();
            Ok(Redirect::Absolute(names?))
        }
        None => Ok(Redirect::Sibling(name(value)?)),
    }
}

fn invalid(value: &[u8]) -> Error {
    // A log line has no use for more than the beginning.
    let shown = value.get(..100).unwrap_or(value).escape_ascii();
    Error::new(Errno::INVAL, format!("redirect \"{shown}\" is not a name or an absolute path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> NameBuf {
        Name::new(bytes).unwrap().to_buf()
    }

    #[test]
    fn a_name_or_a_path_from_the_root() {
        assert_eq!(parse(b"other").unwrap(), Redirect::Sibling(name(b"other")));
        assert_eq!(parse(b"\xff \n").unwrap(), Redirect::Sibling(name(b"\xff \n")));
        let path = Redirect::Absolute(vec![name(b"a"), name(b"..."), name(b"c")]);
        assert_eq!(parse(b"/a/.../c").unwrap(), path);
        let deep = b"/x".repeat(VALUE_MAX / 2);
        assert!(matches!(parse(&deep).unwrap(), Redirect::Absolute(names) if names.len() == 32768));
    }

    #[test]
    fn nothing_leads_out_of_the_layer() {
        let long = [&b"/"[..], &[b'x'; 256]].concat();
        let too_long = b"/x".repeat(VALUE_MAX / 2 + 1);
        for bad in [
            &b""[..],
            b"/",
            b"//",
            b"/a/",
            b"/a//b",
            b"//a",
            b".",
            b"..",
            b"/..",
            b"/a/../b",
            b"/./a",
            b"a/b",
            b"../a",
            b"a/",
            b"a\0",
            b"/a\0b",
            &long,
            &too_long,
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.errno(), Errno::INVAL);
            assert!(error.to_string().len() < 500);
        }
    }
}
