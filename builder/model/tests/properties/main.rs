//! What holds for every input: names, networks, templates, versions, and files that nobody meant to write.

mod documents;

use std::{net::Ipv4Addr, sync::Arc};

use proptest::prelude::*;
use rolesmith_model::{
    archive_names::{ArchiveNames, closest},
    ids::{FleetName, NodeName, PackageName, RoleName},
    lock::{Lock, hash},
    network::Ipv4Network,
    plan::{Content, Maintainer, Origin, Override, Package, PackagedFile, PackagedUnit},
    template::{Context, Template, render},
};

/// Text in which names and their near misses are common.
fn nearly_names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z][a-z0-9-]{0,45}", "[a-zA-Z0-9._+-]{0,70}", ".{0,30}"]
}

/// The rule of names, said another way.
fn is_name(text: &str, max: usize, extra: &str) -> bool {
    text.len() <= max
        && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && !text.ends_with('-')
        && text
            .chars()
            .all(|c| matches!(c, 'a'..='z' | '0'..='9') || extra.contains(c))
}

proptest! {
    #[test]
    fn names_are_what_policy_and_rfc_1123_both_allow(text in nearly_names()) {
        prop_assert_eq!(FleetName::new(text.as_str()).is_ok(), is_name(&text, 20, "-"));
        prop_assert_eq!(RoleName::new(text.as_str()).is_ok(), is_name(&text, 40, "-"));
        prop_assert_eq!(NodeName::new(text.as_str()).is_ok(), is_name(&text, 63, "-"));
        prop_assert_eq!(PackageName::new(text.as_str()).is_ok(), is_name(&text, 120, "+-."));
    }

    #[test]
    fn names_survive_json_and_wrong_ones_do_not_enter_by_it(text in nearly_names()) {
        let json = serde_json::to_string(&text).unwrap();
        match serde_json::from_str::<RoleName>(&json) {
            Ok(name) => {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert_eq!(serde_json::to_string(&name).unwrap(), json);
            }
            Err(_) => prop_assert!(RoleName::new(text).is_err()),
        }
    }

    #[test]
    fn the_nearest_name_is_one_of_those_offered(
        name in "[a-z-]{0,12}",
        others in proptest::collection::vec("[a-z-]{1,12}", 0..8),
    ) {
        let near = closest(&name, others.iter().map(String::as_str));
        if let Some(near) = near {
            prop_assert!(others.iter().any(|other| other == near));
        }
        if others.contains(&name) {
            prop_assert_eq!(near, Some(name.as_str()));
        }
    }

    #[test]
    fn one_slip_of_the_finger_is_understood(name in "[a-z]{3,16}", at in 0_usize..15, slip in 0..4, with in "[a-z]") {
        let at = at % (name.len() - 1);
        let typed = match slip {
            0 => format!("{}{}", &name[..at], &name[at + 1..]),
            1 => format!("{}{with}{}", &name[..at], &name[at..]),
            2 => format!("{}{with}{}", &name[..at], &name[at + 1..]),
            _ => format!("{}{}{}{}", &name[..at], &name[at + 1..at + 2], &name[at..=at], &name[at + 2..]),
        };
        prop_assert_eq!(closest(&typed, [name.as_str()].into_iter()), Some(name.as_str()));
    }

    #[test]
    fn lists_have_their_names_and_no_others(
        real in proptest::collection::btree_set("[a-z0-9][a-z0-9+.-]{1,8}", 1..40),
        virtuals in proptest::collection::btree_set("[a-z0-9][a-z0-9+.-]{1,8}", 0..10),
        asked in "[a-z0-9][a-z0-9+.-]{0,8}",
    ) {
        let marked = virtuals.iter().map(|name| format!("~{name}"));
        let list: String = real.iter().cloned().chain(marked).map(|line| line + "\n").collect();
        let names = ArchiveNames::parse(&list);
        for name in real.iter().chain(&virtuals).chain([&asked]) {
            prop_assert_eq!(names.has(name), real.contains(name), "{}", name);
            prop_assert_eq!(names.satisfies(name), real.contains(name) || virtuals.contains(name), "{}", name);
        }
    }

    #[test]
    fn networks_survive_being_written(address in any::<u32>(), prefix in 0_u32..=32) {
        let size = 1_u64 << (32 - prefix);
        let first = u64::from(address) / size * size;
        let text = format!("{}/{prefix}", Ipv4Addr::from(address));
        match text.parse::<Ipv4Network>() {
            Ok(network) => {
                prop_assert_eq!(first, u64::from(address));
                prop_assert_eq!(network.to_string(), text);
            }
            Err(why) => {
                prop_assert_ne!(first, u64::from(address));
                // The message names the network that was meant.
                let meant = format!("{}/{prefix}", Ipv4Addr::from(u32::try_from(first).unwrap()));
                prop_assert!(why.contains(&meant), "{}", why);
                prop_assert!(meant.parse::<Ipv4Network>().is_ok());
            }
        }
    }

    #[test]
    fn hosts_are_the_addresses_between_the_first_and_the_last(
        base in any::<u32>(),
        prefix in 0_u32..=32,
        near in -3_i64..=3,
        at_end in any::<bool>(),
    ) {
        let size = 1_u64 << (32 - prefix);
        let first = u64::from(base) / size * size;
        let network: Ipv4Network =
            format!("{}/{prefix}", Ipv4Addr::from(u32::try_from(first).unwrap())).parse().unwrap();
        let anchor = if at_end { first + size - 1 } else { first };
        let Ok(asked) = u32::try_from(i64::try_from(anchor).unwrap() + near) else { return Ok(()) };
        let (asked, last) = (u64::from(asked), first + size - 1);
        // RFC 3021: the two addresses of a /31 are hosts, and so is the one of a /32.
        let expected = if size <= 2 { (first..=last).contains(&asked) } else { first < asked && asked < last };
        let host = Ipv4Addr::from(u32::try_from(asked).unwrap());
        prop_assert_eq!(network.has_host(host), expected, "{} in {}", host, network);
    }

    #[test]
    fn any_text_may_stand_where_a_network_is_expected(text in ".{0,24}") {
        let _ = text.parse::<Ipv4Network>();
    }

    #[test]
    fn templates_never_panic_and_errors_point_into_them(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("{{ ".to_owned()), Just(" }}".to_owned()), Just("{% if x %}".to_owned()),
                Just("{% for a in b %}".to_owned()), Just("{% end".to_owned()), Just("{#".to_owned()),
                Just("x | upper".to_owned()), Just("x.y[0]".to_owned()), Just("\"".to_owned()),
                Just("{% include \"a\" %}".to_owned()), Just("ä€😀\n".to_owned()), Just("{% raw %}".to_owned()),
                ".{0,6}",
            ],
            0..8,
        ),
    ) {
        let text = parts.concat();
        let mut context = Context::new();
        context.insert("x", "y");
        for error in [render(&text, &context).err(), Template::parse(&text).err()].into_iter().flatten() {
            prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{:?}", error);
            if let Some(span) = error.span {
                prop_assert!(text.get(span.clone()).is_some(), "{:?} in {:?}", span, text);
            }
        }
    }

    #[test]
    fn text_without_marks_is_rendered_as_it_is(text in "[^{}]{0,60}") {
        prop_assert_eq!(render(&text, &Context::new()).unwrap(), text.clone());
        prop_assert_eq!(Template::parse(&text).unwrap().render(&Context::new()).unwrap(), text);
    }
}

/// A packaged file that is one of few, so that two packages often share some.
fn packaged_file() -> impl Strategy<Value = PackagedFile> {
    let content = prop_oneof![
        "[ab]{0,2}".prop_map(|text| Content::File(Arc::from(text.into_bytes()))),
        "[ab]{1,2}".prop_map(Content::Symlink),
    ];
    (
        "/[ab]{1,2}",
        content,
        prop_oneof![Just(0o644), Just(0o755)],
        any::<bool>(),
    )
        .prop_map(|(path, content, mode, conffile)| PackagedFile {
            path,
            content,
            mode,
            conffile,
            origin: Origin::Generated("a test"),
        })
}

fn package() -> impl Strategy<Value = Package> {
    let scripts = (
        proptest::collection::vec(("[ab]\\.service", any::<bool>(), any::<bool>()), 0..3),
        any::<[bool; 3]>(),
        proptest::collection::vec("[ab]\n", 0..=1),
        proptest::collection::vec("[ab]\n", 0..=1),
    )
        .prop_map(
            |(units, [sysusers, tmpfiles, sysctl], postinst, purge)| Maintainer {
                units: units
                    .into_iter()
                    .map(|(name, enable, start)| PackagedUnit {
                        name,
                        enable,
                        start,
                    })
                    .collect(),
                sysusers,
                tmpfiles,
                sysctl,
                role: None,
                preinst: Vec::new(),
                postinst,
                prerm: Vec::new(),
                purge,
            },
        );
    let overrides = proptest::collection::vec(
        ("[ab]", proptest::option::of("[ab]"), "[ab]").prop_map(|(tag, context, reason)| {
            Override {
                tag,
                context,
                reason,
            }
        }),
        0..2,
    );
    (
        "[ab]{0,2}",
        "[ab]{0,2}",
        proptest::collection::btree_map(
            prop_oneof![Just("Depends"), Just("Conflicts")],
            proptest::collection::vec("[ab]{1,2}", 1..3),
            0..2,
        ),
        proptest::collection::vec(packaged_file(), 0..3),
        scripts,
        overrides,
    )
        .prop_map(
            |(summary, description, relations, files, scripts, lintian)| Package {
                name: PackageName::new("acme-worker").expect("a package name"),
                section: "admin",
                summary,
                description,
                maintainer: "Operations <ops@example.com>".into(),
                relations,
                files,
                scripts,
                lintian,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn packages_have_the_same_hash_exactly_when_they_are_the_same(a in package(), b in package()) {
        prop_assert_eq!(hash(&a, "key zst") == hash(&b, "key zst"), a == b);
        prop_assert_ne!(hash(&a, "key zst"), hash(&a, "key xz"));
    }
}

proptest! {
    #[test]
    fn a_version_grows_when_and_only_when_the_inputs_change(
        history in proptest::collection::vec((package(), any::<bool>(), 0_u64..1000), 1..12),
    ) {
        let mut lock = Lock::default();
        let mut before: Option<(Package, &str, u64, u64)> = None;
        for (package, other_key, now) in history {
            let made_by = if other_key { "other" } else { "key" };
            let locked = lock.assign(&package, made_by, now);
            prop_assert_eq!(&lock.assign(&package, made_by, now + 5), &locked, "asked again");
            match before {
                None => prop_assert_eq!((locked.version, locked.epoch), (1, now)),
                Some((earlier, by, version, epoch)) if earlier == package && by == made_by => {
                    prop_assert_eq!((locked.version, locked.epoch), (version, epoch));
                }
                Some((_, _, version, epoch)) => {
                    prop_assert_eq!(locked.version, version + 1);
                    // Also where the clock went back.
                    prop_assert_eq!(locked.epoch, now.max(epoch));
                }
            }
            let written = toml::to_string(&lock).unwrap();
            prop_assert_eq!(&toml::from_str::<Lock>(&written).unwrap(), &lock);
            before = Some((package, made_by, locked.version, locked.epoch));
        }
    }
}
