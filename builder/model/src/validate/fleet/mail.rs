//! [mail]

use std::{collections::BTreeMap, net::IpAddr};

use toml::Spanned;

use super::Check;
use crate::{
    finding::Place,
    fleet::{Mail, MailAuthorities, Node},
    fleet_file::{FleetFile, MailEntry},
    ids::{NodeName, RoleName},
    validate::syntax,
};

/// Top-level domains that the internet does not have (RFC 2606, RFC 6762, RFC 8375, and the one that ICANN keeps for private use): no
/// mail server takes senders of them, and no authority signs for them.
pub(super) const PRIVATE: [&str; 9] = [
    "internal",
    "local",
    "localdomain",
    "lan",
    "home.arpa",
    "test",
    "example",
    "invalid",
    "localhost",
];

impl Check<'_> {
    /// The smarthost; every node gets the role that sends to it.
    pub(super) fn mail(
        &mut self,
        file: &FleetFile,
        nodes: &mut BTreeMap<NodeName, Node>,
    ) -> Option<Mail> {
        let Some(entry) = &file.mail else {
            self.mail_without_smarthost(nodes);
            return None;
        };
        let role = RoleName::new(Mail::ROLE).ok()?;
        for node in nodes.values_mut() {
            if !node.roles.iter().any(|(name, _)| *name == role) {
                node.roles.push((role.clone(), entry.smarthost.span()));
            }
        }
        self.smarthost(&entry.smarthost);
        self.mail_user(&entry.user);
        if let Err(why) = mail_address(entry.to.get_ref()) {
            self.error(
                "fleet::mail-to",
                entry.to.span(),
                format!("`to` {why}"),
                "who is written to by every node",
                "write one address, such as \"ops@example.com\"",
            );
        }
        let from_domain = self.sender_domain(file, entry);
        let ca = entry.ca.as_ref().map(|path| self.mail_authorities(path));
        Some(Mail {
            smarthost: entry.smarthost.get_ref().clone(),
            port: self.port("port", entry.port.as_ref(), Mail::SUBMISSION),
            user: entry.user.get_ref().clone(),
            to: entry.to.get_ref().clone(),
            from_domain,
            ca,
        })
    }

    /// A role of this name, or one that requires it, has nowhere to send to.
    fn mail_without_smarthost(&mut self, nodes: &BTreeMap<NodeName, Node>) {
        let asked = nodes
            .values()
            .flat_map(|node| &node.roles)
            .find(|(role, _)| {
                let closure = self.roles.closure(std::iter::once(role));
                closure.iter().any(|role| role.as_str() == Mail::ROLE)
            });
        if let Some((_, span)) = asked.cloned() {
            self.error(
                "fleet::mail-without-smarthost",
                span,
                "the role mail has no smarthost".into(),
                "it hands mail over to the server that [mail] names",
                "write [mail] with smarthost, user and to; every node has the role then",
            );
        }
    }

    fn smarthost(&mut self, name: &Spanned<String>) {
        let why = match syntax::domain(name.get_ref()) {
            _ if name.get_ref().parse::<IpAddr>().is_ok() => "is an address",
            Ok(()) => return,
            Err(why) => why,
        };
        self.error(
            "fleet::mail-smarthost",
            name.span(),
            format!("the smarthost {why}"),
            "its certificate has to have the name that stands here",
            "write the name that your mail provider gives, such as \"smtp.example.com\"",
        );
    }

    fn mail_user(&mut self, user: &Spanned<String>) {
        let text = user.get_ref();
        let sound = |b: u8| b.is_ascii_graphic() && b != b':';
        if !(1..=255).contains(&text.len()) || !text.bytes().all(sound) {
            self.error(
                "fleet::mail-user",
                user.span(),
                // Not shown: people write the password behind it.
                "this cannot be the user at the smarthost".into(),
                "not 1 to 255 printable ASCII characters without spaces and colons",
                "write the user name alone; the password is the secret mail-password",
            );
        }
    }

    fn sender_domain(&mut self, file: &FleetFile, entry: &MailEntry) -> String {
        let Some(domain) = &entry.from_domain else {
            let domain = file.fleet.domain.get_ref().clone();
            let below = |top: &str| {
                domain
                    .strip_suffix(top)
                    .is_some_and(|rest| rest.ends_with('.'))
            };
            if PRIVATE.into_iter().any(below) {
                self.findings.advice(
                    "fleet::mail-from-domain",
                    Place::new(self.id, entry.smarthost.span()),
                    format!("mail of nodes will come from root@{domain}"),
                    "most mail servers refuse senders in a domain that the internet does not have",
                    "write a domain for which your smarthost sends, such as from_domain = \"example.com\"",
                );
            }
            return domain;
        };
        if let Err(why) = syntax::domain(domain.get_ref()) {
            self.error(
                "fleet::mail-from-domain",
                domain.span(),
                format!("`from_domain` {why}"),
                "senders are in it, such as root@example.com",
                "write a domain for which the smarthost sends, such as \"example.com\"",
            );
        }
        domain.get_ref().clone()
    }

    fn mail_authorities(&mut self, path: &Spanned<String>) -> MailAuthorities {
        if let Err(why) = syntax::relative_path(path.get_ref()) {
            self.error(
                "fleet::mail-ca",
                path.span(),
                format!("the path {:?} {why}", path.get_ref()),
                "the fleet's directory holds everything that its packages are made of",
                "put the certificates beside fleet.toml and write their path, such as \"mail-ca.pem\"",
            );
        }
        MailAuthorities {
            path: path.get_ref().clone(),
            span: path.span(),
            pem: String::new(),
        }
    }
}

/// An address without a name and without quoting (RFC 5321, 4.1.2, of it what stands unquoted in every configuration file).
pub(super) fn mail_address(text: &str) -> Result<(), &'static str> {
    let Some((user, host)) = text.split_once('@') else {
        return Err("is no mail address");
    };
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    let dots = user.starts_with('.') || user.ends_with('.') || user.contains("..");
    if !(1..=64).contains(&user.len()) || !user.bytes().all(sound) || dots {
        return Err("has before the @ more than letters, digits, dots, hyphens and plus signs");
    }
    match syntax::domain(host) {
        Ok(()) => Ok(()),
        Err(_) => Err("has no DNS name in lower case after the @"),
    }
}

#[cfg(test)]
mod tests {
    use super::mail_address;

    #[test]
    fn addresses_that_need_no_quoting() {
        for good in ["ops@example.com", "on-call+fleet@mail.example.com"] {
            assert_eq!(mail_address(good), Ok(()), "{good}");
        }
        for bad in [
            "ops",
            "@example.com",
            ".ops@example.com",
            "o..ps@example.com",
            "ops@localhost",
            "Ops <ops@example.com>",
            "ops@example.com, more@example.com",
            "o,ps@example.com",
            "ops@example.com}",
        ] {
            assert!(mail_address(bad).is_err(), "{bad}");
        }
    }
}
