//! From a role to its package.

mod debconf;
mod files;
mod relations;
mod units;

use std::collections::BTreeMap;

use tera::Context;

use super::{Inputs, context, entries};
use crate::{
    finding::{Findings, Place},
    ids::{PackageName, SecretName},
    lint,
    manifest::{Cluster, MANIFEST_DIR, ManagedUnit, RoleManifest},
    plan::{Maintainer, Override, Package, PackagedFile, RolePlan, Secret},
    role::{Layer, Role},
    source::SourceId,
    validate::syntax,
};

/// Makes the role's package. `None` where errors forbid it.
pub(super) fn resolve(
    inputs: &Inputs<'_>,
    role: &Role,
    findings: &mut Findings,
) -> (Option<Package>, Option<RolePlan>) {
    let context = context::package(inputs.fleet, role, inputs.sources);
    let mut work = Work {
        inputs,
        role,
        context: &context,
        files: BTreeMap::new(),
        places: BTreeMap::new(),
        entries: BTreeMap::new(),
        units: Vec::new(),
        scripts: Maintainer {
            role: Some(role.name.clone()),
            ..Maintainer::default()
        },
    };
    let name = match PackageName::new(inputs.fleet.package_of(&role.name)) {
        Ok(name) => name,
        Err(why) => {
            findings.error(
                "role::package-name",
                Place::whole(role.own().manifest),
                format!("the package of role {} {why}", role.name),
                "made of the fleet's name and the role's",
                "shorten one of them",
            );
            return (None, None);
        }
    };
    let (summary, description) = work.descriptions(findings);
    let (relations, debian) = work.relations(findings);
    for layer in &role.layers {
        work.packaged_files(layer, findings);
        work.links(layer, findings);
        work.trees(layer, findings);
        work.units(layer, findings);
        work.drop_ins(layer, findings);
        work.readers(layer, findings);
        work.fragments(layer, findings);
        work.masked_units(layer, findings);
        work.debconf(layer, findings);
        work.variables(layer, findings);
        work.setting_ranges(layer, findings);
        work.setting_kinds(layer, findings);
    }
    work.nothing_below_files(findings);
    work.generated(&name, findings);
    let cluster = entries::cluster(role, &work.files, &context, findings);
    let manifest = RoleManifest {
        role: role.name.to_string(),
        requires: role.requires.iter().map(ToString::to_string).collect(),
        units: work.units.clone(),
        cluster,
    };
    let cluster = match &manifest.cluster {
        Some(Cluster::Kind(kind)) => Some(*kind),
        Some(Cluster::Join(_)) | None => None,
    };
    let mut json = serde_json::to_vec_pretty(&manifest).expect("a manifest has a JSON form");
    json.push(b'\n');
    work.generate(
        format!("{MANIFEST_DIR}/{}.json", role.name),
        json,
        "role.toml",
        false,
        findings,
    );
    let secrets = secrets(role, findings);
    let lintian = overrides(role, findings);
    let plan = RolePlan {
        name: role.name.clone(),
        package: name.clone(),
        debian,
        units: work.units,
        cluster,
        secrets,
    };
    let package = Package {
        name,
        section: "admin",
        summary,
        description,
        maintainer: inputs.fleet.maintainer.clone(),
        relations,
        files: work.files.into_values().collect(),
        scripts: work.scripts,
        lintian,
    };
    lint::package(
        &package,
        &work.places,
        Place::whole(role.own().manifest),
        findings,
    );
    (Some(package), Some(plan))
}

struct Work<'a> {
    inputs: &'a Inputs<'a>,
    role: &'a Role,
    context: &'a Context,
    files: BTreeMap<String, PackagedFile>,
    /// Where findings about a shipped file point to.
    places: BTreeMap<String, SourceId>,
    /// Where the entry of a shipped file stands.
    entries: BTreeMap<String, Place>,
    units: Vec<ManagedUnit>,
    scripts: Maintainer,
}

impl Work<'_> {
    fn descriptions(&self, findings: &mut Findings) -> (String, String) {
        let own = self.role.own();
        let head = &own.file.role;
        lint::summary(
            head.summary.get_ref(),
            own.place(head.summary.span()),
            findings,
        );
        lint::description(
            head.summary.get_ref(),
            head.description.get_ref(),
            own.place(head.description.span()),
            findings,
        );
        (
            head.summary.get_ref().clone(),
            head.description.get_ref().trim().to_owned(),
        )
    }

    /// Names behind a dot in templates.
    fn variables(&self, layer: &Layer, findings: &mut Findings) {
        let settings = layer.file.settings.keys().map(|key| ("settings", key));
        let facts = layer.file.suites.values().flat_map(|s| s.facts.keys());
        for (group, key) in settings.chain(facts.map(|key| ("suite", key))) {
            let name = key.get_ref();
            if !syntax::variable_name(name) {
                findings.error(
                    "role::variable-name",
                    layer.place(key.span()),
                    format!("no template can read {group}.{name}"),
                    "not letters, digits and underscores, beginning with a letter",
                    format!("rename it, such as {}", name.replace(['-', ' ', '.'], "_")),
                );
            }
        }
    }

    /// Ranges are of settings that there are, and their defaults are in them.
    fn setting_ranges(&self, layer: &Layer, findings: &mut Findings) {
        for (key, range) in &layer.file.setting_ranges {
            let name = key.get_ref();
            let [least, largest] = range.get_ref();
            match self.role.setting(name) {
                Some(toml::Value::Integer(default)) if (least..=largest).contains(&default) => {}
                Some(default @ toml::Value::Integer(_)) => findings.error(
                    "role::setting-range",
                    layer.place(range.span()),
                    format!("the default of setting {name:?} is not in its range"),
                    format!("it is {default}, and the range {least} to {largest}"),
                    "write the least and the largest value, in this order, or another default",
                ),
                Some(default) => findings.error(
                    "role::setting-range",
                    layer.place(key.span()),
                    format!("setting {name:?} cannot have a range"),
                    format!("its default is a value of type {}", default.type_str()),
                    "only whole numbers have one: remove the range",
                ),
                None => findings.error(
                    "role::setting-range",
                    layer.place(key.span()),
                    format!("role {} has no setting {name:?}", self.role.name),
                    "a range of a setting that is not declared",
                    "declare it with its default under [settings], or remove the range",
                ),
            }
        }
    }

    /// Kinds are of settings that there are, and their defaults are lists of what they say.
    fn setting_kinds(&self, layer: &Layer, findings: &mut Findings) {
        for (key, kind) in &layer.file.setting_kinds {
            let name = key.get_ref();
            let error = match self.role.setting(name) {
                Some(default @ toml::Value::Array(_)) => {
                    let Some(element) = kind.get_ref().refused(default) else {
                        continue;
                    };
                    format!(
                        "{element} in its default is not {}",
                        kind.get_ref().described()
                    )
                }
                Some(default) => format!("its default is a value of type {}", default.type_str()),
                None => format!("role {} has no such setting", self.role.name),
            };
            findings.error(
                "role::setting-kind",
                layer.place(key.span()),
                format!("setting {name:?} cannot have a kind"),
                error,
                "a kind tells what the elements of a list of text are; see docs/roles.md",
            );
        }
    }

    fn generated(&mut self, package: &PackageName, findings: &mut Findings) {
        let (role, context) = (self.role, self.context);
        let users = entries::lines(
            role,
            |l| &l.file.sysusers,
            entries::sysusers_line,
            "role::sysusers",
            "sysusers.d(5)",
            context,
            findings,
        );
        if !users.is_empty() {
            self.scripts.sysusers = true;
            self.generate(
                format!("/usr/lib/sysusers.d/{package}.conf"),
                users.into_bytes(),
                "sysusers",
                false,
                findings,
            );
        }
        let tmpfiles = entries::lines(
            role,
            |l| &l.file.tmpfiles,
            entries::tmpfiles_line,
            "role::tmpfiles",
            "tmpfiles.d(5)",
            context,
            findings,
        );
        if !tmpfiles.is_empty() {
            self.scripts.tmpfiles = true;
            self.generate(
                format!("/usr/lib/tmpfiles.d/{package}.conf"),
                tmpfiles.into_bytes(),
                "tmpfiles",
                false,
                findings,
            );
        }
        let sysctl = entries::sysctl(role, findings);
        if !sysctl.is_empty() {
            self.scripts.sysctl = true;
            self.generate(
                format!("/usr/lib/sysctl.d/60-{package}.conf"),
                sysctl.into_bytes(),
                "[sysctl]",
                false,
                findings,
            );
        }
        let logs = entries::logrotate(role, context, findings);
        if !logs.is_empty() {
            self.generate(
                format!("/etc/logrotate.d/{package}"),
                logs.into_bytes(),
                "[[logs]]",
                true,
                findings,
            );
        }
    }
}

fn secrets(role: &Role, findings: &mut Findings) -> Vec<Secret> {
    let mut all: Vec<Secret> = Vec::new();
    for layer in &role.layers {
        for entry in &layer.file.secrets {
            match SecretName::new(entry.name.get_ref().as_str()) {
                Ok(name) => {
                    all.retain(|s| s.name != name);
                    all.push(Secret {
                        name,
                        description: entry.description.clone(),
                        generate: entry.generate,
                    });
                }
                Err(why) => findings.error(
                    "role::secret-name",
                    layer.place(entry.name.span()),
                    format!("the secret's name {why}"),
                    "it becomes the name of a file",
                    "write a name such as \"redis-password\"",
                ),
            }
        }
    }
    all
}

fn overrides(role: &Role, findings: &mut Findings) -> Vec<Override> {
    let mut all = Vec::new();
    for layer in &role.layers {
        for entry in &layer.file.lintian {
            let (tag, reason) = (entry.tag.get_ref(), entry.reason.get_ref());
            let good = !tag.is_empty()
                && tag
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-/.".contains(&b));
            if !good {
                findings.error(
                    "role::lintian-tag",
                    layer.place(entry.tag.span()),
                    format!("{tag:?} is not a tag of lintian"),
                    "tags are lower-case words with hyphens",
                    "copy it from lintian's output, such as package-installs-apt-sources",
                );
            }
            if reason.trim().is_empty() || reason.contains('\n') {
                findings.error(
                    "role::lintian-reason",
                    layer.place(entry.reason.span()),
                    format!("the override of {tag} has no reason in one line"),
                    "stands beside the override for whoever reviews the package",
                    "say in one line why the tag does not apply",
                );
            }
            all.push(Override {
                tag: tag.clone(),
                context: entry.context.clone(),
                reason: reason.clone(),
            });
        }
    }
    all
}
