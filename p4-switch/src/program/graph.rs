//! A pipeline as the code is made from it: conditions, operations and tables, each with what follows.
//!
//! The nodes of [`table`](super::table) are what the program says and what a trace shows. Here the actions that p4c made
//! of statements are in line, and a condition that is kept in a field (`t = a && b; if (t)`) has become a branch, so that
//! [`threading`](super::threading) can see through it.

use super::action::{Action, Op, has_jumps};
use super::expr::{Cond, E};
use super::table::{END, Flow, Pipeline, Table};

/// A node. Those of the pipeline keep their numbers, for tables refer to them.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Apply(u32),
    Do { ops: Vec<Op>, next: u32 },
    If { condition: Cond, yes: u32, no: u32 },
}

/// A pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) start: u32,
}

impl Graph {
    /// A pipeline with its statements in line.
    pub(crate) fn new(pipeline: &Pipeline, actions: &[Action]) -> Self {
        let mut graph = Graph {
            nodes: Vec::with_capacity(pipeline.flow.len()),
            start: pipeline.start,
        };
        for flow in &pipeline.flow {
            graph.nodes.push(match flow {
                Flow::Apply(table) => Node::Apply(*table),
                Flow::If { condition, yes, no } => Node::If {
                    condition: condition.clone(),
                    yes: *yes,
                    no: *no,
                },
                Flow::Call { action, next } => Node::Do {
                    ops: actions[*action as usize].ops.to_vec(),
                    next: *next,
                },
            });
        }
        for number in 0..pipeline.flow.len() {
            graph.branch_on_conditions(number);
        }
        graph
    }

    /// Makes branches of the conditions that a node's operations keep in fields.
    fn branch_on_conditions(&mut self, number: usize) {
        let Node::Do { ops, next } = &mut self.nodes[number] else {
            return;
        };
        let condition = ops.iter().position(|op| matches!(op, Op::Set(_, E::Bool(_))));
        let Some(at) = condition.filter(|_| !has_jumps(ops)) else {
            return;
        };
        let (after, mut rest) = (*next, ops.split_off(at));
        let behind = rest.split_off(1);
        let before = std::mem::take(ops);
        let Some(Op::Set(slot, E::Bool(condition))) = rest.pop() else {
            return;
        };
        let after = if behind.is_empty() {
            after
        } else {
            let behind_at = self.add(Node::Do {
                ops: behind,
                next: after,
            });
            self.branch_on_conditions(behind_at as usize);
            behind_at
        };
        let outcome = |value| Node::Do {
            ops: vec![Op::Const(slot, value)],
            next: after,
        };
        let (yes, no) = (self.add(outcome(1)), self.add(outcome(0)));
        let branch = Node::If {
            condition: *condition,
            yes,
            no,
        };
        self.nodes[number] = if before.is_empty() {
            branch
        } else {
            let next = self.add(branch);
            Node::Do { ops: before, next }
        };
    }

    fn add(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// The nodes that can be reached, each after all that lead to it.
    pub(crate) fn order(&self, tables: &[Table]) -> Vec<u32> {
        let mut seen = vec![false; self.nodes.len()];
        let mut done = Vec::new();
        let mut path = vec![(self.start, false)];
        while let Some((node, left)) = path.pop() {
            if node == END || seen[node as usize] && !left {
                continue;
            }
            if left {
                done.push(node);
                continue;
            }
            seen[node as usize] = true;
            path.push((node, true));
            match &self.nodes[node as usize] {
                Node::If { yes, no, .. } => path.extend([(*yes, false), (*no, false)]),
                Node::Do { next, .. } => path.push((*next, false)),
                Node::Apply(table) => path.extend(tables[*table as usize].successors().map(|n| (n, false))),
            }
        }
        done.reverse();
        done
    }
}
