//! The hookpoints of the scheduler: schedule_task with its classes, execute_forever with its steps.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "queues.hpp"

#include "duckdb/execution/executor.hpp"
#include "duckdb/main/client_context.hpp"

#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

std::atomic<idx_t> side_tasks {0};

namespace {

constexpr uint8_t ASYNC = static_cast<uint8_t>(TaskSchedulerType::ASYNC);
constexpr uint8_t REGULAR = static_cast<uint8_t>(TaskSchedulerType::REGULAR);
static_assert(REGULAR == DUCKBPF_POOL_REGULAR && ASYNC == DUCKBPF_POOL_ASYNC, "pools have DuckDB's numbers");

//===--------------------------------------------------------------------===//
// Classes 1 to 7, beside their queue
//===--------------------------------------------------------------------===//
struct WaitingTask {
	uint64_t number = 0;
	ProducerToken *token = nullptr;
	duckdb::shared_ptr<Task> task;
};

class SideQueue {
public:
	void Push(uint8_t klass, ProducerToken &token, duckdb::vector<duckdb::shared_ptr<Task>> &tasks) {
		// All memory first: from here on nothing throws, so all tasks enter or none. The caller's vector keeps its length,
		// by which it signals workers.
		std::list<WaitingTask> entries(tasks.size());
		const std::lock_guard<std::mutex> guard(lock);
		auto task = tasks.begin();
		for (auto &entry : entries) {
			entry = WaitingTask {next_number++, &token, std::move(*task++)};
		}
		classes[klass].splice(classes[klass].end(), entries);
	}
	//! The first of the lowest class; of one producer when given
	bool Pop(duckdb::shared_ptr<Task> &task, const ProducerToken *token) {
		const std::lock_guard<std::mutex> guard(lock);
		for (auto &waiting : classes) {
			for (auto it = waiting.begin(); it != waiting.end(); ++it) {
				if (!token || it->token == token) {
					Take(waiting, it, task);
					return true;
				}
			}
		}
		return false;
	}
	bool PopOverdue(duckdb::shared_ptr<Task> &task) {
		//! Every 16th pick goes to the task that has waited longest
		static constexpr uint32_t PICKS = 16;
		const std::lock_guard<std::mutex> guard(lock);
		if (++picks % PICKS != 0) {
			return false;
		}
		std::list<WaitingTask> *oldest = nullptr;
		for (auto &waiting : classes) {
			if (!waiting.empty() && (!oldest || waiting.front().number < oldest->front().number)) {
				oldest = &waiting;
			}
		}
		if (!oldest) {
			return false;
		}
		Take(*oldest, oldest->begin(), task);
		return true;
	}
	idx_t Count(const ProducerToken &token) {
		const std::lock_guard<std::mutex> guard(lock);
		idx_t count = 0;
		for (auto &waiting : classes) {
			for (auto &entry : waiting) {
				count += entry.token == &token;
			}
		}
		return count;
	}
	//! Takes out the tasks of one producer, or all, to be destroyed by the caller outside of any lock
	std::list<WaitingTask> Drop(const ProducerToken *token) {
		const std::lock_guard<std::mutex> guard(lock);
		std::list<WaitingTask> dropped;
		for (auto &waiting : classes) {
			for (auto it = waiting.begin(); it != waiting.end();) {
				auto entry = it++;
				if (!token || entry->token == token) {
					dropped.splice(dropped.end(), waiting, entry);
				}
			}
		}
		return dropped;
	}

private:
	static void Take(std::list<WaitingTask> &waiting, std::list<WaitingTask>::iterator it,
	                 duckdb::shared_ptr<Task> &task) {
		task = std::move(it->task);
		waiting.erase(it);
	}

	std::mutex lock;
	uint64_t next_number = 0;
	uint32_t picks = 0;
	std::list<WaitingTask> classes[DUCKBPF_CLASS_COUNT];
};

//! Side queues by the queue that they belong to. They are few (two a database) and made once.
class SideQueues {
public:
	SideQueue &Of(const TaskSchedulerQueue &queue) {
		const std::lock_guard<std::mutex> guard(lock);
		auto &side = queues[&queue];
		if (!side) {
			side = std::make_shared<SideQueue>();
		}
		return *side;
	}
	std::shared_ptr<SideQueue> Find(const TaskSchedulerQueue &queue) {
		const std::lock_guard<std::mutex> guard(lock);
		auto it = queues.find(&queue);
		return it == queues.end() ? nullptr : it->second;
	}
	std::shared_ptr<SideQueue> Remove(const TaskSchedulerQueue &queue) {
		const std::lock_guard<std::mutex> guard(lock);
		auto it = queues.find(&queue);
		if (it == queues.end()) {
			return nullptr;
		}
		auto side = std::move(it->second);
		queues.erase(it);
		return side;
	}
	std::vector<std::shared_ptr<SideQueue>> All() {
		const std::lock_guard<std::mutex> guard(lock);
		std::vector<std::shared_ptr<SideQueue>> all;
		for (auto &entry : queues) {
			all.push_back(entry.second);
		}
		return all;
	}

private:
	std::mutex lock;
	std::unordered_map<const TaskSchedulerQueue *, std::shared_ptr<SideQueue>> queues;
};

SideQueues side_queues;

} // namespace

void SideEnqueue(TaskSchedulerQueue &queue, ProducerToken &token, duckdb::vector<duckdb::shared_ptr<Task>> &tasks,
                 uint8_t klass) {
	const auto count = tasks.size();
	side_queues.Of(queue).Push(klass, token, tasks);
	// Whoever is signalled after this sees it: the semaphore orders the two.
	side_tasks.fetch_add(count, std::memory_order_release);
}

bool SideDequeueOverdue(TaskSchedulerQueue &queue, duckdb::shared_ptr<Task> &task) {
	auto side = side_queues.Find(queue);
	if (!side || !side->PopOverdue(task)) {
		return false;
	}
	side_tasks.fetch_sub(1, std::memory_order_relaxed);
	return true;
}

bool SideDequeue(TaskSchedulerQueue &queue, duckdb::shared_ptr<Task> &task, ProducerToken *token) {
	auto side = side_queues.Find(queue);
	if (!side || !side->Pop(task, token)) {
		return false;
	}
	side_tasks.fetch_sub(1, std::memory_order_relaxed);
	return true;
}

idx_t SideCount(const TaskSchedulerQueue &queue, const ProducerToken &token) {
	auto side = side_queues.Find(queue);
	return side ? side->Count(token) : 0;
}

void SideForget(const TaskSchedulerQueue &queue) {
	if (auto side = side_queues.Remove(queue)) {
		side_tasks.fetch_sub(side->Drop(nullptr).size(), std::memory_order_relaxed);
	}
}

void SideForgetTasks(const ProducerToken &token) {
	for (auto &side : side_queues.All()) {
		side_tasks.fetch_sub(side->Drop(&token).size(), std::memory_order_relaxed);
	}
}

//===--------------------------------------------------------------------===//
// schedule_task
//===--------------------------------------------------------------------===//
Placement PlaceTasks(TaskScheduler &scheduler, ProducerToken &token, idx_t n_tasks, uint8_t pool) {
	const Placement stock {pool, 0};
	ProgramCall call(DUCKBPF_HOOK_SCHEDULE_TASK);
	if (!call.Has()) {
		return stock;
	}
	duckbpf_schedule_task_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.n_tasks = n_tasks;
	ctx.queue_length = scheduler.GetTaskCountForProducer(token);
	ctx.active_queries = ActiveQueries();
	ctx.pool = pool;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return stock;
	}
	const auto klass = DUCKBPF_SCHEDULE_CLASS(decision);
	const auto wanted = DUCKBPF_SCHEDULE_POOL(decision);
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_SCHEDULE_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return stock;
	}
	if (klass >= DUCKBPF_CLASS_COUNT || wanted >= DUCKBPF_POOL_COUNT) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
		return stock;
	}
	if (pool == ASYNC && wanted != ASYNC) {
		// Regular threads may all be waiting for just this I/O.
		call.Refuse(DUCKBPF_REFUSED_POOL);
		return stock;
	}
	call.Apply();
	return Placement {static_cast<uint8_t>(wanted), static_cast<uint8_t>(klass)};
}

//===--------------------------------------------------------------------===//
// execute_forever
//===--------------------------------------------------------------------===//
namespace {

//! What a decision may ask for at each site
uint64_t FlagsWithMeaning(const LoopState &state) {
	uint64_t flags = DUCKBPF_DECIDED;
	switch (state.site) {
	case DUCKBPF_SITE_WORKER:
		flags |= DUCKBPF_EXECUTE_PARTIAL;
		if (state.pool == REGULAR) {
			flags |= DUCKBPF_EXECUTE_ASYNC_FIRST;
		}
		break;
	case DUCKBPF_SITE_CLIENT:
		return flags | DUCKBPF_EXECUTE_PARTIAL;
	default:
		flags |= DUCKBPF_EXECUTE_MARK_IDLE;
		break;
	}
	if (state.flush_supported) {
		flags |= DUCKBPF_EXECUTE_FLUSH;
	}
	return flags;
}

//! What stock does at each site
Step StockStep(const LoopState &state) {
	Step step {state.partial};
	step.flush = state.site == DUCKBPF_SITE_IDLE;
	step.mark_idle = state.site == DUCKBPF_SITE_DECAYED;
	return step;
}

} // namespace

Step DecideStep(const LoopState &state) {
	const auto stock = StockStep(state);
	if (!Attached(DUCKBPF_HOOK_EXECUTE_FOREVER)) {
		return stock;
	}
	ProgramCall call(DUCKBPF_HOOK_EXECUTE_FOREVER);
	if (!call.Has()) {
		return stock;
	}
	duckbpf_execute_forever_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.queue_length_regular = state.queue_length_regular;
	ctx.queue_length_async = state.queue_length_async;
	ctx.active_queries = ActiveQueries();
	ctx.flush_threshold = state.flush_threshold;
	ctx.decay_delay = state.decay_delay;
	ctx.pool = state.pool;
	ctx.site = state.site;
	ctx.flush_supported = state.flush_supported;
	ctx.partial = state.partial;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return stock;
	}
	const auto flags = decision & 0xffffffffULL;
	const auto wait_us = DUCKBPF_EXECUTE_WAIT(decision);
	const bool may_wait = state.site == DUCKBPF_SITE_WORKER || state.site == DUCKBPF_SITE_CLIENT;
	if (!(flags & DUCKBPF_DECIDED) || (flags & ~DUCKBPF_EXECUTE_FLAGS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return stock;
	}
	if (wait_us > DUCKBPF_EXECUTE_WAIT_MAX_US) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
		return stock;
	}
	if ((flags & ~FlagsWithMeaning(state)) || (wait_us && !(may_wait && MayWait()))) {
		call.Refuse(DUCKBPF_REFUSED_WRONG_SITE);
		return stock;
	}
	call.Apply();
	Step step {(flags & DUCKBPF_EXECUTE_PARTIAL) != 0};
	step.async_first = flags & DUCKBPF_EXECUTE_ASYNC_FIRST;
	step.flush = flags & DUCKBPF_EXECUTE_FLUSH;
	step.mark_idle = flags & DUCKBPF_EXECUTE_MARK_IDLE;
	step.wait_us = static_cast<uint32_t>(wait_us);
	return step;
}

TaskExecutionMode BeforeClientSlice(ClientContext &context) {
	auto &queues = QueuesOf(TaskScheduler::GetScheduler(context));
	LoopState state {};
	state.site = DUCKBPF_SITE_CLIENT;
	state.pool = REGULAR;
	state.partial = true;
	state.queue_length_regular = queues[REGULAR]->GetTasksInQueue();
	state.queue_length_async = queues[ASYNC]->GetTasksInQueue();
	state.decay_delay = -1;
	const auto step = DecideStep(state);
	static constexpr uint32_t POLL_US = 1000;
	for (uint32_t waited = 0; waited < step.wait_us; waited += POLL_US) {
		if (context.IsInterrupted() || Executor::Get(context).HasError()) {
			break;
		}
		std::this_thread::sleep_for(std::chrono::microseconds(MinValue(POLL_US, step.wait_us - waited)));
	}
	return step.partial ? TaskExecutionMode::PROCESS_PARTIAL : TaskExecutionMode::PROCESS_ALL;
}

} // namespace duckbpf
