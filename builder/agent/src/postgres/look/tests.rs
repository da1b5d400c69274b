use super::*;

fn row(fields: [Option<&str>; 6]) -> Vec<Option<String>> {
    fields.map(|field| field.map(str::to_owned)).to_vec()
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

#[test]
fn a_severed_standby_is_told_from_one_that_still_replays() {
    let server = row([
        Some("server"),
        Some("true"),
        Some(""),
        Some(""),
        Some("0/5000060"),
        None,
    ]);
    let startup = |waits| row([Some("process"), Some("startup"), waits, None, None, None]);
    let look = |rows: Vec<_>| {
        sort(&Reply {
            rows,
            ..Reply::default()
        })
    };
    assert!(look(vec![server.clone(), startup(Some(REPLAYED))]).is_severed());
    // Busy, or waiting for a walreceiver.
    assert!(!look(vec![server.clone(), startup(None)]).is_severed());
    assert!(!look(vec![server.clone(), startup(Some("RecoveryWalStream"))]).is_severed());
    let halted = look(vec![server.clone(), startup(Some(HALTED))]);
    assert!(!halted.is_severed() && halted.is_halted());
    // A walreceiver that is only starting.
    let receiver = row([Some("process"), Some("walreceiver"), None, None, None, None]);
    assert!(!look(vec![server, startup(Some(REPLAYED)), receiver]).is_severed());
    // Settings that are still in force.
    let following = row([
        Some("server"),
        Some("true"),
        Some("host=app-2 port=1"),
        Some(""),
        Some("0/1"),
        None,
    ]);
    assert!(!look(vec![following, startup(Some(REPLAYED))]).is_severed());
}

#[test]
fn a_primary_tells_its_timeline_its_standbys_and_its_rows() {
    let rows = vec![
        row([
            Some("server"),
            Some("false"),
            Some(""),
            Some("ANY 1 (\"app-2\")"),
            Some("1/10"),
            Some("0000000A00000001000000C3"),
        ]),
        row([
            Some("standby"),
            Some("app-2"),
            Some("catchup"),
            Some("0/1"),
            None,
            None,
        ]),
        row([
            Some("standby"),
            Some("app-2"),
            Some("streaming"),
            Some("1/8"),
            None,
            None,
        ]),
        row([
            Some("standby"),
            Some("pg_basebackup"),
            Some("backup"),
            None,
            None,
            None,
        ]),
        row([
            Some("row"),
            Some("12"),
            Some("app-1"),
            Some("10"),
            Some("0/9"),
            None,
        ]),
        row([
            Some("row"),
            Some("9"),
            Some("app-2"),
            Some("4"),
            Some("0/3"),
            None,
        ]),
        row([Some("row"), Some("x"), None, None, None, None]),
    ];
    let look = sort(&Reply {
        rows,
        ..Reply::default()
    });
    assert!(!look.in_recovery);
    assert_eq!(look.timeline, Some(Timeline(10)));
    assert_eq!(look.at, Some(Lsn(0x1_0000_0010)));
    let seen = StandbySeen {
        streaming: true,
        flush: Lsn(0x1_0000_0008),
    };
    assert_eq!(look.standbys, BTreeMap::from([(name("app-2"), seen)]));
    let epochs: Vec<u64> = look.rows.iter().map(|row| row.epoch.0).collect();
    assert_eq!(epochs, [9, 12]);
}

#[test]
fn an_answer_that_says_nothing_is_a_standby_that_may_receive() {
    let look = sort(&Reply {
        rows: vec![row([Some("server"), None, None, None, None, None])],
        ..Reply::default()
    });
    assert!(look.in_recovery);
    assert!(!look.is_severed());
}

#[test]
fn a_history_file_tells_where_timelines_begin() {
    let text = "1\t0/3000060\tno recovery target specified\n\n2\t0/5000100\tafter LSN 0/5000100\n";
    let start = |timeline, begins| TimelineStart {
        timeline: Timeline(timeline),
        begins: Lsn(begins),
    };
    assert_eq!(
        history(Timeline(3), text),
        [start(1, 0), start(2, 0x300_0060), start(3, 0x500_0100)]
    );
    assert_eq!(history(Timeline(1), ""), [start(1, 0)]);
}

#[test]
fn a_log_files_name_tells_where_it_begins() {
    assert_eq!(
        begin_of_file("0000000A00000001000000FF"),
        Some(Lsn(0x1_FF00_0000))
    );
    for other in [
        "0000000A.history",
        "0000000A00000001000000FF.partial",
        "archive_status",
        "",
    ] {
        assert_eq!(begin_of_file(other), None, "{other}");
    }
}
