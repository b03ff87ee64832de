//! The limit *raw*: the cryptography alone, by the library that Steeple uses, in a process of its
//! own.

use std::io::BufRead as _;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    ParsedPublicKey, UnparsedPublicKey,
};

use crate::meter::Meter;
use crate::process::Helper;

/// As long as what is signed of a certificate.
const MESSAGE: [u8; 400] = [7; 400];

/// Something that is done with a key of the curve P-256.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// A signature is made.
    Sign,
    /// A signature is checked with a key that was not seen before.
    Verify,
    /// A signature is checked with a key that is ready for it.
    VerifyKnown,
}

/// The process that does it.
#[derive(Debug)]
pub(crate) struct Raw {
    helper: Helper,
    meter: Meter,
}

impl Work {
    const fn name(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::VerifyKnown => "verify-known",
        }
    }
}

impl Raw {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let helper = Helper::start(&["raw"])?;
        let meter = helper.meter();
        Ok(Self { helper, meter })
    }

    /// What one takes, in nanoseconds.
    pub(crate) async fn each(&mut self, work: Work, times: u32) -> anyhow::Result<f64> {
        let question = format!("{} {times}", work.name());
        let helper = &mut self.helper;
        let all = self.meter.each(1, async |_| helper.ask(&question).map(drop)).await?;
        Ok(all / f64::from(times))
    }
}

/// The process itself: for each line such as `sign 100` does that and says when.
pub(crate) fn serve() -> anyhow::Result<()> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    let signature = key.sign(&random, &MESSAGE)?;
    let public = key.public_key().as_ref();
    let known = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public)
        .map_err(|error| anyhow!("a public key: {error}"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (work, times) = line.split_once(' ').context("a line without a number")?;
        for _ in 0..times.parse::<u32>()? {
            match work {
                "sign" => drop(key.sign(&random, &MESSAGE)?),
                "verify" => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public)
                    .verify(&MESSAGE, signature.as_ref())?,
                "verify-known" => known.verify_sig(&MESSAGE, signature.as_ref())?,
                other => anyhow::bail!("no work is called {other}"),
            }
        }
        crate::cli::say("done")?;
    }
    Ok(())
}
