use proptest::prelude::*;

use super::*;

fn partition(name: &'static str, first: u64, sectors: u64) -> Partition {
    Partition {
        kind: Guid::LINUX_ROOT_X86_64,
        id: Guid::derived(name),
        first,
        sectors,
        name,
    }
}

#[test]
fn identifiers_are_written_as_people_and_disks_want_them() {
    assert_eq!(
        Guid::EFI_SYSTEM.to_string(),
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    );
    assert_eq!(
        Guid::EFI_SYSTEM.on_disk()[..8],
        [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]
    );
    let derived = Guid::derived("a").to_string();
    assert_eq!(&derived[14..15], "8");
    assert!(matches!(&derived[19..20], "8" | "9" | "a" | "b"));
    assert_ne!(Guid::derived("a"), Guid::derived("b"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let disk = Guid::derived("disk");
    assert_eq!(tables(60, disk, &[]), Err(GptError::DiskTooSmall(60)));
    let outside = |partition: Partition| {
        matches!(
            tables(4096, disk, &[partition]),
            Err(GptError::Outside { .. })
        )
    };
    assert!(outside(partition("a", 33, 1)));
    assert!(outside(partition("a", 34, 0)));
    assert!(outside(partition("a", 34, 4096 - 33 - 33)));
    assert!(outside(partition("a", u64::MAX, 2)));
    assert!(!outside(partition("a", 34, 4096 - 34 - 33)));
    assert_eq!(
        tables(4096, disk, &[partition("a", 40, 10), partition("b", 49, 1)]),
        Err(GptError::Overlap("a", "b"))
    );
    let long = "a name of more than thirty-six characters";
    assert_eq!(
        tables(4096, disk, &[partition(long, 40, 10)]),
        Err(GptError::TooMuch(long))
    );
}

#[test]
fn grub_finds_its_core_image() {
    let mut front = tables(4096, Guid::derived("disk"), &[]).unwrap().front;
    let boot = [0xeb; 512];
    let mut core = vec![0x11; 1024];
    install_bios_boot(&mut front, &boot, &mut core, 2048).unwrap();
    assert_eq!(front[..4], [0xeb; 4]);
    assert_eq!(front[0x5c..0x64], 2048_u64.to_le_bytes());
    assert_eq!(front[0x66..0x68], [0x90, 0x90]);
    assert_eq!(front[440..446], [0; 6]);
    assert_eq!(core[500..508], 2049_u64.to_le_bytes());
    // Length and segment are grub-mkimage's.
    assert_eq!(core[508..], [0x11; 516]);
    assert_eq!(
        install_bios_boot(&mut front, &boot[..511], &mut core, 1),
        Err(BootError::Boot(511))
    );
    assert_eq!(
        install_bios_boot(&mut front, &boot, &mut core[..512], 1),
        Err(BootError::Core(512))
    );
}

/// Reads an entry as the specification describes it, to hold against what was asked for.
fn read_back(bytes: &[u8], at: usize) -> (u64, u64) {
    let entry = &bytes[1024 + at * 128..];
    let number = |from: usize| u64::from_le_bytes(entry[from..from + 8].try_into().unwrap());
    (number(32), number(40))
}

proptest! {
    #[test]
    fn both_tables_say_the_same(sectors in 4096_u64..1 << 40, first in 34_u64..2000, length in 1_u64..2000) {
        let partitions = [partition("one", first, length)];
        let tables = tables(sectors, Guid::derived("disk"), &partitions).unwrap();
        prop_assert_eq!(tables.front.len(), 34 * 512);
        prop_assert_eq!(tables.back.len(), 33 * 512);
        prop_assert_eq!(tables.back_sector + 33, sectors);
        prop_assert_eq!(&tables.front[1024..], &tables.back[..32 * 512]);
        prop_assert_eq!(read_back(&tables.front, 0), (first, first + length - 1));
        for header in [&tables.front[512..604], &tables.back[32 * 512..32 * 512 + 92]] {
            let mut cleared = header.to_vec();
            cleared[16..20].fill(0);
            prop_assert_eq!(&crc32fast::hash(&cleared).to_le_bytes()[..], &header[16..20]);
        }
    }
}
