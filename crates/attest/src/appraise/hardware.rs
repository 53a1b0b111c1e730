//! Steps 2 to 4: a genuine platform, patched, with a TD that keeps its host out.

use super::{FloorCheck, Run};
use crate::collateral::{Floor, FloorKey, FloorSeen};
use crate::levels::HardwareLevel;
use crate::policy::{Admitted, Hex};
use crate::quote::{self, Td, VerifiedQuote};
use crate::report::CheckId;
use crate::tcb::{Accept, Component, Level};
use crate::text::shown_hex;
use crate::{Fmspc, Rejected};

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
        self.floor_seen = match &verified {
            Ok(quote) => Some((quote.fmspc(), quote.floor())),
            Err(refusal) => refusal.genuine,
        }
        .and_then(|(fmspc, floor)| self.floor_seen(fmspc, floor));
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
        match request.floor {
            FloorCheck::NotKept(reason) => self.report.not_proved(CheckId::CollateralFloor, reason),
            FloorCheck::Kept { floors, channel } => {
                let key = FloorKey::new(request.trust_anchors, quote.fmspc(), channel);
                floors.get(&key).admit(&quote.floor())?;
                let Floor {
                    tcb_info,
                    qe_identity,
                    pck_crl,
                    root_crl,
                } = quote.floor();
                self.pass(format!(
                    "TCB info {tcb_info}, QE identity {qe_identity}, CRLs of {pck_crl} and {root_crl}"
                ));
            }
        }
        Ok(quote)
    }

    fn floor_seen(&self, fmspc: Fmspc, floor: Floor) -> Option<FloorSeen> {
        match self.request.floor {
            FloorCheck::NotKept(_) => None,
            FloorCheck::Kept { channel, .. } => Some(FloorSeen {
                key: FloorKey::new(self.request.trust_anchors, fmspc, channel),
                floor,
            }),
        }
    }

    /// At an accepted patch level.
    pub(super) fn patched(&mut self, quote: &VerifiedQuote) -> Result<(), Rejected> {
        self.begin(CheckId::TcbEvaluation);
        let (got, rules) = (quote.evaluation_number(), &self.rules().tcb);
        match rules.min_evaluation_number {
            Some(min) if got < min => return Err(Rejected::TcbEvaluation { got, min }),
            Some(min) => self.pass(format!("number {got}, at least {min}")),
            None => self.report.not_proved(
                CheckId::TcbEvaluation,
                format!("number {got}; the policy asks for none"),
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
                Some(Admitted::ByStatus) => level.to_string(),
                Some(Admitted::ByException(exception)) => {
                    self.reached.hardware = HardwareLevel::Outdated;
                    format!("{level}, {}", self.excepted(exception))
                }
            });
        }
        self.pass(words.join("; now "));
        Ok(())
    }

    pub(super) fn td(&mut self, td: &Td) -> Result<(), Rejected> {
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
                accept: format!("td.attributes = [\"{got}\"]"),
            });
        }
        self.pass(got.to_string());
        self.begin(CheckId::Xfam);
        let got = Hex(td.xfam);
        if !rules.xfam.contains(&got) {
            return Err(Rejected::Xfam {
                got: got.to_string(),
                allowed: rules.xfam.len(),
                accept: format!("td.xfam = [\"{got}\"]"),
            });
        }
        self.pass(got.to_string());
        Ok(())
    }
}
