//! Signs with a key in a token, in the forms that the rest of the system expects.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{self, SHA256, SHA384};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;

use super::Pkcs11Error;
use super::objects::{self, Number, Pair};
use super::token::{Epoch, Open, Token, knows_no_such_object};
use crate::der::{self, Writer};
use crate::keys::{KeyKind, Pace, PublicKey, Scheme, SignError, Signer};

/// What PKCS #1 v1.5 puts before a SHA-256 hash (RFC 8017 9.2).
const SHA256_DIGEST_INFO: &[u8] = &[
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// A key in a token.
#[derive(Debug)]
pub(super) struct TokenSigner {
    token: Arc<Token>,
    label: String,
    number: Number,
    public: PublicKey,
    /// Where the token keeps the key. What that number means ends with the epoch.
    place: Mutex<Option<(Epoch, ObjectHandle)>>,
}

/// What a token signs for a scheme: hashes, which every token takes and which are small.
struct Order {
    mechanism: Mechanism<'static>,
    input: Vec<u8>,
    /// How long the two numbers are that come back and have to be written as ASN.1.
    numbers: Option<usize>,
}

impl TokenSigner {
    pub(super) fn new(token: Arc<Token>, pair: &Pair, public: PublicKey) -> Self {
        let (label, number) = (pair.label.clone(), pair.number);
        Self { token, label, number, public, place: Mutex::new(None) }
    }

    pub(super) fn try_sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let order = Order::new(self.public.kind(), scheme, message)?;
        let signature = self.token.with(|open| {
            let place = self.place(open)?;
            match open.session().sign(&order.mechanism, place, &order.input) {
                // A token that was away has the key still, elsewhere.
                Err(error) if knows_no_such_object(&error) && self.find(open)?.is_none() => {
                    Err(Pkcs11Error::Gone)
                }
                signed => Ok(signed?),
            }
        })?;
        match order.numbers {
            Some(length) => asn1(&signature, length).ok_or(Pkcs11Error::Unproven),
            None => Ok(signature),
        }
    }

    fn place(&self, open: &Open) -> Result<ObjectHandle, Pkcs11Error> {
        let known = *self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((epoch, place)) = known
            && epoch == open.epoch()
        {
            return Ok(place);
        }
        let place = self.find(open)?.ok_or(Pkcs11Error::Gone)?;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some((open.epoch(), place));
        Ok(place)
    }

    fn find(&self, open: &Open) -> Result<Option<ObjectHandle>, Pkcs11Error> {
        let pairs = objects::pairs(open, Some(&self.label))?;
        let own = pairs.iter().find(|pair| pair.number == self.number);
        Ok(own.and_then(|pair| pair.private))
    }
}

impl Signer for TokenSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.try_sign(scheme, message).map_err(|error| match error {
            Pkcs11Error::Failed(ref cause) if !super::token::is_loss(cause) => SignError::Failed,
            Pkcs11Error::Unproven => SignError::Failed,
            Pkcs11Error::Failed(_)
            | Pkcs11Error::Module { .. }
            | Pkcs11Error::NoToken { .. }
            | Pkcs11Error::Ambiguous(_)
            | Pkcs11Error::Pin
            | Pkcs11Error::Locked
            | Pkcs11Error::LastTry
            | Pkcs11Error::Away
            | Pkcs11Error::Busy
            | Pkcs11Error::Gone
            | Pkcs11Error::PublicKey(_)
            | Pkcs11Error::Extractable
            | Pkcs11Error::Random => SignError::Unavailable,
        })
    }

    fn pace(&self) -> Pace {
        Pace::Slow
    }
}

impl Order {
    fn new(kind: KeyKind, scheme: Scheme, message: &[u8]) -> Result<Self, Pkcs11Error> {
        let (hash, length) = match kind {
            KeyKind::EcP256 => (&SHA256, 32),
            KeyKind::EcP384 => (&SHA384, 48),
            KeyKind::Rsa { .. } => (&SHA256, 0),
            // None is made here.
            KeyKind::EcP521 => return Err(Pkcs11Error::Unproven),
        };
        let hash = digest::digest(hash, message);
        let hash = hash.as_ref();
        Ok(match (kind, scheme) {
            (KeyKind::Rsa { .. }, Scheme::X509 | Scheme::Jws) => Self {
                mechanism: Mechanism::RsaPkcs,
                input: [SHA256_DIGEST_INFO, hash].concat(),
                numbers: None,
            },
            (KeyKind::Rsa { .. }, Scheme::Tls13) => Self {
                mechanism: Mechanism::RsaPkcsPss(PkcsPssParams {
                    hash_alg: MechanismType::SHA256,
                    mgf: PkcsMgfType::MGF1_SHA256,
                    s_len: 32.into(),
                }),
                input: hash.to_vec(),
                numbers: None,
            },
            (KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521, Scheme::X509 | Scheme::Tls13) => {
                Self { mechanism: Mechanism::Ecdsa, input: hash.to_vec(), numbers: Some(length) }
            }
            (KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521, Scheme::Jws) => {
                Self { mechanism: Mechanism::Ecdsa, input: hash.to_vec(), numbers: None }
            }
        })
    }
}

/// Turns two numbers of fixed length into an ASN.1 signature (RFC 3279 2.2.3).
fn asn1(numbers: &[u8], length: usize) -> Option<Vec<u8>> {
    let (r, s) = numbers.split_at_checked(length).filter(|(_, s)| s.len() == length)?;
    let mut writer = Writer::with_capacity(numbers.len() + 10);
    writer.nest(der::SEQUENCE, |w| {
        w.unsigned(r);
        w.unsigned(s);
    });
    Some(writer.finish())
}
