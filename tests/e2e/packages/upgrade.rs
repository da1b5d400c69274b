//! Newer packages on a node that runs.

use std::fs;

use rolesmith_tests::Fleet;

use super::{NODE, OURS, apt, healthy, inventory, main_pids, sound};

/// A role of the fleet that adds to the built-in one of the same name.
fn extend(fleet: &Fleet, role: &str, entries: &str, files: &[(&str, &str)]) {
    let dir = fleet.dir.join("roles").join(role);
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    fs::create_dir_all(&dir).expect("a directory");
    let text = format!(
        "[role]\nsummary = \"{role} of these tests\"\ndescription = \"\"\"\nAdds to the built-in role.\n\"\"\"\nextends = \"{role}\"\n\n{entries}"
    );
    fs::write(dir.join("role.toml"), text).expect("a file");
}

fn publish_and_upgrade(fleet: &Fleet) -> String {
    fleet.run(&["publish"]);
    apt(fleet, "update");
    apt(fleet, "upgrade")
}

fn version(fleet: &Fleet, package: &str) -> String {
    fleet.must(
        NODE,
        &format!("dpkg-query --show --showformat '${{Version}}' {package}"),
    )
}

/// Redis gets another setting by a template; everything else runs on with the processes it has.
pub fn restarts_what_changed(fleet: &Fleet) {
    let restarted = ["rolesmith-redis.service"];
    let same = [
        "rolesmith-postgresql.service",
        "rolesmith-pgbouncer.service",
        "rolesmith-agent.service",
        "nginx.service",
        "rsyslog.service",
        "fail2ban.service",
        "ssh.service",
    ];
    let (was, others) = (main_pids(fleet, &restarted), main_pids(fleet, &same));
    assert!(
        !others.contains(&"0".into()) && !was.contains(&"0".into()),
        "all of them run: {was:?} {others:?}"
    );
    let versions = [version(fleet, "pkg-redis"), version(fleet, "pkg-edge")];
    let template =
        fs::read_to_string(rolesmith_tests::checkout().join("roles/redis/templates/redis.conf"))
            .expect("the built-in template");
    let entry = "[[files]]\ntemplate = \"templates/redis.conf\"\npath = \"redis.conf\"\nscope = \"node\"\n\
        owner = \"root:redis\"\nmode = \"0640\"\n\n[[files]]\ntemplate = \"templates/note\"\npath = \"/usr/lib/rolesmith/redis/note\"\n";
    extend(
        fleet,
        "redis",
        entry,
        &[
            (
                "templates/redis.conf",
                &format!("{template}\nmaxmemory-samples 7\n"),
            ),
            ("templates/note", "{{ role.name }}\n"),
        ],
    );
    let told = publish_and_upgrade(fleet);
    assert!(
        told.contains("pkg-redis") && told.contains("pkg-facts"),
        "{told}"
    );
    assert!(
        !told.contains("pkg-edge"),
        "an unchanged package is not installed again: {told}"
    );
    healthy(fleet);
    assert_ne!(version(fleet, "pkg-redis"), versions[0]);
    assert_eq!(version(fleet, "pkg-edge"), versions[1]);
    fleet.must(
        NODE,
        "grep -q 'maxmemory-samples 7' /var/lib/rolesmith/conf/redis/redis.conf",
    );
    let now = main_pids(fleet, &restarted);
    assert!(
        now != was && !now.contains(&"0".into()),
        "{restarted:?}: {was:?} -> {now:?}"
    );
    assert_eq!(main_pids(fleet, &same), others, "{same:?} were not touched");
}

/// An administrator's change to a conffile outlives a newer one, which lies beside it.
pub fn keeps_conffiles(fleet: &Fleet) {
    let conffile = "/etc/nginx/conf.d/rolesmith.conf";
    fleet.must(NODE, &format!("echo '# changed here' >>{conffile}"));
    let nginx = main_pids(fleet, &["nginx.service"]);
    let shipped =
        fs::read_to_string(rolesmith_tests::checkout().join("roles/edge/files/nginx.conf"))
            .expect("the built-in file");
    let entry = format!("[[files]]\nsource = \"files/nginx.conf\"\npath = \"{conffile}\"\n");
    extend(
        fleet,
        "edge",
        &entry,
        &[("files/nginx.conf", &format!("{shipped}# newer\n"))],
    );
    let told = publish_and_upgrade(fleet);
    assert!(
        told.contains("pkg-edge") && !told.contains("What would you like to do about it"),
        "{told}"
    );
    healthy(fleet);
    fleet.must(NODE, &format!("grep -q 'changed here' {conffile} && ! grep -q newer {conffile} && grep -q newer {conffile}.dpkg-dist"));
    assert_eq!(
        main_pids(fleet, &["nginx.service"]),
        nginx,
        "nginx reads its configuration again without a restart"
    );
    fleet.must(NODE, &format!("mv {conffile}.dpkg-dist {conffile}"));
}

/// unattended-upgrades would take a security update of Debian's and none of ours.
pub fn unattended(fleet: &Fleet) {
    extend(
        fleet,
        "app",
        "[[files]]\nsource = \"files/note\"\npath = \"/usr/lib/rolesmith/app/note\"\n",
        &[("files/note", "note\n")],
    );
    fleet.run(&["publish"]);
    apt(fleet, "update");
    // A status in which one package of Debian's security archive is older than what is installed; dpkg's own is not touched.
    let script = r#"
        package=$(awk '/^Package: / { print $2 }' /var/lib/apt/lists/*debian-security_binary-amd64_Packages |
            while read -r name; do dpkg-query -W -f '${Package} ${Status}\n' "$name" 2>/dev/null; done |
            awk '/install ok installed/ && $1 !~ /^(postgresql|redis|nginx|apt$|libapt)/ { print $1; exit }')
        [ -n "$package" ] || { echo "no package of the security archive is installed"; exit 1; }
        echo "older: $package"
        awk -v wanted="$package" '/^Package: / { own = $2 == wanted } own && /^Version: / { $0 = $0 "~" } { print }' \
            /var/lib/dpkg/status >/root/status
        # python-apt insists on this path, so the other file stands there for this one process.
        unshare --mount sh -ec 'mount --bind /root/status /var/lib/dpkg/status; unattended-upgrade --dry-run -d' </dev/null || exit 1
        rm /root/status"#;
    let told = fleet.must(NODE, script);
    let older = told
        .lines()
        .find_map(|line| line.strip_prefix("older: "))
        .expect("the script names it")
        .to_owned();
    let line = |begin: &str| {
        told.lines()
            .find(|line| line.starts_with(begin))
            .unwrap_or_default()
            .to_owned()
    };
    let taken = line("Packages that will be upgraded: ");
    assert!(
        taken.split_whitespace().any(|word| word == older),
        "{older} is upgraded: {told}"
    );
    for word in taken
        .split(':')
        .next_back()
        .unwrap_or_default()
        .split_whitespace()
    {
        assert!(
            !word.starts_with("pkg-") && word != "rolesmith-agent",
            "{word} is ours: {told}"
        );
    }
    let upgradable = fleet.must(NODE, "apt-get -s upgrade");
    assert!(
        upgradable.contains("Inst pkg-app"),
        "there was one of ours to leave out: {upgradable}"
    );
    publish_and_upgrade(fleet);
    healthy(fleet);
}

/// A unit that moves from one role to another is taken over with its file, and begins anew once: what it ran with was the other
/// role's.
pub fn takes_a_unit_over(fleet: &Fleet) {
    const UNIT: &str = "rolesmith-moved.service";
    let unit = "[Unit]\nDescription=What moves\nConditionPathExists={{ conf }}/moved.conf\n\n\
        [Service]\nType=exec\nDynamicUser=yes\nExecStart=/usr/bin/tail -f {{ conf }}/moved.conf\nExecReload=/usr/bin/true\n\n\
        [Install]\nWantedBy=multi-user.target\n";
    let entries = "[[files]]\nsource = \"files/moved.conf\"\npath = \"moved.conf\"\nscope = \"node\"\n\n\
        [[units]]\ntemplate = \"units/rolesmith-moved.service\"\non_change = \"reload\"\n";
    let files = |text| {
        [
            ("files/moved.conf", text),
            ("units/rolesmith-moved.service", unit),
        ]
    };
    let command = || {
        let told = fleet.must(
            NODE,
            &format!("tr '\\0' ' ' </proc/$(systemctl show -P MainPID {UNIT})/cmdline"),
        );
        told.trim().to_owned()
    };
    let owner = || fleet.must(NODE, &format!("dpkg -S /usr/lib/systemd/system/{UNIT}"));
    extend(fleet, "log-server", entries, &files("first\n"));
    publish_and_upgrade(fleet);
    healthy(fleet);
    let before = main_pids(fleet, &[UNIT]);
    assert!(command().ends_with("/conf/log-server/moved.conf"));
    assert!(owner().starts_with("pkg-log-server:"));

    fs::remove_dir_all(fleet.dir.join("roles/log-server")).expect("the layer is removed");
    let replaces = "[dependencies]\nreplaces = [\"{{ fleet.name }}-log-server\"]\n\n";
    extend(
        fleet,
        "app",
        &format!("{replaces}{entries}"),
        &files("second\n"),
    );
    let told = publish_and_upgrade(fleet);
    assert!(
        told.contains("pkg-app") && told.contains("pkg-log-server"),
        "{told}"
    );
    healthy(fleet);
    assert!(owner().starts_with("pkg-app:"), "{}", owner());
    assert!(command().ends_with("/conf/app/moved.conf"), "{}", command());
    fleet.must(
        NODE,
        "[ ! -e /var/lib/rolesmith/conf/log-server/moved.conf ]",
    );
    let after = main_pids(fleet, &[UNIT]);
    assert_ne!(before, after);

    // From now on it is an ordinary unit of its role.
    extend(
        fleet,
        "app",
        &format!("{replaces}{entries}"),
        &files("third\n"),
    );
    publish_and_upgrade(fleet);
    healthy(fleet);
    assert_eq!(main_pids(fleet, &[UNIT]), after, "it was reloaded");
    fleet.must(NODE, "grep -q third /var/lib/rolesmith/conf/app/moved.conf");
}

/// dpkg may call a script again after any failure (Policy 6.2): it changes nothing the second time.
pub fn scripts_again(fleet: &Fleet) {
    let units = [
        "rolesmith-postgresql.service",
        "rolesmith-redis.service",
        "nginx.service",
        "rsyslog.service",
    ];
    let pids = main_pids(fleet, &units);
    let before = inventory::take(fleet);
    let script = r#"
        for package in OURS; do
            version=$(dpkg-query -W -f '${Version}' $package)
            for round in 1 2; do
                for call in "preinst upgrade $version $version" "prerm upgrade $version" "postrm upgrade $version" \
                    "postinst abort-upgrade $version" "postinst configure $version"; do
                    file=/var/lib/dpkg/info/$package.${call%% *}
                    [ -e "$file" ] || continue
                    DPKG_MAINTSCRIPT_PACKAGE=$package DPKG_MAINTSCRIPT_NAME=${call%% *} "$file" ${call#* } </dev/null ||
                        { echo "$package: $call: $?"; exit 1; }
                done
            done
        done"#;
    let told = fleet.must(NODE, &script.replace("OURS", OURS));
    assert_eq!(told, "", "maintainer scripts are silent");
    healthy(fleet);
    let after = inventory::take(fleet);
    let by_itself = |line: &&String| {
        // What PostgreSQL and Redis do with their data, systemd with its timers, everybody with logs, and the agent's own look for
        // newer facts.
        let places = [
            "/var/lib/rolesmith/apt",
            "/var/lib/rolesmith/alarms",
            "/var/lib/postgresql/17/pkg/",
            "/var/lib/rolesmith-redis/",
            "/var/lib/systemd/timers",
            "/var/log/",
        ];
        !places.iter().any(|place| line.contains(place))
    };
    let changed = inventory::difference(&before.files, &after.files);
    let changed: Vec<_> = changed.iter().filter(by_itself).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert_eq!(
        inventory::difference(&before.units, &after.units),
        Vec::<String>::new()
    );
    assert_eq!(
        inventory::difference(&before.names, &after.names),
        Vec::<String>::new()
    );
    assert_eq!(main_pids(fleet, &units), pids, "nothing was restarted");
    sound(fleet);
}
