use super::*;

fn list(items: &[&str]) -> Value {
    Value::Array(
        items
            .iter()
            .map(|&item| Value::Text(item.to_owned()))
            .collect(),
    )
}

#[test]
fn a_view_is_what_three_commands_say() {
    let master = list(&[
        "name",
        "acme",
        "ip",
        "10.0.0.1",
        "flags",
        "master",
        "config-epoch",
        "4",
    ]);
    let sentinels = Value::Array(vec![list(&[
        "ip", "10.0.0.2", "runid", "ab", "flags", "sentinel",
    ])]);
    let replicas = Value::Array(vec![
        list(&["ip", "10.0.0.2", "flags", "slave"]),
        list(&["ip", "10.0.0.3", "flags", "s_down,slave,disconnected"]),
    ]);
    let Heard::Names(seen) = view(&master, &sentinels, &replicas) else {
        panic!("no view");
    };
    assert_eq!(
        (seen.master.as_str(), seen.epoch, seen.master_alive),
        ("10.0.0.1", 4, true)
    );
    assert_eq!(
        seen.others,
        [("ab".to_owned(), "10.0.0.2".to_owned())].into()
    );
    assert_eq!(seen.replicas.len(), 2);
    assert_eq!(seen.alive, ["10.0.0.2".to_owned()].into());
}

#[test]
fn what_is_not_understood_is_silence() {
    let empty = Value::Array(Vec::new());
    let unknown = Value::Error("ERR No such master with that name".to_owned());
    assert_eq!(view(&unknown, &unknown, &unknown), Heard::Blank);
    // Somebody who may not ask has learnt nothing.
    let refused = Value::Error("NOPERM this user has no permissions".to_owned());
    for broken in [
        refused,
        Value::Null,
        list(&["ip"]),
        list(&["ip", "10.0.0.1", "config-epoch", "-1"]),
    ] {
        let heard = view(&broken, &empty, &empty);
        assert!(matches!(heard, Heard::Silent(_)), "{heard:?}");
    }
}

#[test]
fn an_instance_is_what_info_says() {
    let master = instance(
        "# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=10.0.0.2,port=6380,state=online,offset=14,lag=1\r\n\
         slave1:ip=10.0.0.3,port=6380,state=wait_bgsave,offset=0,lag=0\r\nslave_read_repl_offset:1\r\nloading:0\r\n",
    )
    .unwrap();
    assert!(master.master && !master.copying);
    assert_eq!(master.replicas, [("10.0.0.2".to_owned(), 1)]);
    assert_eq!(master.priority, None);
    let replica = instance(
        "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_link_status:down\r\nmaster_sync_in_progress:1\r\nslave_priority:0\r\n",
    )
    .unwrap();
    assert!(!replica.master && !replica.linked && replica.copying);
    assert_eq!(
        (replica.follows.as_deref(), replica.priority),
        (Some("10.0.0.1"), Some(0))
    );
    assert_eq!(instance("role:sentinel\r\n"), None);
    assert_eq!(instance(""), None);
}
