//! Numbers and the checksum of a token, in base 36.

use std::fmt;

pub(super) const CHECKSUM_LENGTH: usize = 7;

/// Also accepts texts that [`Base36`] does not write: a sign, capitals, leading zeros.
pub(super) fn base36(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 36).ok()
}

/// A number in digits and small letters, so that readers that ignore the case of letters read the same number.
pub(super) struct Base36(pub(super) u64);

impl fmt::Display for Base36 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut digits = Vec::with_capacity(13);
        loop {
            digits.extend(char::from_digit(u32::try_from(rest % 36).unwrap_or_default(), 36));
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        f.pad_integral(true, "", &digits.iter().rev().collect::<String>())
    }
}

/// The CRC-32 of a text.
///
/// The checksum detects every change of one character and every swap of two neighbours (a burst of up to 32 bits),
/// and misses one in four thousand million other accidents. The length alone detects a token that was cut short: a
/// token has one `~`, with this many characters after it. The checksum is no protection against forging; a forger
/// gains nothing (see `CausalToken`).
pub(super) fn checksum(body: &str) -> String {
    format!("{:0width$}", Base36(crc32(body.as_bytes()).into()), width = CHECKSUM_LENGTH)
}

/// CRC-32/ISO-HDLC, as zip and Ethernet have it. One look-up for each byte: a client decides how long a text is and how
/// often it comes.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let [low, ..] = (crc ^ u32::from(*byte)).to_le_bytes();
        crc >> 8 ^ REMAINDERS[usize::from(low)]
    })
}

/// The remainder of each byte.
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(checksum("123456789"), "1kl8mjq");
        assert_eq!(checksum(""), "0000000");
    }

    #[test]
    fn the_largest_checksum_has_its_place() {
        assert_eq!(Base36(u32::MAX.into()).to_string().len(), CHECKSUM_LENGTH);
    }

    proptest! {
        #[test]
        fn a_number_comes_back(number in prop_oneof![any::<u64>(), 0..40_u64]) {
            let text = Base36(number).to_string();
            prop_assert_eq!(base36(&text), Some(number));
            prop_assert!(text == "0" || !text.starts_with('0'));
        }
    }
}
