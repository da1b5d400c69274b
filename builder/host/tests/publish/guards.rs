//! What a publication must not do to what is there, and what it refuses before it has done anything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rolesmith_formats::openpgp::Signer;
use rolesmith_host::publish::{
    Fault, Founded, LowerVersion, PoolFile, PublishError, PublishWarning, Published, generations,
    publish, published_database, rollback, verify,
};
use walkdir::WalkDir;

use crate::support::*;

const START: u64 = 1_800_000_000;

fn publish_tool(directory: &Path, version: &str, epoch: u64) -> Result<Published, PublishError> {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let packages = files([deb("tool", version, "all")]);
    publish(&target(directory), &input(packages, &signers, epoch))
}

fn whole(root: &Path) {
    assert_eq!(verify(root, "fleet").unwrap().faults, Vec::<Fault>::new());
}

#[test]
fn the_repository_of_another_program_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = target(directory.path()).root;
    let foreign = root.join("pool/main/f/foreign/foreign_1_all.deb");
    fs::create_dir_all(foreign.parent().unwrap()).unwrap();
    fs::write(&foreign, "of others").unwrap();
    // Another directory of that name is no sign of this program having published here.
    fs::create_dir(root.join(".rolesmith")).unwrap();
    let refused = publish_tool(directory.path(), "1", START);
    assert!(
        matches!(&refused, Err(PublishError::NotOurs { root: r }) if *r == root),
        "{refused:?}"
    );
    assert_eq!(tree(&root), ["pool/main/f/foreign/foreign_1_all.deb"]);
}

#[test]
fn what_a_killed_run_left_goes_and_what_others_put_there_stays() {
    let directory = tempfile::tempdir().unwrap();
    let root = target(directory.path()).root;
    publish_tool(directory.path(), "1", START).unwrap();
    let others = [
        "pool/main/f/foreign/foreign_1_all.deb",
        "dists/fleet/main/binary-amd64/by-hash/SHA512/theirs",
        "dists/stable/main/by-hash/SHA256/theirs",
    ];
    let left = "pool/main/t/tool/tool_2_all.deb";
    let temporary = "pool/main/t/tool/.rolesmith-tmp-1-1";
    for path in others.iter().chain([&left, &temporary]) {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), "half").unwrap();
    }
    fs::write(root.join(".rolesmith/in-progress"), format!("+{left}\n")).unwrap();
    publish_tool(directory.path(), "1", START + 1).unwrap();
    for path in others {
        assert!(root.join(path).exists(), "{path}");
    }
    assert!(!root.join(left).exists() && !root.join(temporary).exists());
    assert!(!root.join(".rolesmith/in-progress").exists());

    // A file of others under a package's name is neither replaced nor taken for the package.
    fs::write(root.join(left), "of others").unwrap();
    let refused = publish_tool(directory.path(), "2", START + 2);
    assert!(
        matches!(refused, Err(PublishError::NotOurFile { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(root.join(left)).unwrap(), b"of others");
    // A refusal is no interruption.
    assert!(!root.join(".rolesmith/in-progress").exists());
}

#[test]
fn a_run_killed_while_it_wrote_its_journal_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let root = target(directory.path()).root;
    publish_tool(directory.path(), "1", START).unwrap();
    let half = root.join(".rolesmith/.rolesmith-tmp-1-1");
    fs::write(&half, "+pool/main/t/to").unwrap();
    publish_tool(directory.path(), "1", START + 1).unwrap();
    assert!(!half.exists());
}

#[test]
fn what_cannot_be_placed_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let root = target(directory.path()).root;
    publish_tool(directory.path(), "1", START).unwrap();
    let before = tree(&root);
    // A directory in the way of a file: the rename fails, as root's would not for want of permission.
    fs::remove_file(root.join("dists/fleet/Release")).unwrap();
    fs::create_dir_all(root.join("dists/fleet/Release/x")).unwrap();
    let failed = publish_tool(directory.path(), "2", START + 1);
    assert!(matches!(failed, Err(PublishError::Io { .. })), "{failed:?}");
    fs::remove_dir_all(root.join("dists/fleet/Release")).unwrap();
    let after = tree(&root);
    assert!(
        !after.iter().any(|path| path.contains("tool_2")),
        "{after:?}"
    );
    assert_eq!(after.len(), before.len() - 1);
    publish_tool(directory.path(), "2", START + 2).unwrap();
    whole(&root);
}

#[test]
fn two_fleets_do_not_share_a_directory() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    publish_tool(directory.path(), "1", START).unwrap();
    for codename in ["fleet", "other"] {
        let mut input = input(files([]), &signers, START + 1);
        input.origin = "globex".to_owned();
        input.codename = codename.to_owned();
        let refused = publish(&target(directory.path()), &input);
        assert!(
            matches!(&refused, Err(PublishError::OtherOrigin { published, offered, .. }) if published == "acme" && offered == "globex"),
            "{refused:?}"
        );
    }
}

#[test]
fn versions_do_not_go_back() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    for version in 1..=11 {
        publish_tool(
            directory.path(),
            &version.to_string(),
            START + version * 1000,
        )
        .unwrap();
    }
    let lower = |published: &str, result| match result {
        Err(PublishError::LowerVersions(versions)) => assert_eq!(
            versions.0,
            [LowerVersion {
                name: "tool".to_owned(),
                offered: "9".to_owned(),
                published: published.to_owned(),
            }]
        ),
        other => panic!("{other:?}"),
    };
    // 9 is lower than 11, whatever a dictionary says.
    lower("11", publish_tool(directory.path(), "9", START + 12_000));
    // Also when no generation has the package any more.
    for number in 13..=17 {
        publish(&target, &input(files([]), &signers, START + number * 1000)).unwrap();
    }
    lower("11", publish_tool(directory.path(), "9", START + 18_000));
    // A roll-back is asked for, and does not lower what follows.
    publish_tool(directory.path(), "12", START + 19_000).unwrap();
    publish_tool(directory.path(), "13", START + 20_000).unwrap();
    let earlier = generations(&target.root, "fleet").unwrap();
    let earlier = earlier[earlier.len() - 2].id;
    rollback(&target, "fleet", earlier, START + 21_000, 86_400, &signers).unwrap();
    lower("13", publish_tool(directory.path(), "9", START + 22_000));
    // Without the list of versions the kept generations say what they were.
    for entry in fs::read_dir(target.root.join(".rolesmith/generations/fleet")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "versions")
        {
            fs::remove_file(path).unwrap();
        }
    }
    lower("13", publish_tool(directory.path(), "9", START + 23_000));
    publish_tool(directory.path(), "13", START + 24_000).unwrap();
    // A mirrored package may go back, as Debian's may.
    let mut mirrored = input(files([deb("tool", "13", "all")]), &signers, START + 25_000);
    for version in ["5", "4"] {
        let mut debian = mirrored.components[0].clone();
        debian.name = "debian".to_owned();
        debian.packages = files([deb("library", version, "all")]);
        mirrored.components.truncate(1);
        mirrored.components.push(debian);
        publish(&target, &mirrored).unwrap();
    }
    whole(&target.root);
}

#[test]
fn a_new_key_is_announced_first() {
    let (old, new) = (key(1), key(2));
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let packages = || files([deb("tool", "1", "all")]);
    let with_new: [&dyn Signer; 1] = [&new];
    let with_old: [&dyn Signer; 1] = [&old];
    let with_both: [&dyn Signer; 2] = [&new, &old];
    publish(&target, &input(packages(), &with_old, START)).unwrap();
    let refused = |result| {
        assert!(
            matches!(&result, Err(PublishError::UnknownKey { fingerprint, trusted })
                if *fingerprint == new.fingerprint() && *trusted == [old.fingerprint()]),
            "{result:?}"
        );
    };
    refused(publish(&target, &input(packages(), &with_new, START + 1)));
    refused(rollback(&target, "fleet", 1, START + 1, 86_400, &with_new));
    // Two signatures, one of which clients know.
    publish(&target, &input(packages(), &with_both, START + 2)).unwrap();
    publish(&target, &input(packages(), &with_new, START + 3)).unwrap();

    // Announced and then used.
    let mut announcing = input(packages(), &with_new, START + 4);
    announcing.also_trusted = vec![old.fingerprint()];
    publish(&target, &announcing).unwrap();
    // A roll-back keeps the announcement.
    rollback(&target, "fleet", 1, START + 5, 86_400, &with_new).unwrap();
    publish(&target, &input(packages(), &with_old, START + 6)).unwrap();
}

#[test]
fn what_differs_in_its_signature_alone_is_published_already() {
    let (one, other) = (key(1), key(2));
    let signers: [&dyn Signer; 1] = [&one];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let made = |signer: &dyn Signer, content| deb_signed("tool", "1", "all", content, signer);
    let first = made(&one, "content");
    let again = made(&other, "content");
    assert_ne!(first.bytes(), again.bytes());
    publish(&target, &input(files([first.clone()]), &signers, START)).unwrap();
    let pool = target.root.join("pool/main/t/tool/tool_1_all.deb");
    let done = publish(&target, &input(files([again]), &signers, START + 1)).unwrap();
    assert_eq!((done.new_packages, done.warnings.len()), (0, 0));
    assert_eq!(fs::read(&pool).unwrap(), first.bytes());
    whole(&target.root);
    // Other content is another thing.
    let changed = made(&other, "changed");
    let refused = publish(
        &target,
        &input(files([changed.clone()]), &signers, START + 2),
    );
    assert!(
        matches!(refused, Err(PublishError::SameVersionOtherBytes(_))),
        "{refused:?}"
    );
    // A package of another program has its version from there: what is published stays, and that is said.
    let adopted = vec![PoolFile::Adopted(Arc::new(changed))];
    let done = publish(&target, &input(adopted, &signers, START + 3)).unwrap();
    assert_eq!(
        done.warnings,
        [PublishWarning::KeptPublished {
            name: "tool".to_owned(),
            version: "1".to_owned()
        }]
    );
    assert_eq!(fs::read(&pool).unwrap(), first.bytes());
    whole(&target.root);
}

#[test]
fn a_damaged_record_of_an_earlier_generation_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let root = target(directory.path()).root;
    for version in 1..=3 {
        publish_tool(directory.path(), &version.to_string(), START + version).unwrap();
    }
    let record = |id: u64| root.join(format!(".rolesmith/generations/fleet/{id:08}.json"));
    fs::write(record(2), "{").unwrap();
    let done = publish_tool(directory.path(), "4", START + 4).unwrap();
    assert_eq!(
        done.warnings,
        [PublishWarning::RecordLost { path: record(2) }]
    );
    assert_eq!(done.generation.id, 4);
    assert!(!record(2).exists());
    let done = publish_tool(directory.path(), "5", START + 5).unwrap();
    assert_eq!(done.warnings, []);
    whole(&root);
    // Of the current one it cannot be.
    fs::write(record(5), "{").unwrap();
    let refused = publish_tool(directory.path(), "6", START + 6);
    assert!(
        matches!(&refused, Err(PublishError::Record { path, .. }) if *path == record(5)),
        "{refused:?}"
    );
}

/// Where the child publishes; only set by the test that starts it.
const DIRECTORY: &str = "ROLESMITH_TEST_UMASK_DIRECTORY";

#[test]
#[ignore = "started by everybody_may_read_what_is_published, under another umask"]
fn child_publishes_under_its_umask() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("not to be started by hand"));
    let original = directory.join("original.deb");
    fs::write(&original, deb("copied", "1", "all").bytes()).unwrap();
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let mut packages = files([deb("tool", "1", "all")]);
    packages.push(PoolFile::Path(original));
    publish(&target(&directory), &input(packages, &signers, START)).unwrap();
}

#[test]
fn everybody_may_read_what_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args(["-c", "umask 077 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "guards::child_publishes_under_its_umask",
            "--ignored",
        ])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    let root = target(directory.path()).root;
    let mut seen = 0;
    for entry in WalkDir::new(&root) {
        let entry = entry.unwrap();
        if entry.path().starts_with(root.join(".rolesmith")) && entry.file_type().is_file() {
            continue;
        }
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        let wanted = if entry.file_type().is_dir() {
            0o755
        } else {
            0o644
        };
        assert_eq!(mode, wanted, "{}", entry.path().display());
        seen += 1;
    }
    assert!(seen > 20);
}

#[test]
fn a_package_is_copied_and_not_linked() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let original = directory.path().join("original.deb");
    // Larger than what is read into memory.
    let large: String = (0..1_300_000_u32)
        .map(|n| format!("{:08x}", n.wrapping_mul(0x9e37_79b1)))
        .collect();
    let package = deb_with("large", "1", "all", &large);
    assert!(package.bytes().len() > 4 << 20);
    fs::write(&original, package.bytes()).unwrap();
    let described = PoolFile::Described {
        path: original.clone(),
        deb: Arc::new((&package).into()),
    };
    publish(&target, &input(vec![described.clone()], &signers, START)).unwrap();
    fs::write(&original, "changed in its place").unwrap();
    whole(&target.root);
    // What arrives is looked at.
    fs::remove_file(target.root.join("pool/main/l/large/large_1_all.deb")).unwrap();
    let refused = publish(&target, &input(vec![described], &signers, START + 1));
    assert!(
        matches!(refused, Err(PublishError::ChangedFile { .. })),
        "{refused:?}"
    );
}

/// A publication of facts of that version, which know that much of the database.
fn publish_facts(
    directory: &Path,
    version: &str,
    founded: Founded,
) -> Result<Published, PublishError> {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let packages = files([deb("acme-facts", version, "all")]);
    let mut input = input(packages, &signers, START);
    input.founded = founded;
    publish(&target(directory), &input)
}

#[test]
fn genesis_that_was_closed_stays_closed() {
    let directory = tempfile::tempdir().unwrap();
    let root = target(directory.path()).root;
    let database = |id: &str| Founded::Database(id.to_owned());
    publish_facts(directory.path(), "1", Founded::Nothing).unwrap();
    publish_facts(directory.path(), "2", database("7")).unwrap();
    assert_eq!(
        published_database(&root, "fleet").unwrap().as_deref(),
        Some("7")
    );
    let before = tree(&root);
    // The lock was lost, or is another fleet's.
    let lost = publish_facts(directory.path(), "3", Founded::Nothing);
    assert!(
        matches!(&lost, Err(PublishError::Reopened { published }) if published == "7"),
        "{lost:?}"
    );
    let other = publish_facts(directory.path(), "3", database("8"));
    assert!(
        matches!(other, Err(PublishError::OtherDatabase { .. })),
        "{other:?}"
    );
    // Machines made anew would act upon facts of an earlier generation too.
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let back = |id| {
        rollback(
            &target(directory.path()),
            "fleet",
            id,
            START,
            86_400,
            &signers,
        )
    };
    let open = back(1);
    assert!(
        matches!(open, Err(PublishError::RollbackReopens { id: 1, .. })),
        "{open:?}"
    );
    assert_eq!(tree(&root), before);
    publish_facts(directory.path(), "3", database("7")).unwrap();
    let again = back(2).unwrap();
    assert_eq!(again.generation.database.as_deref(), Some("7"));
    let lost = publish_facts(directory.path(), "4", Founded::Nothing);
    assert!(
        matches!(lost, Err(PublishError::Reopened { .. })),
        "{lost:?}"
    );
    // Only its operator's word ends a database, and the right one.
    let wrong = publish_facts(directory.path(), "4", Founded::Abandoned("8".into()));
    assert!(
        matches!(wrong, Err(PublishError::NotAbandoned { .. })),
        "{wrong:?}"
    );
    publish_facts(directory.path(), "4", Founded::Abandoned("7".into())).unwrap();
    assert_eq!(published_database(&root, "fleet").unwrap(), None);
    let closed = back(3);
    assert!(
        matches!(closed, Err(PublishError::RollbackReopens { .. })),
        "{closed:?}"
    );
    publish_facts(directory.path(), "5", database("9")).unwrap();
}

#[test]
fn a_new_suite_of_the_fleet_has_its_database_too() {
    let directory = tempfile::tempdir().unwrap();
    publish_facts(directory.path(), "1", Founded::Database("7".into())).unwrap();
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let mut input = input(files([deb("acme-facts", "2", "all")]), &signers, START);
    input.codename = "next".to_owned();
    let lost = publish(&target(directory.path()), &input);
    assert!(
        matches!(lost, Err(PublishError::Reopened { .. })),
        "{lost:?}"
    );
    input.founded = Founded::Database("7".into());
    publish(&target(directory.path()), &input).unwrap();
}
