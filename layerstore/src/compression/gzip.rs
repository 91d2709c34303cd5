//! Gzip by several threads.
//!
//! As pigz does: blocks of the input are compressed by themselves, each with the
//! end of the one before it as its dictionary, and each ends at a byte (RFC 1951,
//! a stored block of no length); one after the other they are one member, which
//! every reader of gzip reads. The bytes depend on the input alone, and not on how
//! many threads there are.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::error::{Error, Kind, Result};

/// What is compressed by itself: the ends of blocks cost nothing to speak of, and
/// a layer of a few megabytes keeps several threads busy.
const BLOCK: usize = 1 << 20;

/// As far back as deflate looks.
const DICTIONARY: usize = 32 << 10;

/// Deflate, no name, no time, on no system (RFC 1952).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The last block, of nothing.
const END: [u8; 2] = [3, 0];

struct Block {
    dictionary: Vec<u8>,
    bytes: Vec<u8>,
}

struct Packed {
    bytes: Vec<u8>,
    crc: Crc,
}

type Job = (Block, SyncSender<Result<Packed>>);

/// Compresses a stream. In memory are two blocks for each thread and what becomes
/// of them.
///
/// # Errors
/// What reading or writing gave.
pub fn compress(mut from: impl Read, mut to: impl Write, level: u32) -> Result<()> {
    let threads = super::threads() as usize;
    let (jobs, taken) = sync_channel::<Job>(threads);
    let taken = Mutex::new(taken);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&taken, level));
        }
        // Dropped at the end, whatever that is: then the threads end, too.
        let jobs = jobs;
        to.write_all(&HEADER)?;
        let mut sum = Crc::new();
        let mut waiting: VecDeque<Receiver<Result<Packed>>> = VecDeque::new();
        let mut dictionary = Vec::new();
        loop {
            let mut bytes = Vec::with_capacity(BLOCK);
            from.by_ref().take(BLOCK as u64).read_to_end(&mut bytes)?;
            let ends = bytes.is_empty();
            if !ends {
                let next = bytes.get(bytes.len().saturating_sub(DICTIONARY)..).unwrap_or_default().to_vec();
                let block = Block { dictionary: std::mem::replace(&mut dictionary, next), bytes };
                let (packed, receiver) = sync_channel(1);
                jobs.send((block, packed)).map_err(|_| died())?;
                waiting.push_back(receiver);
            }
            while ends || waiting.len() > threads {
                let Some(first) = waiting.pop_front() else { break };
                let packed = first.recv().map_err(|_| died())??;
                sum.combine(&packed.crc);
                to.write_all(&packed.bytes)?;
            }
            if ends {
                break;
            }
        }
        to.write_all(&END)?;
        to.write_all(&sum.sum().to_le_bytes())?;
        Ok(to.write_all(&sum.amount().to_le_bytes())?)
    })
}

fn died() -> Error {
    Error::new(Kind::System, "a thread died while it compressed")
}

/// Takes blocks until there are none.
fn work(jobs: &Mutex<Receiver<Job>>, level: u32) {
    let mut deflate = Compress::new(Compression::new(level), false);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((block, packed)) = job else { return };
        // Nobody waits for it where an earlier one failed.
        packed.send(pack(&mut deflate, &block)).unwrap_or_default();
    }
}

fn pack(deflate: &mut Compress, block: &Block) -> Result<Packed> {
    let failed = |error| Error::new(Kind::System, format!("cannot compress: {error}"));
    deflate.reset();
    if !block.dictionary.is_empty() {
        deflate.set_dictionary(&block.dictionary).map_err(failed)?;
    }
    let mut bytes = Vec::with_capacity(block.bytes.len() / 2 + 4096);
    loop {
        let done = deflate.total_in() as usize;
        let rest = block.bytes.get(done..).unwrap_or_default();
        deflate.compress_vec(rest, &mut bytes, FlushCompress::Sync).map_err(failed)?;
        // Room that is left says that all of it is out.
        if bytes.len() < bytes.capacity() && deflate.total_in() as usize == block.bytes.len() {
            break;
        }
        bytes.reserve(block.bytes.len() / 4 + 4096);
    }
    let mut crc = Crc::new();
    crc.update(&block.bytes);
    Ok(Packed { bytes, crc })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        compress(bytes, &mut packed, 4).unwrap();
        packed
    }

    /// Text that repeats itself over the borders of blocks, noise, and zeros.
    fn samples() -> Vec<Vec<u8>> {
        let text: Vec<u8> = (0..250_000_u32).flat_map(|n| (n / 7).to_string().into_bytes()).collect();
        let noise: Vec<u8> =
            (0..BLOCK as u32 + 7).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let lens = [0, 1, BLOCK, text.len()];
        lens.iter().map(|len| text[..*len].to_vec()).chain([noise, vec![0; 2 * BLOCK + 5]]).collect()
    }

    #[test]
    fn every_reader_reads_it() {
        for sample in samples() {
            let packed = packed(&sample);
            let mut back = Vec::new();
            // Of one member, and nothing behind it.
            let mut decoder = flate2::bufread::GzDecoder::new(&packed[..]);
            decoder.read_to_end(&mut back).unwrap();
            assert!(back == sample, "{} bytes", sample.len());
            assert!(decoder.into_inner().is_empty());
            let mut gzip = std::process::Command::new("gzip");
            let pipe = std::process::Stdio::piped;
            let mut child = gzip.arg("-dc").stdin(pipe()).stdout(pipe()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || stdin.write_all(&packed).unwrap());
                assert!(child.wait_with_output().unwrap().stdout == sample);
            });
        }
    }

    #[test]
    fn blocks_cost_nothing_to_speak_of() {
        for sample in samples().into_iter().skip(3) {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::new(4));
            encoder.write_all(&sample).unwrap();
            let (alone, packed) = (encoder.finish().unwrap().len(), packed(&sample).len());
            assert!(packed <= alone + alone / 50 + 100, "{packed} of {alone}");
        }
    }

    #[test]
    fn a_source_or_a_sink_that_fails_ends_it() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(Error::new(Kind::Corrupt, "broken").into())
            }
        }
        let source = std::io::repeat(1).take(5 << 20).chain(Fails);
        assert_eq!(compress(source, std::io::sink(), 4).unwrap_err().kind(), Kind::Corrupt);
        let full = &mut [0; 3000][..];
        assert!(compress(std::io::repeat(1).take(50 << 20), full, 4).is_err());
    }
}
