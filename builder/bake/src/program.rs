//! Programs of this machine.

use std::{
    ffi::OsStr,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use crate::error::{BakeError, Result};

/// How much of what a program says is kept for an error, in bytes.
const KEPT: usize = 4000;
/// And of a line, in characters.
const LONGEST: usize = 400;

/// A program that ends with this one, however this one ends, and in whose environment nothing is that the outcome could depend on.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command.env_clear();
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command.env("LC_ALL", "C.UTF-8");
    // Where mmdebstrap unpacks, and where newuidmap finds the user.
    for kept in ["TMPDIR", "HOME", "USER"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end, with `input` on its standard input.
///
/// # Errors
/// [`BakeError::Failed`] with the end of what it said; [`BakeError::File`] when it cannot be started.
pub fn run(name: &str, command: &mut Command, input: Option<&[u8]>) -> Result<Vec<u8>> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().map_err(BakeError::file("start", name))?;
    let mut stdin = child.stdin.take();
    let mut stderr = child.stderr.take();
    let mut stdout = child.stdout.take();
    // All three at once, or one pipe would fill up while another is waited for.
    let (said, told) = std::thread::scope(|scope| {
        scope.spawn(move || {
            if let (Some(stdin), Some(input)) = (&mut stdin, input) {
                // A program that does not read to the end says why on its own.
                let _ = stdin.write_all(input);
            }
        });
        let told = scope.spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = &mut stderr {
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        });
        let mut said = Vec::new();
        if let Some(stream) = &mut stdout {
            let _ = stream.read_to_end(&mut said);
        }
        (said, told.join().unwrap_or_default())
    });
    let status = child.wait().map_err(BakeError::file("wait for", name))?;
    if status.success() {
        return Ok(said);
    }
    // Programs that install others let these say what is wrong on standard output.
    let [said, told] = [&said, &told].map(|bytes| String::from_utf8_lossy(bytes));
    let output = format!("{}\n{}", said.trim(), told.trim());
    Err(BakeError::Failed {
        program: name.to_owned(),
        status: status.to_string(),
        output: end_of(output.trim()),
    })
}

/// The end of what a program said, with its long lines cut short: mmdebstrap repeats whole commands with hundreds of arguments.
fn end_of(said: &str) -> String {
    let mut kept = Vec::new();
    let mut length = 0;
    for line in said.lines().rev() {
        let line = match line.char_indices().nth(LONGEST) {
            Some((at, _)) => format!("{}...", &line[..at]),
            None => line.to_owned(),
        };
        length += line.len() + 1;
        if length > KEPT {
            kept.push("...".to_owned());
            break;
        }
        kept.push(line);
    }
    kept.reverse();
    kept.join("\n")
}

/// What baking needs on this machine.
const NEEDED: [(&str, &str, &str); 4] = [
    ("mmdebstrap", "mmdebstrap", "it makes the trees"),
    ("bwrap", "bubblewrap", "the image's tools run in it"),
    ("setpriv", "util-linux", "it ends programs with this one"),
    ("tar", "tar", "it unpacks layers"),
];

/// Whether this machine and this user can bake at all, before anything is begun.
///
/// # Errors
/// [`BakeError::Missing`], [`BakeError::NoSubordinateIds`].
pub fn preflight() -> Result<()> {
    for (program, package, purpose) in NEEDED {
        if !found(program) {
            return Err(BakeError::Missing {
                program,
                package,
                purpose,
            });
        }
    }
    if is_root() {
        return Ok(());
    }
    if !found("newuidmap") {
        return Err(BakeError::Missing {
            program: "newuidmap",
            package: "uidmap",
            purpose: "without root, packages are installed in a user namespace",
        });
    }
    let id = rustix::process::getuid().as_raw().to_string();
    let name = std::fs::read_to_string("/etc/passwd")
        .unwrap_or_default()
        .lines()
        .find(|line| line.split(':').nth(2) == Some(id.as_str()))
        .and_then(|line| line.split(':').next().map(str::to_owned))
        .unwrap_or_else(|| id.clone());
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut owners = text.lines().filter_map(|line| line.split(':').next());
        if !owners.any(|owner| owner == name || owner == id) {
            return Err(BakeError::NoSubordinateIds { user: name, file });
        }
    }
    Ok(())
}

/// Whether this is root, who needs no user namespace.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn found(program: &str) -> bool {
    let places = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    places
        .iter()
        .any(|place| std::path::Path::new(place).join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_long_lines_are_cut() {
        let said = format!("first\n{}\nlast", "ä".repeat(500));
        let kept = end_of(&said);
        assert!(kept.starts_with("first\nä") && kept.ends_with("...\nlast"));
        let many = "line\n".repeat(2000);
        let kept = end_of(&many);
        assert!(kept.starts_with("...\nline") && kept.len() <= KEPT + 4);
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let mut shell = command("sh");
        shell.args(["-c", "cat; echo why >&2; exit 3"]);
        let error = run("sh", &mut shell, Some(b"in")).unwrap_err().to_string();
        assert_eq!(error, "sh failed (exit status: 3):\nin\nwhy");
    }
}
