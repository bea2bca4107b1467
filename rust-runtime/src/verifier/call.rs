//! Calls: functions of the program, helpers and their arguments, callbacks, and returns.

use std::rc::Rc;

use super::{
    MAX_FRAMES, Reason,
    access::{Access, Place},
    domain::Scalar,
    need::EffectKind,
    planted::{Bug, on},
    stack::{cells_of, whole_cells_of},
    state::{ActiveLoop, Callback, Frame, Handle, Mark, State},
    value::{Link, MapRef, Num, Pointer, Target, Value},
    walk::{Next, Walk},
};
use crate::{
    helpers::{self, ArgKind, Bytes, CallbackKind, HelperSpec, MAX_LOOP, RetKind},
    isa::Reg,
    object::{FLAG_READ_ONLY_PROGRAM, FLAG_WRITE_ONLY_PROGRAM},
};

/// What the arguments of a helper say together.
#[derive(Clone, Copy, Debug, Default)]
struct Arguments {
    map: Option<MapRef>,
    /// Bytes that [`Bytes::Arg`] counts.
    bytes: u64,
    record_size: Option<u32>,
    released: Option<Pointer>,
    callback: Option<usize>,
    context: Option<Value>,
    rounds: u64,
}

impl Walk<'_> {
    /// Calls a function of the program.
    pub fn enter(&mut self, pc: usize, callee: usize) -> Result<Next, Reason> {
        let depth = self.state.frames.len();
        if depth == MAX_FRAMES {
            return Err(Reason::TooDeep);
        }
        let mut frame = Frame::new(callee, depth, pc);
        (1..6).for_each(|reg| frame.regs[reg] = self.state.top().regs[reg]);
        self.state.unset(0..6);
        self.state.frames.push(Rc::new(frame));
        self.commit();
        Ok(Next::Go(self.program.functions[callee].start))
    }

    /// A function's end: of the program, of a callback, or of a function that was called.
    pub fn leave(&mut self, pc: usize) -> Result<Next, Reason> {
        let depth = self.state.depth();
        if depth == 0 {
            return self.end();
        }
        if self.state.top().callback {
            return self.leave_callback(pc);
        }
        let result = *self.state.reg(0);
        if matches!(result, Value::Pointer(Pointer { to: Target::Stack(of), .. }) if usize::from(of) == depth) {
            return Err(Reason::StackEscape);
        }
        let call = self.state.top().call;
        self.state.pop_frame();
        self.state.loops.retain(|active| active.frame < depth);
        // What it acquired is the caller's now.
        self.state.handles.iter_mut().for_each(|handle| handle.frame = handle.frame.min(depth - 1));
        self.state.set(0, result);
        self.commit();
        Ok(Next::Go(call + 1))
    }

    /// The program's end.
    fn end(&mut self) -> Result<Next, Reason> {
        let result = self.number(0)?;
        if let Some((low, high)) = self.rules.returns {
            self.step.demand |= 1;
            if result.range.umin() < low || result.range.umax() > high {
                return Err(Reason::ReturnRange { found: result.range.to_string(), low, high });
            }
        }
        self.check_released(0)?;
        self.commit();
        Ok(Next::end(Default::default(), Default::default()))
    }

    /// Nothing that this frame acquired is still held.
    fn check_released(&self, frame: usize) -> Result<(), Reason> {
        match self.state.handles.iter().find(|handle| handle.frame >= frame) {
            Some(handle) => Err(Reason::Unreleased { what: "record", acquired: handle.pc }),
            None => Ok(()),
        }
    }

    /// Calls a helper.
    pub fn help(&mut self, pc: usize, id: u32) -> Result<Next, Reason> {
        let helper = helpers::find(id).ok_or(Reason::UnknownHelper(id))?;
        if self.rules.hook.is_some_and(|hook| !helper.allowed_in(hook)) {
            return Err(Reason::ForbiddenHelper(helper.name));
        }
        let arguments = self.arguments(helper)?;
        if self.rules.counts_callbacks && !on(Bug::HelperCost) {
            self.spend(helper.cost.of(self.bytes(helper, &arguments)))?;
        }
        if helper.ret == RetKind::StatusIfReturns {
            // It may be the program's end.
            self.check_released(0)?;
        }
        if helper.ret == RetKind::StatusIfReturns
            && let Some(handle) = self.state.handles.first()
        {
            // Where it succeeds, nothing comes after.
            return Err(Reason::Unreleased { what: "record", acquired: handle.pc });
        }
        if helper.releases().is_some() {
            self.release(arguments.released)?;
        }
        let lost = if on(Bug::CallerSaved) { 0..1 } else { 0..6 };
        self.state.unset(lost);
        if let (Some(function), Some((_, kind))) = (arguments.callback, helper.callback()) {
            return self.begin_callback(pc, kind, function, &arguments);
        }
        let returned = match helper.ret {
            RetKind::StatusIfReturns => self.after_tail_call()?,
            _ => None,
        };
        let result = self.result(pc, helper, &arguments);
        self.state.set(0, result);
        self.commit();
        if let Some((state, to)) = returned {
            self.push_node(2, None, 0);
            self.postpone(state, to);
        }
        Ok(Next::Go(pc + 1))
    }

    /// A tail call that succeeds ends the function, not its callers: they get what the other program returns.
    fn after_tail_call(&mut self) -> Result<Option<(State, usize)>, Reason> {
        let depth = self.state.depth();
        if depth == 0 {
            return Ok(None);
        }
        if self.state.top().callback {
            return Err(Reason::TailCallInCallback);
        }
        let mut state = self.state.clone();
        let call = state.top().call;
        state.pop_frame();
        state.loops.retain(|active| active.frame < depth);
        let symbol = self.fresh();
        state.set(0, Value::Number(Num::symbol(Scalar::unknown(), symbol)));
        Ok(Some((state, call + 1)))
    }

    fn bytes(&self, helper: &HelperSpec, arguments: &Arguments) -> u64 {
        let def = arguments.map.and_then(|map| self.map_def(map));
        let (key, value) = def.map_or((0, 0), |def| (u64::from(def.key_size), u64::from(def.value_size)));
        match helper.cost.bytes {
            Bytes::None => 0,
            Bytes::Arg(_) => arguments.bytes,
            Bytes::Key => key,
            Bytes::Value => value,
            Bytes::KeyAndValue => key + value,
        }
    }

    fn arguments(&mut self, helper: &'static HelperSpec) -> Result<Arguments, Reason> {
        let mut arguments = Arguments::default();
        // The map says how large keys and values are, whatever its place.
        for (place, kind) in helper.args.iter().enumerate() {
            if *kind == ArgKind::Map {
                arguments.map = Some(self.map_argument(helper, place as Reg + 1)?);
            }
        }
        // What is read was there before anything is filled, also where both are the same memory.
        let is_filled = |kind: &ArgKind| matches!(kind, ArgKind::ValueOut | ArgKind::MemoryOut { .. });
        for filled in [false, true] {
            for (place, kind) in helper.args.iter().enumerate().filter(|(_, kind)| is_filled(kind) == filled) {
                self.argument(helper, place as Reg + 1, *kind, &mut arguments)?;
            }
        }
        if let Some((_, CallbackKind::Loop)) = helper.callback() {
            arguments.rounds = self.number(1)?.range.umax();
            self.step.demand |= 2;
        }
        Ok(arguments)
    }

    fn map_argument(&self, helper: &'static HelperSpec, reg: Reg) -> Result<MapRef, Reason> {
        let map = match self.get(reg)? {
            Value::Map { map, null: 0 } => map,
            Value::Map { .. } => return Err(Reason::MaybeNull(reg)),
            other => return Err(argument(helper, reg, "a map", &other)),
        };
        match self.map_def(map) {
            Some(def) if helper.maps.contains(&def.kind) && def.region.is_none() => {
                let name = || format!("map {}", self.map_name(map));
                match helper.changes_map() {
                    true if def.flags & FLAG_READ_ONLY_PROGRAM != 0 => Err(Reason::ReadOnly(name())),
                    false if def.flags & FLAG_WRITE_ONLY_PROGRAM != 0 => Err(Reason::WriteOnly(name())),
                    _ => Ok(map),
                }
            }
            Some(def) => Err(Reason::MapKind { helper: helper.name, kind: def.kind.to_string() }),
            None => Err(Reason::MapKind { helper: helper.name, kind: "unknown".into() }),
        }
    }

    fn argument(
        &mut self,
        helper: &'static HelperSpec,
        reg: Reg,
        kind: ArgKind,
        arguments: &mut Arguments,
    ) -> Result<(), Reason> {
        let sizes = |walk: &Self, of: fn(&crate::object::MapDef) -> u32| {
            arguments.map.and_then(|map| walk.map_def(map)).map_or(0, |def| i64::from(of(def)))
        };
        match kind {
            ArgKind::None | ArgKind::Map => Ok(()),
            // Elsewhere printing takes as many numbers as there are.
            ArgKind::Scalar if self.rules.hook.is_none() && helper.id == PRINT && self.get(reg).is_err() => Ok(()),
            ArgKind::Scalar => self.number(reg).map(|_| ()),
            // Flags that other kernels take are none of the judge's business.
            ArgKind::Zero if self.rules.hook.is_none() => self.number(reg).map(|_| ()),
            ArgKind::Zero => self.exactly_zero(helper, reg),
            ArgKind::Key => self.memory_argument(helper, reg, sizes(self, |def| def.key_size), Access::ReadBytes),
            ArgKind::Value => self.memory_argument(helper, reg, sizes(self, |def| def.value_size), Access::ReadBytes),
            ArgKind::ValueOut => {
                let bytes = sizes(self, |def| def.value_size);
                let of = arguments.map.and_then(|map| self.map_def(map)).map(|def| def.kind);
                let access = if kind.is_filled(of) { Access::WriteBytes } else { Access::ReadBytes };
                self.memory_argument(helper, reg, bytes, access)
            }
            ArgKind::ValueOrNull if self.is_zero(reg) => {
                self.step.demand |= 1 << reg;
                Ok(())
            }
            ArgKind::ValueOrNull => {
                let bytes = sizes(self, |def| def.value_size);
                self.memory_argument(helper, reg, bytes, Access::ReadBytes)
            }
            ArgKind::Memory { size } => self.sized_argument(helper, reg, size + 1, Access::ReadBytes),
            ArgKind::MemoryOut { size } => self.sized_argument(helper, reg, size + 1, Access::WriteBytes),
            ArgKind::Size => {
                arguments.bytes = self.size_argument(helper, reg)? as u64;
                Ok(())
            }
            ArgKind::RecordSize => {
                arguments.record_size = Some(self.record_size(helper, reg)?);
                Ok(())
            }
            ArgKind::Record => self.record_argument(helper, reg, arguments),
            ArgKind::ConstString => {
                self.string_argument(helper, reg)?;
                let has_size = helper.args.get(usize::from(reg)) == Some(&ArgKind::Size);
                if has_size { self.sized_argument(helper, reg, reg + 1, Access::ReadBytes) } else { Ok(()) }
            }
            ArgKind::Context => match self.get(reg)? {
                Value::Pointer(Pointer { to: Target::Context, offset, .. }) if offset.is_constant() == Some(0) => {
                    Ok(())
                }
                other => Err(argument(helper, reg, "the context", &other)),
            },
            ArgKind::Callback(_) => match self.get(reg)? {
                Value::Function(function) => {
                    arguments.callback = Some(function as usize);
                    Ok(())
                }
                other => Err(argument(helper, reg, "a function of the program", &other)),
            },
            ArgKind::CallbackContext => {
                let value = self.get(reg)?;
                let is_allowed = match value {
                    Value::Number(number) => self.rules.hook.is_some() || number.is_constant() == Some(0),
                    Value::Pointer(Pointer { to: Target::Stack(_), null, .. }) => null == 0,
                    _ => false,
                };
                self.step.demand |= 1 << reg;
                arguments.context = Some(value);
                if is_allowed {
                    Ok(())
                } else {
                    Err(argument(helper, reg, "a pointer to the stack, or a number", &value))
                }
            }
        }
    }

    fn is_zero(&self, reg: Reg) -> bool {
        self.state.reg(reg).number().is_some_and(|number| number.is_constant() == Some(0))
    }

    fn exactly_zero(&mut self, helper: &'static HelperSpec, reg: Reg) -> Result<(), Reason> {
        self.step.demand |= 1 << reg;
        match self.is_zero(reg) {
            true => Ok(()),
            false => Err(argument(helper, reg, "0", &self.get(reg)?)),
        }
    }

    /// A size: its greatest possible value.
    fn size_argument(&mut self, helper: &'static HelperSpec, reg: Reg) -> Result<i64, Reason> {
        let number = self.number(reg)?;
        self.step.demand |= 1 << reg;
        let (least, most) = (number.range.smin(), number.range.umax());
        if least < 0 || most > 1 << 29 {
            let (expected, found) = ("from 0 up to the size of the memory".to_owned(), number.range.to_string());
            return Err(Reason::ArgumentSize { helper: helper.name, place: reg, expected, found });
        }
        Ok(most as i64)
    }

    fn record_size(&mut self, helper: &'static HelperSpec, reg: Reg) -> Result<u32, Reason> {
        let number = self.number(reg)?;
        self.step.demand |= 1 << reg;
        let least = u32::from(self.rules.hook.is_some());
        let allowed = least..1 << 29;
        match number.is_constant().and_then(|size| u32::try_from(size).ok()).filter(|size| allowed.contains(size)) {
            Some(size) => Ok(size),
            None => {
                let (expected, found) = ("a constant above 0".to_owned(), number.range.to_string());
                Err(Reason::ArgumentSize { helper: helper.name, place: reg, expected, found })
            }
        }
    }

    /// Memory whose size another argument says.
    fn sized_argument(
        &mut self,
        helper: &'static HelperSpec,
        reg: Reg,
        size: Reg,
        access: Access,
    ) -> Result<(), Reason> {
        let most = self.size_argument(helper, size)?;
        let least = self.number(size)?.range.umin();
        // As the kernel has it. Helpers of hooks get a pointer, also to nothing.
        if most == 0 && self.rules.hook.is_none() && self.is_zero(reg) {
            self.step.demand |= 1 << reg;
            return Ok(());
        }
        self.memory_between(helper, reg, least as i64, most, access)
    }

    fn memory_argument(
        &mut self,
        helper: &'static HelperSpec,
        reg: Reg,
        bytes: i64,
        access: Access,
    ) -> Result<(), Reason> {
        self.memory_between(helper, reg, bytes, bytes, access)
    }

    /// Memory of which the helper reads, or fills, at least and at most so many bytes.
    fn memory_between(
        &mut self,
        helper: &'static HelperSpec,
        reg: Reg,
        least: i64,
        most: i64,
        access: Access,
    ) -> Result<(), Reason> {
        let value = self.get(reg)?;
        let pointer = match value {
            Value::Pointer(pointer) if pointer.to != Target::Context => pointer,
            other => return Err(argument(helper, reg, "a pointer to memory", &other)),
        };
        if pointer.null != 0 {
            return Err(Reason::MaybeNull(reg));
        }
        let place = self.place_in(&pointer, 0, most, access)?;
        let Place::Stack { frame, low, high } = place else { return Ok(()) };
        let span = high - low + most;
        if access == Access::ReadBytes {
            self.check_numbers(frame, low, span)?;
            self.step.note_cells(EffectKind::Read, frame as u8, cells_of(low, span));
            return Ok(());
        }
        if self.state.frames[frame].stack.has_pointer(low, span) {
            return Err(Reason::StackPointerCorrupted { offset: low });
        }
        // What is surely filled is written; of the rest it is only known that it may have changed.
        let filled = if low == high { least } else { 0 };
        let whole = whole_cells_of(low, filled);
        self.step.note_cells(EffectKind::Write, frame as u8, whole);
        if span > filled {
            self.state.frame_mut(frame).stack.blur(low + filled, span - filled);
        }
        if filled > 0 {
            self.state.frame_mut(frame).stack.scribble(low, filled);
        }
        self.step.note_cells(EffectKind::Touch, frame as u8, cells_of(low, span) & !whole);
        Ok(())
    }

    /// A string in read-only memory, with its end.
    fn string_argument(&mut self, helper: &'static HelperSpec, reg: Reg) -> Result<(), Reason> {
        if self.rules.hook.is_none() && !helper.args.iter().any(|kind| matches!(kind, ArgKind::Memory { .. })) {
            // Elsewhere it may be any memory of the size that follows.
            return self.sized_argument(helper, reg, reg + 1, Access::ReadBytes);
        }
        let value = self.get(reg)?;
        let refuse = || Err(argument(helper, reg, "a constant string that ends in a zero byte", &value));
        let Value::Pointer(Pointer { to: Target::MapValue(map), offset, null: 0, .. }) = value else { return refuse() };
        let Some(start) = offset.is_constant() else { return refuse() };
        let region = self.map_def(map).and_then(|def| def.region).and_then(|region| self.object.regions.get(region));
        let Some(region) = region.filter(|region| !region.writable && start < region.size) else { return refuse() };
        let bytes = region.bytes.get(start as usize..).unwrap_or_default();
        // Behind the file's bytes there are zeros.
        let ends = bytes.contains(&0) || (region.bytes.len() as u64) < region.size;
        if ends { Ok(()) } else { refuse() }
    }

    fn record_argument(
        &mut self,
        helper: &'static HelperSpec,
        reg: Reg,
        arguments: &mut Arguments,
    ) -> Result<(), Reason> {
        match self.get(reg)? {
            Value::Pointer(pointer) if pointer.null != 0 => Err(Reason::MaybeNull(reg)),
            Value::Pointer(pointer)
                if matches!(pointer.to, Target::Record(_)) && pointer.offset.is_constant() == Some(0) =>
            {
                arguments.released = Some(pointer);
                Ok(())
            }
            other => Err(argument(helper, reg, "a record as it was reserved", &other)),
        }
    }

    fn release(&mut self, pointer: Option<Pointer>) -> Result<(), Reason> {
        let pointer = pointer.ok_or(Reason::NotHeld)?;
        let held = self.state.handles.iter().position(|handle| handle.id == pointer.object).ok_or(Reason::NotHeld)?;
        self.state.handles.remove(held);
        self.state.forget(pointer.object);
        Ok(())
    }

    fn result(&mut self, pc: usize, helper: &HelperSpec, arguments: &Arguments) -> Value {
        let symbol = self.fresh();
        let number = |range: Scalar| Value::Number(Num::symbol(range, symbol));
        match helper.ret {
            RetKind::Nothing => Value::Unset,
            RetKind::Scalar => number(Scalar::unknown()),
            RetKind::Scalar32 => number(Scalar::unknown().zero_extend32()),
            RetKind::Status | RetKind::StatusIfReturns => number(Scalar::signed(-MAX_ERROR, 0)),
            RetKind::CountOrError => number(Scalar::unknown()),
            RetKind::ValueOrNull => {
                let null = self.fresh();
                let Some(map) = arguments.map else { return number(Scalar::unknown()) };
                match self.map_def(map) {
                    Some(def) if def.kind.is_of_maps() => {
                        Value::Map { map: MapRef { index: map.index, inner: true }, null }
                    }
                    _ => {
                        let offset = Num::constant(0);
                        Value::Pointer(Pointer { to: Target::MapValue(map), object: symbol, null, offset, room: 0 })
                    }
                }
            }
            RetKind::RecordOrNull { .. } => {
                let null = self.fresh();
                let frame = self.state.depth();
                self.state.handles.push(Handle { id: symbol, pc, frame });
                let to = Target::Record(arguments.record_size.unwrap_or(0));
                Value::Pointer(Pointer { to, object: symbol, null, offset: Num::constant(0), room: 0 })
            }
        }
    }

    /// A helper that calls back: proves that for any number of rounds.
    fn begin_callback(
        &mut self,
        pc: usize,
        kind: CallbackKind,
        function: usize,
        arguments: &Arguments,
    ) -> Result<Next, Reason> {
        let rounds = match kind {
            CallbackKind::Loop => arguments.rounds.min(MAX_LOOP),
            CallbackKind::MapElement => {
                arguments.map.and_then(|map| self.map_def(map)).map_or(0, |def| u64::from(def.max_entries))
            }
        };
        let context = arguments.context.unwrap_or(Value::constant(0));
        let callback = Callback { kind, function, context, map: arguments.map, rounds };
        let active = ActiveLoop {
            head: pc,
            frame: self.state.depth(),
            count: 0,
            mark: Mark::default(),
            entry_cost: self.total,
            attempt: 0,
            patience: u32::MAX,
            previous: None,
            callback: Some(Rc::new(callback)),
        };
        self.state.loops.push(active);
        self.commit();
        self.try_callback(pc, rounds)?;
        Ok(Next::Go(pc))
    }

    /// The helper is about to call back once more, or to be done.
    pub fn call_back(&mut self, pc: usize) -> Result<Next, Reason> {
        let active = self
            .state
            .loops
            .last()
            .and_then(|active| active.callback.clone().map(|callback| (callback, active.attempt)));
        let Some((callback, number)) = active else { return Err(Reason::CallbackUnsettled("its state".into())) };
        let mut done = self.state.clone();
        done.loops.pop();
        let symbol = self.fresh();
        done.set(0, Value::Number(Num::symbol(Scalar::signed(-MAX_ERROR, callback.rounds as i64), symbol)));
        if callback.rounds == 0 {
            self.state = done;
            return Ok(Next::Go(pc + 1));
        }
        self.push_node(2, None, 0);
        self.postpone(done, pc + 1);
        let depth = self.state.frames.len();
        if depth == MAX_FRAMES {
            return Err(Reason::TooDeep);
        }
        let mut frame = Frame { callback: true, ..Frame::new(callback.function, depth, pc) };
        self.pass_arguments(&mut frame, &callback, number);
        self.state.frames.push(Rc::new(frame));
        Ok(Next::Go(self.program.functions[callback.function].start))
    }

    fn pass_arguments(&mut self, frame: &mut Frame, callback: &Callback, number: u32) {
        let counter = self.attempts.iter().find(|attempt| attempt.number == number);
        let symbol = counter.and_then(|attempt| attempt.classes.first()).map_or(0, |class| class.symbol);
        let last = callback.rounds.saturating_sub(1) as i64;
        // A round begins: not all are done.
        let link = Link { symbol, scale: 1, add: 0 };
        let index = Scalar::signed(0, last);
        let _ = self.state.refine(link, &index);
        match (callback.kind, callback.map) {
            (CallbackKind::MapElement, Some(map)) => {
                let object = self.fresh();
                frame.regs[1] = Value::Map { map, null: 0 };
                frame.regs[2] = Value::pointer(Target::MapKey(map), object);
                frame.regs[3] = Value::pointer(Target::MapValue(map), object);
                frame.regs[4] = callback.context;
            }
            _ => {
                frame.regs[1] = match index.is_constant() {
                    Some(_) => Value::Number(Num::plain(index)),
                    None => Value::Number(Num { range: index, link }),
                };
                frame.regs[2] = callback.context;
            }
        }
    }

    /// A callback returns to the helper, which may call again.
    fn leave_callback(&mut self, pc: usize) -> Result<Next, Reason> {
        let depth = self.state.depth();
        let result = self.number(0)?;
        self.step.demand |= 1;
        if result.range.umax() > 1 {
            return Err(Reason::CallbackResult(result.range.to_string()));
        }
        self.check_released(depth)?;
        self.state.pop_frame();
        self.state.loops.retain(|active| active.frame < depth);
        self.commit();
        let Some(number) = self.state.loops.last().map(|active| active.attempt) else {
            return Err(Reason::CallbackUnsettled("its state".into()));
        };
        let call = self.attempts.iter().find(|attempt| attempt.number == number).map_or(pc, |attempt| attempt.head);
        self.pc = call;
        self.come_back(number).map_err(|stop| *stop.reason)
    }
}

/// trace_printk.
const PRINT: u32 = 6;
/// Errors are small negative numbers.
const MAX_ERROR: i64 = 4095;

fn argument(helper: &'static HelperSpec, place: Reg, expected: &str, found: &Value) -> Reason {
    Reason::Argument { helper: helper.name, place, expected: expected.to_owned(), found: found.to_string() }
}
