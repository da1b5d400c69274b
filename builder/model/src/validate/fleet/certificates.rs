//! [certificates]

use std::collections::BTreeMap;

use toml::Spanned;

use super::{
    Check,
    mail::{PRIVATE, mail_address},
};
use crate::{
    finding::Place,
    fleet::{Certificates, MailAuthorities, Node},
    fleet_file::{CertificatesEntry, FleetFile},
    ids::{NodeName, RoleName},
    validate::syntax,
};

/// Let's Encrypt's directory (letsencrypt.org/docs/acme-protocol-updates).
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Its environment for tests: nobody trusts what it signs, and it may be asked more often.
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

impl Check<'_> {
    /// The authority; every edge gets the role that asks it.
    pub(super) fn certificates(
        &mut self,
        file: &FleetFile,
        nodes: &mut BTreeMap<NodeName, Node>,
    ) -> Option<Certificates> {
        let Some(entry) = &file.certificates else {
            self.certificates_without_authority(nodes);
            return None;
        };
        let role = RoleName::new(Certificates::ROLE).ok()?;
        let edge = |node: &Node, check: &Self| {
            let closure = check.roles.closure(node.roles.iter().map(|(role, _)| role));
            closure.iter().any(|role| role.as_str() == "edge")
        };
        let mut edges = 0;
        for node in nodes.values_mut() {
            if !edge(node, self) {
                continue;
            }
            edges += 1;
            if !node.roles.iter().any(|(name, _)| *name == role) {
                node.roles.push((role.clone(), node.span.clone()));
            }
        }
        let (directory, lab) = self.authority(file, entry);
        if let Some(contact) = &entry.contact
            && let Err(why) = mail_address(contact.get_ref())
        {
            self.error(
                "fleet::certificates-contact",
                contact.span(),
                format!("`contact` {why}"),
                "the authority writes there when something is wrong with its certificates",
                "write one address, such as \"ops@example.com\", or leave it out",
            );
        }
        if edges == 0 || file.sites.is_empty() {
            let place = entry.acme.as_ref().map_or(0..0, Spanned::span);
            self.findings.warning(
                "fleet::certificates-for-nothing",
                Place::new(self.id, place),
                "[certificates] is there, and no edge has a site",
                "certificates are made for the hosts of [[sites]]",
                "write [[sites]], and give nodes the role edge",
            );
        }
        let ca = entry.ca.as_ref().map(|path| self.acme_authorities(path));
        Some(Certificates {
            directory,
            lab,
            contact: entry.contact.as_ref().map(|c| c.get_ref().clone()),
            ca,
            renew_days: self.number("renew_days", entry.renew_days.as_ref(), 30, 1..=365, "days"),
            port: self.port("port", entry.port.as_ref(), 7433),
        })
    }

    /// A role of this name has nobody to ask.
    fn certificates_without_authority(&mut self, nodes: &BTreeMap<NodeName, Node>) {
        let asked = nodes
            .values()
            .flat_map(|node| &node.roles)
            .find(|(role, _)| {
                let closure = self.roles.closure(std::iter::once(role));
                closure
                    .iter()
                    .any(|role| role.as_str() == Certificates::ROLE)
            });
        if let Some((_, span)) = asked.cloned() {
            self.error(
                "fleet::certificates-without-authority",
                span,
                "the role certificates has no authority".into(),
                "it asks the one that [certificates] names",
                "write [certificates]; every edge has the role then",
            );
        }
    }

    /// The URL of the directory, and whether it is the lab's.
    fn authority(&mut self, file: &FleetFile, entry: &CertificatesEntry) -> (String, bool) {
        let word = entry.acme.as_ref().map(|word| word.get_ref().as_str());
        match word {
            None | Some("letsencrypt") => self.public_names(file),
            Some("staging") => self.public_names(file),
            _ => {}
        }
        let (url, lab) = match word {
            None | Some("letsencrypt") => (LETS_ENCRYPT.to_owned(), false),
            Some("staging") => (STAGING.to_owned(), false),
            Some("lab") => {
                let (host, port) = (Certificates::LAB_HOST, Certificates::LAB_PORT);
                (format!("https://{host}:{port}/dir"), true)
            }
            Some(url) => (url.to_owned(), false),
        };
        let rest = url.strip_prefix("https://");
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:?=&%+".contains(&b);
        if let Some(acme) = &entry.acme
            && !rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(sound))
        {
            self.error(
                "fleet::certificates-acme",
                acme.span(),
                format!("{:?} is no authority", acme.get_ref()),
                "it is asked by ACME (RFC 8555), over HTTPS",
                "write \"letsencrypt\", \"staging\", \"lab\", or the https:// URL of an authority's directory",
            );
        }
        if let Some(acme) = &entry.acme
            && !file.sites.is_empty()
        {
            self.untrusted(acme);
        }
        (url, lab)
    }

    /// Authorities for tries, with which a site looks ready and is not.
    fn untrusted(&mut self, acme: &Spanned<String>) {
        let place = Place::new(self.id, acme.span());
        match acme.get_ref().as_str() {
            "staging" => self.findings.warning(
                "fleet::certificates-untrusted",
                place,
                "no browser trusts certificates of \"staging\"",
                "it is Let's Encrypt's environment for tests",
                "leave the line out once the tests are over",
            ),
            "lab" => self.findings.advice(
                "fleet::certificates-lab",
                place,
                "no browser trusts certificates of \"lab\"",
                "outside the lab there is nobody who would give them",
                "leave the line out where the sites' names are the internet's: Let's Encrypt is asked then",
            ),
            _ => {}
        }
    }

    /// Names of the internet's own: an authority that everybody trusts signs for no others.
    fn public_names(&mut self, file: &FleetFile) {
        for host in file.sites.iter().flat_map(|site| site.hosts.get_ref()) {
            let name = host.get_ref();
            let below = |top: &str| {
                name.strip_suffix(top)
                    .is_some_and(|rest| rest.ends_with('.'))
            };
            if PRIVATE.into_iter().any(below) {
                self.error(
                    "fleet::certificates-names",
                    host.span(),
                    format!("nobody signs a certificate for {name:?}"),
                    "Let's Encrypt has to reach the site under its name, and the internet does not have that one",
                    "write the site's public name; for a try in the lab write acme = \"lab\" below [certificates]",
                );
            }
        }
    }

    fn acme_authorities(&mut self, path: &Spanned<String>) -> MailAuthorities {
        if let Err(why) = syntax::relative_path(path.get_ref()) {
            self.error(
                "fleet::certificates-ca",
                path.span(),
                format!("the path {:?} {why}", path.get_ref()),
                "the fleet's directory holds everything that its packages are made of",
                "put the certificates beside fleet.toml and write their path, such as \"acme-ca.pem\"",
            );
        }
        MailAuthorities {
            path: path.get_ref().clone(),
            span: path.span(),
            pem: String::new(),
        }
    }
}
