//! A cache with trees that stay between runs, and ways to build in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rolesmith_host::services::{Registry, ServiceBuild, ServiceError, Tree, TreeContent, build};
use rolesmith_model::ids::Suite;
use tempfile::TempDir;

/// Trees of Debian, kept between runs of the tests.
fn systems() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("services/systems");
    fs::create_dir_all(&path).unwrap();
    path
}

/// Each test makes the trees that it needs in a cache of its own, and they are all one directory: one at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A source directory and a cache, both new.
pub(crate) struct Place {
    pub(crate) source: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) said: Mutex<Vec<String>>,
    _directory: TempDir,
}

impl Place {
    /// Places of different names, so that a path which gets into a tree shows.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (source, cache) = (
            directory.path().join("source"),
            directory.path().join("cache"),
        );
        fs::create_dir_all(&source).unwrap();
        fs::create_dir_all(cache.join("services")).unwrap();
        symlink(systems(), cache.join("services/systems")).unwrap();
        Self {
            source,
            cache,
            said: Mutex::new(Vec::new()),
            _directory: directory,
        }
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.source.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let place = Self::new();
        for (path, text) in files {
            place.write(path, text);
        }
        place
    }

    pub(crate) fn build(&self, suite: Suite) -> Result<Tree, ServiceError> {
        let registry = Registry::from_environment(std::env::vars_os()).unwrap();
        self.build_with(suite, &registry)
    }

    pub(crate) fn build_with(
        &self,
        suite: Suite,
        registry: &Registry,
    ) -> Result<Tree, ServiceError> {
        // A test that failed says so itself.
        let _one = ONE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let request = ServiceBuild {
            name: "web",
            source: &self.source,
            suite,
            cache: &self.cache,
            registry,
            native: false,
        };
        build(&request, &|text| {
            self.said.lock().unwrap().push(text.to_owned())
        })
    }

    /// How often something was installed.
    pub(crate) fn installs(&self) -> usize {
        let said = self.said.lock().unwrap();
        said.iter()
            .filter(|text| text.contains("installing dependencies"))
            .count()
    }
}

pub(crate) fn paths(tree: &Tree) -> Vec<&str> {
    tree.entries
        .iter()
        .map(|entry| entry.path.as_str())
        .collect()
}

pub(crate) fn content<'t>(tree: &'t Tree, path: &str) -> &'t TreeContent {
    let entry = tree.entries.iter().find(|entry| entry.path == path);
    &entry
        .unwrap_or_else(|| panic!("{path} is missing in {:#?}", paths(tree)))
        .content
}

/// Bytes of a file, and whether it may be run.
pub(crate) fn file<'t>(tree: &'t Tree, path: &str) -> (&'t [u8], bool) {
    match content(tree, path) {
        TreeContent::File { bytes, executable } => (bytes, *executable),
        TreeContent::Symlink(target) => panic!("{path} is a link to {target}"),
    }
}
