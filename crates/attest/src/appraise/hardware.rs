//! Steps 2 to 4: a genuine platform, patched, with a TD that keeps its host out.

use super::{FloorCheck, Run};
use crate::base::hex::Hex;
use crate::base::identifiers::Fmspc;
use crate::base::levels::HardwareLevel;
use crate::base::tcb::{Accept, Component, Level};
use crate::base::text::shown_hex;
use crate::base::x509;
use crate::intel::collateral::{Admitted, FloorKey, FloorSeen, Seen};
use crate::intel::quote::{self, MeasuredTd, VerifiedQuote};
use crate::policy::Accepted;
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;

impl Run<'_> {
    /// A quote of a genuine platform, judged by documents no older than seen before.
    pub(super) fn genuine(&mut self) -> Result<VerifiedQuote, Rejected> {
        let request = self.request;
        self.begin(CheckId::QuoteFormat);
        let key = request.evidence.collateral_key()?;
        self.pass(format!("FMSPC {}", key.fmspc));

        self.begin(CheckId::Quote);
        let verified = quote::verify(
            &request.evidence.quote,
            request.collateral,
            request.trust_anchors,
            request.now,
        );
        let genuine = match &verified {
            Ok(quote) => Some((quote.fmspc(), quote.seen())),
            Err(refusal) => refusal.genuine.as_deref().copied(),
        };
        if let Some((fmspc, seen)) = genuine {
            self.remember(fmspc, &seen);
        }
        let quote = verified.map_err(|refusal| refusal.rejected)?;
        self.pass(format!(
            "version {}, under {} root",
            quote.version(),
            if request.trust_anchors.is_intel() {
                "Intel's"
            } else {
                "a DANGEROUS"
            }
        ));
        self.begin(CheckId::CollateralValid);
        self.pass(format!("until {}", quote.valid_until()));

        self.begin(CheckId::CollateralFloor);
        self.no_older(&quote)?;
        Ok(quote)
    }

    /// Takes note of genuine documents.
    fn remember(&mut self, fmspc: Fmspc, seen: &Seen) {
        let request = self.request;
        let FloorCheck::Kept { editions, .. } = request.context.floor else {
            return;
        };
        let root_crl = x509::crl(&request.collateral.documents.root_ca_crl);
        self.editions = editions.zip(root_crl.ok()).and_then(|(list, root_crl)| {
            let holds = list.holds(request.trust_anchors, &root_crl, request.now);
            holds.then_some(list)
        });
        let key = FloorKey::new(request.trust_anchors, fmspc);
        self.floor_seen = Some(FloorSeen::new(key, seen, self.editions));
    }

    /// Documents no older than those seen before, nor than Intel's list allows.
    fn no_older(&mut self, quote: &VerifiedQuote) -> Result<(), Rejected> {
        let check = CheckId::CollateralFloor;
        let floors = match self.request.context.floor {
            FloorCheck::NotKept(reason) => {
                self.report.not_proved(check, reason);
                return Ok(());
            }
            FloorCheck::Kept { floors, .. } => floors,
        };
        let seen = quote.seen();
        let known = floors.get(&FloorKey::new(self.request.trust_anchors, quote.fmspc()));
        let floor = known.cloned().unwrap_or_default();
        let admitted = floor.admit(&seen, self.editions)?;
        let detail = format!(
            "TCB info {} of {}, QE identity {} of {}, CRLs of {} and {}",
            seen.tcb_info.edition,
            seen.tcb_info.issued,
            seen.qe_identity.edition,
            seen.qe_identity.issued,
            seen.pck_crl,
            seen.root_crl
        );
        match admitted {
            _ if known.is_none() => self
                .report
                .not_proved(check, format!("no collateral of this platform family was seen before; {detail}")),
            Admitted::OlderEdition(newest) => self.report.not_proved(
                check,
                format!(
                    "edition {newest} was seen before, and Intel's list of editions was not available; {detail}"
                ),
            ),
            Admitted::NoOlder => self.pass(detail),
        }
        Ok(())
    }

    /// At an accepted patch level.
    pub(super) fn patched(&mut self, quote: &VerifiedQuote) -> Result<(), Rejected> {
        self.begin(CheckId::TcbEvaluation);
        let (got, rules) = (quote.evaluation_number(), &self.rules().tcb);
        let word = self.editions.map_or("not known", |list| list.word(got));
        self.report
            .fact("tcb_evaluation_number", format!("{got} ({word})"));
        let detail = match self.editions {
            Some(_) => format!("number {got}, {word} by Intel's list"),
            None => format!("number {got}, not known whether standard or early"),
        };
        match rules.min_evaluation_number {
            Some(min) if got < min => return Err(Rejected::TcbEvaluation { got, min }),
            Some(min) => self.pass(format!("{detail}, at least {min}")),
            None => self.report.not_proved(
                CheckId::TcbEvaluation,
                format!("{detail}; the policy sets no tcb.min_evaluation_number"),
            ),
        }
        let levels = quote.levels();
        self.tcb_levels(
            CheckId::TcbPlatform,
            Component::Platform,
            &levels.platform,
            |level, accept| Rejected::TcbPlatform { level, accept },
        )?;
        if levels.module.is_empty() {
            self.report.not_proved(
                CheckId::TcbModule,
                "Intel judges this TDX module together with the platform",
            );
        } else {
            self.tcb_levels(
                CheckId::TcbModule,
                Component::Module,
                &levels.module,
                |level, accept| Rejected::TcbModule { level, accept },
            )?;
        }
        let qe = std::slice::from_ref(&levels.qe);
        self.tcb_levels(CheckId::TcbQe, Component::Qe, qe, |level, accept| {
            Rejected::TcbQe { level, accept }
        })?;

        let td = quote.td();
        self.report.fact("fmspc", quote.fmspc().to_string());
        self.report.fact("ppid", hex::encode(quote.ppid()));
        let piid = quote.piid().map(hex::encode);
        self.report.fact(
            "piid",
            piid.unwrap_or_else(|| "none in the PCK certificate".to_owned()),
        );
        self.report.fact("pce_id", shown_hex(quote.pce_id()));
        self.report.fact("cpu_svn", hex::encode(quote.cpu_svn()));
        self.report.fact("pce_svn", quote.pce_svn().to_string());
        self.report.fact("tdx_module", quote.tdx_module());
        self.report.fact("platform", quote.platform_flags());
        self.report.fact("mrseam", hex::encode(td.mr_seam));
        self.report.fact("tee_tcb_svn", hex::encode(td.tee_tcb_svn));
        Ok(())
    }

    fn tcb_levels(
        &mut self,
        check: CheckId,
        component: Component,
        levels: &[Level],
        refusal: impl Fn(Level, Accept) -> Rejected,
    ) -> Result<(), Rejected> {
        self.begin(check);
        let now = self.request.now;
        let mut words = Vec::new();
        for level in levels {
            words.push(match self.rules().tcb.admits(component, level, now) {
                None => return Err(refusal(level.clone(), level.accept(component, now))),
                Some(Accepted::ByStatus) => level.to_string(),
                Some(Accepted::ByException(exception)) => {
                    self.reached.hardware = HardwareLevel::Outdated;
                    format!(
                        "{level}, {}",
                        self.excepted(exception, |named| &mut named.hardware_until)
                    )
                }
            });
        }
        self.pass(words.join("; now "));
        Ok(())
    }

    pub(super) fn td(&mut self, td: &MeasuredTd) -> Result<(), Rejected> {
        let rules = &self.rules().td;
        self.begin(CheckId::TdAttributes);
        let got = Hex(td.attributes);
        if td.attributes.first() != Some(&0) {
            return Err(Rejected::TdDebug {
                attributes: got.to_string(),
            });
        }
        if !rules.attributes.contains(&got) {
            return Err(Rejected::TdAttributes {
                got: got.to_string(),
                allowed: rules.attributes.len(),
            });
        }
        self.pass(got.to_string());
        self.begin(CheckId::Xfam);
        let got = Hex(td.xfam);
        if !rules.xfam.contains(&got) {
            return Err(Rejected::Xfam {
                got: got.to_string(),
                allowed: rules.xfam.len(),
            });
        }
        self.pass(got.to_string());
        Ok(())
    }
}
