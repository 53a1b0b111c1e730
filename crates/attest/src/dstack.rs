//! dstack's part: what its guests boot and measure, and the identity that its KMS
//! certifies.

pub(crate) mod app_cert;
pub(crate) mod app_compose;
pub(crate) mod event_log;
pub mod image;
pub(crate) mod machine;
pub(crate) mod mr_config;
pub(crate) mod rtmr0;
pub(crate) mod vm_config;
