//! From a role to its package.

use std::{collections::BTreeMap, sync::Arc};

use tera::Context;
use toml::Spanned;

use super::{
    Inputs, context, entries,
    files::{self, Variables, inline},
};
use crate::{
    finding::{Findings, Place},
    ids::{PackageName, SecretName},
    lint,
    manifest::{MANIFEST_DIR, ManagedUnit, RoleManifest, Start},
    plan::{
        Content, Maintainer, Origin, Override, Package, PackagedFile, PackagedUnit, RolePlan,
        Secret,
    },
    role::{Layer, Role},
    role_file::Scope,
    source::SourceId,
    validate::syntax,
};

/// Makes the role's package. `None` where errors forbid it.
pub(super) fn resolve(
    inputs: &Inputs<'_>,
    role: &Role,
    findings: &mut Findings,
) -> (Option<Package>, Option<RolePlan>) {
    let context = context::package(inputs.fleet, role);
    let mut work = Work {
        inputs,
        role,
        context: &context,
        files: BTreeMap::new(),
        places: BTreeMap::new(),
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
        work.units(layer, findings);
        work.drop_ins(layer, findings);
        work.fragments(layer, findings);
    }
    work.generated(&name, findings);
    let cluster = entries::cluster(role, &context, findings);
    let manifest = RoleManifest {
        role: role.name.to_string(),
        requires: role.requires.iter().map(ToString::to_string).collect(),
        units: work.units.clone(),
        cluster,
    };
    let mut json = serde_json::to_vec_pretty(&manifest).expect("a manifest has a JSON form");
    json.push(b'\n');
    work.generate(
        format!("{MANIFEST_DIR}/{}.json", role.name),
        json,
        "role.toml",
        false,
    );
    let secrets = secrets(role, findings);
    let lintian = role
        .layers
        .iter()
        .flat_map(|l| &l.file.lintian)
        .map(|o| Override {
            tag: o.tag.clone(),
            context: o.context.clone(),
            reason: o.reason.clone(),
        })
        .collect();
    let plan = RolePlan {
        name: role.name.clone(),
        package: name.clone(),
        debian,
        units: work.units,
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

    /// The relation fields, and the Debian packages among `Depends`.
    fn relations(
        &self,
        findings: &mut Findings,
    ) -> (BTreeMap<&'static str, Vec<String>>, Vec<String>) {
        let fleet = self.inputs.fleet;
        let (mut depends, mut recommends, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
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
                self.relation(layer, entry, &mut depends, Some(&mut debian), findings);
            }
            for entry in &dependencies.recommends {
                self.relation(layer, entry, &mut recommends, None, findings);
            }
            for entry in &dependencies.conflicts {
                self.relation(layer, entry, &mut conflicts, None, findings);
            }
            for name in layer.file.suites.keys() {
                if name.parse::<crate::ids::Suite>().is_err() {
                    findings.error(
                        "role::unknown-suite",
                        Place::whole(layer.manifest),
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
        if !archive.is_empty() {
            if let Some(unknown) = names.iter().find(|n| !own(n) && !archive.satisfies(n)) {
                if names.iter().all(|n| !own(n) && !archive.satisfies(n)) {
                    let suite = self.inputs.fleet.suite;
                    let help = archive.similar(unknown).map_or_else(
                        || format!("look it up with `apt-cache search` on a {suite} machine; names that differ between suites go under [suites.{suite}]"),
                        |near| format!("did you mean {near}?"),
                    );
                    findings.error(
                        "role::unknown-package",
                        layer.place(entry.span()),
                        format!("Debian {suite} has no package {unknown}"),
                        "apt could not install the role",
                        help,
                    );
                }
            }
        }
        if let Some(debian) = debian {
            if let Some(first) = names.iter().find(|n| !own(n)) {
                debian.push(first.clone());
            }
        }
        list.push(text);
    }

    fn add(
        &mut self,
        file: PackagedFile,
        source: Option<SourceId>,
        place: Place,
        findings: &mut Findings,
    ) {
        if let Some(earlier) = self.files.get(&file.path) {
            // A layer above another replaces its files; the same layer twice is a mistake.
            let same_layer = self.places.get(&file.path).is_some() && earlier.origin == file.origin;
            if same_layer || self.role.layers.len() == 1 {
                findings.error(
                    "role::path-twice",
                    place,
                    format!("role {} ships {} twice", self.role.name, file.path),
                    "a package can hold a path once",
                    "remove one of the entries",
                );
                return;
            }
        }
        if let Some(source) = source {
            self.places.insert(file.path.clone(), source);
        }
        self.files.insert(file.path.clone(), file);
    }

    /// Adds a file that comes from entries rather than from a file of the role.
    fn generate(
        &mut self,
        path: String,
        bytes: impl Into<Arc<[u8]>>,
        from: &'static str,
        conffile: bool,
    ) {
        self.files.insert(
            path.clone(),
            PackagedFile {
                path,
                content: Content::File(bytes.into()),
                mode: 0o644,
                conffile,
                origin: Origin::Generated(from),
            },
        );
    }

    fn packaged_files(&mut self, layer: &Layer, findings: &mut Findings) {
        for entry in layer
            .file
            .files
            .iter()
            .filter(|f| f.scope == Scope::Package)
        {
            let place = layer.place(entry.path.span());
            let Some(path) = inline(layer, &entry.path, self.context, findings) else {
                continue;
            };
            if !lint::path(&path, &place, findings) {
                continue;
            }
            if let Some(owner) = &entry.owner {
                findings.error(
                    "role::owner-in-package",
                    layer.place(owner.span()),
                    "`owner` is for files of scope \"node\"",
                    "packages ship root:root; users made by a package have no fixed number",
                    "remove it; a directory for a service's user is made with [tmpfiles] or StateDirectory=",
                );
            }
            let what = format!("the file {path}");
            let pick = (entry.source.as_ref(), entry.template.as_ref());
            let at = (what.as_str(), place.clone());
            let Some(loaded) = files::load(
                self.inputs,
                self.role,
                layer,
                pick,
                at,
                self.context,
                Variables::Package,
                findings,
            ) else {
                continue;
            };
            let executable = loaded.bytes.starts_with(b"#!");
            let mode = match &entry.mode {
                None if executable && !path.starts_with("/etc/") => 0o755,
                None => 0o644,
                Some(text) => {
                    match lint::mode(text.get_ref(), layer.place(text.span()), findings) {
                        Some(mode) => mode,
                        None => continue,
                    }
                }
            };
            let conffile = entry.conffile.unwrap_or_else(|| path.starts_with("/etc/"));
            if conffile && !path.starts_with("/etc/") {
                findings.error(
                    "role::conffile-outside-etc",
                    place.clone(),
                    format!("{path} cannot be a conffile"),
                    "configuration stands below /etc (Policy 10.7.2)",
                    "move it there, or set conffile = false",
                );
            }
            if !conffile && path.starts_with("/etc/") {
                findings.warning(
                    "role::etc-without-conffile",
                    place.clone(),
                    format!("{path} is below /etc but not a conffile"),
                    "an upgrade would overwrite what an administrator changed (Policy 10.7.3)",
                    "remove conffile = false, or ship it below /usr/lib",
                );
            }
            let file = PackagedFile {
                path,
                content: Content::File(loaded.bytes),
                mode,
                conffile,
                origin: loaded.origin,
            };
            self.add(file, Some(loaded.source), place, findings);
        }
    }

    fn links(&mut self, layer: &Layer, findings: &mut Findings) {
        for entry in &layer.file.links {
            let place = layer.place(entry.path.span());
            let path = inline(layer, &entry.path, self.context, findings);
            let target = inline(layer, &entry.target, self.context, findings);
            let (Some(path), Some(target)) = (path, target) else {
                continue;
            };
            if !lint::path(&path, &place, findings) {
                continue;
            }
            if target.is_empty() || target.contains(['\n', '\0']) {
                findings.error(
                    "role::link-target",
                    layer.place(entry.target.span()),
                    format!("the link {path} points to nothing"),
                    "an empty target, or one with a control character",
                    "write where it points to",
                );
                continue;
            }
            let file = PackagedFile {
                path,
                content: Content::Symlink(target),
                mode: 0o777,
                conffile: false,
                origin: Origin::Generated("[[links]]"),
            };
            self.add(file, None, place, findings);
        }
    }

    fn units(&mut self, layer: &Layer, findings: &mut Findings) {
        for entry in &layer.file.units {
            let named = entry.source.as_ref().or(entry.template.as_ref());
            let place = named.map_or(Place::whole(layer.manifest), |n| layer.place(n.span()));
            let Some(named) = named else {
                findings.error(
                    "role::no-content",
                    place,
                    "a unit has neither `source` nor `template`",
                    "nothing says what it contains",
                    "name a file of the role's directory, such as \"units/rolesmith-worker.service\"",
                );
                continue;
            };
            let name = named
                .get_ref()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            if !syntax::unit_name(&name) {
                findings.error(
                    "role::unit-name",
                    place,
                    format!("{name:?} is not a unit's name"),
                    "the unit is named after its file (systemd.unit(5))",
                    "name the file NAME.service, NAME.timer, NAME.socket, NAME.path, NAME.target, NAME.slice or NAME.mount",
                );
                continue;
            }
            if !name.starts_with("rolesmith-") {
                findings.error(
                    "role::unit-prefix",
                    place,
                    format!("the unit {name} is not called rolesmith-…"),
                    "own units carry the prefix so that they never meet one of Debian's packages",
                    format!("name the file rolesmith-{name}"),
                );
                continue;
            }
            let what = format!("the unit {name}");
            let pick = (entry.source.as_ref(), entry.template.as_ref());
            let at = (what.as_str(), place.clone());
            let Some(loaded) = files::load(
                self.inputs,
                self.role,
                layer,
                pick,
                at,
                self.context,
                Variables::Package,
                findings,
            ) else {
                continue;
            };
            lint::unit(
                &name,
                &loaded.bytes,
                entry.enable,
                Place::whole(loaded.source),
                findings,
            );
            self.units.retain(|u| u.name != name);
            self.units.push(ManagedUnit {
                name: name.clone(),
                start: entry.start,
                on_change: entry.on_change,
                own: true,
            });
            self.scripts.units.retain(|u| u.name != name);
            self.scripts.units.push(PackagedUnit {
                name: name.clone(),
                enable: entry.enable,
                start: entry.start == Start::Install,
            });
            let file = PackagedFile {
                path: format!("/usr/lib/systemd/system/{name}"),
                content: Content::File(loaded.bytes),
                mode: 0o644,
                conffile: false,
                origin: loaded.origin,
            };
            self.add(file, Some(loaded.source), place, findings);
        }
    }

    fn drop_ins(&mut self, layer: &Layer, findings: &mut Findings) {
        for entry in &layer.file.drop_ins {
            let place = layer.place(entry.unit.span());
            let unit = entry.unit.get_ref().clone();
            if !syntax::unit_name(&unit) {
                findings.error(
                    "role::unit-name",
                    place,
                    format!("{unit:?} is not a unit's name"),
                    "a drop-in adds to a unit of this name (systemd.unit(5))",
                    "write it with its suffix, such as nginx.service",
                );
                continue;
            }
            let what = format!("the drop-in for {unit}");
            let pick = (entry.source.as_ref(), entry.template.as_ref());
            let at = (what.as_str(), place.clone());
            let Some(loaded) = files::load(
                self.inputs,
                self.role,
                layer,
                pick,
                at,
                self.context,
                Variables::Package,
                findings,
            ) else {
                continue;
            };
            lint::unit_text(&loaded.bytes, Place::whole(loaded.source), findings);
            self.units.retain(|u| u.name != unit);
            self.units.push(ManagedUnit {
                name: unit.clone(),
                start: entry.start,
                on_change: entry.on_change,
                own: false,
            });
            let file = PackagedFile {
                path: format!(
                    "/usr/lib/systemd/system/{unit}.d/50-rolesmith-{}.conf",
                    self.role.name
                ),
                content: Content::File(loaded.bytes),
                mode: 0o644,
                conffile: false,
                origin: loaded.origin,
            };
            self.add(file, Some(loaded.source), place, findings);
        }
    }

    fn fragments(&mut self, layer: &Layer, findings: &mut Findings) {
        let scripts = &layer.file.scripts;
        for (named, which) in [
            (&scripts.preinst, "preinst"),
            (&scripts.postinst, "postinst"),
            (&scripts.prerm, "prerm"),
            (&scripts.purge, "purge"),
        ] {
            let Some(named) = named else { continue };
            let place = layer.place(named.span());
            let pick = (None, Some(named));
            let at = (which, place);
            let Some(loaded) = files::load(
                self.inputs,
                self.role,
                layer,
                pick,
                at,
                self.context,
                Variables::Package,
                findings,
            ) else {
                continue;
            };
            let Some(text) = lint::fragment(&loaded.bytes, Place::whole(loaded.source), findings)
            else {
                continue;
            };
            let list = match which {
                "preinst" => &mut self.scripts.preinst,
                "postinst" => &mut self.scripts.postinst,
                "prerm" => &mut self.scripts.prerm,
                _ => &mut self.scripts.purge,
            };
            list.push(text);
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
            );
        }
        let logs = entries::logrotate(role, context, findings);
        if !logs.is_empty() {
            self.generate(
                format!("/etc/logrotate.d/{package}"),
                logs.into_bytes(),
                "[[logs]]",
                true,
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
