//! The hash hookpoint: joins, their bloom filters (filters.cpp) and aggregations ask here instead of VectorOperations.
//!
//! Everything that must agree does so by construction: the program is the one that the query pinned at its begin, chosen by
//! physical type only, never by the shape of a vector. Types that it does not take, and nested ones, are stock for the whole
//! query. A dictionary's hashes are kept here and not where stock keeps them, since everybody shares those. NULLs, gathering,
//! combining and the mixer are the host's; running out of memory ends the query, as it does in stock.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "identity.hpp"

#include "duckdb/common/types/data_chunk.hpp"
#include "duckdb/common/types/hash.hpp"
#include "duckdb/common/types/interval.hpp"
#include "duckdb/common/types/string_type.hpp"
#include "duckdb/common/vector/constant_vector.hpp"
#include "duckdb/common/vector/dictionary_vector.hpp"
#include "duckdb/common/vector/flat_vector.hpp"
#include "duckdb/common/vector_operations/vector_operations.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

std::atomic<idx_t> hash_queries {0};

namespace {

//! As in common/vector_operations/vector_hash.cpp
constexpr hash_t NULL_HASH = 0xbf58476d1ce4e5b9;
hash_t Combine(hash_t a, hash_t b) {
	a ^= a >> 32;
	a *= 0xd6e8feb86659fd93U;
	return a ^ b;
}

//===--------------------------------------------------------------------===//
// Keys: how each physical type is handed to the program
//===--------------------------------------------------------------------===//
//! Keys that go to the program in one call, unless a vector's own data are keys
constexpr idx_t BATCH = 512;
//! And the most memory that they take
constexpr idx_t BATCH_BYTES = 8192;

struct Wide {
	uint64_t lo;
	uint64_t hi;
};

template <class T>
T PlainKey(const T &value, bool) {
	return value;
}

//! -0.0 equals +0.0, and every NaN every other
template <class T>
T FloatKey(const T &value, bool) {
	return value == T(0) ? T(0) : std::isnan(value) ? std::numeric_limits<T>::quiet_NaN() : value;
}

Wide IntervalKey(const interval_t &value, bool) {
	int64_t months, days, micros;
	value.Normalize(months, days, micros);
	return {static_cast<uint64_t>(micros),
	        static_cast<uint64_t>(months) << 32 | static_cast<uint32_t>(static_cast<int32_t>(days))};
}

//! The first 16 bytes, padded with zeros, which short strings carry in themselves
duckbpf_hash_ctx StringKey(const string_t &value, bool reads_whole) {
	duckbpf_hash_ctx key {};
	const auto size = value.GetSize();
	const auto data = value.GetData();
	if (value.IsInlined()) {
		uint32_t rest;
		memcpy(&key.lo, data, sizeof(key.lo));
		memcpy(&rest, data + sizeof(key.lo), sizeof(rest));
		key.hi = rest;
	} else {
		const auto known = MinValue<idx_t>(size, sizeof(key.lo) + sizeof(key.hi));
		memcpy(&key.lo, data, sizeof(key.lo));
		memcpy(&key.hi, data + known - sizeof(key.hi), sizeof(key.hi));
		key.hi >>= 8 * (sizeof(key.lo) + sizeof(key.hi) - known);
	}
	key.whole = reads_whole ? duckdb::Hash<string_t>(value) : 0;
	key.len = static_cast<uint32_t>(size);
	key.type = DUCKBPF_TYPE_VARCHAR;
	return key;
}

uint64_t WholeKey(const string_t &value, bool) {
	return duckdb::Hash<string_t>(value);
}

//! The keys of the rows at `index`, or of the first rows where it is null
template <class STORED, class KEY, KEY OF(const STORED &, bool)>
void Gather(const_data_ptr_t from, const sel_t *index, idx_t count, bool reads_whole, void *to) {
	const auto data = reinterpret_cast<const STORED *>(from);
	const auto keys = static_cast<KEY *>(to);
	if (!index) {
		for (idx_t i = 0; i < count; i++) {
			keys[i] = OF(data[i], reads_whole);
		}
		return;
	}
	for (idx_t i = 0; i < count; i++) {
		keys[i] = OF(data[index[i]], reads_whole);
	}
}

struct KeyType {
	duckbpf_type type;
	duckbpf_key_layout layout;
	//! A vector's own data are keys
	bool in_place;
	//! Bytes of a value in a vector, and of a key
	uint32_t stored;
	uint32_t size;
	void (*gather)(const_data_ptr_t from, const sel_t *index, idx_t count, bool reads_whole, void *to);

	//! What a context says of all keys of the type; strings say it themselves
	uint32_t Length() const {
		return type == DUCKBPF_TYPE_VARCHAR ? 0 : stored;
	}
};

template <class STORED, class KEY, KEY OF(const STORED &, bool)>
constexpr KeyType Made(duckbpf_type type, duckbpf_key_layout layout) {
	return {type, layout, false, sizeof(STORED), sizeof(KEY), Gather<STORED, KEY, OF>};
}

template <class T>
constexpr KeyType Plain(duckbpf_type type, duckbpf_key_layout layout) {
	return {type, layout, true, sizeof(T), sizeof(T), Gather<T, T, PlainKey<T>>};
}

constexpr KeyType INT8_KEYS = Plain<uint8_t>(DUCKBPF_TYPE_INT8, DUCKBPF_KEYS_I8);
constexpr KeyType INT16_KEYS = Plain<uint16_t>(DUCKBPF_TYPE_INT16, DUCKBPF_KEYS_I16);
constexpr KeyType INT32_KEYS = Plain<uint32_t>(DUCKBPF_TYPE_INT32, DUCKBPF_KEYS_I32);
constexpr KeyType INT64_KEYS = Plain<uint64_t>(DUCKBPF_TYPE_INT64, DUCKBPF_KEYS_64);
constexpr KeyType UINT8_KEYS = Plain<uint8_t>(DUCKBPF_TYPE_UINT8, DUCKBPF_KEYS_U8);
constexpr KeyType UINT16_KEYS = Plain<uint16_t>(DUCKBPF_TYPE_UINT16, DUCKBPF_KEYS_U16);
constexpr KeyType UINT32_KEYS = Plain<uint32_t>(DUCKBPF_TYPE_UINT32, DUCKBPF_KEYS_U32);
constexpr KeyType UINT64_KEYS = Plain<uint64_t>(DUCKBPF_TYPE_UINT64, DUCKBPF_KEYS_64);
constexpr KeyType INT128_KEYS = Plain<Wide>(DUCKBPF_TYPE_INT128, DUCKBPF_KEYS_128);
constexpr KeyType UINT128_KEYS = Plain<Wide>(DUCKBPF_TYPE_UINT128, DUCKBPF_KEYS_128);
constexpr KeyType FLOAT_KEYS = Made<float, float, FloatKey<float>>(DUCKBPF_TYPE_FLOAT, DUCKBPF_KEYS_U32);
constexpr KeyType DOUBLE_KEYS = Made<double, double, FloatKey<double>>(DUCKBPF_TYPE_DOUBLE, DUCKBPF_KEYS_64);
constexpr KeyType INTERVAL_KEYS = Made<interval_t, Wide, IntervalKey>(DUCKBPF_TYPE_INTERVAL, DUCKBPF_KEYS_128);
constexpr KeyType STRING_KEYS =
    Made<string_t, duckbpf_hash_ctx, StringKey>(DUCKBPF_TYPE_VARCHAR, DUCKBPF_KEYS_CTX);
constexpr KeyType WHOLE_KEYS = Made<string_t, uint64_t, WholeKey>(DUCKBPF_TYPE_VARCHAR, DUCKBPF_KEYS_WHOLE);

//! Null: programs do not see such keys
const KeyType *FindKeyType(PhysicalType type) {
	switch (type) {
	case PhysicalType::BOOL:
	case PhysicalType::INT8:
		return &INT8_KEYS;
	case PhysicalType::INT16:
		return &INT16_KEYS;
	case PhysicalType::INT32:
		return &INT32_KEYS;
	case PhysicalType::INT64:
		return &INT64_KEYS;
	case PhysicalType::UINT8:
		return &UINT8_KEYS;
	case PhysicalType::UINT16:
		return &UINT16_KEYS;
	case PhysicalType::UINT32:
		return &UINT32_KEYS;
	case PhysicalType::UINT64:
		return &UINT64_KEYS;
	case PhysicalType::INT128:
		return &INT128_KEYS;
	case PhysicalType::UINT128:
		return &UINT128_KEYS;
	case PhysicalType::FLOAT:
		return &FLOAT_KEYS;
	case PhysicalType::DOUBLE:
		return &DOUBLE_KEYS;
	case PhysicalType::INTERVAL:
		return &INTERVAL_KEYS;
	case PhysicalType::VARCHAR:
		return &STRING_KEYS;
	default:
		return nullptr;
	}
}

//===--------------------------------------------------------------------===//
// Hashes: where they go
//===--------------------------------------------------------------------===//
//! Hashes of rows: set, or combined with what is there, or with the same hash for all
class Target {
public:
	static Target Set(hash_t *hashes) {
		return Target(hashes, SET, 0);
	}
	static Target Combined(hash_t *hashes) {
		return Target(hashes, COMBINE, 0);
	}
	static Target CombinedWith(hash_t constant, hash_t *hashes) {
		return Target(hashes, COMBINE_WITH, constant);
	}

	//! Where hashes of consecutive rows can be written at once; null where they have to be put
	hash_t *Direct(idx_t first) const {
		return how == SET ? hashes + first : nullptr;
	}
	//! Puts count hashes where rows[i] is, or `first` + i
	__attribute__((noinline)) void Put(const sel_t *rows, idx_t first, idx_t count, const hash_t *from) const {
		switch (how) {
		case SET:
			return Each(rows, first, count, [=](idx_t i, hash_t) { return from[i]; });
		case COMBINE:
			return rows ? Each(rows, first, count, [=](idx_t i, hash_t there) { return Combine(there, from[i]); })
			            : CombineAll(hashes + first, from, count);
		case COMBINE_WITH:
			return Each(rows, first, count, [=, with = constant](idx_t i, hash_t) { return Combine(with, from[i]); });
		}
	}
	//! The same hash for all
	void PutOne(const sel_t *rows, idx_t count, hash_t hash) const {
		hash_t same[64];
		std::fill_n(same, MinValue<idx_t>(count, 64), hash);
		for (idx_t begin = 0; begin < count; begin += 64) {
			Put(rows ? rows + begin : nullptr, begin, MinValue<idx_t>(count - begin, 64), same);
		}
	}

private:
	enum How { SET, COMBINE, COMBINE_WITH };
	Target(hash_t *hashes, How how, hash_t constant) : hashes(hashes), how(how), constant(constant) {
	}

	//! Four at once: for hookpoints' sake the compiler is told to prefer registers of 16 bytes, and here it would halve them
	static void CombineAll(hash_t *__restrict to, const hash_t *__restrict from, idx_t count) {
#ifdef __clang__
#pragma clang loop vectorize_width(4)
#endif
		for (idx_t i = 0; i < count; i++) {
			to[i] = Combine(to[i], from[i]);
		}
	}

	template <class OP>
	void Each(const sel_t *rows, idx_t first, idx_t count, OP &&op) const {
		if (rows) {
			for (idx_t i = 0; i < count; i++) {
				auto &to = hashes[rows[i]];
				to = op(i, to);
			}
			return;
		}
		const auto to = hashes + first;
		for (idx_t i = 0; i < count; i++) {
			to[i] = op(i, to[i]);
		}
	}

	hash_t *const hashes;
	const How how;
	const hash_t constant;
};

//===--------------------------------------------------------------------===//
// Dictionaries: each string is hashed once
//===--------------------------------------------------------------------===//
//! The hashes of dictionaries that a thread saw last, as the program in force makes them. Stock keeps its own in the dictionary.
class DictionaryCache {
	//! Larger ones are hashed row by row
	static constexpr idx_t MAX_ENTRIES = 16384;
	static constexpr idx_t SLOTS = 8;

	struct Slot {
		const DictionaryEntry *entry = nullptr;
		//! Lives as long as the dictionary, so that no other has its address
		weak_ptr<DictionaryEntry> alive;
		uint64_t generation = 0;
		unsafe_unique_array<hash_t> hashes;
	};

public:
	//! The hashes of the dictionary's entries, which `fill` makes where they are not known yet; null: go row by row
	template <class FILL>
	const hash_t *Find(const Vector &input, uint64_t generation, FILL &&fill) {
		auto &buffer = const_cast<Vector &>(input).BufferMutable().Cast<DictionaryBuffer>();
		auto &entry = buffer.GetEntry();
		for (auto &slot : slots) {
			if (slot.entry == &entry && slot.generation == generation && !slot.alive.expired()) {
				return slot.hashes.get();
			}
		}
		const auto size = buffer.GetDictionarySize().GetIndex();
		if (size > MAX_ENTRIES) {
			return nullptr;
		}
		auto &slot = slots[next++ % SLOTS];
		slot.entry = nullptr;
		slot.hashes = make_unsafe_uniq_array_uninitialized<hash_t>(size);
		fill(entry.data, size, slot.hashes.get());
		slot.alive = buffer.GetEntryPtr();
		slot.generation = generation;
		slot.entry = &entry;
		return slot.hashes.get();
	}

private:
	Slot slots[SLOTS];
	idx_t next = 0;
};

DictionaryCache &Dictionaries() {
	static thread_local DictionaryCache cache;
	return cache;
}

//! As stock decides whether it keeps a dictionary's hashes
bool HasCachedHashes(const Vector &input) {
	return input.GetVectorType() == VectorType::DICTIONARY_VECTOR && DictionaryVector::CanCacheHashes(input);
}

//===--------------------------------------------------------------------===//
// A vector through the program
//===--------------------------------------------------------------------===//
class Hasher {
public:
	Hasher(const duckbpf_program &program, const KeyType &keys) : thread(Thread()), program(program), keys(keys) {
	}
	~Hasher() {
		thread.counters[DUCKBPF_HOOK_HASH].keys.Add(total_keys);
	}
	Hasher(const Hasher &) = delete;
	Hasher &operator=(const Hasher &) = delete;

	//! The vector is done, and so many keys otherwise than by Run()
	void Count(idx_t more_keys = 0) {
		total_keys += more_keys;
		thread.counters[DUCKBPF_HOOK_HASH].calls.Add(1);
		thread.counters[DUCKBPF_HOOK_HASH].applied.Add(1);
	}

	void Hash(const Vector &input, Vector &result, const sel_t *rsel, idx_t count) {
		if (input.GetVectorType() == VectorType::CONSTANT_VECTOR) {
			result.SetVectorType(VectorType::CONSTANT_VECTOR);
			FlatVector::SetSize(result, count_t(count));
			*ConstantVector::GetData<hash_t>(result) = Constant(input);
			return;
		}
		result.SetVectorType(VectorType::FLAT_VECTOR);
		FlatVector::SetSize(result, count_t(count));
		Rows(input, rsel, count, Target::Set(FlatVector::GetDataMutable<hash_t>(result)));
	}

	void CombineHash(const Vector &input, Vector &result, const sel_t *rsel, idx_t count) {
		const auto is_constant = result.GetVectorType() == VectorType::CONSTANT_VECTOR;
		if (is_constant && input.GetVectorType() == VectorType::CONSTANT_VECTOR) {
			auto hash = ConstantVector::GetData<hash_t>(result);
			*hash = Combine(*hash, Constant(input));
			return;
		}
		const auto constant = is_constant ? *ConstantVector::GetData<hash_t>(result) : 0;
		if (is_constant) {
			result.SetVectorType(VectorType::FLAT_VECTOR);
			FlatVector::SetSize(result, count_t(count));
		}
		auto hashes = FlatVector::GetDataMutable<hash_t>(result);
		Rows(input, rsel, count, is_constant ? Target::CombinedWith(constant, hashes) : Target::Combined(hashes));
	}

	hash_t One(const_data_ptr_t value) {
		alignas(duckbpf_hash_ctx) data_t key[sizeof(duckbpf_hash_ctx)];
		hash_t hash;
		keys.gather(value, nullptr, 1, ReadsWhole(), key);
		Run(key, &hash, 1);
		return hash;
	}

private:
	bool ReadsWhole() const {
		return program.flags & DUCKBPF_PROGRAM_HASH_READS_WHOLE;
	}

	hash_t Constant(const Vector &input) {
		return ConstantVector::IsNull(input) ? NULL_HASH : One(ConstantVector::GetData(input));
	}

	void Rows(const Vector &input, const sel_t *rsel, idx_t count, const Target &target) {
		if (input.GetVectorType() == VectorType::CONSTANT_VECTOR) {
			return target.PutOne(rsel, count, Constant(input));
		}
		if (HasCachedHashes(input) && Dictionary(input, rsel, count, target)) {
			return;
		}
		UnifiedVectorFormat format;
		input.ToUnifiedFormat(format);
		if (format.validity.CanHaveNull()) {
			WithNulls(format, rsel, count, target);
		} else {
			WithoutNulls(format, rsel, count, target);
		}
	}

	//! False: row by row
	bool Dictionary(const Vector &input, const sel_t *rsel, idx_t count, const Target &target) {
		const auto hash_entries = [&](const Vector &entries, idx_t size, hash_t *hashes) {
			Rows(entries, nullptr, size, Target::Set(hashes));
		};
		const auto hashes = Dictionaries().Find(input, program.generation, hash_entries);
		if (!hashes) {
			return false;
		}
		const auto &sel = DictionaryVector::SelVector(input);
		hash_t found[BATCH];
		for (idx_t begin = 0; begin < count; begin += BATCH) {
			const auto n = MinValue<idx_t>(count - begin, BATCH);
			const auto rows = rsel ? rsel + begin : nullptr;
			const auto direct = rows ? nullptr : target.Direct(begin);
			const auto to = direct ? direct : found;
			for (idx_t i = 0; i < n; i++) {
				to[i] = hashes[sel.get_index(rows ? rows[i] : begin + i)];
			}
			if (!direct) {
				target.Put(rows, begin, n, found);
			}
		}
		return true;
	}

	//! Rows are gathered, unless keys lie one after the other; hashes are put, unless they are to lie so
	void WithoutNulls(const UnifiedVectorFormat &format, const sel_t *rsel, idx_t count, const Target &target) {
		const auto sel = format.sel->data();
		const auto is_linear = !rsel && !sel;
		sel_t both[BATCH];
		hash_t hashes[BATCH];
		const auto step = is_linear && keys.in_place && target.Direct(0) ? count : Step();
		for (idx_t begin = 0; begin < count; begin += step) {
			const auto n = MinValue<idx_t>(count - begin, step);
			const auto rows = rsel ? rsel + begin : nullptr;
			auto index = rows ? rows : sel ? sel + begin : nullptr;
			if (rows && sel) {
				for (idx_t i = 0; i < n; i++) {
					both[i] = sel[rows[i]];
				}
				index = both;
			}
			const auto direct = rows ? nullptr : target.Direct(begin);
			const auto first = is_linear ? format.data + begin * keys.stored : format.data;
			Gathered(first, index, n, direct ? direct : hashes);
			if (!direct) {
				target.Put(rows, begin, n, hashes);
			}
		}
	}

	void WithNulls(const UnifiedVectorFormat &format, const sel_t *rsel, idx_t count, const Target &target) {
		sel_t index[BATCH], rows[BATCH], nulls[BATCH];
		hash_t hashes[BATCH];
		for (idx_t begin = 0; begin < count; begin += Step()) {
			const auto end = MinValue<idx_t>(count, begin + Step());
			idx_t n = 0, n_nulls = 0;
			for (idx_t i = begin; i < end; i++) {
				const auto row = rsel ? rsel[i] : i;
				const auto at = format.sel->get_index(row);
				const auto is_valid = format.validity.RowIsValidUnsafe(at);
				index[n] = static_cast<sel_t>(at);
				rows[n] = static_cast<sel_t>(row);
				nulls[n_nulls] = static_cast<sel_t>(row);
				n += is_valid;
				n_nulls += !is_valid;
			}
			Gathered(format.data, index, n, hashes);
			target.Put(rows, 0, n, hashes);
			target.PutOne(nulls, n_nulls, NULL_HASH);
		}
	}

	idx_t Step() const {
		return MinValue<idx_t>(BATCH, BATCH_BYTES / keys.size);
	}

	void Gathered(const_data_ptr_t data, const sel_t *index, idx_t n, hash_t *hashes) {
		if (!index && keys.in_place) {
			return Run(data, hashes, n);
		}
		alignas(64) data_t gathered[BATCH_BYTES];
		keys.gather(data, index, n, ReadsWhole(), gathered);
		Run(gathered, hashes, n);
	}

	void Run(const void *data, hash_t *hashes, idx_t n) {
		static_assert(sizeof(hash_t) == sizeof(__u64), "hashes have 64 bits");
		if (n == 0) {
			return;
		}
		duckbpf_hash_batch batch;
		batch.keys = data;
		batch.out = reinterpret_cast<__u64 *>(hashes);
		batch.count = n;
		batch.layout = keys.layout;
		batch.type = keys.type;
		batch.len = keys.Length();
		batch.reserved = 0;
		{
			const Sample sample(thread, DUCKBPF_HOOK_HASH);
			program.hash_batch(&batch);
		}
		if (!(program.flags & DUCKBPF_PROGRAM_HASH_MIXED)) {
			for (idx_t i = 0; i < n; i++) {
				hashes[i] = MurmurHash64(hashes[i]);
			}
		}
		total_keys += n;
	}

	ThreadState &thread;
	const duckbpf_program &program;
	const KeyType &keys;
	idx_t total_keys = 0;
};

//! How the program takes keys of a type; null: not at all
const KeyType *TakenKeys(const duckbpf_program *program, PhysicalType type) {
	auto keys = program ? FindKeyType(type) : nullptr;
	if (!keys || !(program->hash_types >> keys->type & 1)) {
		return nullptr;
	}
	return keys == &STRING_KEYS && program->flags & DUCKBPF_PROGRAM_HASH_STRINGS_BY_WHOLE ? &WHOLE_KEYS : keys;
}

//! What the program returns is the hash that it is handed, of a string: stock comes to the same, with the hashes of dictionaries
//! that all threads share
bool HashesAsStock(const duckbpf_program &program, const KeyType &keys) {
	const auto as_host = DUCKBPF_PROGRAM_HASH_STRINGS_AS_HOST | DUCKBPF_PROGRAM_HASH_MIXED;
	return keys.type == DUCKBPF_TYPE_VARCHAR && (program.flags & as_host) == as_host;
}

void HashAsStock(bool combine, const Vector &input, Vector &result, const SelectionVector *rsel, idx_t count) {
	if (combine && rsel) {
		VectorOperations::CombineHash(result, input, *rsel, count);
	} else if (combine) {
		VectorOperations::CombineHash(result, input, count);
	} else if (rsel) {
		VectorOperations::Hash(input, result, *rsel, count);
	} else {
		VectorOperations::Hash(input, result, count);
	}
}

//! Hashes or combines the input if the program takes its type; else does nothing
bool TryHash(const duckbpf_program *program, bool combine, const Vector &input, Vector &result,
             const SelectionVector *rsel, idx_t count) {
	if (!program) {
		return false;
	}
	const auto keys = TakenKeys(program, input.GetType().InternalType());
	if (!keys) {
		return false;
	}
	Hasher hasher(*program, *keys);
	if (HashesAsStock(*program, *keys)) {
		HashAsStock(combine, input, result, rsel, count);
		hasher.Count(count);
		return true;
	}
	const auto rows = rsel ? rsel->data() : nullptr;
	if (combine) {
		hasher.CombineHash(input, result, rows, count);
	} else {
		hasher.Hash(input, result, rows, count);
	}
	hasher.Count();
	return true;
}

//! Hashes or combines the input by the program, or as stock
void HashBy(const duckbpf_program *program, bool combine, const Vector &input, Vector &result,
            const SelectionVector *rsel, idx_t count) {
	if (!TryHash(program, combine, input, result, rsel, count)) {
		HashAsStock(combine, input, result, rsel, count);
	}
}

const duckbpf_program *PinnedProgram(ClientContext &context) {
	auto entry = FindQuery(context);
	return entry ? entry->hash : nullptr;
}

} // namespace

void HookedHash(ClientContext &context, const Vector &input, Vector &result, const SelectionVector *sel, idx_t count) {
	HashBy(PinnedProgram(context), false, input, result, sel, count);
}

void HookedCombineHash(ClientContext &context, Vector &hashes, const Vector &input, const SelectionVector *sel,
                       idx_t count) {
	HashBy(PinnedProgram(context), true, input, hashes, sel, count);
}

void HookedHash(ClientContext &context, DataChunk &chunk, Vector &result) {
	const auto count = chunk.size();
	HookedHash(context, chunk.data[0], result, nullptr, count);
	for (idx_t i = 1; i < chunk.ColumnCount(); i++) {
		HookedCombineHash(context, result, chunk.data[i], nullptr, count);
	}
}

bool FilterHash(const BloomFilter &filter, PhysicalType type, const_data_ptr_t value, hash_t &hash) {
	auto program = FilterProgram(filter);
	auto keys = TakenKeys(program, type);
	if (!keys) {
		return false;
	}
	hash = Hasher(*program, *keys).One(value);
	return true;
}

void HookedFilterHash(const BloomFilter &filter, const Vector &input, Vector &result, const SelectionVector *sel,
                      idx_t count) {
	HashBy(FilterProgram(filter), false, input, result, sel, count);
}

} // namespace duckbpf
