//! duckbpf: what the patched DuckDB units call. Thin: gates and scopes that cost a few instructions, and functions that
//! shim.cpp and its fellows implement. State lives beside DuckDB's objects, never in them (docs/src/design.md).
#pragma once

#include "duckbpf/abi.h"

#include "duckdb/common/shared_ptr.hpp"
#include "duckdb/common/types/data_chunk.hpp"
#include "duckdb/common/types/vector.hpp"
#include "duckdb/common/vector_operations/vector_operations.hpp"
#include "duckdb/parallel/task.hpp"

#include <atomic>
#include <cstdint>

namespace duckdb {
class BlockHandle;
class BlockMemory;
class BlockManager;
class BloomFilter;
class BufferPool;
class ClientContext;
struct ConsumerToken;
class DatabaseInstance;
class ErrorData;
class Pipeline;
class SQLStatement;
class TaskScheduler;
class TaskSchedulerQueue;
struct ProducerToken;
class AttachedDatabase;
enum class LogLevel : uint8_t;
enum class MemoryTag : uint8_t;
class ColumnData;
class DataTable;
struct GlobalTableFunctionState;
struct TableFunctionInitInput;
} // namespace duckdb

//! Found by their distance, not by a look into a symbol table
#pragma GCC visibility push(hidden)
namespace duckbpf {

using duckdb::idx_t;

struct QueryEntry;

//! Whether a word is not 0: what every gate asks. On x86-64 that is two instructions, a compare with memory and a branch that is not
//! taken, and what it leads to is out of the way. From C++ clang makes three, and it forgets __builtin_expect() where it inlines. But a function
//! with such a gate saves its registers at its beginning: where that is early, the gate is plain C++ (MemoryIsWatched()).
template <class T>
inline __attribute__((always_inline)) bool IsRaised(const std::atomic<T> &word) {
#ifdef __x86_64__
	const auto &memory = reinterpret_cast<const T &>(word);
	if constexpr (sizeof(T) == 1) {
		asm goto("cmpb $0, %0\n\tjne %l[raised]" : : "m"(memory) : "cc" : raised);
	} else {
		static_assert(sizeof(T) == 8, "gates have 1 or 8 bytes");
		asm goto("cmpq $0, %0\n\tjne %l[raised]" : : "m"(memory) : "cc" : raised);
	}
	return false;
raised:
	return true;
#else
	return word.load(std::memory_order_relaxed) != 0;
#endif
}

//! gate[hook] is non-null while a program is attached. Only ever tested: programs are taken from the published set.
extern std::atomic<const duckbpf_program *> gate[DUCKBPF_HOOK_COUNT];

inline bool Attached(duckbpf_hook hook) {
	return IsRaised(gate[hook]);
}

//! The host's own code of functions that the graft replaces, or null, and their symbols (stock.cpp)
extern void *stock_code[DUCKBPF_STOCK_COUNT];
extern const char *const stock_symbols[DUCKBPF_STOCK_COUNT];

//! For a hookpoint that nothing is attached to, where the rest of the function calls much that other units define: the official wheels are
//! optimised across all units and have that inlined. An object that this makes is the host's with all its methods.
template <class F>
inline F *StockCode(duckbpf_stock function) {
	return reinterpret_cast<F *>(__atomic_load_n(&stock_code[function], __ATOMIC_RELAXED));
}

//===--------------------------------------------------------------------===//
// Identity: whose work a thread does (identity.cpp)
//===--------------------------------------------------------------------===//
//! The query begins: gives it its ids and pins the hash program. Without an entry (a query that began before the graft, a
//! full table) a query is unknown and hashes as stock. steers: see Steers().
void BeginQuery(duckdb::ClientContext &context, bool steers);
//! Whether the statement steers the database instead of working for somebody (SET, LOAD, BEGIN, whatever names a hook_ function):
//! it is never held up. False where no hook could.
bool Steers(const duckdb::SQLStatement &statement);
//! A statement that expands into several moves on to the next: same entry, new query id
void NextStatement(duckdb::ClientContext &context);
void EndQuery(duckdb::ClientContext &context);
idx_t ActiveQueries();
//! Hooks that are told what a query is and what it used
extern std::atomic<bool> queries_described;
inline bool DescribesQueries() {
	return IsRaised(queries_described);
}
//! Add to what the query used for which the calling thread works
void CountRows(idx_t rows);
void CountMemory(int64_t delta);
void CountSpill(idx_t bytes);
//! The connection is closed: a query of it that was let in and could not begin has left its place
void LeaveHall(const duckdb::ClientContext &context);
//! The database is new, its scheduler made: it gets a number of its own, whoever had its address before
void RegisterDatabase(duckdb::DatabaseInstance &db);

struct ThreadState;
class RunSlice;

//! What a thread says of itself, whether anything is attached or not: hence plain thread-local storage, found without a
//! call. What it means is worked out when a program asks (identity.cpp).
struct Local {
	//! Whose work the thread does: a ClientContext; with NO_QUERY, its database but no query; or 0
	uintptr_t work;
	//! The same of the task that it ran last
	uintptr_t last_task;
	//! Whose worker it is, or null
	duckdb::DatabaseInstance *database;
	//! Null until the thread reaches its first open gate
	ThreadState *state;
	uint32_t task_depth;
	uint32_t prefetching;
	//! A worker that declined all tasks looks again after so long; 0: it did not
	uint32_t retry_us;
	//! The state's origin says whose work it is
	bool identified;
	bool in_worker_loop;
	bool skip_first_wait;
	bool takes_partial;
	//! See MayGiveWay
	bool may_give_way;
	//! The slice of a client's that it runs, if that has a length
	RunSlice *slice;
	//! When the task that it runs began, or was accounted last, in CPU time of the thread's own; 0: it is not accounted
	uint64_t cpu_begin_ns;
};
constexpr uintptr_t NO_QUERY = 1;
//! Initial-exec: 72 bytes of the loader's surplus of static TLS. `__thread`: C++'s own would be reached by a call.
extern __thread Local local __attribute__((tls_model("initial-exec")));

//! While alive, the calling thread does this work. Scopes nest.
class IdentityScope {
public:
	IdentityScope(const IdentityScope &) = delete;
	IdentityScope &operator=(const IdentityScope &) = delete;

protected:
	explicit IdentityScope(uintptr_t work) : previous(local.work) {
		Work(work);
	}
	~IdentityScope() {
		Work(previous);
	}

private:
	static void Work(uintptr_t work) {
		local.work = work;
		local.identified = false;
	}

	const uintptr_t previous;
};

//! The calling thread works for this query
class QueryScope : IdentityScope {
public:
	explicit QueryScope(duckdb::ClientContext &context) : IdentityScope(reinterpret_cast<uintptr_t>(&context)) {
	}
};

//! The calling thread ends this query: what it was stays known until all is done, the commit and its checkpoint too
class EndingScope : QueryScope {
public:
	explicit EndingScope(duckdb::ClientContext &context) : QueryScope(context), context(context) {
	}
	~EndingScope() {
		EndQuery(context);
	}

private:
	duckdb::ClientContext &context;
};

//! The calling thread runs a task: of a query, whose thread CPU is counted where a hook asks for it, or of the database alone
//! (a checkpoint's)
class TaskScope : IdentityScope {
public:
	explicit TaskScope(duckdb::ClientContext &context) : IdentityScope(reinterpret_cast<uintptr_t>(&context)) {
		local.task_depth++;
		if (DescribesQueries()) {
			BeginAccount(context);
		}
	}
	explicit TaskScope(duckdb::ClientContext *context)
	    : IdentityScope(context ? reinterpret_cast<uintptr_t>(context) : local.work | NO_QUERY) {
		local.task_depth++;
		if (context && DescribesQueries()) {
			BeginAccount(*context);
		}
	}
	~TaskScope() {
		if (__builtin_expect(accounted != nullptr, 0)) {
			EndAccount();
		}
		local.task_depth--;
		local.last_task = local.work;
	}

private:
	void BeginAccount(duckdb::ClientContext &context);
	void EndAccount();

	QueryEntry *accounted = nullptr;
};

//! A task is about to run
inline void ForgetLastTask() {
	local.last_task = 0;
}
//! The calling thread puts back the task that it ran last: still that query's doing
class ResumeScope : IdentityScope {
public:
	ResumeScope() : IdentityScope(local.last_task) {
	}
};

//! Programs may have written lines (bpf_printk) that no log has taken yet
extern std::atomic<bool> programs_wrote;
void WriteProgramLog(duckdb::ClientContext &context);
//! The query's log is about to be closed
inline void HandOverLog(duckdb::ClientContext &context) {
	if (IsRaised(programs_wrote)) {
		WriteProgramLog(context);
	}
}

//===--------------------------------------------------------------------===//
// hash (hash.cpp, filters.cpp)
//===--------------------------------------------------------------------===//
//! How many queries run that pinned a hash program, and how many bloom filters hold such a program's hashes. While they are 0
//! every hash is stock's. Relaxed: a query's own pin is seen by every thread that works for it.
extern std::atomic<idx_t> hash_queries;
extern std::atomic<idx_t> bound_filters;
inline bool HashPinned() {
	return IsRaised(hash_queries);
}
inline bool FiltersBound() {
	return IsRaised(bound_filters);
}

void HookedHash(duckdb::ClientContext &context, const duckdb::Vector &input, duckdb::Vector &result,
                const duckdb::SelectionVector *sel, idx_t count);
void HookedHash(duckdb::ClientContext &context, duckdb::DataChunk &chunk, duckdb::Vector &result);
void HookedCombineHash(duckdb::ClientContext &context, duckdb::Vector &hashes, const duckdb::Vector &input,
                       const duckdb::SelectionVector *sel, idx_t count);

//! The hashes of a join or an aggregation: by the program that the context's query pinned, else stock.
//! Same meaning as their namesakes in VectorOperations and DataChunk.
inline void Hash(duckdb::ClientContext &context, const duckdb::Vector &input, duckdb::Vector &result, idx_t count) {
	if (HashPinned()) {
		return HookedHash(context, input, result, nullptr, count);
	}
	duckdb::VectorOperations::Hash(input, result, count);
}
inline void Hash(duckdb::ClientContext &context, const duckdb::Vector &input, duckdb::Vector &result,
                 const duckdb::SelectionVector &sel, idx_t count) {
	if (HashPinned()) {
		return HookedHash(context, input, result, &sel, count);
	}
	duckdb::VectorOperations::Hash(input, result, sel, count);
}
inline void Hash(duckdb::ClientContext &context, duckdb::DataChunk &chunk, duckdb::Vector &result) {
	if (HashPinned()) {
		return HookedHash(context, chunk, result);
	}
	chunk.Hash(result);
}
inline void CombineHash(duckdb::ClientContext &context, duckdb::Vector &hashes, const duckdb::Vector &input,
                        idx_t count) {
	if (HashPinned()) {
		return HookedCombineHash(context, hashes, input, nullptr, count);
	}
	duckdb::VectorOperations::CombineHash(hashes, input, count);
}
inline void CombineHash(duckdb::ClientContext &context, duckdb::Vector &hashes, const duckdb::Vector &input,
                        const duckdb::SelectionVector &sel, idx_t count) {
	if (HashPinned()) {
		return HookedCombineHash(context, hashes, input, &sel, count);
	}
	duckdb::VectorOperations::CombineHash(hashes, input, sel, count);
}

void RebindFilter(duckdb::ClientContext &context, const duckdb::BloomFilter &filter);
const duckbpf_program *FilterProgram(const duckdb::BloomFilter &filter);
void HookedFilterHash(const duckdb::BloomFilter &filter, const duckdb::Vector &input, duckdb::Vector &result,
                      const duckdb::SelectionVector *sel, idx_t count);

//! A bloom filter belongs to the query that initializes it; whoever probes it has no context at hand
inline void BindFilter(duckdb::ClientContext &context, const duckdb::BloomFilter &filter) {
	if (HashPinned() || FiltersBound()) {
		RebindFilter(context, filter);
	}
}
//! Whether the filter holds hashes that stock's Hash<T> may not make
inline bool FilterIsHooked(const duckdb::BloomFilter &filter) {
	return FiltersBound() && FilterProgram(filter);
}
//! The hash of one value as the filter holds it; false: as stock's Hash<T> makes it
bool FilterHash(const duckdb::BloomFilter &filter, duckdb::PhysicalType type, duckdb::const_data_ptr_t value,
                duckdb::hash_t &hash);
inline void FilterHash(const duckdb::BloomFilter &filter, const duckdb::Vector &input, duckdb::Vector &result,
                       idx_t count) {
	if (FiltersBound()) {
		return HookedFilterHash(filter, input, result, nullptr, count);
	}
	duckdb::VectorOperations::Hash(input, result, count);
}
inline void FilterHash(const duckdb::BloomFilter &filter, const duckdb::Vector &input, duckdb::Vector &result,
                       const duckdb::SelectionVector &sel, idx_t count) {
	if (FiltersBound()) {
		return HookedFilterHash(filter, input, result, &sel, count);
	}
	duckdb::VectorOperations::Hash(input, result, sel, count);
}

//===--------------------------------------------------------------------===//
// schedule_task and execute_forever (tasks.cpp)
//===--------------------------------------------------------------------===//
struct Placement {
	uint8_t pool;
	uint8_t klass;
};
//! Where n_tasks tasks go that stock would put into `pool`
Placement PlaceTasks(duckdb::TaskScheduler &scheduler, duckdb::ProducerToken &token, idx_t n_tasks, uint8_t pool);

//! Classes 1 to 7 of a queue wait beside it. Nothing is there while side_tasks is 0.
extern std::atomic<idx_t> side_tasks;
inline bool SideTasksWait() {
	return IsRaised(side_tasks);
}
//! All tasks enter, and are moved out of the vector, or, when it throws, none. The caller holds the producer's lock.
void SideEnqueue(duckdb::TaskSchedulerQueue &queue, duckdb::ProducerToken &token,
                 duckdb::vector<duckdb::shared_ptr<duckdb::Task>> &tasks, uint8_t klass);
//! Every 16th call takes the oldest waiting task; other calls take none
bool SideDequeueOverdue(duckdb::TaskSchedulerQueue &queue, duckdb::shared_ptr<duckdb::Task> &task);
//! The first task of the lowest class that is not empty; of one producer when given
bool SideDequeue(duckdb::TaskSchedulerQueue &queue, duckdb::shared_ptr<duckdb::Task> &task,
                 duckdb::ProducerToken *token = nullptr);
idx_t SideCount(const duckdb::TaskSchedulerQueue &queue, const duckdb::ProducerToken &token);
void SideForget(const duckdb::TaskSchedulerQueue &queue);
void SideForgetTasks(const duckdb::ProducerToken &token);
inline void SideForget(const duckdb::ProducerToken &token) {
	if (SideTasksWait()) {
		SideForgetTasks(token);
	}
}

//! What a thread does before it runs a task. The default is stock's behaviour.
struct Step {
	bool partial;
	bool async_first = false;
	bool flush = false;
	bool mark_idle = false;
	uint32_t wait_us = 0;
};
//! One iteration of a worker, or one slice of a client
struct LoopState {
	duckbpf_site site;
	uint8_t pool;
	bool flush_supported;
	bool partial;
	idx_t queue_length_regular;
	idx_t queue_length_async;
	idx_t flush_threshold;
	int64_t decay_delay;
};
Step DecideStep(const LoopState &state);
//! A client's own thread is about to run a slice of its query: waits if it is told to, a wait that interrupts and errors
//! end, and returns the mode
duckdb::TaskExecutionMode BeforeClientSlice(duckdb::ClientContext &context);

//! The calling thread is a worker of the database
class WorkerScope : IdentityScope {
public:
	explicit WorkerScope(duckdb::DatabaseInstance &db)
	    : IdentityScope(0), previous_database(local.database), was_worker(local.in_worker_loop) {
		local.database = &db;
		local.in_worker_loop = true;
	}
	~WorkerScope() {
		local.database = previous_database;
		local.in_worker_loop = was_worker;
	}

private:
	duckdb::DatabaseInstance *const previous_database;
	const bool was_worker;
};
//! Whether the calling thread runs this side's worker loop; false for workers that the host launched before the graft
inline bool InWorkerLoop() {
	return local.in_worker_loop;
}
//! Says that the signal which woke this thread is consumed: the next worker loop skips its first wait
inline void SkipFirstWait() {
	local.skip_first_wait = true;
}
inline bool TakeSkipFirstWait() {
	const auto skip = local.skip_first_wait;
	local.skip_first_wait = false;
	return skip;
}
//! The mode in which the worker runs the task that it takes next
inline void SetPartial(bool partial) {
	local.takes_partial = partial;
}
inline bool TakesPartial() {
	return local.takes_partial;
}
//! Whether the calling thread may be held up: not inside another task
inline bool MayWait() {
	return local.task_depth == 0;
}

//===--------------------------------------------------------------------===//
// query_begin, query_end (admission.cpp)
//===--------------------------------------------------------------------===//
//! Waits as long as the program wants, within bounds; throws when the query is rejected or interrupted
void AdmitQuery(duckdb::ClientContext &context, const duckdb::SQLStatement &statement);
//! The query and its transaction have ended. error: null when there was none
void OnQueryEnd(duckdb::ClientContext &context, bool success, const duckdb::ErrorData *error);

//===--------------------------------------------------------------------===//
// run_task (run_task.cpp)
//===--------------------------------------------------------------------===//
//! The slice of a query's work that a thread runs, around Task::Execute
class RunSlice {
public:
	RunSlice() = default;
	~RunSlice() {
		End();
	}
	RunSlice(const RunSlice &) = delete;
	RunSlice &operator=(const RunSlice &) = delete;

	//! Asks the program, at most twice, with the wait that it wants in between. False: not now, come back. Throws when the query
	//! was interrupted meanwhile.
	bool BeginForClient(duckdb::ClientContext &context);
	//! Takes a task that may run out of the queue; those that may not go back into it
	enum class Taken { TASK, NOTHING, DECLINED };
	Taken BeginForWorker(duckdb::TaskSchedulerQueue &queue, duckdb::ConsumerToken &consumer,
	                     duckdb::shared_ptr<duckdb::Task> &task);
	//! After a slice of a worker's: whether the same task's next one follows. Nobody else is there whose turn it would be, and the program
	//! lets it run.
	bool GoesOn();
	//! The slice has an end: the task is not to be run whole
	bool IsPartial() const {
		return partial;
	}
	//! Gives the slot back, or keeps it for the query. The query must still be there.
	void End() {
		if (__builtin_expect(context != nullptr, 0)) {
			EndSlice();
		}
	}
	//! A chunk of the slice is done in the middle of a task. If it was the last one: asks for the next slice, and waits for it here.
	void AfterChunk();

private:
	bool Ask(duckdb::ClientContext &context, duckbpf_run_site site);
	void EndSlice();

	duckdb::ClientContext *context = nullptr;
	bool partial = false;
	bool keep = false;
	//! Waits in the middle of its task
	bool is_inside = false;
	uint32_t chunks_left = 0;
	//! Of a declined ask
	uint32_t wait_us = 0;
	uint64_t seen = 0;
};
//! The client has nothing to run: a slot that its query kept is free
void ReleaseKeptSlot(duckdb::ClientContext &context);
//! Queries that run_task knows; 0 unless it has, or lately had, a program
extern std::atomic<idx_t> run_states;
inline bool SlotsInForce() {
	return IsRaised(run_states);
}
//! The query has no work left: its slots are others', and nobody waits for it
void ForgetRun(duckdb::ClientContext &context);
//! How many chunks the slice of the calling thread has
idx_t SliceChunks(idx_t stock);

//! Work within a task that may stop for a while after any chunk: the thread holds no lock, and only its own query waits for it
class MayGiveWay {
public:
	explicit MayGiveWay(bool may = true) : before(local.may_give_way) {
		local.may_give_way = before || may;
	}
	~MayGiveWay() {
		local.may_give_way = before;
	}
	MayGiveWay(const MayGiveWay &) = delete;
	MayGiveWay &operator=(const MayGiveWay &) = delete;

private:
	const bool before;
};
void EndChunkWithinTask() noexcept;
//! A chunk of such work is done, which no slice of a pipeline could end after
inline void GiveWay() {
	if (Attached(DUCKBPF_HOOK_RUN_TASK)) {
		EndChunkWithinTask();
	}
}
//! Microseconds after which the worker looks again for a task that it may run; 0: when it is signalled
inline int64_t TakeRetry() {
	const auto retry_us = local.retry_us;
	local.retry_us = 0;
	return retry_us;
}
inline void SetRetry(int64_t us) {
	if (!local.retry_us) {
		local.retry_us = static_cast<uint32_t>(us);
	}
}

//===--------------------------------------------------------------------===//
// pipeline_threads, operator_memory (resources.cpp)
//===--------------------------------------------------------------------===//
//! How many tasks the pipeline gets, of those that stock would make
idx_t DecideThreads(duckdb::Pipeline &pipeline, idx_t stock, idx_t threads);
//! What an operator's reservation lies between. Bytes.
struct Reservation {
	idx_t lower;
	idx_t upper;
	idx_t remaining_size;
	idx_t previous;
	idx_t reserved;
	idx_t limit;
	idx_t operators;
};
idx_t DecideReservation(duckdb::ClientContext &context, const Reservation &bounds, idx_t stock);

//===--------------------------------------------------------------------===//
// load, unpin, update_used_memory, allocate_new_block (memory.cpp)
//===--------------------------------------------------------------------===//
//! Under the block's lock
void OnLoad(duckdb::BlockHandle &block, bool hit);

//! How many blocks have something remembered beside them, a hint or their file; 0 unless load or evict has a program
extern std::atomic<idx_t> hints;
inline bool HintsInForce() {
	return IsRaised(hints);
}
inline bool UnpinDecided() {
	return Attached(DUCKBPF_HOOK_UNPIN) || HintsInForce();
}
struct UnpinAction {
	bool unload = false;
	bool purge = false;
};
//! Under the block's lock, after its reader count went down
UnpinAction OnUnpin(duckdb::BlockHandle &block, int32_t readers);
//! While alive, unpins of this thread are stock: what was just prefetched is not to be dropped
class PrefetchScope {
public:
	PrefetchScope() {
		local.prefetching++;
	}
	~PrefetchScope() {
		local.prefetching--;
	}
	PrefetchScope(const PrefetchScope &) = delete;
	PrefetchScope &operator=(const PrefetchScope &) = delete;
};
//! The block's memory goes away
void ForgetBlock(const duckdb::BlockMemory &memory);
bool IsKept(const duckdb::BlockMemory &memory);
//! How many kept blocks one search for a victim may pass over in a queue with this many live entries
idx_t KeptBudget(idx_t live_entries);
//! Entries of one of a pool's eviction queues, an estimate; defined in the pool's own unit
idx_t EvictionQueueLength(const duckdb::BufferPool &pool, idx_t queue);

//! Whether somebody keeps something by block (block storage)
extern std::atomic<bool> blocks_watched;
inline bool BlocksWatched() {
	return IsRaised(blocks_watched);
}
//! The block goes away
void EndBlock(const duckdb::BlockManager &manager, int64_t block_id);
//! The block manager is new: its file gets a number of its own
void RegisterFile(const duckdb::BlockManager &manager);

//===--------------------------------------------------------------------===//
// evict, queue_insert (eviction.cpp). All under the block's lock
//===--------------------------------------------------------------------===//
//! Whether a search for memory passes over a candidate, having passed over so many in a row
bool SkipsCandidate(duckdb::BlockMemory &memory, uint32_t skips);
//! A block joins a queue: what evict will know of it when only its memory is at hand
void RememberFile(duckdb::BlockHandle &block);
//! Gives a block that was in no queue yet the one that the program chooses, of so many
void ChooseQueue(duckdb::BlockHandle &block, idx_t queues);

//===--------------------------------------------------------------------===//
// The rest of memory.cpp
//===--------------------------------------------------------------------===//
//! Whether anybody hears of every reservation: update_used_memory, or query_end, which is told what a query used. Unlikely, as the branch has
//! to say itself.
extern std::atomic<bool> memory_watched;
inline bool MemoryIsWatched() {
	return memory_watched.load(std::memory_order_relaxed);
}
void OnUpdateUsedMemory(const duckdb::BufferPool &pool, duckdb::MemoryTag tag, int64_t delta);

struct ArenaGrowth {
	idx_t min_size;
	idx_t initial_capacity;
	idx_t previous_capacity;
	idx_t total_allocated;
	idx_t max_capacity;
};
idx_t DecideCapacity(const ArenaGrowth &growth, idx_t stock);

//===--------------------------------------------------------------------===//
// checkpoint (checkpoints.cpp)
//===--------------------------------------------------------------------===//
//! A transaction that changed the database is about to commit: the database has moments that may be idle
void NoteCommit(duckdb::AttachedDatabase &database);
//! Whether a commit that would make a checkpoint leaves it to a later one
bool DefersCheckpoint(duckdb::AttachedDatabase &database, idx_t commit_bytes);
//! Around a checkpoint
class CheckpointScope {
public:
	explicit CheckpointScope(duckdb::AttachedDatabase &database);
	~CheckpointScope();
	CheckpointScope(const CheckpointScope &) = delete;
	CheckpointScope &operator=(const CheckpointScope &) = delete;

private:
	duckdb::AttachedDatabase &database;
	const uint64_t begin;
};

//===--------------------------------------------------------------------===//
// prefetch (files.cpp)
//===--------------------------------------------------------------------===//
enum class FilePlan { STOCK, PREFETCH, DO_NOT };
//! Whether blocks of a file are read ahead of scans
FilePlan PlanFile(const duckdb::BlockManager &manager, bool stock);
//! How many row groups a scan reads ahead; 0: as many as stock, which is told
idx_t PlanDepth(duckdb::ClientContext &context, int64_t stock);
//! How many bytes of so many blocks are read at once
idx_t PlanRun(const duckdb::BlockHandle &first, idx_t blocks, idx_t stock);

//===--------------------------------------------------------------------===//
// file_read (files.cpp)
//===--------------------------------------------------------------------===//
//! Around a read of a local file
class FileReadScope {
public:
	FileReadScope(const std::string &path, int64_t bytes)
	    : path(path), bytes(bytes), begin(Attached(DUCKBPF_HOOK_FILE_READ) ? Now() : 0) {
	}
	~FileReadScope() {
		if (__builtin_expect(begin != 0, 0)) {
			Tell();
		}
	}
	FileReadScope(const FileReadScope &) = delete;
	FileReadScope &operator=(const FileReadScope &) = delete;

private:
	static uint64_t Now();
	void Tell() const;

	const std::string &path;
	const int64_t bytes;
	const uint64_t begin;
};

//===--------------------------------------------------------------------===//
// log (logs.cpp)
//===--------------------------------------------------------------------===//
//! Whether an entry is written; its level may go up
bool KeepsLogEntry(const char *type, const char *message, duckdb::LogLevel &level);

//===--------------------------------------------------------------------===//
// compression (scans.cpp)
//===--------------------------------------------------------------------===//
//! The score of a method that fits a column, weighed
idx_t WeighCompression(duckdb::ColumnData &column, uint32_t method, idx_t score);

//===--------------------------------------------------------------------===//
// scan_begin (scans.cpp)
//===--------------------------------------------------------------------===//
void BeginScan(duckdb::GlobalTableFunctionState &scan, duckdb::DataTable &table,
               const duckdb::TableFunctionInitInput &input);
//! How many scans give their blocks a hint
extern std::atomic<idx_t> hinted_scans;
inline bool ScansAreHinted() {
	return IsRaised(hinted_scans);
}
inline bool LoadDecided() {
	return Attached(DUCKBPF_HOOK_LOAD) || ScansAreHinted();
}
void ForgetScan(const duckdb::GlobalTableFunctionState &scan);
//! What the calling thread loads meanwhile is for this scan
class ScanScope {
public:
	explicit ScanScope(const duckdb::GlobalTableFunctionState &scan) : hinted(ScansAreHinted()) {
		if (hinted) {
			Enter(scan);
		}
	}
	~ScanScope() {
		if (hinted) {
			Leave();
		}
	}
	ScanScope(const ScanScope &) = delete;
	ScanScope &operator=(const ScanScope &) = delete;

private:
	static void Enter(const duckdb::GlobalTableFunctionState &scan);
	static void Leave();

	const bool hinted;
};

} // namespace duckbpf
#pragma GCC visibility pop
