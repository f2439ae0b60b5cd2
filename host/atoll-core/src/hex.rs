//! Bytes as hexadecimal digits, in lower case.

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| digits(*byte).map(char::from)).collect()
}

/// Writes two digits for each byte, as far as there is room.
pub fn write_hex(bytes: &[u8], to: &mut [u8]) {
    for (byte, place) in bytes.iter().zip(to.chunks_exact_mut(2)) {
        place.copy_from_slice(&digits(*byte));
    }
}

fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xF)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_two_digits() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
        assert_eq!(hex(&[]), "");
        let mut place = *b"....";
        write_hex(&[0x5e], &mut place);
        assert_eq!(&place, b"5e..");
    }
}
