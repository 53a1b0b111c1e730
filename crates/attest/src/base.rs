//! Values and readers that every part uses. Nothing here knows of evidence.

pub(crate) mod advisories;
pub(crate) mod exception;
pub(crate) mod finding;
pub(crate) mod hash;
pub(crate) mod hex;
pub(crate) mod identifiers;
pub(crate) mod json;
pub(crate) mod levels;
pub(crate) mod tcb;
pub(crate) mod text;
pub(crate) mod x509;
