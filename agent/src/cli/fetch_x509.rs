//! `api fetch x509`: the X.509-SVIDs of this process, checked and printed or written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use clap::Args;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use steeple::atomic_file::Access;
use steeple::atomic_file::set::{self, Member};
use steeple::clock::{Clock as _, SystemClock, unix_seconds};
use steeple::id::SpiffeId;
use steeple::jwk;
use steeple::keys::{PrivateKey, Signer as _};
use steeple::shown;
use steeple::x509::verify::{AnchorSet, Anchors, Role, verify_peer};
use steeple::x509::{Certificate, Chain, pem, split_certificates};
use steeple_proto::workload::{X509svid, X509svidRequest, X509svidResponse};

use super::client::request;
use super::output::Output;
use super::{Connection, Format, directory, took};

/// The most authorities of a bundle that are looked at.
const MAX_AUTHORITIES: usize = 1_000;

/// What `api fetch x509` is told.
#[derive(Args, Debug)]
pub(super) struct FetchX509 {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// Write svid.N.pem, svid.N.key (mode 0600), bundle.N.pem and federated_bundle.N.M.pem here, all
    /// or none, in the place of those of an earlier run; svid.N.pem is written last, and whoever locks
    /// the directory while it reads (flock --shared DIR) sees files that belong together
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long)]
    silent: bool,
}

/// A message of the Workload API, read and checked.
pub(super) struct Checked {
    svids: Vec<Svid>,
    federated: Vec<(String, Vec<CertificateDer<'static>>)>,
    message: X509svidResponse,
}

struct Svid {
    id: SpiffeId,
    hint: String,
    chain: Chain,
    key: Vec<u8>,
    bundle: Vec<CertificateDer<'static>>,
}

impl FetchX509 {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let started = Instant::now();
        let client = self.connection.connect().await?;
        let mut api = client.workload_api();
        let first = async {
            let mut stream = api.fetch_x509svid(request(X509svidRequest {})).await?.into_inner();
            stream.message().await
        };
        let message = client.answer(first).await?.context("the agent closed the stream")?;
        let elapsed = started.elapsed();
        let checked = Checked::of(message, SystemClock.now())?;
        if !self.silent && self.format.output.is_json() {
            output.json(&checked.json())?;
        } else if !self.silent {
            checked.print(elapsed, output)?;
        }
        if let Some(directory) = directory(self.write.as_ref())? {
            checked.write(&directory, output, !self.silent && !self.format.output.is_json())?;
        }
        Ok(())
    }
}

impl Checked {
    /// Reads a message and checks every SVID against its key and its bundle.
    pub(super) fn of(message: X509svidResponse, now: SystemTime) -> anyhow::Result<Self> {
        let read = |(index, svid): (usize, &X509svid)| {
            Svid::of(svid, now)
                .with_context(|| format!("svid {index} ({}) is not valid", svid.spiffe_id))
        };
        let svids = message.svids.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let federated = |(name, der): (&String, &Vec<u8>)| {
            let bundle = certificates(der).with_context(|| format!("the bundle of {name}"))?;
            Ok::<_, anyhow::Error>((name.clone(), bundle))
        };
        let federated =
            message.federated_bundles.iter().map(federated).collect::<Result<_, _>>()?;
        Ok(Self { svids, federated, message })
    }

    pub(super) fn json(&self) -> Value {
        use base64::Engine as _;
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let svid = |svid: &X509svid| {
            json!({
                "spiffe_id": svid.spiffe_id,
                "x509_svid": base64(&svid.x509_svid),
                "x509_svid_key": base64(&svid.x509_svid_key),
                "bundle": base64(&svid.bundle),
                "hint": svid.hint,
            })
        };
        let federated = self.message.federated_bundles.iter();
        json!({
            "svids": self.message.svids.iter().map(svid).collect::<Vec<_>>(),
            "crl": self.message.crl.iter().map(|crl| base64(crl)).collect::<Vec<_>>(),
            "federated_bundles": federated
                .map(|(name, der)| (name.clone(), Value::from(base64(der))))
                .collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Prints what came after this time.
    pub(super) fn print(&self, elapsed: Duration, output: &mut Output) -> anyhow::Result<()> {
        let count = self.svids.len();
        let plural = if count == 1 { "" } else { "s" };
        output.line(&format!("Received {count} svid{plural} after {}", took(elapsed)))?;
        for svid in &self.svids {
            output.line("")?;
            svid.print(output)?;
            for (name, bundle) in &self.federated {
                for (index, certificate) in bundle.iter().enumerate() {
                    validity(
                        output,
                        &format!("[{}] CA #{} ", shown::plain(name), index + 1),
                        certificate,
                    )?;
                }
            }
        }
        Ok(())
    }

    fn write(&self, directory: &Path, output: &mut Output, tell: bool) -> anyhow::Result<()> {
        let (told, mut members): (Vec<_>, Vec<_>) = self.files().into_iter().unzip();
        let paths: Vec<_> = members.iter().map(|member| directory.join(&member.name)).collect();
        // Each certificate after all that it needs.
        members.reverse();
        set::replace(directory, &members, is_written)?;
        for (what, path) in told.iter().zip(&paths).filter(|_| tell) {
            let what = shown::plain(what);
            output.line(&format!("Writing {what} to file {}.", path.display()))?;
        }
        Ok(())
    }

    /// What is written, in the order in which SPIRE tells of it.
    fn files(&self) -> Vec<(String, Member)> {
        let file = |what: String, name: String, content: String| {
            let access = if name.ends_with(".key") { Access::Private } else { Access::Public };
            (what, Member { name, content: content.into(), access })
        };
        let mut files = Vec::new();
        for (n, svid) in self.svids.iter().enumerate() {
            let (bundle, key) = (jwk::pem::write(&svid.bundle), pem("PRIVATE KEY", &svid.key));
            files.push(file(format!("SVID #{n}"), format!("svid.{n}.pem"), svid.chain.to_pem()));
            files.push(file(format!("key #{n}"), format!("svid.{n}.key"), key));
            files.push(file(format!("bundle #{n}"), format!("bundle.{n}.pem"), bundle));
            for (m, (trust_domain, bundle)) in self.federated.iter().enumerate() {
                let what = format!("federated bundle #{m} for trust domain {trust_domain}");
                let name = format!("federated_bundle.{n}.{m}.pem");
                files.push(file(what, name, jwk::pem::write(bundle)));
            }
        }
        files
    }
}

/// Whether a file is one that an earlier run may have written.
fn is_written(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match *name.split('.').collect::<Vec<_>>() {
        ["svid", n, "pem" | "key"] | ["bundle", n, "pem"] => is_number(n),
        ["federated_bundle", n, m, "pem"] => is_number(n) && is_number(m),
        _ => false,
    }
}

impl Svid {
    fn of(svid: &X509svid, now: SystemTime) -> anyhow::Result<Self> {
        let id: SpiffeId = svid.spiffe_id.parse()?;
        let chain = Chain::from_concatenated(&svid.x509_svid)?;
        let bundle = certificates(&svid.bundle).context("its bundle")?;
        let anchors = AnchorSet::of(id.trust_domain().clone(), Anchors::new(&bundle));
        let peer = verify_peer(chain.certificates(), Role::Client, &anchors, now)?;
        if *peer.spiffe_id() != id {
            return Err(anyhow!("its certificate names {}", peer.spiffe_id()));
        }
        let key = PrivateKey::from_pkcs8(&svid.x509_svid_key)?;
        if Certificate::parse(chain.leaf())?.spki_der() != key.public_key().spki_der() {
            return Err(anyhow!("its key does not fit its certificate"));
        }
        let (hint, key) = (svid.hint.clone(), svid.x509_svid_key.clone());
        Ok(Self { id, hint, chain, key, bundle })
    }

    fn print(&self, output: &mut Output) -> anyhow::Result<()> {
        output.field("SPIFFE ID", self.id.as_str())?;
        if !self.hint.is_empty() {
            output.field("Hint", &shown::plain(&self.hint))?;
        }
        for (index, certificate) in self.chain.certificates().iter().enumerate() {
            let label = match index {
                0 => "SVID ".to_owned(),
                intermediate => format!("Intermediate #{intermediate} "),
            };
            validity(output, &label, certificate)?;
        }
        for (index, certificate) in self.bundle.iter().enumerate() {
            validity(output, &format!("CA #{} ", index + 1), certificate)?;
        }
        Ok(())
    }
}

fn validity(
    output: &mut Output,
    label: &str,
    certificate: &CertificateDer<'_>,
) -> anyhow::Result<()> {
    let certificate = Certificate::parse(certificate)?;
    let time = |time: SystemTime| shown::time(unix_seconds(time));
    output.field(&format!("{label}Valid After"), &time(certificate.not_before()))?;
    output.field(&format!("{label}Valid Until"), &time(certificate.not_after()))
}

/// The authorities of a bundle; none is an answer.
fn certificates(der: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(split_certificates(der, MAX_AUTHORITIES)?)
}
