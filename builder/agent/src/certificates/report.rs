//! What people and health checks see of it. Nothing secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bundle::Offer;
use super::plan::{self, Need};
use super::{Settings, Site};
use crate::files::{self, Access, Root, Seen};

/// Where the service writes it.
pub const FILE: &str = "/run/rolesmith-certificates/status.json";

/// How long a site may be without a certificate before somebody has to look, in seconds: names may have to be told to DNS first.
const MISSING: u64 = 86_400;

/// How long nginx may take to take a certificate over, in seconds: it takes one.
const UNSERVED: u64 = 600;

/// All sites.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// By name.
    pub sites: BTreeMap<String, SiteReport>,
}

/// A site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteReport {
    /// Its certificate, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Offer>,
    /// Whether the authority answers questions about its revocation (OCSP).
    #[serde(default)]
    pub ocsp: bool,
    /// Since when there has been none for its names (Unix seconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<u64>,
    /// Since when nginx has not taken it over (Unix seconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unserved_since: Option<u64>,
    /// What stood in the way at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Report {
    /// Reads it.
    ///
    /// # Errors
    /// The service has written none.
    pub fn load(root: &Root) -> Result<Self, String> {
        match files::read_json(&root.join(FILE)) {
            Seen::Is(report) => Ok(report),
            Seen::Absent => Err("rolesmith-certificates.service has said nothing yet".into()),
            Seen::Broken(why) => Err(format!("{FILE}: {why}")),
        }
    }

    /// Leaves it for others. Who cannot read it asks again.
    pub fn write(&self, root: &Root) {
        let _ = files::write_json(&root.join(FILE), self, Access::PUBLIC);
    }

    /// What somebody has to look at: no certificate for a day, half of the time for its renewal is over, or nginx does not take it.
    #[must_use]
    pub fn problems(&self, settings: &Settings, now: u64) -> Vec<String> {
        let problem = |site: &Site| {
            let seen = self.sites.get(&site.name).cloned().unwrap_or_default();
            let why = seen
                .problem
                .map_or_else(String::new, |why| format!(" ({why})"));
            let need = plan::need(
                seen.certificate.as_ref(),
                &site.hosts,
                settings.renew_days,
                now,
            );
            match need {
                _ if seen
                    .unserved_since
                    .is_some_and(|since| now >= since + UNSERVED) =>
                {
                    Some(format!(
                        "{}: nginx has not taken the certificate over (rolesmith-certificates-install.service)",
                        site.name
                    ))
                }
                Need::Missing if now >= seen.missing_since.unwrap_or(now) + MISSING => {
                    Some(format!("{}: no certificate for a day{why}", site.name))
                }
                Need::Old { alone } if now >= alone => {
                    let end = seen.certificate.map_or(0, |offer| offer.not_after);
                    Some(format!(
                        "{}: the certificate ends {}{why}",
                        site.name,
                        date(end)
                    ))
                }
                _ => None,
            }
        };
        settings.sites.iter().filter_map(problem).collect()
    }

    /// A line for each site.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for (name, site) in &self.sites {
            let what = match &site.certificate {
                Some(offer) => format!(
                    "{}, from {} until {}",
                    offer.names.join(" "),
                    date(offer.not_before),
                    date(offer.not_after)
                ),
                None => "signed by the machine itself".to_owned(),
            };
            let why = site.problem.as_ref();
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            text += &format!("{name}: {what}{why}\n");
        }
        text
    }
}

/// A time as people write it, in UTC.
fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn somebody_has_to_look_when_half_of_the_time_is_over() {
        let settings = Settings {
            directory: "https://acme.example/dir".into(),
            contact: None,
            renew_days: 30,
            port: 7433,
            address: "10.0.0.1".into(),
            sites: vec![Site {
                name: "shop".into(),
                hosts: vec!["a.example.com".into()],
            }],
        };
        let site = |certificate, missing_since| Report {
            sites: [(
                "shop".to_owned(),
                SiteReport {
                    certificate,
                    ocsp: false,
                    missing_since,
                    unserved_since: None,
                    problem: Some("no route".into()),
                },
            )]
            .into(),
        };
        let offer = Offer {
            not_before: 0,
            not_after: 90 * DAY,
            print: String::new(),
            names: vec!["a.example.com".into()],
        };
        let has = site(Some(offer), None);
        assert_eq!(has.problems(&settings, 70 * DAY), Vec::<String>::new());
        assert_eq!(
            has.problems(&settings, 75 * DAY),
            ["shop: the certificate ends 1970-04-01T00:00:00Z (no route)"]
        );
        let mut unserved = has.clone();
        unserved.sites.get_mut("shop").unwrap().unserved_since = Some(DAY);
        assert_eq!(
            unserved.problems(&settings, DAY + UNSERVED - 1),
            Vec::<String>::new()
        );
        let said = unserved.problems(&settings, DAY + UNSERVED);
        assert!(said[0].contains("nginx has not taken"), "{said:?}");
        let has_none = site(None, Some(5));
        assert_eq!(has_none.problems(&settings, DAY), Vec::<String>::new());
        assert_eq!(
            has_none.problems(&settings, 5 + DAY),
            ["shop: no certificate for a day (no route)"]
        );
        assert_eq!(
            has_none.lines(),
            "shop: signed by the machine itself (no route)\n"
        );
    }
}
