//! Depends, Recommends, Conflicts and Replaces (Policy 7).

use std::collections::BTreeMap;

use toml::Spanned;

use super::Work;
use crate::{
    finding::Findings,
    resolve::{FIXED_PACKAGES, files::inline},
    role::Layer,
    validate::syntax,
};

/// What it means that Debian does not have a package.
#[derive(Clone, Copy)]
enum Unknown {
    Fatal,
    Unwanted,
    Fine,
}

impl Work<'_> {
    /// The relation fields, and the Debian packages among `Depends`.
    pub(super) fn relations(
        &self,
        findings: &mut Findings,
    ) -> (BTreeMap<&'static str, Vec<String>>, Vec<String>) {
        let fleet = self.inputs.fleet;
        let (mut depends, mut recommends) = (Vec::new(), Vec::new());
        let (mut conflicts, mut replaces) = (Vec::new(), Vec::new());
        let mut debian = Vec::new();
        for required in &self.role.requires {
            depends.push(fleet.package_of(required));
        }
        for layer in &self.role.layers {
            let dependencies = &layer.file.dependencies;
            let suite = layer.file.suites.get(fleet.suite.codename());
            for entry in dependencies
                .depends
                .iter()
                .chain(suite.iter().flat_map(|s| &s.depends))
            {
                self.relation(
                    layer,
                    entry,
                    &mut depends,
                    Some(&mut debian),
                    Unknown::Fatal,
                    findings,
                );
            }
            for entry in &dependencies.recommends {
                self.relation(
                    layer,
                    entry,
                    &mut recommends,
                    None,
                    Unknown::Unwanted,
                    findings,
                );
            }
            for entry in &dependencies.conflicts {
                self.relation(layer, entry, &mut conflicts, None, Unknown::Fine, findings);
            }
            for entry in &dependencies.replaces {
                self.relation(layer, entry, &mut replaces, None, Unknown::Fine, findings);
            }
            for key in layer.file.suites.keys() {
                let name = key.get_ref();
                if name.parse::<crate::ids::Suite>().is_err() {
                    findings.error(
                        "role::unknown-suite",
                        layer.place(key.span()),
                        format!("[suites.{name}] is for a suite that is not supported"),
                        "supported are bookworm and trixie",
                        "write one of them, or remove the table",
                    );
                }
            }
        }
        if self.role.name.as_str() != "base" && self.inputs.roles.get("base").is_some() {
            let base = format!("{}-base", fleet.name);
            if !depends.contains(&base) {
                depends.insert(0, base);
            }
        }
        let mut relations = BTreeMap::new();
        for (field, list) in [
            ("Depends", depends),
            ("Recommends", recommends),
            ("Conflicts", conflicts),
            ("Replaces", replaces),
        ] {
            if !list.is_empty() {
                relations.insert(field, list);
            }
        }
        (relations, debian)
    }

    fn relation(
        &self,
        layer: &Layer,
        entry: &Spanned<String>,
        list: &mut Vec<String>,
        debian: Option<&mut Vec<String>>,
        unknown: Unknown,
        findings: &mut Findings,
    ) {
        let Some(text) = inline(layer, entry, self.context, findings) else {
            return;
        };
        let names = match syntax::dependency(&text) {
            Ok(names) => names,
            Err(why) => {
                findings.error(
                    "role::dependency",
                    layer.place(entry.span()),
                    format!("the dependency {why}"),
                    "not a relation as control files write them (Policy 7.1)",
                    "write a package name, with a version if needed: \"nginx (>= 1.22)\"",
                );
                return;
            }
        };
        if list.contains(&text) {
            findings.warning(
                "role::dependency-twice",
                layer.place(entry.span()),
                format!("{text} is named twice"),
                "a duplicate",
                "remove one of them",
            );
            return;
        }
        let prefix = format!("{}-", self.inputs.fleet.name);
        let archive = self.inputs.archive;
        let own = |name: &str| name.starts_with(&prefix) || name == "rolesmith-agent";
        let promised = !matches!(unknown, Unknown::Fine);
        for name in names
            .iter()
            .filter(|n| promised && own(n) && !archive.satisfies(n))
        {
            self.own_package(layer, entry, name, findings);
        }
        let nowhere = |n: &String| !own(n) && !archive.satisfies(n);
        let why = match unknown {
            Unknown::Fatal => Some("apt could not install the role"),
            Unknown::Unwanted => Some("apt would never install it"),
            // Packages from elsewhere are what roles may well conflict with, and files come from packages that are none any more.
            Unknown::Fine => None,
        };
        if let Some(why) = why
            && !archive.is_empty()
            && names.iter().all(nowhere)
            && let Some(name) = names.first()
        {
            let suite = self.inputs.fleet.suite;
            let help = archive.similar(name).map_or_else(
                || format!("look it up with `apt-cache search` on a {suite} machine; names that differ between suites go under [suites.{suite}]"),
                |near| format!("did you mean {near}?"),
            );
            findings.error(
                "role::unknown-package",
                layer.place(entry.span()),
                format!("Debian {suite} has no package {name}"),
                why,
                help,
            );
        }
        if let Some(debian) = debian
            && let Some(first) = names.iter().find(|n| !own(n))
        {
            debian.push(first.clone());
        }
        list.push(text);
    }

    /// A package with the fleet's prefix has to be one that is built.
    fn own_package(
        &self,
        layer: &Layer,
        entry: &Spanned<String>,
        name: &str,
        findings: &mut Findings,
    ) {
        let prefix = format!("{}-", self.inputs.fleet.name);
        let Some(role) = name.strip_prefix(&prefix) else {
            return;
        };
        let fixed = FIXED_PACKAGES.contains(&role);
        if fixed || self.inputs.wanted.iter().any(|w| w.name.as_str() == role) {
            return;
        }
        let (why, help) = if self.inputs.roles.get(role).is_some() {
            (
                "the role exists, but no node has it, so its package is not built",
                format!(
                    "write {role:?} under `requires` instead: then every node with this role has it"
                ),
            )
        } else {
            let near = self.inputs.roles.similar(role);
            (
                "the prefix is the fleet's, but it has no such role",
                near.map_or_else(
                    || "add the role, or remove the dependency".into(),
                    |near| format!("did you mean {prefix}{near}?"),
                ),
            )
        };
        findings.error(
            "role::unknown-own-package",
            layer.place(entry.span()),
            format!("the fleet builds no package {name}"),
            why,
            help,
        );
    }
}
