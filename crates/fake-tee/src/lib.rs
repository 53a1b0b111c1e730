//! A throw-away TEE for tests and demonstrations: an Intel-shaped PKI, TDX quotes,
//! collateral, a dstack-shaped KMS, and whole attestation reports in the shape of a
//! NEAR AI completions backend. Nothing in it is secret and nothing in it is real.
//!
//! A [`Spec`] describes a valid machine. A test changes one thing, either a field
//! or, through [`Hooks`], the value at one stage, and [`Spec::forge`] derives and
//! signs the rest:
//!
//! ```
//! use fake_tee::{Challenge, Spec};
//!
//! let mut spec = Spec::new(1_800_000_000)?;
//! spec.td.td_attributes[0] |= 1; // a debug TD, properly signed
//! let built = spec.forge(&Challenge { nonce: [7; 32], spki_sha256: [9; 32] })?;
//! assert!(built.report["intel_quote"].is_string());
//! # Ok::<(), fake_tee::Error>(())
//! ```
//!
//! The formulas here are written from the specifications a second time: this crate
//! does not depend on the verifier that it tests.

pub mod acpi;
pub mod attestation;
mod challenge;
pub mod cli;
pub mod collateral;
pub mod compose_file;
pub mod deployment;
pub mod encode;
mod error;
pub mod event_log;
mod forge;
pub mod gpu;
pub mod hash;
mod hooks;
pub mod image;
pub mod keys;
pub mod kms;
pub mod nras;
mod ohttp;
pub mod pki;
pub mod platform;
mod policy;
pub mod quote;
pub mod serve;
mod signing;
mod spec;
pub mod tags;
pub mod tamper;
mod vm_config;

pub use attestation::CertForm;
pub use challenge::Challenge;
pub use deployment::ComposeManager;
pub use error::Error;
pub use forge::Built;
pub use hooks::{Hook, Hooks};
pub use image::Image;
pub use kms::Kms;
pub use ohttp::Ohttp;
pub use pki::{Pki, Signer};
pub use policy::refusing;
pub use quote::QuoteFormat;
pub use rcgen;
pub use signing::{Signing, SigningAlgo};
pub use spec::{App, MrConfig, Overrides, Signers, Spec};
pub use vm_config::VmConfig;
