//! A request as the kernel sent it, decoded: bytes in, one [`Operation`] out.
//!
//! Pure: no system call, no decision, no panic whatever the bytes say. What is
//! cut short or has no end is [`Malformed`]; what is not known is
//! [`Operation::Unknown`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::abi::{self, InHeader};

/// A request whose bytes are not what its opcode promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// The bytes behind a request's header, as a transport delivers them.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// In one piece, as `/dev/fuse` has them.
    Whole(&'a [u8]),
    /// The fixed structure and the rest apart, as an io_uring entry has them.
    Split {
        /// Room for the structure; what lies behind it means nothing.
        fixed: &'a [u8],
        /// Names and data.
        rest: &'a [u8],
    },
}

impl<'a> Body<'a> {
    /// Takes the fixed structure off.
    fn fixed<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T> {
        match self {
            Body::Whole(bytes) => {
                let (value, rest) = T::read_from_prefix(bytes).map_err(|_| Malformed)?;
                *bytes = rest;
                Ok(value)
            }
            Body::Split { fixed, .. } => {
                T::read_from_prefix(fixed).map(|(value, _)| value).map_err(|_| Malformed)
            }
        }
    }

    /// What follows the fixed structure.
    fn rest(&self) -> &'a [u8] {
        match self {
            Body::Whole(bytes) => bytes,
            Body::Split { rest, .. } => rest,
        }
    }

    /// A name, and what follows it.
    fn name(&self) -> Result<(&'a OsStr, &'a [u8])> {
        take_name(self.rest())
    }
}

/// A name ended by a NUL, and what follows it.
fn take_name(bytes: &[u8]) -> Result<(&OsStr, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0).ok_or(Malformed)?;
    let (name, rest) = bytes.split_at(end);
    Ok((OsStr::from_bytes(name), rest.get(1..).unwrap_or_default()))
}

/// Which form SETXATTR has, as INIT settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetxattrForm {
    /// Size and flags.
    Short,
    /// With flags of the protocol's own (SETXATTR_EXT).
    Long,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks, and about which node.
    pub header: InHeader,
    /// What is asked.
    pub operation: Operation<'a>,
}

/// What a request asks for. Structures are the protocol's own.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "named as in linux/fuse.h")]
pub enum Operation<'a> {
    Lookup {
        name: &'a OsStr,
    },
    Forget {
        count: u64,
    },
    BatchForget(Forgets<'a>),
    Getattr,
    Statx,
    Setattr(abi::SetattrIn),
    Readlink,
    Symlink {
        name: &'a OsStr,
        target: &'a OsStr,
    },
    Mknod {
        name: &'a OsStr,
        node: abi::MknodIn,
    },
    Mkdir {
        name: &'a OsStr,
        dir: abi::MkdirIn,
    },
    Unlink {
        name: &'a OsStr,
    },
    Rmdir {
        name: &'a OsStr,
    },
    Rename {
        name: &'a OsStr,
        new_parent: u64,
        new_name: &'a OsStr,
        flags: u32,
    },
    Link {
        node: u64,
        name: &'a OsStr,
    },
    Open(abi::OpenIn),
    Create {
        name: &'a OsStr,
        file: abi::CreateIn,
    },
    Tmpfile {
        file: abi::CreateIn,
    },
    Read(abi::ReadIn),
    Write {
        at: abi::WriteIn,
        data: &'a [u8],
    },
    Release,
    Flush,
    Fsync {
        data_only: bool,
    },
    Opendir,
    Readdir(abi::ReadIn),
    Readdirplus(abi::ReadIn),
    Releasedir,
    Fsyncdir,
    Statfs,
    Syncfs,
    Setxattr {
        name: &'a OsStr,
        value: &'a [u8],
        flags: u32,
        kill_sgid: bool,
    },
    Getxattr {
        name: &'a OsStr,
        size: u32,
    },
    Listxattr {
        size: u32,
    },
    Removexattr {
        name: &'a OsStr,
    },
    Fallocate(abi::FallocateIn),
    Lseek(abi::LseekIn),
    CopyFileRange(abi::CopyIn),
    CopyFileRange64(abi::CopyIn),
    Ioctl,
    Init(abi::InitIn),
    Destroy,
    /// Everything this server does not do.
    Unknown,
}

/// The nodes of a BATCH_FORGET, each with its count.
#[derive(Clone, Copy, Debug)]
pub struct Forgets<'a>(&'a [u8]);

impl Forgets<'_> {
    /// Node and count, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = abi::ForgetOne> {
        self.0
            .chunks_exact(size_of::<abi::ForgetOne>())
            .filter_map(|one| abi::ForgetOne::read_from_bytes(one).ok())
    }
}

impl<'a> Request<'a> {
    /// Decodes a request that lies in one piece, header first.
    ///
    /// # Errors
    /// [`Malformed`], without the header where even that is cut short.
    pub fn whole(bytes: &'a [u8], form: SetxattrForm) -> std::result::Result<Request<'a>, Option<InHeader>> {
        let (header, body) = InHeader::read_from_prefix(bytes).map_err(|_| None)?;
        Request::decode(header, Body::Whole(body), form).map_err(|Malformed| Some(header))
    }

    /// Decodes what follows a header.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(header: InHeader, body: Body<'a>, form: SetxattrForm) -> Result<Request<'a>> {
        let operation = match header.opcode {
            abi::SETATTR | abi::STATX | abi::GETATTR | abi::READLINK => of_attributes(header.opcode, body)?,
            abi::SETXATTR | abi::GETXATTR | abi::LISTXATTR | abi::REMOVEXATTR => {
                of_xattrs(header.opcode, body, form)?
            }
            abi::OPEN..=abi::WRITE
            | abi::RELEASE
            | abi::FSYNC
            | abi::FLUSH
            | abi::FALLOCATE
            | abi::LSEEK
            | abi::COPY_FILE_RANGE
            | abi::COPY_FILE_RANGE_64
            | abi::IOCTL => of_data(header.opcode, body)?,
            abi::OPENDIR..=abi::FSYNCDIR | abi::READDIRPLUS => of_directories(header.opcode, body)?,
            abi::INIT => Operation::Init(init(body)?),
            abi::DESTROY => Operation::Destroy,
            abi::STATFS => Operation::Statfs,
            abi::SYNCFS => Operation::Syncfs,
            opcode => of_names(opcode, body)?,
        };
        Ok(Request { header, operation })
    }
}

fn of_attributes(opcode: u32, mut body: Body<'_>) -> Result<Operation<'_>> {
    Ok(match opcode {
        abi::SETATTR => Operation::Setattr(body.fixed()?),
        abi::STATX => Operation::Statx,
        abi::READLINK => Operation::Readlink,
        _ => Operation::Getattr,
    })
}

fn of_names(opcode: u32, mut body: Body<'_>) -> Result<Operation<'_>> {
    Ok(match opcode {
        abi::LOOKUP => Operation::Lookup { name: body.name()?.0 },
        abi::FORGET => Operation::Forget { count: body.fixed::<abi::ForgetIn>()?.nlookup },
        abi::BATCH_FORGET => {
            let batch: abi::BatchForgetIn = body.fixed()?;
            let len = (batch.count as usize).checked_mul(size_of::<abi::ForgetOne>()).ok_or(Malformed)?;
            Operation::BatchForget(Forgets(body.rest().get(..len).ok_or(Malformed)?))
        }
        abi::SYMLINK => {
            let (name, rest) = body.name()?;
            Operation::Symlink { name, target: take_name(rest)?.0 }
        }
        abi::MKNOD => {
            let node = body.fixed()?;
            Operation::Mknod { name: body.name()?.0, node }
        }
        abi::MKDIR => {
            let dir = body.fixed()?;
            Operation::Mkdir { name: body.name()?.0, dir }
        }
        abi::UNLINK => Operation::Unlink { name: body.name()?.0 },
        abi::RMDIR => Operation::Rmdir { name: body.name()?.0 },
        abi::RENAME => {
            let to: abi::RenameIn = body.fixed()?;
            rename(body, to.newdir, 0)?
        }
        abi::RENAME2 => {
            let to: abi::Rename2In = body.fixed()?;
            rename(body, to.newdir, to.flags)?
        }
        abi::LINK => {
            let link: abi::LinkIn = body.fixed()?;
            Operation::Link { node: link.oldnodeid, name: body.name()?.0 }
        }
        abi::CREATE => {
            let file = body.fixed()?;
            Operation::Create { name: body.name()?.0, file }
        }
        abi::TMPFILE => Operation::Tmpfile { file: body.fixed()? },
        _ => Operation::Unknown,
    })
}

fn rename(body: Body<'_>, new_parent: u64, flags: u32) -> Result<Operation<'_>> {
    let (name, rest) = body.name()?;
    Ok(Operation::Rename { name, new_parent, new_name: take_name(rest)?.0, flags })
}

fn of_data(opcode: u32, mut body: Body<'_>) -> Result<Operation<'_>> {
    Ok(match opcode {
        abi::OPEN => Operation::Open(body.fixed()?),
        abi::READ => Operation::Read(body.fixed()?),
        abi::WRITE => {
            let at: abi::WriteIn = body.fixed()?;
            Operation::Write { at, data: body.rest().get(..at.size as usize).ok_or(Malformed)? }
        }
        abi::RELEASE => Operation::Release,
        abi::FLUSH => Operation::Flush,
        abi::FSYNC => {
            let fsync: abi::FsyncIn = body.fixed()?;
            Operation::Fsync { data_only: fsync.fsync_flags & abi::FSYNC_FDATASYNC != 0 }
        }
        abi::FALLOCATE => Operation::Fallocate(body.fixed()?),
        abi::LSEEK => Operation::Lseek(body.fixed()?),
        abi::COPY_FILE_RANGE => Operation::CopyFileRange(body.fixed()?),
        abi::COPY_FILE_RANGE_64 => Operation::CopyFileRange64(body.fixed()?),
        abi::IOCTL => Operation::Ioctl,
        _ => Operation::Unknown,
    })
}

fn of_directories(opcode: u32, mut body: Body<'_>) -> Result<Operation<'_>> {
    Ok(match opcode {
        abi::OPENDIR => Operation::Opendir,
        abi::READDIR => Operation::Readdir(body.fixed()?),
        abi::READDIRPLUS => Operation::Readdirplus(body.fixed()?),
        abi::RELEASEDIR => Operation::Releasedir,
        abi::FSYNCDIR => Operation::Fsyncdir,
        _ => Operation::Unknown,
    })
}

fn of_xattrs(opcode: u32, mut body: Body<'_>, form: SetxattrForm) -> Result<Operation<'_>> {
    Ok(match opcode {
        abi::SETXATTR => {
            let set = match form {
                SetxattrForm::Long => body.fixed()?,
                SetxattrForm::Short => {
                    let short: abi::SetxattrIn = body.fixed()?;
                    abi::SetxattrLongIn { size: short.size, flags: short.flags, ..Default::default() }
                }
            };
            let (name, rest) = body.name()?;
            Operation::Setxattr {
                name,
                value: rest.get(..set.size as usize).ok_or(Malformed)?,
                flags: set.flags,
                kill_sgid: set.setxattr_flags & abi::SETXATTR_ACL_KILL_SGID != 0,
            }
        }
        abi::GETXATTR => {
            let get: abi::GetxattrIn = body.fixed()?;
            Operation::Getxattr { name: body.name()?.0, size: get.size }
        }
        abi::LISTXATTR => Operation::Listxattr { size: body.fixed::<abi::GetxattrIn>()?.size },
        abi::REMOVEXATTR => Operation::Removexattr { name: body.name()?.0 },
        _ => Operation::Unknown,
    })
}

/// INIT of kernels before 5.17 ends after the first flags.
fn init(body: Body<'_>) -> Result<abi::InitIn> {
    let mut bytes = [0; size_of::<abi::InitIn>()];
    let sent = body.rest();
    let len = sent.len().min(bytes.len());
    if len < 16 {
        return Err(Malformed);
    }
    bytes[..len].copy_from_slice(&sent[..len]);
    abi::InitIn::read_from_bytes(&bytes).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn header(opcode: u32) -> InHeader {
        InHeader { opcode, nodeid: 1, unique: 2, ..Default::default() }
    }

    fn bytes_of(opcode: u32, fixed: &[u8], rest: &[u8]) -> Vec<u8> {
        [header(opcode).as_bytes(), fixed, rest].concat()
    }

    #[test]
    fn both_forms_of_a_body_say_the_same() {
        let at = abi::WriteIn { fh: 7, offset: 9, size: 3, ..Default::default() };
        let whole = bytes_of(abi::WRITE, at.as_bytes(), b"abc");
        let Ok(Request { operation: Operation::Write { data, .. }, .. }) =
            Request::whole(&whole, SetxattrForm::Long)
        else {
            panic!("a WRITE is a WRITE");
        };
        assert_eq!(data, b"abc");
        // An entry has room for the largest structure, and old bytes in it.
        let mut fixed = [0xff; 128];
        fixed[..40].copy_from_slice(at.as_bytes());
        let split = Body::Split { fixed: &fixed, rest: b"abcdef" };
        let request = Request::decode(header(abi::WRITE), split, SetxattrForm::Long).unwrap();
        assert!(matches!(request.operation, Operation::Write { at, data: b"abc" } if at.offset == 9));
        let split = Body::Split { fixed: &fixed, rest: b"name\0" };
        let request = Request::decode(header(abi::LOOKUP), split, SetxattrForm::Long).unwrap();
        assert!(matches!(request.operation, Operation::Lookup { name } if name == "name"));
    }

    #[test]
    fn setxattr_has_two_forms() {
        let long = abi::SetxattrLongIn { size: 2, flags: 1, setxattr_flags: 1, padding: 0 };
        let bytes = bytes_of(abi::SETXATTR, long.as_bytes(), b"user.a\0xy");
        let request = Request::whole(&bytes, SetxattrForm::Long).unwrap();
        assert!(matches!(request.operation, Operation::Setxattr { value: b"xy", kill_sgid: true, .. }));
        let short = abi::SetxattrIn { size: 2, flags: 1 };
        let bytes = bytes_of(abi::SETXATTR, short.as_bytes(), b"user.a\0xy");
        let request = Request::whole(&bytes, SetxattrForm::Short).unwrap();
        assert!(matches!(request.operation, Operation::Setxattr { value: b"xy", kill_sgid: false, .. }));
    }

    #[test]
    fn what_is_cut_short_is_malformed() {
        let at = abi::WriteIn { size: 4, ..Default::default() };
        for (opcode, fixed, rest) in [
            (abi::WRITE, at.as_bytes(), &b"abc"[..]),
            (abi::LOOKUP, b"", b"no end"),
            (abi::RENAME, abi::RenameIn { newdir: 1 }.as_bytes(), b"one\0"),
            (abi::BATCH_FORGET, abi::BatchForgetIn { count: 2, dummy: 0 }.as_bytes(), &[0; 16]),
            (abi::INIT, b"", &[0; 12]),
        ] {
            let bytes = bytes_of(opcode, fixed, rest);
            assert!(Request::whole(&bytes, SetxattrForm::Long).is_err(), "opcode {opcode}");
        }
        assert!(matches!(Request::whole(&[0; 39], SetxattrForm::Long), Err(None)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn no_bytes_make_it_panic(opcode in 0u32..60, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = bytes_of(opcode, &body, &[]);
            for form in [SetxattrForm::Short, SetxattrForm::Long] {
                if let Ok(Request { operation: Operation::BatchForget(forgets), .. }) = Request::whole(&bytes, form) {
                    prop_assert!(forgets.iter().count() <= body.len() / 16);
                }
                let split = Body::Split { fixed: &body, rest: &body };
                // Both outcomes are fine; that there is one is what counts.
                Request::decode(header(opcode), split, form).ok();
            }
        }
    }
}
