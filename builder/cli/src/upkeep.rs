//! What can be said of a fleet only where its secrets are: certificates that end, and seeds that no provider takes.

use rolesmith_formats::{
    cloud_config::{self, CloudConfigError},
    date::Utc,
};
use rolesmith_host::{
    ca::{Authorities, Certificate, NODE_LIFETIME, Step},
    secrets::{Secrets, SecretsError},
};
use rolesmith_model::{
    facts::Origin,
    finding::{Finding, Findings, Place},
    plan::Plan,
    source::SourceId,
};

use crate::{
    app::App,
    keys::{self, SECRETS_DIR},
    report::Outcome,
};

/// Looks and writes nothing. Without secrets, or with another user's, there is nothing to be said.
pub fn findings(app: &App, plan: &Plan, fleet: SourceId) -> Outcome<Vec<Finding>> {
    let secrets = match Secrets::open(&app.dir.join(SECRETS_DIR)) {
        Ok(secrets) => secrets,
        Err(SecretsError::Missing(_) | SecretsError::Owner { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    secrets.check_fleet(&plan.fleet.name)?;
    let mut findings = Findings::new();
    authority(
        &secrets.authorities()?,
        app.now,
        Place::whole(fleet),
        &mut findings,
    );
    for (name, node) in &plan.fleet.nodes {
        if let Some(identity) = secrets.node(name)? {
            let place = Place::new(fleet, node.span.clone());
            certificate(
                identity.certificate(),
                name.as_str(),
                app.now,
                place,
                &mut findings,
            );
        }
    }
    seeds(app, plan, fleet, &mut findings);
    Ok(findings.into_sorted())
}

/// What to say where the CA is in the last third of its life and has no successor.
pub fn reminder(authorities: &Authorities, now: u64) -> Option<String> {
    let ca = authorities.issuer().certificate();
    (authorities.due() == Step::Next && ca.renewal_due(now)).then(|| {
        format!(
            "warning: the fleet's CA ends on {}: begin to replace it with `rolesmith ca next` (docs/fleet.md, A new CA)",
            date(ca.expires())
        )
    })
}

/// The step that comes next where the CA is being replaced.
pub fn under_way(authorities: &Authorities) -> Option<&'static str> {
    let due = authorities.due();
    (due != Step::Next).then(|| due.word())
}

fn authority(authorities: &Authorities, now: u64, place: Place, findings: &mut Findings) {
    const WHY: &str = "members know each other by certificates below it";
    let ca = authorities.issuer().certificate();
    let ends = date(ca.expires());
    let help = format!(
        "`rolesmith ca {}` is the next step to replace it (docs/fleet.md, A new CA)",
        authorities.due().word()
    );
    if now >= ca.expires() {
        let message = format!("the fleet's CA ended on {ends}");
        findings.warning("fleet::ca-expired", place, message, WHY, help);
    } else if ca.expires_within(now, NODE_LIFETIME) {
        let message = format!("the fleet's CA ends on {ends}");
        findings.warning("fleet::ca-expires", place, message, WHY, help);
    } else if ca.renewal_due(now) && authorities.due() == Step::Next {
        let message = format!("the fleet's CA ends on {ends}");
        findings.advice("fleet::ca-expires", place, message, WHY, help);
    }
}

fn certificate(
    certificate: &Certificate,
    node: &str,
    now: u64,
    place: Place,
    findings: &mut Findings,
) {
    const WHY: &str = "its peers refuse it without a valid one";
    const HELP: &str = "`rolesmith publish` renews it; the node takes it with its next upgrade";
    let ends = date(certificate.expires());
    if now >= certificate.expires() {
        let message = format!("the certificate of {node} ended on {ends}");
        findings.warning("fleet::certificate-expired", place, message, WHY, HELP);
    } else if certificate.renewal_due(now) {
        let message = format!("the certificate of {node} ends on {ends}");
        findings.advice("fleet::certificate-expires", place, message, WHY, HELP);
    }
}

/// A seed has a length only where everything in it exists; what does not is made by the next publish.
fn seeds(app: &App, plan: &Plan, fleet: SourceId, findings: &mut Findings) {
    let Ok(keys) = keys::kept(app, plan) else {
        return;
    };
    for node in &plan.nodes {
        let Ok(seed) = keys::seed(plan, &keys, node, Origin::Seed) else {
            continue;
        };
        if let Err(error @ CloudConfigError::TooLong { .. }) = cloud_config::user_data(&seed) {
            findings.error(
                "fleet::user-data-too-long",
                Place::new(fleet, plan.fleet.nodes[&node.name].span.clone()),
                error.to_string(),
                "providers cut it off or refuse it",
                TOO_LONG,
            );
        }
    }
}

/// What makes a seed shorter.
pub const TOO_LONG: &str = "shorten what grows it: [network] admin_ssh_keys and the values of secrets; large files belong into a role's package";

fn date(epoch: u64) -> String {
    Utc::from_epoch(epoch).rfc3339()
}
