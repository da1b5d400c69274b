//! [[health]]

use std::ops::Range;

use tera::Context;

use crate::{
    finding::Findings,
    manifest::{HealthCheck, Probe},
    role::Role,
    role_file::HealthEntry,
    template,
    validate::syntax,
};

/// The role's health checks, rendered for a node.
pub(in crate::resolve) fn health(
    role: &Role,
    context: &Context,
    findings: &mut Findings,
) -> Vec<HealthCheck> {
    let mut all: Vec<HealthCheck> = Vec::new();
    for layer in &role.layers {
        for entry in &layer.file.health {
            match probe(entry, context) {
                Ok(probe) => {
                    let name = entry.name.get_ref().clone();
                    all.retain(|c| c.name != name);
                    all.push(HealthCheck { name, probe });
                }
                Err(problem) => findings.error(
                    "role::health",
                    layer.place(problem.span),
                    problem.message,
                    format!("in the health check {:?}", entry.name.get_ref()),
                    problem.help,
                ),
            }
        }
    }
    all
}

struct Problem {
    span: Range<usize>,
    message: String,
    help: &'static str,
}

fn probe(entry: &HealthEntry, context: &Context) -> Result<Probe, Problem> {
    let given: Vec<(&str, Range<usize>)> = [
        ("unit", entry.unit.as_ref().map(toml::Spanned::span)),
        ("tcp", entry.tcp.as_ref().map(toml::Spanned::span)),
        ("http", entry.http.as_ref().map(toml::Spanned::span)),
        ("command", entry.command.as_ref().map(toml::Spanned::span)),
    ]
    .into_iter()
    .filter_map(|(name, span)| span.map(|span| (name, span)))
    .collect();
    let span = match given.as_slice() {
        [(_, span)] => span.clone(),
        [] => {
            return Err(Problem {
                span: entry.name.span(),
                message: format!("{:?} looks at nothing", entry.name.get_ref()),
                help: "add one of unit, tcp, http and command: the one that says best whether the service works",
            });
        }
        [(first, _), (second, span), ..] => {
            return Err(Problem {
                span: span.clone(),
                message: format!("`{first}` and `{second}` stand in one check"),
                help: "make two entries of them, or keep the one that says best whether the service works",
            });
        }
    };
    let render = |text: &str| {
        template::render(text, context).map_err(|error| Problem {
            span: span.clone(),
            message: format!("{text:?} cannot be rendered: {}", error.message),
            help: "docs/roles.md lists the variables that templates may read",
        })
    };
    let problem = |message: String, help: &'static str| Problem {
        span: span.clone(),
        message,
        help,
    };
    if let Some(unit) = &entry.unit {
        let unit = render(unit.get_ref())?;
        if !syntax::unit_name(&unit) {
            return Err(problem(
                format!("{unit:?} is not a unit's name"),
                "write it with its suffix, such as nginx.service",
            ));
        }
        return Ok(Probe::Unit(unit));
    }
    if let Some(tcp) = &entry.tcp {
        let address = render(tcp.get_ref())?;
        let good = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0)
        });
        if !good {
            return Err(problem(
                format!("{address:?} is not host:port"),
                "write an address such as \"127.0.0.1:6432\"",
            ));
        }
        return Ok(Probe::Tcp(address));
    }
    if let Some(http) = &entry.http {
        let url = render(http.get_ref())?;
        if !url.starts_with("http://") {
            return Err(problem(
                format!("{url:?} is not a plain-HTTP URL"),
                "write a URL such as \"http://127.0.0.1:80/health\"",
            ));
        }
        return Ok(Probe::Http(url));
    }
    let words = entry.command.as_ref().map_or(&[][..], |c| c.get_ref());
    if !words
        .first()
        .is_some_and(|program| program.starts_with('/'))
    {
        return Err(problem(
            "the command does not begin with an absolute path".into(),
            "write [\"/usr/bin/pg_isready\", …]",
        ));
    }
    let words: Result<Vec<String>, Problem> = words.iter().map(|word| render(word)).collect();
    words.map(Probe::Command)
}
