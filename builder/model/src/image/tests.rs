use super::*;

fn read_image(text: &str) -> (Option<Image>, Vec<String>) {
    let mut sources = Sources::new();
    let manifest = sources.add("images/test/image.toml", text.as_bytes());
    let dir = ImageDir {
        name: "test".to_owned(),
        manifest,
    };
    let mut findings = Findings::new();
    let mut images = load(&sources, &[dir], &[], &mut findings);
    let told = findings.into_sorted();
    (
        images.remove("test"),
        told.iter().map(|f| f.code.to_owned()).collect(),
    )
}

#[test]
fn the_shortest_image_has_debian_and_starts_anywhere() {
    let (image, told) = read_image("[image]\nsummary = \"Debian\"\n");
    assert_eq!(told, Vec::<String>::new());
    let image = image.expect("an image");
    assert_eq!(image.size, 2 << 30);
    assert_eq!(image.formats, [Format::Qcow2].into());
    assert_eq!(image.firmware, [Firmware::Bios, Firmware::Uefi].into());
    let packages = image.debian_packages();
    assert!(packages.contains("linux-image-cloud-amd64"));
    assert!(!packages.contains("locales"));
}

#[test]
fn what_cannot_be_is_said() {
    for (text, code) in [
        ("[disk]\nsize = \"2T\"", "image::size"),
        ("[disk]\nsize = \"512M\"", "image::size"),
        ("[disk]\nsize = \"99999999999999999999G\"", "image::size"),
        ("[disk]\nformats = []", "image::empty"),
        ("[boot]\nfirmware = []", "image::empty"),
        (
            "[boot]\ndata_sources = [\"NoCloud\", \"ConfigDrive\"]",
            "image::data-sources",
        ),
        (
            "[boot]\ndata_sources = [\"None\", \"ConfigDrive\"]",
            "image::data-sources",
        ),
        ("[boot]\nkernel_arguments = \"a\\\"b\"", "image::value"),
        ("[system]\nlocale = \"de DE\"", "image::value"),
        ("[system]\npackages = [\"a=1\"]", "image::package"),
        ("[system]\nkernel = \"fast\"", "toml::unknown-word"),
        ("[disk]\nsizes = \"2G\"", "toml::unknown-key"),
    ] {
        let (image, told) = read_image(&format!("[image]\nsummary = \"x\"\n{text}\n"));
        assert_eq!(image, None, "{text}");
        assert_eq!(told, [code], "{text}");
    }
    let (image, told) = read_image("[image]\nsummary = \"x\"\nroles = [\"nothing\"]\n");
    assert_eq!(
        (image, told),
        (None, vec!["image::unknown-role".to_owned()])
    );
}
