//! Roles as they were found: every role.toml parsed, roles that extend others put on top of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::{
    archive_names::closest,
    finding::{Findings, Place},
    ids::RoleName,
    role_file::RoleFile,
    setting_kind::SettingKind,
    source::{RoleDir, SourceId, Sources},
    validate::toml_error::{self, Document},
};

/// One role.toml with its directory.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The directory's name.
    pub name: String,
    /// Shipped with rolesmith.
    pub builtin: bool,
    /// Its role.toml, for findings.
    pub manifest: SourceId,
    /// The parsed role.toml.
    pub file: RoleFile,
    /// The other files of its directory, by relative path.
    pub files: BTreeMap<String, SourceId>,
}

impl Layer {
    /// A place in this layer's role.toml.
    #[must_use]
    pub fn place(&self, span: std::ops::Range<usize>) -> Place {
        Place::new(self.manifest, span)
    }
}

/// A role: its own layer, below it those that it extends.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// From the most basic layer to the role's own; never empty.
    pub layers: Vec<Layer>,
    /// Roles that it needs.
    pub requires: Vec<RoleName>,
}

impl Role {
    /// The role's own layer.
    #[must_use]
    pub fn own(&self) -> &Layer {
        self.layers
            .last()
            .expect("a role has at least its own layer")
    }

    /// The default of a setting; a later layer's counts.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&toml::Value> {
        let all = self.layers.iter().rev().flat_map(|l| &l.file.settings);
        let mut named = all.filter(|(key, _)| key.get_ref() == name);
        named.next().map(|(_, value)| value.get_ref())
    }

    /// What values a setting may have that is a whole number; a later layer's word counts.
    #[must_use]
    pub fn setting_range(&self, name: &str) -> Option<RangeInclusive<i64>> {
        let all = self.layers.iter().rev();
        let mut named = all
            .flat_map(|l| &l.file.setting_ranges)
            .filter(|(key, _)| key.get_ref() == name);
        named.next().map(|(_, range)| {
            let [least, largest] = *range.get_ref();
            least..=largest
        })
    }

    /// What the elements of a setting are that is a list; a later layer's word counts.
    #[must_use]
    pub fn setting_kind(&self, name: &str) -> Option<SettingKind> {
        let all = self.layers.iter().rev();
        let mut named = all
            .flat_map(|l| &l.file.setting_kinds)
            .filter(|(key, _)| key.get_ref() == name);
        named.next().map(|(_, kind)| *kind.get_ref())
    }

    /// Whether the fleet brought it or changed it.
    #[must_use]
    pub fn is_users(&self) -> bool {
        !self.own().builtin
    }
}

/// Every role that a fleet can use.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    sound: BTreeMap<RoleName, Role>,
    broken: BTreeSet<String>,
}

impl Roles {
    /// The role of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Role> {
        self.sound.get(name)
    }

    /// The names of all of them.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.sound.keys().map(RoleName::as_str).collect()
    }

    /// Whether there is a directory of that name that was left out because of errors, which were told.
    #[must_use]
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// Adds a role that was made of something else than a directory.
    pub fn insert(&mut self, role: Role) {
        self.sound.insert(role.name.clone(), role);
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        self.sound.values()
    }

    /// The name most like the one given.
    #[must_use]
    pub fn similar(&self, name: &str) -> Option<&str> {
        closest(name, self.sound.keys().map(RoleName::as_str))
    }

    /// Reads every role directory. Roles with errors are left out, and what depends on them is still looked at.
    #[must_use]
    pub fn load(sources: &Sources, findings: &mut Findings) -> Self {
        let mut builtin = BTreeMap::new();
        let mut own = BTreeMap::new();
        for dir in &sources.roles {
            if let Some(layer) = parse(sources, dir, findings) {
                let map = if dir.builtin { &mut builtin } else { &mut own };
                map.insert(dir.name.clone(), layer);
            }
        }
        let names: Vec<String> = builtin.keys().chain(own.keys()).cloned().collect();
        let mut roles = BTreeMap::new();
        for name in names {
            if roles.contains_key(name.as_str()) {
                continue;
            }
            let parsed_all = |name: &str| {
                !sources
                    .roles
                    .iter()
                    .any(|dir| dir.name == name && !dir.builtin && !own.contains_key(name))
            };
            // A directory of the fleet with the name of a built-in role, but with errors, is not the built-in role.
            if !parsed_all(&name) {
                continue;
            }
            if let Some(role) = assemble(&name, &builtin, &own, &parsed_all, findings) {
                roles.insert(role.name.clone(), role);
            }
        }
        let broken = sources
            .roles
            .iter()
            .map(|dir| dir.name.clone())
            .filter(|name| !roles.contains_key(name.as_str()))
            .collect();
        let roles = Self {
            sound: roles,
            broken,
        };
        roles.check_requirements(findings);
        roles
    }

    fn check_requirements(&self, findings: &mut Findings) {
        for role in self.sound.values() {
            for layer in &role.layers {
                for required in &layer.file.role.requires {
                    let place = layer.place(required.span());
                    let wanted = required.get_ref().as_str();
                    if wanted == role.name.as_str() {
                        findings.error(
                            "role::requires-itself",
                            place,
                            format!("role {} requires itself", role.name),
                            "the same role",
                            "remove it from `requires`",
                        );
                    } else if self.get(wanted).is_none() && !self.is_broken(wanted) {
                        let help = self.similar(wanted).map_or_else(
                            || format!("known roles are {}", self.names().join(", ")),
                            |near| format!("did you mean {near:?}?"),
                        );
                        findings.error(
                            "role::unknown-requirement",
                            place,
                            format!(
                                "role {} requires {wanted:?}, which is not a role",
                                role.name
                            ),
                            "neither built in nor a directory in roles/",
                            help,
                        );
                    }
                }
            }
        }
        for role in self.sound.values() {
            if let Some(cycle) = self.cycle_from(role) {
                // Told once, at the role that comes first by name.
                if cycle.iter().min().map(String::as_str) != Some(role.name.as_str()) {
                    continue;
                }
                let own = role.own();
                let span = own
                    .file
                    .role
                    .requires
                    .first()
                    .map_or(0..0, toml::Spanned::span);
                findings.error(
                    "role::cycle",
                    own.place(span),
                    format!("roles require each other in a circle: {}", cycle.join(" -> ")),
                    "the circle begins here",
                    "remove one of these requirements; a role that two others need can be required by both",
                );
            }
        }
    }

    fn cycle_from(&self, start: &Role) -> Option<Vec<String>> {
        fn visit(roles: &Roles, name: &str, start: &str, path: &mut Vec<String>) -> bool {
            let Some(role) = roles.get(name) else {
                return false;
            };
            for next in &role.requires {
                if next.as_str() == start && path.len() > 1 {
                    path.push(start.to_owned());
                    return true;
                }
                if path.iter().any(|p| p == next.as_str()) {
                    continue;
                }
                path.push(next.to_string());
                if visit(roles, next.as_str(), start, path) {
                    return true;
                }
                path.pop();
            }
            false
        }
        let mut path = vec![start.name.to_string()];
        visit(self, start.name.as_str(), start.name.as_str(), &mut path).then_some(path)
    }

    /// `wanted` with everything they require and `base`, each role after those it requires.
    #[must_use]
    pub fn closure<'r>(&self, wanted: impl Iterator<Item = &'r RoleName>) -> Vec<RoleName> {
        fn visit(
            roles: &Roles,
            name: &RoleName,
            order: &mut Vec<RoleName>,
            open: &mut Vec<RoleName>,
        ) {
            if order.contains(name) || open.contains(name) {
                return;
            }
            let Some(role) = roles.get(name.as_str()) else {
                return;
            };
            open.push(name.clone());
            for next in &role.requires {
                visit(roles, next, order, open);
            }
            open.pop();
            order.push(name.clone());
        }
        let mut order = Vec::new();
        if let Some(base) = self.get("base") {
            visit(self, &base.name, &mut order, &mut Vec::new());
        }
        for name in wanted {
            visit(self, name, &mut order, &mut Vec::new());
        }
        order
    }
}

fn parse(sources: &Sources, dir: &RoleDir, findings: &mut Findings) -> Option<Layer> {
    let source = sources.get(dir.manifest);
    if let Err(error) = RoleName::new(dir.name.as_str()) {
        findings.error(
            "role::name",
            Place::whole(dir.manifest),
            format!("the role's directory {:?} {error}", dir.name),
            "a role is named after its directory, and its package after the role (Policy 5.6.7)",
            "rename the directory",
        );
        return None;
    }
    let Some(text) = source.text() else {
        findings.error(
            "role::not-utf8",
            Place::whole(dir.manifest),
            "role.toml is not UTF-8",
            "TOML files are UTF-8 by definition",
            "convert it, for example with iconv(1)",
        );
        return None;
    };
    match toml::from_str::<RoleFile>(text) {
        Ok(file) => Some(Layer {
            name: dir.name.clone(),
            builtin: dir.builtin,
            manifest: dir.manifest,
            file,
            files: dir.files.clone(),
        }),
        Err(error) => {
            let document = Document {
                id: dir.manifest,
                text,
                name: "role.toml",
                docs: "docs/roles.md",
            };
            toml_error::report(document, &error, findings);
            None
        }
    }
}

type Layers = BTreeMap<String, Layer>;

fn assemble(
    name: &str,
    builtin: &Layers,
    own: &Layers,
    readable: &dyn Fn(&str) -> bool,
    findings: &mut Findings,
) -> Option<Role> {
    let top = own.get(name).or_else(|| builtin.get(name))?;
    let mut layers = vec![top.clone()];
    if !top.builtin
        && builtin.contains_key(name)
        && top.file.role.extends.is_none()
        && !top.file.role.replaces_builtin()
    {
        findings.error(
            "role::shadows-builtin",
            Place::whole(top.manifest),
            format!("the fleet's role {name} has the name of a built-in role"),
            "it does not say whether it adds to the built-in role or replaces it",
            format!("write `extends = {name:?}` to add to it, `replaces_builtin = true` to replace it, or choose another name"),
        );
        return None;
    }
    if let Some(replaces) = top
        .file
        .role
        .replaces_builtin
        .as_ref()
        .filter(|r| *r.get_ref())
    {
        let place = top.place(replaces.span());
        if top.builtin || !builtin.contains_key(name) {
            findings.error(
                "role::replaces-nothing",
                place,
                format!("`replaces_builtin` is set, but there is no built-in role {name}"),
                "nothing to replace",
                "remove the line",
            );
        } else if top
            .file
            .role
            .extends
            .as_ref()
            .is_some_and(|e| e.get_ref() == name)
        {
            findings.error(
                "role::extends-and-replaces",
                place,
                format!("role {name} both extends and replaces the built-in role {name}"),
                "it would be added to what it replaces",
                "remove one of `extends` and `replaces_builtin`",
            );
        }
    }
    loop {
        let lowest = layers.last().expect("begins with one layer");
        let Some(extends) = &lowest.file.role.extends else {
            break;
        };
        let base_name = extends.get_ref().as_str();
        let place = lowest.place(extends.span());
        // A role that extends its own name means the built-in one.
        let base = if base_name == lowest.name {
            builtin.get(base_name).filter(|_| !lowest.builtin)
        } else {
            own.get(base_name).or_else(|| builtin.get(base_name))
        };
        let Some(base) = base else {
            if base_name == name {
                findings.error(
                    "role::extends-itself",
                    place,
                    format!("role {name} extends itself"),
                    "there is no built-in role of this name below it",
                    "remove the line, or write the name of another role",
                );
            } else if readable(base_name) {
                let known = builtin.keys().chain(own.keys()).map(String::as_str);
                findings.error(
                    "role::extends-unknown",
                    place,
                    format!(
                        "role {} extends {base_name:?}, which is not a role",
                        lowest.name
                    ),
                    "neither built in nor a directory in roles/",
                    closest(base_name, known).map_or_else(
                        || "write the name of a built-in role or of a directory in roles/".into(),
                        |near| format!("did you mean {near:?}?"),
                    ),
                );
            }
            return None;
        };
        if layers.iter().any(|l| l.manifest == base.manifest) {
            let mut circle: Vec<&str> = layers.iter().map(|l| l.name.as_str()).collect();
            circle.push(base_name);
            // Told once, at the role that comes first by name.
            if circle.iter().min() == Some(&name) {
                findings.error(
                    "role::extends-cycle",
                    place,
                    format!(
                        "roles extend each other in a circle: {}",
                        circle.join(" -> ")
                    ),
                    "the circle closes here",
                    "let one of the roles stand alone",
                );
            }
            return None;
        }
        layers.push(base.clone());
    }
    layers.reverse();
    let mut requires: Vec<RoleName> = Vec::new();
    for required in layers.iter().flat_map(|l| &l.file.role.requires) {
        if let Ok(required) = RoleName::new(required.get_ref().as_str())
            && !requires.contains(&required)
            && required.as_str() != name
        {
            requires.push(required);
        }
    }
    let name = RoleName::new(name).ok()?;
    Some(Role {
        name,
        layers,
        requires,
    })
}
