//! The hash hookpoint: joins, their bloom filters and aggregations ask here instead of VectorOperations.
//!
//! Everything that must agree does so by construction: the program is the one that the query pinned at its begin, chosen by
//! physical type only, never by the shape of a vector. Types that it does not take, and nested ones, are stock for the whole
//! query. The caches of a dictionary's hashes are bypassed, since stock shares them. NULLs, gathering, combining and the mixer
//! are the host's; nothing here can fail half-way.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "identity.hpp"
#include "table.hpp"

#include "duckdb/common/types/data_chunk.hpp"
#include "duckdb/common/types/hash.hpp"
#include "duckdb/common/types/interval.hpp"
#include "duckdb/common/types/string_type.hpp"
#include "duckdb/common/vector/constant_vector.hpp"
#include "duckdb/common/vector/flat_vector.hpp"
#include "duckdb/common/vector_operations/vector_operations.hpp"
#include "duckdb/planner/filter/table_filter_functions.hpp"

#include <cmath>
#include <limits>
#include <mutex>
#include <unordered_map>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

namespace {

//! As in common/vector_operations/vector_hash.cpp
constexpr hash_t NULL_HASH = 0xbf58476d1ce4e5b9;
hash_t Combine(hash_t a, hash_t b) {
	a ^= a >> 32;
	a *= 0xd6e8feb86659fd93U;
	return a ^ b;
}

//! Keys that go to the program in one call
constexpr idx_t BATCH = 512;

struct Wide {
	uint64_t lo;
	uint64_t hi;
};

//===--------------------------------------------------------------------===//
// Keys: how each physical type is handed to the program
//===--------------------------------------------------------------------===//
template <class T, duckbpf_type TYPE, duckbpf_key_layout LAYOUT>
struct IntegerKey {
	using Stored = T;
	using Key = T;
	static constexpr duckbpf_type type = TYPE;
	static constexpr duckbpf_key_layout layout = LAYOUT;
	//! A vector's own data are keys
	static constexpr bool in_place = true;
	static constexpr uint32_t len = sizeof(T);
	static Key Of(T value, bool) {
		return value;
	}
};

template <class T, duckbpf_type TYPE>
struct HugeKey {
	using Stored = T;
	using Key = Wide;
	static constexpr duckbpf_type type = TYPE;
	static constexpr duckbpf_key_layout layout = DUCKBPF_KEYS_128;
	static constexpr bool in_place = true;
	static constexpr uint32_t len = sizeof(T);
	static Key Of(const T &value, bool) {
		return {value.lower, static_cast<uint64_t>(value.upper)};
	}
};

//! -0.0 equals +0.0, and every NaN every other
template <class T, class BITS, duckbpf_type TYPE, duckbpf_key_layout LAYOUT>
struct FloatKey {
	using Stored = T;
	using Key = BITS;
	static constexpr duckbpf_type type = TYPE;
	static constexpr duckbpf_key_layout layout = LAYOUT;
	static constexpr bool in_place = false;
	static constexpr uint32_t len = sizeof(T);
	static Key Of(T value, bool) {
		if (value == T(0)) {
			value = T(0);
		} else if (std::isnan(value)) {
			value = std::numeric_limits<T>::quiet_NaN();
		}
		BITS bits;
		memcpy(&bits, &value, sizeof(bits));
		return bits;
	}
};

struct IntervalKey {
	using Stored = interval_t;
	using Key = Wide;
	static constexpr duckbpf_type type = DUCKBPF_TYPE_INTERVAL;
	static constexpr duckbpf_key_layout layout = DUCKBPF_KEYS_128;
	static constexpr bool in_place = false;
	static constexpr uint32_t len = sizeof(interval_t);
	static Key Of(const interval_t &value, bool) {
		int64_t months, days, micros;
		value.Normalize(months, days, micros);
		return {static_cast<uint64_t>(micros),
		        static_cast<uint64_t>(months) << 32 | static_cast<uint32_t>(static_cast<int32_t>(days))};
	}
};

struct StringKey {
	using Stored = string_t;
	using Key = duckbpf_hash_ctx;
	static constexpr duckbpf_type type = DUCKBPF_TYPE_VARCHAR;
	static constexpr duckbpf_key_layout layout = DUCKBPF_KEYS_CTX;
	static constexpr bool in_place = false;
	static constexpr uint32_t len = 0;
	static Key Of(const string_t &value, bool reads_whole) {
		Key key {};
		const auto size = value.GetSize();
		char head[16] = {};
		memcpy(head, value.GetData(), MinValue<idx_t>(size, sizeof(head)));
		memcpy(&key.lo, head, sizeof(key.lo));
		memcpy(&key.hi, head + sizeof(key.lo), sizeof(key.hi));
		key.whole = reads_whole ? duckdb::Hash<string_t>(value) : 0;
		key.len = static_cast<uint32_t>(size);
		key.type = type;
		return key;
	}
};

//===--------------------------------------------------------------------===//
// A vector through the program
//===--------------------------------------------------------------------===//
class Hasher {
public:
	explicit Hasher(const duckbpf_program &program)
	    : program(program), reads_whole(program.flags & DUCKBPF_PROGRAM_HASH_READS_WHOLE),
	      mixed(program.flags & DUCKBPF_PROGRAM_HASH_MIXED) {
	}

	//! Feeds the hash of each row to sink(row, hash). Rows are positions in the result: rsel's entries, or 0 to count.
	template <class KEY, class SINK>
	void Rows(const UnifiedVectorFormat &format, const SelectionVector *rsel, idx_t count, SINK &&sink) {
		const auto data = UnifiedVectorFormat::GetData<typename KEY::Stored>(format);
		typename KEY::Key keys[BATCH];
		sel_t rows[BATCH];
		hash_t out[BATCH];
		for (idx_t begin = 0; begin < count;) {
			const auto end = MinValue<idx_t>(count, begin + BATCH);
			idx_t n = 0;
			for (; begin < end; begin++) {
				const auto row = rsel ? rsel->get_index(begin) : begin;
				const auto idx = format.sel->get_index(row);
				if (!format.validity.RowIsValid(idx)) {
					sink(row, NULL_HASH);
					continue;
				}
				rows[n] = static_cast<sel_t>(row);
				keys[n++] = KEY::Of(data[idx], reads_whole);
			}
			Run<KEY>(keys, out, n);
			for (idx_t i = 0; i < n; i++) {
				sink(rows[i], out[i]);
			}
		}
	}

	//! The common case: keys lie one after the other and none is NULL
	template <class KEY>
	void InPlace(const typename KEY::Stored *data, hash_t *result, idx_t count) {
		Run<KEY>(data, result, count);
	}

	template <class KEY>
	hash_t One(const typename KEY::Stored &value) {
		const typename KEY::Key key = KEY::Of(value, reads_whole);
		hash_t hash;
		Run<KEY>(&key, &hash, 1);
		return hash;
	}

	void Finish() {
		auto &counters = Thread().counters[DUCKBPF_HOOK_HASH];
		counters.calls.Add(1);
		counters.applied.Add(1);
		counters.keys.Add(total_keys);
	}

private:
	template <class KEY>
	void Run(const void *keys, hash_t *out, idx_t n) {
		static_assert(sizeof(hash_t) == sizeof(__u64), "hashes have 64 bits");
		if (n == 0) {
			return;
		}
		duckbpf_hash_batch batch {};
		batch.keys = keys;
		batch.out = reinterpret_cast<__u64 *>(out);
		batch.count = n;
		batch.layout = KEY::layout;
		batch.type = KEY::type;
		batch.len = KEY::len;
		{
			auto &thread = Thread();
			const Sample sample(thread, thread.counters[DUCKBPF_HOOK_HASH]);
			program.hash_batch(&batch);
		}
		if (!mixed) {
			for (idx_t i = 0; i < n; i++) {
				out[i] = MurmurHash64(out[i]);
			}
		}
		total_keys += n;
	}

	const duckbpf_program &program;
	const bool reads_whole;
	const bool mixed;
	idx_t total_keys = 0;
};

template <class KEY>
void HashKeys(Hasher &hasher, const Vector &input, Vector &result, const SelectionVector *rsel, idx_t count) {
	if (input.GetVectorType() == VectorType::CONSTANT_VECTOR) {
		result.SetVectorType(VectorType::CONSTANT_VECTOR);
		FlatVector::SetSize(result, count_t(count));
		*ConstantVector::GetData<hash_t>(result) =
		    ConstantVector::IsNull(input)
		        ? NULL_HASH
		        : hasher.One<KEY>(*ConstantVector::GetData<typename KEY::Stored>(input));
		return;
	}
	result.SetVectorType(VectorType::FLAT_VECTOR);
	FlatVector::SetSize(result, count_t(count));
	UnifiedVectorFormat format;
	input.ToUnifiedFormat(format);
	auto hashes = FlatVector::GetDataMutable<hash_t>(result);
	if constexpr (KEY::in_place) {
		if (!rsel && !format.sel->IsSet() && !format.validity.CanHaveNull()) {
			hasher.InPlace<KEY>(UnifiedVectorFormat::GetData<typename KEY::Stored>(format), hashes, count);
			return;
		}
	}
	hasher.Rows<KEY>(format, rsel, count, [&](idx_t row, hash_t hash) { hashes[row] = hash; });
}

template <class KEY>
void CombineKeys(Hasher &hasher, const Vector &input, Vector &result, const SelectionVector *rsel, idx_t count) {
	if (input.GetVectorType() == VectorType::CONSTANT_VECTOR &&
	    result.GetVectorType() == VectorType::CONSTANT_VECTOR) {
		auto hash = ConstantVector::GetData<hash_t>(result);
		*hash = Combine(*hash, ConstantVector::IsNull(input)
		                           ? NULL_HASH
		                           : hasher.One<KEY>(*ConstantVector::GetData<typename KEY::Stored>(input)));
		return;
	}
	UnifiedVectorFormat format;
	input.ToUnifiedFormat(format);
	if (result.GetVectorType() == VectorType::CONSTANT_VECTOR) {
		const auto constant = *ConstantVector::GetData<hash_t>(result);
		result.SetVectorType(VectorType::FLAT_VECTOR);
		FlatVector::SetSize(result, count_t(count));
		auto hashes = FlatVector::GetDataMutable<hash_t>(result);
		hasher.Rows<KEY>(format, rsel, count, [&](idx_t row, hash_t hash) { hashes[row] = Combine(constant, hash); });
		return;
	}
	auto hashes = FlatVector::GetDataMutable<hash_t>(result);
	hasher.Rows<KEY>(format, rsel, count, [&](idx_t row, hash_t hash) { hashes[row] = Combine(hashes[row], hash); });
}

//! Hashes or combines the input if the program takes its type
bool TryHash(const duckbpf_program *program, bool combine, const Vector &input, Vector &result,
             const SelectionVector *rsel, idx_t count) {
	if (!program) {
		return false;
	}
	Hasher hasher(*program);
	const auto run = [&](auto key) {
		using KEY = decltype(key);
		if (!(program->hash_types >> KEY::type & 1)) {
			return false;
		}
		if (combine) {
			CombineKeys<KEY>(hasher, input, result, rsel, count);
		} else {
			HashKeys<KEY>(hasher, input, result, rsel, count);
		}
		hasher.Finish();
		return true;
	};
	switch (input.GetType().InternalType()) {
	case PhysicalType::BOOL:
	case PhysicalType::INT8:
		return run(IntegerKey<int8_t, DUCKBPF_TYPE_INT8, DUCKBPF_KEYS_I8>());
	case PhysicalType::INT16:
		return run(IntegerKey<int16_t, DUCKBPF_TYPE_INT16, DUCKBPF_KEYS_I16>());
	case PhysicalType::INT32:
		return run(IntegerKey<int32_t, DUCKBPF_TYPE_INT32, DUCKBPF_KEYS_I32>());
	case PhysicalType::INT64:
		return run(IntegerKey<int64_t, DUCKBPF_TYPE_INT64, DUCKBPF_KEYS_64>());
	case PhysicalType::UINT8:
		return run(IntegerKey<uint8_t, DUCKBPF_TYPE_UINT8, DUCKBPF_KEYS_U8>());
	case PhysicalType::UINT16:
		return run(IntegerKey<uint16_t, DUCKBPF_TYPE_UINT16, DUCKBPF_KEYS_U16>());
	case PhysicalType::UINT32:
		return run(IntegerKey<uint32_t, DUCKBPF_TYPE_UINT32, DUCKBPF_KEYS_U32>());
	case PhysicalType::UINT64:
		return run(IntegerKey<uint64_t, DUCKBPF_TYPE_UINT64, DUCKBPF_KEYS_64>());
	case PhysicalType::INT128:
		return run(HugeKey<hugeint_t, DUCKBPF_TYPE_INT128>());
	case PhysicalType::UINT128:
		return run(HugeKey<uhugeint_t, DUCKBPF_TYPE_UINT128>());
	case PhysicalType::FLOAT:
		return run(FloatKey<float, uint32_t, DUCKBPF_TYPE_FLOAT, DUCKBPF_KEYS_U32>());
	case PhysicalType::DOUBLE:
		return run(FloatKey<double, uint64_t, DUCKBPF_TYPE_DOUBLE, DUCKBPF_KEYS_64>());
	case PhysicalType::INTERVAL:
		return run(IntervalKey());
	case PhysicalType::VARCHAR:
		return run(StringKey());
	default:
		return false;
	}
}

const duckbpf_program *PinnedProgram(ClientContext &context) {
	auto entry = FindQuery(context);
	return entry ? entry->hash : nullptr;
}

//===--------------------------------------------------------------------===//
// Bloom filters: bound to the program of the query that builds them
//===--------------------------------------------------------------------===//
//! Filters of queries that pinned a program. Lookups take no lock, unless a bucket has overflowed. Binding never fails in
//! silence: a filter that was built by the program and probed by stock would drop rows, so running out of memory here ends the
//! query.
class FilterTable {
	struct Bound {
		const ClientContext *context;
		const duckbpf_program *program;
	};

public:
	//! A filter is bound, or said to be stock's, before anybody can probe it
	void Bind(const BloomFilter &filter, const ClientContext &context, const duckbpf_program *program) {
		if (!program && count.load(std::memory_order_relaxed) == 0) {
			return;
		}
		const std::lock_guard<std::mutex> guard(lock);
		auto it = bound.find(&filter);
		if (it != bound.end()) {
			Erase(it); // of a query whose filter died at this address
		}
		if (program) {
			bound.emplace(&filter, Bound {&context, program});
			overflowed += !table.Insert(filter, program);
			Publish();
		}
	}
	//! The query ends, and with it the filters that are still its own
	void Unbind(const ClientContext &context) {
		const std::lock_guard<std::mutex> guard(lock);
		for (auto it = bound.begin(); it != bound.end();) {
			it = it->second.context == &context ? Erase(it) : std::next(it);
		}
	}
	const duckbpf_program *Find(const BloomFilter &filter) {
		if (count.load(std::memory_order_acquire) == 0) {
			return nullptr;
		}
		if (auto found = table.Find(filter)) {
			return *found;
		}
		if (!any_overflowed.load(std::memory_order_acquire)) {
			return nullptr;
		}
		const std::lock_guard<std::mutex> guard(lock);
		auto it = bound.find(&filter);
		return it == bound.end() ? nullptr : it->second.program;
	}

private:
	using Map = std::unordered_map<const BloomFilter *, Bound>;

	Map::iterator Erase(Map::iterator it) {
		const duckbpf_program *removed;
		overflowed -= !table.Remove(*it->first, removed);
		it = bound.erase(it);
		Publish();
		return it;
	}
	void Publish() {
		any_overflowed.store(overflowed != 0, std::memory_order_release);
		count.store(bound.size(), std::memory_order_release);
	}

	//! Held by whoever binds and unbinds
	std::mutex lock;
	Map bound;
	idx_t overflowed = 0;
	//! What is bound, but for what overflowed
	BucketTable<BloomFilter, const duckbpf_program *, 10> table;
	std::atomic<bool> any_overflowed {false};
	std::atomic<idx_t> count {0};
};

FilterTable filters;

} // namespace

void Hash(ClientContext &context, const Vector &input, Vector &result, idx_t count) {
	if (!TryHash(PinnedProgram(context), false, input, result, nullptr, count)) {
		VectorOperations::Hash(input, result, count);
	}
}

void Hash(ClientContext &context, const Vector &input, Vector &result, const SelectionVector &sel, idx_t count) {
	if (!TryHash(PinnedProgram(context), false, input, result, &sel, count)) {
		VectorOperations::Hash(input, result, sel, count);
	}
}

void CombineHash(ClientContext &context, Vector &hashes, const Vector &input, idx_t count) {
	if (!TryHash(PinnedProgram(context), true, input, hashes, nullptr, count)) {
		VectorOperations::CombineHash(hashes, input, count);
	}
}

void CombineHash(ClientContext &context, Vector &hashes, const Vector &input, const SelectionVector &sel, idx_t count) {
	if (!TryHash(PinnedProgram(context), true, input, hashes, &sel, count)) {
		VectorOperations::CombineHash(hashes, input, sel, count);
	}
}

void Hash(ClientContext &context, DataChunk &chunk, Vector &result) {
	const auto count = chunk.size();
	Hash(context, chunk.data[0], result, count);
	for (idx_t i = 1; i < chunk.ColumnCount(); i++) {
		CombineHash(context, result, chunk.data[i], count);
	}
}

void BindFilter(ClientContext &context, const BloomFilter &filter) {
	filters.Bind(filter, context, PinnedProgram(context));
}

bool FilterIsHooked(const BloomFilter &filter) {
	return filters.Find(filter) != nullptr;
}

void FilterHash(const BloomFilter &filter, const Vector &input, Vector &result, idx_t count) {
	if (!TryHash(filters.Find(filter), false, input, result, nullptr, count)) {
		VectorOperations::Hash(input, result, count);
	}
}

void FilterHash(const BloomFilter &filter, const Vector &input, Vector &result, const SelectionVector &sel, idx_t count) {
	if (!TryHash(filters.Find(filter), false, input, result, &sel, count)) {
		VectorOperations::Hash(input, result, sel, count);
	}
}

void UnbindFilters(ClientContext &context) {
	filters.Unbind(context);
}

} // namespace duckbpf
