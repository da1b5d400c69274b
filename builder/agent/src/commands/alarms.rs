use serde::Deserialize;

use crate::alarms::{MEMORY_FILE, Memory, current::current, message::message, queue::Queue};
use crate::cli::{End, now};
use crate::files::{self, Access, Root, Seen};
use crate::observe;
use crate::program::{Call, Machine, Programs as _};
use crate::status::Status;

/// What the role mail says about this.
const SETTINGS_FILE: &str = "/var/lib/rolesmith/conf/mail/alarms.json";

/// Mail what a person should look at (run by rolesmith-alarms.service)
///
/// Each alarm of this node that stands for two minutes is mailed once, and so is its end; what happens shortly after a mail waits for
/// the next one. Looks at the queue of mail, too: mail that waits is an alarm that `status` shows and that is not mailed.
#[derive(Debug, clap::Args)]
pub(crate) struct Alarms {
    /// Print the mail that would be sent now, send and remember nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
struct Settings {
    /// Who is told.
    to: String,
}

impl Alarms {
    pub(crate) fn run(self) -> End {
        match self.tell(&Root::machine(), now()) {
            Ok(said) => End::Good(said),
            Err(error) => End::Error(error),
        }
    }

    fn tell(&self, root: &Root, now: u64) -> Result<String, String> {
        let settings: Settings = match files::read_json(&root.join(SETTINGS_FILE)) {
            Seen::Is(settings) => settings,
            Seen::Absent => {
                return Ok("the fleet sends no mail: fleet.toml has no [mail]\n".to_owned());
            }
            Seen::Broken(why) => return Err(format!("{SETTINGS_FILE}: {why}")),
        };
        let identity = match observe::identity(root) {
            Seen::Is(identity) => identity,
            Seen::Absent => return Ok("this machine is not enrolled\n".to_owned()),
            Seen::Broken(why) => return Err(why),
        };
        let path = root.join(MEMORY_FILE);
        let mut memory: Memory = match files::read_json(&path) {
            Seen::Is(memory) => memory,
            Seen::Absent => Memory::default(),
            // Told twice is better than never.
            Seen::Broken(_) if !self.dry_run => Memory::default(),
            Seen::Broken(why) => return Err(format!("{MEMORY_FILE}: {why}")),
        };
        let before = memory.clone();
        if !self.dry_run {
            Queue::look(&Machine, now)
                .write(root)
                .map_err(|error| format!("the look at the mail queue: {error}"))?;
        }
        memory.observe(&current(&Status::read(root, now)), now);
        let news = memory.news(now);
        let mail = news
            .as_ref()
            .map(|news| message(&identity, &settings.to, news, now));
        if self.dry_run {
            return Ok(mail.unwrap_or_else(|| "there is nothing to tell now\n".to_owned()));
        }
        let sent = match &mail {
            None => Ok(()),
            Some(mail) => {
                let call = Call::new(["sendmail", "-i", "-B", "8BITMIME", "-f", "root", "-t"]);
                Machine.output(&call.stdin(mail.as_str())).map(drop)
            }
        };
        if let (Some(news), Ok(())) = (&news, &sent) {
            memory.tell(news, now);
        }
        if memory != before {
            files::write_json(&path, &memory, Access::PRIVATE)
                .map_err(|error| format!("{MEMORY_FILE}: {error}"))?;
        }
        sent.map_err(|error| error.to_string())?;
        Ok(news.map_or_else(String::new, |news| {
            format!(
                "mailed to {}: {} new, {} ended\n",
                settings.to,
                news.new.len(),
                news.ended.len()
            )
        }))
    }
}
