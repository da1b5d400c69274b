//! What is said when it does not work.

use std::fs;

use rolesmith_host::services::{Registry, ServiceError};
use rolesmith_model::ids::Suite;

use crate::fixtures::{NPM_LOCK, PACKAGE, YARN_4_LOCK};
use crate::support::Place;

#[test]
#[ignore = "needs a Debian mirror and the npm registry; `make test-services` runs it"]
fn a_lock_file_that_does_not_fit_is_refused_and_the_source_is_as_it_was() {
    let package = PACKAGE.replace("\"ms\": \"2.1.3\"", "\"ms\": \"2.1.2\"");
    for (lock, text, says) in [
        (
            "package-lock.json",
            NPM_LOCK,
            "ms@2.1.3 does not satisfy ms@2.1.2",
        ),
        (
            "yarn.lock",
            YARN_4_LOCK,
            "is not what yarn makes of package.json",
        ),
    ] {
        let place = Place::with(&[("package.json", &package), (lock, text)]);
        let error = place.build(Suite::Trixie).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("/tmp/"), "{error}");
        assert_eq!(fs::read_to_string(place.source.join(lock)).unwrap(), text);
        assert_eq!(fs::read_dir(&place.source).unwrap().count(), 2);
        assert_eq!(
            fs::read_dir(place.cache.join("services/installs"))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
#[ignore = "needs a Debian mirror and the npm registry; `make test-services` runs it"]
fn an_archive_that_is_not_the_locked_one_is_refused() {
    let lock = NPM_LOCK.replace("sha512-6Flzub", "sha512-7Flzub");
    let place = Place::with(&[("package.json", PACKAGE), ("package-lock.json", &lock)]);
    let error = place.build(Suite::Trixie).unwrap_err();
    assert!(error.to_string().contains("EINTEGRITY"), "{error}");
}

#[test]
#[ignore = "needs a Debian mirror; `make test-services` runs it"]
fn credentials_are_not_in_what_is_said() {
    // A registry that nobody serves, as an address that stays on this machine.
    let place = Place::with(&[("package.json", PACKAGE), ("package-lock.json", NPM_LOCK)]);
    place.write(".npmrc", "//127.0.0.1:9/own/:_authToken=${OWN_TOKEN}\n");
    let settings = [
        (
            "npm_config_registry",
            "http://someone:pass-word@127.0.0.1:9/",
        ),
        ("npm_config_fetch_retries", "0"),
        ("OWN_TOKEN", "t0k3n"),
        ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
    ];
    let registry =
        Registry::from_environment(settings.map(|(name, value)| (name.into(), value.into())))
            .unwrap();
    let error = place.build_with(Suite::Trixie, &registry).unwrap_err();
    assert!(matches!(error, ServiceError::Install { .. }));
    let said = format!("{error} {error:?} {}", error.help());
    assert!(said.contains("ECONNREFUSED"), "{said}");
    assert!(
        !said.contains("pass-word") && !said.contains("t0k3n"),
        "{said}"
    );
}
