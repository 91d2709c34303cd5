//! Layers and archives as they come: plain, gzip or zstd, told apart by their
//! first bytes and never by their name.

pub(crate) mod gzip;

use std::io::{BufRead, BufReader, Read};

use crate::error::{Error, Kind, Result};

/// How much is read at once.
const BUFFER: usize = 1 << 17;

/// The bytes that compressed data begins with.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable frames, as zstd:chunked begins with none but may: `0x184D2A5?`.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2: &[u8] = b"BZh";

/// Decompresses what needs it; several members or frames in a row are one
/// stream.
///
/// # Errors
/// What reading the first bytes gave; [`Kind::Invalid`] for compressions that
/// are not known here.
pub fn decompress<'r>(reader: impl Read + 'r) -> Result<Box<dyn Read + 'r>> {
    let mut reader = BufReader::with_capacity(BUFFER, Source(reader));
    let head = reader.fill_buf()?;
    if head.starts_with(GZIP) {
        return Ok(Box::new(Decoder(flate2::bufread::MultiGzDecoder::new(reader), "gzip")));
    }
    let is_skippable =
        head.get(1..4) == Some(ZSTD_SKIPPABLE) && head.first().is_some_and(|first| first >> 4 == 5);
    if head.starts_with(ZSTD) || is_skippable {
        return Ok(Box::new(Decoder(zstd::Decoder::with_buffer(reader)?, "zstd")));
    }
    for (magic, name, program) in [(XZ, "xz", "xz"), (BZIP2, "bzip2", "bzip2")] {
        if head.starts_with(magic) {
            return Err(Error::new(
                Kind::Invalid,
                format!("{name} is not among the compressions that are read: gzip, zstd"),
            )
            .hint(format!("decompress it first: {program} -dc FILE | runion load")));
        }
    }
    Ok(Box::new(reader))
}

/// What is decompressed; its errors are ours, which decoders pass on as they are.
struct Source<R>(R);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::Interrupted => error,
            _ => Error::from(error).into(),
        })
    }
}

/// A decoder: every error that its source has not had is one of the data.
struct Decoder<R>(R, &'static str);

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::Interrupted => error,
            _ if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => error,
            _ => Error::new(Kind::Corrupt, format!("the {} data is broken: {error}", self.1)).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        decompress(bytes).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_form_gives_the_same() {
        let plain = b"some bytes".repeat(1000);
        let twice = [gzip(&plain), gzip(&plain)].concat();
        assert_eq!(read(&plain), plain);
        assert_eq!(read(&gzip(&plain)), plain);
        assert_eq!(read(&twice), plain.repeat(2));
        assert_eq!(read(&zstd::encode_all(&plain[..], 1).unwrap()), plain);
        assert_eq!(read(b""), b"");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let plain = b"some bytes".repeat(1000);
        for compressed in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
            let cut = &compressed[..compressed.len() - 5];
            let mut out = Vec::new();
            assert!(decompress(cut).unwrap().read_to_end(&mut out).is_err());
        }
    }

    #[test]
    fn other_compressions_are_named() {
        let error = decompress(&b"\xfd7zXZ\0rest"[..]).err().unwrap();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().contains("xz"), "{error}");
    }
}
