//! The facts package: what all nodes know about the fleet, and what was rendered for each of them.

use std::collections::BTreeMap;

use rolesmith_model::{
    cluster_lock::ClusterLock,
    facts::{
        APPLICATION_CERTIFICATE, CA_FILE, FACTS_FILE, FACTS_FORMAT, Facts, Member, NODES_DIR,
        NodeFacts, NodeFile,
    },
    fleet::Fleet,
    ids::PackageName,
    plan::{
        Content, Jail, Maintainer, NodePlan, Origin, Override, Package, PackagedFile, Plan,
        RenderedFile,
    },
};

use crate::firewall::{NodePolicy, Policy};

/// What `build` knows about a node beside the plan: the public half of its identity.
#[derive(Debug, Clone)]
pub struct NodeCertificate {
    /// Counts the machines that had this name.
    pub incarnation: u64,
    /// Its certificate (PEM).
    pub pem: String,
    /// SHA-256 of the certificate (DER), in hexadecimal.
    pub fingerprint: String,
    /// When it ends (Unix seconds).
    pub expires: u64,
    /// The certificate of its applications (PEM), where there is one.
    pub application: Option<String>,
}

/// Every package of a fleet is signed, which lintian does not expect.
#[must_use]
pub fn signature_override() -> Override {
    Override {
        tag: "misplaced-extra-member-in-deb".into(),
        context: Some("_gpgorigin *".into()),
        reason: "The signature that debsig-verify(1) checks; dpkg ignores members that begin with an underscore.".into(),
    }
}

/// Makes the facts package, but for the version that stands in its facts.
///
/// `clusters` are those that were formed, `versions` those of all other fleet packages, `version` the number that this
/// package will have.
///
/// # Panics
/// Never: the fleet's name makes a package name, and facts have a JSON form.
#[must_use]
pub fn package(
    plan: &Plan,
    ca_pem: &str,
    certificates: &BTreeMap<String, NodeCertificate>,
    clusters: &ClusterLock,
    versions: &BTreeMap<String, String>,
    version: u64,
) -> Package {
    let fleet = &plan.fleet;
    let ((genesis, system_id), redis) = (clusters.genesis(), clusters.redis_genesis());
    let facts = Facts {
        format: FACTS_FORMAT,
        fleet: fleet.name.to_string(),
        domain: fleet.domain.clone(),
        suite: fleet.suite.codename().into(),
        version,
        genesis,
        system_id: system_id.map(str::to_owned),
        redis_genesis: (redis != genesis).then_some(redis),
        agent_port: fleet.network.agent_port,
        clusters: plan
            .roles
            .iter()
            .filter_map(|role| Some((role.name.to_string(), role.cluster?)))
            .collect(),
        synchronous: fleet.services.database.synchronous,
        discovery: fleet.discovery.clone(),
        members: plan
            .nodes
            .iter()
            .filter_map(|node| member(fleet, node, certificates.get(node.name.as_str())?).into())
            .collect(),
        packages: versions.clone(),
    };
    let mut files = vec![
        json(FACTS_FILE.into(), &facts),
        text(CA_FILE.into(), ca_pem.as_bytes().to_vec(), "the fleet's CA"),
    ];
    for policy in Policy::new(plan).nodes {
        let node = policy.node;
        let dir = format!("{NODES_DIR}/{}", node.name);
        let mut rendered = node.files.clone();
        rendered.extend(generated(&policy));
        rendered.sort_by(|a, b| (&a.file.role, &a.file.path).cmp(&(&b.file.role, &b.file.path)));
        let node_facts = NodeFacts {
            name: node.name.to_string(),
            files: rendered.iter().map(|f| f.file.clone()).collect(),
            health: node
                .health
                .iter()
                .map(|(role, checks)| (role.to_string(), checks.clone()))
                .collect(),
            openings: [],
            private_interface: fleet.network.private_interface.clone(),
        };
        files.push(json(format!("{dir}/node.json"), &node_facts));
        if let Some(certificate) = certificates.get(node.name.as_str()) {
            files.push(text(
                format!("{dir}/cert.pem"),
                certificate.pem.as_bytes().to_vec(),
                "the node's identity",
            ));
            if let Some(pem) = &certificate.application {
                files.push(text(
                    format!("{dir}/{APPLICATION_CERTIFICATE}"),
                    pem.as_bytes().to_vec(),
                    "its applications' identity",
                ));
            }
        }
        for file in rendered {
            files.push(PackagedFile {
                path: format!("{dir}/files/{}/{}", file.file.role, file.file.path),
                content: Content::File(file.bytes),
                mode: 0o644,
                conffile: false,
                origin: file.origin,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Package {
        name: PackageName::new(plan.facts_package()).expect("a fleet's name makes a package name"),
        section: "admin",
        summary: format!("Facts about the fleet {}", fleet.name),
        description: "Members of the fleet, their certificates, the versions that they run, and the configuration rendered \
                      for each of them. The agent on each node installs what concerns it. Nothing in this package is \
                      secret."
            .into(),
        maintainer: fleet.maintainer.clone(),
        relations: BTreeMap::new(),
        files,
        scripts: Maintainer::default(),
        lintian: vec![signature_override()],
    }
}

fn member(fleet: &Fleet, node: &NodePlan, certificate: &NodeCertificate) -> Member {
    Member {
        name: node.name.to_string(),
        address: fleet
            .nodes
            .get(&node.name)
            .and_then(|n| n.address)
            .map(|a| a.to_string()),
        roles: node.roles.iter().map(ToString::to_string).collect(),
        incarnation: certificate.incarnation,
        certificate: certificate.fingerprint.clone(),
        certificate_expires: Some(certificate.expires),
    }
}

/// Files that the builder makes from what roles declare: firewall and jails. They belong to the role base.
fn generated(rules: &NodePolicy<'_>) -> Vec<RenderedFile> {
    let files = [
        ("firewall.v4", rules.v4(), "[[firewall]]"),
        ("firewall.v6", rules.v6(), "[[firewall]]"),
        ("firewall.ipset", rules.ipset(), "[[firewall]]"),
        ("jail.conf", jails(&rules.node.jails), "[[jails]]"),
    ];
    files
        .into_iter()
        .map(|(path, content, from)| RenderedFile {
            file: NodeFile {
                role: "base".into(),
                path: path.into(),
                mode: 0o644,
                user: "root".into(),
                group: "root".into(),
                secrets: Vec::new(),
            },
            bytes: content.into_bytes().into(),
            origin: Origin::Generated(from),
        })
        .collect()
}

/// jail.conf(5).
fn jails(jails: &[Jail]) -> String {
    let mut out = String::from("# Jails of this node's roles, made by rolesmith.\n");
    for jail in jails {
        out.push_str(&format!("\n[{}]\n", jail.name));
        for (option, value) in &jail.options {
            out.push_str(&format!("{option} = {value}\n"));
        }
    }
    out
}

fn json(path: String, value: &impl serde::Serialize) -> PackagedFile {
    let mut bytes = serde_json::to_vec_pretty(value).expect("facts have a JSON form");
    bytes.push(b'\n');
    text(path, bytes, "fleet.toml")
}

fn text(path: String, bytes: Vec<u8>, from: &'static str) -> PackagedFile {
    PackagedFile {
        path,
        content: Content::File(bytes.into()),
        mode: 0o644,
        conffile: false,
        origin: Origin::Generated(from),
    }
}
