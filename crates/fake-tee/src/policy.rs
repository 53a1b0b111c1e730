//! The product's policy file that accepts the machine of a [`Spec`], hooks aside.

use crate::event_log::replay;
use crate::spec::Spec;

impl Spec {
    /// A policy in TOML that extends `near` by this machine's values.
    pub fn policy_toml(&self) -> String {
        let registers = replay(&self.events());
        let boot = &self.boot;
        let h = |bytes: &[u8]| hex::encode(bytes);
        format!(
            r#"name = "fake"
extends = "near"
date = "2026-11-22"
deployment.managers = ["fake/compose-manager"]
identity = [{{ name = "fake app", operator = "Fake AI", app_id = "{app_id}", kms_root = "{kms_root}" }}]
os_image = [{{ name = "fake image", mrtd = "{mrtd}", rtmr1 = "{rtmr1}", rtmr2 = "{rtmr2}", os_image_hash = "{os_image_hash}" }}]
firmware = [{{ name = "fake firmware", cfv = "{cfv}", secure_boot = "{secure_boot}", pk = "{pk}", kek = "{kek}", db = "{db}", dbx = "{dbx}", separator = "{separator}", boot_order = "{boot_order}", boot_0000 = "{boot_0000}" }}]
"#,
            app_id = h(&self.app.app_id),
            kms_root = self.kms.root_spki_hex(),
            mrtd = h(&self.td.mr_td),
            rtmr1 = h(&registers[1]),
            rtmr2 = h(&registers[2]),
            os_image_hash = h(&self.app.os_image_hash),
            cfv = h(&boot.cfv),
            secure_boot = h(&boot.secure_boot),
            pk = h(&boot.pk),
            kek = h(&boot.kek),
            db = h(&boot.db),
            dbx = h(&boot.dbx),
            separator = h(&boot.separator),
            boot_order = h(&boot.boot_order),
            boot_0000 = h(&boot.boot_0000),
        )
    }
}

/// `policy` with the lines `more`. It refuses what `near` only reports of a deployment, a
/// tag that is no release and a file that breaks a rule, unless `more` says otherwise: a
/// test sees a refusal by its code.
pub fn refusing(policy: &str, more: &str) -> String {
    let mut text = policy.to_owned();
    for (key, value) in [
        ("deployment.tags", "releases"),
        ("deployment.files", "refuse"),
    ] {
        if !more.contains(key) {
            text += &format!("{key} = \"{value}\"\n");
        }
    }
    text + more
}
