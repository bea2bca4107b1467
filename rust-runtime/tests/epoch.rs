//! The epoch protocol of hook-shim (call.hpp, Synchronize() in shim.cpp), modelled: loom runs every order that the memory model
//! allows of a thread at a hookpoint and a thread that publishes, waits and frees.
//!
//! The C++ is translated line by line in [`Reader`] and [`Host`]. What membarrier(2) promises - a full barrier on every running
//! thread, somewhere in its program, between the call's begin and its end - is a [`Barrier`]: the reader passes it at a place
//! that each model fixes, and the publisher waits for that. Without membarrier readers fence themselves.
//!
//! Models with one line left out or weakened must fail: they show that loom sees what the line is for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize, Ordering,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
    thread,
};

const OLD: usize = 0;
const NEW: usize = 1;

/// Where in a hookpoint the barrier of the publisher's membarrier falls.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    BeforeEntering,
    BeforeLoading,
    BeforeCalling,
    BeforeLeaving,
    AfterLeaving,
}

#[derive(Clone, Copy)]
enum How {
    Membarrier(Place),
    ReadersFence,
    /// Neither: must fail.
    Nothing,
}

#[derive(Clone, Copy)]
struct Protocol {
    how: How,
    /// The orders with which a reader enters and leaves.
    enter: Ordering,
    leave: Ordering,
    /// The order with which the publisher looks at the epochs.
    look: Ordering,
    /// The order of publication and of its readers.
    publish: Ordering,
    read: Ordering,
}

const RIGHT: Protocol =
    Protocol { how: How::ReadersFence, enter: Release, leave: Release, look: Acquire, publish: Release, read: Acquire };

/// A full barrier that another thread demands.
#[derive(Default)]
struct Barrier {
    demanded: AtomicBool,
    passed: AtomicBool,
}

impl Barrier {
    fn demand(&self) {
        self.demanded.store(true, Release);
        while !self.passed.load(Acquire) {
            thread::yield_now();
        }
    }

    fn pass(&self) {
        while !self.demanded.load(Acquire) {
            thread::yield_now();
        }
        fence(Ordering::SeqCst);
        self.passed.store(true, Release);
    }
}

struct Host {
    published: AtomicUsize,
    epoch: AtomicU64,
    /// Memory of the programs: true while it is there.
    programs: [UnsafeCell<bool>; 2],
    barrier: Barrier,
}

impl Host {
    fn new() -> Host {
        Host {
            published: AtomicUsize::new(OLD),
            epoch: AtomicU64::new(0),
            programs: [UnsafeCell::new(true), UnsafeCell::new(false)],
            barrier: Barrier::default(),
        }
    }

    /// Epoch and ProgramCall in call.hpp.
    fn hookpoint(&self, protocol: Protocol) {
        let at = |place| {
            if matches!(protocol.how, How::Membarrier(here) if here == place) {
                self.barrier.pass();
            }
        };
        at(Place::BeforeEntering);
        let number = self.epoch.load(Relaxed);
        self.epoch.store(number + 1, protocol.enter);
        if matches!(protocol.how, How::ReadersFence) {
            fence(Ordering::SeqCst);
        }
        at(Place::BeforeLoading);
        let program = self.published.load(protocol.read);
        at(Place::BeforeCalling);
        // SAFETY: what the model is about; loom fails where this meets the publisher's writes.
        assert!(self.programs[program].with(|memory| unsafe { *memory }), "the program is gone, or not there yet");
        at(Place::BeforeLeaving);
        self.epoch.store(number + 2, protocol.leave);
        at(Place::AfterLeaving);
    }

    /// Publish and Synchronize in shim.cpp, then the runtime frees.
    fn swap(&self, protocol: Protocol) {
        // SAFETY: nobody knows the new program yet; loom would see it otherwise.
        self.programs[NEW].with_mut(|memory| unsafe { *memory = true });
        self.published.store(NEW, protocol.publish);
        match protocol.how {
            How::Membarrier(_) => self.barrier.demand(),
            How::ReadersFence => fence(Ordering::SeqCst),
            How::Nothing => {}
        }
        let seen = self.epoch.load(protocol.look);
        if seen & 1 != 0 {
            while self.epoch.load(protocol.look) == seen {
                thread::yield_now();
            }
        }
        // SAFETY: what the model is about.
        self.programs[OLD].with_mut(|memory| unsafe { *memory = false });
    }
}

fn run(protocol: Protocol, hookpoints: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(move || {
        let host = Arc::new(Host::new());
        let reader = {
            let host = Arc::clone(&host);
            thread::spawn(move || (0..hookpoints).for_each(|_| host.hookpoint(protocol)))
        };
        host.swap(protocol);
        reader.join().unwrap();
    });
}

fn fails(protocol: Protocol) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(protocol, 2))).is_err()
}

#[test]
fn with_membarrier_nothing_is_freed_under_a_reader() {
    for place in
        [Place::BeforeEntering, Place::BeforeLoading, Place::BeforeCalling, Place::BeforeLeaving, Place::AfterLeaving]
    {
        run(Protocol { how: How::Membarrier(place), ..RIGHT }, 1);
    }
}

#[test]
fn with_fencing_readers_nothing_is_freed_under_a_reader() {
    run(RIGHT, 2);
}

#[test]
fn what_is_left_out_is_missed() {
    assert!(fails(Protocol { how: How::Nothing, ..RIGHT }), "no barrier: store and load may change places");
    assert!(fails(Protocol { enter: Relaxed, ..RIGHT }), "who is seen entering again must be seen to have left before");
    assert!(fails(Protocol { leave: Relaxed, ..RIGHT }), "leaving must come after the program's last access");
    assert!(fails(Protocol { look: Relaxed, ..RIGHT }), "freeing must come after the epoch was seen");
    assert!(fails(Protocol { publish: Relaxed, ..RIGHT }), "the set must be seen whole");
    assert!(fails(Protocol { read: Relaxed, ..RIGHT }), "the set must be seen whole");
}
