//! JWT-SVIDs (SPIFFE JWT-SVID): [`make`], [`parse`], [`verify`], and the [`keys`] to do so with.
//!
//! The JOSE layer is written out here because a JWT-SVID allows so little of it: one
//! serialisation, nine algorithms, three headers. What a general library would tolerate (an
//! unknown `crit`, a missing audience, a token that can be spelled in two ways) is refused.

use std::fmt;
use std::time::Duration;

use crate::json::Limits;

pub mod claims;
pub mod keys;
pub mod make;
pub mod parse;
pub mod verify;

#[cfg(test)]
pub(crate) mod testing;

/// The longest token in bytes that is made or read. Header lists of gRPC and HTTP servers are
/// seldom allowed to be larger, so a longer one could not be used anyway.
pub const MAX_TOKEN_LENGTH: usize = 16 * 1024;

/// How long after `exp` a token is still accepted, for clocks that differ.
pub const EXPIRY_LEEWAY: Duration = Duration::from_secs(30);

/// How far `nbf` and `iat` may lie in the future, for clocks that differ.
pub const START_LEEWAY: Duration = Duration::from_secs(60);

/// How many keys are tried for a token that names none.
pub const MAX_KEY_TRIALS: usize = 8;

/// What one part of a token may hold.
const LIMITS: Limits = Limits { bytes: MAX_TOKEN_LENGTH, depth: 16, values: 2048 };

/// A signature algorithm that JWT-SVID 2.1 allows, as the `alg` header names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// ECDSA with P-521 and SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// The algorithm of that name, compared exactly.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The value of the `alg` header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The beginning of a text that somebody else chose, quoted and escaped, for an error message: a
/// message that repeats it all would not fit the headers of a gRPC answer.
#[derive(Clone, Eq, PartialEq)]
pub struct Excerpt {
    text: String,
    cut: bool,
}

impl Excerpt {
    const CHARACTERS: usize = 64;

    /// The beginning of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut characters = text.chars();
        let text = characters.by_ref().take(Self::CHARACTERS).collect();
        Self { text, cut: characters.next().is_some() }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.text, if self.cut { "…" } else { "" })
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
