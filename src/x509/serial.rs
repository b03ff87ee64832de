//! Serial numbers of certificates.

use std::fmt;

use super::hex;

/// A positive number of at most 20 bytes (RFC 5280 4.1.2.2).
///
/// It prints as a decimal number, which is how SPIRE's API and databases write it.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Serial {
    length: u8,
    bytes: [u8; 20],
}

impl Serial {
    /// A number from its big-endian bytes, of which leading zeros do not count.
    pub(super) fn from_be_bytes(bytes: &[u8]) -> Option<Self> {
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let digits = bytes.get(zeros..)?;
        // Twenty bytes have room for a sign bit.
        let fits = digits.len() < 20 || digits.first().is_some_and(|byte| byte & 0x80 == 0);
        if digits.is_empty() || !fits {
            return None;
        }
        let mut serial = Self { length: u8::try_from(digits.len()).ok()?, bytes: [0; 20] };
        serial.bytes.get_mut(..digits.len())?.copy_from_slice(digits);
        Some(serial)
    }

    /// The number, big-endian, without leading zeros.
    #[must_use]
    pub fn as_be_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The number in lower-case hexadecimal, two digits a byte.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(self.as_be_bytes())
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = self.as_be_bytes().to_vec();
        let mut digits = Vec::new();
        while number.iter().any(|&byte| byte != 0) {
            let mut remainder = 0;
            for byte in &mut number {
                let value = remainder << 8 | u16::from(*byte);
                *byte = u8::try_from(value / 10).unwrap_or(0);
                remainder = value % 10;
            }
            digits.push(char::from(b'0' + u8::try_from(remainder).unwrap_or(0)));
        }
        f.pad(&digits.into_iter().rev().collect::<String>())
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}
