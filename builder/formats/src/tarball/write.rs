//! The writer: GNU headers, one after the other.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::{Node, Tree};

const BLOCK: usize = 512;
/// Room for names in a header; longer ones go into an entry of their own before it.
const NAME_LEN: usize = 100;
const ZEROES: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

impl Tree<'_> {
    /// Writes the archive. All modification times are `epoch` (Unix seconds), at least 1 because dpkg-source and others
    /// take 0 for a mistake.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn write_to<W: Write>(&self, out: &mut W, epoch: u64) -> io::Result<()> {
        let mut name = Vec::with_capacity(256);
        for (path, node) in &self.nodes {
            name.clear();
            name.extend_from_slice(b"./");
            name.extend_from_slice(path.as_bytes());
            let (kind, mode, content, target): (_, _, &[u8], &str) = match *node {
                Node::File { content, mode } => (EntryType::Regular, mode, content, ""),
                Node::Symlink { target } => (EntryType::Symlink, 0o777, &[], target),
                Node::Directory { mode } => {
                    if !path.is_empty() {
                        name.push(b'/');
                    }
                    (EntryType::Directory, mode, &[], "")
                }
            };
            if target.len() > NAME_LEN {
                long_name(out, EntryType::GNULongLink, target.as_bytes())?;
            }
            if name.len() > NAME_LEN {
                long_name(out, EntryType::GNULongName, &name)?;
            }
            let mut header = header(kind, &name, content.len() as u64);
            header.set_mode(mode);
            header.set_mtime(epoch.max(1));
            set_bytes(&mut header.as_old_mut().linkname, target.as_bytes());
            finish(out, header, content)?;
        }
        out.write_all(&ZEROES)
    }

    /// How many bytes [`Tree::write_to`] writes.
    pub fn tar_len(&self) -> u64 {
        let long = |len: usize| {
            if len > NAME_LEN {
                BLOCK + (len + 1).next_multiple_of(BLOCK)
            } else {
                0
            }
        };
        let len = |(path, node): (&&str, &Node<'_>)| {
            let name = "./".len() + path.len();
            let len = BLOCK
                + match node {
                    Node::File { content, .. } => {
                        long(name) + content.len().next_multiple_of(BLOCK)
                    }
                    Node::Symlink { target } => long(name) + long(target.len()),
                    Node::Directory { .. } => long(name + usize::from(!path.is_empty())),
                };
            len as u64
        };
        self.nodes.iter().map(len).sum::<u64>() + ZEROES.len() as u64
    }
}

fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    if let Some(gnu) = header.as_gnu_mut() {
        set_bytes(&mut gnu.name, name);
        set_bytes(&mut gnu.uname, b"root");
        set_bytes(&mut gnu.gname, b"root");
    }
    header
}

/// The name of the header that follows, cut off there, ends in a NUL byte here (as GNU tar writes it).
fn long_name<W: Write>(out: &mut W, kind: EntryType, name: &[u8]) -> io::Result<()> {
    let mut header = header(kind, b"././@LongLink", name.len() as u64 + 1);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut data = Vec::with_capacity(name.len() + 1);
    data.extend_from_slice(name);
    data.push(0);
    finish(out, header, &data)
}

fn finish<W: Write>(out: &mut W, mut header: Header, content: &[u8]) -> io::Result<()> {
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(content)?;
    out.write_all(&ZEROES[..content.len().next_multiple_of(BLOCK) - content.len()])
}

fn set_bytes(field: &mut [u8], value: &[u8]) {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value[..len]);
}
