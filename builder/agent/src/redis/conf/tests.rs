use super::super::settings::Peer;
use super::*;

fn declared(members: &[(&str, &str)]) -> Declared {
    Declared {
        peers: members
            .iter()
            .map(|(name, address)| Peer {
                name: (*name).to_owned(),
                address: Some((*address).to_owned()),
            })
            .collect(),
        open: false,
        database: false,
        version: 1,
    }
}

fn known(members: &[(&str, &str)]) -> BTreeMap<String, String> {
    let id = |(name, address): &(&str, &str)| (sentinel_id("acme", name), (*address).to_owned());
    members.iter().map(id).collect()
}

fn state() -> SentinelState {
    SentinelState {
        master: "10.0.0.1".to_owned(),
        config_epoch: 7,
        leader_epoch: 8,
        current_epoch: 9,
        replicas: vec!["10.0.0.2".to_owned(), "10.0.0.3".to_owned()],
        others: known(&[("b", "10.0.0.2"), ("c", "10.0.0.3")]),
    }
}

const ALL: [(&str, &str); 3] = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")];

#[test]
fn identifiers_depend_on_fleet_and_name() {
    let id = sentinel_id("acme", "a");
    assert!(id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(id, sentinel_id("acme", "a"));
    assert_ne!(id, sentinel_id("acme", "b"));
    assert_ne!(id, sentinel_id("other", "a"));
}

#[test]
fn what_was_written_is_read_again() {
    let settings = "port 0\nsentinel announce-ip 10.0.0.1\nsentinel auth-user acme sentinel\n";
    let text = sentinel_file(settings, "acme", "a", (6380, 26380), 2, &state());
    assert_eq!(parse_sentinel("acme", &text), Some(state()));
    assert_eq!(parse_sentinel("other", &text), None);
    let lines: Vec<&str> = text.lines().collect();
    // Sentinel refuses a setting of a master that it was not told of before.
    assert_eq!(lines[2], "sentinel monitor acme 10.0.0.1 6380 2");
    assert_eq!(lines[3], "sentinel auth-user acme sentinel");
    assert!(lines.contains(&format!("sentinel myid {}", sentinel_id("acme", "a")).as_str()));
}

#[test]
fn damaged_epochs_are_no_state() {
    let text = "sentinel monitor acme 10.0.0.1 6380 2\nsentinel config-epoch acme x\n";
    assert_eq!(parse_sentinel("acme", text), None);
    assert_eq!(parse_sentinel("acme", ""), None);
}

#[test]
fn members_that_moved_are_followed() {
    let before: Places = ALL
        .map(|(name, address)| (name.to_owned(), address.to_owned()))
        .into();
    // a is master and has moved; c has taken the address that a had.
    let moved = declared(&[("a", "10.0.0.11"), ("b", "10.0.0.2"), ("c", "10.0.0.1")]);
    let today = state().today("acme", &moved, &before);
    assert_eq!(today.master, "10.0.0.11");
    assert_eq!(today.replicas, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(today.others, known(&[("b", "10.0.0.2"), ("c", "10.0.0.1")]));
    assert_eq!((today.config_epoch, today.current_epoch), (7, 9));
}

#[test]
fn removed_members_are_forgotten_by_a_majority_of_those_that_stay() {
    let before: Places = ALL
        .map(|(name, address)| (name.to_owned(), address.to_owned()))
        .into();
    let two = declared(&ALL[..2]);
    let today = state().today("acme", &two, &before);
    assert_eq!(today.others, known(&[("b", "10.0.0.2")]));
    assert_eq!(today.replicas, ["10.0.0.2"]);
    // One of three stays: it does not take itself for the whole.
    let exchanged = declared(&[ALL[0], ("d", "10.0.0.4"), ("e", "10.0.0.5")]);
    let today = state().today("acme", &exchanged, &before);
    assert_eq!(today.others, state().others);
}

#[test]
fn redis_starts_from_the_settings_and_the_decision() {
    assert_eq!(
        server_file("/c/redis.conf", None, true),
        "include /c/redis.conf\n"
    );
    assert_eq!(
        server_file("/c/redis.conf", Some(("10.0.0.1", 6380)), false),
        "include /c/redis.conf\nreplicaof 10.0.0.1 6380\nreplica-priority 0\n"
    );
}
