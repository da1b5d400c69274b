//! The program as its users meet it: fleets that are wrong, fleets that are right, and each command's manners.

mod ca;
mod commands;
mod discovery;
mod edge;
mod example;
mod firewall;
mod invalid;
mod keys;
mod seeds;
mod valid;

use std::path::PathBuf;

/// The program under test.
const ROLESMITH: &str = env!("CARGO_BIN_EXE_rolesmith");

/// A directory below tests/fleets.
fn fleets(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fleets")
        .join(kind)
}

/// The directories in tests/fleets/KIND, by name.
fn cases(kind: &str) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(fleets(kind))
        .expect("tests/fleets is part of the source")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// The last part of a path.
fn name(path: &std::path::Path) -> String {
    path.file_name()
        .expect("has a name")
        .to_string_lossy()
        .into_owned()
}

/// Compares with what was reviewed, or, with UPDATE_GOLDENS=1, writes it. Gives what is to be complained about.
fn golden(path: &std::path::Path, found: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_GOLDENS").is_some_and(|v| v == "1") {
        std::fs::write(path, found).map_err(|e| format!("{}: {e}", path.display()))?;
        return Ok(());
    }
    let expected = std::fs::read_to_string(path)
        .map_err(|e| format!("{}: {e} (UPDATE_GOLDENS=1 writes it)", path.display()))?;
    if expected == found {
        return Ok(());
    }
    Err(format!(
        "{} says\n{expected}\nbut it is\n{found}",
        path.display()
    ))
}
