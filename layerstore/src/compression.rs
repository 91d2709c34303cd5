//! Layers and archives as they come: plain, gzip, zstd, xz or bzip2, told apart by
//! their first bytes and never by their name.

pub(crate) mod gzip;

use std::io::{BufRead, BufReader, Read};

use liblzma::stream::Stream;

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

/// Bytes that reading xz may take: twice what `xz -9` makes readers take. Its
/// headers may ask for 4 GiB.
const XZ_MEMORY: u64 = 128 << 20;

/// More threads than this, of one layer, wait for the one that reads.
const MOST_THREADS: usize = 8;

/// How many threads compress one layer.
pub(crate) fn threads() -> u32 {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS) as u32
}

/// Decompresses what needs it; several members or frames in a row are one
/// stream.
///
/// # Errors
/// What reading the first bytes gave.
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
    if head.starts_with(XZ) {
        let stream = Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
        let stream = stream.map_err(|error| Error::new(Kind::System, format!("cannot read xz: {error}")))?;
        return Ok(Box::new(Decoder(liblzma::bufread::XzDecoder::new_stream(reader, stream), "xz")));
    }
    if head.starts_with(BZIP2) {
        return Ok(Box::new(Decoder(bzip2::bufread::MultiBzDecoder::new(reader), "bzip2")));
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
            _ if is_of_memory(&error) => {
                let message = format!("reading the {} data takes more than {} MiB", self.1, XZ_MEMORY >> 20);
                Error::new(Kind::Limit, message).into()
            }
            _ => Error::new(Kind::Corrupt, format!("the {} data is broken: {error}", self.1)).into(),
        })
    }
}

/// Whether a limit of memory was met.
fn is_of_memory(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    inner == Some(&liblzma::stream::Error::MemLimit)
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

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8], dictionary: u32) -> Vec<u8> {
        use liblzma::stream::{Check, Filters, LzmaOptions};
        let mut options = LzmaOptions::new_preset(0).unwrap();
        let mut filters = Filters::new();
        filters.lzma2(options.dict_size(dictionary));
        let stream = Stream::new_stream_encoder(&filters, Check::Crc64).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// In each form that is written in one piece.
    fn forms(bytes: &[u8]) -> [Vec<u8>; 4] {
        [gzip(bytes), zstd::encode_all(bytes, 1).unwrap(), xz(bytes, 1 << 20), bzip2(bytes)]
    }

    #[test]
    fn every_form_gives_the_same() {
        let plain = b"some bytes".repeat(1000);
        assert_eq!(read(&plain), plain);
        for form in forms(&plain) {
            assert_eq!(read(&form), plain);
            assert_eq!(read(&form.repeat(2)), plain.repeat(2), "several in a row are one");
        }
        assert_eq!(read(b""), b"");
    }

    #[test]
    fn what_is_cut_off_or_changed_is_an_error() {
        let plain: Vec<u8> = (0..20_000_u32).map(|n| ((n * n) >> 7) as u8).collect();
        for compressed in forms(&plain) {
            let mut changed = compressed.clone();
            changed[compressed.len() / 2] ^= 0x10;
            let mut out = Vec::new();
            assert!(decompress(&compressed[..compressed.len() - 5]).unwrap().read_to_end(&mut out).is_err());
            out.clear();
            // Without a checksum zstd may not notice.
            assert!(decompress(&changed[..]).unwrap().read_to_end(&mut out).is_err() || out != plain);
        }
    }

    #[test]
    fn an_archive_says_how_much_memory_it_wants_and_does_not_get_it() {
        let mut out = Vec::new();
        let wants = xz(b"little", 1 << 29);
        let error = Error::from(decompress(&wants[..]).unwrap().read_to_end(&mut out).unwrap_err());
        assert_eq!((error.kind(), out.len()), (Kind::Limit, 0), "{error}");
        assert!(error.message().contains("128 MiB"), "{error}");
    }

    /// By the programs that users have.
    #[test]
    fn what_others_wrote_is_read() {
        let plain = b"some bytes".repeat(100_000);
        for (program, arguments) in [("xz", "-9c"), ("bzip2", "-9c"), ("gzip", "-9c"), ("zstd", "-19c")] {
            let pipe = std::process::Stdio::piped;
            let mut command = std::process::Command::new(program);
            let Ok(mut child) = command.arg(arguments).stdin(pipe()).stdout(pipe()).spawn() else {
                println!("skipped: no {program}");
                continue;
            };
            let mut stdin = child.stdin.take().unwrap();
            let packed = std::thread::scope(|scope| {
                let plain = &plain;
                scope.spawn(move || stdin.write_all(plain).unwrap());
                child.wait_with_output().unwrap().stdout
            });
            assert!(read(&packed) == plain, "{program}");
        }
    }
}
