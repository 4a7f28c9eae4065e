//! What a server follows of the requests of one piece of work: AWS's ids of them, whether the next one may leave, and which
//! changes were sent whose answer never came.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::time::Instant;

/// Whether one more request may leave.
pub type Allowed = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why a request did not leave.
#[derive(Debug, thiserror::Error)]
#[error("the service may not act at the moment")]
pub(crate) struct NotAllowed;

#[derive(Default)]
struct Work {
    request_ids: Vec<String>,
    allowed: Option<Allowed>,
    /// When the change was sent that is under way, or whose answer never came.
    sent: Option<Instant>,
    /// When the last change before it was sent whose answer never came.
    unanswered: Option<Instant>,
}

tokio::task_local! {
    static WORK: RefCell<Work>;
}

/// Runs the work so that AWS's ids of the requests that it makes (`x-amzn-requestid`) are kept: what CloudTrail and AWS's
/// support know them by. [`take_request_ids`] gives them, within the work, and [`last_unanswered`] says what may still come
/// of it.
pub async fn keeping_request_ids<T>(work: impl Future<Output = T>) -> T {
    WORK.scope(RefCell::default(), work).await
}

/// From here on, each try of each request of this work, within [`keeping_request_ids`], leaves only if `allowed` says so: for
/// a server that may lose the right to act in the middle of its work.
pub fn only_while(allowed: Allowed) {
    let set = WORK.try_with(|work| work.borrow_mut().allowed = Some(allowed));
    debug_assert!(set.is_ok(), "only_while outside of keeping_request_ids");
}

/// The ids since the work began or they were last taken, in order; none outside of [`keeping_request_ids`].
pub fn take_request_ids() -> Vec<String> {
    WORK.try_with(|work| std::mem::take(&mut work.borrow_mut().request_ids)).unwrap_or_default()
}

/// When this work, within [`keeping_request_ids`], last sent a change whose answer never came, or was that AWS itself failed:
/// what became of it is not known, and it may still come, although the same request was answered when it was sent again.
/// Making and deleting access keys does not count: nobody can do either a second time to the same key.
pub fn last_unanswered() -> Option<Instant> {
    WORK.try_with(|work| {
        let work = work.borrow();
        work.sent.max(work.unanswered)
    })
    .ok()
    .flatten()
}

/// A request is about to be sent; its body.
pub(crate) fn sending(body: &[u8]) -> Result<(), NotAllowed> {
    let sending = WORK.try_with(|work| {
        let mut work = work.borrow_mut();
        if work.allowed.as_ref().is_some_and(|allowed| !allowed()) {
            return Err(NotAllowed);
        }
        work.unanswered = work.unanswered.max(work.sent.take());
        work.sent = changes(body).then(Instant::now);
        Ok(())
    });
    // Outside of `keeping_request_ids` nobody wants to know.
    sending.unwrap_or(Ok(()))
}

/// It was answered, under this id; `settled`: AWS has done it, or certainly will not.
pub(crate) fn answered(id: Option<String>, settled: bool) {
    let _ = WORK.try_with(|work| {
        let mut work = work.borrow_mut();
        work.request_ids.extend(id);
        if settled {
            work.sent = None;
        }
    });
}

/// It never left this machine.
pub(crate) fn never_sent() {
    let _ = WORK.try_with(|work| work.borrow_mut().sent = None);
}

/// Whether a request (AWS Query protocol) changes something that another request could change again.
fn changes(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"Action=").unwrap_or(body);
    let begins: [&[u8]; 5] = [b"Get", b"List", b"AssumeRole", b"CreateAccessKey&", b"DeleteAccessKey&"];
    !begins.iter().any(|begin| body.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_counts_until_it_is_answered_and_for_ever_if_it_never_is() {
        const ATTACH: &[u8] = b"Action=AttachUserPolicy&Version=2010-05-08";
        let work = async {
            sending(b"Action=GetUser&Version=2010-05-08").unwrap();
            assert_eq!(last_unanswered(), None, "it changes nothing");
            sending(ATTACH).unwrap();
            let first = last_unanswered();
            assert!(first.is_some());
            answered(Some("id".into()), true);
            assert_eq!(last_unanswered(), None);
            sending(ATTACH).unwrap();
            never_sent();
            assert_eq!(last_unanswered(), None);
            sending(ATTACH).unwrap();
            let lost = last_unanswered();
            // Sent again.
            sending(ATTACH).unwrap();
            answered(None, true);
            assert_eq!(last_unanswered(), lost);
            sending(ATTACH).unwrap();
            answered(None, false);
            assert!(last_unanswered() >= lost, "AWS failed by itself");
            assert_eq!(take_request_ids(), ["id"]);
        };
        keeping_request_ids(work).await;
        assert_eq!(last_unanswered(), None, "outside");
    }

    #[test]
    fn only_what_can_be_done_twice_is_followed() {
        for (body, counts) in [
            ("Action=CreateAccessKey&UserName=a", false),
            ("Action=DeleteAccessKey&UserName=a", false),
            ("Action=ListAccessKeys", false),
            ("Action=GetSessionToken", false),
            ("Action=AssumeRole&RoleArn=a", false),
            ("Action=UpdateAccessKey&UserName=a", true),
            ("Action=DeleteUser&UserName=a", true),
            ("Action=CreateUser&UserName=a", true),
            ("", true),
        ] {
            assert_eq!(changes(body.as_bytes()), counts, "{body}");
        }
    }
}
