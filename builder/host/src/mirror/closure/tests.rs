use super::*;

fn closure() -> Closure {
    let package = |name: &str, archive| MirrorPackage {
        name: name.to_owned(),
        version: "1:2.0-1+b1".to_owned(),
        architecture: "amd64".to_owned(),
        archive,
        path: format!("pool/main/x/{name}_2.0-1+b1_amd64.deb"),
        size: 10,
        sha256: Sha256::of(name.as_bytes()),
    };
    let packages = vec![
        package("zlib", Archive::Security),
        package("attr", Archive::Main),
    ];
    Closure::new(
        "trixie",
        "amd64",
        1_800_000_000,
        &["zlib".to_owned(), "attr".to_owned(), "attr".to_owned()],
        packages,
    )
}

#[test]
fn the_lock_file_reads_back() {
    let closure = closure();
    assert_eq!(closure.packages[0].name, "attr");
    assert_eq!(closure.requested, ["attr", "zlib"]);
    assert_eq!((closure.size(), closure.age(1_800_000_060)), (20, 60));
    assert_eq!(Closure::from_toml(&closure.to_toml()).unwrap(), closure);
}

#[test]
fn other_formats_and_paths_outside_are_refused() {
    let text = closure().to_toml();
    let newer = text.replace("format = 1", "format = 2\nnew = true");
    assert!(matches!(
        Closure::from_toml(&newer),
        Err(ClosureError::Format(2))
    ));
    for path in ["../../x.deb", "/x.deb", "pool/a b.deb", ""] {
        let changed = text.replace("pool/main/x/attr_2.0-1+b1_amd64.deb", path);
        assert!(
            matches!(Closure::from_toml(&changed), Err(ClosureError::Path(_))),
            "{path}"
        );
    }
}
