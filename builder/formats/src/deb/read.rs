//! The reader, for packages of any origin.

use std::io::{self, Read};

use super::{Scripts, signed::SIGNATURE_MEMBER};
use crate::{
    ar::{self, ArError},
    compress::Compression,
    control::{ControlError, Paragraph},
    tarball::{self, Entry, EntryKind, Listed, ListedKind},
};

/// Why bytes could not be read as a package.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not an ar archive.
    #[error(transparent)]
    Ar(#[from] ArError),
    /// A member is missing, unknown or at the wrong place.
    #[error("not a Debian package: {0}")]
    Layout(&'static str),
    /// A member is compressed in a way that Debian no longer uses.
    #[error("member {0} is compressed in a way that is not supported")]
    Compression(String),
    /// A tar member is damaged.
    #[error("{member}: {source}")]
    Tar {
        /// Name of the member.
        member: &'static str,
        /// What the decoder or the tar reader says.
        source: io::Error,
    },
    /// The control file is not one paragraph.
    #[error("control: {0}")]
    Control(#[from] ControlError),
    /// The package has no signature of its origin.
    #[error("the package is not signed")]
    NotSigned,
    /// A package that is signed already where an unsigned one is expected.
    #[error("the package is signed already")]
    Signed,
}

/// What a package holds, without the contents of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebContents {
    /// The control paragraph.
    pub control: Paragraph,
    /// Lines of `conffiles`.
    pub conffiles: Vec<String>,
    /// Maintainer scripts.
    pub scripts: Scripts,
    /// The `triggers` file.
    pub triggers: Option<String>,
    /// Every object of the data archive.
    pub entries: Vec<Listed>,
    /// The `_gpgorigin` member.
    pub signature: Option<Vec<u8>>,
}

impl DebContents {
    /// Paths of everything but directories, without the leading slash, as a Contents index lists them.
    pub fn paths(&self) -> Vec<String> {
        let leaves = self
            .entries
            .iter()
            .filter(|entry| entry.kind != ListedKind::Directory);
        leaves
            .map(|entry| entry.path.trim_start_matches('/').to_owned())
            .collect()
    }
}

/// Reads a package's control archive and lists its data archive. Packages of any origin are understood as far as dpkg
/// of Debian 12 writes or reads them: tar members plain or with gzip, xz or zstd.
///
/// # Errors
/// See [`ReadError`].
pub fn read_deb(bytes: &[u8]) -> Result<DebContents, ReadError> {
    let members = Members::find(bytes)?;
    let mut control = None;
    let mut contents = DebContents {
        control: Paragraph::new(),
        conffiles: Vec::new(),
        scripts: Scripts::default(),
        triggers: None,
        entries: tarball::list(members.data()?).map_err(tar("data.tar"))?,
        signature: members.signature.map(<[u8]>::to_vec),
    };
    for (name, text) in members.control_files()? {
        match name.as_str() {
            "/control" => control = Some(text),
            "/conffiles" => contents.conffiles = text.lines().map(str::to_owned).collect(),
            "/triggers" => contents.triggers = Some(text),
            "/preinst" => contents.scripts.preinst = Some(text),
            "/postinst" => contents.scripts.postinst = Some(text),
            "/prerm" => contents.scripts.prerm = Some(text),
            "/postrm" => contents.scripts.postrm = Some(text),
            _ => {}
        }
    }
    let control = control.ok_or(ReadError::Layout("no control file"))?;
    // dpkg takes blank lines around the paragraph, and cargo-deb writes one.
    contents.control = Paragraph::parse(&format!("{}\n", control.trim_matches('\n')))?;
    Ok(contents)
}

/// Reads the files, directories and symbolic links of a package, with their contents, in the order of the archive. The
/// root directory is left out.
///
/// # Errors
/// See [`ReadError`]; hard links and special files are not supported.
pub fn read_entries(bytes: &[u8]) -> Result<Vec<Entry>, ReadError> {
    tarball::read_entries(Members::find(bytes)?.data()?).map_err(tar("data.tar"))
}

/// The `md5sums` file of a package; empty when it has none.
///
/// # Errors
/// See [`ReadError`].
pub fn read_md5sums(bytes: &[u8]) -> Result<String, ReadError> {
    let files = Members::find(bytes)?.control_files()?;
    Ok(files
        .into_iter()
        .find(|(name, _)| name == "/md5sums")
        .map(|(_, text)| text)
        .unwrap_or_default())
}

fn tar(member: &'static str) -> impl FnOnce(io::Error) -> ReadError {
    move |source| ReadError::Tar { member, source }
}

struct Members<'a> {
    control: ar::Member<'a>,
    data: ar::Member<'a>,
    signature: Option<&'a [u8]>,
}

impl<'a> Members<'a> {
    fn find(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let members = ar::read(bytes)?;
        let signature = members
            .iter()
            .find(|member| member.name == SIGNATURE_MEMBER)
            .map(|member| member.data);
        // Members whose names start with an underscore may stand anywhere after the first (deb(5)).
        let mut members = members
            .into_iter()
            .enumerate()
            .filter(|(at, m)| *at == 0 || !m.name.starts_with('_'));
        let mut next = |reason| {
            members
                .next()
                .map(|(_, member)| member)
                .ok_or(ReadError::Layout(reason))
        };
        let first = next("empty")?;
        if first.name != "debian-binary" || !first.data.starts_with(b"2.") {
            return Err(ReadError::Layout(
                "the first member is not debian-binary of version 2",
            ));
        }
        let control = next("no control member")?;
        let data = next("no data member")?;
        if !control.name.starts_with("control.tar") || !data.name.starts_with("data.tar") {
            return Err(ReadError::Layout(
                "control and data are not the next members",
            ));
        }
        Ok(Self {
            control,
            data,
            signature,
        })
    }

    fn data(&self) -> Result<Box<dyn Read + 'a>, ReadError> {
        decoder(self.data, "data.tar")
    }

    fn control_files(&self) -> Result<Vec<(String, String)>, ReadError> {
        let entries = tarball::read_entries(decoder(self.control, "control.tar")?)
            .map_err(tar("control.tar"))?;
        let text = |entry: Entry| match entry.kind {
            EntryKind::File(content) => {
                Some((entry.path, String::from_utf8_lossy(&content).into_owned()))
            }
            _ => None,
        };
        Ok(entries.into_iter().filter_map(text).collect())
    }
}

fn decoder<'a>(
    member: ar::Member<'a>,
    stem: &'static str,
) -> Result<Box<dyn Read + 'a>, ReadError> {
    match (
        member.name.strip_prefix(stem),
        Compression::of_name(member.name),
    ) {
        (Some(""), _) => Ok(Box::new(member.data)),
        (_, Some(compression)) => compression.decoder(member.data).map_err(tar(stem)),
        _ => Err(ReadError::Compression(member.name.to_owned())),
    }
}
