//! Seeds as data sources of cloud-init.

use rolesmith_testkit::TestFleet;

use crate::ROLESMITH;

#[test]
fn a_config_drive_has_what_cloud_init_reads_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let fleet = TestFleet::init(ROLESMITH, "acme");
    let seed = fleet
        .run(&["user-data", "node-1"])
        .succeeded()
        .stdout
        .clone();
    let run = fleet.run(&["user-data", "node-1", "--configdrive", "drive"]);
    assert_eq!(run.succeeded().stdout, "");
    let user_data = "drive/openstack/latest/user_data";
    assert_eq!(fleet.read(user_data), seed);
    let mode = std::fs::metadata(fleet.path(user_data))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let meta_data = fleet.read("drive/openstack/latest/meta_data.json");
    let meta_data: serde_json::Value = serde_json::from_str(&meta_data).unwrap();
    assert_eq!(
        meta_data,
        serde_json::json!({ "uuid": "acme-node-1-1", "name": "node-1", "hostname": "node-1" })
    );

    fleet
        .run(&["user-data", "node-1", "--configdrive", "drive.iso"])
        .succeeded();
    let image = std::fs::read(fleet.path("drive.iso")).unwrap();
    // The primary volume descriptor's volume identifier (ECMA-119 section 8.4.7).
    assert_eq!(&image[16 * 2048 + 40..][..10], b"config-2  ");
    let bytes = seed.as_bytes();
    assert!(image.windows(bytes.len()).any(|window| window == bytes));

    // One way at a time.
    fleet
        .run(&[
            "user-data",
            "node-1",
            "--configdrive",
            "a",
            "--nocloud",
            "b",
        ])
        .exited(2);
}
