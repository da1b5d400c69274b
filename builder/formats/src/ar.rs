//! The `ar` archive that a `.deb` is ([deb(5)]; the common format of [ar(5)], without symbol or long-name tables).
//!
//! [deb(5)]: https://manpages.debian.org/deb.5
//! [ar(5)]: https://man.freebsd.org/ar/5

/// The eight bytes every archive starts with.
pub const MAGIC: &[u8; 8] = b"!<arch>\n";

const HEADER_LEN: usize = 60;
/// Times are twelve decimal digits, enough until the year 33658; a later one is clamped.
const MAX_MTIME: u64 = 999_999_999_999;
/// Sizes are ten decimal digits.
const MAX_SIZE: u64 = 9_999_999_999;

/// Why an archive could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArError {
    /// A member name must be 1 to 15 printable ASCII characters without space or slash.
    #[error("{0:?} is not a member name")]
    Name(String),
    /// A member would be larger than the ten digits of its size field can say.
    #[error("member {0} is larger than 9999999999 bytes")]
    TooLarge(String),
    /// The bytes are not an archive. The offset is in bytes from the start.
    #[error("not an ar archive at byte {offset}: {reason}")]
    Malformed {
        /// Offset of the header or member concerned.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
}

/// Writes an archive into memory. Members are written in place, so that large ones are not copied.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    mtime: u64,
}

impl Writer {
    /// An empty archive; every member gets `mtime` (Unix seconds), owner 0:0 and mode 100644.
    pub fn new(mtime: u64) -> Self {
        Self::append_to(MAGIC.to_vec(), mtime)
    }

    /// Continues an archive that is there already.
    pub fn append_to(archive: Vec<u8>, mtime: u64) -> Self {
        Self {
            out: archive,
            mtime: mtime.min(MAX_MTIME),
        }
    }

    /// Appends a member.
    ///
    /// # Errors
    /// [`ArError::Name`], [`ArError::TooLarge`].
    pub fn member(&mut self, name: &str, data: &[u8]) -> Result<(), ArError> {
        self.member_with(name, |mut out| {
            out.extend_from_slice(data);
            Ok(out)
        })
    }

    /// Appends a member whose bytes `fill` appends to the vector that it is given and gives back.
    ///
    /// # Errors
    /// What `fill` returns, [`ArError::Name`], [`ArError::TooLarge`]. The writer is empty afterwards and of no more use.
    pub fn member_with<E: From<ArError>>(
        &mut self,
        name: &str,
        fill: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let valid = (1..=15).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if !valid {
            return Err(ArError::Name(name.to_owned()).into());
        }
        let mut out = std::mem::take(&mut self.out);
        if out.len() % 2 == 1 {
            out.push(b'\n');
        }
        let header = out.len();
        out.resize(header + HEADER_LEN, b' ');
        out = fill(out)?;
        let size = (out.len() - header - HEADER_LEN) as u64;
        if size > MAX_SIZE {
            return Err(ArError::TooLarge(name.to_owned()).into());
        }
        let text = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n",
            self.mtime, 0, 0, "100644"
        );
        out[header..header + HEADER_LEN].copy_from_slice(&text.as_bytes()[..HEADER_LEN]);
        self.out = out;
        Ok(())
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        if self.out.len() % 2 == 1 {
            self.out.push(b'\n');
        }
        self.out
    }
}

/// One member of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Name without padding or the trailing slash that some writers add.
    pub name: &'a str,
    /// Modification time, Unix seconds.
    pub mtime: u64,
    /// The member's bytes.
    pub data: &'a [u8],
}

/// Lists the members of an archive; their data are slices of it.
///
/// # Errors
/// [`ArError::Malformed`].
pub fn read(archive: &[u8]) -> Result<Vec<Member<'_>>, ArError> {
    let malformed = |offset, reason| ArError::Malformed { offset, reason };
    if !archive.starts_with(MAGIC) {
        return Err(malformed(0, "no !<arch> line"));
    }
    let mut members = Vec::new();
    let mut at = MAGIC.len();
    while at < archive.len() {
        let header = archive
            .get(at..at + HEADER_LEN)
            .ok_or(malformed(at, "header cut off"))?;
        if &header[58..] != b"`\n" {
            return Err(malformed(at, "header does not end in its magic"));
        }
        let name = field(&header[..16]).ok_or(malformed(at, "member name"))?;
        let mtime = number(&header[16..28]).ok_or(malformed(at, "modification time"))?;
        let size = number(&header[48..58]).ok_or(malformed(at, "size"))?;
        let start = at + HEADER_LEN;
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| start.checked_add(size));
        let data = end
            .and_then(|end| archive.get(start..end))
            .ok_or(malformed(at, "member cut off"))?;
        members.push(Member {
            name: name.strip_suffix('/').unwrap_or(name),
            mtime,
            data,
        });
        at = start + data.len() + data.len() % 2;
    }
    Ok(members)
}

fn field(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .map(|text| text.trim_end_matches(' '))
        .filter(|text| !text.is_empty())
}

fn number(bytes: &[u8]) -> Option<u64> {
    field(bytes)
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests;
