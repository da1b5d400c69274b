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
            format!("the name {path:?} {why}"),
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
            || format!("create roles/{}/{path}, or remove the entry", layer.name),
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
                    format!("{what} is not UTF-8"),
                    "templates are text",
                    "convert it, for example with iconv(1); what is not text is shipped with `source`",
                );
                return None;
            };
            let rendered = render_source(id, text, what, context, variables, findings)?;
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
    what: &str,
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
                format!("{what} names a secret, but is part of a package"),
                "whatever is in a package can be read by everybody who reaches the repository",
                "put it into a file of its own with scope = \"node\" and mode = \"0640\"",
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
                format!("{what} reads `{name}`, but is the same on every node"),
                "differs from node to node",
                "put it into a file with scope = \"node\", which is rendered for each node",
            );
            return None;
        }
    }
    match template.render(context) {
        Ok(text) => Some(text),
        Err(error) => {
            let help = undefined(text, error.span.as_ref());
            report(findings, "template::render", id, error, help);
            None
        }
    }
}

/// What to do about a variable that is not there.
fn undefined(text: &str, span: Option<&std::ops::Range<usize>>) -> &'static str {
    let before = span.and_then(|s| text.get(..s.start)).unwrap_or("");
    if before.ends_with("secret.") {
        "declare the secret under [[secrets]] in role.toml; hyphens in its name are underscores here"
    } else if before.ends_with("settings.") {
        "declare it with its default under [settings] in role.toml"
    } else if before.ends_with("suite.") {
        "declare it for each suite under [suites.NAME] in role.toml: facts.NAME = \"…\""
    } else {
        "docs/roles.md lists the variables that templates may read"
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
    findings.error(
        code,
        Place::new(id, error.span.unwrap_or(0..0)),
        error.message,
        "the template cannot be rendered",
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
