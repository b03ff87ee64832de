//! The Huffman code of HPACK (RFC 7541 5.2 and appendix B), decoding only.
//!
//! The code is canonical: it follows from the lengths of the code words alone, so the lengths are
//! all that is written down here.

use super::HpackError;

/// The symbol that ends a string and must never be in one.
const END: u16 = 256;
/// How many different lengths code words have.
const ROWS: usize = 21;
/// No code word is longer than what a window holds.
const WINDOW: u32 = 32;

/// All code words of one length, as the values of a window that begins with one of them.
#[derive(Clone, Copy)]
struct Row {
    bits: u32,
    first: u64,
    last: u64,
    /// Where the symbols of this row begin in `Code::symbols`.
    offset: u64,
}

struct Code {
    rows: [Row; ROWS],
    symbols: [u16; 257],
}

/// The length in bits of the code word of each octet, and of the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

static CODE: Code = code();

/// Appends what `input` stands for to `out`.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let mut octets = input.iter();
    // The lowest `ready` bits of `pending` are what was read and not yet decoded.
    let (mut pending, mut ready) = (0_u64, 0_u32);
    loop {
        while ready <= WINDOW
            && let Some(octet) = octets.next()
        {
            pending = (pending << 8) | u64::from(*octet);
            ready += 8;
        }
        if ready == 0 {
            return Ok(());
        }
        let window = window(pending, ready);
        let row = CODE.rows.iter().find(|row| window <= row.last).ok_or(HpackError::Huffman)?;
        if row.bits > ready {
            // What is left must be padding: less than an octet, and all ones (RFC 7541 5.2).
            let ones = ready < 8 && window == low_bits(WINDOW);
            return if ones { Ok(()) } else { Err(HpackError::Huffman) };
        }
        ready -= row.bits;
        let index = row.offset + ((window - row.first) >> (WINDOW - row.bits));
        let symbol = usize::try_from(index).ok().and_then(|index| CODE.symbols.get(index));
        // The end symbol is no octet, and a string that holds it is refused (RFC 7541 5.2).
        let octet = symbol.and_then(|symbol| u8::try_from(*symbol).ok());
        out.push(octet.ok_or(HpackError::Huffman)?);
    }
}

/// The next 32 bits, filled up with ones behind the end of the input.
fn window(pending: u64, ready: u32) -> u64 {
    let bits = match ready.checked_sub(WINDOW) {
        Some(later) => pending >> later,
        None => (pending << (WINDOW - ready)) | low_bits(WINDOW - ready),
    };
    bits & low_bits(WINDOW)
}

const fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}

/// Gives out the code words: shorter ones first, equally long ones in the order of their symbols.
#[expect(clippy::indexing_slicing, reason = "runs in the compiler only")]
const fn code() -> Code {
    let mut code =
        Code { rows: [Row { bits: 0, first: 0, last: 0, offset: 0 }; ROWS], symbols: [END; 257] };
    let (mut next, mut row, mut given) = (0_u64, 0, 0);
    let mut bits = 5;
    while bits <= 30 {
        let offset = given;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as u32 == bits {
                code.symbols[given] = symbol as u16;
                given += 1;
            }
            symbol += 1;
        }
        if given > offset {
            let first = next;
            next += ((given - offset) as u64) << (WINDOW - bits);
            code.rows[row] = Row { bits, first, last: next - 1, offset: offset as u64 };
            row += 1;
        }
        bits += 1;
    }
    assert!(row == ROWS && given == LENGTHS.len() && next == 1 << WINDOW);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &[u8], expected: Result<&[u8], HpackError>) {
        let mut out = Vec::new();
        let result = decode(input, &mut out);
        assert_eq!(result.map(|()| out.as_slice()), expected);
    }

    /// Encodes by the same table, so it proves only that decoding turns it around; the vectors of
    /// RFC 7541 prove the table.
    fn encode(symbols: &[u16]) -> Vec<u8> {
        let mut bits = String::new();
        for symbol in symbols {
            let at = CODE.symbols.iter().position(|s| s == symbol).unwrap() as u64;
            let row = CODE.rows.iter().rev().find(|row| row.offset <= at).unwrap();
            let word = (row.first >> (WINDOW - row.bits)) + at - row.offset;
            bits += &format!("{word:0width$b}", width = row.bits as usize);
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        (0..bits.len())
            .step_by(8)
            .map(|i| u8::from_str_radix(&bits[i..i + 8], 2).unwrap())
            .collect()
    }

    #[test]
    fn strings_of_rfc_7541_appendix_c_decode() {
        check(&[], Ok(b""));
        check(
            &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
            Ok(b"www.example.com"),
        );
        check(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], Ok(b"no-cache"));
        check(&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], Ok(b"custom-key"));
        check(&[0x64, 0x02], Ok(b"302"));
        check(&[0x9b, 0xd9, 0xab], Ok(b"gzip"));
    }

    #[test]
    fn every_octet_decodes_alone_and_among_others() {
        let all: Vec<u16> = (0..256).collect();
        let octets: Vec<u8> = (0..=255).collect();
        check(&encode(&all), Ok(&octets));
        for octet in 0..=255_u8 {
            check(&encode(&[u16::from(octet)]), Ok(&[octet]));
            check(
                &encode(&[u16::from(b'0'), u16::from(octet), u16::from(b'~')]),
                Ok(&[b'0', octet, b'~']),
            );
        }
    }

    #[test]
    fn the_end_symbol_and_wrong_padding_are_refused() {
        check(&[0xff, 0xff, 0xff, 0xff], Err(HpackError::Huffman)); // the end symbol
        check(&encode(&[u16::from(b'a'), END, u16::from(b'a')]), Err(HpackError::Huffman));
        check(&[0xff], Err(HpackError::Huffman)); // eight bits of padding
        check(&[0x1f, 0xff], Err(HpackError::Huffman)); // eleven
        check(&[0x1f], Ok(b"a")); // the control: three
        check(&[0x18], Err(HpackError::Huffman)); // padded with zeros
        check(&[0x1e], Err(HpackError::Huffman)); // 110
    }
}
