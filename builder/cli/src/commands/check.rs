//! rolesmith check

use rolesmith_model::finding::Severity;

use crate::{
    app::App,
    args::Check,
    clusters,
    edge::{self, Tested},
    execute, project,
    report::{self, Failure, Outcome},
    upkeep,
};

/// Tells everything that is wrong; fails where an error is among it.
pub fn run(app: &App, args: &Check) -> Outcome {
    let mut inspected = project::inspect(app)?;
    let mut untested = false;
    if let (Some(plan), Some(fleet)) = (&inspected.plan, inspected.sources.fleet) {
        let mut more = upkeep::findings(app, plan, fleet)?;
        more.extend(clusters::findings(app, plan, fleet)?);
        match edge::test(plan, &inspected.sources, fleet)? {
            Tested::Findings(findings) => more.extend(findings),
            Tested::Missing => untested = true,
        }
        if args.execute {
            more.extend(execute::seeds(app, plan, fleet)?);
        }
        inspected.findings.extend(more);
    }
    report::show(
        &inspected.sources,
        &inspected.findings,
        app.json,
        app.terminal,
        app.color,
    )?;
    let limit = if args.strict {
        Severity::Warning
    } else {
        Severity::Error
    };
    if inspected.findings.iter().any(|f| f.severity >= limit) {
        app.say(format_args!("{}", report::count(&inspected.findings)));
        return Err(Failure::Findings);
    }
    if let Some(plan) = &inspected.plan {
        app.say(format_args!(
            "The fleet {} is sound: {}, {} ({}).{}{}{}",
            plan.fleet.name,
            report::plural(plan.nodes.len(), "node", "nodes"),
            report::plural(plan.roles.len(), "role", "roles"),
            report::count(&inspected.findings),
            // Nobody has to have mail, so this is no finding.
            if plan.fleet.mail.is_none() {
                " Without [mail] its nodes write to nobody."
            } else {
                ""
            },
            // Nor does a fleet that nobody sees yet have to have certificates that others trust.
            if plan.fleet.certificates.is_none() && !plan.fleet.applications.sites.is_empty() {
                " Without [certificates] its sites have certificates that no browser trusts."
            } else {
                ""
            },
            if untested {
                " nginx is not installed here: whether it takes what the edges will read was not tested."
            } else {
                ""
            }
        ));
    }
    Ok(())
}
