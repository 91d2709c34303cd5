//! What goes to a screen must not steer it: names, commands and comments of an
//! image are anybody's words, and a terminal obeys escape sequences in them.
//!
//! Where output is no screen it is left alone: programs want what is there.

use std::borrow::Cow;

/// The text with `?` for each control character but new lines and tabs; what
/// is no UTF-8 stays, for no terminal obeys that.
pub fn harmless(text: &[u8]) -> Cow<'_, [u8]> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let is_harmless = text
        .utf8_chunks()
        .all(|chunk| !chunk.valid().contains(steers) && chunk.invalid().iter().all(u8::is_ascii));
    if is_harmless {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().replace(steers, "?").as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn control_characters_become_question_marks() {
        for (text, shown) in [
            (&b"plain\ttext\n"[..], &b"plain\ttext\n"[..]),
            ("ä…└".as_bytes(), "ä…└".as_bytes()),
            (b"\x1b[2Jgone\r\x07\x7f", b"?[2Jgone???"),
            ("\u{9b}31m".as_bytes(), b"?31m"),
            (b"\xff\x1bx\xc3", b"\xff?x\xc3"),
        ] {
            assert_eq!(&*harmless(text), shown, "{text:?}");
        }
    }
}
