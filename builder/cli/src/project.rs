//! A fleet's directory, from its files to its plan and its keys.

use std::collections::BTreeMap;

use rolesmith_formats::{
    facts::NodeCertificate,
    openpgp::Signer,
    seed::{NodeSecrets, Seed},
};
use rolesmith_host::{archive, gpg::GpgSigner, load, scan::SecretScan, secrets::Secrets};
use rolesmith_model::{
    archive_names::ArchiveNames,
    facts::Origin,
    finding::{Finding, Findings, Severity},
    fleet::SigningKey,
    plan::{NodePlan, Plan},
    resolve::resolve,
    role::Roles,
    source::Sources,
    validate,
};

use crate::{
    app::App,
    report::{self, Failure, Outcome},
};

/// Directory of the operator's secrets, below the fleet's.
pub const SECRETS_DIR: &str = "secrets";

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
    let sources = load::fleet(&app.dir).map_err(|e| {
        let help = e.help();
        Failure::because(&e, help)
    })?;
    let mut findings = Findings::new();
    let roles = Roles::load(&sources, &mut findings);
    let fleet = validate::fleet::load(&sources, &roles, &mut findings);
    let plan = fleet.and_then(|fleet| {
        let names = ArchiveNames::parse(archive::names(fleet.suite));
        resolve(&sources, &roles, fleet, &names, &mut findings)
    });
    Ok(Inspected {
        sources,
        findings: findings.into_sorted(),
        plan,
    })
}

/// The plan; errors and warnings are shown, and errors end the command.
pub fn plan(app: &App) -> Outcome<Plan> {
    let inspected = inspect(app)?;
    let told: Vec<Finding> = inspected
        .findings
        .into_iter()
        .filter(|f| f.severity >= Severity::Warning)
        .collect();
    match inspected.plan {
        Some(plan) => {
            report::show(&inspected.sources, &told, false, app.terminal, app.color);
            Ok(plan)
        }
        None => {
            report::show(&inspected.sources, &told, app.json, app.terminal, app.color);
            Err(Failure::Findings)
        }
    }
}

/// The operator's secrets, opened for a plan.
pub struct Keys {
    /// The directory.
    pub secrets: Secrets,
    /// What signs.
    pub signer: Box<dyn Signer>,
    /// The CA's certificate (PEM).
    pub ca_pem: String,
    /// Each node's certificate.
    pub certificates: BTreeMap<String, NodeCertificate>,
    /// Finds secrets in what is about to be shipped.
    pub scan: SecretScan,
}

/// Opens the secrets and makes what a new node or role needs: identities, and values that are made at random.
pub fn keys(app: &App, plan: &Plan) -> Outcome<Keys> {
    let secrets = Secrets::open(&app.dir.join(SECRETS_DIR)).map_err(|e| {
        Failure::because(
            &e,
            "`rolesmith init` makes secrets/ for a new fleet; for an existing one bring it from where its operator keeps it",
        )
    })?;
    let fleet = &plan.fleet;
    secrets.check_fleet(&fleet.name)?;
    let signer: Box<dyn Signer> = match &fleet.repository.key {
        SigningKey::File => Box::new(secrets.signer()?),
        SigningKey::Gpg(fingerprint) => Box::new(GpgSigner::new(fingerprint, None)?),
    };
    let mut certificates = BTreeMap::new();
    for node in &plan.nodes {
        let identity = secrets.ensure_node(
            &node.name,
            &format!("{}.{}", node.name, fleet.domain),
            app.now,
        )?;
        certificates.insert(
            node.name.to_string(),
            NodeCertificate {
                incarnation: identity.incarnation(),
                pem: identity.certificate().pem().to_owned(),
                fingerprint: identity.certificate().fingerprint().to_owned(),
            },
        );
    }
    for (name, secret) in plan.secrets() {
        if secret.generate {
            secrets.ensure_value(name)?;
        } else if secrets.value(name)?.is_none() {
            return Err(Failure::new(
                format!("the secret {name} has no value ({})", secret.description),
                format!("write it into {SECRETS_DIR}/fleet/{name} with mode 0600"),
            ));
        }
    }
    let ca_pem = secrets.ca()?.certificate().pem().to_owned();
    let scan = SecretScan::new(secrets.all_values()?)?;
    Ok(Keys {
        secrets,
        signer,
        ca_pem,
        certificates,
        scan,
    })
}

/// The seed of a node.
pub fn seed(plan: &Plan, keys: &Keys, node: &NodePlan, origin: Origin) -> Outcome<Seed> {
    let identity = keys.secrets.node(&node.name)?.ok_or_else(|| {
        Failure::new(
            format!("node {} has no identity", node.name),
            "run `rolesmith build`",
        )
    })?;
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
