//! Models that their users share, as many as one device holds.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::time::Duration;

use web_time::Instant;

use super::turns::Turns;
use super::{LoadOptions, Session, Shared};
use crate::device::Device;
use crate::error::{DeviceError, Error};
use crate::managers::pool::{LOW_MEMORY_CHUNK, PoolPolicy, Residents};
use crate::source::Source;
use crate::weights::Progress;

/// The models of one device, each of which is loaded once, however many use it. One that nobody uses stays for a while
/// ([`PoolPolicy::idle_timeout`]), and goes sooner where another one needs its memory.
#[derive(Clone, Debug)]
pub struct ModelPool(Rc<Inner>);

struct Inner {
    device: Device,
    policy: PoolPolicy,
    clock: Box<dyn Fn() -> Duration>,
    residents: RefCell<Residents<Key>>,
    models: RefCell<Vec<(Key, Rc<Shared>)>>,
    /// what is on its way takes memory of its own: one model at a time
    loading: Turns<()>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.models.borrow().iter().map(|(key, _)| key.name.clone()).collect();
        f.debug_struct("ModelPool").field("policy", &self.policy).field("models", &keys).finish_non_exhaustive()
    }
}

/// Models are the same where both are.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    name: String,
    options: LoadOptions,
}

/// A model of a [`ModelPool`], used until this is dropped.
#[derive(Debug)]
pub struct Pooled {
    model: Rc<Shared>,
    key: Key,
    pool: Weak<Inner>,
}

impl ModelPool {
    /// No models yet.
    #[must_use]
    pub fn new(device: &Device, policy: PoolPolicy) -> Self {
        let opened = Instant::now();
        Self::with_clock(device, policy, move || opened.elapsed())
    }

    /// As [`new`](Self::new), with the time from `clock`, which never goes back.
    #[must_use]
    pub fn with_clock(device: &Device, policy: PoolPolicy, clock: impl Fn() -> Duration + 'static) -> Self {
        Self(Rc::new(Inner {
            device: device.clone(),
            policy,
            clock: Box::new(clock),
            residents: RefCell::new(Residents::new(policy)),
            models: RefCell::default(),
            loading: Turns::new(()),
        }))
    }

    /// The model of `source`, loaded with `options`, or the one that was loaded under this `name` with equal options and is still here:
    /// nothing is read then. Whoever asks for a model that is being loaded waits for it.
    ///
    /// Where the device has too little memory, or would keep too few of its layers, models that nobody uses go, the one first that was
    /// used longest ago.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open(
        &self,
        name: &str,
        source: &Source,
        options: &LoadOptions,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Pooled, Error> {
        let Inner { device, policy, loading, models, .. } = &*self.0;
        let mut options = options.clone();
        if policy.low_memory {
            options.prefill_chunk = Some(options.prefill_chunk.map_or(LOW_MEMORY_CHUNK, |c| c.min(LOW_MEMORY_CHUNK)));
        }
        let key = Key { name: name.into(), options };
        self.tidy();
        if let Some(found) = self.found(&key) {
            return Ok(found);
        }
        let _turn = loading.wait().await;
        if let Some(found) = self.found(&key) {
            return Ok(found);
        }
        let session = loop {
            match Session::open(device, source, &key.options, &mut progress).await {
                Err(Error::Device(DeviceError::OutOfMemory { .. } | DeviceError::NothingFits { .. }))
                    if self.release_one() => {}
                // nobody asked for that
                Ok(session)
                    if session.offload().is_some() && key.options.gpu_layers.is_none() && self.release_one() => {}
                opened => break opened?,
            }
        };
        let model = Rc::new(Shared::new(session));
        models.borrow_mut().push((key.clone(), Rc::clone(&model)));
        Ok(self.entered(key, model))
    }

    /// Lets those go that nobody has used for too long. [`open`](Self::open), and whoever goes, does that, too. Returns when there is
    /// something to do again, if nothing happens until then.
    pub fn tidy(&self) -> Option<Duration> {
        self.0.tidy();
        let next = self.0.residents.borrow().next_expiry()?;
        Some(next.saturating_sub((self.0.clock)()))
    }

    /// How many models there are, used or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.models.borrow().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn found(&self, key: &Key) -> Option<Pooled> {
        let model = self.0.models.borrow().iter().find(|(known, _)| known == key).map(|(_, model)| Rc::clone(model))?;
        Some(self.entered(key.clone(), model))
    }

    fn entered(&self, key: Key, model: Rc<Shared>) -> Pooled {
        self.0.residents.borrow_mut().enter(&key);
        Pooled { model, key, pool: Rc::downgrade(&self.0) }
    }

    /// Lets the one go that was used longest ago; `false` where all are used.
    fn release_one(&self) -> bool {
        let gone = self.0.residents.borrow_mut().least_recent();
        gone.inspect(|key| self.0.release(key)).is_some()
    }
}

impl Inner {
    fn tidy(&self) {
        let gone = self.residents.borrow_mut().expired((self.clock)());
        gone.iter().for_each(|key| self.release(key));
    }

    fn release(&self, key: &Key) {
        let mut models = self.models.borrow_mut();
        let gone: Vec<_> = models.extract_if(.., |(known, _)| known == key).collect();
        drop(models);
        tracing::debug!(name = key.name, "an idle model goes");
        drop(gone);
    }
}

impl Deref for Pooled {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.model
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        pool.residents.borrow_mut().leave(&self.key, (pool.clock)());
        pool.tidy();
    }
}
