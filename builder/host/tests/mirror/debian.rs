//! Debian itself, over the network.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rand::SeedableRng as _;
use rolesmith_formats::openpgp::{SecretKey, Signer};
use rolesmith_host::mirror::{Closure, MirrorRequest, Sources, components, fetch, resolve};
use rolesmith_host::publish::{Founded, PublishInput, Target, publish, verify};

/// What the roles of the reference deployment install; the rest of the list depends on the suite.
const PACKAGES: &str = "repmgr pgbouncer redis-server redis-sentinel nginx rsyslog rsyslog-openssl rsyslog-relp fail2ban \
                        chrony iptables ipset nftables unattended-upgrades postfix openssh-server cloud-init nodejs uacme \
                        logrotate";

#[test]
#[ignore = "downloads 300 MB of Debian from this machine's mirror; ROLESMITH_TEST_MIRROR names a directory to keep"]
fn the_reference_deployment() {
    let directory = std::env::var_os("ROLESMITH_TEST_MIRROR")
        .map(PathBuf::from)
        .expect("a directory");
    for (suite, postgresql) in [("trixie", 17), ("bookworm", 15)] {
        let mut packages: Vec<String> = PACKAGES.split_whitespace().map(str::to_owned).collect();
        packages.push(format!("postgresql-{postgresql}"));
        packages.push(format!("postgresql-{postgresql}-repmgr"));
        for run in ["first", "second"] {
            let request = MirrorRequest {
                suite: suite.to_owned(),
                architecture: "amd64".to_owned(),
                packages: packages.clone(),
                cache_directory: directory.join("cache"),
                sources: Sources::of_host(Path::new("/etc/apt")).unwrap(),
                epoch: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_secs(),
            };
            mirror(&request, &directory, run);
        }
    }
}

fn mirror(request: &MirrorRequest, directory: &Path, run: &str) {
    let key = SecretKey::generate(
        "Test <t@example.org>",
        1_704_067_200,
        rand::rngs::StdRng::seed_from_u64(1),
    )
    .unwrap();
    let signers: [&dyn Signer; 1] = [&key];
    let started = Instant::now();
    let closure = resolve(request).unwrap();
    let resolved = started.elapsed();
    let closure = Closure::from_toml(&closure.to_toml()).unwrap();
    fetch(&closure, &request.sources, &request.cache_directory, |_| {}).unwrap();
    let fetched = started.elapsed() - resolved;
    let components = components(&closure, &request.cache_directory).unwrap();
    let described = started.elapsed() - resolved - fetched;
    let target = Target::new(directory.join("repo"), directory.join("index-cache"));
    let input = PublishInput {
        codename: request.suite.clone(),
        suite: request.suite.clone(),
        origin: "acme".to_owned(),
        label: "acme".to_owned(),
        description: "mirror".to_owned(),
        architectures: vec!["amd64".to_owned()],
        components,
        epoch: request.epoch,
        valid_for_seconds: 7 * 86_400,
        signers: &signers,
        also_trusted: Vec::new(),
        founded: Founded::Nothing,
    };
    publish(&target, &input).unwrap();
    std::fs::write(directory.join("key.asc"), key.public_key_armored().unwrap()).unwrap();
    std::fs::write(
        directory.join(format!("mirror-{}.lock", request.suite)),
        closure.to_toml(),
    )
    .unwrap();
    let published = started.elapsed() - resolved - fetched - described;
    let verified = verify(&target.root, &request.suite).unwrap();
    assert_eq!(verified.faults, []);
    assert_eq!(verified.packages, closure.packages.len());
    let line = format!(
        "{} {run}: {} packages, {} MB; resolve {resolved:?}, fetch {fetched:?}, describe {described:?}, publish {published:?}\n",
        request.suite,
        closure.packages.len(),
        closure.size() / 1_000_000
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
