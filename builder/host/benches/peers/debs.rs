//! The small packages that are published.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rolesmith_formats::compress::Compression;
use rolesmith_formats::control::Paragraph;
use rolesmith_formats::deb::{Deb, DebInput};
use rolesmith_formats::openpgp::SecretKey;
use rolesmith_formats::tarball::Entry;

use crate::Outcome;

/// 2024-01-01: the key is older than everything it signs.
pub(crate) const EPOCH: u64 = 1_704_067_200;

/// A package file and where a pool keeps it.
pub(crate) struct SmallDeb {
    pub(crate) file: PathBuf,
    /// Below a repository's root.
    pub(crate) pooled: PathBuf,
}

/// Makes `count` packages in `directory`: two files each, about 950 bytes, signed, gzip (which every peer reads).
pub(crate) fn make(directory: &Path, count: usize, key: &SecretKey) -> Outcome<Vec<SmallDeb>> {
    fs::create_dir_all(directory)?;
    (0..count)
        .into_par_iter()
        .map(|number| {
            let name = format!("package-{number:05}");
            let deb = package(&name)?.sign(key).map_err(|e| e.to_string())?;
            let file = directory.join(deb.file_name());
            fs::write(&file, deb.bytes()).map_err(|e| e.to_string())?;
            let pooled = Path::new("pool/main/p").join(&name).join(deb.file_name());
            Ok(SmallDeb { file, pooled })
        })
        .collect::<Result<_, String>>()
        .map_err(Into::into)
}

fn package(name: &str) -> Result<Deb, String> {
    let mut control = Paragraph::new();
    for (field, value) in [
        ("Package", name),
        ("Version", "1.0"),
        ("Architecture", "all"),
        ("Maintainer", "Bench <bench@example.org>"),
        ("Section", "misc"),
        ("Priority", "optional"),
        (
            "Description",
            "package of a benchmark\nwith an extended description",
        ),
    ] {
        control.push(field, value).map_err(|e| e.to_string())?;
    }
    let path = format!("/usr/share/{name}");
    let input = DebInput {
        control,
        entries: vec![
            Entry::directory("/usr", 0o755),
            Entry::directory("/usr/share", 0o755),
            Entry::directory(path.clone(), 0o755),
            Entry::file(format!("{path}/content"), "content\n", 0o644),
            Entry::file(format!("{path}/name"), name.to_owned(), 0o644),
        ],
        epoch: EPOCH,
        ..DebInput::default()
    };
    Deb::build(&input, Compression::Gzip).map_err(|e| e.to_string())
}

/// Gives the packages a second name each in the pool of `root`.
pub(crate) fn link_into_pool(debs: &[SmallDeb], root: &Path) -> Outcome<()> {
    into_pool(debs, root, |from, to| fs::hard_link(from, to))
}

/// Copies the packages into the pool of `root`.
pub(crate) fn copy_into_pool(debs: &[SmallDeb], root: &Path) -> Outcome<()> {
    into_pool(debs, root, |from, to| fs::copy(from, to).map(drop))
}

fn into_pool(
    debs: &[SmallDeb],
    root: &Path,
    place: impl Fn(&Path, &Path) -> std::io::Result<()>,
) -> Outcome<()> {
    for deb in debs {
        let path = root.join(&deb.pooled);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        place(&deb.file, &path)?;
    }
    Ok(())
}
