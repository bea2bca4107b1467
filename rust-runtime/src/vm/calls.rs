//! Helpers: what they take is checked against the table of helpers; what they give is what the table says it may be.
//!
//! A helper that works on numbers alone is called. Of the others only the outside is played: a lookup finds something or does
//! not, a record is there or is not, memory is filled with anything. The verifier may count on no more.

use super::{
    FaultKind, Machine, Origin, Place, Value, Watch,
    machine::End,
    memory::{RegionId, Spot},
};
use crate::{
    helpers::{self, ArgKind, Bytes, CallbackKind, HelperSpec, MAX_LOOP, RetKind},
    object::MapDef,
};

/// Rounds of a walk over a map.
const MAX_ELEMENTS: u64 = 3;

/// No ring is thought to have room for a larger record.
const MAX_RECORD: u64 = 1 << 24;

impl Machine<'_> {
    /// Calls a helper.
    pub(super) fn helper<W: Watch>(&mut self, id: u32, watch: &mut W) -> Result<End, FaultKind> {
        let spec = helpers::find(id).ok_or(FaultKind::UnknownHelper(id))?;
        let map = self.map_of(spec);
        for place in 0..5 {
            self.check(spec, place, map.as_ref())?;
        }
        self.cost = self.cost.saturating_add(spec.cost.of(self.bytes(spec, map.as_ref())));
        let result = match spec.callback() {
            Some((place, kind)) => Some(Value::number(self.walk(kind, place, watch)?)),
            None => self.result(spec, map.as_ref())?,
        };
        let Some(result) = result else { return Ok(End::TailCall) };
        self.fill(spec, map.as_ref(), result)?;
        self.regs[0] = result;
        self.regs[1..6].fill(Value::UNSET);
        Ok(End::Exit)
    }

    fn argument(&self, place: usize) -> Value {
        self.regs[place + 1]
    }

    fn map_of(&self, spec: &HelperSpec) -> Option<MapDef> {
        let place = spec.args.iter().position(|arg| *arg == ArgKind::Map)?;
        match self.argument(place).origin {
            Origin::Map(index) => self.code.maps.get(index as usize).cloned(),
            Origin::InnerMap(index) => self.code.maps.get(index as usize)?.inner.as_deref().cloned(),
            _ => None,
        }
    }

    fn check(&mut self, spec: &HelperSpec, place: usize, map: Option<&MapDef>) -> Result<(), FaultKind> {
        let value = self.argument(place);
        let wrong = FaultKind::Argument(place + 1);
        if spec.args[place] != ArgKind::None && value.origin == Origin::Unset {
            return Err(FaultKind::Uninitialised);
        }
        let is_right = match spec.args[place] {
            ArgKind::None | ArgKind::CallbackContext => true,
            ArgKind::Scalar | ArgKind::Size => value.is_number(),
            ArgKind::RecordSize => value.is_number() && value.bits != 0,
            ArgKind::Zero => value == Value::number(0),
            ArgKind::Map => map.is_some_and(|map| spec.maps.contains(&map.kind)),
            ArgKind::Callback(_) => matches!(value.origin, Origin::Function(_)),
            ArgKind::Context => self.is_start_of(value, |place| place == Place::Context),
            ArgKind::Record => {
                let spot = self.memory.spot(value, 0, 0, true)?;
                let is_record = self.is_start_of(value, |place| matches!(place, Place::Record(_)));
                if is_record {
                    self.memory.end(spot.region);
                }
                is_record
            }
            ArgKind::ConstString => {
                if spec.args.get(place + 1) == Some(&ArgKind::Size) {
                    let size = usize::try_from(self.argument(place + 1).bits).unwrap_or(usize::MAX);
                    self.memory.spot(value, 0, size, false)?;
                }
                self.is_string(value)
            }
            ArgKind::ValueOrNull if value == Value::number(0) => true,
            kind if kind.is_filled(map.map(|map| map.kind)) => {
                self.memory_argument(spec, place, map, true)?;
                true
            }
            ArgKind::Key
            | ArgKind::Value
            | ArgKind::ValueOrNull
            | ArgKind::ValueOut
            | ArgKind::Memory { .. }
            | ArgKind::MemoryOut { .. } => {
                let (spot, size) = self.memory_argument(spec, place, map, false)?;
                self.memory.read(spot, size)?;
                true
            }
        };
        if is_right { Ok(()) } else { Err(wrong) }
    }

    fn is_start_of(&self, value: Value, is_wanted: impl Fn(Place) -> bool) -> bool {
        self.memory.offset(value).is_some_and(|(region, at)| at == 0 && is_wanted(self.memory.region(region).place))
    }

    fn is_string(&self, value: Value) -> bool {
        let Some((region, at)) = self.memory.offset(value) else { return false };
        let region = self.memory.region(region);
        let bytes = usize::try_from(at).ok().and_then(|at| region.bytes.get(at..));
        matches!(region.place, Place::Global { writable: false, .. }) && bytes.is_some_and(|bytes| bytes.contains(&0))
    }

    /// The memory that an argument stands for.
    fn memory_argument(
        &self,
        spec: &HelperSpec,
        place: usize,
        map: Option<&MapDef>,
        write: bool,
    ) -> Result<(Spot, usize), FaultKind> {
        let map = || map.ok_or(FaultKind::Argument(place + 1));
        let size = match spec.args[place] {
            ArgKind::Key => map()?.key_size as usize,
            ArgKind::Memory { size } | ArgKind::MemoryOut { size } => {
                usize::try_from(self.argument(usize::from(size)).bits).unwrap_or(usize::MAX)
            }
            _ => map()?.value_size as usize,
        };
        Ok((self.memory.spot(self.argument(place), 0, size, write)?, size))
    }

    /// The bytes that a call's cost counts.
    fn bytes(&self, spec: &HelperSpec, map: Option<&MapDef>) -> u64 {
        let of = |size: fn(&MapDef) -> u32| map.map_or(0, |map| u64::from(size(map)));
        match spec.cost.bytes {
            Bytes::None => 0,
            Bytes::Arg(place) => self.argument(usize::from(place)).bits,
            Bytes::Key => of(|map| map.key_size),
            Bytes::Value => of(|map| map.value_size),
            Bytes::KeyAndValue => of(|map| map.key_size).saturating_add(of(|map| map.value_size)),
        }
    }

    /// Calls back. Gives the rounds that were made, or an error.
    fn walk<W: Watch>(&mut self, kind: CallbackKind, place: usize, watch: &mut W) -> Result<u64, FaultKind> {
        let Origin::Function(start) = self.argument(place).origin else {
            return Err(FaultKind::Argument(place + 1));
        };
        let (first, context) = (self.argument(0), self.argument(place + 1));
        let rounds = match kind {
            CallbackKind::Loop if first.bits > MAX_LOOP => return Ok(-7i64 as u64),
            CallbackKind::Loop => first.bits,
            CallbackKind::MapElement => self.noise.next() % (MAX_ELEMENTS + 1),
        };
        for round in 0..rounds {
            let arguments = match kind {
                CallbackKind::Loop => vec![Value::number(round), context],
                CallbackKind::MapElement => self.element(first, context)?,
            };
            if self.callback(start as usize, &arguments, watch)? != 0 {
                return Ok(round + 1);
            }
        }
        Ok(rounds)
    }

    /// What a walk over a map shows its callback.
    fn element(&mut self, map: Value, context: Value) -> Result<Vec<Value>, FaultKind> {
        let Origin::Map(index) = map.origin else { return Err(FaultKind::Argument(1)) };
        let def = self.code.maps.get(index as usize).ok_or(FaultKind::Argument(1))?;
        let (key, value) = (def.key_size, def.value_size);
        let (key, value) = (self.made_up(Place::MapKey(index), key), self.made_up(Place::MapValue(index), value));
        Ok(vec![map, self.memory.pointer(key, 0), self.memory.pointer(value, 0), context])
    }

    fn made_up(&mut self, place: Place, size: u32) -> RegionId {
        let bytes = (0..size).map(|_| self.noise.next() as u8).collect();
        self.memory.add(place, bytes)
    }

    /// What a call gives; None: a tail call took over.
    fn result(&mut self, spec: &HelperSpec, map: Option<&MapDef>) -> Result<Option<Value>, FaultKind> {
        let is_there = self.noise.next() & 1 == 1;
        let number = match spec.ret {
            RetKind::Nothing => return Ok(Some(Value::UNSET)),
            RetKind::ValueOrNull if is_there => return self.found(map).map(Some),
            RetKind::RecordOrNull { size } if is_there => {
                let size = self.argument(usize::from(size)).bits;
                if size > MAX_RECORD {
                    return Ok(Some(Value::number(0)));
                }
                let Origin::Map(index) = self.argument(0).origin else { return Err(FaultKind::Argument(1)) };
                let region = self.made_up(Place::Record(index), size as u32);
                return Ok(Some(self.memory.pointer(region, 0)));
            }
            RetKind::StatusIfReturns if is_there => return Ok(None),
            RetKind::ValueOrNull | RetKind::RecordOrNull { .. } => 0,
            RetKind::Scalar | RetKind::Scalar32 if takes_numbers(spec) => self.call_host(spec),
            RetKind::Scalar => self.noise.next(),
            RetKind::Scalar32 => u64::from(self.noise.next() as u32),
            RetKind::Status if is_there => 0,
            RetKind::Status | RetKind::StatusIfReturns => -22i64 as u64,
            RetKind::CountOrError => (self.noise.next() % 64).wrapping_sub(32),
        };
        Ok(Some(Value::number(number)))
    }

    /// What a lookup finds in the map that is its first argument.
    fn found(&mut self, map: Option<&MapDef>) -> Result<Value, FaultKind> {
        let map = map.ok_or(FaultKind::Argument(1))?;
        let index = match self.argument(0).origin {
            Origin::Map(index) if map.kind.is_of_maps() => {
                return Ok(Value { bits: !u64::from(index) >> 1, origin: Origin::InnerMap(index) });
            }
            Origin::Map(index) => index,
            // An inner map has no place in the object.
            _ => u32::MAX,
        };
        let region = self.made_up(Place::MapValue(index), map.value_size);
        Ok(self.memory.pointer(region, 0))
    }

    fn call_host(&self, spec: &HelperSpec) -> u64 {
        let r = |reg: usize| self.regs[reg].bits;
        (spec.function)(r(1), r(2), r(3), r(4), r(5), self.env)
    }

    /// Fills what the call was given to be filled; a pop that fails leaves zeros.
    fn fill(&mut self, spec: &HelperSpec, map: Option<&MapDef>, result: Value) -> Result<(), FaultKind> {
        for place in 0..5 {
            if !spec.args[place].is_filled(map.map(|map| map.kind)) {
                continue;
            }
            let (spot, size) = self.memory_argument(spec, place, map, true)?;
            let is_filled = spec.args[place] != ArgKind::ValueOut || result == Value::number(0);
            let bytes: Vec<u8> = (0..size).map(|_| if is_filled { self.noise.next() as u8 } else { 0 }).collect();
            self.memory.write(spot, &bytes);
        }
        Ok(())
    }
}

/// It looks at no memory, so that it can be called with the values as they are.
fn takes_numbers(spec: &HelperSpec) -> bool {
    spec.args.iter().all(|arg| matches!(arg, ArgKind::None | ArgKind::Scalar | ArgKind::Zero))
}
