//! [settings.ROLE]

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::Check;
use crate::{
    archive_names::closest, fleet::SettingValue, fleet_file::FleetFile, role::Role,
    setting_kind::SettingKind,
};

impl Check<'_> {
    pub(super) fn settings(
        &mut self,
        file: &FleetFile,
    ) -> BTreeMap<String, BTreeMap<String, SettingValue>> {
        let mut all = BTreeMap::new();
        for (role_name, values) in &file.settings {
            let Some(role) = self.roles.get(role_name.get_ref()) else {
                if self.roles.is_broken(role_name.get_ref()) {
                    continue;
                }
                let help = self.roles.similar(role_name.get_ref()).map_or_else(
                    || "write the name of one of the roles, or remove the table".to_owned(),
                    |near| format!("did you mean [settings.{near}]?"),
                );
                self.error(
                    "fleet::settings-unknown-role",
                    role_name.span(),
                    format!(
                        "[settings.{}] is for a role that does not exist",
                        role_name.get_ref()
                    ),
                    "neither built in nor a directory in roles/",
                    help,
                );
                continue;
            };
            let declared: BTreeMap<&str, &toml::Value> = role
                .layers
                .iter()
                .flat_map(|l| &l.file.settings)
                .map(|(k, v)| (k.get_ref().as_str(), v.get_ref()))
                .collect();
            let mut of_role = BTreeMap::new();
            for (key, value) in values {
                match declared.get(key.get_ref().as_str()) {
                    None => {
                        let names: Vec<&str> = declared.keys().copied().collect();
                        let help = if let Some(near) = closest(key.get_ref(), names.iter().copied())
                        {
                            format!("did you mean {near:?}?")
                        } else if names.is_empty() {
                            format!("role {} declares no settings", role.name)
                        } else {
                            format!("role {} declares {}", role.name, names.join(", "))
                        };
                        self.error(
                            "fleet::unknown-setting",
                            key.span(),
                            format!("role {} has no setting {:?}", role.name, key.get_ref()),
                            "not declared in its role.toml",
                            help,
                        );
                    }
                    Some(default) if !default.same_type(value.get_ref()) => self.error(
                        "fleet::setting-type",
                        value.span(),
                        format!(
                            "setting {:?} takes a value of type {}",
                            key.get_ref(),
                            default.type_str()
                        ),
                        &format!("this is a value of type {}", value.get_ref().type_str()),
                        format!("its default is {default}"),
                    ),
                    Some(default) => {
                        if let Some(range) = missed_range(role, key.get_ref(), value.get_ref()) {
                            self.error(
                                "fleet::setting-range",
                                value.span(),
                                format!(
                                    "setting {:?} cannot be {}",
                                    key.get_ref(),
                                    value.get_ref()
                                ),
                                &format!(
                                    "role {} takes {} to {}",
                                    role.name,
                                    range.start(),
                                    range.end()
                                ),
                                format!("its default is {default}"),
                            );
                            continue;
                        }
                        if let Some((element, kind)) = refused(role, key.get_ref(), value.get_ref())
                        {
                            self.error(
                                "fleet::setting-kind",
                                value.span(),
                                format!("setting {:?} cannot hold {element}", key.get_ref()),
                                &format!("it is not {}", kind.described()),
                                format!("its default is {default}"),
                            );
                            continue;
                        }
                        of_role.insert(
                            key.get_ref().clone(),
                            SettingValue {
                                value: value.get_ref().clone(),
                                span: value.span(),
                            },
                        );
                    }
                }
            }
            all.insert(role.name.to_string(), of_role);
        }
        all
    }
}

/// The range of the setting, where the value is not in it.
fn missed_range(role: &Role, name: &str, value: &toml::Value) -> Option<RangeInclusive<i64>> {
    let number = value.as_integer()?;
    role.setting_range(name)
        .filter(|range| !range.contains(&number))
}

/// The first element of a list that the setting's kind does not take.
fn refused<'a>(
    role: &Role,
    name: &str,
    value: &'a toml::Value,
) -> Option<(&'a toml::Value, SettingKind)> {
    let kind = role.setting_kind(name)?;
    Some((kind.refused(value)?, kind))
}
