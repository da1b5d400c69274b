//! Drives [`rolesmith_agent::postgres`] by hand, for tests and for looking at one step at a time:
//!
//!     database observe                     what is seen, as JSON
//!     database watch MILLISECONDS          looks every 250 ms for that long; prints the last look and the processor time
//!     database perform ACTION              an action as JSON, such as '"promote"' or '{"follow":{"node":"app-2"}}'
//!
//! Not for a node whose cluster service runs: two agents would not know of each other.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolesmith_agent::cluster::Action;
use rolesmith_agent::postgres::{Postgres, settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words).await {
        Ok(text) => {
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let settings = settings::Settings::load(Path::new(settings::SETTINGS_FILE))?
        .ok_or("this node has no database")?;
    let database = Postgres::new(settings);
    match *words {
        ["observe"] => Ok(serde_json::to_string_pretty(&database.observe().await)?),
        ["watch", milliseconds] => {
            let until = Instant::now() + Duration::from_millis(milliseconds.parse()?);
            let mut seen = database.observe().await;
            let mut looks = 1;
            while Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(250)).await;
                seen = database.observe().await;
                looks += 1;
            }
            let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let used = used.tv_sec * 1_000_000 + used.tv_nsec / 1_000;
            Ok(format!(
                "{}\n{looks} looks, {used} microseconds of processor time",
                serde_json::to_string(&seen)?
            ))
        }
        ["perform", action] => {
            let action: Action = serde_json::from_str(action)?;
            let began = Instant::now();
            let outcome = database.perform(action).await?;
            Ok(format!(
                "{} in {} ms",
                serde_json::to_string(&outcome)?,
                began.elapsed().as_millis()
            ))
        }
        _ => Err("observe | watch MILLISECONDS | perform ACTION".into()),
    }
}
