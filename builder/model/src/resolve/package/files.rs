//! Files and links that the package ships.

use std::sync::Arc;

use toml::Spanned;

use super::Work;
use crate::{
    finding::{Findings, Place},
    lint,
    plan::{Content, Origin, PackagedFile},
    resolve::files::{self, Loaded, Variables, inline},
    role::Layer,
    role_file::Scope,
    source::{SourceId, TreeEntry},
};

impl Work<'_> {
    pub(super) fn add(
        &mut self,
        file: PackagedFile,
        source: Option<SourceId>,
        place: Place,
        findings: &mut Findings,
    ) {
        if let Some(earlier) = self.files.get(&file.path) {
            // A layer above another replaces its files; the same layer twice is a mistake.
            let same_layer = self
                .entries
                .get(&file.path)
                .is_some_and(|earlier| earlier.source == place.source);
            if same_layer {
                findings.error(
                    "role::path-twice",
                    place,
                    if earlier.origin == file.origin {
                        format!(
                            "role {} ships {} twice, both times from {}",
                            self.role.name, file.path, file.origin
                        )
                    } else {
                        format!(
                            "role {} ships {} twice: from {} and from {}",
                            self.role.name, file.path, earlier.origin, file.origin
                        )
                    },
                    "a package can hold a path once",
                    "remove one of the entries",
                );
                return;
            }
        }
        if let Some(source) = source {
            self.places.insert(file.path.clone(), source);
        }
        self.entries.insert(file.path.clone(), place);
        self.files.insert(file.path.clone(), file);
    }

    /// Adds a file that comes from entries rather than from a file of the role.
    pub(super) fn generate(
        &mut self,
        path: String,
        bytes: impl Into<Arc<[u8]>>,
        from: &'static str,
        conffile: bool,
        findings: &mut Findings,
    ) {
        if let Some(place) = self.entries.get(&path) {
            findings.error(
                "role::path-generated",
                place.clone(),
                format!(
                    "role {} ships {path}, which rolesmith makes itself",
                    self.role.name
                ),
                format!("the builder makes it from {from}"),
                "remove the entry, or ship it under another name",
            );
        }
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

    /// A path can be a file or a directory.
    pub(super) fn nothing_below_files(&self, findings: &mut Findings) {
        for (path, place) in &self.entries {
            let above = path
                .match_indices('/')
                .skip(1)
                .map(|(at, _)| &path[..at])
                .find(|parent| self.files.contains_key(*parent));
            if let Some(parent) = above {
                findings.error(
                    "role::path-below-file",
                    place.clone(),
                    format!("role {} ships {path} and {parent} too", self.role.name),
                    format!("{parent} would have to be a file and a directory"),
                    "rename one of them",
                );
            }
        }
    }

    /// What an entry names as its source or template; `what` and `place` say to people which entry it is.
    pub(super) fn content(
        &self,
        layer: &Layer,
        pick: (Option<&Spanned<String>>, Option<&Spanned<String>>),
        what: &str,
        place: &Place,
        findings: &mut Findings,
    ) -> Option<Loaded> {
        files::load(
            self.inputs,
            self.role,
            layer,
            pick,
            (what, place.clone()),
            self.context,
            Variables::Package,
            findings,
        )
    }

    pub(super) fn packaged_files(&mut self, layer: &Layer, findings: &mut Findings) {
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
            let Some(loaded) = self.content(layer, pick, &what, &place, findings) else {
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

    pub(super) fn links(&mut self, layer: &Layer, findings: &mut Findings) {
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

    /// Whole directories: those of services and sites, which were read or built before, and directories of the role.
    pub(super) fn trees(&mut self, layer: &Layer, findings: &mut Findings) {
        for entry in &layer.file.trees {
            let place = layer.place(entry.path.span());
            let Some(path) = inline(layer, &entry.path, self.context, findings) else {
                continue;
            };
            if !lint::path(&path, &place, findings) {
                continue;
            }
            let sources = self.inputs.sources;
            let made = sources.trees.get(self.role.name.as_str());
            let prefix = format!("{}/", entry.source.get_ref().trim_end_matches('/'));
            let mut found = false;
            for (below, what) in made.iter().flat_map(|tree| &tree.entries) {
                found = true;
                let (content, mode) = match what {
                    TreeEntry::File { bytes, executable } => {
                        let mode = if *executable { 0o755 } else { 0o644 };
                        (Content::File(bytes.clone()), mode)
                    }
                    TreeEntry::Link(target) => (Content::Symlink(target.clone()), 0o777),
                };
                self.tree_file(format!("{path}/{below}"), content, mode, &place, findings);
            }
            if made.is_none() {
                for (name, id) in layer
                    .files
                    .iter()
                    .filter(|(name, _)| name.starts_with(&prefix))
                {
                    found = true;
                    let bytes = sources.get(*id).bytes.clone();
                    let mode = if bytes.starts_with(b"#!") {
                        0o755
                    } else {
                        0o644
                    };
                    let path = format!("{path}/{}", &name[prefix.len()..]);
                    self.tree_file(path, Content::File(bytes), mode, &place, findings);
                }
            }
            // What was not built yet is missing, and that is told where somebody wants to pack it.
            if !found && !layer.builtin {
                findings.error(
                    "role::missing-tree",
                    layer.place(entry.source.span()),
                    format!(
                        "role {} has no directory {:?}",
                        layer.name,
                        entry.source.get_ref()
                    ),
                    "nothing in the role's directory begins with it",
                    "create it, or remove the entry",
                );
            }
        }
    }

    fn tree_file(
        &mut self,
        path: String,
        content: Content,
        mode: u32,
        place: &Place,
        findings: &mut Findings,
    ) {
        let file = PackagedFile {
            path,
            content,
            mode,
            conffile: false,
            origin: Origin::Generated("[[trees]]"),
        };
        self.add(file, None, place.clone(), findings);
    }
}
