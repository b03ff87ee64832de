//! The Workload API: each of its calls, and both of the crate's sources.

use spiffe::{JwtSource, JwtSvid, WorkloadApiClient, X509Source};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

use crate::{Result, say};

pub async fn fetch(audience: &str) -> Result<()> {
    let client = WorkloadApiClient::connect_env().await?;
    if let Some(context) = say::answer("x509", client.fetch_x509_context().await) {
        say::x509(&context);
    }
    if let Some(bundles) = say::answer("x509_bundles", client.fetch_x509_bundles().await) {
        say::event("x509_bundles", &[("bundles", say::x509_bundles(&bundles))]);
    }
    if let Some(bundles) = say::answer("jwt_bundles", client.fetch_jwt_bundles().await) {
        say::jwt_bundles(&bundles);
    }
    let svids = client.fetch_all_jwt_svids([audience], None).await;
    for svid in say::answer("jwt", svids).unwrap_or_default() {
        token(&client, audience, &svid).await?;
        let another = format!("{audience}-of-another");
        say::answer("validate", client.validate_jwt_token(&another, svid.token()).await);
    }
    Ok(())
}

pub async fn watch(audience: &str) -> Result<()> {
    let x509 = X509Source::new().await?;
    let jwt = JwtSource::new().await?;
    let client = WorkloadApiClient::connect_env().await?;
    let mut x509_updates = x509.updated();
    let mut jwt_updates = jwt.updated();
    let mut lines = BufReader::new(stdin()).lines();
    say::x509(&*x509.x509_context()?);
    say::jwt_bundles(&*jwt.bundle_set()?);
    loop {
        tokio::select! {
            // An identity that was withdrawn is an update, too, and has no context.
            update = x509_updates.changed() => match update {
                Ok(_) => if let Ok(context) = x509.x509_context() { say::x509(&context) },
                Err(error) => return ended(&error.to_string()),
            },
            update = jwt_updates.changed() => match update {
                Ok(_) => if let Ok(bundles) = jwt.bundle_set() { say::jwt_bundles(&bundles) },
                Err(error) => return ended(&error.to_string()),
            },
            // Each line is a wish for a token, to be checked with bundles as new as it is.
            line = lines.next_line() => {
                if line?.is_none() { break }
                let svid = client.fetch_jwt_svid([audience], None).await;
                if let Some(svid) = say::answer("jwt", svid) {
                    token(&client, audience, &svid).await?;
                }
            }
        }
    }
    x509.shutdown().await;
    jwt.shutdown().await;
    Ok(())
}

fn ended(error: &str) -> Result<()> {
    say::event("ended", &[("error", error.into())]);
    Ok(())
}

/// Has a token checked by the agent. The crate checks signatures itself only with features that
/// weigh more than all the rest, so that here it finds the key and no more.
async fn token(client: &WorkloadApiClient, audience: &str, svid: &JwtSvid) -> Result<()> {
    let bundles = client.fetch_jwt_bundles().await?;
    let bundle = bundles.get(&svid.spiffe_id().trust_domain()).ok_or("no bundle")?;
    bundle.find_jwt_authority(svid.key_id()).ok_or("no such key")?;
    let by_agent = client.validate_jwt_token(audience, svid.token()).await?;
    let id = svid.spiffe_id().to_string();
    say::event(
        "jwt",
        &[
            ("id", id.clone().into()),
            ("token", svid.token().into()),
            ("locally", id.into()),
            ("by_agent", by_agent.spiffe_id().to_string().into()),
        ],
    );
    Ok(())
}
