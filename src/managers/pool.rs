//! Which of the models that share a device stay, once nobody uses them. Times are given, so that no clock is needed.

use std::time::Duration;

/// When idle models go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolPolicy {
    /// How long a model stays that nobody uses.
    pub idle_timeout: Duration,
    /// Little memory: a model goes with its last user, and prompts are computed in pieces of at most [`LOW_MEMORY_CHUNK`] tokens, which
    /// need fewer activations.
    pub low_memory: bool,
}

/// The most tokens of a prompt in one step, where memory is little.
pub const LOW_MEMORY_CHUNK: u32 = 64;

impl Default for PoolPolicy {
    /// Five minutes, and as much memory as there is.
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(300), low_memory: false }
    }
}

/// Who is in a pool, and since when nobody uses them.
#[derive(Debug)]
pub struct Residents<K> {
    policy: PoolPolicy,
    /// in the order in which users left them
    all: Vec<Resident<K>>,
}

#[derive(Debug)]
struct Resident<K> {
    key: K,
    users: usize,
    /// when the last user left
    idle_since: Duration,
}

impl<K: Clone + PartialEq> Residents<K> {
    /// Nobody.
    #[must_use]
    pub fn new(policy: PoolPolicy) -> Self {
        Self { policy, all: Vec::new() }
    }

    /// One more uses `key`, which is there from now on.
    pub fn enter(&mut self, key: &K) {
        match self.all.iter_mut().find(|resident| resident.key == *key) {
            Some(resident) => resident.users += 1,
            None => self.all.push(Resident { key: key.clone(), users: 1, idle_since: Duration::ZERO }),
        }
    }

    /// One fewer uses `key`.
    pub fn leave(&mut self, key: &K, now: Duration) {
        let Some(at) = self.all.iter().position(|resident| resident.key == *key) else { return };
        let mut resident = self.all.remove(at);
        resident.users = resident.users.saturating_sub(1);
        resident.idle_since = now;
        self.all.push(resident);
    }

    /// Takes out those who have been idle for too long.
    pub fn expired(&mut self, now: Duration) -> Vec<K> {
        let PoolPolicy { idle_timeout, low_memory } = self.policy;
        let is_expired = |resident: &Resident<K>| {
            resident.users == 0 && (low_memory || now.saturating_sub(resident.idle_since) >= idle_timeout)
        };
        let gone = self.all.extract_if(.., |resident| is_expired(resident));
        gone.map(|resident| resident.key).collect()
    }

    /// When the next one is idle for too long, if nobody comes until then.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        let idle = self.all.iter().filter(|resident| resident.users == 0);
        idle.map(|resident| resident.idle_since.saturating_add(self.policy.idle_timeout)).min()
    }

    /// Takes out the one that has been idle for longest, where memory is short; `None` where all are used.
    pub fn least_recent(&mut self) -> Option<K> {
        let at = self.all.iter().position(|resident| resident.users == 0)?;
        Some(self.all.remove(at).key)
    }
}
