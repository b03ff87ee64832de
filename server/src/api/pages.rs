//! Answers are no longer than what clients of gRPC accept. A page ends before it would be, and an
//! answer that cannot be in pages is refused before it is built.

use std::sync::Arc;

use prost::Message;

use super::error::ApiError;
use crate::registry::list::{Listed, Page, PageRequest};

/// What clients of gRPC accept unless they are told otherwise.
pub(super) const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// What is left to the parts of an answer that are not items.
const RESERVE: usize = 4 * 1024;

/// What a message costs within another, at most: its tag and its length.
const FRAME: usize = 8;

/// As many messages as fit into one answer, and how many those are.
pub(super) fn fitting<'a, T: 'a, M: Message>(
    items: impl Iterator<Item = &'a Arc<T>>,
    show: impl Fn(&T) -> M,
) -> Vec<M> {
    let mut left = LONGEST_ANSWER - RESERVE;
    let mut shown = Vec::new();
    for item in items {
        let message = show(item);
        let Some(rest) = left.checked_sub(message.encoded_len() + FRAME) else { break };
        left = rest;
        shown.push(message);
    }
    shown
}

/// The messages of a page, and the token of the next. A page that would be too long ends earlier.
pub(super) fn answer<T: Listed, M: Message>(
    request: &PageRequest,
    page: Page<Arc<T>>,
    show: impl Fn(&T) -> M,
) -> Result<(Vec<M>, String), ApiError> {
    let shown = fitting(page.items.iter(), show);
    if shown.len() == page.items.len() {
        return Ok((shown, page.next_token));
    }
    match shown.len().checked_sub(1).and_then(|last| page.items.get(last)) {
        Some(last) if request.is_part() => Ok((shown, last.token())),
        Some(_) | None => Err(ApiError::TooLong),
    }
}

/// The messages of an answer that has no pages.
pub(super) fn whole<T, M: Message>(
    items: &[Arc<T>],
    show: impl Fn(&T) -> M,
) -> Result<Vec<M>, ApiError> {
    let shown = fitting(items.iter(), show);
    if shown.len() == items.len() { Ok(shown) } else { Err(ApiError::TooLongWithoutPages) }
}
