//! Running other programs: captured output, typed errors, no inherited environment that could change what they do.

use std::{
    ffi::OsStr,
    process::{Command, ExitStatus, Stdio},
};

use crate::error::{LabError, Result};

/// At most this much of a failed program's words goes into the error.
const OUTPUT_TAIL: usize = 4000;

/// A command with a known `PATH` and locale: messages are parsed in places and go into errors.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/root")
        .stdin(Stdio::null());
    command
}

/// Runs to the end and returns standard output; a non-zero end is [`LabError::Failed`] with what was said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|source| LabError::Start {
        program: program(command),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if words.is_empty() {
        words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    }
    Err(LabError::Failed {
        command: line(command),
        status: ended(output.status),
        output: tail(&words),
    })
}

/// The last part of a long text, cut at a line.
pub(crate) fn tail(text: &str) -> String {
    if text.len() <= OUTPUT_TAIL {
        return text.to_owned();
    }
    let mut start = text.len() - OUTPUT_TAIL;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let cut = text[start..].find('\n').map_or(start, |i| start + i + 1);
    format!("[...]\n{}", &text[cut..])
}

/// How a process ended, in words.
pub(crate) fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let mut line = program(command);
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        line.push(' ');
        // A script passed with -c would fill the screen.
        line.push_str(argument.lines().next().unwrap_or(""));
        if argument.lines().nth(1).is_some() {
            line.push_str(" [...]");
        }
    }
    line
}
