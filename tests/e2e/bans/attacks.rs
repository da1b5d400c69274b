//! Clients of `outside`: curl and ssh from addresses of their own.

use std::net::Ipv4Addr;

use rolesmith_lab::OUTSIDE;
use rolesmith_tests::Fleet;

use super::{BALANCER, INNOCENT, NODES, SHOP, client};

/// A kind of attack that a jail is for.
pub struct Kind {
    /// Whence it comes.
    pub from: Ipv4Addr,
    /// The jail that bans for it.
    pub jail: &'static str,
    /// Arguments of curl, in the shell's words.
    request: &'static str,
}

/// Each over a connection of its own, and so now to one node, now to the other.
pub const KINDS: [Kind; 7] = [
    Kind {
        from: client(41),
        jail: "nginx-scanner",
        request: "https://shop.example/blog/wp-login.php?x=1",
    },
    // For a name that no site has.
    Kind {
        from: client(42),
        jail: "nginx-scanner",
        request: "https://elsewhere.example/.env",
    },
    // Another's address is the client's word. nginx hides what would end the line, and says so in the log.
    Kind {
        from: client(43),
        jail: "nginx-bot",
        request: "-A 'sqlmap/1.7\" 404 \"-\" x\t203.0.113.60 bot \"GET' -H 'X-Forwarded-For: 203.0.113.60' https://shop.example/",
    },
    Kind {
        from: client(44),
        jail: "nginx-proxy",
        request: "--http1.1 --request-target http://elsewhere.example/ -H 'Host: elsewhere.example' https://shop.example/",
    },
    // nginx refuses it before it looks at what the load balancer said of the client.
    Kind {
        from: client(45),
        jail: "nginx-proxy",
        request: "--http1.1 -X CONNECT --request-target elsewhere.example:443 https://shop.example/",
    },
    Kind {
        from: client(46),
        jail: "nginx-home",
        request: "--path-as-is 'https://shop.example/~root/'",
    },
    Kind {
        from: client(47),
        jail: "nginx-auth",
        request: "https://shop.example/api/private",
    },
];
/// A client that asks for more than it may.
pub const GREEDY: Ipv4Addr = client(48);

impl Kind {
    /// Forty requests, of which each machine gets some.
    pub fn replay(&self, fleet: &Fleet) {
        curl(fleet, self.from, 40, self.request);
    }
}

/// Asks so often, over a connection each; gives the statuses.
fn curl(fleet: &Fleet, from: Ipv4Addr, times: usize, request: &str) -> Vec<String> {
    let script = format!(
        "for i in $(seq {times}); do curl -sk --max-time 10 --interface {from} -o /dev/null -w '%{{http_code}}\\n' \
         --connect-to ::{}: {request} || :; done",
        BALANCER[1]
    );
    let told = fleet.must(OUTSIDE, &script);
    told.lines().map(str::to_owned).collect()
}

/// The statuses of so many requests for the site's first page.
pub fn answers(fleet: &Fleet, from: Ipv4Addr, times: usize) -> Vec<String> {
    curl(fleet, from, times, &format!("https://{SHOP}/"))
}

/// So many requests at a time that most are refused with 429. All of one curl go over one connection, to one machine.
pub fn ask_too_much(fleet: &Fleet) {
    let statuses: Vec<String> = (0..4)
        .flat_map(|_| {
            curl(
                fleet,
                GREEDY,
                1,
                "--parallel 'https://shop.example/slow/[1-40]'",
            )
        })
        .collect();
    assert!(
        statuses.iter().any(|status| status == "429"),
        "{statuses:?}"
    );
}

/// Gives `outside` the clients' addresses.
pub fn addresses(fleet: &Fleet) {
    for number in (41..=49).chain([60, 61]) {
        let address = client(number);
        fleet.must(
            OUTSIDE,
            &format!(
                "ip address add {address}/24 dev \"$(ip -o address show to {} | cut -d' ' -f2)\"",
                BALANCER[1]
            ),
        );
    }
}

/// The innocent client begins to ask, five times a second, until its machine ends.
pub fn innocent_begins(fleet: &Fleet) {
    fleet.must(
        OUTSIDE,
        &format!(
            "cat >/run/innocent.sh <<'END'\n\
             while :; do\n\
             curl -sk --max-time 10 --interface {INNOCENT} -o /dev/null -w '%{{http_code}}\\n' --connect-to ::{}: \
             https://{SHOP}/ -o /dev/null https://{SHOP}/api/open >>/run/innocent\n\
             sleep 0.2\n\
             done\n\
             END\n\
             systemd-run --quiet --unit innocent sh /run/innocent.sh",
            BALANCER[1]
        ),
    );
}

/// It was answered each time, but for connections that a machine had which was switched off.
pub fn innocent_was_served(fleet: &Fleet) {
    let told = fleet.must(
        OUTSIDE,
        "systemctl stop innocent; sort /run/innocent | uniq -c",
    );
    eprintln!("the innocent client's answers:\n{told}");
    let count = |status: &str| {
        told.lines()
            .filter_map(|line| line.trim().split_once(' '))
            .find(|(_, found)| *found == status)
            .map_or(0, |(count, _)| count.parse::<u32>().expect("a number"))
    };
    assert!(count("200") > 100, "{told}");
    assert_eq!(count("403"), 0, "{told}");
    // 000: no answer.
    assert!(count("000") <= 12, "{told}");
}

/// Requests that a site elsewhere has its visitors send, in the clear without a word of that; words that somebody searches for, and a
/// page that is not there.
pub fn mistaken(fleet: &Fleet) {
    let from = client(61);
    for request in [
        "-H 'Sec-Fetch-Site: cross-site' https://shop.example/wp-login.php",
        "http://shop.example/wp-login.php",
        "--path-as-is 'http://shop.example/~root/'",
        "'https://shop.example/search?q=/wp-login.php'",
        "--http1.1 --request-target https://shop.example/ https://shop.example/",
        "https://shop.example/nothing-here",
        "-A '\"203.0.113.60 scanner\"' https://shop.example/",
    ] {
        let statuses = curl(fleet, from, 10, request);
        assert!(
            statuses
                .iter()
                .all(|status| ["200", "308", "404"].contains(&status.as_str())),
            "{request}: {statuses:?}"
        );
    }
}

/// Attempts to log in at the public address of each machine, ten at a time, as users that there are and that there are not.
pub fn guess(fleet: &Fleet, from: Ipv4Addr, times: usize) {
    for target in ["203.0.113.11", "203.0.113.12"] {
        attempts(fleet, &format!("-b {from}"), target, times);
    }
}

/// The same from the load balancer's private address.
pub fn guess_inside(fleet: &Fleet, times: usize) {
    for target in ["10.77.0.11", "10.77.0.12"] {
        attempts(fleet, &format!("-b {}", BALANCER[0]), target, times);
    }
}

fn attempts(fleet: &Fleet, options: &str, target: &str, times: usize) {
    fleet.must(
        OUTSIDE,
        &format!(
            "seq {times} | xargs -P 10 -I N sh -c 'who=guessN; [ $((N % 2)) = 0 ] || who=root; ssh {options} -o BatchMode=yes \
             -o ConnectTimeout=2 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR $who@{target} true; \
             :' >/dev/null 2>&1"
        ),
    );
}

/// Whether sshd of the node says who it is to this client within two seconds.
pub fn ssh_answers(fleet: &Fleet, from: Ipv4Addr, node: &str) -> bool {
    let target = if node == NODES[0] {
        "203.0.113.11"
    } else {
        "203.0.113.12"
    };
    let ask = format!(
        "import socket\n\
         with socket.socket() as s:\n\
         \x20   s.settimeout(2)\n\
         \x20   s.bind((\"{from}\", 0))\n\
         \x20   s.connect((\"{target}\", 22))\n\
         \x20   print(s.recv(8).decode())\n"
    );
    let (_, told) = fleet.shell(OUTSIDE, &format!("python3 -c '{ask}'"));
    told.starts_with("SSH-2.0")
}
