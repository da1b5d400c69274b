//! Builds again when the example changes: it is embedded, and cargo sees only files that it is told of.

use std::path::Path;

const EXAMPLE: &str = "templates/example";

fn main() {
    println!("cargo:rerun-if-changed={EXAMPLE}");
    let installed = Path::new(EXAMPLE).join("services/shop/node_modules");
    assert!(
        !installed.exists(),
        "builder/cli/{} would be embedded: delete it, and try the example elsewhere (`make test-example` does)",
        installed.display()
    );
}
