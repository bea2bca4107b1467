//! The scheduler's queues. Private to hook-shim.
#pragma once

#include "duckdb/parallel/task_scheduler.hpp"
#include "duckdb/parallel/task_scheduler_queue.hpp"

namespace duckbpf {

// Of each file that includes this: an explicit instantiation may stand once in a program.
namespace {

using Queues = duckdb::array<duckdb::unique_ptr<duckdb::TaskSchedulerQueue>, duckdb::TASK_SCHEDULER_TYPE_COUNT>;

//! The scheduler's queues are private and its header is seen by too many units to change. An explicit instantiation may
//! name a private member (C++17 [temp.spec.general]); this one hands it out through a friend.
template <Queues duckdb::TaskScheduler::*MEMBER>
struct ExposeQueues {
	friend Queues &QueuesOf(duckdb::TaskScheduler &scheduler) {
		return scheduler.*MEMBER;
	}
};
Queues &QueuesOf(duckdb::TaskScheduler &scheduler);
template struct ExposeQueues<&duckdb::TaskScheduler::queues>;

} // namespace

} // namespace duckbpf
