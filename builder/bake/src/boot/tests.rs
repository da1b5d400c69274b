use super::*;

#[test]
fn a_workshop_goes_with_its_test_and_the_next_one_removes_what_a_killed_one_left() {
    let below = tempfile::tempdir().unwrap();
    let left = below.path().join(".boot-killed");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("seed.iso"), "secrets").unwrap();
    let other = below.path().join("manifest.json");
    std::fs::write(&other, "{}").unwrap();

    let first = Workshop::open(below.path()).unwrap();
    let second = Workshop::open(below.path()).unwrap();
    let (one, two) = (first.room("app-1").unwrap(), second.room("app-1").unwrap());
    assert!(one.is_dir() && two.is_dir() && one != two);
    assert!(!left.exists());
    assert!(first.key().public().starts_with("ssh-ed25519 "));
    drop((first, second));
    let names: Vec<_> = std::fs::read_dir(below.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names, [other]);
}
