//! An image of the example's nodes under qemu: with a BIOS and a ConfigDrive, with UEFI and NoCloud, and after its kernel and boot loader
//! were installed anew. Nothing of it needs root.

use std::time::{Duration, Instant};

use rolesmith_bake::boot::{DataSource, Firmware, Fleet as Machines, FleetSpec, Mark, Workshop};
use rolesmith_tests::{
    Fleet,
    baked::{EXAMPLE, guest, image, published, repository},
    bare::{say, step},
    work_dir,
};

/// A boot may take so long, without KVM and on a machine that does other things.
const LIMIT: Duration = Duration::from_secs(1800);

/// Installs the kernel and what belongs to GRUB anew, as an upgrade does: maintainer scripts and triggers make the initial RAM disk and
/// grub.cfg again. The packages come from the fleet's repository.
const UPGRADE: &str = r#"
set -e
exec 2>&1
export DEBIAN_FRONTEND=noninteractive
before=$(stat -c %Y.%i /boot/grub/grub.cfg)
packages=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'linux-image-*' 'grub*' | sed -n 's/^installed //p')
apt-get update -q
apt-get install -q -y --reinstall $packages </dev/null
update-grub
test "$(stat -c %Y.%i /boot/grub/grub.cfg)" != "$before"
grep -q 'console=ttyS0' /boot/grub/grub.cfg
"#;

#[test]
#[ignore = "boots an image under qemu, twice: minutes without KVM"]
fn an_image_boots_with_a_bios_and_with_uefi_and_joins_the_fleet() {
    let fleet = published(|| Fleet::example("acme", "trixie"));
    let limit = LIMIT.as_secs().to_string();
    let output = fleet.run(&[
        "bake",
        EXAMPLE.image,
        "--boot-test",
        "--timeout",
        &limit,
        "--json",
    ]);
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    let reports: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    say(format_args!("{:#}", reports["boots"]));
    let told: Vec<_> = reports["boots"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    let [bios, uefi] = told[..] else {
        panic!("two boots: {text}")
    };
    for (report, firmware, source) in [(bios, "bios", "ConfigDrive"), (uefi, "uefi", "NoCloud")] {
        assert_eq!(report["firmware"], firmware);
        assert_eq!(report["source"], source);
        let second = |name: &str| report[name].as_f64().expect("seconds");
        assert!(second("kernel") > 0.0 && second("kernel") < second("cloud_init"));
        assert!(second("joined") <= second("checked"));
    }
    let left = std::fs::read_dir(fleet.dir.join("dist")).expect("dist is there");
    let left: Vec<_> = left
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(".boot-"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
#[ignore = "boots an image under qemu, four times: minutes without KVM"]
fn a_machine_boots_again_after_its_kernel_and_boot_loader_were_installed_anew() {
    let workshop = Workshop::open(&work_dir().join("qemu")).expect("a directory for the machines");
    let fleet = published(|| Fleet::example("acme", "trixie"));
    let nodes = [(
        image(&fleet, EXAMPLE),
        guest(&fleet, workshop.key().public(), EXAMPLE),
    )];
    let repository = repository(&fleet);
    for (firmware, source) in [
        (Firmware::Bios, DataSource::ConfigDrive),
        (Firmware::Uefi, DataSource::NoCloud),
    ] {
        let spec = FleetSpec {
            nodes: &nodes,
            firmware,
            source,
            repository: Some(&repository),
            limit: LIMIT,
        };
        let mut machines = Machines::switch_on(spec, &workshop).expect("qemu starts");
        let [machine] = machines.machines_mut() else {
            panic!("one guest, one machine")
        };
        let until = Instant::now() + LIMIT;
        step(&format!("{firmware}: first boot"), || {
            machine.wait(Mark::Joined, 1, until)
        })
        .expect("it joins");
        let identity = "cat /etc/machine-id /etc/ssh/ssh_host_*.pub";
        let before = machine.shell(identity, LIMIT).expect("it answers");
        step("the kernel and the boot loader are installed anew", || {
            let said = machine.shell(UPGRADE, LIMIT).expect("they are");
            say(format_args!("{said}"));
        });
        // The connection ends with the machine: what ssh says of that is no news.
        let _ = machine.shell("systemctl --no-block reboot", LIMIT);
        step(&format!("{firmware}: second boot"), || {
            machine.wait(Mark::Joined, 2, until)
        })
        .expect("it joins again");
        assert_eq!(machine.shell(identity, LIMIT).expect("it answers"), before);
    }
}
