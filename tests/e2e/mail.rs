//! What a machine has to say reaches people: mail of its programs, of cron and of its agent arrives at a smarthost over verified TLS, with
//! the fleet's password; a smarthost with another certificate gets neither mail nor password, and the mail waits.
#![allow(clippy::print_stderr, reason = "a long test says what it measured")]

#[path = "mail/life.rs"]
mod life;

use std::{net::Ipv4Addr, time::Duration};

use rolesmith_lab::{Host, Lab};
use rolesmith_tests::{
    Fleet, LabGuard,
    bare::step,
    need_root,
    smarthost::{Authority, Login, Mail, Session, Smarthost},
};

/// The machine.
pub const NODE: &str = "one";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
/// The lab's own address in the public network.
const SMARTHOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const NAME: &str = "smtp.provider.example";
const USER: &str = "fleet@provider.example";
const PASSWORD: &str = "a-pass$word:with/signs";
const MINUTE: Duration = Duration::from_secs(60);

fn fleet_toml(name: &str, suite: &str) -> String {
    format!(
        r#"
[fleet]
name = "{name}"
suite = "{suite}"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "{name}.internal"

[repository]
url = "http://apt.{name}.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@{name}.internal"]

[mail]
smarthost = "{NAME}"
user = "{USER}"
to = "ops@example.org"
from_domain = "fleet.example.org"
ca = "mail-ca.pem"

[nodes.{NODE}]
roles = ["jobs"]
address = "{ADDRESS}"
"#
    )
}

/// A role that brings cron and a job that has something to say once.
const JOBS: &str = r#"
[role]
summary = "jobs of these tests"
description = """
Says something, once.
"""

[dependencies]
depends = ["cron"]

[[files]]
source = "files/job"
path = "/etc/cron.d/rolesmith-jobs"
"#;
const JOB: &str =
    "* * * * * root [ -e /run/said ] || { touch /run/said; echo what cron has to say; }\n";

#[test]
#[ignore = "needs root: boots a real machine"]
fn mail_of_trixie() {
    mail_of("mail", "trixie");
}

#[test]
#[ignore = "needs root: boots a real machine"]
fn mail_of_bookworm() {
    mail_of("mail-old", "bookworm");
}

fn mail_of(name: &str, suite: &str) {
    need_root();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let fleet = Fleet::create(name, &fleet_toml(name, suite));
    let _guard = LabGuard(&fleet);
    write(&fleet, &authority);
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    step("boot", || {
        let host = Host {
            address: SMARTHOST,
            name: NAME.to_owned(),
        };
        fleet.boot(name, suite, NODE, ADDRESS, vec![host]);
        healthy(&fleet);
    });
    let lab = Lab::open(&fleet.lab_state(name)).expect("the lab is up");
    let login = Login {
        user: USER.to_owned(),
        password: PASSWORD.to_owned(),
    };
    let right = authority.certify(NAME);
    let smarthost = Smarthost::listen(&lab.network(), (SMARTHOST, 587), login, right.clone());
    let test = Test {
        fleet: &fleet,
        name,
        smarthost: &smarthost,
    };
    step("what an idle postfix takes", || test.memory(true));
    // Told in two minutes: meanwhile other mail is sent.
    fleet.must(NODE, "systemctl stop fail2ban");
    step("sendmail", || test.sendmail());
    step("what a busy postfix takes", || test.memory(false));
    step("port 25 of loopback", || test.submission());
    step("cron", || test.cron());
    step("upgrades", || test.upgrades());
    step("an alarm", || test.alarm());
    step("a certificate of another name", || {
        test.waits(authority.certify("smtp.elsewhere.example"), "another name");
    });
    step("a certificate of another CA", || {
        test.waits(stranger.certify(NAME), "another CA");
    });
    step("the right certificate", || {
        smarthost.show(right.clone());
        test.both_arrive();
    });
    fleet.must(NODE, "systemctl start fail2ban");
    step("a sender that the smarthost refuses waits, too", || {
        test.refused()
    });
    step("the end of the alarm", || test.end_of_alarm());
    life::removed_and_back(&test);
}

/// The parts of the fleet that `init` does not make.
fn write(fleet: &Fleet, authority: &Authority) {
    let put = |path: &str, text: &str| {
        let path = fleet.dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, text).expect("written");
    };
    put("mail-ca.pem", authority.pem());
    put("roles/jobs/role.toml", JOBS);
    put("roles/jobs/files/job", JOB);
    fleet.set_secret("mail-password", PASSWORD);
}

/// Waits until the node is converged and healthy.
pub fn healthy(fleet: &Fleet) {
    fleet.must(NODE, "rolesmith-agent wait --timeout 120 || { rolesmith-agent status; journalctl -n 80 --no-pager; exit 1; }");
    assert_eq!(
        fleet.must(NODE, "systemctl list-units --failed --no-legend --plain"),
        ""
    );
}

/// The machine and where its mail goes.
pub struct Test<'a> {
    /// Its fleet.
    pub fleet: &'a Fleet,
    /// The fleet's name.
    pub name: &'a str,
    /// Where its mail goes.
    pub smarthost: &'a Smarthost,
}

impl Test<'_> {
    /// Writes a mail as a program does.
    pub fn send(&self, subject: &str, to: &str) {
        self.fleet.must(
            NODE,
            &format!("printf 'Subject: {subject}\\nTo: {to}\\n\\n.\\na line\\n' | timeout 20 sendmail -i -t"),
        );
    }

    /// The mail with that subject.
    pub fn arrives(&self, subject: &str, limit: Duration) -> Mail {
        let wanted = |mail: &Mail| mail.field("Subject").is_some_and(|s| s.contains(subject));
        self.smarthost.mail(subject, limit, wanted)
    }

    /// Root, and every other account, means the people who run the fleet, and senders are in a domain that the world knows.
    fn sendmail(&self) {
        let name = self.name;
        for (subject, to) in [
            ("to root", "root"),
            ("to an account", "postgres"),
            ("to this machine", &format!("root@{NODE}.{name}.internal")),
        ] {
            self.send(subject, to);
            let mail = self.arrives(subject, MINUTE);
            assert_eq!(mail.user, USER);
            assert_eq!(mail.sender, "root@fleet.example.org");
            assert_eq!(mail.recipients, ["ops@example.org"], "{subject}");
            let from = mail.field("From").unwrap_or_default();
            assert!(from.contains("<root@fleet.example.org>"), "{from}");
            assert_eq!(mail.body(), ".\na line\n", "dots are doubled on the way");
            assert!(mail.field("Date").is_some() && mail.field("Message-Id").is_some());
        }
        let log = self.fleet.must(NODE, "journalctl -t postfix/smtp -o cat");
        assert!(log.contains("Verified TLS connection established"), "{log}");
        assert!(!log.contains(PASSWORD), "{log}");
    }

    /// A program in a sandbox speaks SMTP; other people's addresses are nobody's business here.
    fn submission(&self) {
        self.fleet.feed(
            NODE,
            "runuser -u nobody -- python3 -",
            "import smtplib\ns = smtplib.SMTP('127.0.0.1', 25)\n\
             s.sendmail('shop@example.org', ['a@customer.example', 'b@customer.example'], 'Subject: your order\\n\\nthanks\\n')\n",
        );
        let mail = self.arrives("your order", MINUTE);
        assert_eq!(mail.sender, "shop@example.org");
        assert_eq!(
            mail.recipients,
            ["a@customer.example", "b@customer.example"]
        );
        let listeners = self
            .fleet
            .must(NODE, "ss -Htln 'sport = :25' | awk '{ print $4 }' | sort");
        assert_eq!(listeners, "127.0.0.1:25\n[::1]:25\n");
        self.fleet.feed(
            NODE,
            "python3 -",
            "import smtplib\ncode, _ = smtplib.SMTP('127.0.0.1', 25).verify('root')\nassert code == 502, code\n",
        );
    }

    fn cron(&self) {
        let mail = self.arrives("Cron", 2 * MINUTE);
        assert!(mail.body().contains("what cron has to say"), "{mail:?}");
        assert_eq!(mail.recipients, ["ops@example.org"]);
    }

    /// unattended-upgrades hands its report to sendmail, as it does after a run that changed something.
    fn upgrades(&self) {
        let report = r#"
import importlib.machinery, importlib.util
loader = importlib.machinery.SourceFileLoader("uu", "/usr/bin/unattended-upgrade")
spec = importlib.util.spec_from_loader("uu", loader)
uu = importlib.util.module_from_spec(spec)
loader.exec_module(uu)
import apt_pkg
apt_pkg.init()
to, report = (apt_pkg.config.find("Unattended-Upgrade::" + key) for key in ("Mail", "MailReport"))
assert (to, report) == ("root", "on-change"), (to, report)
uu._send_mail_using_sendmail("root", to, "unattended-upgrades result", "what was upgraded")
"#;
        self.fleet.feed(NODE, "python3 -", report);
        let mail = self.arrives("unattended-upgrades result", MINUTE);
        assert_eq!(mail.recipients, ["ops@example.org"]);
        assert!(mail.body().contains("what was upgraded"), "{mail:?}");
    }

    fn alarm(&self) {
        let mail = self.arrives("base/bans", 5 * MINUTE);
        assert_eq!(mail.recipients, ["ops@example.org"]);
        assert_eq!(mail.sender, "root@fleet.example.org");
        assert_eq!(
            mail.field("Auto-Submitted").as_deref(),
            Some("auto-generated")
        );
        assert!(
            mail.body().contains("fail2ban.service is inactive"),
            "{mail:?}"
        );
        // Told once: the next looks find nothing to tell.
        self.fleet
            .must(NODE, "systemctl start rolesmith-alarms.service");
        let dry = self.fleet.must(NODE, "rolesmith-agent alarms --dry-run");
        assert_eq!(dry, "there is nothing to tell now\n");
    }

    fn end_of_alarm(&self) {
        let mail = self.arrives("ended: base/bans", 12 * MINUTE);
        assert!(mail.body().starts_with("Ended:\n- base/bans:"), "{mail:?}");
    }

    /// A mail for a smarthost that shows a wrong certificate.
    fn waits(&self, shown: std::sync::Arc<rustls::ServerConfig>, subject: &str) {
        self.smarthost.show(shown);
        self.smarthost.forget();
        self.send(subject, "root");
        self.fleet.must(NODE, "postqueue -f");
        let session = self.smarthost.session(2 * MINUTE);
        nothing_given(&session);
        let queue = self.fleet.must(
            NODE,
            "timeout 60 sh -c 'until postqueue -j | grep -q delay_reason; do sleep 0.2; done'; postqueue -j",
        );
        let reason = queue.to_ascii_lowercase();
        assert!(
            reason.contains("not trusted") || reason.contains("not verified"),
            "{queue}"
        );
        // People are told when it has waited for a quarter of an hour; the look that it takes is made now.
        self.fleet
            .must(NODE, "systemctl start rolesmith-alarms.service");
        let seen = self.fleet.must(NODE, "cat /run/rolesmith-alarms/mail.json");
        assert!(seen.contains("\"reason\": \"Server certificate"), "{seen}");
    }

    fn both_arrive(&self) {
        self.smarthost.forget();
        self.fleet.must(NODE, "postqueue -f");
        let mut waited = vec!["another name", "another CA"];
        while !waited.is_empty() {
            let mail = self.smarthost.mail("what waited", 2 * MINUTE, |mail| {
                waited
                    .iter()
                    .any(|s| mail.field("Subject").as_deref() == Some(*s))
            });
            waited.retain(|s| mail.field("Subject").as_deref() != Some(*s));
        }
        self.fleet.must(
            NODE,
            "timeout 60 sh -c 'until [ -z \"$(postqueue -j)\" ]; do sleep 0.2; done'",
        );
    }

    /// A wrong password is refused for good by the smarthost (535), and no mail is lost by it.
    fn refused(&self) {
        let file = "/var/lib/rolesmith/conf/mail/password";
        self.fleet.must(
            NODE,
            &format!(
                "cp -p {file} /root/password && sed -i s/a-pass/b-pass/ {file} && postfix reload"
            ),
        );
        self.smarthost.forget();
        self.send("by a wrong password", "root");
        let session = self.smarthost.session(2 * MINUTE);
        assert!(session.encrypted.iter().any(|c| c == "AUTH") && session.mails.is_empty());
        self.fleet.must(
            NODE,
            "timeout 60 sh -c 'until postqueue -j | grep -q \"535 5.7.8\"; do sleep 0.2; done'",
        );
        self.fleet.must(
            NODE,
            &format!(
                "cp -p /root/password {file} && rm /root/password && postfix reload && postqueue -f"
            ),
        );
        let _ = self.arrives("by a wrong password", 2 * MINUTE);
    }

    /// Proportional set size of postfix: of what runs when there is nothing to do, or of what has just sent something.
    fn memory(&self, idle: bool) {
        if idle {
            self.fleet.must(
                NODE,
                "timeout 300 sh -c 'while pgrep -x tlsmgr >/dev/null; do sleep 1; done'",
            );
        }
        let told = self.fleet.must(
            NODE,
            r#"master=$(pgrep -x master)
            for pid in $master $(pgrep -P $master); do
                echo "$(cat /proc/$pid/comm) $(awk '/^Pss:/ { print $2 }' /proc/$pid/smaps_rollup)"
            done"#,
        );
        let sum: u32 = told
            .lines()
            .filter_map(|line| line.split(' ').nth(1)?.parse::<u32>().ok())
            .sum();
        eprintln!("      PSS {sum} KiB: {}", told.trim().replace('\n', ", "));
        let most = if idle { 16 } else { 48 } * 1024;
        assert!((1..most).contains(&sum), "{told}");
    }
}

/// Neither mail nor password came, in clear or encrypted.
fn nothing_given(session: &Session) {
    for command in session.clear.iter().chain(&session.encrypted) {
        let verb = command.split([' ', ':']).next().unwrap_or("");
        assert!(["EHLO", "STARTTLS", "QUIT"].contains(&verb), "{session:#?}");
    }
    assert!(session.clear.iter().any(|command| command == "STARTTLS"));
    assert_eq!(session.mails, []);
}
