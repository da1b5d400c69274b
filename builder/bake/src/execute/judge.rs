//! What is to be said against a seed, by what its execution left.

use std::collections::BTreeMap;

use base64::Engine as _;
use rolesmith_formats::seed::{Seed, SeedFile};
use serde::Deserialize;

use super::{DataSource, Found};

/// The stages, as status.json names them and in the order in which they run.
const STAGES: [&str; 4] = ["init-local", "init", "modules-config", "modules-final"];

/// status.json: of 22.4, and of later releases that keep warnings in it.
#[derive(Deserialize)]
struct Status {
    v1: V1,
}

#[derive(Deserialize)]
struct V1 {
    datasource: Option<String>,
    #[serde(flatten)]
    stages: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Stage {
    finished: Option<f64>,
    #[serde(default)]
    errors: Vec<String>,
    /// By the level of what was logged.
    #[serde(default)]
    recoverable_errors: BTreeMap<String, Vec<String>>,
}

/// All complaints, each once.
pub(super) fn judge(seed: &Seed, source: DataSource, found: &[Found]) -> Vec<String> {
    let mut complaints = Vec::new();
    let text = |path: &str| {
        let file = found.iter().find(|file| file.path == path);
        file.map(|file| String::from_utf8_lossy(&file.bytes).into_owned())
    };
    match text("run/cloud-init/status.json").map(|text| serde_json::from_str::<Status>(&text)) {
        Some(Ok(status)) => stages(&status.v1, source, &mut complaints),
        Some(Err(error)) => complaints.push(format!("its status.json cannot be read: {error}")),
        None => complaints.push("cloud-init did not start: it left no status.json".into()),
    }
    // 22.4 says some things in its log alone.
    for line in text("var/log/cloud-init.log").unwrap_or_default().lines() {
        if let Some(said) = complaint(line)
            && !complaints.iter().any(|known| known.contains(said))
        {
            complaints.push(said.to_owned());
        }
    }
    // cloud-init says only that apt failed; apt says why.
    let output = text("var/log/cloud-init-output.log").unwrap_or_default();
    let apt = |line: &&str| {
        let begins = ["E: ", "W: Failed to fetch ", "W: GPG error: "];
        begins.iter().any(|begin| line.starts_with(begin))
    };
    for line in output.lines().filter(apt) {
        let said = format!("apt: {line}");
        if !complaints.contains(&said) {
            complaints.push(said);
        }
    }
    // A mistake in a header or in base64 drops a file without a word.
    for file in &seed.files {
        complaints.extend(file_complaint(file, found));
    }
    complaints
        .iter()
        .map(|text| without_secrets(text, seed))
        .collect()
}

fn stages(status: &V1, source: DataSource, complaints: &mut Vec<String>) {
    match &status.datasource {
        Some(used) if used.contains(&format!("DataSource{}", source.name())) => {}
        used => complaints.push(format!(
            "it took its seed from {}, not from {}",
            used.as_deref().unwrap_or("nowhere"),
            source.name()
        )),
    }
    for name in STAGES {
        let stage = status.stages.get(name).cloned().unwrap_or_default();
        let Ok(stage) = serde_json::from_value::<Stage>(stage) else {
            complaints.push(format!("the stage {name} was not run"));
            continue;
        };
        if stage.finished.is_none() {
            complaints.push(format!("the stage {name} did not end"));
        }
        for said in stage
            .errors
            .iter()
            .chain(stage.recoverable_errors.values().flatten())
        {
            if !complaints.iter().any(|known| known.contains(said.as_str())) {
                complaints.push(format!("{name}: {said}"));
            }
        }
    }
}

/// What a line of the log says, where it is a complaint: `TIME - FILE[LEVEL]: TEXT`.
fn complaint(line: &str) -> Option<&str> {
    ["[WARNING]: ", "[ERROR]: ", "[CRITICAL]: "]
        .iter()
        .find_map(|level| line.split_once(level))
        .map(|(_, said)| said)
}

fn file_complaint(wanted: &SeedFile, found: &[Found]) -> Option<String> {
    let path = &wanted.path;
    let Some(file) = found
        .iter()
        .find(|file| file.path == path.trim_start_matches('/'))
    else {
        return Some(format!("{path} was not written"));
    };
    if file.bytes != wanted.bytes {
        return Some(format!("{path} has other bytes than the seed"));
    }
    if file.mode != wanted.mode || file.owner != wanted.owner {
        return Some(format!(
            "{path} is {}'s with mode {:04o}, not {}'s with mode {:04o}",
            file.owner, file.mode, wanted.owner, wanted.mode
        ));
    }
    None
}

/// cloud-init quotes what it does not understand.
pub(super) fn without_secrets(text: &str, seed: &Seed) -> String {
    let mut text = text.to_owned();
    for file in seed.files.iter().filter(|file| file.secret) {
        let plain = String::from_utf8_lossy(&file.bytes).into_owned();
        let encoded = base64::engine::general_purpose::STANDARD.encode(&file.bytes);
        // The whole first: of a text in several lines every line could be quoted alone.
        for part in std::iter::once(encoded.as_str()).chain(plain.lines()) {
            if !part.is_empty() {
                text = text.replace(part, "(secret)");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests;
