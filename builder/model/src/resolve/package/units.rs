//! Own units, drop-ins for Debian's, and fragments for the maintainer scripts.

use super::Work;
use crate::{
    finding::{Findings, Place},
    lint,
    manifest::{ManagedUnit, Start},
    plan::{Content, PackagedFile, PackagedUnit},
    resolve::files::Loaded,
    role::Layer,
    validate::syntax,
};

impl Work<'_> {
    pub(super) fn units(&mut self, layer: &Layer, findings: &mut Findings) {
        for entry in &layer.file.units {
            let whole = layer.place(entry.span());
            let entry = entry.get_ref();
            let named = entry.source.as_ref().or(entry.template.as_ref());
            let place = named.map_or(whole, |n| layer.place(n.span()));
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
            let Some(loaded) = self.content(layer, pick, &what, &place, findings) else {
                continue;
            };
            lint::unit(
                &name,
                &loaded.bytes,
                entry.enable,
                Place::whole(loaded.source),
                findings,
            );
            self.manage(ManagedUnit {
                name: name.clone(),
                start: entry.start,
                on_change: entry.on_change,
                on_certificate: entry.on_certificate,
                own: true,
            });
            self.scripts.units.retain(|u| u.name != name);
            self.scripts.units.push(PackagedUnit {
                name: name.clone(),
                enable: entry.enable,
                start: entry.start == Start::Install,
            });
            let path = format!("/usr/lib/systemd/system/{name}");
            self.unit_file(path, loaded, place, findings);
        }
    }

    pub(super) fn drop_ins(&mut self, layer: &Layer, findings: &mut Findings) {
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
            let Some(loaded) = self.content(layer, pick, &what, &place, findings) else {
                continue;
            };
            lint::unit_text(&unit, &loaded.bytes, Place::whole(loaded.source), findings);
            self.manage(ManagedUnit {
                name: unit.clone(),
                start: entry.start,
                on_change: entry.on_change,
                on_certificate: entry.on_certificate,
                own: false,
            });
            let path = format!(
                "/usr/lib/systemd/system/{unit}.d/50-rolesmith-{}.conf",
                self.role.name
            );
            self.unit_file(path, loaded, place, findings);
        }
    }

    pub(super) fn readers(&mut self, layer: &Layer, findings: &mut Findings) {
        for entry in &layer.file.readers {
            let unit = entry.unit.get_ref();
            if !syntax::unit_name(unit) {
                findings.error(
                    "role::unit-name",
                    layer.place(entry.unit.span()),
                    format!("{unit:?} is not a unit's name"),
                    "a unit of this name reads the role's files (systemd.unit(5))",
                    "write it with its suffix, such as nginx.service",
                );
                continue;
            }
            self.manage(ManagedUnit {
                name: unit.clone(),
                start: Start::Never,
                on_change: entry.on_change,
                on_certificate: entry.on_certificate,
                own: false,
            });
        }
    }

    /// A unit that the agent looks after; a later layer's word counts.
    fn manage(&mut self, unit: ManagedUnit) {
        self.units.retain(|known| known.name != unit.name);
        self.units.push(unit);
    }

    fn unit_file(&mut self, path: String, loaded: Loaded, place: Place, findings: &mut Findings) {
        let file = PackagedFile {
            path,
            content: Content::File(loaded.bytes),
            mode: 0o644,
            conffile: false,
            origin: loaded.origin,
        };
        self.add(file, Some(loaded.source), place, findings);
    }

    pub(super) fn fragments(&mut self, layer: &Layer, findings: &mut Findings) {
        let scripts = &layer.file.scripts;
        for (named, which) in [
            (&scripts.preinst, "preinst"),
            (&scripts.postinst, "postinst"),
            (&scripts.prerm, "prerm"),
            (&scripts.purge, "purge"),
        ] {
            let Some(named) = named else { continue };
            let place = layer.place(named.span());
            let what = format!("the fragment {which}");
            let pick = (None, Some(named));
            let Some(loaded) = self.content(layer, pick, &what, &place, findings) else {
                continue;
            };
            let Some(text) =
                lint::fragment(which, &loaded.bytes, Place::whole(loaded.source), findings)
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

    pub(super) fn masked_units(&self, layer: &Layer, findings: &mut Findings) {
        for unit in &layer.file.masked_units {
            if !syntax::unit_name(unit.get_ref()) {
                findings.error(
                    "role::unit-name",
                    layer.place(unit.span()),
                    format!(
                        "{:?} cannot be masked: it is not a unit's name",
                        unit.get_ref()
                    ),
                    "a unit of one of Debian's packages (systemd.unit(5))",
                    "write it with its suffix, such as nginx.service",
                );
            }
        }
    }
}
