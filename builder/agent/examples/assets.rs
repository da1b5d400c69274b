//! Writes the manual page and the shells' completions for the package: `cargo run --example assets -- DIR`.
//!
//! They come from the command line's own definition and are needed only while the package is built, so the program that
//! nodes run does not carry them.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap_complete::Shell;
use clap_mangen::Man;

/// What the command line itself does not say.
const SECTIONS: &str = include_str!("assets/sections.man");

fn main() -> io::Result<()> {
    let dir = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .ok_or_else(|| io::Error::other("usage: assets DIR"))?,
    );
    fs::create_dir_all(&dir)?;
    let mut command = rolesmith_agent::cli::command();
    for (shell, name) in [
        (Shell::Bash, "rolesmith-agent"),
        (Shell::Zsh, "_rolesmith-agent"),
        (Shell::Fish, "rolesmith-agent.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, "rolesmith-agent", &mut text);
        fs::write(dir.join(name), text)?;
    }
    fs::write(dir.join("rolesmith-agent.8"), manual(&command)?)
}

/// One page for the program with all of its commands, in section 8 (hier(7): commands of the administrator).
fn manual(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone())
        .section("8")
        .manual("rolesmith")
        .date("");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        describe(&mut page, sub, sub.get_name())?;
    }
    page.extend_from_slice(SECTIONS.as_bytes());
    Ok(page)
}

fn describe(page: &mut Vec<u8>, command: &clap::Command, name: &str) -> io::Result<()> {
    if command.is_hide_set() {
        return Ok(());
    }
    let mut usage = name.replace('-', "\\-");
    for arg in command
        .get_arguments()
        .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
    {
        if let Some(long) = arg.get_long() {
            let value = arg
                .get_value_names()
                .filter(|_| arg.get_action().takes_values());
            let value = value
                .and_then(<[_]>::first)
                .map(|value| format!(" {value}"))
                .unwrap_or_default();
            usage.push_str(&format!(" [\\-\\-{}{value}]", long.replace('-', "\\-")));
        }
    }
    writeln!(page, ".TP\n.B {usage}")?;
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about
        .map(ToString::to_string)
        .unwrap_or_default()
        .replace('-', "\\-");
    // A paragraph inside of an indented one; a line that begins with a dot or quote would be a request.
    writeln!(
        page,
        "{}",
        about.replace("\n\n", "\n.IP\n").replace('`', "\"")
    )?;
    for arg in command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some_and(|long| long != "help"))
    {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(
            page,
            ".IP\n\\-\\-{}: {}.",
            arg.get_long().unwrap_or_default(),
            help.replace('-', "\\-")
        )?;
    }
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        describe(page, sub, &format!("{name} {}", sub.get_name()))?;
    }
    Ok(())
}
