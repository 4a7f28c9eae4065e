//! Where a page ended, as an opaque text: base64url over a version, the list's kind, a number and a text.
//!
//! It comes back from outside, so it is checked, but it is no secret and no right: it only says where to go on in a list
//! that the caller may read anyway. It names the row before it: who shows only some rows gives out cursors of those alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{PageOf, PageRequest, StoreError};

const VERSION: u8 = 1;
/// Longer than any cursor that we make: a text is a name or an id.
const LONGEST: usize = 1024;
/// What a page holds at most, whatever is asked.
const LARGEST_PAGE: u32 = 500;

/// The list that a cursor belongs to; one from another list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum List {
    Audit = b'a',
    Sessions = b's',
    Users = b'u',
    Grants = b'g',
}

/// A position: the number and the text of the last row that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) number: i64,
    pub(crate) text: String,
}

impl Cursor {
    pub(crate) fn new(number: i64, text: impl Into<String>) -> Self {
        Self { number, text: text.into() }
    }

    pub(crate) fn encode(&self, list: List) -> String {
        let mut bytes = vec![VERSION, list as u8];
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(self.text.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn decode(list: List, text: &str) -> Result<Self, StoreError> {
        if text.len() > LONGEST {
            return Err(StoreError::BadCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| StoreError::BadCursor)?;
        let (head, rest) = bytes.split_first_chunk::<10>().ok_or(StoreError::BadCursor)?;
        let [version, kind, number @ ..] = *head;
        if version != VERSION || kind != list as u8 {
            return Err(StoreError::BadCursor);
        }
        let text = std::str::from_utf8(rest).map_err(|_| StoreError::BadCursor)?;
        if text.contains('\0') {
            return Err(StoreError::BadCursor);
        }
        Ok(Self::new(i64::from_be_bytes(number), text))
    }
}

/// A [`PageRequest`], checked.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    list: List,
    pub(crate) after: Option<Cursor>,
    limit: u32,
}

impl Window {
    pub(crate) fn new(list: List, request: &PageRequest) -> Result<Self, StoreError> {
        let after = request.cursor.as_deref().map(|text| Cursor::decode(list, text)).transpose()?;
        Ok(Self { list, after, limit: request.limit.clamp(1, LARGEST_PAGE) })
    }

    /// One more than is given out: it tells whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Cuts what [`Window::rows`] rows gave to the page; `position` names a row's place.
    pub(crate) fn page<T>(&self, mut items: Vec<T>, position: impl Fn(&T) -> Cursor) -> PageOf<T> {
        let limit = self.limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| position(last).encode(self.list));
        PageOf { items, next }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back(number: i64, text in "[^\0]{0,200}") {
            let cursor = Cursor::new(number, text);
            prop_assert_eq!(Cursor::decode(List::Users, &cursor.encode(List::Users)).unwrap(), cursor.clone());
            prop_assert!(Cursor::decode(List::Audit, &cursor.encode(List::Users)).is_err());
        }

        #[test]
        fn garbage_is_refused_and_never_panics(text in "\\PC{0,60}") {
            if let Ok(cursor) = Cursor::decode(List::Audit, &text) {
                prop_assert_eq!(cursor.encode(List::Audit), text);
            }
        }

        #[test]
        fn random_bytes_are_refused_or_mean_one_thing(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = URL_SAFE_NO_PAD.encode(bytes);
            if let Ok(cursor) = Cursor::decode(List::Grants, &text) {
                prop_assert_eq!(cursor.encode(List::Grants), text);
            }
        }
    }

    #[test]
    fn a_page_knows_whether_it_is_the_last() {
        let window = Window::new(List::Users, &PageRequest { cursor: None, limit: 2 }).unwrap();
        assert_eq!(window.rows(), 3);
        let page = window.page(vec!["a", "b", "c"], |name| Cursor::new(0, *name));
        assert_eq!(page.items, ["a", "b"]);
        assert_eq!(page.next, Some(Cursor::new(0, "b").encode(List::Users)));
        assert_eq!(window.page(vec!["a", "b"], |name| Cursor::new(0, *name)).next, None);
    }

    #[test]
    fn a_huge_page_is_cut_and_an_empty_one_grows() {
        for (asked, rows) in [(0, 2), (u32::MAX, 501)] {
            let window = Window::new(List::Users, &PageRequest { cursor: None, limit: asked }).unwrap();
            assert_eq!(window.rows(), rows);
        }
    }
}
