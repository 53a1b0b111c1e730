//! Finds the reason of a failed verification.
//!
//! dcap-qvl answers with a sentence; a person needs to know whether to set the clock,
//! change the source of collateral or stop using the backend. [`explain`] looks for the
//! reason AFTER the refusal is certain: it only chooses among refusals. It also returns
//! what genuine documents state about themselves, which can only make later verdicts
//! stricter.

use x509_cert::Certificate;

use super::ParsedQuote;
use crate::base::identifiers::{Fmspc, UnixTime};
use crate::base::tcb::{Accept, TcbStatus};
use crate::base::x509::{self, Key, P256};
use crate::intel::collateral::documents::Dated;
use crate::intel::collateral::{Collateral, Seen, begun_by, current};
use crate::intel::root::TdxRoot;
use crate::intel::tcb::{Svns, platform_and_module, qe_level};
use crate::refusals::Rejected;

/// A refusal, and the dates of the documents if they are genuine: a newer edition
/// counts as seen even if it is the reason of the refusal.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) rejected: Rejected,
    pub(crate) genuine: Option<Box<(Fmspc, Seen)>>,
}

/// Finds the reason of a refusal.
pub(crate) fn explain(
    quote: &ParsedQuote,
    collateral: &Collateral,
    root: &TdxRoot,
    now: UnixTime,
    detail: String,
) -> Refusal {
    let ungenuine = |rejected| Refusal {
        rejected,
        genuine: None,
    };
    let documents = match Documents::read(quote, collateral) {
        Ok(documents) => documents,
        Err(rejected) => return ungenuine(rejected),
    };
    let root = match documents.genuine_under(collateral, root) {
        Ok(root) => root,
        Err(rejected) => return ungenuine(rejected),
    };
    let rejected = documents.reason(quote, collateral, &root, now);
    Refusal {
        rejected: rejected.unwrap_or(Rejected::QuoteUntrusted { detail }),
        genuine: documents.seen(&root).map(Box::new),
    }
}

/// The moment at which every validity has begun, if one has not at `now` and the slack
/// for a slow clock covers it: dcap-qvl allows no slack.
pub(crate) fn slow_clock(
    quote: &ParsedQuote,
    collateral: &Collateral,
    now: UnixTime,
) -> Option<UnixTime> {
    let documents = Documents::read(quote, collateral).ok()?;
    let signers = documents.windows().ok()?;
    let platform = documents.pck_chain.iter().map(x509::validity);
    let begins = signers
        .into_iter()
        .map(|(_, from, _)| from)
        .chain(platform.map(|(from, _)| from))
        .max()?;
    (now < begins && begins <= begun_by(now)).then_some(begins)
}

struct Documents {
    pck_chain: Vec<Certificate>,
    tcb_chain: Vec<Certificate>,
    qe_chain: Vec<Certificate>,
    crl_chain: Vec<Certificate>,
    root_crl: x509_cert::crl::CertificateList,
    pck_crl: x509_cert::crl::CertificateList,
    tcb_info: Dated,
    qe_identity: Dated,
}

impl Documents {
    fn read(quote: &ParsedQuote, collateral: &Collateral) -> Result<Self, Rejected> {
        let collateral_format = |what: &str, detail: String| Rejected::CollateralFormat {
            detail: crate::base::text::shown(&format!("{what}: {detail}")),
        };
        let quote_format = |detail: String| Rejected::QuoteFormat {
            detail: crate::base::text::shown(&format!("PCK chain: {detail}")),
        };
        let documents = &collateral.documents;
        let chain = |what, pem: &str| {
            x509::pem_chain(pem.as_bytes()).map_err(|error| collateral_format(what, error))
        };
        let crl = |what, der: &[u8]| x509::crl(der).map_err(|error| collateral_format(what, error));
        let dated = |what, json: &str| -> Result<Dated, Rejected> {
            unknown_status(json).map_or(Ok(()), |status| {
                Err(collateral_format(
                    what,
                    format!("unknown TCB status {status}"),
                ))
            })?;
            serde_json::from_str(json).map_err(|error| collateral_format(what, error.to_string()))
        };
        Ok(Self {
            pck_chain: quote
                .pck_chain()
                .map_err(quote_format)?
                .iter()
                .map(|der| x509::certificate(der).map_err(quote_format))
                .collect::<Result<_, _>>()?,
            tcb_chain: chain("TCB info issuer chain", &documents.tcb_info_issuer_chain)?,
            qe_chain: chain(
                "QE identity issuer chain",
                &documents.qe_identity_issuer_chain,
            )?,
            crl_chain: chain("PCK CRL issuer chain", &documents.pck_crl_issuer_chain)?,
            root_crl: crl("root CRL", &documents.root_ca_crl)?,
            pck_crl: crl("PCK CRL", &documents.pck_crl)?,
            tcb_info: dated("TCB info", &documents.tcb_info)?,
            qe_identity: dated("QE identity", &documents.qe_identity)?,
        })
    }

    /// Each step uses only data that the steps before it found to be signed.
    fn reason(
        &self,
        quote: &ParsedQuote,
        collateral: &Collateral,
        root: &Key,
        now: UnixTime,
    ) -> Option<Rejected> {
        if let Some(rejected) = self.wrong_kind().or_else(|| self.wrong_time(now)) {
            return Some(rejected);
        }
        // Only signed certificates from here on: everything else in the quote is the
        // backend's choice.
        let [leaf, ca] = self.signed_platform(root)?;
        if !self.pck_crl_is_of(ca) {
            return Some(Rejected::CollateralUntrusted {
                detail: "the PCK CRL is of another CA than the platform's".to_owned(),
            });
        }
        for (what, certificate) in [
            ("the platform's certificate", leaf),
            ("the platform CA's certificate", ca),
        ] {
            let (from, until) = x509::validity(certificate);
            if begun_by(now) < from || now > until {
                return Some(Rejected::PlatformCertificate {
                    what,
                    from: from.to_string(),
                    until: until.to_string(),
                    now: now.to_string(),
                });
            }
        }
        self.wrong_family(quote)
            .or_else(|| self.revoked([leaf, ca]))
            .or_else(|| wrong_td(quote))
            .or_else(|| self.refused_level(quote, collateral))
    }

    /// Refuses genuine documents about something other than TDX (PCS API v4).
    fn wrong_kind(&self) -> Option<Rejected> {
        let kinds = [
            ("TCB info", &self.tcb_info, "TDX", [3, 3]),
            ("QE identity", &self.qe_identity, "TD_QE", [2, 3]),
        ];
        kinds
            .into_iter()
            .find(|(_, dated, id, versions)| dated.id != *id || !versions.contains(&dated.version))
            .map(|(what, dated, id, _)| Rejected::CollateralFormat {
                detail: format!(
                    "{what} is of {} version {}, expected {id}",
                    crate::base::text::quoted(&dated.id),
                    dated.version
                ),
            })
    }

    /// The PCK certificate and its CA, if they are what Intel signed.
    fn signed_platform(&self, root: &Key) -> Option<[&Certificate; 2]> {
        let leaf = self.pck_chain.first()?;
        let ca =
            self.pck_chain.iter().skip(1).find(|ca| {
                root.signed(ca) && Key::of(ca, &P256).is_ok_and(|key| key.signed(leaf))
            })?;
        Some([leaf, ca])
    }

    fn pck_crl_is_of(&self, ca: &Certificate) -> bool {
        Key::of(ca, &P256).is_ok_and(|key| key.signed_crl(&self.pck_crl))
    }

    /// What these genuine documents state about themselves. A PCK CRL counts only for
    /// the CA that issued it.
    fn seen(&self, root: &Key) -> Option<(Fmspc, Seen)> {
        let fmspc = self.tcb_info.fmspc.as_deref()?.parse().ok()?;
        let own_crl = self
            .signed_platform(root)
            .is_some_and(|[_, ca]| self.pck_crl_is_of(ca));
        Some((
            fmspc,
            Seen {
                tcb_info: self.tcb_info.document()?,
                qe_identity: self.qe_identity.document()?,
                pck_crl: if own_crl {
                    x509::unix(self.pck_crl.tbs_cert_list.this_update)
                } else {
                    UnixTime::default()
                },
                root_crl: x509::unix(self.root_crl.tbs_cert_list.this_update),
            },
        ))
    }

    fn wrong_time(&self, now: UnixTime) -> Option<Rejected> {
        let windows = match self.windows() {
            Ok(windows) => windows,
            Err(rejected) => return Some(rejected),
        };
        windows
            .into_iter()
            .find_map(|(what, from, until)| current(what, from, until, now).err())
    }

    /// The validity of each document, and of each certificate of its issuer.
    fn windows(&self) -> Result<Vec<(&'static str, UnixTime, UnixTime)>, Rejected> {
        let mut windows = Vec::new();
        for (what, dated) in [
            ("the TCB info", &self.tcb_info),
            ("the QE identity", &self.qe_identity),
        ] {
            let (Some(from), Some(until)) = (
                UnixTime::from_rfc3339(&dated.issue_date),
                UnixTime::from_rfc3339(&dated.next_update),
            ) else {
                return Err(Rejected::CollateralFormat {
                    detail: format!("{what} has no readable dates"),
                });
            };
            windows.push((what, from, until));
        }
        for (what, crl) in [
            ("the root CRL", &self.root_crl),
            ("the PCK CRL", &self.pck_crl),
        ] {
            let list = &crl.tbs_cert_list;
            let until = list.next_update.map_or(UnixTime(u64::MAX), x509::unix);
            windows.push((what, x509::unix(list.this_update), until));
        }
        for (what, chain) in [
            ("a certificate of the TCB info's issuer", &self.tcb_chain),
            ("a certificate of the QE identity's issuer", &self.qe_chain),
        ] {
            windows.extend(chain.iter().map(|certificate| {
                let (from, until) = x509::validity(certificate);
                (what, from, until)
            }));
        }
        Ok(windows)
    }

    fn wrong_family(&self, quote: &ParsedQuote) -> Option<Rejected> {
        let quoted = quote.collateral_key().ok()?.fmspc;
        let stated = self.tcb_info.fmspc.as_deref().unwrap_or_default();
        let same = stated.parse::<Fmspc>().is_ok_and(|fmspc| fmspc == quoted);
        (!same).then(|| Rejected::CollateralFmspc {
            quote: quoted.to_string(),
            collateral: crate::base::text::quoted(stated),
        })
    }

    /// The signatures of the collateral alone. If they are good, the quote is at fault.
    fn genuine_under(&self, collateral: &Collateral, root: &TdxRoot) -> Result<Key, Rejected> {
        let documents = &collateral.documents;
        let untrusted = |detail: &str| {
            Err(Rejected::CollateralUntrusted {
                detail: detail.to_owned(),
            })
        };
        let Some(root) = root.tdx_root_key() else {
            return untrusted("the trust root is not a P-256 certificate");
        };
        for (what, chain, text, signature) in [
            (
                "TCB info",
                &self.tcb_chain,
                &documents.tcb_info,
                &documents.tcb_info_signature,
            ),
            (
                "QE identity",
                &self.qe_chain,
                &documents.qe_identity,
                &documents.qe_identity_signature,
            ),
        ] {
            let signer = chain.first().filter(|signer| root.signed(signer));
            let Some(key) = signer.and_then(|signer| Key::of(signer, &P256).ok()) else {
                return untrusted(&format!("the signer of the {what} is not of this root"));
            };
            if !key.verifies_fixed(text.as_bytes(), signature) {
                return untrusted(&format!("signature of the {what}"));
            }
        }
        if !root.signed_crl(&self.root_crl) {
            return untrusted("signature of the root CRL");
        }
        // The CA that issued the platform's certificate signs its CRL.
        let issuer = |chain: &[Certificate]| -> Option<Key> {
            let ca = chain
                .iter()
                .find(|ca| root.signed(ca) && !is_self(ca, &root))?;
            Key::of(ca, &P256).ok()
        };
        let issuers = [issuer(&self.crl_chain), issuer(&self.pck_chain)];
        if !issuers
            .iter()
            .flatten()
            .any(|issuer| issuer.signed_crl(&self.pck_crl))
        {
            return untrusted("signature of the PCK CRL");
        }
        Ok(root)
    }

    fn revoked(&self, [leaf, ca]: [&Certificate; 2]) -> Option<Rejected> {
        if x509::is_revoked(&self.pck_crl, leaf) {
            return Some(Rejected::CertificateRevoked {
                what: "the platform's PCK certificate",
            });
        }
        if x509::is_revoked(&self.root_crl, ca) {
            return Some(Rejected::CertificateRevoked {
                what: "the platform CA's certificate",
            });
        }
        // The source chooses this certificate, not the platform: another source may
        // help.
        [&self.tcb_chain, &self.qe_chain]
            .into_iter()
            .flatten()
            .any(|certificate| x509::is_revoked(&self.root_crl, certificate))
            .then(|| Rejected::CollateralUntrusted {
                detail: "its signer's certificate is revoked".to_owned(),
            })
    }

    fn refused_level(&self, quote: &ParsedQuote, collateral: &Collateral) -> Option<Rejected> {
        let (cpu, pce, tee) = quote.claimed_svns()?;
        let svns = Svns {
            cpu: &cpu,
            pce,
            tee,
        };
        let (platform, module) = match platform_and_module(&collateral.documents.tcb_info, &svns) {
            Ok(levels) => levels,
            Err(detail) => {
                return Some(Rejected::TcbUnknown {
                    detail: crate::base::text::shown(&detail),
                });
            }
        };
        let revoked = |level: &crate::base::tcb::Level| level.status == TcbStatus::Revoked;
        if let Some(level) = platform.into_iter().find(revoked) {
            return Some(Rejected::TcbPlatform {
                level,
                accept: Accept::default(),
            });
        }
        if let Some(level) = module.into_iter().find(revoked) {
            return Some(Rejected::TcbModule {
                level,
                accept: Accept::default(),
            });
        }
        match qe_level(&collateral.documents.qe_identity, quote.claimed_qe_svn()) {
            Ok(level) => revoked(&level).then_some(Rejected::TcbQe {
                level,
                accept: Accept::default(),
            }),
            Err(detail) => Some(Rejected::TcbUnknown {
                detail: crate::base::text::shown(&detail),
            }),
        }
    }
}

fn is_self(certificate: &Certificate, key: &Key) -> bool {
    // The root is self-signed: its certificate holds its own key.
    Key::of(certificate, &P256).is_ok_and(|own| own == *key)
}

/// TDs that dcap-qvl refuses before any policy: debugging, profiling, migration, no
/// SEPT_VE_DISABLE, service TDs (Intel TDX module, TD ATTRIBUTES).
fn wrong_td(quote: &ParsedQuote) -> Option<Rejected> {
    let attributes = quote.td.attributes;
    let got = hex::encode(attributes);
    let Ok(parsed) = dcap_qvl::quote::TDAttributes::parse(attributes) else {
        return Some(never_accepted(got));
    };
    if parsed.tud != 0 {
        return Some(Rejected::TdDebug { attributes: got });
    }
    let service_td = quote.service_td();
    if parsed.sec.servtd_ext || service_td != [0; 48] {
        return Some(Rejected::ServiceTd {
            got: format!(
                "td_attributes {got}, mr_service_td {}",
                hex::encode(service_td)
            ),
        });
    }
    let bad = parsed.reserved != 0 || parsed.sec.migratable || !parsed.sec.sept_ve_disable;
    bad.then(|| never_accepted(got))
}

/// No policy can allow these attributes, so the refusal offers no line.
fn never_accepted(got: String) -> Rejected {
    Rejected::TdAttributes { got, allowed: 0 }
}

/// A TCB status that is not in Intel's specification.
fn unknown_status(json: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Level {
        #[serde(rename = "tcbStatus")]
        status: String,
    }
    #[derive(serde::Deserialize)]
    struct Identity {
        #[serde(rename = "tcbLevels")]
        levels: Vec<Level>,
    }
    #[derive(serde::Deserialize)]
    struct Statuses {
        #[serde(rename = "tcbLevels")]
        levels: Vec<Level>,
        #[serde(rename = "tdxModuleIdentities", default)]
        identities: Vec<Identity>,
    }
    let statuses: Statuses = serde_json::from_str(json).ok()?;
    let modules = statuses
        .identities
        .iter()
        .flat_map(|identity| &identity.levels);
    statuses
        .levels
        .iter()
        .chain(modules)
        .find(|level| level.status.parse::<TcbStatus>().is_err())
        .map(|level| crate::base::text::quoted(&level.status))
}
