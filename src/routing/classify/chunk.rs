//! Eight bytes of the text at once, as one number: the first byte is the lowest.

const HIGH_BITS: u64 = splat(0x80);

/// A number of eight equal bytes.
const fn splat(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The eight bytes from `at`; zero stands for what is behind the end.
#[inline]
pub(super) fn load(text: &[u8], at: usize) -> u64 {
    match text.get(at..at.wrapping_add(8)).map(<[u8; 8]>::try_from) {
        Some(Ok(chunk)) => u64::from_le_bytes(chunk),
        _ => last(text, at),
    }
}

#[cold]
fn last(text: &[u8], at: usize) -> u64 {
    of(text, at)
}

/// What [`load`] gives, byte by byte: for the compiler, and near the end.
pub(super) const fn of(text: &[u8], at: usize) -> u64 {
    let (mut chunk, mut ahead) = (0, 0);
    while ahead < 8 && at + ahead < text.len() {
        chunk |= (text[at + ahead] as u64) << (8 * ahead);
        ahead += 1;
    }
    chunk
}

/// The first `count` bytes of a chunk, zero for the others.
#[inline]
pub(super) const fn first(chunk: u64, count: usize) -> u64 {
    if count >= 8 { chunk } else { chunk & ((1 << (8 * count)) - 1) }
}

/// Letters in one case. Other bytes change too, but none of those that words are made of becomes another one.
#[inline]
pub(super) const fn fold(chunk: u64) -> u64 {
    chunk | splat(0x20)
}

/// How many bytes come before the lowest marked one.
#[inline]
const fn before_mark(marks: u64) -> usize {
    (marks.trailing_zeros() >> 3) as usize
}

/// Marks bytes that are zero: the lowest mark is right, those above it need not be.
#[inline]
const fn zeros(chunk: u64) -> u64 {
    chunk.wrapping_sub(splat(1)) & !chunk & HIGH_BITS
}

/// How many bytes at the beginning of a chunk go on a word: letters, digits, `_`, `$`, and all beyond ASCII.
#[inline]
pub(super) const fn word_bytes(chunk: u64) -> usize {
    // Within seven bits no sum runs over into the next byte.
    let ascii = chunk & !HIGH_BITS;
    let folded = fold(ascii);
    let letter = (folded + splat(0x80 - b'a')) & !(folded + splat(0x7F - b'z'));
    let digit = (ascii + splat(0x80 - b'0')) & !(ascii + splat(0x7F - b'9'));
    let no_mark = ((ascii ^ splat(b'_')) + splat(0x7F)) & ((ascii ^ splat(b'$')) + splat(0x7F));
    before_mark(!(letter | digit | chunk) & no_mark & HIGH_BITS)
}

/// The place of the first `byte`, which is not NUL, from `at`.
#[inline]
pub(super) fn find(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    find_either(text, at, byte, byte)
}

/// The place of the first of two bytes, which are not NUL, from `at`.
#[inline]
pub(super) fn find_either(text: &[u8], mut at: usize, one: u8, other: u8) -> Option<usize> {
    while at < text.len() {
        let chunk = load(text, at);
        let marks = zeros(chunk ^ splat(one)) | zeros(chunk ^ splat(other));
        if marks != 0 {
            return Some(at + before_mark(marks));
        }
        at += 8;
    }
    None
}

/// The place behind the first `quote` from `at`; a doubled one stands for itself and ends nothing.
#[inline]
pub(super) fn find_close(text: &[u8], mut at: usize, quote: u8) -> Option<usize> {
    loop {
        let end = find(text, at, quote)? + 1;
        if text.get(end) != Some(&quote) {
            return Some(end);
        }
        at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{find_either, load, word_bytes};

    #[test]
    fn the_bytes_of_words_are_told_from_all_others() {
        for byte in 0..=u8::MAX {
            let is_word = byte.is_ascii_alphanumeric() || byte >= 0x80 || b"_$".contains(&byte);
            for before in 0..8 {
                for (with, after) in [(b'a', 0), (b'_', b'a'), (0xFF, 0x7F), (b'9', b' ')] {
                    let mut text = [after; 8];
                    text[..before].fill(with);
                    text[before] = byte;
                    let words = text[before..]
                        .iter()
                        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte >= 0x80 || b"_$".contains(byte));
                    assert_eq!(word_bytes(load(&text, 0)), before + words.count());
                    assert_eq!(word_bytes(load(&text, 0)) > before, is_word);
                }
            }
        }
    }

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            for at in 0..length {
                for (filler, byte) in [(b'x', b'"'), (b'#', b'"'), (b'!', b'"'), (0xA2, b'"')] {
                    let mut text = vec![filler; length];
                    text[at] = byte;
                    for from in 0..length + 9 {
                        let place = (from <= at).then_some(at);
                        assert_eq!(find_either(&text, from, byte, b'\\'), place);
                        assert_eq!(find_either(&text, from, b'\\', byte), place);
                    }
                }
            }
        }
    }
}
