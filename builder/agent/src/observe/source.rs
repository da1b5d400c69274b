//! Files of scope "node" as they have to be, beside what stands in their places.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rolesmith_model::facts::{APPLICATION_KEY_FILE, Identity, NODES_DIR, NodeFacts, NodeFile};
use rolesmith_model::manifest::{CONF_DIR, CONFIGURED_DIR, MANIFEST_DIR};

use super::asked::Package;
use super::{Contents, ObserveError, address, at, secrets};
use crate::application;
use crate::decide::{FileSpec, RoleSeen, WantedFile};
use crate::files::{self, Root, digest, read_json, stays_below};
use crate::inputs::{self, Missing};
use crate::program::Programs;

/// Where the files of roles come from.
pub(super) struct Source<'a> {
    root: &'a Root,
    node: &'a str,
    files: &'a [NodeFile],
    interface: &'a str,
    address: Option<String>,
    secrets: BTreeMap<String, Vec<u8>>,
    passwd: String,
    group: String,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        root: &'a Root,
        programs: &impl Programs,
        node: &'a str,
        facts: Option<&'a NodeFacts>,
    ) -> Result<Self, ObserveError> {
        let text = |path: &str| -> Result<String, ObserveError> {
            let path = root.join(path);
            let bytes = files::read(&path).map_err(at(&path))?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let interface = facts.map_or("", |facts| facts.private_interface.as_str());
        Ok(Self {
            root,
            node,
            files: facts.map_or(&[], |facts| facts.files.as_slice()),
            interface,
            address: if interface.is_empty() {
                None
            } else {
                address(programs, interface)
            },
            secrets: secrets(root)?,
            passwd: text("/etc/passwd")?,
            group: text("/etc/group")?,
        })
    }

    pub(super) fn role(
        &mut self,
        role: &str,
        package: Option<&Package>,
        contents: &mut Contents,
    ) -> Result<RoleSeen, ObserveError> {
        let marker = self.root.join(CONFIGURED_DIR).join(role);
        let configured = files::read(&marker)
            .map_err(at(&marker))?
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        let unsettled = configured
            .as_ref()
            .and_then(|marker| package.and_then(|package| package.unsettled(marker)));
        let dir = self.root.join(CONF_DIR).join(role);
        let mut wanted = Vec::new();
        for file in self.files.iter().filter(|file| file.role == role) {
            let spec = self.render(file).map(|(spec, bytes)| {
                contents
                    .0
                    .insert((role.to_owned(), file.path.clone()), bytes);
                spec
            });
            let installed = if stays_below(&file.path) {
                spec_of(&dir.join(&file.path)).map_err(at(&dir))?
            } else {
                None
            };
            wanted.push(WantedFile {
                path: file.path.clone(),
                wanted: spec,
                installed,
            });
        }
        wanted.sort_by(|a, b| a.path.cmp(&b.path));
        let listed = |path: &String| wanted.iter().any(|file| file.path == *path);
        let strays = files::list(&dir)
            .map_err(at(&dir))?
            .into_iter()
            .filter(|path| !listed(path))
            .collect();
        Ok(RoleSeen {
            configured,
            unsettled,
            manifest: read_json(&self.root.join(MANIFEST_DIR).join(format!("{role}.json"))),
            files: wanted,
            strays,
            units: BTreeMap::new(),
        })
    }

    /// The key of the node's applications.
    pub(super) fn application_key(&self, identity: &Identity) -> Result<WantedFile, ObserveError> {
        let path = self.root.join(APPLICATION_KEY_FILE);
        let wanted = application::key(self.root, identity).and_then(|key| {
            Ok(FileSpec {
                digest: digest(key.as_bytes()),
                mode: application::MODE,
                owner: self.owner("root", "root")?,
            })
        });
        Ok(WantedFile {
            path: APPLICATION_KEY_FILE.to_owned(),
            wanted,
            installed: spec_of(&path).map_err(at(&path))?,
        })
    }

    /// User and group by number.
    fn owner(&self, user: &str, group: &str) -> Result<(u32, u32), Missing> {
        let number = |name: &str, table: &str| {
            inputs::number_of(name, table).ok_or_else(|| Missing::Owner(name.to_owned()))
        };
        Ok((number(user, &self.passwd)?, number(group, &self.group)?))
    }

    fn render(&self, file: &NodeFile) -> Result<(FileSpec, Vec<u8>), Missing> {
        if !stays_below(&file.path) {
            return Err(Missing::Path);
        }
        let path = self
            .root
            .join(NODES_DIR)
            .join(self.node)
            .join("files")
            .join(&file.role)
            .join(&file.path);
        let template = files::read(&path)
            .map_err(|error| Missing::Content(error.to_string()))?
            .ok_or_else(|| Missing::Content(path.display().to_string()))?;
        let bytes = inputs::fill(
            &template,
            &file.secrets,
            &self.secrets,
            self.address.as_deref(),
            self.interface,
        )?;
        let owner = self.owner(&file.user, &file.group)?;
        Ok((
            FileSpec {
                digest: digest(&bytes),
                mode: file.mode,
                owner,
            },
            bytes,
        ))
    }
}

/// What stands at a path; something else than a file counts as nothing and is replaced.
fn spec_of(path: &Path) -> io::Result<Option<FileSpec>> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(None);
    };
    if !found.is_file() {
        return Ok(None);
    }
    Ok(files::read(path)?.map(|bytes| FileSpec {
        digest: digest(&bytes),
        mode: found.mode() & 0o7777,
        owner: (found.uid(), found.gid()),
    }))
}
