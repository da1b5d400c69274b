//! Building and signing the example fleet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rayon::prelude::*;
use rolesmith_formats::compress::Compression;
use rolesmith_formats::facts::NodeCertificate;
use rolesmith_formats::openpgp::SecretKey;
use rolesmith_host::build::{self, BuildRequest, LOCK_FILE, PACKAGES_DIR};
use rolesmith_host::scan::SecretScan;
use rolesmith_host::secrets::Secrets;
use rolesmith_host::{archive, load};
use rolesmith_model::archive_names::ArchiveNames;
use rolesmith_model::cluster_lock::ClusterLock;
use rolesmith_model::finding::Findings;
use rolesmith_model::ids::FleetName;
use rolesmith_model::plan::Plan;
use rolesmith_model::resolve::resolve;
use rolesmith_model::role::Roles;
use rolesmith_model::{template, validate};

use crate::Outcome;
use crate::measure::{Contestant, alternate};
use crate::peers::{installed, run as run_program};

/// What `rolesmith init --example` writes.
const EXAMPLE: &str = include_str!("../../../cli/templates/example.toml.tera");
const MAINTAINER: &str = "Operations <ops@example.com>";
/// 2026-01-01.
const NOW: u64 = 1_767_225_600;

struct Example {
    dir: PathBuf,
    signer: SecretKey,
    ca_pem: String,
    certificates: BTreeMap<String, NodeCertificate>,
    scan: SecretScan,
}

impl Example {
    fn new(dir: PathBuf) -> Outcome<Self> {
        let name = FleetName::new("acme").map_err(|e| e.to_string())?;
        let mut context = template::Context::new();
        for (key, value) in [
            ("name", "acme"),
            ("suite", "trixie"),
            ("maintainer", MAINTAINER),
            ("domain", "example.com"),
        ] {
            context.insert(key, value);
        }
        context.insert("example", &true);
        let text = template::render(EXAMPLE, &context).map_err(|e| e.message)?;
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("fleet.toml"), text)?;
        let secrets = dir.join("secrets");
        Secrets::init(&secrets, &name, MAINTAINER, NOW)?;
        let secrets = Secrets::open(&secrets)?;
        let mut certificates = BTreeMap::new();
        for node in &plan(&dir)?.nodes {
            let identity =
                secrets.ensure_node(&node.name, &format!("{}.example.com", node.name), NOW)?;
            let certificate = NodeCertificate {
                incarnation: identity.incarnation(),
                pem: identity.certificate().pem().to_owned(),
                fingerprint: identity.certificate().fingerprint().to_owned(),
                expires: identity.certificate().expires(),
                application: secrets
                    .ensure_application(&node.name, NOW)?
                    .map(|certificate| certificate.pem().to_owned()),
            };
            certificates.insert(node.name.to_string(), certificate);
        }
        Ok(Self {
            dir,
            signer: secrets.signer()?,
            ca_pem: secrets.authorities()?.bundle(),
            certificates,
            scan: SecretScan::new(secrets.all_values()?)?,
        })
    }

    /// Forgets what was built.
    fn forget(&self) -> Outcome<()> {
        let dist = self.dir.join("dist");
        if dist.exists() {
            fs::remove_dir_all(dist)?;
            fs::remove_file(self.dir.join(LOCK_FILE))?;
        }
        Ok(())
    }

    /// From the files to signed packages in dist/packages; gives how many were made.
    fn build(&self, compression: Compression) -> Outcome<usize> {
        let plan = plan(&self.dir)?;
        let outcome = build::build(&BuildRequest {
            dir: &self.dir,
            plan: &plan,
            ca_pem: &self.ca_pem,
            certificates: &self.certificates,
            clusters: &ClusterLock::default(),
            signer: &self.signer,
            also_trusted: &[],
            scan: &self.scan,
            now: NOW,
            compression,
            adopted: &[],
        })?;
        Ok(outcome.packages.iter().filter(|built| built.fresh).count())
    }
}

fn plan(dir: &Path) -> Outcome<Plan> {
    let sources = load::fleet(dir)?;
    let mut findings = Findings::new();
    let roles = Roles::load(&sources, &mut findings);
    let fleet = validate::fleet::load(&sources, &roles, &mut findings);
    let plan = fleet.and_then(|fleet| {
        let names = ArchiveNames::parse(archive::names(fleet.suite));
        resolve(&sources, &roles, fleet, &names, &mut findings)
    });
    plan.ok_or_else(|| format!("{:?}", findings.into_sorted()).into())
}

/// Prints the tables for one place.
pub(crate) fn run(directory: &Path, kind: &str, rounds: usize) -> Outcome<()> {
    let example = Example::new(directory.join("fleet"))?;
    for (compression, name) in [(Compression::Zstd, "zstd"), (Compression::Xz, "xz")] {
        compare(&example, directory, kind, rounds, (compression, name))?;
    }
    example.forget()?;
    example.build(Compression::Zstd)?;
    let again = Contestant::new(
        "rolesmith",
        |_| Ok(()),
        |_| match example.build(Compression::Zstd)? {
            0 => Ok(()),
            made => Err(format!("{made} packages were made again").into()),
        },
    );
    let title = format!("Building the example fleet again, nothing changed, on {kind}");
    alternate(&title, directory, rounds, vec![again])
}

fn compare(
    example: &Example,
    directory: &Path,
    kind: &str,
    rounds: usize,
    (compression, name): (Compression, &str),
) -> Outcome<()> {
    example.forget()?;
    let count = example.build(compression)?;
    let trees = directory.join(format!("trees-{name}"));
    let out = directory.join(format!("out-{name}"));
    let mut jobs: Vec<(PathBuf, PathBuf)> = Vec::new();
    let peer = installed("dpkg-deb");
    if peer {
        for entry in fs::read_dir(example.dir.join(PACKAGES_DIR))? {
            let deb = entry?.path();
            let file = deb.file_name().unwrap_or_default();
            let (tree, to) = (trees.join(file), out.join(file));
            fs::create_dir_all(&trees)?;
            run_program(
                Command::new("dpkg-deb")
                    .arg("--raw-extract")
                    .arg(&deb)
                    .arg(&tree),
            )?;
            jobs.push((tree, to));
        }
    }
    let option = format!("-Z{name}");
    let dpkg_deb = |(tree, to): &(PathBuf, PathBuf)| -> Result<(), String> {
        let mut command = Command::new("dpkg-deb");
        command
            .args(["--root-owner-group", &option, "--build"])
            .arg(tree)
            .arg(to);
        run_program(&mut command)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let empty = |_| -> Outcome<()> {
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        Ok(fs::create_dir_all(&out)?)
    };
    let mut contestants = vec![Contestant::new(
        "rolesmith: read, check, resolve, build, sign, on the disk",
        |_| example.forget(),
        |_| match example.build(compression)? {
            made if made == count => Ok(()),
            made => Err(format!("{made} packages were made").into()),
        },
    )];
    if peer {
        contestants.push(Contestant::new(
            "dpkg-deb, one after the other",
            empty,
            |_| Ok(jobs.iter().try_for_each(dpkg_deb)?),
        ));
        contestants.push(Contestant::new("dpkg-deb, one a processor", empty, |_| {
            Ok(jobs.par_iter().try_for_each(dpkg_deb)?)
        }));
    }
    let title = format!("Building the example fleet, {count} packages, {name}, on {kind}");
    alternate(&title, directory, rounds, contestants)
}
