//! The certificates of platform and application.

use rcgen::{Certificate, CustomExtension, Issuer};

use crate::Error;
use crate::attestation::{Attestation, CertForm};
use crate::hooks::Hooks;
use crate::kms::{AppCert, Kms};
use crate::pki::{Issued, PckIssuer, Pki, ca_params, leaf_params};
use crate::spec::Spec;

impl Pki {
    /// Signs all certificates and CRLs that `spec` describes.
    pub(crate) fn issue(&self, spec: &Spec) -> Result<Issued, Error> {
        let certs = &spec.certs;
        let signers = &spec.signers;

        let mut ca_params = ca_params(&certs.platform_ca.common_name, Some(0));
        certs.platform_ca.fill(&mut ca_params);
        spec.hooks.platform_ca_cert.apply(&mut ca_params);
        let platform_ca = ca_params.signed_by(
            self.platform_ca.certificate_key(),
            &self.root_issuer(signers.platform_ca_cert),
        )?;
        let ca_issuer = |signer| {
            Issuer::from_params(
                &ca_params,
                self.pick(signer, &self.platform_ca).certificate_key(),
            )
        };

        let mut pck_params = leaf_params(&certs.pck);
        pck_params.custom_extensions = vec![CustomExtension::from_oid_content(
            &[1, 2, 840, 113_741, 1, 13, 1],
            spec.platform.sgx_extension(),
        )];
        spec.hooks.pck_cert.apply(&mut pck_params);
        let pck = pck_params.signed_by(
            self.pck.certificate_key(),
            &match signers.pck_issuer {
                PckIssuer::PlatformCa => ca_issuer(signers.pck_cert),
                PckIssuer::Root => self.root_issuer(signers.pck_cert),
            },
        )?;

        let mut signer_params = leaf_params(&certs.tcb_signer);
        spec.hooks.tcb_signer_cert.apply(&mut signer_params);
        let tcb_signer = signer_params.signed_by(
            self.tcb_signer.certificate_key(),
            &self.root_issuer(signers.tcb_signer_cert),
        )?;

        let der = |certificate: &Certificate| certificate.der().to_vec();
        Ok(Issued {
            pck_chain: vec![der(&pck), der(&platform_ca), self.root_der.clone()],
            platform_ca_chain: vec![der(&platform_ca), self.root_der.clone()],
            tcb_signer_chain: vec![der(&tcb_signer), self.root_der.clone()],
            root_crl: spec.crls.root.sign(&self.root_issuer(signers.root_crl))?,
            pck_crl: spec.crls.pck.sign(&ca_issuer(signers.pck_crl))?,
        })
    }
}

impl Kms {
    /// The chain in DER: leaf, app CA, root.
    pub(crate) fn issue(
        &self,
        hooks: &Hooks,
        boot_time: u64,
        app_id: &[u8],
        form: CertForm,
        state: &Attestation<'_>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut root = AppCert::ca("Dstack KMS CA", 1, boot_time.saturating_sub(28 * 86_400));
        hooks.kms_root.apply(&mut root);
        let mut app_ca = AppCert::ca("Dstack App CA", 0, boot_time);
        app_ca.app_id = Some(app_id.to_vec());
        app_ca.usage = Some(b"app:ca".to_vec());
        hooks.app_ca.apply(&mut app_ca);
        let mut leaf = AppCert::leaf("fake-app", boot_time);
        leaf.app_id = Some(app_id.to_vec());
        leaf.usage = Some(b"app:custom".to_vec());
        if matches!(form, CertForm::Quote | CertForm::Both) {
            leaf.quote = Some(state.quote.to_vec());
            leaf.event_log = Some(serde_json::to_vec(state.events)?);
        }
        leaf.attestation = match form {
            CertForm::Quote => None,
            CertForm::AttestationV0 | CertForm::Both => Some(state.scale()),
            CertForm::AttestationV1 => Some(state.msgpack()),
        };
        hooks.app_leaf.apply(&mut leaf);

        let root_params = root.params();
        let root_der = root_params.self_signed(&self.pick(root.signer, &self.root))?;
        let app_ca_params = app_ca.params();
        let app_ca_der = app_ca_params.signed_by(
            self.app_ca.certificate_key(),
            &Issuer::from_params(&root_params, self.pick(app_ca.signer, &self.root)),
        )?;
        let leaf_der = leaf.params().signed_by(
            self.leaf.certificate_key(),
            &Issuer::from_params(&app_ca_params, self.pick(leaf.signer, &self.app_ca)),
        )?;
        let mut chain = vec![
            leaf_der.der().to_vec(),
            app_ca_der.der().to_vec(),
            root_der.der().to_vec(),
        ];
        hooks.app_chain.apply(&mut chain);
        Ok(chain)
    }
}
