//! One search through a function finds its order, its loops and where ways meet.
//!
//! Loops after "A New Algorithm for Identifying Loops in Decompilation" (Wei et al., SAS 2007): each instruction learns the head
//! of its innermost loop while the search comes back from it.

use super::{Graph, Reason, Stop};
use crate::object::Function;

/// Steps that assigning heads may take: with loops nested thousands deep it would be quadratic.
const MAX_STEPS: usize = 4_000_000;

struct Search<'a> {
    graph: &'a mut Graph,
    start: usize,
    /// By slot of the function: its place on the current path, from 1; 0: not on it.
    place: Vec<u32>,
    seen: Vec<bool>,
    order: Vec<usize>,
    steps: usize,
}

impl Graph {
    /// The order to walk a function in. Everything in it must be reachable.
    pub(super) fn order(&mut self, function: &Function) -> Result<Vec<usize>, Stop> {
        let slots = function.end - function.start;
        let mut search = Search {
            graph: self,
            start: function.start,
            place: vec![0; slots],
            seen: vec![false; slots],
            order: Vec::with_capacity(slots),
            steps: 0,
        };
        search.run(function)?;
        let Search { seen, mut order, .. } = search;
        let unreached = |pc: &usize| self.ops[*pc].is_some() && !seen[pc - function.start];
        if let Some(pc) = (function.start..function.end).find(unreached) {
            return Err(Stop::new(pc, Reason::Unreachable));
        }
        order.reverse();
        Ok(order)
    }
}

impl Search<'_> {
    fn run(&mut self, function: &Function) -> Result<(), Stop> {
        let mut path = vec![(function.start, self.graph.successors(function, function.start)?.into_iter())];
        self.enter(function.start, 1);
        while let Some((pc, successors)) = path.last_mut() {
            let pc = *pc;
            match successors.next() {
                Some(None) => {}
                Some(Some(to)) if self.seen[to - self.start] => {
                    self.graph.joins[to] = true;
                    self.meet(pc, to)?;
                }
                Some(Some(to)) => {
                    let successors = self.graph.successors(function, to)?.into_iter();
                    path.push((to, successors));
                    self.enter(to, path.len() as u32);
                }
                None => {
                    self.place[pc - self.start] = 0;
                    self.order.push(pc);
                    path.pop();
                    if let (Some((from, _)), Some(head)) = (path.last(), self.graph.headers[pc]) {
                        let from = *from;
                        self.tag(from, head as usize)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, pc: usize, place: u32) {
        self.seen[pc - self.start] = true;
        self.place[pc - self.start] = place;
    }

    /// An edge to where the search has been: a loop, if that is on the current path.
    fn meet(&mut self, from: usize, to: usize) -> Result<(), Stop> {
        if self.place[to - self.start] > 0 {
            self.graph.heads[to] = true;
            return self.tag(from, to);
        }
        let mut head = self.graph.headers[to];
        while let Some(at) = head {
            if self.place[at as usize - self.start] > 0 {
                return self.tag(from, at as usize);
            }
            // A second way into a loop.
            head = self.graph.headers[at as usize];
        }
        Ok(())
    }

    /// `pc` lies in the loop with that head: puts the head into its chain, by depth on the path.
    fn tag(&mut self, pc: usize, head: usize) -> Result<(), Stop> {
        let (mut at, mut head) = (pc, head);
        if at == head {
            return Ok(());
        }
        while let Some(outer) = self.graph.headers[at] {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(Stop::new(pc, Reason::TooComplex(MAX_STEPS as u64)));
            }
            let outer = outer as usize;
            if outer == head {
                return Ok(());
            }
            if self.place[outer - self.start] < self.place[head - self.start] {
                self.graph.headers[at] = Some(head as u32);
                at = head;
                head = outer;
            } else {
                at = outer;
            }
            if at == head {
                return Ok(());
            }
        }
        self.graph.headers[at] = Some(head as u32);
        Ok(())
    }
}
