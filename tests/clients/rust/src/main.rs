//! A workload that uses the crates `spiffe` and `spire-api`. What it is told and what it prints is said in
//! ../README.md.

mod api;
mod delegate;
mod say;
mod tls;

use std::env;
use std::error::Error;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    say::log();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["fetch", audience] => api::fetch(audience).await?,
        ["watch", audience] => api::watch(audience).await?,
        ["serve", peer] => tls::serve(peer).await?,
        ["delegate", uid, audience] => delegate::ask(uid, audience).await?,
        ["dial", port, peer] => tls::dial(port.parse()?, peer).await?,
        _ => return Err("unknown command".into()),
    }
    say::event("closed", &[]);
    Ok(())
}
