//! What the fleet's sites and services consist of.

use std::{path::Path, sync::Arc};

use rolesmith_host::{
    applications::read_tree,
    services::{self, Registry, ServiceBuild, ServiceError, TreeContent},
};
use rolesmith_model::{
    applications::Service,
    finding::{Findings, Place},
    fleet::Fleet,
    source::{Sources, Tree, TreeEntry},
};

use crate::{app::App, progress::Steps};

/// How far services are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    /// Whether they could be built; without network, in milliseconds.
    Inspected,
    /// Their dependencies are installed, and what comes out is packed.
    Built,
}

/// Digits of a release: enough to tell the releases of one service apart.
const RELEASE: usize = 16;

/// Reads sites, and inspects or builds services. What is wrong is told at their entries in fleet.toml.
pub fn read(
    app: &App,
    fleet: &Fleet,
    services: Services,
    sources: &mut Sources,
    findings: &mut Findings,
) {
    for site in &fleet.applications.sites {
        let Some(root) = &site.root else { continue };
        let place = Place::new(fleet.source, site.span.clone());
        match read_tree(&app.dir.join(root)) {
            Ok(tree) => {
                let missing = |page: &&String| !tree.entries.contains_key(*page);
                if let Some(page) = site.single_page.as_ref().filter(missing) {
                    findings.error(
                        "fleet::site-page",
                        place,
                        format!("{root} has no file {page}"),
                        "`single_page` is what the edge answers for every other path",
                        "create it, or correct its name",
                    );
                }
                sources
                    .trees
                    .insert(site.role().to_string(), Arc::new(tree));
            }
            Err(error) => findings.error(
                "fleet::application-files",
                place,
                error.to_string(),
                "the site's package would be made of them",
                error.help(),
            ),
        }
    }
    let mut registry = None;
    for service in &fleet.applications.services {
        let place = Place::new(fleet.source, service.span.clone());
        let source = app.dir.join(&service.source);
        let result = match services {
            Services::Inspected => services::inspect(&source, fleet.suite, false).map(|_| None),
            Services::Built => build(app, fleet, service, &source, &mut registry).map(Some),
        };
        match result {
            Ok(None) => {}
            Ok(Some(tree)) => {
                let role = service.role().to_string();
                if !tree.unbuilt.is_empty() {
                    findings.warning(
                        "fleet::service-unbuilt",
                        place,
                        format!(
                            "the service {} uses packages that want to be built: {}",
                            service.name,
                            tree.unbuilt.join(", ")
                        ),
                        "their install scripts were not run, and their sources not compiled",
                        "see whether it works without; else replace them, or use Debian's own packages of them",
                    );
                }
                sources.trees.insert(role, Arc::new(packed(tree)));
            }
            Err(error) => findings.error(
                "fleet::service-source",
                place,
                format!("the service {}: {error}", service.name),
                format!("its package is made of {}", service.source),
                error.help(),
            ),
        }
    }
}

fn build(
    app: &App,
    fleet: &Fleet,
    service: &Service,
    source: &Path,
    registry: &mut Option<Registry>,
) -> Result<services::Tree, ServiceError> {
    let registry = match registry {
        Some(registry) => registry,
        None => registry.insert(Registry::from_environment(std::env::vars_os())?),
    };
    let steps = Steps::new(app);
    let request = ServiceBuild {
        name: &service.name,
        source,
        suite: fleet.suite,
        cache: &app.cache,
        registry,
        native: false,
    };
    let built = services::build(&request, &|text| steps.say(&service.name, text));
    steps.finish();
    built
}

fn packed(tree: services::Tree) -> Tree {
    let entries = tree.entries.into_iter().map(|entry| {
        let what = match entry.content {
            TreeContent::File { bytes, executable } => TreeEntry::File { bytes, executable },
            TreeContent::Symlink(target) => TreeEntry::Link(target),
        };
        (entry.path, what)
    });
    Tree {
        entries: entries.collect(),
        digest: tree.digest.chars().take(RELEASE).collect(),
    }
}
