//! The operator's secrets, opened for a plan.

use std::collections::BTreeMap;

use rolesmith_formats::{
    date::Utc,
    facts::NodeCertificate,
    openpgp::Signer,
    seed::{NodeSecrets, Seed},
};
use rolesmith_host::{
    gpg::GpgSigner,
    identity::{NodeIdentity, pins},
    scan::SecretScan,
    secrets::Secrets,
};
use rolesmith_model::{
    facts::Origin,
    fleet::SigningKey,
    ids::{NodeName, SecretName},
    plan::{NodePlan, Plan},
};

use crate::{
    app::App,
    report::{Failure, Outcome},
};

/// Directory of the operator's secrets, below the fleet's.
pub const SECRETS_DIR: &str = "secrets";

/// What signs, what nodes are, and what must not be shipped.
pub struct Keys {
    /// The directory.
    pub secrets: Secrets,
    /// What signs.
    pub signer: Box<dyn Signer>,
    /// The certificates of the CAs that members trust (PEM).
    pub ca_pem: String,
    /// Each node's certificate.
    pub certificates: BTreeMap<String, NodeCertificate>,
    /// Finds secrets in what is about to be shipped.
    pub scan: SecretScan,
}

/// Opens the secrets and makes what is due: identities and random values of new nodes and roles, certificates that are
/// in the last third of their life, those of nodes' applications with them. What it makes is written down in identities.lock.
pub fn keys(app: &App, plan: &Plan) -> Outcome<Keys> {
    let secrets = open(app, plan)?;
    // Before anything is made.
    values(plan, &secrets, false)?;
    let signer = signer(plan, &secrets)?;
    let ca = secrets.ca()?;
    let ca_ends = ca.certificate().expires();
    for node in &plan.nodes {
        let fqdn = format!("{}.{}", node.name, plan.fleet.domain);
        let identity = secrets.ensure_node(&node.name, &fqdn, app.now)?;
        let certificate = identity.certificate();
        let former = !certificate.is_issued_by(ca.certificate());
        // None outlives the CA's own, so that near its end there is nothing to be won.
        let due = certificate.renewal_due(app.now) && certificate.expires() < ca_ends;
        if former || due {
            let before = date(certificate.expires());
            let renewed = secrets.renew_node(&node.name, app.now)?;
            app.say(format_args!(
                "The certificate of {} (until {before}) is {} until {}; its key stays, `rolesmith publish` brings it to the fleet.",
                node.name,
                if former {
                    "issued anew by the present CA,"
                } else {
                    "renewed"
                },
                date(renewed.certificate().expires())
            ));
        }
        secrets.ensure_application(&node.name, app.now)?;
    }
    for (name, secret) in plan.secrets() {
        if secret.generate {
            secrets.ensure_value(name)?;
        }
    }
    let keys = assemble(plan, secrets, signer)?;
    record(app, plan, &keys.secrets)?;
    Ok(keys)
}

/// Opens the secrets and writes nothing: for who acts as root, or only looks.
pub fn kept(app: &App, plan: &Plan) -> Outcome<Keys> {
    let secrets = open(app, plan)?;
    let signer = signer(plan, &secrets)?;
    assemble(plan, secrets, signer)
}

/// Writes down what the secrets are now.
pub fn record(app: &App, plan: &Plan, secrets: &Secrets) -> Outcome {
    let changed = pins::record(&app.dir, secrets, node_names(plan), secret_names(plan))
        .map_err(pin_failure)?;
    if changed {
        app.say(format_args!(
            "{} has changed: commit it, and keep {SECRETS_DIR}/ where the other operators take it from.",
            pins::FILE
        ));
    }
    Ok(())
}

/// The secrets, which have to be this fleet's and as new as its sources know them.
pub fn open(app: &App, plan: &Plan) -> Outcome<Secrets> {
    let secrets = Secrets::open(&app.dir.join(SECRETS_DIR)).map_err(|e| {
        Failure::because(
            &e,
            "`rolesmith init` makes secrets/ for a new fleet; for an existing one bring it from where its operator keeps it",
        )
    })?;
    secrets.check_fleet(&plan.fleet.name)?;
    pins::check(&app.dir, &secrets, node_names(plan), secret_names(plan)).map_err(pin_failure)?;
    Ok(secrets)
}

fn signer(plan: &Plan, secrets: &Secrets) -> Outcome<Box<dyn Signer>> {
    Ok(match &plan.fleet.repository.key {
        SigningKey::File => Box::new(secrets.signer()?),
        SigningKey::Gpg(fingerprint) => Box::new(GpgSigner::new(fingerprint, None)?),
    })
}

/// Takes what is there; everything that the plan needs has to be.
fn assemble(plan: &Plan, secrets: Secrets, signer: Box<dyn Signer>) -> Outcome<Keys> {
    let mut certificates = BTreeMap::new();
    for node in &plan.nodes {
        let identity = identity(&secrets, &node.name)?;
        certificates.insert(
            node.name.to_string(),
            NodeCertificate {
                incarnation: identity.incarnation(),
                pem: identity.certificate().pem().to_owned(),
                fingerprint: identity.certificate().fingerprint().to_owned(),
                expires: identity.certificate().expires(),
                application: secrets
                    .application(&identity)?
                    .map(|certificate| certificate.pem().to_owned()),
            },
        );
    }
    values(plan, &secrets, true)?;
    let ca_pem = secrets.authorities()?.bundle();
    let scan = SecretScan::new(secrets.all_values()?)?;
    Ok(Keys {
        secrets,
        signer,
        ca_pem,
        certificates,
        scan,
    })
}

/// Sees that secrets have values: those that the operator sets, and with `generated` those made at random too. Names all that
/// lack one.
fn values(plan: &Plan, secrets: &Secrets, generated: bool) -> Outcome {
    let (mut unset, mut unmade) = (Vec::new(), Vec::new());
    for (name, secret) in plan.secrets() {
        if secrets.value(name)?.is_some() || (secret.generate && !generated) {
            continue;
        }
        if secret.generate {
            unmade.push(name.as_str());
        } else {
            unset.push((name.as_str(), secret.description.as_str()));
        }
    }
    match (unset.as_slice(), unmade.as_slice()) {
        ([], []) => Ok(()),
        ([], [name]) => Err(Failure::new(
            format!("the secret {name} was not made yet"),
            "run `rolesmith publish` first, as the user whose fleet it is",
        )),
        ([], unmade) => Err(Failure::new(
            format!("the secrets {} were not made yet", unmade.join(", ")),
            "run `rolesmith publish` first, as the user whose fleet it is",
        )),
        ([(name, description)], _) => Err(Failure::new(
            format!("the secret {name} has no value ({description})"),
            format!("write it into {SECRETS_DIR}/fleet/{name} with mode 0600"),
        )),
        (unset, _) => {
            let list: Vec<String> = unset
                .iter()
                .map(|(name, description)| format!("{name} ({description})"))
                .collect();
            Err(Failure::new(
                format!("these secrets have no value: {}", list.join(", ")),
                format!(
                    "write each into a file of its name in {SECRETS_DIR}/fleet/, with mode 0600"
                ),
            ))
        }
    }
}

fn identity(secrets: &Secrets, node: &NodeName) -> Outcome<NodeIdentity> {
    secrets.node(node)?.ok_or_else(|| {
        Failure::new(
            format!("node {node} has no identity yet"),
            "run `rolesmith publish` first, as the user whose fleet it is",
        )
    })
}

fn node_names(plan: &Plan) -> impl Iterator<Item = &NodeName> {
    plan.nodes.iter().map(|node| &node.name)
}

/// Secrets that are made at random.
fn secret_names(plan: &Plan) -> Vec<&SecretName> {
    let all = plan.secrets().into_iter();
    all.filter(|(_, secret)| secret.generate)
        .map(|(name, _)| name)
        .collect()
}

fn pin_failure(error: pins::PinError) -> Failure {
    match error {
        pins::PinError::Secrets(error) => error.into(),
        error => Failure::because(&error, error.help()),
    }
}

fn date(epoch: u64) -> String {
    Utc::from_epoch(epoch).rfc3339()
}

/// The seed of a node as it is.
pub fn seed(plan: &Plan, keys: &Keys, node: &NodePlan, origin: Origin) -> Outcome<Seed> {
    let identity = identity(&keys.secrets, &node.name)?;
    seed_of(plan, keys, node, &identity, origin)
}

/// The seed of a node with this identity.
pub fn seed_of(
    plan: &Plan,
    keys: &Keys,
    node: &NodePlan,
    identity: &NodeIdentity,
    origin: Origin,
) -> Outcome<Seed> {
    let mut values = BTreeMap::new();
    for name in &node.secrets {
        if let Some(value) = keys.secrets.value(name)? {
            values.insert(name.to_string(), value.expose().to_owned());
        }
    }
    let secrets = NodeSecrets {
        incarnation: identity.incarnation(),
        key_pem: identity.key_pem().to_owned(),
        values,
    };
    Ok(Seed::new(
        plan,
        node,
        &keys.signer.public_key_armored()?,
        &secrets,
        origin,
    ))
}
