//! From the plan to what a node's nginx reads.

use rolesmith_model::{
    manifest::CONF_DIR,
    plan::{Content, NodePlan, Plan},
};

use super::{Complaint, rewrite::ETC};

/// A file as it is on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// Where it is.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// The file or template that it was made from, as people know it.
    pub origin: String,
}

/// What nginx may read on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFiles {
    /// The node.
    pub node: String,
    /// The files. More than nginx reads may be among them: what it includes it decides itself.
    pub files: Vec<NodeFile>,
}

impl NodeFiles {
    /// The files of a node; None where the fleet's packages give its nginx nothing to read.
    #[must_use]
    pub fn of(plan: &Plan, node: &NodePlan) -> Option<Self> {
        let packages = plan
            .packages
            .iter()
            .filter(|package| node.packages.contains(&package.name));
        let mut files: Vec<NodeFile> = packages
            .flat_map(|package| &package.files)
            .filter(|file| file.path.starts_with(&format!("{ETC}/")))
            .filter_map(|file| match &file.content {
                Content::File(bytes) => Some((&file.path, bytes, &file.origin)),
                Content::Symlink(_) => None,
            })
            .filter_map(|(path, bytes, origin)| {
                Some(NodeFile {
                    path: path.clone(),
                    text: String::from_utf8(bytes.to_vec()).ok()?,
                    origin: origin.to_string(),
                })
            })
            .collect();
        if files.is_empty() {
            return None;
        }
        files.extend(node.files.iter().filter_map(|rendered| {
            Some(NodeFile {
                path: format!("{CONF_DIR}/{}/{}", rendered.file.role, rendered.file.path),
                text: String::from_utf8(rendered.bytes.to_vec()).ok()?,
                origin: rendered.origin.to_string(),
            })
        }));
        Some(Self {
            node: node.name.to_string(),
            files,
        })
    }

    /// The file and the line (from 1) that a complaint is about.
    #[must_use]
    pub fn of_complaint(&self, complaint: &Complaint) -> Option<(&NodeFile, usize)> {
        let (path, line) = complaint.place.as_ref()?;
        let file = self.files.iter().find(|file| file.path == *path)?;
        (1..=file.text.lines().count())
            .contains(line)
            .then_some((file, *line))
    }

    /// Where they are on the node.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }
}
