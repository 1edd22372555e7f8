//! The end of a connection that has not changed its protocol.

use std::{future::poll_fn, task::Poll, time::Duration};

use super::exchange::Exchange;

/// How long a caller may take to notice that the connection is over.
const LINGER: Duration = Duration::from_secs(1);

/// Says goodbye on a connection that nothing is expected from, without waiting.
pub(super) async fn part(exchange: &Exchange) {
    poll_fn(|cx| {
        let _ = exchange.state().wire.poll_shutdown(cx);
        Poll::Ready(())
    })
    .await;
}

/// Ends our half, and reads what the caller still sends until it has ended its own.
///
/// Closing at once would answer bytes on their way with a reset, and a reset may overtake the response
/// (RFC 9112 section 9.6).
pub(super) async fn linger(exchange: &Exchange) {
    let ended = poll_fn(|cx| {
        let mut state = exchange.state();
        if state.wire.poll_shutdown(cx).is_pending() {
            return Poll::Pending;
        }
        loop {
            state.wire.incoming.clear();
            match state.wire.poll_fill(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let _ = tokio::time::timeout(LINGER, ended).await;
}
