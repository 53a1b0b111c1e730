//! Two quotes of one machine.

use crate::base::text::shown_hex;
use crate::intel::quote::VerifiedQuote;
use crate::refusals::deployment::DeploymentRejected;

/// The machine whose quote the report is about, at the same moment of its life.
pub(super) fn same(quote: &VerifiedQuote, main: &VerifiedQuote) -> Result<(), DeploymentRejected> {
    if quote.ppid() != main.ppid() {
        return Err(DeploymentRejected::Platform {
            got: shown_hex(quote.ppid()),
            expected: shown_hex(main.ppid()),
        });
    }
    let (td, expected) = (quote.td(), main.td());
    if td.mrtd != expected.mrtd {
        return Err(DeploymentRejected::Mrtd {
            got: hex::encode(td.mrtd),
            expected: hex::encode(expected.mrtd),
        });
    }
    for (index, (got, expected)) in td.rtmr.iter().zip(&expected.rtmr).enumerate() {
        if got != expected {
            return Err(DeploymentRejected::Rtmr {
                index,
                got: hex::encode(got),
                expected: hex::encode(expected),
            });
        }
    }
    if td.mr_config_id != expected.mr_config_id {
        return Err(DeploymentRejected::MrConfigId {
            got: hex::encode(td.mr_config_id),
            expected: hex::encode(expected.mr_config_id),
        });
    }
    if !quote.same_td(main) {
        return Err(DeploymentRejected::TdBody {});
    }
    // The module's level follows from the TD. The other two depend on the PCK
    // certificate and the quoting enclave, of which a platform may have several.
    let (levels, expected) = (quote.levels(), main.levels());
    for (component, is_same) in [
        ("platform", levels.platform == expected.platform),
        ("qe", levels.qe == expected.qe),
    ] {
        if !is_same {
            return Err(DeploymentRejected::Levels { component });
        }
    }
    Ok(())
}
