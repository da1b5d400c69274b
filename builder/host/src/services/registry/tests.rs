use super::*;

fn registry(npmrc: &str, variables: &[(&str, &str)]) -> Registry {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".npmrc"), npmrc).unwrap();
    let global = dir.path().join("global").to_string_lossy().into_owned();
    let fixed = [
        ("HOME".to_owned(), dir.path().to_string_lossy().into_owned()),
        ("npm_config_globalconfig".to_owned(), global),
    ];
    let given = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let all = given.chain(fixed);
    Registry::from_environment(all.map(|(name, value)| (name.into(), value.into()))).unwrap()
}

fn variables(registry: &Registry) -> Vec<String> {
    registry
        .variables()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[test]
fn settings_of_connections_pass_and_others_do_not() {
    let npmrc = "; mine\nregistry = https://npm.example.org/\nignore-scripts=false\nprefix=/home/me\n@own:registry=https://own.example.org\n\
                 //npm.example.org/:_authToken=${TOKEN}\nca[]=\"PEM\"\nfetch-timeout=1000\nomit=optional\n";
    let registry = registry(
        npmrc,
        &[
            ("TOKEN", "s3cret-token"),
            ("EDITOR", "vi"),
            ("https_proxy", ""),
            ("NPM_CONFIG_MAXSOCKETS", "3"),
            ("npm_config_prefix", "/x"),
        ],
    );
    assert_eq!(
        registry.npmrc(),
        "registry=https://npm.example.org/\n@own:registry=https://own.example.org\n//npm.example.org/:_authToken=s3cret-token\nca[]=PEM\nfetch-timeout=1000\n"
    );
    assert_eq!(
        variables(&registry),
        [
            "NPM_CONFIG_MAXSOCKETS=3",
            "YARN_NPM_AUTH_TOKEN=s3cret-token",
            "YARN_NPM_REGISTRY_SERVER=https://npm.example.org/"
        ]
    );
    assert_eq!(registry.redacted("got s3cret-token of vi"), "got *** of vi");
    assert!(!format!("{registry:?}").contains("s3cret"));
}

#[test]
fn the_environment_counts_more_than_the_file_for_yarn_4_too() {
    let registry = registry(
        "registry=https://file.example.org/\nhttps-proxy=http://proxy.example.org\n",
        &[
            ("npm_config_registry", "https://env.example.org/"),
            (
                "HTTP_PROXY",
                "http://user:pass-word@proxy.example.org:3128/",
            ),
        ],
    );
    assert_eq!(
        variables(&registry),
        [
            "HTTP_PROXY=http://user:pass-word@proxy.example.org:3128/",
            "YARN_HTTPS_PROXY=http://proxy.example.org",
            "YARN_HTTP_PROXY=http://user:pass-word@proxy.example.org:3128/",
            "YARN_NPM_REGISTRY_SERVER=https://env.example.org/",
            "npm_config_registry=https://env.example.org/",
        ]
    );
    assert_eq!(
        registry.redacted("to http://user:pass-word@proxy: pass-word"),
        "to http://***@proxy: ***"
    );
}

#[test]
fn a_project_gets_the_variables_that_it_names() {
    let registry = registry("", &[("OWN_TOKEN", "abcdef"), ("OTHER", "ghijkl")]);
    assert_eq!(variables(&registry), [""; 0]);
    let project = registry.with_project([
        "npmScopes:\n  own:\n    npmAuthToken: \"${OWN_TOKEN:-}\"\n    npmAuthIdent: plain-secret\n",
        "//own.example.org/:_authToken=other-secret\n",
    ]);
    assert_eq!(variables(&project), ["OWN_TOKEN=abcdef"]);
    assert_eq!(
        project.redacted("abcdef plain-secret other-secret ghijkl"),
        "*** *** *** ghijkl"
    );
}

#[test]
fn authorities_of_all_sources_are_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let (a, b, c) = (path("a"), path("b"), path("c"));
    let registry = registry(
        &format!("cafile={a}\n"),
        &[
            ("SSL_CERT_FILE", &b),
            ("NODE_EXTRA_CA_CERTS", &a),
            ("npm_config_cafile", &c),
        ],
    );
    let pem = String::from_utf8(registry.authorities().unwrap()).unwrap();
    assert!(pem.starts_with("a\nc\nb\n"), "{pem}");
    assert_eq!(
        pem.matches("a\n").count(),
        1 + pem[6..].matches("a\n").count()
    );
    assert!(!registry.npmrc().contains("cafile"));
    assert!(matches!(
        Registry::default().authorities(),
        Err(ServiceError::NoCertificates)
    ));
}
