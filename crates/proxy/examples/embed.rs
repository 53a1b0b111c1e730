//! A program that embeds the proxy, on port 8080:
//!
//! ```sh
//! cargo run -p proxy --example embed
//! ```
//!
//! Against simulated backends: start `fake-tee` as README says, and name its folder.

use std::error::Error;
use std::path::Path;

use attest::{GpuAnchors, Policy, TrustAnchors};
use proxy::shutdown::Signals;
use proxy::{Config, core_dumps, descriptors};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use verified_proxy_port as proxy;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    core_dumps::disable();
    descriptors::raise();
    let config = match std::env::args().nth(1) {
        None => Config {
            state_dir: Some("embed-state".into()),
            ..Config::new(Policy::near())
        },
        Some(folder) => simulated(Path::new(&folder))?,
    };
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    let signals = Signals::catch(|| std::process::exit(1));
    proxy::run(config, listener, signals.came(1)).await?;
    Ok(())
}

/// What differs if the backends are those of `fake-tee`. DANGER: its root is trusted.
fn simulated(folder: &Path) -> Result<Config, Box<dyn Error>> {
    let read = |name: &str| std::fs::read(folder.join(name));
    let fake = "http://127.0.0.1:8081";
    let policy = String::from_utf8(read("policy.toml")?)?;
    Ok(Config {
        endpoints_url: format!("{fake}/endpoints").parse()?,
        collateral_sources: vec![fake.parse()?],
        compose_source: format!("{fake}/compose").parse()?,
        compose_tags_source: format!("{fake}/compose.git").parse()?,
        nras_url: fake.parse()?,
        extra_ca: vec![CertificateDer::from_pem_slice(&read("tls-ca.pem")?)?],
        connect_to: vec!["fake-llama.completions.near.ai:443:127.0.0.1:8443".parse()?],
        trust_anchors: TrustAnchors::danger_tdx_root(read("tdx-root.der")?)
            .with_gpus(GpuAnchors::danger_gpu_root(read("gpu-root.der")?)),
        ..Config::new(Policy::from_toml(&policy)?)
    })
}
