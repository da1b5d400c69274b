use std::io::{self, Write as _, pipe};

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn colours_and_cursors_are_taken_out() {
    for (bytes, text) in [
        (
            &b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh.service\x1b[0m.\r"[..],
            "[  OK  ] Started ssh.service.",
        ),
        (
            b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2)",
            "SeaBIOS (version 1.16.2)",
        ),
        (b"\x1b]0;root@app-1\x07root@app-1:~# ", "root@app-1:~#"),
        (b"\x1b]0;a\x1b\\b", "b"),
        (b"\x1b(Bx\ty\x07", "x y"),
        (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        (b"\x1b[", ""),
    ] {
        assert_eq!(plain(bytes), text);
    }
}

#[test]
fn a_mark_is_found_in_the_boot_in_which_it_was_seen() {
    let (reader, mut writer) = pipe().unwrap();
    let console = Console::read(reader, Instant::now());
    let boot = b"[    0.000000] Linux version 6.12.0 (debian-kernel@lists.debian.org)\r\n\
        [   51.2] cloud-init[700]: Cloud-init v. 25.1.4 finished at Tue, 01 Dec 2026 00:00:00 +0000. Datasource DataSourceNone.\r\n\
        [   61.2] rolesmith[812]: app-1 has joined acme: facts 7, 5 roles ready\r\n";
    writer.write_all(&boot[..40]).unwrap();
    writer.write_all(&boot[40..]).unwrap();
    let seen = console.wait(Mark::Joined, 1, soon()).unwrap();
    assert_eq!((seen.mark, seen.boot), (Mark::Joined, 1));
    assert_eq!(
        console.wait(Mark::Joined, 2, Instant::now()),
        Err(Vain::Late)
    );
    writer.write_all(boot).unwrap();
    assert_eq!(console.wait(Mark::Joined, 2, soon()).unwrap().boot, 2);
    assert_eq!(console.seen().len(), 6);
    drop(writer);
    assert_eq!(console.wait(Mark::Joined, 3, soon()), Err(Vain::Ended));
}

#[test]
fn a_machine_that_waits_for_a_person_is_given_up() {
    for said in [
        "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n",
        "ALERT!  UUID=11 does not exist.  Dropping to a shell!\r\n\r\n(initramfs) ",
        "\x1b[0;1;31mYou are in emergency mode.\x1b[0m After logging in\r\n",
        "error: no such partition.\r\nEntering rescue mode...\r\ngrub rescue> ",
    ] {
        let console = Console::read(io::Cursor::new(said), Instant::now());
        let vain = console.wait(Mark::Kernel, 1, soon());
        assert!(matches!(vain, Err(Vain::Hopeless(_))), "{vain:?}: {said}");
    }
    let console = Console::read(io::Cursor::new("[  OK  ] Reached target\n"), Instant::now());
    assert_eq!(console.wait(Mark::Kernel, 1, soon()), Err(Vain::Ended));
}

#[test]
fn what_is_kept_is_bounded() {
    let text: String = (0..5000).map(|n| format!("line {n}\n")).collect();
    let long = "x".repeat(100_000);
    let console = Console::read(io::Cursor::new(format!("{text}{long}")), Instant::now());
    assert_eq!(console.wait(Mark::Kernel, 1, soon()), Err(Vain::Ended));
    let tail = console.tail(usize::MAX);
    assert_eq!(tail.lines().count(), KEPT + 1);
    assert!(tail.starts_with("line 4600\n"));
    assert_eq!(tail.lines().last().map(str::len), Some(LONGEST));
    assert_eq!(console.tail(2).lines().next(), Some("line 4999"));
}
