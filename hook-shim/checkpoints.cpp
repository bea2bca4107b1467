//! The hookpoint of checkpoints: at a commit, when one is done, and in idle moments, which a thread of our own finds.

#include "blocks.hpp"
#include "call.hpp"
#include "duckbpf/host.hpp"
#include "identity.hpp"

#include "duckdb/common/string_util.hpp"
#include "duckdb/main/attached_database.hpp"
#include "duckdb/main/config.hpp"
#include "duckdb/main/connection.hpp"
#include "duckdb/main/database.hpp"
#include "duckdb/storage/block_manager.hpp"
#include "duckdb/storage/storage_manager.hpp"

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <unistd.h>
#include <unordered_map>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

namespace {

//! What is known of a database that commits. Times are NowNs(), 0 for never.
struct Watched {
	weak_ptr<DatabaseInstance> instance;
	weak_ptr<AttachedDatabase> database;
	uint64_t last_commit = 0;
	//! The first commit since the last checkpoint at which stock would have made one
	uint64_t deferred_since = 0;
	//! The last attempt to make one in an idle moment
	uint64_t last_forced = 0;
};

duckbpf_checkpoint_ctx Describe(AttachedDatabase &database, duckbpf_checkpoint_site site) {
	auto &storage = database.GetStorageManager();
	duckbpf_checkpoint_ctx ctx {};
	ctx.file_id = FileNumber(storage.GetBlockManager());
	ctx.wal_bytes = storage.GetWALSize();
	ctx.threshold = DBConfig::Get(database).options.checkpoint_wal_size;
	ctx.site = site;
	return ctx;
}

//! Databases in memory, and those that hold nothing of a user's, are left alone
bool HasLog(AttachedDatabase &database) {
	return !database.IsSystem() && !database.IsTemporary() && !database.IsReadOnly() && database.HasStorageManager() &&
	       !database.GetStorageManager().InMemory() && database.GetRecoveryMode() == RecoveryMode::DEFAULT;
}

//! The databases that commit while checkpoint has a program, and the thread that looks whether they idle
class Idling {
	static constexpr auto TICK = std::chrono::milliseconds(10);
	//! Between two attempts at one database
	static constexpr uint64_t PAUSE_NS = 100'000'000;
	//! A database without a log is looked at for so long after a commit, which is noted before it is in the log
	static constexpr uint64_t GRACE_NS = 10'000'000'000;

public:
	void NoteCommit(AttachedDatabase &database) {
		const std::lock_guard<std::mutex> guard(lock);
		auto &watched = databases[&database];
		// Of an older one at this address nothing is kept.
		if (watched.database.expired()) {
			watched = Watched {};
			watched.instance = database.GetDatabase().shared_from_this();
			watched.database = database.shared_from_this();
		}
		watched.last_commit = NowNs();
		busy = true;
		Start();
	}
	//! For how long a checkpoint is put off already, if this commit puts it off
	uint64_t DeferredNs(AttachedDatabase &database) {
		const std::lock_guard<std::mutex> guard(lock);
		auto it = databases.find(&database);
		return it == databases.end() || !it->second.deferred_since ? 0 : NowNs() - it->second.deferred_since;
	}
	void NoteDeferred(AttachedDatabase &database) {
		const std::lock_guard<std::mutex> guard(lock);
		auto it = databases.find(&database);
		if (it != databases.end() && !it->second.deferred_since) {
			it->second.deferred_since = NowNs();
		}
	}
	//! Others may have committed since it began: their log stays, and so the database is watched on.
	void NoteCheckpoint(AttachedDatabase &database, uint64_t begin) {
		const std::lock_guard<std::mutex> guard(lock);
		auto it = databases.find(&database);
		if (it != databases.end() && it->second.deferred_since <= begin) {
			it->second.deferred_since = 0;
		}
	}

private:
	//! Under the lock
	void Start() {
		if (started == getpid()) {
			wake.notify_one();
			return;
		}
		try {
			std::thread([this] { Run(); }).detach();
		} catch (const std::exception &) {
			return; // no thread, no idle checkpoints: stock makes its own
		}
		// A fork of this process has no such thread, and makes none: its hooks are detached.
		started = getpid();
		std::atexit([] { Stop(); });
	}
	//! The process ends: no tick begins after this, and none is under way
	static void Stop();

	void Run() {
		std::unique_lock<std::mutex> guard(lock);
		while (true) {
			wake.wait(guard, [this] { return busy; });
			wake.wait_for(guard, TICK);
			std::vector<Watched> due;
			TakeDue(due);
			guard.unlock();
			{
				const std::lock_guard<std::mutex> tick(ticking);
				for (auto &watched : due) {
					if (!stopped && Attached(DUCKBPF_HOOK_CHECKPOINT)) {
						Tick(watched);
					}
				}
				due.clear();
			}
			guard.lock();
		}
	}
	//! Under the lock: databases that may be checkpointed now
	void TakeDue(std::vector<Watched> &due) {
		const auto now = NowNs();
		for (auto it = databases.begin(); it != databases.end();) {
			if (it->second.database.expired()) {
				it = databases.erase(it);
				continue;
			}
			if (now - it->second.last_forced >= PAUSE_NS) {
				due.push_back(it->second);
			}
			++it;
		}
		busy = !databases.empty() && Attached(DUCKBPF_HOOK_CHECKPOINT);
	}
	//! Asks the program, and does what it says
	void Tick(const Watched &watched) {
		// Released in the other order: a database needs its instance.
		const auto instance = watched.instance.lock();
		const auto database = instance ? watched.database.lock() : nullptr;
		if (!database || !HasLog(*database)) {
			return;
		}
		if (database->GetStorageManager().GetWALSize() == 0) {
			Forget(*database, watched);
			return;
		}
		if (!Forces(*database, watched)) {
			return;
		}
		NoteForced(*database);
		try {
			Connection connection(*instance);
			const auto name = StringUtil::Replace(database->GetName().GetIdentifierName(), "\"", "\"\"");
			connection.Query("CHECKPOINT \"" + name + "\"");
		} catch (const std::exception &) { // NOLINT: an attempt; what is wrong shows at the next commit
		}
	}
	//! Nothing is to be done until the next commit
	void Forget(AttachedDatabase &database, const Watched &watched) {
		const std::lock_guard<std::mutex> guard(lock);
		auto it = databases.find(&database);
		if (it != databases.end() && it->second.last_commit == watched.last_commit &&
		    NowNs() - watched.last_commit > GRACE_NS) {
			databases.erase(it);
		}
	}
	//! Whether a checkpoint is to be made. Outside of the program when it returns: others may wait for its end.
	static bool Forces(AttachedDatabase &database, const Watched &watched) {
		ProgramCall call(DUCKBPF_HOOK_CHECKPOINT);
		if (!call.Has()) {
			return false;
		}
		auto ctx = Describe(database, DUCKBPF_CHECKPOINT_IDLE);
		ctx.origin.thread_index = call.Origin().thread_index;
		ctx.origin.database_id = DatabaseNumber(database.GetDatabase());
		const auto now = NowNs();
		ctx.idle_ns = now - watched.last_commit;
		ctx.deferred_ns = watched.deferred_since ? now - watched.deferred_since : 0;
		const auto decision = call.Run(ctx);
		if (decision == 0) {
			return false;
		}
		if (decision != DUCKBPF_CHECKPOINT_FORCE) {
			call.Refuse(decision == DUCKBPF_CHECKPOINT_DEFER ? DUCKBPF_REFUSED_WRONG_SITE : DUCKBPF_REFUSED_UNKNOWN_BITS);
			return false;
		}
		call.Apply();
		return true;
	}
	void NoteForced(AttachedDatabase &database) {
		const std::lock_guard<std::mutex> guard(lock);
		auto it = databases.find(&database);
		if (it != databases.end()) {
			it->second.last_forced = NowNs();
		}
	}

	std::mutex lock;
	//! Held during a tick
	std::mutex ticking;
	std::condition_variable wake;
	std::unordered_map<const AttachedDatabase *, Watched> databases;
	bool busy = false;
	std::atomic<bool> stopped {false};
	pid_t started = 0;
};

//! Never destroyed: its thread runs to the end of the process
Idling &TheIdling() {
	static auto idling = new Idling();
	return *idling;
}

void Idling::Stop() {
	auto &idling = TheIdling();
	if (idling.started != getpid()) {
		return; // a fork: the thread, and what it held, stayed with the parent
	}
	idling.stopped = true;
	const std::lock_guard<std::mutex> tick(idling.ticking);
}

} // namespace

void NoteCommit(AttachedDatabase &database) {
	if (HasLog(database)) {
		TheIdling().NoteCommit(database);
	}
}

bool DefersCheckpoint(AttachedDatabase &database, idx_t commit_bytes) {
	if (!HasLog(database)) {
		return false;
	}
	ProgramCall call(DUCKBPF_HOOK_CHECKPOINT);
	if (!call.Has()) {
		return false;
	}
	auto ctx = Describe(database, DUCKBPF_CHECKPOINT_COMMIT);
	ctx.origin = call.Origin();
	ctx.commit_bytes = commit_bytes;
	ctx.deferred_ns = TheIdling().DeferredNs(database);
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return false;
	}
	if (decision != DUCKBPF_CHECKPOINT_DEFER) {
		call.Refuse(decision == DUCKBPF_CHECKPOINT_FORCE ? DUCKBPF_REFUSED_WRONG_SITE : DUCKBPF_REFUSED_UNKNOWN_BITS);
		return false;
	}
	if (ctx.wal_bytes + commit_bytes > DUCKBPF_CHECKPOINT_MAX_THRESHOLDS * ctx.threshold ||
	    ctx.deferred_ns > DUCKBPF_CHECKPOINT_MAX_DEFERRED_NS) {
		call.Refuse(DUCKBPF_REFUSED_CLAMPED);
		return false;
	}
	call.Apply();
	TheIdling().NoteDeferred(database);
	return true;
}

CheckpointScope::CheckpointScope(AttachedDatabase &database)
    : database(database), begin(Attached(DUCKBPF_HOOK_CHECKPOINT) ? NowNs() : 0) {
}

CheckpointScope::~CheckpointScope() {
	if (!begin || !HasLog(database)) {
		return;
	}
	TheIdling().NoteCheckpoint(database, begin);
	ProgramCall call(DUCKBPF_HOOK_CHECKPOINT);
	if (!call.Has()) {
		return;
	}
	auto ctx = Describe(database, DUCKBPF_CHECKPOINT_DONE);
	ctx.origin = call.Origin();
	ctx.duration_ns = NowNs() - begin;
	if (call.Run(ctx) != 0) {
		call.Refuse(DUCKBPF_REFUSED_WRONG_SITE);
	}
}

} // namespace duckbpf
