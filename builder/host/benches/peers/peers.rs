//! Debian's programs, each with a directory of its own and the settings that make it do what we do: SHA-256 in
//! `Packages`, `Contents`, gzip alone, a signed `InRelease`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;

/// Runs a program; its output is shown only when it fails.
pub(crate) fn run(command: &mut Command) -> Outcome<String> {
    let output = command
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {errors}", output.status).into())
}

/// Whether the program is there.
pub(crate) fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    })
}

/// The peers with the versions of their packages.
pub(crate) fn versions() -> Vec<(&'static str, Option<String>)> {
    [
        ("dpkg-deb", "dpkg"),
        ("apt-ftparchive", "apt-utils"),
        ("reprepro", "reprepro"),
        ("aptly", "aptly"),
        ("gpg", "gpg"),
    ]
    .into_iter()
    .map(|(program, package)| {
        let version = installed(program).then(|| {
            run(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", package]))
                .unwrap_or_else(|_| "of unknown version".to_owned())
        });
        (program, version)
    })
    .collect()
}

/// A throw-away GnuPG home with an ed25519 key. Its agent ends with the value.
pub(crate) struct Gpg {
    home: PathBuf,
}

impl Gpg {
    pub(crate) const USER: &str = "bench@example.org";

    pub(crate) fn new(home: PathBuf) -> Outcome<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().mode(0o700).create(&home)?;
        let gpg = Self { home };
        run(gpg.command().args([
            "--passphrase",
            "",
            "--quick-generate-key",
            Self::USER,
            "ed25519",
            "sign",
            "never",
        ]))?;
        Ok(gpg)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--yes", "--quiet", "--no-tty"]);
        command.arg("--homedir").arg(&self.home);
        command
    }

    fn clearsign(&self, from: &Path, to: &Path) -> Outcome<()> {
        let command = &mut self.command();
        run(command.arg("--output").arg(to).arg("--clearsign").arg(from)).map(drop)
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let command = &mut Command::new("gpgconf");
        let _ = run(command
            .arg("--homedir")
            .arg(&self.home)
            .args(["--kill", "all"]));
    }
}

/// apt-ftparchive over a pool that somebody else fills.
pub(crate) struct FtpArchive<'a> {
    root: PathBuf,
    gpg: &'a Gpg,
}

impl<'a> FtpArchive<'a> {
    pub(crate) const PROGRAM: &'static str = "apt-ftparchive";

    pub(crate) fn new(root: PathBuf, gpg: &'a Gpg) -> Outcome<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root, gpg })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Removes the indexes and the cache, so that the next run is a cold one; the pool stays.
    pub(crate) fn forget(&self) -> Outcome<()> {
        for name in ["dists", "cache"] {
            let directory = self.root.join(name);
            if directory.exists() {
                fs::remove_dir_all(&directory)?;
            }
        }
        fs::create_dir_all(self.root.join("dists/fleet/main/binary-amd64"))?;
        fs::create_dir_all(self.root.join("cache"))?;
        let root = self.root.display();
        let config = format!(
            r#"Dir {{ ArchiveDir "{root}"; CacheDir "{root}/cache"; }};
APT::FTPArchive {{ MD5 "false"; SHA1 "false"; SHA512 "false"; }};
Default {{ Packages::Compress "gzip"; Contents::Compress "gzip"; Packages::Extensions ".deb"; }};
TreeDefault {{
  Directory "pool/$(SECTION)";
  SrcDirectory "none";
  BinCacheDB "packages-$(ARCH).db";
}};
Tree "dists/fleet" {{ Sections "main"; Architectures "amd64"; }};
"#
        );
        fs::write(self.root.join("cache/generate.conf"), config)?;
        Ok(())
    }

    /// `Packages`, `Contents`, `Release`, `InRelease`.
    pub(crate) fn generate(&self) -> Outcome<()> {
        let config = self.root.join("cache/generate.conf");
        run(Command::new(Self::PROGRAM).arg("generate").arg(config))?;
        self.release()
    }

    /// `Packages` alone, without a cache, then `Release` and `InRelease`: its fastest way when there is no cache.
    pub(crate) fn packages(&self) -> Outcome<()> {
        let path = self.root.join("dists/fleet/main/binary-amd64/Packages.gz");
        let mut archive = Command::new(Self::PROGRAM)
            .args([
                "-o",
                "APT::FTPArchive::MD5=false",
                "-o",
                "APT::FTPArchive::SHA1=false",
            ])
            .args([
                "-o",
                "APT::FTPArchive::SHA512=false",
                "packages",
                "pool/main",
            ])
            .current_dir(&self.root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let text = archive.stdout.take().ok_or("no output")?;
        let packed = Command::new("gzip")
            .args(["--no-name", "--stdout"])
            .stdin(text)
            .stdout(File::create(path)?)
            .status()?;
        if !packed.success() || !archive.wait()?.success() {
            return Err("apt-ftparchive packages failed".into());
        }
        self.release()
    }

    fn release(&self) -> Outcome<()> {
        let dist = self.root.join("dists/fleet");
        let release = dist.join("Release");
        // Or it would list itself.
        let _ = fs::remove_file(&release);
        let _ = fs::remove_file(dist.join("InRelease"));
        let text = run(Command::new(Self::PROGRAM)
            .args(["-o", "APT::FTPArchive::Release::Codename=fleet"])
            .args(["-o", "APT::FTPArchive::Release::Suite=fleet"])
            .args([
                "-o",
                "APT::FTPArchive::MD5=false",
                "-o",
                "APT::FTPArchive::SHA1=false",
            ])
            .arg("release")
            .arg(&dist))?;
        fs::write(&release, text)?;
        self.gpg.clearsign(&release, &dist.join("InRelease"))
    }

    /// How many packages the last run found.
    pub(crate) fn count(&self) -> Outcome<usize> {
        count(&self.root.join("dists/fleet/main/binary-amd64/Packages.gz"))
    }
}

/// Paragraphs of a `Packages.gz`.
fn count(path: &Path) -> Outcome<usize> {
    let text = rolesmith_formats::compress::Compression::Gzip.decompress(&fs::read(path)?)?;
    let text = String::from_utf8(text)?;
    Ok(text
        .lines()
        .filter(|line| line.starts_with("Package: "))
        .count())
}

/// A repository of reprepro.
pub(crate) struct Reprepro<'a> {
    root: PathBuf,
    gpg: &'a Gpg,
}

impl<'a> Reprepro<'a> {
    pub(crate) const PROGRAM: &'static str = "reprepro";

    pub(crate) fn new(root: PathBuf, gpg: &'a Gpg) -> Self {
        Self { root, gpg }
    }

    /// A new, empty repository.
    pub(crate) fn make(&self) -> Outcome<()> {
        fs::create_dir_all(self.root.join("conf"))?;
        let text = format!(
            "Codename: fleet\nSuite: fleet\nOrigin: acme\nLabel: acme\nDescription: a benchmark\n\
             Architectures: amd64\nComponents: main\nContents: .gz\nSignWith: {}\n",
            Gpg::USER
        );
        fs::write(self.root.join("conf/distributions"), text)?;
        Ok(())
    }

    pub(crate) fn include<'f>(&self, files: impl Iterator<Item = &'f Path>) -> Outcome<()> {
        let mut command = Command::new(Self::PROGRAM);
        command.arg("--gnupghome").arg(&self.gpg.home);
        command
            .arg("--basedir")
            .arg(&self.root)
            .args(["includedeb", "fleet"]);
        run(command.args(files)).map(drop)
    }

    pub(crate) fn count(&self) -> Outcome<usize> {
        count(&self.root.join("dists/fleet/main/binary-amd64/Packages.gz"))
    }
}

/// A repository of aptly.
pub(crate) struct Aptly<'a> {
    root: PathBuf,
    gpg: &'a Gpg,
}

impl<'a> Aptly<'a> {
    pub(crate) const PROGRAM: &'static str = "aptly";

    pub(crate) fn new(root: PathBuf, gpg: &'a Gpg) -> Self {
        Self { root, gpg }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(Self::PROGRAM);
        command
            .env("GNUPGHOME", &self.gpg.home)
            .env("HOME", &self.root);
        command.arg(format!(
            "-config={}",
            self.root.join("aptly.conf").display()
        ));
        command
    }

    /// A new, empty repository.
    pub(crate) fn make(&self) -> Outcome<()> {
        fs::create_dir_all(&self.root)?;
        let text = format!(
            "{{\"rootDir\": \"{}\", \"architectures\": [\"amd64\"], \"gpgProvider\": \"gpg\"}}\n",
            self.root.display()
        );
        fs::write(self.root.join("aptly.conf"), text)?;
        run(self.command().args([
            "repo",
            "create",
            "-distribution=fleet",
            "-component=main",
            "bench",
        ]))
        .map(drop)
    }

    pub(crate) fn add(&self, path: &Path) -> Outcome<()> {
        run(self.command().args(["repo", "add", "bench"]).arg(path)).map(drop)
    }

    pub(crate) fn publish(&self, what: &[&str]) -> Outcome<()> {
        let key = format!("-gpg-key={}", Gpg::USER);
        let mut command = self.command();
        command.arg("publish").args(&what[..1]);
        command.args(["-batch", "-skip-bz2", &key]).args(&what[1..]);
        run(&mut command).map(drop)
    }

    pub(crate) fn count(&self) -> Outcome<usize> {
        count(
            &self
                .root
                .join("public/dists/fleet/main/binary-amd64/Packages.gz"),
        )
    }
}
