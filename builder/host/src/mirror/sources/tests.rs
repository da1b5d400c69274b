use super::*;

const DEB822: &str = "\
# Debian 12's default
Types: deb deb-src
URIs: http://debian.example/debian
Suites: bookworm bookworm-updates
# inside a paragraph
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs:
 http://debian.example/debian-security
Suites: bookworm-security
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

#[test]
fn deb822() {
    let sources = parse_sources(DEB822, true);
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[1].uris, ["http://debian.example/debian-security"]);
    let chosen = Sources::choose(&sources).unwrap();
    assert_eq!(
        chosen,
        Sources::given(
            "http://debian.example/debian",
            "http://debian.example/debian-security"
        )
    );
}

#[test]
fn one_line() {
    let text = "# deb http://commented.example/debian trixie main\n\
                deb-src http://sources.example/debian trixie main\n\
                deb cdrom:[Debian GNU/Linux 13]/ trixie main\n\
                deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.asc] https://vendor.example/ bookworm main\n\
                deb http://backports.example/debian trixie-backports main\n\
                deb\t[ signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] http://a.example/debian/ trixie main # why\n\
                deb http://b.example/debian trixie main\n\
                deb http://s.example/debian-security trixie-security main\n";
    let chosen = Sources::choose(&parse_sources(text, false)).unwrap();
    assert_eq!(
        chosen,
        Sources::given(
            "http://a.example/debian/",
            "http://s.example/debian-security"
        )
    );
}

#[test]
fn disabled_and_foreign_sources_do_not_count() {
    let disabled = DEB822.replace("Types: deb\n", "Enabled: no\nTypes: deb\n");
    assert!(matches!(
        Sources::choose(&parse_sources(&disabled, true)),
        Err(SourcesError::None("security"))
    ));
    let foreign = "deb http://archive.example/ubuntu noble main\ndeb http://security.example/ubuntu noble-security main\n";
    assert!(matches!(
        Sources::choose(&parse_sources(foreign, false)),
        Err(SourcesError::None("main"))
    ));
}

#[test]
fn files_of_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(
        Sources::of_host(directory.path()),
        Err(SourcesError::None("main"))
    ));
    let parts = directory.path().join("sources.list.d");
    fs::create_dir(&parts).unwrap();
    fs::write(parts.join("debian.sources.save"), DEB822).unwrap();
    assert!(matches!(
        Sources::of_host(directory.path()),
        Err(SourcesError::None("main"))
    ));
    fs::write(parts.join("debian.sources"), DEB822).unwrap();
    assert!(
        Sources::of_host(directory.path())
            .unwrap()
            .archive
            .ends_with("/debian")
    );
}
