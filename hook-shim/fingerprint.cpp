//! What makes two queries the same query: their text without literals, comments, white space and the case of letters.

#include "identity.hpp"

#include <cstdint>

namespace duckbpf {

namespace {

//! FNV-1a, finished by a multiplication that spreads it over all bits
class Digest {
public:
	void Add(unsigned char byte) {
		value = (value ^ byte) * 0x100000001b3ULL;
	}
	uint64_t Finish() const {
		const auto mixed = (value ^ (value >> 32)) * 0xd6e8feb86659fd93ULL;
		// 0 stands for unknown
		return (mixed ^ (mixed >> 32)) | 1;
	}

private:
	uint64_t value = 0xcbf29ce484222325ULL;
};

bool IsSpace(unsigned char c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

bool IsDigit(unsigned char c) {
	return c >= '0' && c <= '9';
}

bool IsWord(unsigned char c) {
	return IsDigit(c) || static_cast<unsigned>((c | 32) - 'a') < 26u || c == '_' || c >= 0x80;
}

//! Where what begins at `text` with a quote ends: behind the closing one. A doubled quote belongs to it.
const char *SkipQuoted(const char *text, const char *end) {
	const auto quote = *text++;
	while (text < end) {
		if (*text++ == quote) {
			if (text == end || *text != quote) {
				return text;
			}
			text++;
		}
	}
	return end;
}

const char *SkipComment(const char *text, const char *end) {
	if (text[0] == '-') {
		while (text < end && *text != '\n') {
			text++;
		}
		return text;
	}
	for (text += 2; text + 1 < end; text++) {
		if (text[0] == '*' && text[1] == '/') {
			return text + 2;
		}
	}
	return end;
}

bool IsComment(const char *text, const char *end) {
	return text + 1 < end && ((text[0] == '-' && text[1] == '-') || (text[0] == '/' && text[1] == '*'));
}

//! Where the next token begins
const char *SkipBlank(const char *text, const char *end) {
	while (text < end) {
		if (IsComment(text, end)) {
			text = SkipComment(text, end);
		} else if (IsSpace(*text) || *text == ';') {
			text++;
		} else {
			break;
		}
	}
	return text;
}

const char *SkipNumber(const char *text, const char *end) {
	while (text < end && (IsWord(*text) || *text == '.')) {
		text++;
	}
	return text;
}

const char *AddWord(const char *text, const char *end, Digest &digest) {
	for (; text < end && IsWord(*text); text++) {
		digest.Add(*text >= 'A' && *text <= 'Z' ? *text | 32 : *text);
	}
	// Keeps two words apart
	digest.Add(' ');
	return text;
}

} // namespace

uint64_t Fingerprint(const char *text, uint64_t size) {
	static constexpr unsigned char LITERAL = '?';
	Digest digest;
	const auto end = text + size;
	while ((text = SkipBlank(text, end)) < end) {
		if (*text == '\'') {
			digest.Add(LITERAL);
			text = SkipQuoted(text, end);
		} else if (IsDigit(*text)) {
			digest.Add(LITERAL);
			text = SkipNumber(text, end);
		} else if (IsWord(*text)) {
			text = AddWord(text, end, digest);
		} else {
			digest.Add(*text++);
		}
	}
	return digest.Finish();
}

} // namespace duckbpf
