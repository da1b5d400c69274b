//! Files and templates of a role's directory.

use std::sync::Arc;

use tera::Context;
use toml::Spanned;

use super::Inputs;
use crate::{
    archive_names::closest,
    finding::{Findings, Place},
    plan::Origin,
    role::{Layer, Role},
    source::SourceId,
    template::{Template, TemplateError},
    validate::syntax,
};

/// A file of the role's directory, ready for the package.
pub(super) struct Loaded {
    /// Its bytes, rendered where it is a template.
    pub bytes: Arc<[u8]>,
    /// Where it came from.
    pub origin: Origin,
    /// The source, for findings about its text.
    pub source: SourceId,
}

/// Which variables a template may read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variables {
    /// Those of scope "package".
    Package,
    /// Those of scope "node".
    Node,
}

/// Finds the file that an entry names in its own layer, or in those below it.
pub(super) fn find(
    role: &Role,
    layer: &Layer,
    name: &Spanned<String>,
    findings: &mut Findings,
) -> Option<SourceId> {
    let path = name.get_ref().as_str();
    if let Err(why) = syntax::relative_path(path) {
        findings.error(
            "role::source-path",
            layer.place(name.span()),
            format!("{path:?} {why}"),
            "files are named relative to the role's directory and stay inside it",
            "write a path such as \"files/app.conf\"",
        );
        return None;
    }
    let depth = role
        .layers
        .iter()
        .position(|l| l.manifest == layer.manifest)
        .unwrap_or(0);
    let found = role.layers[..=depth]
        .iter()
        .rev()
        .find_map(|l| l.files.get(path))
        .copied();
    if found.is_none() {
        let help = closest(path, layer.files.keys().map(String::as_str)).map_or_else(
            || format!("create {}/{path}", layer.name),
            |near| format!("did you mean {near:?}?"),
        );
        findings.error(
            "role::missing-file",
            layer.place(name.span()),
            format!("role {} has no file {path:?}", layer.name),
            "not in the role's directory",
            help,
        );
    }
    found
}

#[allow(
    clippy::too_many_arguments,
    reason = "each is a different thing that a finding needs to name"
)]
/// Loads the one file that an entry names as `source` or as `template`.
pub(super) fn load(
    inputs: &Inputs<'_>,
    role: &Role,
    layer: &Layer,
    (source, template): (Option<&Spanned<String>>, Option<&Spanned<String>>),
    (what, place): (&str, Place),
    context: &Context,
    variables: Variables,
    findings: &mut Findings,
) -> Option<Loaded> {
    match (source, template) {
        (Some(source), None) => {
            let id = find(role, layer, source, findings)?;
            let file = inputs.sources.get(id);
            Some(Loaded {
                bytes: file.bytes.clone(),
                origin: Origin::Source(file.path.clone()),
                source: id,
            })
        }
        (None, Some(template)) => {
            let id = find(role, layer, template, findings)?;
            let file = inputs.sources.get(id);
            let Some(text) = file.text() else {
                findings.error(
                    "template::not-utf8",
                    Place::whole(id),
                    "the template is not UTF-8",
                    "templates are text",
                    "ship it with `source` if it is meant to be copied as it is",
                );
                return None;
            };
            let rendered = render_source(id, text, context, variables, findings)?;
            Some(Loaded {
                bytes: rendered.into_bytes().into(),
                origin: Origin::Template(file.path.clone()),
                source: id,
            })
        }
        (Some(both), Some(_)) => {
            findings.error(
                "role::source-and-template",
                layer.place(both.span()),
                format!("{what} has both `source` and `template`"),
                "only one of them can give the content",
                "keep `template` if it holds variables, `source` if not",
            );
            None
        }
        (None, None) => {
            findings.error(
                "role::no-content",
                place,
                format!("{what} has neither `source` nor `template`"),
                "nothing says what it contains",
                "name a file of the role's directory with `source` or `template`",
            );
            None
        }
    }
}

fn render_source(
    id: SourceId,
    text: &str,
    context: &Context,
    variables: Variables,
    findings: &mut Findings,
) -> Option<String> {
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            report(
                findings,
                "template::syntax",
                id,
                error,
                "see the template language's documentation (tera)",
            );
            return None;
        }
    };
    if variables == Variables::Package {
        let read = template.variables();
        if read.contains("secret") {
            findings.error(
                "template::secret-in-package",
                Place::new(id, find_variable(text, "secret")),
                "a packaged file names a secret",
                "whatever is in a package can be read by everybody who reaches the repository",
                "set scope = \"node\" and mode = \"0640\" for this file",
            );
            return None;
        }
        if let Some(name) = ["node", "members", "tls"]
            .into_iter()
            .find(|n| read.contains(*n))
        {
            findings.error(
                "template::node-in-package",
                Place::new(id, find_variable(text, name)),
                format!("`{name}` differs from node to node, but this file is the same on all"),
                "only files of scope \"node\" are rendered for each node",
                "set scope = \"node\" for this file, or leave the variable out",
            );
            return None;
        }
    }
    match template.render(context) {
        Ok(text) => Some(text),
        Err(error) => {
            report(
                findings,
                "template::render",
                id,
                error,
                "docs/roles.md lists the variables that templates may read",
            );
            None
        }
    }
}

fn find_variable(text: &str, name: &str) -> std::ops::Range<usize> {
    text.find(&format!("{name}."))
        .or_else(|| text.find(name))
        .map_or(0..0, |at| at..at + name.len())
}

fn report(
    findings: &mut Findings,
    code: &'static str,
    id: SourceId,
    error: TemplateError,
    help: &str,
) {
    let mut message = error.message;
    if let Some(first) = message.get(..1) {
        message = format!("{}{}", first.to_lowercase(), &message[1..]);
    }
    findings.error(
        code,
        Place::new(id, error.span.unwrap_or(0..0)),
        message,
        "here",
        help,
    );
}

/// Renders a short template that stands in role.toml itself.
pub(super) fn inline(
    layer: &Layer,
    text: &Spanned<String>,
    context: &Context,
    findings: &mut Findings,
) -> Option<String> {
    match crate::template::render(text.get_ref(), context) {
        Ok(text) => Some(text),
        Err(error) => {
            findings.error(
                "role::inline-template",
                layer.place(text.span()),
                format!("{:?} cannot be rendered: {}", text.get_ref(), error.message),
                "a template in role.toml",
                "docs/roles.md lists the variables that templates may read",
            );
            None
        }
    }
}
