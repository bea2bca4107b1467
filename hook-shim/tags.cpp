//! Tags of queries: texts by which people tell them apart, as numbers that fit into a context.

#include "tags.hpp"

#include "identity.hpp"

#include "duckdb/common/types/value.hpp"
#include "duckdb/main/client_context.hpp"
#include "duckdb/main/config.hpp"
#include "duckdb/main/database.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <unordered_map>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

namespace {

constexpr uint32_t MAX_TAGS = 4096;
//! Bytes; what is longer is cut
constexpr uint64_t MAX_TEXT = 63;

//! Numbers texts from 1 up, each once in the life of the process. Beyond MAX_TAGS texts have no number.
class TagTable {
public:
	uint32_t NumberOf(const std::string &text) {
		const std::lock_guard<std::mutex> guard(lock);
		auto known = numbers.find(text);
		if (known != numbers.end()) {
			return known->second;
		}
		const auto number = count.load(std::memory_order_relaxed) + 1;
		if (number > MAX_TAGS) {
			return 0;
		}
		numbers.emplace(text, number);
		memcpy(texts[number - 1].bytes, text.data(), text.size());
		texts[number - 1].size = text.size();
		// Release: who sees the number sees its text, which stays.
		count.store(number, std::memory_order_release);
		return number;
	}
	uint64_t Text(uint32_t number, char *to, uint64_t size) const {
		if (number == 0 || number > count.load(std::memory_order_acquire)) {
			return 0;
		}
		auto &text = texts[number - 1];
		const auto bytes = std::min(text.size, size);
		memcpy(to, text.bytes, bytes);
		return bytes;
	}

private:
	struct Entry {
		uint64_t size;
		char bytes[MAX_TEXT];
	};

	std::mutex lock;
	std::unordered_map<std::string, uint32_t> numbers;
	Entry texts[MAX_TAGS];
	std::atomic<uint32_t> count {0};
};

//! Never destroyed: queries may outlive the end of main
TagTable &Tags() {
	static auto &tags = *new TagTable();
	return tags;
}

bool IsBlank(char c) {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ';';
}

int HexDigit(char c) {
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c = static_cast<char>(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

//! A value as sqlcommenter writes it: %41 is A, \' is '
std::string Decode(const std::string &value) {
	std::string text;
	for (size_t at = 0; at < value.size(); at++) {
		if (value[at] == '%' && at + 2 < value.size() && HexDigit(value[at + 1]) >= 0 && HexDigit(value[at + 2]) >= 0) {
			text += static_cast<char>(HexDigit(value[at + 1]) * 16 + HexDigit(value[at + 2]));
			at += 2;
		} else if (value[at] == '\\' && at + 1 < value.size()) {
			text += value[++at];
		} else {
			text += value[at];
		}
	}
	return text;
}

//! The value of `tag` among key='value' pairs, separated by commas; empty without one
std::string TagAmong(const std::string &pairs) {
	size_t at = 0;
	while (at < pairs.size()) {
		const auto equals = pairs.find("='", at);
		if (equals == std::string::npos) {
			return std::string();
		}
		auto begin = at;
		while (begin < equals && (IsBlank(pairs[begin]) || pairs[begin] == ',')) {
			begin++;
		}
		auto end = equals + 2;
		while (end < pairs.size() && pairs[end] != '\'') {
			end += pairs[end] == '\\' ? 2 : 1;
		}
		if (end >= pairs.size()) {
			return std::string();
		}
		if (pairs.compare(begin, equals - begin, "tag") == 0) {
			return Decode(pairs.substr(equals + 2, end - equals - 2));
		}
		at = end + 1;
	}
	return std::string();
}

//! The tag in a comment at a statement's end, where sqlcommenter puts it, or at its beginning
std::string TagInComment(const std::string &query) {
	size_t begin = 0, end = query.size();
	while (end > 0 && IsBlank(query[end - 1])) {
		end--;
	}
	if (end >= 4 && query.compare(end - 2, 2, "*/") == 0) {
		const auto open = query.rfind("/*", end - 4);
		if (open != std::string::npos) {
			auto tag = TagAmong(query.substr(open + 2, end - open - 4));
			if (!tag.empty()) {
				return tag;
			}
		}
	}
	while (begin < end && IsBlank(query[begin])) {
		begin++;
	}
	if (query.compare(begin, 2, "/*") != 0) {
		return std::string();
	}
	const auto close = query.find("*/", begin + 2);
	return close == std::string::npos ? std::string() : TagAmong(query.substr(begin + 2, close - begin - 2));
}

//! The index of the setting hook_tag in a database, which stays while the database does. To look it up costs a lock and a copy of
//! its description at each begin of a query, so the database that asked last is remembered: its number and, below, the index.
optional_idx TagSetting(const ClientContext &context) {
	static std::atomic<uint64_t> last {0};
	static const Identifier setting("hook_tag");
	const auto number = DatabaseNumber(*context.db);
	const auto known = last.load(std::memory_order_relaxed);
	if (number != 0 && known >> 32 == number) {
		return optional_idx(known & UINT32_MAX);
	}
	optional_ptr<const ConfigurationOption> option;
	const auto index = DBConfig::GetConfig(context).TryGetSettingIndex(setting, option);
	if (index.IsValid() && number <= UINT32_MAX && index.GetIndex() <= UINT32_MAX) {
		last.store(number << 32 | index.GetIndex(), std::memory_order_relaxed);
	}
	return index;
}

std::string TagOfConnection(const ClientContext &context) {
	const auto setting = TagSetting(context);
	Value value;
	if (!setting.IsValid() || !context.TryGetCurrentUserSetting(setting.GetIndex(), value) || value.IsNull()) {
		return std::string();
	}
	return StringValue::Get(value);
}

} // namespace

uint32_t TagOf(const ClientContext &context, const std::string &query) {
	try {
		auto tag = TagInComment(query);
		if (tag.empty()) {
			tag = TagOfConnection(context);
		}
		if (tag.empty()) {
			return 0;
		}
		tag.resize(std::min<size_t>(tag.size(), MAX_TEXT));
		return Tags().NumberOf(tag);
	} catch (...) { // NOLINT: a query does not fail because its tag cannot be told
		return 0;
	}
}

__u64 TagText(__u32 tag, char *text, __u64 size) {
	return Tags().Text(tag, text, size);
}

} // namespace duckbpf
