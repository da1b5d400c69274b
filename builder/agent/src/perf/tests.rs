//! Samples of real kernels (Debian 12 and 13, taken by samples/take), what they make, and texts that nobody wrote.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rolesmith_model::perf::{Answer, Mount, PerfLine, Standby, Unit};
use serde_json::Value;

use super::read::Reader;
use super::sample::{Sample, Whose, line};
use super::units::{self, Group, PidStat, Sizes, UnitTotals, unit_since};
use super::{bouncer, cpu, disk, memory, net, postgres, redis, text};
use crate::files::Root;
use crate::postgres::wire::Reply;

mod servers;

const SIZES: Sizes = Sizes {
    page: 4096,
    ticks: 100,
};

/// A machine as it was when a sample was taken.
fn machine(sample: &str) -> (tempfile::TempDir, Sample) {
    let dir = tempfile::tempdir().unwrap();
    for part in sample.split("=== ").skip(1) {
        let (path, content) = part.split_once('\n').unwrap();
        let path = dir.path().join(path.trim_start_matches('/'));
        if path.to_string_lossy().ends_with('/') {
            fs::create_dir_all(path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mut seen = Reader::new(Root::at(dir.path())).look();
    seen.sizes = SIZES;
    // The clock of the machine that was sampled.
    seen.clock_ms = milliseconds(seen.machine.uptime_s.unwrap());
    (dir, seen)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an uptime"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn of(suite: [&str; 2]) -> PerfLine {
    let [(_first, before), (_second, now)] = suite.map(machine);
    let whose = Whose {
        fleet: "acme".into(),
        node: "app-1".into(),
    };
    line(&whose, &before, &now)
}

fn trixie() -> PerfLine {
    of([
        include_str!("tests/samples/trixie-before.txt"),
        include_str!("tests/samples/trixie-after.txt"),
    ])
}

fn bookworm() -> PerfLine {
    of([
        include_str!("tests/samples/bookworm-before.txt"),
        include_str!("tests/samples/bookworm-after.txt"),
    ])
}

fn unit<'a>(line: &'a PerfLine, name: &str) -> &'a Unit {
    line.units.iter().find(|unit| unit.name == name).unwrap()
}

#[test]
fn a_machine_of_trixie_is_assessed() {
    let line = trixie();
    assert_eq!(line.interval_ms, 188_560);
    let machine = &line.machine;
    assert_eq!(
        machine.kernel.as_deref(),
        Some("6.12.118+deb13-cloud-amd64")
    );
    assert_eq!(machine.uptime_s, Some(376.08));
    let cpu = line.cpu.as_ref().unwrap();
    assert_eq!(cpu.cores.len(), 2);
    // 4,884 ticks of cpu0: 372 user, 3,045 system, 68 soft interrupts, 25 waiting, 1,374 idle.
    let all = [
        cpu.cores[0].user,
        cpu.cores[0].system,
        cpu.cores[0].interrupts,
        cpu.cores[0].iowait,
        cpu.cores[0].idle,
    ];
    assert_eq!(all, [7.62, 62.35, 1.39, 0.51, 28.13]);
    let sum = cpu.all.user + cpu.all.system + cpu.all.interrupts + cpu.all.iowait + cpu.all.idle;
    assert!((sum - 200.0).abs() < 0.05, "{sum}");
    assert_eq!(line.load, Some([3.13, 4.07, 2.01]));
    let stalls = line.pressure.unwrap().io.unwrap();
    assert_eq!(stalls.some.unwrap().total_us, 17_494_521 - 13_565_277);
    assert_eq!(stalls.some.unwrap().avg10, 2.27);
    assert!(stalls.full.is_some());
    let memory = line.memory.as_ref().unwrap();
    assert_eq!(
        (
            memory.total,
            memory.free,
            memory.major_faults,
            memory.oom_kills
        ),
        (989_852 * 1024, 830_788 * 1024, Some(9), Some(0))
    );
    let swap = line.swap.as_ref().unwrap();
    assert_eq!((swap.total, swap.in_bytes), (262_140 * 1024, Some(0)));
    // 9223372036854775807 is no limit.
    let files = line.files.as_ref().unwrap();
    assert_eq!((files.open, files.max), (384, None));
    let names = |line: &PerfLine| -> Vec<String> {
        line.disks.iter().map(|disk| disk.name.clone()).collect()
    };
    assert_eq!(names(&line), ["vda", "vdb", "vdc"], "sr0 was never used");
    let disk = &line.disks[0];
    assert_eq!((disk.reads, disk.writes), (42, 277));
    assert_eq!(disk.write_bytes, (60_504 - 9_816) * 512);
    assert_eq!((disk.write_ms, disk.busy_ms), (14_515, 10_192));
    let interfaces: Vec<_> = line
        .interfaces
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(interfaces, ["enp0s2", "lo"]);
    assert_eq!(line.tcp.as_ref().unwrap().time_wait, Some(0));
    assert!(line.udp.is_some());
    // The file system's size is that of the machine that runs this test; the rest is the sampled one's.
    let [root] = &line.mounts[..] else {
        panic!("{:?}", line.mounts);
    };
    assert_eq!(
        (root.path.as_str(), root.kind.as_str(), root.device.as_str()),
        ("/", "ext4", "/dev/vda")
    );
    let rsyslog = unit(&line, "rsyslog.service");
    assert_eq!((rsyslog.processes, rsyslog.threads), (1, 4));
    // 346,846 µs of 188.56 s.
    assert_eq!(rsyslog.cpu, 0.18);
    assert_eq!(rsyslog.memory, Some(2_646_016));
    assert_eq!((rsyslog.swap, rsyslog.oom_kills), (Some(0), Some(0)));
    assert_eq!(rsyslog.read_bytes, None, "the controller is not on");
    assert!(unit(&line, "kernel").processes >= 1);
    assert_eq!(unit(&line, "kernel").memory, None);
    let processes = line.processes.as_ref().unwrap();
    let all: u64 = line.units.iter().map(|unit| unit.processes).sum();
    assert_eq!(processes.total + unit(&line, "kernel").processes, all);
    assert!(processes.forks > 100 && processes.context_switches > 0);
    // What is not there is not told.
    assert!(line.conntrack.is_none() && line.postgresql.is_none() && line.health.is_none());
}

#[test]
fn a_machine_of_bookworm_is_assessed() {
    let line = bookworm();
    assert!(line.machine.kernel.as_ref().unwrap().starts_with("6.1."));
    let memory = line.memory.as_ref().unwrap();
    assert_eq!((memory.major_faults, memory.oom_kills), (Some(6), Some(0)));
    let disks: Vec<_> = line.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(disks, ["vda", "vdb", "vdc"], "loop devices are no disks");
    let rsyslog = unit(&line, "rsyslog.service");
    assert_eq!(rsyslog.cpu, 0.01, "15,381 µs of 192.26 s");
    assert_eq!(rsyslog.memory, Some(2_510_848));
    assert!(line.pressure.is_some());
}

#[test]
fn a_line_survives_the_way_through_the_log() {
    for line in [trixie(), bookworm()] {
        let text = text::text(&line).unwrap();
        assert!(
            !text.contains('\n') && text.len() < 12_000,
            "{}",
            text.len()
        );
        assert_eq!(serde_json::from_str::<PerfLine>(&text).unwrap(), line);
        // An older reader passes over what it does not know.
        let more = text.replacen('{', "{\"invented_later\":[1],", 1);
        assert_eq!(serde_json::from_str::<PerfLine>(&more).unwrap(), line);
    }
}

#[test]
fn an_empty_machine_tells_what_it_is_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Reader::new(Root::at(dir.path()));
    let whose = Whose {
        fleet: "acme".into(),
        node: "n".into(),
    };
    let line = line(&whose, &reader.look(), &reader.look());
    let Value::Object(members) = serde_json::to_value(&line).unwrap() else {
        panic!("no object");
    };
    let names: Vec<_> = members.keys().map(String::as_str).collect();
    let expected = [
        "at_ms",
        "cost",
        "fleet",
        "format",
        "interval_ms",
        "machine",
        "node",
    ];
    let mut names = names;
    names.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn where_cgroups_do_not_count_processes_do() {
    let stat = |ticks, started| PidStat {
        kernel: false,
        ticks,
        threads: 2,
        started,
        pages: 10,
    };
    let of = |processes: &[(u32, PidStat)]| {
        let mut totals = UnitTotals::default();
        for (number, stat) in processes {
            totals.add(*number, stat);
        }
        totals
    };
    let before = of(&[(1, stat(100, 5)), (2, stat(100, 6)), (3, stat(900, 7))]);
    // 1 went on, 2 is another process of that number, 3 ended, 4 is new.
    let now = of(&[(1, stat(150, 5)), (2, stat(30, 60)), (4, stat(20, 70))]);
    let unit = unit_since("x.service", Some(&before), &now, 10_000, SIZES);
    assert_eq!(unit.cpu, 10.0, "100 ticks of 10 ms in 10 s");
    assert_eq!((unit.processes, unit.threads, unit.rss), (3, 6, 30 * 4096));
    assert_eq!((unit.memory, unit.oom_kills), (None, None));
    let counted = |cpu_us| UnitTotals {
        group: Group {
            cpu_us: Some(cpu_us),
            oom_kills: Some(1),
            ..Group::default()
        },
        ..now.clone()
    };
    let unit = unit_since(
        "x.service",
        Some(&counted(500)),
        &counted(2_000_500),
        10_000,
        SIZES,
    );
    assert_eq!((unit.cpu, unit.oom_kills), (20.0, Some(0)));
    // It was started anew in between, or was not there before.
    for before in [Some(&counted(9_000_000)), None] {
        let unit = unit_since("x.service", before, &counted(1_000_000), 10_000, SIZES);
        assert_eq!(unit.cpu, 10.0);
    }
}

#[test]
fn processes_belong_to_the_first_unit_of_their_path() {
    for (cgroup, unit, group) in [
        (
            "0::/system.slice/nginx.service\n",
            "nginx.service",
            Some("/system.slice/nginx.service"),
        ),
        (
            "0::/system.slice/system-x.slice/x@1.service/sub\n",
            "x@1.service",
            Some("/system.slice/system-x.slice/x@1.service"),
        ),
        (
            "0::/user.slice/user-0.slice/user@0.service/app.slice/a.service\n",
            "user@0.service",
            Some("/user.slice/user-0.slice/user@0.service"),
        ),
        ("0::/init.scope\n", "init.scope", Some("/init.scope")),
        // cgroup v1, with and without the hierarchy of v2 beside it.
        (
            "4:memory:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n",
            "cron.service",
            None,
        ),
        (
            "1:name=systemd:/system.slice/cron.service\n0::/system.slice/cron.service\n",
            "cron.service",
            Some("/system.slice/cron.service"),
        ),
    ] {
        let place = units::place(cgroup).unwrap();
        assert_eq!((place.unit, place.group), (unit, group), "{cgroup}");
    }
    for cgroup in ["", "0::/\n", "0::/system.slice\n", "4:memory:/x.service\n"] {
        assert_eq!(units::place(cgroup), None, "{cgroup}");
    }
}

#[test]
fn programs_may_have_any_name() {
    let stat = "7 (a) R (b)\n c) S 1 7 7 0 -1 4194560 1 2 3 4 500 60 7 8 20 0 3 0 4711 100 -1 0\n";
    let read = units::pid_stat(stat).unwrap();
    assert_eq!((read.ticks, read.threads, read.started), (560, 3, 4711));
    assert_eq!((read.pages, read.kernel), (0, false));
    let kernel = stat.replace("4194560", "2129984");
    assert!(units::pid_stat(&kernel).unwrap().kernel);
}

#[test]
fn file_systems_on_disks_are_told_once() {
    let text = "\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:20 / /proc rw - proc proc rw
24 22 0:21 / /run rw - tmpfs tmpfs rw
25 22 254:2 / /srv/a\\040b rw - xfs /dev/vdb ro,attr2
26 22 254:1 /tmp/x /tmp rw - ext4 /dev/vda1 rw
27 22 254:1 /var /var/log/deeper rw - ext4 /dev/vda1 rw
28 22 0:50 / /mnt rw - nfs4 server:/export rw
29 22 0:51 / /media rw - fuse.sshfs /dev/fuse rw
30 22 7:0 / /snap/core ro - squashfs /dev/loop0 ro
31 22 254:3 / /home rw - ext4 /dev/vdc rw
32 22 0:52 / /home rw - tmpfs tmpfs rw
33 22 0:53 / /tank rw - zfs tank rw
34 22 254:9 /only/a/part /part rw - ext4 /dev/vdd rw
nonsense";
    let mounts = disk::mountinfo(text);
    let real = disk::real(&mounts);
    let paths: Vec<_> = real
        .iter()
        .map(|mount| (mount.path.as_str(), mount.read_only))
        .collect();
    // What is mounted below another is not to be looked at.
    assert_eq!(
        paths,
        [
            ("/", false),
            ("/part", false),
            ("/srv/a b", true),
            ("/tank", false)
        ]
    );
    let container = disk::mountinfo(
        "1 0 0:60 / / rw - overlay overlay rw,lowerdir=/l\n2 1 0:61 / /x rw - overlay o rw",
    );
    assert_eq!(disk::real(&container).len(), 1);
}

#[test]
fn a_line_is_never_longer_than_the_log_takes() {
    let mut line = trixie();
    let long = |number: usize| format!("{number:03}-{}", "\u{1}".repeat(250));
    line.units = (0..1000)
        .map(|number| Unit {
            name: long(number),
            cpu: if number == 500 { 99.0 } else { 0.5 },
            ..Unit::default()
        })
        .collect();
    line.mounts = (0..50)
        .map(|number| Mount {
            path: long(number).repeat(2),
            ..Mount::default()
        })
        .collect();
    let mut server = servers::postgres();
    server.standbys = (0..300)
        .map(|number| Standby {
            name: long(number),
            ..Standby::default()
        })
        .collect();
    line.postgresql = Some(Answer::Told(Box::new(server)));
    let text = text::text(&line).unwrap();
    assert!(text.len() <= text::LONGEST, "{}", text.len());
    let short: PerfLine = serde_json::from_str(&text).unwrap();
    // What weighs most is kept, in its order, and what is not is counted.
    assert!(short.units.iter().any(|unit| unit.cpu == 99.0));
    assert!(short.units.is_sorted_by_key(|unit| unit.name.clone()));
    assert_eq!(short.left_out["units"], 1000 - short.units.len() as u64);
    let Some(Answer::Told(server)) = &short.postgresql else {
        panic!("no server");
    };
    assert_eq!(
        short.left_out["postgresql.standbys"],
        300 - server.standbys.len() as u64
    );
    assert!(!short.left_out.contains_key("disks"));
}

/// Texts that are nearly right.
fn nearly() -> impl Strategy<Value = String> {
    let samples = [
        include_str!("tests/samples/trixie-after.txt"),
        include_str!("tests/samples/bookworm-before.txt"),
        servers::INFO_8,
        servers::POSTGRES_17,
    ];
    let cut = (
        0..samples.len(),
        any::<prop::sample::Index>(),
        0_usize..4000,
        any::<prop::sample::Index>(),
        ".{0,5}",
    );
    let cut = cut.prop_map(move |(sample, at, length, place, insert)| {
        let lines: Vec<_> = samples[sample].lines().collect();
        let at = at.index(lines.len());
        let mut text = lines[at..(at + length / 40).min(lines.len())].join("\n");
        let places: Vec<_> = text.char_indices().map(|(place, _)| place).collect();
        if !places.is_empty() {
            text.insert_str(places[place.index(places.len())], &insert);
        }
        text
    });
    prop_oneof![cut, ".{0,200}", "([a-zA-Z:0-9=(). \t/-]{0,40}\n?){0,10}"]
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(one in nearly(), other in nearly()) {
        if let (Some(before), Some(now)) = (cpu::stat(&one), cpu::stat(&other)) {
            let _ = cpu::cpu(&before, &now);
        }
        let _ = cpu::load(&one);
        if let (Some(before), Some(now)) = (cpu::pressure(&one), cpu::pressure(&other)) {
            let _ = cpu::stalled(&before, &now);
        }
        if let (Some(before), Some(now)) = (memory::memory(&one, Some(&other)), memory::memory(&other, None)) {
            let _ = memory::memory_since(&before, &now);
        }
        let _ = memory::swap(&one, Some(&other), 4096);
        let _ = (memory::files(&one), memory::conntrack(&one, &other));
        let _ = disk::real(&disk::mountinfo(&one)).len();
        let (before, now) = (disk::disks(&one, |_| true), disk::disks(&other, |_| true));
        for (name, now) in &now {
            let _ = disk::disk_since(before.get(name), now);
        }
        for now in net::interfaces(&one).values() {
            let _ = net::interface_since(None, now);
        }
        let _ = (net::tcp(&one, Some(&other), Some(&one), 4096), net::udp(&one));
        let _ = (units::pid_stat(&one), units::place(&one), units::keyed(&one, "usage_usec"), units::io(&one));
        let (before, now) = (redis::parse(&one, 0.0), redis::parse(&other, 0.0));
        let _ = redis::since(Some(&before), &now);
        let _ = postgres::parse(&one);
        let rows = one.lines().map(|line| line.split(' ').map(|word| Some(word.to_owned())).collect()).collect();
        let columns = ["database", "cl_active", "maxwait", "maxwait_us", "xact_count"].map(str::to_owned).to_vec();
        let reply = Reply { columns, rows, ..Reply::default() };
        let _ = bouncer::parse(&reply, &reply, 0.0);
    }
}

proptest! {
    // Each case is a machine of a hundred and fifty files.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever counters do, a machine's line can be made, written and read.
    #[test]
    fn counters_may_do_what_they_like(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..40)) {
        let mut text = include_str!("tests/samples/trixie-after.txt").to_owned();
        for (place, value) in edits {
            let words: Vec<_> = text.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at).collect();
            text.insert_str(words[place.index(words.len())], &value.to_string());
        }
        // Where the sample's own names were hit there is another machine, which is as good.
        if text.contains("=== /proc/uptime") && !text.contains("/../") {
            let root = tempfile::tempdir().unwrap();
            write_all(root.path(), &text);
            let before = machine(include_str!("tests/samples/trixie-before.txt")).1;
            let now = Reader::new(Root::at(root.path())).look();
            let whose = Whose { fleet: "acme".into(), node: "n".into() };
            let line = text::text(&line(&whose, &before, &now)).unwrap();
            prop_assert!(serde_json::from_str::<PerfLine>(&line).is_ok(), "{}", line);
        }
    }
}

fn write_all(root: &Path, sample: &str) {
    for part in sample.split("=== ").skip(1) {
        let Some((path, content)) = part.split_once('\n') else {
            continue;
        };
        let path = root.join(path.trim_start_matches('/'));
        let _ = fs::create_dir_all(path.parent().unwrap());
        let _ = fs::write(path, content);
    }
}
