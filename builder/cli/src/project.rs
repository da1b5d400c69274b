//! A fleet's directory, from its files to its plan.

use rolesmith_host::{archive, load, mail::read_authorities};
use rolesmith_model::{
    applications::add_roles,
    archive_names::ArchiveNames,
    finding::{Finding, Findings, Place, Severity},
    fleet::Fleet,
    plan::{NodePlan, Plan},
    resolve::resolve,
    role::Roles,
    source::Sources,
    validate,
};

pub use crate::keys::{Keys, SECRETS_DIR, kept, keys, seed, seed_of};
use crate::{
    app::App,
    applications::{self, Services},
    report::{self, Failure, Outcome},
};

/// Everything that the fleet's files say, right or wrong.
pub struct Inspected {
    /// The files.
    pub sources: Sources,
    /// What is to be said about them, in the order of their places.
    pub findings: Vec<Finding>,
    /// The plan, where no error stands in its way.
    pub plan: Option<Plan>,
}

/// Reads and checks everything.
pub fn inspect(app: &App) -> Outcome<Inspected> {
    let sources = load::fleet(&app.dir).map_err(unreadable)?;
    Ok(judge(app, sources, Services::Inspected))
}

/// Checks the fleet's files with another text in the place of fleet.toml.
pub fn inspect_with(app: &App, fleet: &str) -> Outcome<Inspected> {
    let mut sources = load::fleet(&app.dir).map_err(unreadable)?;
    sources.fleet = Some(sources.add("fleet.toml", fleet.as_bytes()));
    Ok(judge(app, sources, Services::Inspected))
}

fn unreadable(error: load::LoadError) -> Failure {
    Failure::because(&error, error.help())
}

/// Checks files that were read already.
fn judge(app: &App, mut sources: Sources, services: Services) -> Inspected {
    let mut findings = Findings::new();
    let mut roles = Roles::load(&sources, &mut findings);
    let mut fleet = validate::fleet::load(&sources, &roles, &mut findings);
    if let Some(fleet) = &mut fleet {
        applications::read(app, fleet, services, &mut sources, &mut findings);
        read_mail_authorities(app, fleet, &mut findings);
        read_acme_authorities(app, fleet, &mut findings);
        add_roles(&mut sources, &mut roles, fleet, &mut findings);
    }
    let plan = fleet.and_then(|fleet| {
        let names = ArchiveNames::parse(archive::names(fleet.suite));
        resolve(&sources, &roles, fleet, &names, &mut findings)
    });
    Inspected {
        sources,
        findings: findings.into_sorted(),
        plan,
    }
}

/// Reads who may sign the smarthost's certificate.
fn read_mail_authorities(app: &App, fleet: &mut Fleet, findings: &mut Findings) {
    let source = fleet.source;
    let Some(ca) = fleet.mail.as_mut().and_then(|mail| mail.ca.as_mut()) else {
        return;
    };
    match read_authorities(&app.dir.join(&ca.path), &ca.path) {
        Ok(pem) => ca.pem = pem,
        Err(error) => {
            let help = error.help();
            findings.error(
                "fleet::mail-ca",
                Place::new(source, ca.span.clone()),
                error.to_string(),
                "nodes give mail to a smarthost whose certificate these CAs have signed",
                help,
            );
        }
    }
}

/// Reads who may sign the certificate of the authority's own server.
fn read_acme_authorities(app: &App, fleet: &mut Fleet, findings: &mut Findings) {
    let source = fleet.source;
    let certificates = fleet.certificates.as_mut();
    let Some(ca) = certificates.and_then(|certificates| certificates.ca.as_mut()) else {
        return;
    };
    match read_authorities(&app.dir.join(&ca.path), &ca.path) {
        Ok(pem) => ca.pem = pem,
        Err(error) => findings.error(
            "fleet::certificates-ca",
            Place::new(source, ca.span.clone()),
            error.to_string(),
            "edges speak to an authority whose server's certificate these CAs have signed",
            "write the certificates of the CAs that sign for the authority's server, in PEM, and nothing else",
        ),
    }
}

/// The plan; errors and warnings are shown, and errors end the command.
pub fn plan(app: &App) -> Outcome<Plan> {
    show(app, inspect(app)?)
}

/// The same with the services' programs in it, for whoever packs them: their dependencies are installed.
pub fn built_plan(app: &App) -> Outcome<Plan> {
    let sources = load::fleet(&app.dir).map_err(unreadable)?;
    show(app, judge(app, sources, Services::Built))
}

fn show(app: &App, inspected: Inspected) -> Outcome<Plan> {
    let told: Vec<Finding> = inspected
        .findings
        .into_iter()
        .filter(|f| f.severity >= Severity::Warning)
        .collect();
    match inspected.plan {
        Some(plan) => {
            report::show(&inspected.sources, &told, false, app.terminal, app.color)?;
            Ok(plan)
        }
        None => {
            report::show(&inspected.sources, &told, app.json, app.terminal, app.color)?;
            Err(Failure::Findings)
        }
    }
}

/// The node of that name.
pub fn node<'p>(plan: &'p Plan, name: &str) -> Outcome<&'p NodePlan> {
    plan.node(name).ok_or_else(|| {
        let names: Vec<&str> = plan.nodes.iter().map(|n| n.name.as_str()).collect();
        Failure::new(
            format!("the fleet has no node {name:?}"),
            format!("its nodes are {}", names.join(", ")),
        )
    })
}
