//! Machines for the tests of decisions.

use rolesmith_model::facts::{Genesis, NodeFacts, Origin};
use rolesmith_model::manifest::{ManagedUnit, OnChange, RoleManifest, Start};

use super::super::work::fingerprint;
use super::super::*;
use crate::guard::Guard;
use crate::state::{JoinMemory, JoinResult, Memory, RoleMemory, UnitMemory};

pub(crate) fn spec(digest: &str) -> FileSpec {
    FileSpec {
        digest: digest.to_owned(),
        mode: 0o644,
        owner: (0, 0),
    }
}

pub(super) fn file(path: &str) -> WantedFile {
    WantedFile {
        path: path.to_owned(),
        wanted: Ok(spec("new")),
        installed: None,
    }
}

pub(super) fn unit(name: &str, start: Start, on_change: OnChange) -> ManagedUnit {
    ManagedUnit {
        name: name.to_owned(),
        start,
        on_change,
        on_certificate: OnChange::Nothing,
        own: true,
    }
}

pub(super) fn role(name: &str, requires: &[&str]) -> RoleSeen {
    RoleSeen {
        configured: Some("1".to_owned()),
        unsettled: None,
        manifest: Seen::Is(RoleManifest {
            role: name.to_owned(),
            requires: requires.iter().map(|&role| role.to_owned()).collect(),
            units: Vec::new(),
            cluster: None,
        }),
        files: Vec::new(),
        strays: Vec::new(),
        units: BTreeMap::new(),
    }
}

pub(super) fn manifest(role: &mut RoleSeen) -> &mut RoleManifest {
    match &mut role.manifest {
        Seen::Is(manifest) => manifest,
        _ => panic!("no manifest"),
    }
}

/// A machine with the roles `base` and `app`, enrolled from a seed, on which nothing was done yet.
pub(super) fn fresh() -> Observed {
    let mut base = role("base", &[]);
    base.files = vec![file("firewall.v4"), file("jail.local"), file("sshd.conf")];
    let mut app = role("app", &["base"]);
    app.files = vec![file("app.env")];
    manifest(&mut app).units = vec![unit("app.service", Start::Enrolled, OnChange::Restart)];
    manifest(&mut app).cluster = Some(Cluster::Join("/usr/lib/rolesmith/app/join".to_owned()));
    app.units.insert(
        "app.service".to_owned(),
        UnitSeen {
            known: true,
            enabled: true,
            ..UnitSeen::default()
        },
    );
    Observed {
        identity: Seen::Is(Identity {
            fleet: "acme".to_owned(),
            node: "n1".to_owned(),
            incarnation: 1,
            origin: Origin::Seed,
        }),
        facts: Seen::Is(Facts {
            format: FACTS_FORMAT,
            fleet: "acme".to_owned(),
            domain: "acme.example".to_owned(),
            suite: "trixie".to_owned(),
            version: 7,
            genesis: Genesis::Open,
            system_id: None,
            redis_genesis: None,
            agent_port: rolesmith_model::facts::AGENT_PORT,
            clusters: BTreeMap::new(),
            synchronous: 1,
            discovery: rolesmith_model::facts::Discovery::default(),
            members: vec![Member {
                name: "n1".to_owned(),
                address: None,
                roles: vec!["base".to_owned(), "app".to_owned()],
                incarnation: 1,
                certificate: String::new(),
                certificate_expires: None,
            }],
            packages: BTreeMap::new(),
        }),
        facts_unsettled: None,
        node: Seen::Is(NodeFacts {
            name: "n1".to_owned(),
            files: Vec::new(),
            health: BTreeMap::new(),
            openings: [],
            private_interface: "eth1".to_owned(),
        }),
        roles: [("base".to_owned(), base), ("app".to_owned(), app)].into(),
        application_key: None,
        certificates: "first".to_owned(),
        guard: Guard::default(),
        keeps_way_in: false,
        memory: Memory::default(),
        boot: "boot-1".to_owned(),
        failures: BTreeMap::new(),
    }
}

pub(super) fn identity(seen: &mut Observed) -> &mut Identity {
    match &mut seen.identity {
        Seen::Is(identity) => identity,
        _ => panic!("no identity"),
    }
}

pub(crate) fn facts(seen: &mut Observed) -> &mut Facts {
    match &mut seen.facts {
        Seen::Is(facts) => facts,
        _ => panic!("no facts"),
    }
}

/// A machine on which everything was done, with `fingerprint` as that of the role `app`.
pub(crate) fn done() -> (Observed, String) {
    let mut seen = fresh();
    for role in seen.roles.values_mut() {
        for file in &mut role.files {
            file.installed = file.wanted.clone().ok();
        }
    }
    let fingerprint = fingerprint("app", "1", &[("app.env", &spec("new"))]);
    let unit = UnitMemory {
        fingerprint: fingerprint.clone(),
        boot: "boot-1".to_owned(),
        certificates: Some("first".to_owned()),
    };
    let app = RoleMemory {
        applied: None,
        version: Some("1".to_owned()),
        join: Some(JoinMemory {
            fingerprint: fingerprint.clone(),
            result: JoinResult::Done,
        }),
        units: [("app.service".to_owned(), unit)].into(),
    };
    seen.memory = Memory {
        fleet: Some("acme".into()),
        facts_version: 7,
        roles: [("app".to_owned(), app)].into(),
    };
    seen.guard = seen.guard.activated(&set_fingerprint(&[
        ("firewall.v4", &spec("new")),
        ("sshd.conf", &spec("new")),
    ]));
    seen.roles
        .get_mut("app")
        .unwrap()
        .units
        .get_mut("app.service")
        .unwrap()
        .running = true;
    (seen, fingerprint)
}
