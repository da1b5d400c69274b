//! The dependencies of a Node.js program.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;
use std::process::Output;

use super::cache::{Cache, Installed};
use super::error::{ServiceError, io_error};
use super::kind::{Manager, Pin, Yarn};
use super::package_json::{PACKAGE_JSON, PackageJson};
use super::sandbox::{DOWNLOADS, SERVICE, Sandbox};
use super::source::{Snapshot, digest_of, digest_of_entries};
use super::system::{self, Program, System};
use super::{ServiceBuild, TreeContent, TreeEntry};
use crate::atomic;

mod collect;

/// Raised when what is installed changes for the same inputs.
const RECIPE: &str = "1";

/// Where a yarn from the cache stands in the sandbox.
const TOOL: &str = "/yarn.js";

/// At most this much of a failed program's words goes into an error, and so many lines.
const TAIL: usize = 4000;

/// Settings that count more than any file's. What is downloaded is checked by the digests in the lock file.
const NPM: [(&str, &str); 7] = [
    ("npm_config_cache", "/downloads/npm"),
    ("npm_config_audit", "false"),
    ("npm_config_fund", "false"),
    ("npm_config_update_notifier", "false"),
    ("npm_config_progress", "false"),
    ("npm_config_loglevel", "error"),
    ("npm_config_logs_max", "0"),
];

/// yarn 1's own cache does not stand a kill, so it begins empty. The last one: not to look for another yarn.
const YARN_1: [(&str, &str); 2] = [
    ("YARN_CACHE_FOLDER", "/tmp/yarn"),
    ("YARN_IGNORE_PATH", "1"),
];

/// For PnP the archives stand with the program.
const YARN_4: [(&str, &str); 8] = [
    ("YARN_IGNORE_PATH", "1"),
    ("YARN_GLOBAL_FOLDER", "/downloads/yarn"),
    ("YARN_ENABLE_GLOBAL_CACHE", "false"),
    ("YARN_ENABLE_SCRIPTS", "false"),
    ("YARN_ENABLE_TELEMETRY", "false"),
    ("YARN_ENABLE_PROGRESS_BARS", "false"),
    ("YARN_ENABLE_COLORS", "false"),
    ("YARN_ENABLE_IMMUTABLE_INSTALLS", "false"),
];

/// The dependencies, from the cache or installed now.
pub(super) fn ensure(
    request: &ServiceBuild<'_>,
    snapshot: &Snapshot,
    manager: &Manager,
    cache: &Cache,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Installed, ServiceError> {
    let package = PackageJson::parse(snapshot.text(PACKAGE_JSON)?.unwrap_or_default())?;
    let inputs = snapshot.for_manager(package.has_local_dependencies());
    let program = program_of(manager);
    let digest = digest_of(
        [
            RECIPE,
            &program.key(request.suite),
            &format!("{manager:?}"),
            &digest_of_entries(&inputs),
        ]
        .map(str::as_bytes),
    );
    if let Some(installed) = cache.installed(&digest) {
        return Ok(installed);
    }
    let waiting = || progress("waiting for another build with this cache");
    let _lock = cache.lock(waiting);
    if let Some(installed) = cache.installed(&digest) {
        return Ok(installed);
    }
    cache.sweep();
    let system = system::ensure(program, request.suite, cache, progress)?;
    let settings = [".npmrc", ".yarnrc", ".yarnrc.yml"]
        .into_iter()
        .filter_map(|file| snapshot.text(file).ok()?);
    let registry = request.registry.with_project(settings);
    let scratch = cache.scratch()?;
    let (service, downloads) = (scratch.path().join("service"), cache.downloads());
    let sandbox = Sandbox {
        system: &system,
        registry: &registry,
        service: &service,
        downloads: &downloads,
        scratch: scratch.path(),
    };
    fs::create_dir(&service).map_err(io_error("make the directory", &service))?;
    if let Manager::Yarn1(Yarn::Pinned(pin)) | Manager::Yarn4(Yarn::Pinned(pin)) = manager {
        fetch(pin, &sandbox, cache, progress)?;
    }
    write(&service, &inputs)?;
    progress(&format!(
        "{}: installing dependencies ({manager})",
        request.name
    ));
    run(manager, &sandbox, cache)?;
    let entries = collect::made(&service, &inputs)?;
    let installed = Installed {
        digest,
        unbuilt: collect::unbuilt(&entries),
        entries,
    };
    cache.keep(&installed)?;
    Ok(installed)
}

/// Debian's yarn where it is used; npm, which also fetches a pinned yarn, and whose tree has the Node.js that runs any.
fn program_of(manager: &Manager) -> Program {
    match manager {
        Manager::Yarn1(Yarn::Debian) | Manager::Yarn4(Yarn::Debian) => Program::Yarn,
        _ => Program::Npm,
    }
}

/// Brings a pinned yarn into the cache.
fn fetch(
    pin: &Pin,
    sandbox: &Sandbox<'_>,
    cache: &Cache,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ServiceError> {
    let path = pin.path(cache);
    if path.is_file() {
        super::cache::touch(&path);
        return Ok(());
    }
    progress(&format!("fetching {}", pin.spec()));
    let spec = pin.spec();
    let arguments = [
        sandbox.system.program,
        "pack",
        &spec,
        "--ignore-scripts",
        "--pack-destination",
        SERVICE,
    ];
    succeeded("npm", &sandbox.node(&arguments, &NPM, &[])?, sandbox)?;
    let archives: Vec<_> = fs::read_dir(sandbox.service)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(io_error("read", sandbox.service))?;
    for archive in archives {
        pin.keep(&archive.path(), cache)?;
        fs::remove_file(archive.path()).map_err(io_error("remove", &archive.path()))?;
    }
    Ok(())
}

/// Writes what the package manager is given. All may be read and changed by the user alone; what is shipped gets its modes later.
fn write(service: &Path, inputs: &[TreeEntry]) -> Result<(), ServiceError> {
    for entry in inputs {
        let path = service.join(&entry.path);
        let written =
            fs::create_dir_all(atomic::parent_of(&path)).and_then(|()| match &entry.content {
                TreeContent::Symlink(target) => symlink(target, &path),
                TreeContent::File { bytes, executable } => {
                    let mode = if *executable { 0o700 } else { 0o600 };
                    let mut options = fs::OpenOptions::new();
                    let mut file = options
                        .write(true)
                        .create_new(true)
                        .mode(mode)
                        .open(&path)?;
                    io::Write::write_all(&mut file, bytes)
                }
            });
        written.map_err(io_error("write", &path))?;
    }
    Ok(())
}

fn run(manager: &Manager, sandbox: &Sandbox<'_>, cache: &Cache) -> Result<(), ServiceError> {
    match manager {
        Manager::Npm => {
            let arguments = [
                sandbox.system.program,
                "ci",
                "--ignore-scripts",
                "--omit=dev",
                "--no-audit",
                "--no-fund",
            ];
            succeeded("npm", &sandbox.node(&arguments, &NPM, &[])?, sandbox)
        }
        Manager::Yarn1(yarn) => {
            let install = [
                "install",
                "--frozen-lockfile",
                "--ignore-scripts",
                "--production",
                "--non-interactive",
                "--no-progress",
            ];
            succeeded(
                "yarn 1",
                &with_yarn(yarn, sandbox, cache, &install, &YARN_1)?,
                sandbox,
            )
        }
        Manager::Yarn4(yarn) => {
            // `focus` installs what the program needs to run, and resolves anew what the lock file lacks without a word. So the
            // lock file is proved first; it stays as it is when it says everything.
            let lock = sandbox.service.join("yarn.lock");
            let read = || fs::read(&lock).map_err(io_error("read", &lock));
            let before = read()?;
            succeeded(
                "yarn 4",
                &with_yarn(
                    yarn,
                    sandbox,
                    cache,
                    &["install", "--mode=update-lockfile"],
                    &YARN_4,
                )?,
                sandbox,
            )?;
            if read()? != before {
                let help = "run `yarn install` in the source directory and commit yarn.lock";
                return Err(ServiceError::source_says(
                    "yarn.lock",
                    None,
                    "is not what yarn makes of package.json",
                    help,
                ));
            }
            succeeded(
                "yarn 4",
                &with_yarn(
                    yarn,
                    sandbox,
                    cache,
                    &["workspaces", "focus", "--production"],
                    &YARN_4,
                )?,
                sandbox,
            )
        }
    }
}

fn with_yarn(
    yarn: &Yarn,
    sandbox: &Sandbox<'_>,
    cache: &Cache,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<Output, ServiceError> {
    let System { program, .. } = sandbox.system;
    let node = |program: &str, files: &[(&Path, &str)]| {
        let all: Vec<&str> = [program]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        sandbox.node(&all, variables, files)
    };
    match yarn {
        Yarn::Debian => node(program, &[]),
        Yarn::Pinned(pin) => node(TOOL, &[(&pin.path(cache), TOOL)]),
        Yarn::Vendored(path) => node(&format!("{SERVICE}/{path}"), &[]),
    }
}

fn succeeded(
    manager: &'static str,
    output: &Output,
    sandbox: &Sandbox<'_>,
) -> Result<(), ServiceError> {
    if output.status.success() {
        return Ok(());
    }
    // npm and yarn 1 complain on standard error, yarn 4 on standard output.
    let all = [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat();
    // Its log is in the sandbox, and gone.
    let lines: Vec<&str> = all
        .lines()
        .filter(|line| !line.contains("complete log of this run") && !line.contains(DOWNLOADS))
        .collect();
    let said = sandbox.registry.redacted(lines.join("\n").trim());
    let said = if said.is_empty() {
        format!("it ended with {}", output.status)
    } else {
        tail(&said)
    };
    Err(ServiceError::Install { manager, said })
}

/// The last part of a long text, cut at a line.
pub(super) fn tail(text: &str) -> String {
    if text.len() <= TAIL {
        return text.to_owned();
    }
    let start = (text.len() - TAIL..)
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    let cut = text[start..].find('\n').map_or(start, |at| start + at + 1);
    format!("[...]\n{}", &text[cut..])
}
