//! Bodies that hold secrets: passwords and tokens go out, credentials come in.

use std::io::Cursor;

use http_body_util::Full;
use zeroize::Zeroizing;

/// The body of a request, wiped when it is dropped. (hyper's own buffer is beyond reach.)
pub type SecretBody = Full<Cursor<Zeroizing<Vec<u8>>>>;

/// A body of these bytes.
pub fn secret_body(bytes: Zeroizing<Vec<u8>>) -> SecretBody {
    Full::new(Cursor::new(bytes))
}

/// Appends, and grows by copying: a vector that grows by itself leaves its old content behind in freed memory.
pub(super) fn append(buffer: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let needed = buffer.len() + data.len();
    if needed > buffer.capacity() {
        let mut grown = Zeroizing::new(Vec::with_capacity(needed.max(buffer.capacity() * 2)));
        grown.extend_from_slice(buffer);
        *buffer = grown;
    }
    buffer.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_there_in_order() {
        let mut buffer = Zeroizing::new(Vec::new());
        let pieces =
            [0, 1, 7, 4096, 3, 100_000].map(|length| vec![u8::try_from(length % 251).unwrap(); length]);
        for piece in &pieces {
            let before = buffer.capacity();
            append(&mut buffer, piece);
            let grew = buffer.capacity() != before;
            assert!(!grew || buffer.capacity() >= before * 2, "each byte is copied a few times at most");
        }
        assert_eq!(*buffer, pieces.concat());
    }
}
