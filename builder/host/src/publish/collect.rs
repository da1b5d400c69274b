//! Deleting what no kept generation speaks of.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rayon::prelude::*;

use super::execute::execute;
use super::gather::published_packages;
use super::journal::Journal;
use super::plan::Step;
use super::state::{Generation, Records, STATE_DIRECTORY, codenames};
use super::{PublishError, io_error};
use crate::atomic;

/// The steps that delete what `expired` alone needed; `kept` are the other generations of the same suite. The records go
/// last, so that a killed run is finished by the next.
pub(super) fn removals(
    root: &Path,
    expired: &[Generation],
    kept: &[Generation],
) -> Result<Vec<Step>, PublishError> {
    if expired.is_empty() {
        return Ok(Vec::new());
    }
    let codename = &expired[0].fields.codename;
    let mut needed = needed_files(root, kept)?;
    for other in codenames(root)?.iter().filter(|other| *other != codename) {
        needed.extend(needed_files(root, &Records::load(root, other)?.published)?);
    }
    let unneeded = needed_files(root, expired)?
        .into_iter()
        .filter(|path| !needed.contains(path));
    let mut steps: Vec<Step> = unneeded.map(|path| Step::Remove { path }).collect();
    for generation in expired {
        steps.extend(generation.own_files().map(|path| Step::Remove { path }));
    }
    Ok(steps)
}

/// After a run that did not get to its end: deletes temporary files, records that never became current, and those files
/// that the run's [`Journal`] names and no generation of any suite needs. Files of others are none of them.
pub(super) fn sweep(root: &Path, journal: &Journal) -> Result<(), PublishError> {
    let mut needed = BTreeSet::new();
    let mut steps = Vec::new();
    for codename in codenames(root)? {
        let records = Records::load(root, &codename)?;
        needed.extend(needed_files(root, &records.published)?);
        for generation in &records.aborted {
            steps.extend(generation.own_files().map(|path| Step::Remove { path }));
        }
    }
    let created = journal
        .created
        .iter()
        .filter(|path| !needed.contains(*path));
    steps.extend(created.map(|path| Step::Remove { path: path.clone() }));
    for directory in journal.directories() {
        temporary_files(root, &directory, &mut steps)?;
    }
    execute(root, &steps)
}

/// Deletes what a run left that was killed while it wrote its [`Journal`], so that none tells of it: the journal's own
/// temporary file, beside the records.
pub(super) fn sweep_state(root: &Path) -> Result<(), PublishError> {
    let mut steps = Vec::new();
    temporary_files(root, STATE_DIRECTORY, &mut steps)?;
    execute(root, &steps)
}

/// Adds the steps that delete the temporary files in one directory.
fn temporary_files(
    root: &Path,
    directory: &str,
    steps: &mut Vec<Step>,
) -> Result<(), PublishError> {
    let path = root.join(directory);
    let failed = |error| io_error("look at", &path)(error);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if let Some(name) = name.to_str().filter(|_| atomic::is_temp(&name)) {
            let path = format!("{directory}/{name}");
            steps.push(Step::Remove { path });
        }
    }
    Ok(())
}

/// Everything below `dists/` and `pool/` that the generations speak of, as paths below the root.
fn needed_files(root: &Path, generations: &[Generation]) -> Result<BTreeSet<String>, PublishError> {
    let one = |generation: &Generation| {
        let mut needed: BTreeSet<String> = generation
            .by_hash_files()
            .chain(generation.plain_files())
            .collect();
        needed.extend(published_packages(root, Some(generation))?.into_keys());
        Ok(needed)
    };
    // Unpacking the indexes is most of the work.
    let all: Vec<BTreeSet<String>> = generations
        .par_iter()
        .map(one)
        .collect::<Result<_, PublishError>>()?;
    Ok(all.into_iter().flatten().collect())
}
