//! rolesmith ca

use std::{collections::BTreeSet, fmt::Write as _};

use rolesmith_formats::date::Utc;
use rolesmith_host::{
    ca::{Authorities, Authority, Certificate, Step},
    identity::NodeIdentity,
    secrets::{Secrets, SecretsError},
};
use rolesmith_model::{
    ids::NodeName,
    plan::Plan,
    status::{FleetStatus, MemberStatus},
};
use serde_json::json;

use super::build;
use crate::{
    app::{App, line, out},
    args::{Ca, CaCommand, CaStep},
    keys, project, reach,
    report::{Failure, Outcome},
};

/// Shows where the fleet's CA stands, or goes a step on.
pub fn run(app: &App, args: &Ca) -> Outcome {
    // No publish comes in between.
    let _lock = build::lock(app);
    let plan = project::plan(app)?;
    let secrets = keys::open(app, &plan)?;
    match &args.command {
        CaCommand::Status => show(app, &secrets.authorities()?),
        CaCommand::Next => step(app, &plan, &secrets, Step::Next, None),
        CaCommand::Switch(args) => step(app, &plan, &secrets, Step::Switch, Some(args)),
        CaCommand::Retire(args) => step(app, &plan, &secrets, Step::Retire, Some(args)),
    }
}

fn show(app: &App, authorities: &Authorities) -> Outcome {
    let mut all = vec![("issuer", authorities.issuer())];
    all.extend(authorities.successor().map(|next| ("successor", next)));
    all.extend(authorities.former().map(|former| ("former", former)));
    if app.json {
        let list: Vec<_> = all
            .iter()
            .map(|(role, authority)| {
                let certificate = authority.certificate();
                json!({
                    "role": role,
                    "fingerprint": certificate.fingerprint(),
                    "issued": certificate.issued(),
                    "expires": certificate.expires(),
                })
            })
            .collect();
        let status = json!({
            "steps": authorities.steps(),
            "next": authorities.due().word(),
            "authorities": list,
        });
        return line(serde_json::to_string_pretty(&status)?);
    }
    let mut text = format!(
        "{:<10} {:<64}  {:<20}  UNTIL\n",
        "CA", "SHA-256 OF ITS CERTIFICATE", "FROM"
    );
    for (role, authority) in all {
        let certificate = authority.certificate();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{role:<10} {}  {}  {}",
            certificate.fingerprint(),
            date(certificate.issued()),
            date(certificate.expires())
        );
    }
    out(format_args!("{text}{}\n", outlook(authorities, app.now)))
}

/// What comes next.
pub fn outlook(authorities: &Authorities, now: u64) -> String {
    match authorities.due() {
        Step::Next if authorities.issuer().certificate().renewal_due(now) => {
            "Next: `rolesmith ca next`, now that the CA is in the last third of its life.".into()
        }
        Step::Next => {
            "Next: `rolesmith ca next`, in the last third of the CA's life or when its key may be known to others.".into()
        }
        Step::Switch => {
            "Next: `rolesmith publish`, and when every member has taken it, which is asked: `rolesmith ca switch`.".into()
        }
        Step::Retire => {
            "Next: `rolesmith publish`, and when every member has taken it, which is asked: `rolesmith ca retire`.".into()
        }
    }
}

fn step(app: &App, plan: &Plan, secrets: &Secrets, step: Step, args: Option<&CaStep>) -> Outcome {
    let before = secrets.authorities()?;
    before
        .check(step)
        .map_err(|error| failure(SecretsError::Step(error)))?;
    if let Some(args) = args {
        Wanted::of(plan, secrets, &before, step).ask(app, args)?;
        if !args.unseen.is_empty() {
            app.say(unseen(step, &args.unseen));
        }
    }
    let after = secrets.step(step, app.now).map_err(failure)?;
    keys::record(app, plan, secrets)?;
    app.say(match step {
        Step::Next => format!(
            "The CA {} was made. Once published, members trust it beside the present one; certificates stay as they are.",
            name(after.successor().unwrap_or(after.issuer()))
        ),
        Step::Switch => format!(
            "The CA {} issues from now on. The next publish brings certificates of it to all nodes; their keys stay, and the former CA \
             is still trusted.",
            name(after.issuer())
        ),
        Step::Retire => {
            "The former CA is gone, its key too. Once published, members trust the present one alone.".into()
        }
    });
    app.say(match step {
        Step::Retire => "Next: `rolesmith publish`.".into(),
        _ => outlook(&after, app.now),
    });
    Ok(())
}

fn failure(error: SecretsError) -> Failure {
    match error {
        SecretsError::Step(_) => Failure::because(
            &error,
            "`rolesmith ca status` shows where the CA stands, and which step comes next",
        ),
        error => error.into(),
    }
}

/// What an operator takes upon themselves.
fn unseen(step: Step, nodes: &[String]) -> String {
    let nodes = nodes.join(", ");
    match step {
        Step::Retire => format!(
            "Not waited for: {nodes}. One that still shows a certificate of the former CA is refused by those that have taken the next \
             facts, and its services with it, until it has taken them too."
        ),
        _ => format!(
            "Not waited for: {nodes}. One that does not trust the successor yet refuses those that have taken the next facts, and they \
             lose it, until it has taken facts that name the successor."
        ),
    }
}

/// What every member has to say before a step.
struct Wanted<'a> {
    plan: &'a Plan,
    secrets: &'a Secrets,
    /// The CA that all have to trust.
    trusted: String,
    /// Whether all have to show the certificates that are in secrets/, too.
    shown: bool,
}

impl<'a> Wanted<'a> {
    fn of(plan: &'a Plan, secrets: &'a Secrets, authorities: &Authorities, step: Step) -> Self {
        let next = authorities.successor().unwrap_or(authorities.issuer());
        Self {
            plan,
            secrets,
            trusted: next.certificate().fingerprint().to_owned(),
            shown: step == Step::Retire,
        }
    }

    /// Asks the members; an error names those that are not as far.
    fn ask(&self, app: &App, args: &CaStep) -> Outcome {
        let unseen: BTreeSet<&str> = args.unseen.iter().map(String::as_str).collect();
        let planned: BTreeSet<&str> = self.plan.nodes.iter().map(|n| n.name.as_str()).collect();
        if planned == unseen {
            return Ok(());
        }
        let told = reach::ask(app, self.plan, &args.reach, None)?;
        let known = told
            .status
            .members
            .iter()
            .map(|member| member.name.as_str());
        // Members of the plan, and those that other members still know.
        let names: BTreeSet<&str> = planned.into_iter().chain(known).collect();
        if let Some(stranger) = unseen.difference(&names).next() {
            return Err(Failure::new(
                format!("the fleet has no node {stranger:?}"),
                format!("its nodes are {}", Vec::from_iter(names).join(", ")),
            ));
        }
        let lacking = self.lacking(&told.status, names.difference(&unseen).copied())?;
        if lacking.is_empty() {
            return Ok(());
        }
        let lack = if self.shown {
            "show certificates of the present CA"
        } else {
            "trust the successor"
        };
        Err(Failure::new(
            format!("not all members {lack}: {}", lacking.join("; ")),
            "`rolesmith publish`, wait until `rolesmith status` shows the same facts on all nodes, and try again. For a machine that is \
             gone, or not there yet: --unseen NODE",
        ))
    }

    fn lacking<'n>(
        &self,
        status: &FleetStatus,
        names: impl Iterator<Item = &'n str>,
    ) -> Outcome<Vec<String>> {
        let mut lacking = Vec::new();
        for name in names {
            let why = match status.member(name) {
                None => Some(format!("the facts of {} do not know it", status.asked)),
                Some(member) => self.why_not(member)?,
            };
            lacking.extend(why.map(|why| format!("{name} ({why})")));
        }
        Ok(lacking)
    }

    fn why_not(&self, member: &MemberStatus) -> Outcome<Option<String>> {
        if !member.reachable {
            let problem = member.problem.as_deref().unwrap_or("no answer");
            return Ok(Some(format!("does not answer: {problem}")));
        }
        let machine = &member.machine_status;
        if machine.authorities.is_empty() {
            return Ok(Some(
                "its agent is too old to say which CAs it trusts".into(),
            ));
        }
        if !machine.authorities.contains(&self.trusted) {
            return Ok(Some("trusts other CAs only".into()));
        }
        if self.shown {
            let kept = NodeName::new(member.name.clone())
                .ok()
                .map(|name| self.secrets.node(&name))
                .transpose()?
                .flatten();
            if let Some(why) = self.not_shown(kept.as_ref(), machine.certificate.as_deref())? {
                return Ok(Some(why));
            }
        }
        // Facts are in force at the agent before services have read them.
        if machine.applied.is_none() || machine.applied != member.facts {
            return Ok(Some(
                "is still at work on its services, see `rolesmith-agent status` on it".into(),
            ));
        }
        Ok(None)
    }

    fn not_shown(
        &self,
        kept: Option<&NodeIdentity>,
        shown: Option<&str>,
    ) -> Outcome<Option<String>> {
        let Some(kept) = kept else {
            return Ok(Some("secrets/ has no identity of it".into()));
        };
        let certificate = kept.certificate();
        let (ca, application) = (self.secrets.ca()?, self.secrets.application(kept)?);
        let anew = |certificate: &Certificate| certificate.is_issued_by(ca.certificate());
        // That of its applications comes in the same facts, and units have read it before these count as applied.
        Ok(
            if !anew(certificate) || !application.as_ref().is_none_or(anew) {
                Some("its certificate was not issued anew: publish first".into())
            } else if shown != Some(certificate.fingerprint()) {
                Some("shows the certificate from before".into())
            } else {
                None
            },
        )
    }
}

/// The beginning of its fingerprint, as people compare it.
fn name(authority: &Authority) -> &str {
    let whole = authority.certificate().fingerprint();
    whole.get(..16).unwrap_or(whole)
}

fn date(epoch: u64) -> String {
    Utc::from_epoch(epoch).rfc3339()
}
