//! dstack's part: what a guest of it boots, measures, and has certified.

pub(crate) mod app_cert;
pub(crate) mod app_compose;
pub(crate) mod event_log;
pub mod image;
pub(crate) mod machine;
pub(crate) mod mr_config;
pub(crate) mod rtmr0;
pub(crate) mod vm_config;
