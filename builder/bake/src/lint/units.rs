//! systemd's units in a tree: which are there, what they say, which start by themselves.

use std::collections::{BTreeMap, BTreeSet};

use rolesmith_model::manifest::RoleManifest;

use super::tree::{Kind, Tree};

/// Where units are looked for, the strongest first (systemd.unit(5)).
const DIRECTORIES: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// A unit that is in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A file says what it is.
    Present,
    /// Nothing can start it.
    Masked,
    /// There is none of that name.
    Absent,
}

/// The template of an instance: `getty@.service` for `getty@tty1.service`.
fn template(unit: &str) -> Option<String> {
    let (name, rest) = unit.split_once('@')?;
    let (instance, kind) = rest.rsplit_once('.')?;
    (!instance.is_empty()).then(|| format!("{name}@.{kind}"))
}

/// Whether that unit is there.
pub(super) fn state(tree: &Tree, unit: &str) -> State {
    for directory in DIRECTORIES {
        let path = format!("{directory}/{unit}");
        match tree.get(&path).map(|entry| &entry.kind) {
            Some(Kind::Symlink(target)) if target == "/dev/null" => return State::Masked,
            Some(_)
                if tree
                    .resolve(&path)
                    .is_some_and(|(_, entry)| entry.size == 0) =>
            {
                return State::Masked;
            }
            Some(_) if tree.resolve(&path).is_some() => return State::Present,
            _ => {}
        }
    }
    template(unit).map_or(State::Absent, |template| state(tree, &template))
}

/// Values of a key, from the unit's file and its drop-ins. An empty value takes those before it back.
pub(super) fn values(tree: &Tree, unit: &str, section: &str, key: &str) -> Vec<String> {
    let template = template(unit);
    let names = [Some(unit), template.as_deref()];
    let names = || names.iter().flatten();
    let file = names().find_map(|name| {
        DIRECTORIES
            .iter()
            .find_map(|directory| tree.text(&format!("{directory}/{name}")))
    });
    let mut texts: Vec<_> = file.into_iter().collect();
    // By name, those in /etc in place of those in /usr/lib.
    let mut dropins = BTreeMap::new();
    for directory in DIRECTORIES.iter().rev() {
        for name in names() {
            let place = format!("{directory}/{name}.d");
            for path in tree
                .files_below(&place)
                .filter(|path| path.ends_with(".conf"))
            {
                dropins.insert(path[place.len()..].to_owned(), path);
            }
        }
    }
    texts.extend(dropins.values().filter_map(|path| tree.text(path)));
    let mut found = Vec::new();
    for text in texts {
        let mut here = false;
        for line in text.replace("\\\n", " ").lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                here = name == section;
            } else if let Some((name, value)) = line.split_once('=').filter(|_| here)
                && name.trim() == key
            {
                match value.trim() {
                    "" => found.clear(),
                    value => found.push(value.to_owned()),
                }
            }
        }
    }
    found
}

/// Units that other units pull in by a link in `*.wants` or `*.requires`, with the paths of these links. Masked ones are left out.
pub(super) fn enabled(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let mut enabled = BTreeMap::<String, Vec<String>>::new();
    for directory in DIRECTORIES {
        for (path, _) in tree.below(directory) {
            let Some((place, unit)) = path.rsplit_once('/') else {
                continue;
            };
            let pulls = place.ends_with(".wants") || place.ends_with(".requires");
            if pulls && state(tree, unit) == State::Present {
                enabled
                    .entry(unit.to_owned())
                    .or_default()
                    .push(path.to_owned());
            }
        }
    }
    enabled
}

/// What `systemctl enable` would link: whether the unit is one that can be enabled at all.
pub(super) fn can_be_enabled(tree: &Tree, unit: &str) -> bool {
    ["WantedBy", "RequiredBy"]
        .iter()
        .any(|key| !values(tree, unit, "Install", key).is_empty())
}

/// The roles' manifests, with their paths; an error where one cannot be read.
pub(super) fn manifests(tree: &Tree) -> BTreeMap<String, Result<RoleManifest, String>> {
    let directory = "usr/lib/rolesmith/roles";
    tree.files_below(directory)
        .filter(|path| path.ends_with(".json"))
        .map(|path| {
            let text = tree.text(path).unwrap_or_default();
            let manifest = serde_json::from_str(&text).map_err(|error| error.to_string());
            (path.to_owned(), manifest)
        })
        .collect()
}

/// Names of all units that roles bring or add to.
pub(super) fn of_roles(tree: &Tree) -> BTreeSet<String> {
    manifests(tree)
        .into_values()
        .flatten()
        .flat_map(|manifest| manifest.units)
        .map(|unit| unit.name)
        .collect()
}
