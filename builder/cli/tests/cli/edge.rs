//! `check` and nginx: the real one, of this machine or unpacked by `builder/setup test`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rolesmith_testkit::{Run, TestFleet, deb};
use serde_json::Value;

use super::ROLESMITH;

/// What is said where there is no nginx.
const UNTESTED: &str = "nginx is not installed here";

/// `check`, with an nginx within reach.
fn command(fleet: &TestFleet, arguments: &[&str]) -> Command {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/root/usr/sbin");
    let unpacked = std::path::absolute(unpacked).expect("a path");
    let path = std::env::join_paths([
        unpacked,
        PathBuf::from("/usr/sbin"),
        PathBuf::from("/usr/bin"),
        PathBuf::from("/bin"),
    ]);
    let mut command = fleet.command(&[&["check"], arguments].concat());
    command.env("PATH", path.expect("paths without colons"));
    command
}

fn check(fleet: &TestFleet) -> Run {
    let run = Run::of(command(fleet, &[]));
    assert!(
        !run.stderr.contains(UNTESTED),
        "these tests need nginx: `builder/setup test` unpacks it"
    );
    run
}

/// The findings that come of nginx.
fn findings(fleet: &TestFleet) -> Vec<Value> {
    let run = Run::of(command(fleet, &["--json"]));
    let json: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let findings = json["findings"].as_array().expect("a list").iter();
    let of_nginx = |one: &&Value| {
        one["code"]
            .as_str()
            .is_some_and(|c| c.starts_with("edge::nginx"))
    };
    findings.filter(of_nginx).cloned().collect()
}

/// The example with a role of its own on one node, which gives nginx this file.
fn with(conf: &str) -> TestFleet {
    let fleet = TestFleet::example(ROLESMITH);
    fleet.write(
        "roles/shout/role.toml",
        "[role]\nsummary = \"answers loudly\"\ndescription = \"For tests.\"\nrequires = [\"edge\"]\n\n\
         [[files]]\nsource = \"files/shout.conf\"\npath = \"/etc/nginx/conf.d/shout.conf\"\n",
    );
    fleet.write("roles/shout/files/shout.conf", conf);
    let last = "\"edge\"]\naddress = \"10.77.0.13\"";
    fleet.edit(
        "fleet.toml",
        last,
        &last.replace("\"edge\"]", "\"edge\", \"shout\"]"),
    );
    fleet
}

#[test]
fn where_there_is_no_nginx_it_is_said_once_and_is_no_finding() {
    let fleet = TestFleet::example(ROLESMITH);
    let mut command = fleet.command(&["check", "--strict"]);
    command.env("PATH", "/usr/bin:/bin");
    let run = Run::of(command);
    run.succeeded();
    let installed = Path::new("/usr/sbin/nginx").exists();
    let times = usize::from(!installed);
    assert_eq!(
        run.stderr.matches(UNTESTED).count(),
        times,
        "{}",
        run.stderr
    );
    // A fleet without an edge has nothing to be tested.
    fleet.write(
        "fleet.toml",
        fleet
            .read("fleet.toml")
            .replace("\"edge\", ", "")
            .replace(", \"edge\"", ""),
    );
    let text = fleet.read("fleet.toml");
    let (before, _) = text
        .split_once("# What the edge serves")
        .expect("the example has a site");
    fleet.write("fleet.toml", before);
    let mut command = fleet.command(&["check"]);
    command.env("PATH", "/usr/bin:/bin");
    let run = Run::of(command);
    run.succeeded();
    assert!(!run.stderr.contains(UNTESTED), "{}", run.stderr);
}

/// Two edges with a service that needs nothing to be built, and a load balancer or none.
fn pair(balanced: bool) -> TestFleet {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    let text = fleet.read("fleet.toml");
    let (head, _) = text.split_once("[nodes").expect("it has nodes");
    let network = if balanced {
        "[network]\nload_balancer = \"10.77.0.2\""
    } else {
        "[network]"
    };
    let head = head.replace("[network]", network);
    let nodes = r#"
[nodes.one]
roles = ["app", "edge"]
address = "10.77.0.11"

[nodes.two]
roles = ["app", "edge"]
address = "10.77.0.12"

[[services]]
name = "chat"
source = "chat"
command = ["python3", "main.py"]
port = 3000

[[sites]]
name = "shop"
hosts = ["shop.example.com"]

[[sites.routes]]
path = "/api/"
service = "chat"

[[sites.routes]]
path = "/live/"
service = "chat"
websocket = true
"#;
    fleet.write("fleet.toml", format!("{head}{nodes}"));
    fleet.write("chat/main.py", "pass\n");
    fleet.run(&["build", "--without-agent"]).succeeded();
    fleet
}

/// A file of the node `one`, from the facts.
fn file(fleet: &TestFleet, name: &str) -> String {
    let package = fleet.path("dist/packages/acme-facts_1_all.deb");
    deb::file(
        &package,
        &format!("./usr/lib/rolesmith/facts/nodes/one/files/{name}"),
    )
}

#[test]
fn connections_are_upgraded_where_the_route_says_so_and_nowhere_else() {
    let text = file(&pair(true), "site-shop/nginx.conf");
    let mut found = Vec::new();
    for location in text.split("\n    location ").skip(1) {
        let name = location.split(" {").next().expect("a name");
        if location.contains("proxy_pass") {
            let upgraded = location.contains("proxy_set_header Upgrade $http_upgrade;")
                && location.contains("proxy_set_header Connection $rolesmith_connection;");
            let kept = location.contains("proxy_set_header Connection \"\";");
            assert_ne!(upgraded, kept, "{location}");
            found.push((name, upgraded));
        }
    }
    let expected = [
        ("/api/", false),
        ("@shop_1_1", false),
        ("/live/", true),
        ("@shop_2_1", true),
    ];
    assert_eq!(found, expected, "{text}");
}

#[test]
fn behind_a_load_balancer_no_jail_of_the_edge_bans_in_the_firewall() {
    for balanced in [true, false] {
        let text = file(&pair(balanced), "base/jail.conf");
        let mut jails = 0;
        for jail in text.split("\n[").filter(|jail| jail.starts_with("nginx-")) {
            assert_eq!(jail.contains("rolesmith-requests"), balanced, "{jail}");
            assert_eq!(jail.contains("rolesmith-ipset"), !balanced, "{jail}");
            jails += 1;
        }
        assert_eq!(jails, 7, "{text}");
        // And none of them counts for a ban that closes everything.
        let (_, recidive) = text.split_once("\n[recidive]").expect("there is one");
        let recidive = recidive.split("\n[").next().expect("its lines");
        assert!(
            recidive.contains("rolesmith-recidive[jails=others]"),
            "{recidive}"
        );
    }
}

#[test]
#[ignore = "needs nginx"]
fn the_example_of_both_suites_starts() {
    for suite in ["trixie", "bookworm"] {
        let fleet = TestFleet::example(ROLESMITH);
        fleet.write(
            "fleet.toml",
            fleet
                .read("fleet.toml")
                .replace("\"trixie\"", &format!("\"{suite}\"")),
        );
        let before = fleet.tree();
        check(&fleet).succeeded();
        assert_eq!(findings(&fleet), Vec::<Value>::new(), "{suite}");
        before.assert_unchanged(&fleet.tree());
    }
}

#[test]
#[ignore = "needs nginx"]
fn a_value_of_fleet_toml_that_nginx_refuses_is_found_in_the_template() {
    let fleet = TestFleet::example(ROLESMITH);
    fleet.edit(
        "fleet.toml",
        "leave_seconds = 5",
        "leave_seconds = 5\nmax_body = \"10x\"",
    );
    let run = check(&fleet);
    run.failed();
    // All three nodes have it; it is told once.
    assert_eq!(run.stderr.matches("error: ").count(), 1, "{}", run.stderr);
    let found = &findings(&fleet)[0];
    assert_eq!(found["code"], "edge::nginx");
    assert_eq!(found["file"], "builtin:edge/templates/https.conf");
    assert_eq!(
        found["message"],
        "nginx would not start: \"client_max_body_size\" directive invalid value"
    );
    assert_eq!(
        found["reason"],
        "on app-1 it is `client_max_body_size 10x;`, in /var/lib/rolesmith/conf/edge/20-https.conf"
    );
    let template =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../roles/edge/templates/https.conf");
    let template = std::fs::read_to_string(template).expect("a built-in role");
    let line = usize::try_from(found["line"].as_u64().expect("a line")).expect("small");
    let line = template.lines().nth(line - 1).expect("there is one");
    assert_eq!(line.trim(), "client_max_body_size {{ settings.max_body }};");
}

#[test]
#[ignore = "needs nginx"]
fn a_mistake_in_a_file_of_the_fleet_s_own_is_found_there() {
    let fleet = with("# Loud.\nserver {\n    listen 10.77.0.13:8000;\n    shout loudly;\n}\n");
    check(&fleet).failed();
    let [found] = &findings(&fleet)[..] else {
        panic!("{:#?}", findings(&fleet));
    };
    assert_eq!(found["file"], "roles/shout/files/shout.conf");
    assert_eq!((&found["line"], &found["column"]), (&4.into(), &5.into()));
    assert_eq!(
        found["message"],
        "nginx would not start: unknown directive \"shout\""
    );
    let reason = found["reason"].as_str().expect("text");
    assert!(
        reason.starts_with("on app-3 it is `shout loudly;`"),
        "{reason}"
    );
}

#[test]
#[ignore = "needs nginx"]
fn addresses_and_files_of_the_node_are_not_asked_for_here() {
    let fleet = with(
        "server {\n    listen 203.0.113.99:443 ssl;\n    listen [2001:db8::1]:443 ssl ipv6only=on;\n    listen unix:/run/shout.sock;\n    \
         ssl_certificate /nowhere/cert.pem;\n    ssl_certificate_key /nowhere/key.pem;\n    ssl_dhparam /nowhere/dh.pem;\n    \
         access_log /nowhere/access.log;\n    include /var/lib/nowhere/made-there.conf;\n}\n",
    );
    check(&fleet).succeeded();
    assert_eq!(findings(&fleet), Vec::<Value>::new());
}

#[test]
#[ignore = "needs nginx"]
fn what_nginx_warns_of_is_a_warning() {
    let fleet = with(
        "server {\n    listen 8000;\n    server_name loud;\n}\nserver {\n    listen 8000;\n    server_name loud;\n}\n",
    );
    check(&fleet).succeeded();
    Run::of(command(&fleet, &["--strict"])).failed();
    let found = &findings(&fleet)[0];
    assert_eq!(
        (&found["code"], &found["severity"]),
        (&"edge::nginx-warns".into(), &"warning".into())
    );
    assert_eq!(
        found["message"],
        "nginx: conflicting server name \"loud\" on 8000, ignored"
    );
}

#[test]
#[ignore = "needs nginx"]
fn a_host_that_cannot_be_looked_up_here_is_a_warning() {
    let fleet = with("upstream far {\n    server far.invalid:80;\n}\n");
    check(&fleet).succeeded();
    let found = &findings(&fleet)[0];
    assert_eq!(
        (&found["code"], &found["line"]),
        (&"edge::nginx-host".into(), &2.into())
    );
}
