//! A static ELF program that writes a text and ends: 0 if all of it was
//! written, else something else.
//!
//! ```text
//! ELF header 64 | program headers 2 × 56 | instructions | the text
//! ```
//! One segment, read and executed, holds the whole file; a second says that
//! the stack is not executed (System V ABI, gABI chapters 4 and 5). System call
//! numbers and registers are those of syscall(2).

/// For which processors there are instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// By Go's name of it.
    pub fn named(name: &str) -> Option<Architecture> {
        match name {
            "amd64" => Some(Architecture::Amd64),
            "arm64" => Some(Architecture::Arm64),
            _ => None,
        }
    }

    /// `e_machine`.
    fn machine(self) -> u16 {
        match self {
            Architecture::Amd64 => 62,
            Architecture::Arm64 => 183,
        }
    }

    /// What begins a page on every machine of the kind.
    fn page(self) -> u64 {
        match self {
            Architecture::Amd64 => 1 << 12,
            Architecture::Arm64 => 1 << 16,
        }
    }
}

/// Where the file is in memory.
const BASE: u64 = 0x40_0000;
const HEADERS: usize = 64 + 2 * 56;
/// The longest text: AArch64 subtracts twelve bits at once.
const LONGEST: usize = 4095;

/// The program; of a text that is too long, what fits.
pub fn assemble(architecture: Architecture, text: &[u8]) -> Vec<u8> {
    let text = text.get(..LONGEST).unwrap_or(text);
    let len = text.len() as u32;
    let code = match architecture {
        Architecture::Amd64 => amd64(len),
        Architecture::Arm64 => arm64(len),
    };
    let size = (HEADERS + code.len() + text.len()) as u64;
    let mut file = header(architecture);
    segment(&mut file, LOAD, READ | EXECUTE, size, architecture.page());
    segment(&mut file, GNU_STACK, READ | WRITE, 0, 16);
    file.extend(code);
    file.extend_from_slice(text);
    file
}

const LOAD: u32 = 1;
const GNU_STACK: u32 = 0x6474_e551;
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;

/// `Elf64_Ehdr`: 64 bits, little-endian, version 1, an executable.
fn header(architecture: Architecture) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |value: u16, file: &mut Vec<u8>| file.extend(value.to_le_bytes());
    half(2, &mut file);
    half(architecture.machine(), &mut file);
    file.extend(1_u32.to_le_bytes());
    file.extend((BASE + HEADERS as u64).to_le_bytes());
    // Program headers follow, section headers there are none.
    file.extend(64_u64.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    for value in [64, 56, 2, 64, 0, 0] {
        half(value, &mut file);
    }
    file
}

/// `Elf64_Phdr`, from the file's start.
fn segment(file: &mut Vec<u8>, kind: u32, flags: u32, size: u64, align: u64) {
    let address = if kind == LOAD { BASE } else { 0 };
    file.extend(kind.to_le_bytes());
    file.extend(flags.to_le_bytes());
    for value in [0, address, address, size, size, align] {
        file.extend(value.to_le_bytes());
    }
}

fn amd64(len: u32) -> Vec<u8> {
    let to_text: u32 = 20;
    [
        &[0xb8, 1, 0, 0, 0][..], // mov eax, 1 (write)
        &[0xbf, 1, 0, 0, 0],     // mov edi, 1 (stdout)
        &[0xba],
        &len.to_le_bytes(), // mov edx, len
        &[0x48, 0x8d, 0x35],
        &to_text.to_le_bytes(), // lea rsi, [rip + 20]: the text
        &[0x0f, 0x05],          // syscall
        &[0x2d],
        &len.to_le_bytes(),   // sub eax, len
        &[0x0f, 0x95, 0xc0],  // setne al
        &[0x0f, 0xb6, 0xf8],  // movzx edi, al
        &[0xb8, 60, 0, 0, 0], // mov eax, 60 (exit)
        &[0x0f, 0x05],        // syscall
    ]
    .concat()
}

fn arm64(len: u32) -> Vec<u8> {
    let mov = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    let instructions = [
        mov(8, 64),              // mov x8, #64 (write)
        mov(0, 1),               // mov x0, #1 (stdout)
        0x1000_0001 | 7 << 5,    // adr x1, . + 28: the text
        mov(2, len),             // mov x2, #len
        0xd400_0001,             // svc #0
        0xf100_001f | len << 10, // cmp x0, #len
        0x9a9f_07e0,             // cset x0, ne
        mov(8, 93),              // mov x8, #93 (exit)
        0xd400_0001,             // svc #0
    ];
    instructions.iter().flat_map(|instruction| instruction.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    /// Executes a program by `sh`, with its words; none if it cannot be.
    fn run(name: &str, program: &[u8], line: &str) -> Option<Output> {
        let path = std::env::temp_dir().join(format!("runion-program-{name}-{}", std::process::id()));
        let written = path.with_extension("bytes");
        std::fs::write(&written, program).unwrap();
        // What another thread's child inherits open for writing cannot be
        // executed: so a child of its own writes it.
        let install = Command::new("install").args(["-m755"]).args([&written, &path]).status().unwrap();
        assert!(install.success());
        let output = Command::new("sh").args(["-c", line]).env("PROGRAM", &path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&written).unwrap();
        (output.status.code() != Some(127)).then_some(output)
    }

    fn native() -> Option<Architecture> {
        Architecture::named(&layerstore::document::Platform::host().architecture)
    }

    #[test]
    fn it_greets() {
        for (architecture, emulator) in
            [(Architecture::Amd64, "qemu-x86_64-static"), (Architecture::Arm64, "qemu-aarch64-static")]
        {
            let program = assemble(architecture, b"a greeting\n");
            let line = match native() == Some(architecture) {
                true => "\"$PROGRAM\"".to_owned(),
                false => format!("{emulator} \"$PROGRAM\""),
            };
            match run(&format!("{architecture:?}"), &program, &line) {
                Some(output) => {
                    assert_eq!(output.stdout, b"a greeting\n", "{architecture:?}");
                    assert_eq!(output.status.code(), Some(0), "{architecture:?}");
                }
                None => println!("skipped: no {emulator} (apt-get install qemu-user-static)"),
            }
        }
    }

    #[test]
    fn a_text_that_is_not_written_is_a_failure() {
        let Some(architecture) = native() else {
            println!("skipped: there are no instructions for this machine");
            return;
        };
        let program = assemble(architecture, b"a greeting\n");
        let output = run("full", &program, "\"$PROGRAM\" > /dev/full").unwrap();
        assert_eq!(output.status.code(), Some(1));
    }

    /// Where there is no emulator, the assembler that others use is the judge.
    #[test]
    fn instructions_are_what_they_say() {
        for (architecture, words) in [
            (
                Architecture::Amd64,
                &["mov    $0x1,%eax", "lea    0x14(%rip),%rsi", "syscall", "setne  %al"][..],
            ),
            (
                Architecture::Arm64,
                &["mov\tx8, #0x40", "adr\tx1", "svc\t#0", "cset\tx0, ne", "mov\tx8, #0x5d"][..],
            ),
        ] {
            let program = assemble(architecture, b"a greeting\n");
            let machine =
                if architecture == Architecture::Amd64 { "x86_64-linux-gnu" } else { "aarch64-linux-gnu" };
            let binutils = if architecture == Architecture::Amd64 { "i386:x86-64" } else { "aarch64" };
            let line = format!(
                "{machine}-objdump -D -b binary -m {binutils} --start-address={HEADERS} \"$PROGRAM\""
            );
            let Some(output) = run(&format!("objdump-{architecture:?}"), &program, &line) else {
                println!("skipped: no {machine}-objdump");
                continue;
            };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            words.iter().for_each(|word| assert!(text.contains(word), "{word}:\n{text}"));
        }
    }
}
