//! What TCB info and QE identity state about themselves. Nothing is verified here.

use super::floors::Document;
use crate::base::identifiers::UnixTime;

/// Edition and date of a TCB info or QE identity.
pub(crate) fn document(json: &str) -> Option<Document> {
    serde_json::from_str::<Dated>(json).ok()?.document()
}

/// `nextUpdate` of a TCB info or QE identity, as written.
pub(crate) fn next_update(json: &str) -> Option<UnixTime> {
    let dated: Dated = serde_json::from_str(json).ok()?;
    UnixTime::from_rfc3339(&dated.next_update)
}

/// `issueDate` of a TCB info or QE identity, as written.
pub(crate) fn issued(json: &str) -> Option<UnixTime> {
    let dated: Dated = serde_json::from_str(json).ok()?;
    UnixTime::from_rfc3339(&dated.issue_date)
}

/// `pceId` of a TCB info.
pub(crate) fn pce_id(json: &str) -> Option<String> {
    serde_json::from_str::<Dated>(json).ok()?.pce_id
}

/// What TCB info and QE identity have in common.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dated {
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) issue_date: String,
    pub(crate) next_update: String,
    #[serde(default)]
    pub(crate) fmspc: Option<String>,
    #[serde(default)]
    pub(crate) pce_id: Option<String>,
    #[serde(rename = "tcbEvaluationDataNumber")]
    pub(crate) evaluation_number: Option<u32>,
}

impl Dated {
    pub(crate) fn document(&self) -> Option<Document> {
        Some(Document {
            edition: self.evaluation_number?,
            issued: UnixTime::from_rfc3339(&self.issue_date)?,
        })
    }
}
