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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::asm::assemble;

    /// By instruction, each of one slot: the heads of the loops that it is in, the innermost first; a head counts as outside of
    /// its own.
    fn heads(text: &str) -> Vec<Vec<usize>> {
        let object = assemble(text).expect("it assembles").object;
        let program = &object.programs[0];
        let graph = Graph::build(program).expect("it has a proper shape");
        let up = |at: usize| graph.headers[at].map(|head| head as usize);
        let heads = |pc| std::iter::successors(up(pc), |&head| up(head)).collect::<Vec<_>>();
        let slots = 0..program.insns.len();
        for (pc, of) in slots.clone().map(|pc| (pc, heads(pc))) {
            assert!(of.iter().all(|&head| graph.is_head(head)), "{pc}");
            let inside: Vec<usize> = slots.clone().filter(|&head| head != pc && graph.is_inside(pc, head)).collect();
            assert_eq!(inside.len(), of.len(), "{pc}: {inside:?}");
        }
        slots.map(heads).collect()
    }

    #[test]
    fn a_loop_within_a_loop() {
        let text = "r0 = 0\nouter: r1 = 0\ninner: r1 += 1\nif r1 < 3 goto inner\nr0 += 1\nif r0 < 3 goto outer\nexit";
        assert_eq!(heads(text), [vec![], vec![], vec![1], vec![2, 1], vec![1], vec![1], vec![]]);
    }

    /// The search learns of the outer loop before it learns of the inner ones.
    #[test]
    fn loops_that_are_gone_on_with_from_inside_of_others() {
        let text = "r0 = 0\nouter: r1 = 0\ninner: r1 += 1\nif r1 > 5 goto outer\nif r1 < 3 goto inner\nr0 += 1\n\
                    if r0 < 3 goto outer\nexit";
        assert_eq!(heads(text), [vec![], vec![], vec![1], vec![2, 1], vec![2, 1], vec![1], vec![1], vec![]]);
        let text = "r0 = 0\nouter: r1 = 0\nmiddle: r2 = 0\ninner: r1 += 1\nif r1 > 9 goto outer\nif r1 > 5 goto middle\n\
                    if r1 < 3 goto inner\nr0 += 1\nif r0 < 3 goto middle\nif r0 < 9 goto outer\nexit";
        let inner = vec![3, 2, 1];
        let expected =
            [vec![], vec![], vec![1], vec![2, 1], inner.clone(), inner.clone(), inner, vec![2, 1], vec![2, 1], vec![1]];
        assert_eq!(heads(text)[..10], expected);
    }

    #[test]
    fn a_second_way_into_a_loop() {
        let text = "r0 = 0\nouter: r0 += 1\nif r0 == 3 goto inner\nr1 = 1\ngoto middle\ninner: r1 = 2\nmiddle: r0 += 1\n\
                    if r0 < 9 goto inner\nif r0 < 20 goto outer\nexit";
        let inner = vec![5, 1];
        let expected = [vec![], vec![], vec![1], vec![1], vec![1], vec![1], inner.clone(), inner, vec![1], vec![]];
        assert_eq!(heads(text), expected);
    }

    #[test]
    fn loops_of_another_function() {
        let text = "r0 = 0\ncall f\nexit\nfn f\nr1 = 0\nloop: r1 += 1\nif r1 < 3 goto loop\nr0 = 0\nexit";
        assert_eq!(heads(text), [vec![], vec![], vec![], vec![], vec![], vec![4], vec![], vec![]]);
    }

    /// Thousands of loops in each other take more steps than there may be.
    #[test]
    fn loops_that_are_nested_too_deep() {
        let nested = |depth: usize| {
            let heads: String = (0..depth).map(|at| format!("l{at}: r0 += 1\n")).collect();
            let backs: String = (0..depth).map(|at| format!("if r0 < 5 goto l{at}\n")).collect();
            let object = assemble(&format!("r0 = 0\n{heads}{backs}exit")).expect("it assembles").object;
            Graph::build(&object.programs[0]).map(|_| ()).map_err(|stop| stop.is_too_complex())
        };
        assert_eq!(nested(300), Ok(()));
        assert_eq!(nested(8000), Err(true));
    }
}
