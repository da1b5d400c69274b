//! rolesmith bake --boot-test, --boot-fleet

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use rolesmith_bake::boot::{
    self, BootError, DataSource, DiskFormat, Firmware, Fleet, FleetSpec, Guest, Image as Disk,
    Member, Report, Repository, Test, Workshop,
};
use rolesmith_model::{
    facts::Origin,
    ids::PackageName,
    image::Image,
    image_file::Format,
    plan::{NodePlan, Plan},
};
use tokio::signal::unix::{SignalKind, signal};

use super::super::{publish, user_data};
use crate::{
    app::{App, line},
    progress::Steps,
    project::{self, Keys},
    report::{Failure, Outcome},
};

/// How an image is booted.
#[derive(Debug, Args)]
pub struct Boot {
    /// Boot the image under qemu as a node of the fleet and look whether it joins: with a BIOS and a ConfigDrive, with UEFI and
    /// NoCloud, or, where nothing is said, with one after the other
    #[arg(long, value_enum, value_name = "FIRMWARE", num_args = 0..=1, require_equals = true, default_missing_value = "both")]
    pub boot_test: Option<With>,
    /// Boot all nodes of the fleet from the image under qemu, on one private network, and let them run until Ctrl-C
    #[arg(long, conflicts_with_all = ["boot_test", "node"])]
    pub boot_fleet: bool,
    /// As which node it is booted [default: the first that has the image's roles]
    #[arg(long, value_name = "NODE", requires = "boot_test")]
    pub node: Option<String>,
    /// Seconds that a boot may take; without KVM it takes about ten times as long as with it
    #[arg(long, value_name = "SECONDS", default_value_t = 1200, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// What a machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum With {
    /// A BIOS, and a ConfigDrive, as at DigitalOcean
    Bios,
    /// UEFI, and NoCloud
    Uefi,
    /// One after the other
    Both,
}

impl With {
    fn cases(self) -> &'static [(Firmware, DataSource)] {
        const CASES: [(Firmware, DataSource); 2] = [
            (Firmware::Bios, DataSource::ConfigDrive),
            (Firmware::Uefi, DataSource::NoCloud),
        ];
        match self {
            With::Bios => &CASES[..1],
            With::Uefi => &CASES[1..],
            With::Both => &CASES,
        }
    }
}

/// Boots the image as was asked for, and gives what came of it.
pub fn run(
    app: &App,
    plan: &Plan,
    keys: &Keys,
    image: &Image,
    args: &Boot,
) -> Outcome<Vec<Report>> {
    if !args.boot_fleet && args.boot_test.is_none() {
        return Ok(Vec::new());
    }
    let limit = Duration::from_secs(args.timeout);
    let workshop = Workshop::open(&app.dir.join("dist")).map_err(failure)?;
    clear_away_when_interrupted(workshop.path().to_owned())?;
    let repository = repository(app, plan)?;
    if let Some(with) = args.boot_test {
        let node = node(plan, image, args.node.as_deref())?;
        let test = Attempt {
            image: &file(app, image)?,
            guest: &guest(plan, keys, node, &workshop)?,
            repository: repository.as_ref(),
            limit,
        };
        return test.run(app, with, &workshop);
    }
    let nodes = plan.nodes.iter().map(|node| {
        let image = image_of(plan, node)?;
        Ok((file(app, image)?, guest(plan, keys, node, &workshop)?))
    });
    let nodes = nodes.collect::<Outcome<Vec<_>>>()?;
    let spec = FleetSpec {
        nodes: &nodes,
        firmware: Firmware::Bios,
        source: DataSource::ConfigDrive,
        repository: repository.as_ref(),
        limit,
    };
    fleet(app, spec, &workshop)
}

/// How many of the node's packages the image lacks, which are installed at the first boot; nothing where it has others, too: an agent
/// complains of a role that is not its node's.
fn lacks(image: &Image, node: &NodePlan) -> Option<usize> {
    let has = |package: &PackageName| image.fleet_packages.contains(package);
    let only = image
        .fleet_packages
        .iter()
        .all(|package| node.packages.contains(package));
    only.then(|| node.packages.iter().filter(|package| !has(package)).count())
}

/// The node as which the image is booted: the one of which it has most.
fn node<'p>(plan: &'p Plan, image: &Image, name: Option<&str>) -> Outcome<&'p NodePlan> {
    if let Some(name) = name {
        return project::node(plan, name);
    }
    let fitting = plan
        .nodes
        .iter()
        .filter_map(|node| Some((lacks(image, node)?, node)));
    fitting
        .min_by_key(|(lacks, _)| *lacks)
        .map(|(_, node)| node)
        .ok_or_else(|| {
            Failure::new(
                format!("every node lacks a role that the image {} has", image.name),
                "an image is booted as one of the fleet's nodes: bake one with their roles",
            )
        })
}

/// The image of which the node has most.
pub fn image_of<'p>(plan: &'p Plan, node: &NodePlan) -> Outcome<&'p Image> {
    let fitting = plan
        .images
        .iter()
        .filter_map(|image| Some((lacks(image, node)?, image)));
    fitting
        .min_by_key(|(lacks, _)| *lacks)
        .map(|(_, image)| image)
        .ok_or_else(|| {
            Failure::new(
                format!("every image has a role that {} has not", node.name),
                "write one into images/NAME/image.toml, and bake it",
            )
        })
}

/// The image's disk, as it was baked.
fn file(app: &App, image: &Image) -> Outcome<Disk> {
    let directory = app.dir.join(super::IMAGES_DIR).join(image.name.as_str());
    let formats = [
        (Format::Raw, DiskFormat::Raw),
        (Format::Qcow2, DiskFormat::Qcow2),
    ];
    let wanted = formats
        .iter()
        .filter(|(format, _)| image.formats.contains(format));
    let mut paths = wanted.map(|(format, kind)| Disk {
        path: directory.join(format!("{}.{}", image.name, format.extension())),
        format: *kind,
    });
    let Some(disk) = paths.next() else {
        return Err(Failure::new(
            format!(
                "the image {} has neither a raw disk nor a qcow2",
                image.name
            ),
            "add one to `formats` under [disk]",
        ));
    };
    if disk.path.is_file() {
        Ok(disk)
    } else {
        Err(Failure::new(
            format!("{} does not exist", disk.path.display()),
            format!("bake it: `rolesmith bake {}`", image.name),
        ))
    }
}

/// One image as one node.
struct Attempt<'a> {
    image: &'a Disk,
    guest: &'a Guest,
    repository: Option<&'a Repository>,
    limit: Duration,
}

impl Attempt<'_> {
    fn run(&self, app: &App, with: With, workshop: &Workshop) -> Outcome<Vec<Report>> {
        let mut reports = Vec::new();
        for (firmware, source) in with.cases() {
            let test = Test {
                image: self.image,
                guest: self.guest,
                firmware: *firmware,
                source: *source,
                repository: self.repository,
                limit: self.limit,
            };
            let steps = Steps::new(app);
            let name = format!("{} {firmware}", self.guest.node);
            let report = boot::test(&test, workshop, &|text| steps.say(&name, text));
            steps.finish();
            let report = report.map_err(failure)?;
            if !app.json {
                line(text(&report))?;
            }
            reports.push(report);
        }
        Ok(reports)
    }
}

/// One line of a report.
fn text(report: &Report) -> String {
    format!(
        "booted as {} with {} and {:?}: kernel {:.1} s, cloud-init finished {:.1} s, joined {:.1} s, looked at {:.1} s ({})",
        report.node,
        report.firmware,
        report.source,
        report.kernel,
        report.cloud_init,
        report.joined,
        report.checked,
        match report.accelerator {
            boot::Accelerator::Kvm => "KVM",
            boot::Accelerator::Tcg => "without KVM",
        }
    )
}

fn fleet(app: &App, spec: FleetSpec<'_>, workshop: &Workshop) -> Outcome<Vec<Report>> {
    let steps = Steps::new(app);
    let mut fleet = Fleet::switch_on(spec, workshop).map_err(failure)?;
    let members = fleet.wait(&|text| steps.say("", text));
    steps.finish();
    let members = members.map_err(failure)?;
    if app.json {
        line(format_args!("{}", serde_json::to_string_pretty(&members)?))?;
    } else {
        for member in &members {
            line(row(member))?;
        }
    }
    for machine in fleet.machines() {
        let ssh = machine.ssh();
        let words: Vec<_> = ssh.get_args().map(|word| word.to_string_lossy()).collect();
        app.say(format_args!(
            "{} (qemu {}): ssh {}",
            machine.node(),
            machine.id(),
            words.join(" ")
        ));
    }
    app.say("The fleet runs until Ctrl-C; then nothing is left of it.");
    loop {
        std::thread::park();
    }
}

/// Removes the test's files, with secrets among them, when somebody ends it. The machines end with this program by themselves.
fn clear_away_when_interrupted(directory: PathBuf) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let guard = runtime.enter();
    let [interrupt, terminate, hangup] = kinds.map(signal);
    drop(guard);
    let (mut interrupt, mut terminate, mut hangup) = (interrupt?, terminate?, hangup?);
    std::thread::spawn(move || {
        let kind = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
                _ = hangup.recv() => SignalKind::hangup(),
            }
        });
        // What cannot be removed now is removed by the next test.
        let _ = std::fs::remove_dir_all(directory);
        std::process::exit(128 + kind.as_raw_value())
    });
    Ok(())
}

fn row(member: &Member) -> String {
    format!(
        "{:<16} cloud-init finished {:.1} s, joined {:.1} s, healthy {:.1} s",
        member.node, member.cloud_init, member.joined, member.healthy
    )
}

/// What a provider would be told of this node. The test's key is let in beside the operators'.
fn guest(plan: &Plan, keys: &Keys, node: &NodePlan, workshop: &Workshop) -> Outcome<Guest> {
    let mut seed = project::seed(plan, keys, node, Origin::Seed)?;
    seed.admin_ssh_keys.push(workshop.key().public().to_owned());
    let fleet = &plan.fleet;
    let machine = &fleet.nodes[&node.name];
    Ok(Guest {
        node: seed.node.clone(),
        fleet: seed.fleet.clone(),
        instance_id: seed.instance_id(),
        user_data: user_data::render(&seed)?,
        ssh_port: seed.ssh_port,
        public_interface: fleet.network.public_interface.clone(),
        private_interface: fleet.network.private_interface.clone(),
        private_address: machine
            .address
            .map(|address| (address, fleet.network.private.prefix())),
        memory: machine.memory,
    })
}

/// The fleet's repository, as a guest is to reach it; nothing, and a word about it, where it cannot be served to a guest.
fn repository(app: &App, plan: &Plan) -> Outcome<Option<Repository>> {
    let dir = app.dir.join(publish::REPO_DIR);
    let url = &plan.fleet.repository.url;
    let place = match place(url) {
        Ok(_) if !dir.join("dists").is_dir() => Err("nothing is published in dist/repo"),
        place => place,
    };
    let (host, port) = match place {
        Ok(place) => place,
        Err(why) => {
            app.say(format_args!(
                "The machine has no way to {url}: {why}. It has to come up with what is in the image."
            ));
            return Ok(None);
        }
    };
    let program = std::env::current_exe()?;
    let dir = std::path::absolute(dir)?;
    Ok(Some(Repository {
        host,
        port,
        answer: [
            &program,
            Path::new("lab"),
            Path::new("__answer"),
            Path::new("--dir"),
            &dir,
        ]
        .map(|word| word.as_os_str().to_owned())
        .to_vec(),
    }))
}

/// Host and port of a repository that can be served to a guest, or why it cannot.
fn place(url: &str) -> Result<(String, u16), &'static str> {
    let rest = url
        .strip_prefix("http://")
        .ok_or("its server would need a certificate that the machine trusts")?;
    let rest = rest.trim_end_matches('/');
    if rest.contains('/') {
        return Err("it is not at the root of its server");
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| "its port is no number")?),
        None => (rest, 80),
    };
    if host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[') {
        return Err("its server has no name that could lead elsewhere");
    }
    Ok((host.to_owned(), port))
}

fn failure(error: BootError) -> Failure {
    let help = error.help();
    Failure::because(&error, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_served_where_its_name_can_lead_to_us() {
        assert_eq!(
            place("http://apt.acme.internal"),
            Ok(("apt.acme.internal".into(), 80))
        );
        assert_eq!(
            place("http://apt.acme.internal:8080/"),
            Ok(("apt.acme.internal".into(), 8080))
        );
        for url in [
            "https://apt.acme.example",
            "http://apt.acme.internal/debian",
            "http://10.77.0.2",
            "http://[::1]:80",
            "http://apt:x",
        ] {
            assert!(place(url).is_err(), "{url}");
        }
    }
}
