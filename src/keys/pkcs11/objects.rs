//! The objects of a token: which are keys, how they are made, read and destroyed.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};

use super::Pkcs11Error;
use super::token::Open;
use crate::der::{self, Reader, Writer};
use crate::keys::public::{P256, P384};
use crate::keys::{KeyAlgorithm, KeyKind, PublicKey, PublicKeyError, PublicParts};

/// What tells the pairs of one label apart, as `CKA_ID`: a count, which orders them, and random
/// bits, so that two generations at the same time do not share a pair.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Number([u8; 16]);

/// A key, or what is left of one.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) label: String,
    pub(super) number: Number,
    pub(super) private: Option<ObjectHandle>,
    pub(super) public: Option<ObjectHandle>,
}

impl Number {
    /// A number above that one.
    pub(super) fn after(last: Option<Self>) -> Result<Self, Pkcs11Error> {
        let last = last.and_then(|last| last.0.first_chunk().copied());
        let count = last.map_or(0, u64::from_be_bytes).saturating_add(1);
        let mut bytes = [0; 16];
        let (high, low) = bytes.split_at_mut(8);
        high.copy_from_slice(&count.to_be_bytes());
        rand::fill(low).map_err(|_unspecified| Pkcs11Error::Random)?;
        Ok(Self(bytes))
    }
}

impl Pair {
    /// Whether it can be used.
    pub(super) fn is_whole(&self) -> bool {
        self.private.is_some() && self.public.is_some()
    }
}

/// The pairs with this label, or with any. Objects that others made are left out.
pub(super) fn pairs(open: &Open, label: Option<&str>) -> Result<Vec<Pair>, Pkcs11Error> {
    let mut pairs = BTreeMap::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let mut template = vec![Attribute::Token(true), Attribute::Class(class)];
        template.extend(label.map(|label| Attribute::Label(label.as_bytes().to_vec())));
        for object in open.session().find_objects(&template)? {
            let Some((label, number)) = name(open, object)? else { continue };
            let new = || Pair { label: label.clone(), number, private: None, public: None };
            let pair: &mut Pair = pairs.entry((label.clone(), number)).or_insert_with(new);
            let half = if class == ObjectClass::PRIVATE_KEY {
                &mut pair.private
            } else {
                &mut pair.public
            };
            *half = Some(object);
        }
    }
    if pairs.is_empty() {
        // A token that is away may seem to be empty.
        open.confirm_presence()?;
    }
    Ok(pairs.into_values().collect())
}

/// Makes a pair, the private half of which signs, and can be neither read nor taken out.
pub(super) fn generate(
    open: &Open,
    label: &str,
    number: Number,
    algorithm: KeyAlgorithm,
) -> Result<(), Pkcs11Error> {
    let mut public = named(label, number);
    public.extend([Attribute::Private(false), Attribute::Verify(true)]);
    let mechanism = match algorithm {
        KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 => {
            let curve = if algorithm == KeyAlgorithm::EcP256 { P256 } else { P384 };
            public.push(Attribute::EcParams(curve_name(curve)));
            Mechanism::EccKeyPairGen
        }
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa4096 => {
            let bits = if algorithm == KeyAlgorithm::Rsa2048 { 2048 } else { 4096 };
            public.push(Attribute::ModulusBits(bits.into()));
            public.push(Attribute::PublicExponent(vec![1, 0, 1]));
            Mechanism::RsaPkcsKeyPairGen
        }
    };
    let mut private = named(label, number);
    private.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ]);
    open.session().generate_key_pair(&mechanism, &public, &private)?;
    Ok(())
}

/// Refuses a key that could be taken out of the token: some tokens make one whatever they are told.
pub(super) fn check_stays(open: &Open, pair: &Pair) -> Result<(), Pkcs11Error> {
    let private = pair.private.ok_or(Pkcs11Error::Gone)?;
    let wanted = [AttributeType::Sensitive, AttributeType::Extractable];
    let found = open.session().get_attributes(private, &wanted)?;
    let stays = found.contains(&Attribute::Sensitive(true))
        && found.contains(&Attribute::Extractable(false));
    if stays { Ok(()) } else { Err(Pkcs11Error::Extractable) }
}

/// The public half.
pub(super) fn public_key(open: &Open, pair: &Pair) -> Result<PublicKey, Pkcs11Error> {
    let object = pair.public.ok_or(Pkcs11Error::Gone)?;
    let wanted = [
        AttributeType::EcParams,
        AttributeType::EcPoint,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    let mut found = Found::default();
    for attribute in open.session().get_attributes(object, &wanted)? {
        found.take(attribute);
    }
    Ok(found.key()?)
}

/// Destroys a pair, the private half first: without it there is no key.
pub(super) fn destroy(open: &Open, pair: &Pair) -> Result<(), Pkcs11Error> {
    for object in [pair.private, pair.public].into_iter().flatten() {
        open.session().destroy_object(object)?;
    }
    Ok(())
}

/// Destroys the public half of a pair, so that only those still sign with it who know it.
pub(super) fn hide(open: &Open, pair: &Pair) -> Result<(), Pkcs11Error> {
    Ok(pair.public.map_or(Ok(()), |public| open.session().destroy_object(public))?)
}

/// What says of an object which key's it is, if it is one of ours.
fn name(open: &Open, object: ObjectHandle) -> Result<Option<(String, Number)>, Pkcs11Error> {
    let wanted = [AttributeType::Label, AttributeType::Id];
    let (mut label, mut number) = (None, None);
    for attribute in open.session().get_attributes(object, &wanted)? {
        if let Attribute::Label(bytes) = attribute {
            label = String::from_utf8(bytes).ok();
        } else if let Attribute::Id(bytes) = attribute {
            number = bytes.try_into().ok().map(Number);
        }
    }
    Ok(label.zip(number))
}

fn named(label: &str, number: Number) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(number.0.to_vec()),
    ]
}

fn curve_name(curve: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(16);
    writer.value(der::OID, curve);
    writer.finish()
}

/// What a token says of a public key.
#[derive(Debug, Default)]
struct Found {
    curve: Option<Vec<u8>>,
    point: Option<Vec<u8>>,
    modulus: Option<Vec<u8>>,
    exponent: Option<Vec<u8>>,
}

impl Found {
    fn take(&mut self, attribute: Attribute) {
        if let Attribute::EcParams(bytes) = attribute {
            self.curve = Some(bytes);
        } else if let Attribute::EcPoint(bytes) = attribute {
            self.point = Some(bytes);
        } else if let Attribute::Modulus(bytes) = attribute {
            self.modulus = Some(bytes);
        } else if let Attribute::PublicExponent(bytes) = attribute {
            self.exponent = Some(bytes);
        }
    }

    fn key(&self) -> Result<PublicKey, PublicKeyError> {
        if let (Some(curve), Some(point)) = (&self.curve, &self.point) {
            return ec_key(curve, point);
        }
        let (Some(n), Some(e)) = (&self.modulus, &self.exponent) else {
            return Err(PublicKeyError::Unsupported);
        };
        // How many bits it has is read from the key itself.
        PublicKey::from_parts(KeyKind::Rsa { bits: 0 }, PublicParts::Rsa { n, e })
    }
}

fn ec_key(curve: &[u8], point: &[u8]) -> Result<PublicKey, PublicKeyError> {
    let kinds = [(P256, KeyKind::EcP256, 65), (P384, KeyKind::EcP384, 97)];
    let kind = kinds.into_iter().find(|(name, ..)| curve_name(name) == curve);
    let (_, kind, length) = kind.ok_or(PublicKeyError::Unsupported)?;
    // PKCS #11 wants an octet string; some tokens give the point as it is.
    let point = match point.len() {
        bare if bare == length => point,
        _ => Reader::new(point).expect(der::OCTET_STRING)?,
    };
    let Some((4, coordinates)) = point.split_first() else {
        return Err(PublicKeyError::Malformed);
    };
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    PublicKey::from_parts(kind, PublicParts::Ec { x, y })
}
