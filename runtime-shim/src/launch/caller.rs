//! What the caller was started with, its words and its variables, lies in the memory of
//! whatever is forked from it, and /proc shows it: an init's for as long as the container
//! runs, to whoever may look at all processes there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What /proc shows of a process that has forgotten.
const NAME: &[u8] = b"runion init";

/// Overwrites it, in this process alone.
///
/// The kernel tells where it lies (proc_pid_stat(5)). It takes the words for a name that
/// the process has given itself, which ends with its first zero byte, if their own last
/// byte is none.
pub fn forget() -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let [words_begin, words_end, variables_begin, variables_end] = places(&stat)?;
    let memory = File::options().write(true).open("/proc/self/mem")?;
    let zeros = |begin: u64, end: u64| vec![0; usize::try_from(end.saturating_sub(begin)).unwrap_or(0)];
    memory.write_all_at(&zeros(variables_begin, variables_end), variables_begin)?;
    let mut words = zeros(words_begin, words_end);
    let shown = NAME.len().min(words.len().saturating_sub(2));
    words.iter_mut().zip(NAME).take(shown).for_each(|(byte, letter)| *byte = *letter);
    if let Some(last) = words.last_mut() {
        *last = b' ';
    }
    memory.write_all_at(&words, words_begin)
}

/// Fields 48 to 51; the second is a name in parentheses, with whatever in it.
fn places(stat: &str) -> io::Result<[u64; 4]> {
    let fields = stat.rsplit_once(')').map_or("", |(_name, rest)| rest);
    let found: Vec<u64> =
        fields.split_whitespace().skip(45).take(4).filter_map(|field| field.parse().ok()).collect();
    <[u64; 4]>::try_from(found).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_where_it_lies() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let [begin, end, ..] = places(&stat).unwrap();
        let mut words = vec![0; (end - begin) as usize];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut words, begin).unwrap();
        assert_eq!(words, std::fs::read("/proc/self/cmdline").unwrap());
        assert!(places("1 (a) b) S 1 2").is_err());
    }
}
