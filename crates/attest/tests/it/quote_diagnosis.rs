//! The reason that a person gets for a refusal that is certain already: the
//! quote's signature is forged in each of these, and that has to be the answer
//! wherever nothing else is wrong.

use fake_tee::Spec;

use crate::support::{NOW, code, judge, spec};

/// What is said of a forged signature after this change.
fn said(change: impl FnOnce(&mut Spec)) -> &'static str {
    let mut spec = spec();
    spec.hooks
        .signed_quote
        .push(|quote| quote.signature[0] ^= 1);
    change(&mut spec);
    code(&judge(&spec))
}

#[test]
fn the_first_and_last_second_of_a_validity_are_no_reason() {
    assert_eq!(said(|_| ()), "rejected_quote_untrusted");
    for (from, until) in [(NOW, NOW + 9), (NOW - 9, NOW), (NOW, NOW)] {
        let pck = said(|s| (s.certs.pck.not_before, s.certs.pck.not_after) = (from, until));
        assert_eq!(pck, "rejected_quote_untrusted", "{from} to {until}");
        let ca = said(|s| {
            (
                s.certs.platform_ca.not_before,
                s.certs.platform_ca.not_after,
            ) = (from, until);
        });
        assert_eq!(ca, "rejected_quote_untrusted", "{from} to {until}");
    }
    assert_eq!(
        said(|s| s.tcb_info.set_validity(NOW, NOW + 1)),
        "rejected_quote_untrusted"
    );
    assert_eq!(
        said(|s| s.tcb_info.set_validity(NOW - 1, NOW)),
        "rejected_collateral_expired"
    );
    assert_eq!(
        said(|s| s.crls.pck.this_update = NOW),
        "rejected_quote_untrusted"
    );
}

/// The PCK CRL is genuine if the platform's own CA signed it, wherever that CA stands.
#[test]
fn a_genuine_revocation_list_is_known_by_its_signature() {
    assert_eq!(
        said(|s| s
            .hooks
            .collateral
            .push(|c| c.pck_crl_issuer_chain.truncate(0))),
        "rejected_quote_untrusted"
    );
    assert_eq!(
        said(|s| s.hooks.collateral.push(|c| {
            c.pck_crl_issuer_chain.remove(0);
        })),
        "rejected_quote_untrusted",
        "only the root"
    );
    assert_eq!(
        said(|s| {
            s.hooks.collateral.push(|c| {
                c.pck_crl_issuer_chain.remove(0);
            });
            s.hooks
                .signed_quote
                .push(|quote| quote.pck_chain.swap(1, 2));
        }),
        "rejected_quote_untrusted",
        "the root before the CA"
    );
}

#[test]
fn what_else_is_wrong_is_said_first() {
    for (expected, change) in [
        (
            "rejected_collateral_untrusted",
            (|s| s.signers.tcb_info = fake_tee::Signer::Stranger) as fn(&mut Spec),
        ),
        ("rejected_collateral_format", |s| {
            s.tcb_info.id = "SGX".to_owned()
        }),
        ("rejected_collateral_expired", |s| {
            s.crls.root.next_update = NOW - 1
        }),
        ("rejected_collateral_fmspc", |s| {
            s.tcb_info.fmspc = "00606a000000".to_owned()
        }),
        ("rejected_certificate_revoked", |s| {
            s.crls.pck.revoked.push(s.certs.pck.serial.clone())
        }),
        ("rejected_td_debug", |s| s.td.td_attributes[0] = 1),
        ("rejected_tcb_unknown", |s| s.platform.pce_svn = 0),
        ("rejected_tcb_platform", |s| {
            s.tcb_info.set_platform_status("Revoked", &[])
        }),
        ("rejected_tcb_module", |s| {
            s.tcb_info.set_module_status("Revoked", &[])
        }),
        ("rejected_tcb_qe", |s| {
            s.qe_identity.set_status("Revoked", &[])
        }),
    ] {
        assert_eq!(said(change), expected);
    }
}

/// Only the level that the enclave is at counts, not those above or below it.
#[test]
fn a_revoked_level_of_another_enclave_is_no_reason() {
    for revoked in [0, 1] {
        let other = said(|s| {
            s.qe_identity.tcb_levels[revoked].tcb_status = "Revoked".to_owned();
            s.qe.isv_svn = if revoked == 0 { 3 } else { 4 };
        });
        assert_eq!(other, "rejected_quote_untrusted", "{revoked}");
    }
}
