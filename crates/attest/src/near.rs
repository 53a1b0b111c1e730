//! NEAR AI's part: the report's format, what it binds, and the log of its deployments.

pub(crate) mod binding;
pub(crate) mod copies;
pub(crate) mod deployment;
pub(crate) mod evidence;
pub(crate) mod keys;
