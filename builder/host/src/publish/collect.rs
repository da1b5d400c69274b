//! Deleting what no kept generation speaks of.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;
use walkdir::WalkDir;

use super::execute::execute;
use super::gather::published_packages;
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
        steps.push(Step::Remove {
            path: generation.in_release_path(),
        });
        steps.push(Step::Remove {
            path: generation.record_path(),
        });
    }
    Ok(steps)
}

/// After a run that did not get to its end: deletes temporary files, records that never became current, and files of
/// the pool and of by-hash that no generation of any suite needs.
pub(super) fn sweep(root: &Path) -> Result<(), PublishError> {
    let mut needed = BTreeSet::new();
    let mut steps = Vec::new();
    for codename in codenames(root)? {
        let records = Records::load(root, &codename)?;
        needed.extend(needed_files(root, &records.published)?);
        for generation in &records.aborted {
            steps.push(Step::Remove {
                path: generation.in_release_path(),
            });
            steps.push(Step::Remove {
                path: generation.record_path(),
            });
        }
    }
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(root).to_owned();
            io_error("look at", &path)(error.into())
        })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let Some(path) = entry.path().strip_prefix(root).ok().and_then(Path::to_str) else {
            continue;
        };
        let collected =
            path.starts_with("pool/") || path.starts_with("dists/") && path.contains("/by-hash/");
        if atomic::is_temp(entry.file_name()) || collected && !needed.contains(path) {
            steps.push(Step::Remove {
                path: path.to_owned(),
            });
        }
    }
    debug_assert!(
        !steps
            .iter()
            .any(|step| step.path() == Some(&format!("{STATE_DIRECTORY}/lock")))
    );
    execute(root, &steps)
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
