use super::*;

/// As bookworm's cloud-init 22.4 answers, with a module that failed and a log that imitates a section.
const BOOKWORM: &str = r#"@system
degraded
@failed
cloud-config.service loaded failed failed Apply the settings specified in cloud-config
@status
...
{"boot_status_code": "enabled-by-generator", "status": "error", "errors": ["('locale', ProcessExecutionError())"]}
@addresses
[{"ifname":"lo","operstate":"UNKNOWN","addr_info":[{"local":"127.0.0.1"}]},
{"ifname":"eth0","operstate":"UP","addr_info":[{"family":"inet","local":"10.78.0.12"}]},
{"ifname":"eth1","operstate":"DOWN","addr_info":[]}]
@apt

Start-Date: 2026-11-23  23:59:58
Commandline: apt-get install x
End-Date: 2026-11-24  00:00:05

Start-Date: 2026-11-24  00:01:00
End-Date: 2026-11-24  00:01:02
@log
2026-11-23 23:59:59,500 - handlers.py[DEBUG]: start: init-network/check-cache: attempting to read from cache [trust]
2026-11-23 23:59:59,600 - handlers.py[DEBUG]: start: init-network/config-ssh: running config-ssh with frequency once-per-instance
2026-11-24 00:00:01,250 - handlers.py[DEBUG]: finish: init-network/config-ssh: SUCCESS: config-ssh ran successfully
2026-11-24 00:00:01,300 - handlers.py[DEBUG]: finish: init-network: SUCCESS: searching for network datasources
2026-11-24 00:00:02,000 - util.py[WARNING]: Running module locale (<module>) failed
2026-11-24 00:00:02,001 - util.py[WARNING]: Running module locale (<module>) failed
@apt
2026-11-24 00:00:02,002 - util.py[DEBUG]: a line with [WARNING]: inside
"#;

#[test]
fn a_broken_boot_is_told_in_full() {
    let answers = Answers::parse(BOOKWORM);
    assert_eq!(answers.system(), "degraded");
    assert_eq!(answers.failed_units(), ["cloud-config.service"]);
    let cloud_init = answers.cloud_init();
    assert_eq!(
        (
            cloud_init.status.as_str(),
            cloud_init.extended_status.as_str()
        ),
        ("error", "error")
    );
    assert_eq!(cloud_init.errors, ["('locale', ProcessExecutionError())"]);
    assert_eq!(
        cloud_init.recoverable["WARNING"],
        ["Running module locale (<module>) failed"]
    );
    let wanted = [
        ("eth0", Ipv4Addr::new(10, 78, 0, 12)),
        ("eth1", Ipv4Addr::new(10, 77, 0, 12)),
        ("eth2", Ipv4Addr::LOCALHOST),
    ];
    assert_eq!(
        answers.network_problems(&wanted),
        ["interface eth1 is down", "interface eth2 is not there"]
    );
    let wanted = [("eth0", Ipv4Addr::new(10, 78, 0, 13))];
    assert_eq!(
        answers.network_problems(&wanted),
        ["interface eth0 lacks its address 10.78.0.13"]
    );
}

#[test]
fn times_are_taken_across_midnight() {
    let phases = Answers::parse(BOOKWORM).phases();
    let phases: Vec<_> = phases
        .iter()
        .map(|p| (p.name.as_str(), p.seconds))
        .collect();
    assert_eq!(
        phases,
        [
            ("cloud-init init-network/ssh", 1.65),
            ("cloud-init init-network", 1.8),
            ("apt", 9.0)
        ]
    );
}

#[test]
fn a_clean_boot_has_no_complaints_and_an_old_done_with_warnings_is_degraded() {
    let text =
        "@system\nrunning\n@failed\n@status\n{\"status\":\"done\"}\n@addresses\n[]\n@apt\n@log\n";
    let answers = Answers::parse(text);
    let mut report = NodeReport {
        name: "a".to_owned(),
        start: Start::New,
        system: answers.system(),
        failed_units: answers.failed_units(),
        cloud_init: Some(answers.cloud_init()),
        network_problems: answers.network_problems(&[]),
        phases: answers.phases(),
    };
    assert_eq!(report.complaints(), [""; 0]);
    // The machine outside the fleet has no cloud-init.
    report.cloud_init = None;
    assert!(report.is_clean());
    let text = format!("{text}2026-11-24 00:00:02,000 - stages.py[WARNING]: odd\n");
    let cloud_init = Answers::parse(&text).cloud_init();
    assert_eq!(cloud_init.extended_status, "degraded done");
    report.cloud_init = Some(cloud_init);
    assert_eq!(report.complaints(), ["cloud-init warning: odd"]);
}

#[test]
fn no_answer_at_all_is_not_taken_for_a_clean_boot() {
    let answers = Answers::parse("");
    assert_eq!(answers.system(), "unknown");
    assert_eq!(answers.cloud_init().status, "unknown");
    assert_eq!(
        answers.network_problems(&[("eth0", Ipv4Addr::LOCALHOST)]),
        ["interface eth0 is not there"]
    );
}
