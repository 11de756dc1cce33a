//! Which idle models stay in a pool, on a clock of the test's own.

use std::time::Duration;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::managers::pool::{PoolPolicy, Residents};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn residents(low_memory: bool) -> Residents<&'static str> {
    Residents::new(PoolPolicy { idle_timeout: s(60), low_memory })
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn idle_models_go_after_a_time() {
    let mut all = residents(false);
    all.enter(&"a");
    all.enter(&"a");
    all.enter(&"b");
    assert_eq!((all.expired(s(1000)), all.next_expiry()), (vec![], None), "they are used, however long");
    all.leave(&"a", s(1000));
    assert_eq!((all.expired(s(2000)), all.next_expiry()), (vec![], None), "one of two users is still there");
    all.leave(&"a", s(2000));
    all.leave(&"b", s(2010));
    assert_eq!(all.next_expiry(), Some(s(2060)));
    assert_eq!(all.expired(s(2059)), Vec::<&str>::new());
    // whoever comes back starts the time anew
    all.enter(&"b");
    all.leave(&"b", s(2050));
    assert_eq!(all.expired(s(2060)), ["a"]);
    assert_eq!((all.expired(s(2109)), all.next_expiry()), (vec![], Some(s(2110))));
    assert_eq!(all.expired(s(2110)), ["b"]);
    assert_eq!((all.expired(s(9999)), all.next_expiry()), (vec![], None));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_longest_idle_goes_first_and_used_ones_never() {
    let mut all = residents(false);
    for key in ["a", "b", "c", "d"] {
        all.enter(&key);
    }
    for (key, now) in [("c", 1), ("a", 2), ("b", 3)] {
        all.leave(&key, s(now));
    }
    all.enter(&"c");
    all.leave(&"c", s(4));
    assert_eq!([(); 4].map(|()| all.least_recent()), [Some("a"), Some("b"), Some("c"), None]);
    // of one moment, the one that was left first
    all.enter(&"a");
    all.leave(&"d", s(5));
    all.leave(&"a", s(5));
    assert_eq!([(); 3].map(|()| all.least_recent()), [Some("d"), Some("a"), None]);
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn with_little_memory_models_go_with_their_last_user() {
    let mut all = residents(true);
    all.enter(&"a");
    all.enter(&"a");
    all.leave(&"a", s(1));
    assert_eq!(all.expired(s(1)), Vec::<&str>::new());
    all.leave(&"a", s(2));
    assert_eq!(all.expired(s(2)), ["a"]);
}
