//! What nginx of this machine says of what the fleet's edges will read, with its place in the fleet's files.

use std::collections::BTreeSet;

use rolesmith_host::nginx::{
    Complaint, Level, Nginx, NginxError,
    files::{NodeFile, NodeFiles},
    origin::line_in_template,
};
use rolesmith_model::{
    finding::{Finding, Findings, Place},
    plan::Plan,
    source::{SourceId, Sources},
};

use crate::report::{Failure, Outcome};

/// What came of the test.
pub enum Tested {
    /// What nginx says; nothing where it would start everywhere, or no node has it.
    Findings(Vec<Finding>),
    /// Nodes have it, and this machine does not.
    Missing,
}

/// Asks nginx, where this machine has one, about every node that will run it.
pub fn test(plan: &Plan, sources: &Sources, fleet: SourceId) -> Outcome<Tested> {
    let nodes: Vec<NodeFiles> = plan
        .nodes
        .iter()
        .filter_map(|node| NodeFiles::of(plan, node))
        .collect();
    if nodes.is_empty() {
        return Ok(Tested::Findings(Vec::new()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(nginx) = Nginx::find(&path).map_err(failure)? else {
        return Ok(Tested::Missing);
    };
    let mut findings = Findings::new();
    // Most nodes have the same to say; the first one speaks for the others.
    let mut told = BTreeSet::new();
    for node in &nodes {
        for complaint in nginx.test(node).map_err(failure)? {
            let found = node.of_complaint(&complaint);
            let place = found.and_then(|(file, line)| place(sources, file, line));
            let told_before = (
                place.as_ref().map(|place| (place.source, place.span.start)),
                complaint.message.clone(),
            );
            if told.insert(told_before) {
                let place = place.unwrap_or_else(|| Place::whole(fleet));
                tell(&complaint, node, found, place, &mut findings);
            }
        }
    }
    Ok(Tested::Findings(findings.into_sorted()))
}

/// The line of the template, or the template.
fn place(sources: &Sources, file: &NodeFile, line: usize) -> Option<Place> {
    let source = sources.find(&file.origin)?;
    let template = sources.get(source).text()?;
    Some(
        line_in_template(template, &file.text, line)
            .map_or_else(|| Place::whole(source), |span| Place::new(source, span)),
    )
}

fn tell(
    complaint: &Complaint,
    node: &NodeFiles,
    found: Option<(&NodeFile, usize)>,
    place: Place,
    findings: &mut Findings,
) {
    let rendered = found.and_then(|(file, line)| Some((file, file.text.lines().nth(line - 1)?)));
    let why = match rendered {
        Some((file, text)) => format!("on {} it is `{}`, in {}", node.node, text.trim(), file.path),
        None => format!("this is what nginx says of the files of {}", node.node),
    };
    match complaint.level {
        // It asks the resolver when it starts; what this machine cannot look up a node may well can.
        Level::Error if complaint.message.starts_with("host not found") => findings.warning(
            "edge::nginx-host",
            place,
            format!("nginx: {}", complaint.message),
            why,
            "nginx starts only where it can look up the name: write an address, or make sure that nodes can when they boot",
        ),
        Level::Error => findings.error(
            "edge::nginx",
            place,
            format!("nginx would not start: {}", complaint.message),
            why,
            "correct the template, or the value that fleet.toml gives it; nginx.org/en/docs describes every directive",
        ),
        Level::Warning => findings.warning(
            "edge::nginx-warns",
            place,
            format!("nginx: {}", complaint.message),
            why,
            "nginx starts all the same; nginx.org/en/docs describes every directive",
        ),
    }
}

fn failure(error: NginxError) -> Failure {
    let help = match &error {
        NginxError::Start { .. } | NginxError::Version(_) => {
            "see whether `nginx -v` works; without an nginx in PATH or /usr/sbin nothing is tested"
        }
        NginxError::Lay(_) | NginxError::Certificate(_) => {
            "see whether $TMPDIR, or /tmp, may be written and has room"
        }
    };
    Failure::because(&error, help)
}
