use super::*;

/// Three members with database and Redis, all well.
pub(crate) fn fleet() -> FleetStatus {
    let member = |number: u64| {
        let name = format!("app-{number}");
        let role = if number == 1 { "primary" } else { "standby" };
        MemberStatus {
            incarnation: 1,
            address: Some(format!("10.77.0.1{number}")),
            roles: vec!["base".into(), "redis".into()],
            part: Some("data".into()),
            reachable: true,
            machine: Some(format!("000000000000000{number}")),
            facts: Some(4),
            database: Some(DatabaseStatus {
                role: role.into(),
                epoch: Some(3),
                holder: Some("app-1".into()),
                primary: Some("app-1".into()),
                row: Some(3),
                data: "complete".into(),
                system_id: Some("7".into()),
                formed: Some("7".into()),
                configuration: Some((3, 6)),
                position: Some(5000 - number),
                ..DatabaseStatus::default()
            }),
            machine_status: MachineStatus {
                agent: Some("0.1.0".into()),
                healthy: Some(true),
                redis: Some(RedisStatus {
                    role: if number == 1 { "replica" } else { "master" }.into(),
                    master: Some("app-2".into()),
                    sentinels: 3,
                    voters: 3,
                    ..RedisStatus::default()
                }),
                ..MachineStatus::default()
            },
            name,
            ..MemberStatus::default()
        }
    };
    let members: Vec<MemberStatus> = (1..=3).map(member).collect();
    FleetStatus {
        format: STATUS_FORMAT,
        at: 1_800_000_000,
        fleet: "acme".into(),
        asked: "app-1".into(),
        facts: 4,
        configuration: Some(Configuration {
            epoch: 3,
            version: 6,
            voters: members
                .iter()
                .map(|member| (member.name.clone(), member.machine.clone().unwrap()))
                .collect(),
            data: members.iter().map(|member| member.name.clone()).collect(),
            synchronous: 1,
            alone: None,
            system_id: "7".into(),
        }),
        members,
    }
}

fn database(status: &mut FleetStatus, member: usize) -> &mut DatabaseStatus {
    status.members[member].database.as_mut().unwrap()
}

#[test]
fn a_database_is_formed_when_a_majority_and_a_primary_say_so_and_nobody_else() {
    type Change = fn(&mut FleetStatus);
    let cases: [(&str, bool, Change); 9] = [
        ("as it is", true, |_| {}),
        ("one away", true, |status| {
            status.members[2].reachable = false;
            status.members[2].database = None;
        }),
        ("two away", false, |status| {
            for member in &mut status.members[1..] {
                member.database = None;
            }
        }),
        ("another one known to one", false, |status| {
            database(status, 2).formed = Some("8".into());
        }),
        ("one knows none yet", true, |status| {
            database(status, 2).formed = None;
        }),
        ("no primary", false, |status| {
            database(status, 0).role = "promoting".into();
        }),
        ("the primary has other data", false, |status| {
            database(status, 0).system_id = Some("8".into());
        }),
        // Majorities count among those that are declared.
        ("two of five declared", false, |status| {
            database(status, 2).formed = None;
            for name in ["app-4", "app-5"] {
                status.members.push(MemberStatus {
                    name: name.into(),
                    part: Some("data".into()),
                    ..MemberStatus::default()
                });
            }
        }),
        (
            "those that facts no longer declare do not count",
            false,
            |status| {
                status.members[1].part = None;
                database(status, 2).formed = None;
                status.members[2].part = Some("data".into());
            },
        ),
    ];
    for (what, formed, change) in cases {
        let mut status = fleet();
        change(&mut status);
        let found = status.formed_database();
        assert_eq!(found.is_some(), formed, "{what}: {found:?}");
    }
}

#[test]
fn redis_has_begun_when_a_majority_follows_one_master() {
    let mut status = fleet();
    assert_eq!(status.formed_redis().map(|from| from.len()), Some(3));
    status.members[0].machine_status.redis = None;
    assert_eq!(status.formed_redis().map(|from| from.len()), Some(2));
    if let Some(redis) = &mut status.members[1].machine_status.redis {
        redis.master = Some("app-3".into());
    }
    assert_eq!(status.formed_redis(), None);
}

#[test]
fn a_majority_is_one_of_machines_that_vote() {
    let mut status = fleet();
    assert!(status.has_majority());
    // The machine that took over the name has no vote.
    status.members[1].machine = Some("ffffffffffffffff".into());
    assert_eq!(status.voters_heard(), ["app-1", "app-3"]);
    status.members[2].reachable = false;
    assert!(!status.has_majority());
    assert!(!FleetStatus::default().has_majority());
}

#[test]
fn the_table_says_how_each_is() {
    let mut status = fleet();
    let seen = BTreeMap::from([
        ("app-2".to_owned(), (true, 4999 - 2048)),
        ("app-3".to_owned(), (false, 4999)),
    ]);
    status.measure(&seen);
    status.members[0].roles.push("log-server".into());
    status.members[1].machine_status.drained = Some(1);
    status.members[1].machine_status.healthy = Some(false);
    status.members[2].machine_status.alarms = vec!["the disk is full".into()];
    status.members.push(MemberStatus {
        name: "old-1".into(),
        problem: Some("no answer in time".into()),
        ..MemberStatus::default()
    });
    assert_eq!(
        status.table(),
        "\
NODE   DATABASE                EPOCH  LAG    REDIS    LOGS    FACTS  CONFIG  STATE
app-1  primary                 3      -      replica  server  4      3.6     healthy
app-2  standby                 3      2 KiB  master   -       4      3.6     drained
app-3  standby, not streaming  3      0 B    master   -       4      3.6     healthy
old-1  -                       -      -      -        -       -      -       UNREACHABLE: no answer in time
configuration 3.6: voters app-1, app-2, app-3 (3 of 3 answer), data on app-1, app-2, app-3; commits wait for 1 of the others
alarm: app-3: the disk is full
"
    );
}

#[test]
fn members_of_other_versions_are_understood() {
    let status: FleetStatus = serde_json::from_str(
        r#"{ "format": 2, "new": [1], "members": [
            { "name": "a", "reachable": true, "later": {} },
            { "name": "b", "database": { "role": "observer", "more": 1 }, "agent": "9.0" }
        ] }"#,
    )
    .unwrap();
    assert_eq!(
        status.members[1].machine_status.agent.as_deref(),
        Some("9.0")
    );
    let json = serde_json::to_string(&fleet()).unwrap();
    assert_eq!(serde_json::from_str::<FleetStatus>(&json).unwrap(), fleet());
}
