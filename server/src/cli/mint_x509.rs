//! `x509 mint`: an X.509-SVID without an entry. The key is made here and never leaves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use steeple::atomic_file::Access;
use steeple::atomic_file::set::{self, Member};
use steeple::clock::{Clock as _, SystemClock, unix_seconds};
use steeple::id::SpiffeId;
use steeple::jwk;
use steeple::keys::{KeyAlgorithm, Pkcs8, PrivateKey, Signer as _};
use steeple::shown;
use steeple::x509::csr::{self, Wish};
use steeple::x509::{Certificate, Chain, Name, X509Svid, pem};
use steeple_proto::spire::api::server::bundle::v1::GetBundleRequest;
use steeple_proto::spire::api::server::svid::v1::MintX509svidRequest;
use steeple_proto::spire::api::types;

use super::args::Seconds;
use super::client::Client;
use super::output::Output;
use super::{Connection, Format, json};

/// By how much a lifetime may differ from what was asked for without a word.
const SLACK: Duration = Duration::from_secs(60);

/// A name that names nobody: the identity is in the SPIFFE ID.
const NO_SUBJECT: &[u8] = &[0x30, 0x00];

/// What can be done with X.509-SVIDs.
#[derive(Debug, Subcommand)]
pub(super) enum X509 {
    /// Make a key and have an X.509-SVID signed for it
    Mint(Mint),
}

/// What `x509 mint` is told.
#[derive(Args, Debug)]
pub(super) struct Mint {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The identity
    #[arg(long, value_name = "SPIFFE ID", alias = "spiffeID")]
    spiffe_id: SpiffeId,
    /// How long the SVID is valid, in seconds or as 1h; the server's default if not said
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    ttl: Seconds,
    /// A DNS name for the certificate; may be repeated
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// Write svid.pem, key.pem (mode 0600) and bundle.pem here instead of printing them, all or none;
    /// svid.pem is written last, and whoever locks the directory while it reads (flock --shared DIR)
    /// sees files that belong together
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

struct Minted {
    svid: X509Svid,
    key: Pkcs8,
    roots: Vec<CertificateDer<'static>>,
}

impl X509 {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Mint(mint) => mint.run(output).await,
        }
    }
}

impl Mint {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        if let Some(directory) = &self.write {
            // Before anything is signed that then could not be kept.
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        }
        let client = self.connection.connect(output).await?;
        let minted = self.mint(&client).await?;
        self.tell_if_capped(&minted.svid, output)?;
        match &self.write {
            Some(directory) => minted.write(directory, self.format.output.is_json(), output)?,
            None if !self.format.output.is_json() => minted.print(output)?,
            None => {}
        }
        if self.format.output.is_json() {
            // SPIRE's tools print what is no message as an array.
            output.json(&json!([minted.json()]))?;
        }
        Ok(())
    }

    async fn mint(&self, client: &Client) -> anyhow::Result<Minted> {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256)?;
        let subject = Name::from_der(NO_SUBJECT).context("an empty name")?;
        let wish =
            Wish { subject: &subject, spiffe_id: Some(&self.spiffe_id), dns_names: &self.dns };
        let request = MintX509svidRequest { csr: csr::make(&key, &wish)?, ttl: self.ttl.0 };
        let answer = client.answer(client.svids().mint_x509svid(request)).await;
        let answer = answer.with_context(|| format!("no SVID for {}", self.spiffe_id))?;
        let svid = self.check(answer.svid.unwrap_or_default(), &key)?;
        let request = GetBundleRequest { output_mask: None };
        let bundle = client.answer(client.bundles().get_bundle(request)).await?;
        let roots = bundle.x509_authorities.into_iter();
        Ok(Minted {
            svid,
            key: key.pkcs8()?,
            roots: roots.map(|root| CertificateDer::from(root.asn1)).collect(),
        })
    }

    /// What came is what was asked for.
    fn check(&self, svid: types::X509svid, key: &PrivateKey) -> anyhow::Result<X509Svid> {
        let chain = svid.cert_chain.into_iter().map(CertificateDer::from).collect();
        let svid = X509Svid::new(Chain::new(chain)?).context("the server signed no SVID")?;
        if *svid.spiffe_id() != self.spiffe_id {
            bail!("the server signed for {}", svid.spiffe_id());
        }
        if Certificate::parse(svid.chain().leaf())?.spki_der() != key.public_key().spki_der() {
            bail!("the server signed for another key");
        }
        Ok(svid)
    }

    fn tell_if_capped(&self, svid: &X509Svid, output: &mut Output) -> anyhow::Result<()> {
        let asked = Duration::from_secs(u64::try_from(self.ttl.0).unwrap_or_default());
        if svid.not_after() + SLACK < SystemClock.now() + asked {
            let end = shown::time(unix_seconds(svid.not_after()));
            output.note(&format!(
                "X509-SVID lifetime was capped shorter than specified ttl; expires {end}"
            ))?;
        }
        Ok(())
    }
}

impl Minted {
    fn print(&self, output: &mut Output) -> anyhow::Result<()> {
        let key = pem("PRIVATE KEY", self.key.expose());
        let (svid, roots) = (self.svid.chain().to_pem(), jwk::pem::write(&self.roots));
        output.line(&format!("X509-SVID:\n{svid}\nPrivate key:\n{key}\nRoot CAs:\n{roots}"))
    }

    fn write(&self, directory: &Path, quietly: bool, output: &mut Output) -> anyhow::Result<()> {
        let key = pem("PRIVATE KEY", self.key.expose());
        let file = |what, name: &str, content: String, access| {
            (what, Member { name: name.to_owned(), content: content.into(), access })
        };
        let files = [
            file("X509-SVID", "svid.pem", self.svid.chain().to_pem(), Access::Public),
            file("Private key", "key.pem", key, Access::Private),
            file("Root CAs", "bundle.pem", jwk::pem::write(&self.roots), Access::Public),
        ];
        let (told, mut members): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let paths: Vec<_> = members.iter().map(|member| directory.join(&member.name)).collect();
        // The certificate after all that it needs.
        members.reverse();
        set::replace(directory, &members, |_| false)?;
        for (what, path) in told.iter().zip(&paths).filter(|_| !quietly) {
            output.line(&format!("{what} written to {}", path.display()))?;
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let certificate = |certificate: &CertificateDer<'static>| json::bytes(certificate);
        json!({
            "x509_svid": json::array(self.svid.chain().certificates(), certificate),
            "private_key": json::bytes(self.key.expose()),
            "root_cas": json::array(&self.roots, certificate),
        })
    }
}
