//! A fleet's certificates for tests, made as the builder makes them.

use std::collections::BTreeMap;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SigningKey as _, date_time_ymd,
};
use rolesmith_keys::ApplicationKey;
use rolesmith_model::facts::{
    Discovery, FACTS_FORMAT, Facts, Genesis, Identity, Member, Origin, application_name,
};
use rolesmith_model::ids::NodeName;
use rolesmith_model::manifest::ClusterKind;
use rolesmith_model::recovery::{ORDER_FORMAT, Order, SignedOrder};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::material::{Material, Parts};
use crate::cluster::{Config, DataState, RoleWord, StatusReport};
use crate::files::digest;

/// A day in seconds.
pub(crate) const DAY: i64 = 86_400;

pub(crate) fn now() -> UnixTime {
    UnixTime::now()
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params("acme fleet CA", -DAY, 100 * DAY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// An order as the operator signs it.
    pub(crate) fn order(&self, order: Order) -> SignedOrder {
        let signature = self.issuer.key().sign(&order.statement()).unwrap();
        SignedOrder {
            format: ORDER_FORMAT,
            order,
            signature: signature.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// A certificate for that key; `from` and `until` are seconds from now.
    pub(crate) fn issue(&self, wish: &Wish<'_>, key: &KeyPair) -> String {
        let mut params = params(wish.node, wish.from, wish.until);
        params.subject_alt_names = vec![
            SanType::DnsName(wish.node.try_into().unwrap()),
            SanType::URI(
                format!(
                    "rolesmith:{}/{}/{}",
                    wish.fleet, wish.node, wish.incarnation
                )
                .try_into()
                .unwrap(),
            ),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = wish.usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).unwrap().pem()
    }
}

/// The key and the certificate of a node's applications.
pub(crate) fn application(fleet: &Fleet, node: &str) -> (KeyPair, String) {
    let own = fleet.keys[node].serialize_pem();
    let key = ApplicationKey::of(&own, "acme", node).unwrap();
    let key = KeyPair::from_pem(&key.to_pem()).unwrap();
    let mut params = params(&application_name(node), -3600, 30 * DAY);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let pem = params.signed_by(&key, &fleet.authority.issuer).unwrap();
    (key, pem.pem())
}

fn params(name: &str, from: i64, until: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let today = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(now().as_secs());
    let moment = |seconds: i64| {
        let length = std::time::Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            today - length
        } else {
            today + length
        }
    };
    (params.not_before, params.not_after) = (moment(from), moment(until));
    params
}

/// What a certificate is to say.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) fleet: &'a str,
    pub(crate) node: &'a str,
    pub(crate) incarnation: u64,
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) usages: &'a [ExtendedKeyUsagePurpose],
}

pub(crate) const BOTH: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

pub(crate) const fn wish(node: &str) -> Wish<'_> {
    Wish {
        fleet: "acme",
        node,
        incarnation: 1,
        from: -3600,
        until: 30 * DAY,
        usages: BOTH,
    }
}

pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

pub(crate) fn fingerprint(pem: &str) -> String {
    digest(&der(pem))
}

/// A fleet whose members have keys and certificates; all on one address, so each has a port of its own in tests.
pub(crate) struct Fleet {
    pub(crate) authority: Authority,
    pub(crate) keys: BTreeMap<String, KeyPair>,
    pub(crate) certificates: BTreeMap<String, String>,
    pub(crate) facts: Facts,
}

impl Fleet {
    pub(crate) fn new(names: &[&str]) -> Self {
        let authority = Authority::new();
        let mut fleet = Self {
            authority,
            keys: BTreeMap::new(),
            certificates: BTreeMap::new(),
            facts: Facts {
                format: FACTS_FORMAT,
                fleet: "acme".to_owned(),
                domain: "acme.invalid".to_owned(),
                suite: "trixie".to_owned(),
                version: 1,
                genesis: Genesis::Open,
                system_id: None,
                redis_genesis: None,
                agent_port: 0,
                clusters: BTreeMap::from([(
                    "db-primary-capable".to_owned(),
                    ClusterKind::Postgresql,
                )]),
                synchronous: 1,
                discovery: Discovery::default(),
                members: Vec::new(),
                packages: BTreeMap::new(),
            },
        };
        for name in names {
            fleet.add(name);
        }
        fleet
    }

    pub(crate) fn add(&mut self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let pem = self.authority.issue(&wish(name), &key);
        self.facts.members.push(Member {
            name: name.to_owned(),
            address: None,
            roles: vec!["base".to_owned()],
            incarnation: 1,
            certificate: fingerprint(&pem),
            certificate_expires: None,
        });
        self.keys.insert(name.to_owned(), key);
        self.certificates.insert(name.to_owned(), pem);
    }

    /// Gives a member another certificate, in the facts too.
    pub(crate) fn certify(&mut self, name: &str, pem: String) {
        for member in &mut self.facts.members {
            if member.name == name {
                member.certificate = fingerprint(&pem);
            }
        }
        self.certificates.insert(name.to_owned(), pem);
    }

    pub(crate) fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        self.certificates
            .iter()
            .map(|(name, pem)| (name.clone(), pem.clone().into_bytes()))
            .collect()
    }

    /// What a member makes of these facts.
    pub(crate) fn material(&self, name: &str) -> Material {
        let number = self.facts.members.iter().find(|m| m.name == name);
        Material::new(Parts {
            identity: Identity {
                fleet: "acme".to_owned(),
                node: name.to_owned(),
                incarnation: number.map_or(1, |member| member.incarnation),
                origin: Origin::Seed,
            },
            facts: self.facts.clone(),
            authorities: self.authority.pem.clone().into_bytes(),
            certificates: self.bytes(),
            key: self.keys[name].serialize_pem().into_bytes(),
            address: None,
        })
        .unwrap()
    }
}

/// What a member says of itself that knows no cluster.
pub(crate) fn status(node: &str) -> StatusReport {
    StatusReport {
        node: NodeName::new(node.to_owned()).unwrap(),
        role: RoleWord::Waiting,
        promised: None,
        primary: None,
        row: None,
        position: None,
        system_id: None,
        data: DataState::Empty,
        standbys: BTreeMap::new(),
        config: Config::default(),
        facts: 1,
        alarms: Vec::new(),
    }
}
