//! A site's key with its certificate and what leads to the authority, in one PEM text as nginx reads it.

use std::collections::BTreeSet;

use rustls::Error;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::files::digest;

/// Largest text: it has to fit into a frame between edges.
pub const LIMIT: usize = 32 << 10;
/// Longest chain.
const CHAIN: usize = 8;

/// How much later than now a certificate may begin, in seconds: clocks differ.
const AHEAD: u64 = 3600;
/// Longest life, in seconds. Those that browsers trust have at most 398 days (CA/Browser Forum, Baseline Requirements 6.3.2).
const LIFE: u64 = 400 * 86_400;

/// What edges tell each other of a certificate that they have. Nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// When it begins (Unix seconds).
    pub not_before: u64,
    /// When it ends (Unix seconds).
    pub not_after: u64,
    /// SHA-256 of the certificate (DER), in hexadecimal.
    pub print: String,
    /// Its DNS names.
    pub names: Vec<String>,
}

impl Offer {
    /// Whether it is for exactly these names.
    #[must_use]
    pub fn fits(&self, hosts: &[String]) -> bool {
        names(&self.names) == names(hosts)
    }

    /// Whether it may be believed now: it has not ended, it does not begin much later, and no authority gives one for so long. One that
    /// claims more would keep the place of all that come.
    #[must_use]
    pub const fn sound(&self, now: u64) -> bool {
        self.not_after > now
            && self.not_before <= now.saturating_add(AHEAD)
            && self.not_after.saturating_sub(self.not_before) <= LIFE
    }

    /// Whether it takes the place of another one. Total, so that all edges come to the same one: what fits beats what does not, then
    /// the later beginning, then the later end; the fingerprint decides between twins.
    #[must_use]
    pub fn beats(&self, other: &Self, hosts: &[String]) -> bool {
        let rank = |offer: &Self| {
            (
                offer.fits(hosts),
                offer.not_before,
                offer.not_after,
                offer.print.clone(),
            )
        };
        rank(self) > rank(other)
    }
}

/// Names as they are compared: in any order, in capitals or not.
#[must_use]
pub fn names(names: &[String]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is too large.
    #[error("it has more than {} KiB", LIMIT >> 10)]
    TooLarge,
    /// It has no key, several, or something that cannot be read.
    #[error("its key: {0}")]
    Key(&'static str),
    /// It has no certificate, too many, or something that cannot be read.
    #[error("its certificates: {0}")]
    Certificates(&'static str),
    /// The certificate is for another key.
    #[error("the key is not that of the certificate")]
    Mismatch,
}

/// A key with its certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// PEM: the key, the certificate, what leads to the authority. Secret.
    pub pem: String,
    /// What may be told of it.
    pub offer: Offer,
    /// Where the certificate's revocation can be asked for (OCSP, RFC 6960), if the authority answers that.
    pub ocsp: bool,
}

impl std::fmt::Debug for Bundle {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bundle").field(&self.offer).finish()
    }
}

impl Bundle {
    /// Reads it, from whoever it comes.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn parse(pem: &[u8]) -> Result<Self, BundleError> {
        if pem.len() > LIMIT {
            return Err(BundleError::TooLarge);
        }
        let text = std::str::from_utf8(pem).map_err(|_| BundleError::Key("no text"))?;
        let mut keys = PrivateKeyDer::pem_slice_iter(pem);
        let key = match (keys.next(), keys.next()) {
            (Some(Ok(key)), None) => key,
            (None, _) => return Err(BundleError::Key("there is none")),
            (_, Some(_)) => return Err(BundleError::Key("there are several")),
            (Some(Err(_)), _) => return Err(BundleError::Key("it cannot be read")),
        };
        let chain = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| BundleError::Certificates("they cannot be read"))?;
        if !(1..=CHAIN).contains(&chain.len()) {
            return Err(BundleError::Certificates("none, or too many"));
        }
        let (offer, ocsp) = describe(&chain[0])?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(
            |error| match error {
                Error::InconsistentKeys(_) => BundleError::Mismatch,
                _ => BundleError::Key("it is of a kind that is not known"),
            },
        )?;
        Ok(Self {
            pem: text.to_owned(),
            offer,
            ocsp,
        })
    }
}

/// What may be told of a certificate, and whether it names an OCSP responder (RFC 5280, 4.2.2.1).
fn describe(der: &[u8]) -> Result<(Offer, bool), BundleError> {
    let damaged = BundleError::Certificates("the first one is damaged");
    let Ok(([], certificate)) = parse_x509_certificate(der) else {
        return Err(damaged);
    };
    let seconds = |time: x509_parser::time::ASN1Time| {
        u64::try_from(time.timestamp())
            .map_err(|_| BundleError::Certificates("the first one is older than time"))
    };
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter(),
        Ok(None) => [].iter(),
        Err(_) => return Err(damaged),
    };
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let ocsp = certificate.extensions().iter().any(|extension| {
        use x509_parser::extensions::ParsedExtension::AuthorityInfoAccess;
        matches!(extension.parsed_extension(), AuthorityInfoAccess(access)
            if access.iter().any(|one| one.access_method.to_id_string() == OCSP))
    });
    let offer = Offer {
        not_before: seconds(certificate.validity().not_before)?,
        not_after: seconds(certificate.validity().not_after)?,
        print: digest(der),
        names: names.collect(),
    };
    Ok((offer, ocsp))
}

/// id-ad-ocsp (RFC 6960, 4.2.1).
const OCSP: &str = "1.3.6.1.5.5.7.48.1";

#[cfg(test)]
pub(crate) mod testing {
    use rcgen::{CertificateParams, KeyPair};

    /// A bundle signed by itself for these names, from and until some days of the year 2030.
    pub(crate) fn bundle(names: &[&str], from: u8, until: u8) -> String {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2030, 1, from);
        params.not_after = rcgen::date_time_ymd(2030, 2, until);
        key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::bundle;
    use super::*;

    #[test]
    fn key_and_certificate_belong_together() {
        let (one, other) = (
            bundle(&["a.example.com"], 1, 1),
            bundle(&["b.example.com"], 1, 1),
        );
        let read = Bundle::parse(one.as_bytes()).unwrap();
        assert_eq!(read.offer.names, ["a.example.com"]);
        // 2030-01-01 and 2030-02-01.
        assert_eq!(
            (read.offer.not_before, read.offer.not_after),
            (1_893_456_000, 1_896_134_400)
        );
        assert!(
            !format!("{read:?}").contains("PRIVATE"),
            "the key is not shown"
        );
        let cut = |text: &str| text.find("-----BEGIN CERTIFICATE").unwrap();
        let mixed = format!("{}{}", &one[..cut(&one)], &other[cut(&other)..]);
        assert_eq!(Bundle::parse(mixed.as_bytes()), Err(BundleError::Mismatch));
        assert_eq!(
            Bundle::parse(&one.as_bytes()[cut(&one)..]),
            Err(BundleError::Key("there is none"))
        );
        assert_eq!(
            Bundle::parse(&one.as_bytes()[..cut(&one)]),
            Err(BundleError::Certificates("none, or too many"))
        );
        assert_eq!(
            Bundle::parse(format!("{one}{other}").as_bytes()),
            Err(BundleError::Key("there are several"))
        );
        assert_eq!(
            Bundle::parse(&vec![b'x'; LIMIT + 1]),
            Err(BundleError::TooLarge)
        );
    }

    #[test]
    fn a_certificate_is_for_all_names_of_the_site_and_no_others() {
        let hosts = ["a.example.com".to_owned(), "b.example.com".to_owned()];
        let fits = |names: &[&str]| {
            let text = bundle(names, 1, 1);
            Bundle::parse(text.as_bytes()).unwrap().offer.fits(&hosts)
        };
        assert!(fits(&["b.example.com", "A.example.com"]));
        assert!(!fits(&["a.example.com"]));
        assert!(!fits(&["a.example.com", "b.example.com", "c.example.com"]));
    }

    #[test]
    fn what_claims_too_much_is_not_believed() {
        const NOW: u64 = 2_000_000_000;
        const DAY: u64 = 86_400;
        for (from, until, sound) in [
            (NOW - DAY, NOW + 89 * DAY, true),
            (NOW + AHEAD, NOW + 90 * DAY, true),
            (NOW + AHEAD + 1, NOW + 90 * DAY, false),
            (NOW - DAY, NOW, false),
            (NOW, NOW + LIFE, true),
            (NOW, NOW + LIFE + 1, false),
            (4_070_908_800, 7_226_582_400, false),
        ] {
            let offer = Offer {
                not_before: from,
                not_after: until,
                print: String::new(),
                names: vec![],
            };
            assert_eq!(offer.sound(NOW), sound, "{from} {until}");
        }
    }

    fn offers() -> impl Strategy<Value = Offer> {
        (0..3_u64, 3..6_u64, "[ab]", any::<bool>()).prop_map(|(from, until, print, fits)| Offer {
            not_before: from,
            not_after: until,
            print,
            names: vec![if fits { "a" } else { "b" }.to_owned()],
        })
    }

    proptest! {
        /// Of two different ones exactly one wins, and of three the winner is the same in every order: all edges end with one.
        #[test]
        fn all_edges_come_to_the_same(a in offers(), b in offers(), c in offers()) {
            let hosts = ["a".to_owned()];
            prop_assert!(!(a.beats(&b, &hosts) && b.beats(&a, &hosts)));
            prop_assert!(!a.beats(&a, &hosts));
            let best = |offers: [&Offer; 3]| {
                let mut best = offers[0].clone();
                for offer in offers { if offer.beats(&best, &hosts) { best = offer.clone(); } }
                (best.fits(&hosts), best.not_before, best.not_after, best.print)
            };
            prop_assert_eq!(best([&a, &b, &c]), best([&c, &b, &a]));
            prop_assert_eq!(best([&b, &a, &c]), best([&c, &a, &b]));
        }

        #[test]
        fn anything_may_come(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Bundle::parse(&text);
        }
    }
}
