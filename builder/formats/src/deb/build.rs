//! The assembly of a package.

use std::{fmt, io::BufWriter};

use md5::{Digest, Md5};

use super::{DebError, DebInput, check};
use crate::{
    ar,
    compress::Compression,
    control::Paragraph,
    tarball::{Entry, Tree},
};

/// Version of the format, the content of the first member.
const DEBIAN_BINARY: &[u8] = b"2.0\n";

/// A package that is not signed yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Deb {
    pub(super) bytes: Vec<u8>,
    pub(super) control: Paragraph,
    pub(super) file_name: String,
    pub(super) paths: Vec<String>,
    pub(super) epoch: u64,
}

impl fmt::Debug for Deb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deb({}, {} bytes)", self.file_name, self.bytes.len())
    }
}

impl Deb {
    /// Builds a package. The same input gives the same bytes on every machine.
    ///
    /// # Errors
    /// Whatever dpkg would reject, and some of what it accepts in silence; see [`DebError`].
    pub fn build(input: &DebInput, compression: Compression) -> Result<Self, DebError> {
        let tree = Tree::new(&input.entries)?;
        check::check(input, &tree)?;
        let mut control = input.control.clone();
        control.set_after(
            "Maintainer",
            "Installed-Size",
            tree.installed_size().to_string(),
        )?;

        let members = control_members(input, &control, &tree);
        let members = Tree::new(&members)?;
        let mut archive = ar::Writer::new(input.epoch.max(1));
        archive.member("debian-binary", DEBIAN_BINARY)?;
        for (name, tree) in [("control.tar", &members), ("data.tar", &tree)] {
            let name = format!("{name}{}", compression.suffix());
            archive.member_with(&name, |out| pack(tree, compression, out, input.epoch))?;
        }
        Ok(Self {
            file_name: file_name(&control),
            paths: tree.leaves().map(str::to_owned).collect(),
            bytes: archive.finish(),
            control,
            epoch: input.epoch,
        })
    }

    /// The package file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The control paragraph with Installed-Size.
    pub fn control(&self) -> &Paragraph {
        &self.control
    }

    /// `name_version_architecture.deb`, the version without its epoch, as dpkg-deb names it.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Paths of files and symbolic links without the leading slash, sorted.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }
}

fn pack(
    tree: &Tree<'_>,
    compression: Compression,
    out: Vec<u8>,
    epoch: u64,
) -> Result<Vec<u8>, DebError> {
    // Headers and contents arrive in small pieces; the encoders work best with larger ones.
    let mut encoder = BufWriter::with_capacity(1 << 16, compression.encoder(out, tree.tar_len())?);
    tree.write_to(&mut encoder, epoch)?;
    let encoder = encoder
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    Ok(encoder.finish()?)
}

fn control_members(input: &DebInput, control: &Paragraph, tree: &Tree<'_>) -> Vec<Entry> {
    let mut members = vec![Entry::file("/control", control.to_string(), 0o644)];
    let mut conffiles = String::new();
    for path in &input.conffiles {
        conffiles.push_str(path);
        conffiles.push('\n');
    }
    for path in &input.removed_conffiles {
        conffiles.push_str("remove-on-upgrade ");
        conffiles.push_str(path);
        conffiles.push('\n');
    }
    let sums = md5sums(tree, &input.conffiles);
    for (name, text) in [
        ("/conffiles", conffiles),
        ("/md5sums", sums),
        ("/triggers", input.triggers.clone().unwrap_or_default()),
    ] {
        if !text.is_empty() {
            members.push(Entry::file(name, text, 0o644));
        }
    }
    members.extend(
        input
            .scripts
            .iter()
            .map(|(name, text)| Entry::file(format!("/{name}"), text.to_owned(), 0o755)),
    );
    members
}

/// Sums of all files but conffiles, which dpkg keeps itself; as dh_md5sums(1) does.
fn md5sums(tree: &Tree<'_>, conffiles: &[String]) -> String {
    let mut sums = String::new();
    for (path, content) in tree.files() {
        let conffile = conffiles
            .iter()
            .any(|conffile| conffile.strip_prefix('/') == Some(path));
        if !conffile {
            sums.push_str(&super::signed::hex(&Md5::digest(content)));
            sums.push_str("  ");
            sums.push_str(path);
            sums.push('\n');
        }
    }
    sums
}

pub(super) fn file_name(control: &Paragraph) -> String {
    let field = |name| control.get(name).unwrap_or_default();
    let version = field("Version");
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    format!(
        "{}_{version}_{}.deb",
        field("Package"),
        field("Architecture")
    )
}
