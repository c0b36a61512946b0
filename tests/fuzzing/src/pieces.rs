//! Inputs of several parts: each part stands behind its length, in two bytes.
//!
//! Any bytes are such a list, so that whatever is changed in one, it stays one.

/// The parts of an input. The last one is what is left, where that is shorter than it should be.
pub fn pieces(mut input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        pieces.push(piece);
        input = rest;
    }
    pieces
}

/// The input of these parts.
///
/// # Panics
/// Where one is longer than 64 KiB.
pub fn join<P: AsRef<[u8]>>(pieces: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut input = Vec::new();
    for piece in pieces {
        let piece = piece.as_ref();
        let length = u16::try_from(piece.len()).expect("parts are short");
        input.extend_from_slice(&length.to_le_bytes());
        input.extend_from_slice(piece);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_and_any_bytes_are_parts() {
        let input = join(["a", "", "bc"]);
        assert_eq!(pieces(&input), [&b"a"[..], b"", b"bc"]);
        assert_eq!(pieces(b"\xff\xffabc"), [b"abc"]);
        assert!(pieces(b"").is_empty() && pieces(b"x").is_empty());
    }
}
