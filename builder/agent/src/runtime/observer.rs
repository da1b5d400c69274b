//! Looks at the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::Executor;
use crate::cluster::Observed;

/// How often the database is looked at when nothing calls for it.
const LOOK: Duration = Duration::from_millis(250);

/// Looks at the database again and again, and at once when something happens to it.
pub(super) async fn observer(
    executor: impl Executor,
    seen: mpsc::Sender<(u64, Observed)>,
    generation: Arc<AtomicU64>,
    nudge: Arc<Notify>,
) {
    loop {
        let begun = generation.load(Ordering::Relaxed);
        let observed = executor.observe().await;
        if seen.send((begun, observed)).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = executor.disturbed() => {}
            () = nudge.notified() => {}
        }
    }
}
