//! Something that one task at a time has, in the order in which they came for it.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::task::{Poll, Waker};

/// A value that tasks of one thread take turns at. Unlike most locks it is handed on in strict order: who comes back at once waits
/// for all that came before.
#[derive(Debug)]
pub(super) struct Turns<T> {
    value: RefCell<T>,
    /// who waits, by number; the first one is next
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
    /// the last number that was given
    last: RefCell<u64>,
}

/// A turn: the value, until this is dropped.
#[derive(Debug)]
pub struct Turn<'t, T> {
    // given back before the next one is called
    value: Option<RefMut<'t, T>>,
    turns: &'t Turns<T>,
}

/// A place among those who wait; giving it up lets the others move up.
struct Place<'t, T> {
    turns: &'t Turns<T>,
    number: u64,
}

impl<T> Turns<T> {
    pub fn new(value: T) -> Self {
        Self { value: RefCell::new(value), waiting: RefCell::default(), last: RefCell::default() }
    }

    /// The value, once all who came before have had it.
    pub async fn wait(&self) -> Turn<'_, T> {
        let number = self.last.replace_with(|last| *last + 1) + 1;
        self.waiting.borrow_mut().push_back((number, None));
        let place = Place { turns: self, number };
        let value = poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            let is_first = waiting.front().is_some_and(|(first, _)| *first == number);
            match self.value.try_borrow_mut() {
                Ok(value) if is_first => Poll::Ready(value),
                _ => {
                    if let Some((_, waker)) = waiting.iter_mut().find(|(other, _)| *other == number) {
                        *waker = Some(context.waker().clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await;
        drop(place);
        Turn { value: Some(value), turns: self }
    }

    /// The value, if nobody has it or waits for it.
    pub fn take(&self) -> Option<Turn<'_, T>> {
        let is_free = self.waiting.borrow().is_empty();
        let value = if is_free { self.value.try_borrow_mut().ok() } else { None };
        value.map(|value| Turn { value: Some(value), turns: self })
    }

    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Wakes who is next.
    fn call(&self) {
        let next = self.waiting.borrow_mut().front_mut().and_then(|(_, waker)| waker.take());
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.turns.waiting.borrow_mut().retain(|(number, _)| *number != self.number);
        self.turns.call();
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.turns.call();
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until this is dropped")
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until this is dropped")
    }
}
