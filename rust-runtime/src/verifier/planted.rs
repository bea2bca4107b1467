//! Checks that can be weakened on purpose, to measure whether tests and fuzzing notice (feature `planted`).
//!
//! Each is a fault that verifiers had or could have. Without the feature, [`on`] is a constant and the code is as if it were not
//! there. With it, one fault at a time is on in a thread.

macro_rules! bugs {
    ($($says:literal $name:ident)+) => {
        /// A weakened check.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Bug {
            $(#[doc = $says] $name,)+
        }

        #[cfg(feature = "planted")]
        impl Bug {
            pub const ALL: [Bug; [$($says),+].len()] = [$(Bug::$name),+];

            /// What is wrong with it in place.
            pub fn says(self) -> &'static str {
                match self {
                    $(Bug::$name => $says,)+
                }
            }
        }
    };
}

bugs! {
    "Known bits of a sum forget the carry." TnumCarry
    "The lower half's bounds survive and, or, xor (CVE-2021-3490)." HalfAfterBitwise
    "The sign of a division's operands is ignored." SignedDivision
    "A quotient is never 0 because of a divisor 0." DivisionByZero
    "A remainder is always less than the divisor's maximum (as CVE-2021-3444)." RemainderByZero
    "A remainder of signed numbers is not negative." SignedRemainder
    "Bounds of a sum ignore overflow." SumOverflow
    "Bounds of a difference ignore overflow." DifferenceOverflow
    "Bounds of a product ignore overflow." ProductOverflow
    "Bounds of a shift to the left ignore what is shifted out." ShiftOverflow
    "An arithmetic shift is a logical one (as CVE-2017-17853)." ArithmeticShift
    "A 32-bit comparison refines all 64 bits (as CVE-2020-8835)." CompareHalfAsWhole
    "Less-or-equal is less (off by one)." LessOrEqual
    "Signed comparisons are unsigned." SignedCompare
    "That some bit of a mask is set means that all are." BitsSet
    "A 32-bit result keeps its upper half (as CVE-2017-16996)." KeepUpperHalf
    "Sign extension is zero extension (as CVE-2017-16995)." SignExtension
    "A byte swap keeps the bounds." ByteSwapBounds
    "Inequality removes one number too many from the end of a range." Inequality
    "What comes back to a loop's head counts as lying in what was guessed of every round." Induction
    "Ways are pruned though numbers that matter differ (CVE-2023-2163)." PruneImprecise
    "Ways are pruned though the stack differs (as CVE-2017-17864)." PruneStack
    "Ways that go on as one know what the first of them knew." Loosen
    "A null check of one lookup counts for all." NullCheckAll
    "Caller-saved registers are believed after a call." CallerSaved
    "A pointer's offset does not change when a number is added." StaleOffset
    "An access may reach one byte too far." OffByOne
    "A store over a part of a spilled register leaves it believed." PartialOverwrite
    "A store at an unknown place leaves what lies there believed (as CVE-2017-17857)." VariableStore
    "A released record may still be used." UseAfterRelease
    "What an atomic operation gives back is what was put in." AtomicResult
    "A number that is linked to another keeps its link when it changes." StaleLink
    "What a helper costs is not counted." HelperCost
    "A loop that is left has filled as much as its longest run would have." FilledTooFar
    "A comparison that bounds a pointer by its index does not matter where ways meet (a fault of ours until 22 November 2026)." BoundedPointer
    "What leads back to an inner loop's head is compared by that loop's counters alone (a fault of ours until 23 November 2026)." OuterCounters
}

#[cfg(not(feature = "planted"))]
pub const fn on(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
mod current {
    use super::Bug;
    use std::cell::Cell;

    thread_local!(static CURRENT: Cell<Option<Bug>> = const { Cell::new(None) });

    pub fn on(bug: Bug) -> bool {
        CURRENT.get() == Some(bug)
    }

    /// Takes the fault away, after a panic too.
    struct Planted;

    impl Drop for Planted {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }

    /// Runs with a fault in place, in this thread.
    pub fn with<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
        CURRENT.set(Some(bug));
        let _planted = Planted;
        run()
    }
}

#[cfg(feature = "planted")]
pub use current::{on, with};
