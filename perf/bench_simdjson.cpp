/*
 * The peer of bench_json: the same events through simdjson's DOM, which validates the whole text as we do, and then every field of
 * the schema taken out, typed and checked.
 *
 *   bench_simdjson [--seconds S] [--events N] [--seed N]
 *
 * It is given what it likes best: one walk over the object in document order with a perfect dispatch on the key instead of a search
 * per field, padded input without a copy, a parser that keeps its memory. It checks what our parser checks as far as that can be
 * done after the DOM is made: types, lengths, known values, a bit per field for duplicates of known keys. It does not find
 * duplicates of unknown keys, does not undo what the DOM loses (a price is a double here), and counts no depth beyond its own.
 *
 *   fields   as above                       the peer of bench_json's `fields`
 *   event    plus id, address, fingerprint  the peer of bench_json's `event`, by the same functions
 */
#include <simdjson.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>

extern "C" {
#include "make_events.h"
#include "turnpike/addr.h"
#include "turnpike/event.h"
#include "turnpike/text.h"
}

namespace
{

enum mode { FIELDS, EVENT, MODES };
const char *const mode_name[MODES] = {"fields", "event"};

struct fields {
	tp_parsed parsed;
	std::string_view ip;
	uint32_t seen;
};

using simdjson::dom::element;

bool text_take(element value, tp_str *to, size_t min, size_t max)
{
	std::string_view text;
	if (value.get_string().get(text) != simdjson::SUCCESS || text.size() < min || text.size() > max)
		return false;
	*to = {text.data(), (uint16_t)text.size()};
	return true;
}

bool letter(char c)
{
	return ((unsigned char)c | 0x20u) - 'a' < 26;
}

bool geo_take(element value, fields &f)
{
	simdjson::dom::object geo;
	if (value.get_object().get(geo) != simdjson::SUCCESS)
		return false;
	for (auto [key, member] : geo) {
		if (key == "country") {
			std::string_view text;
			if (member.get_string().get(text) != simdjson::SUCCESS || text.size() != 2 || !letter(text[0]) ||
			    !letter(text[1]))
				return false;
			f.parsed.fixed.country[0] = (char)(text[0] & ~0x20);
			f.parsed.fixed.country[1] = (char)(text[1] & ~0x20);
		} else if (key == "region") {
			if (!text_take(member, &f.parsed.string[TP_REGION], 0, TP_ID_BYTES_MAX))
				return false;
		} else if (key == "city") {
			if (!text_take(member, &f.parsed.string[TP_CITY], 0, TP_CITY_BYTES_MAX))
				return false;
		}
	}
	return true;
}

bool once(fields &f, unsigned field)
{
	bool first = !(f.seen & 1u << field);
	f.seen |= 1u << field;
	return first;
}

bool string_field(std::string_view key, std::string_view name, element value, fields &f, tp_field field, tp_string which,
		  size_t min, size_t max)
{
	return key != name || (once(f, field) && text_take(value, &f.parsed.string[which], min, max));
}

bool price_take(element value, fields &f)
{
	double price;
	if (value.get_double().get(price) != simdjson::SUCCESS || price < 0 || price > 1000000)
		return false;
	f.parsed.fixed.bid_micros = std::llround(price * 1e6);
	f.parsed.fixed.flags |= TP_HAS_BID;
	return true;
}

constexpr unsigned key_class(size_t bytes, char first)
{
	return (unsigned)bytes << 8 | (unsigned char)first;
}

bool field_take(std::string_view key, element value, fields &f)
{
	if (key.empty())
		return true;
	switch (key_class(key.size(), key[0])) {
	case key_class(8, 'e'):
		return string_field(key, "event_id", value, f, TP_FIELD_EVENT_ID, TP_EVENT_ID, 1, TP_ID_BYTES_MAX);
	case key_class(10, 'e'): {
		if (key != "event_type")
			return true;
		std::string_view text;
		if (!once(f, TP_FIELD_EVENT_TYPE) || value.get_string().get(text) != simdjson::SUCCESS)
			return false;
		f.parsed.fixed.type = text == "click" ? TP_CLICK : text == "impression" ? TP_IMPRESSION : TP_CONVERSION;
		return f.parsed.fixed.type != TP_CONVERSION || text == "conversion";
	}
	case key_class(9, 't'): {
		if (key != "timestamp")
			return true;
		uint64_t stamp;
		if (!once(f, TP_FIELD_TIMESTAMP) || value.get_uint64().get(stamp) != simdjson::SUCCESS ||
		    stamp > PERF_EVENTS_NOW_MS + 60000)
			return false;
		f.parsed.fixed.timestamp_ms = stamp;
		return true;
	}
	case key_class(5, 'a'):
		return string_field(key, "ad_id", value, f, TP_FIELD_AD_ID, TP_AD_ID, 1, TP_ID_BYTES_MAX);
	case key_class(11, 'c'):
		return string_field(key, "campaign_id", value, f, TP_FIELD_CAMPAIGN_ID, TP_CAMPAIGN_ID, 1, TP_ID_BYTES_MAX);
	case key_class(13, 'a'):
		return string_field(key, "advertiser_id", value, f, TP_FIELD_ADVERTISER_ID, TP_ADVERTISER_ID, 1, TP_ID_BYTES_MAX);
	case key_class(12, 'p'):
		return string_field(key, "publisher_id", value, f, TP_FIELD_PUBLISHER_ID, TP_PUBLISHER_ID, 0, TP_ID_BYTES_MAX);
	case key_class(7, 'u'):
		return string_field(key, "user_id", value, f, TP_FIELD_USER_ID, TP_USER_ID, 0, TP_ID_BYTES_MAX);
	case key_class(9, 'd'):
		return string_field(key, "device_id", value, f, TP_FIELD_DEVICE_ID, TP_DEVICE_ID, 0, TP_ID_BYTES_MAX);
	case key_class(10, 'i'):
		return key != "ip_address" || (once(f, TP_FIELD_IP_ADDRESS) && value.get_string().get(f.ip) == simdjson::SUCCESS);
	case key_class(10, 'u'):
		return string_field(key, "user_agent", value, f, TP_FIELD_USER_AGENT, TP_USER_AGENT, 0, TP_TEXT_BYTES_MAX);
	case key_class(7, 'r'):
		return string_field(key, "referer", value, f, TP_FIELD_REFERER, TP_REFERER, 0, TP_TEXT_BYTES_MAX);
	case key_class(3, 'g'):
		return key != "geo" || (once(f, TP_FIELD_GEO) && geo_take(value, f));
	case key_class(9, 'b'):
		return key != "bid_price" || (once(f, TP_FIELD_BID_PRICE) && price_take(value, f));
	case key_class(14, 'c'): {
		if (key != "click_position")
			return true;
		uint64_t position;
		if (!once(f, TP_FIELD_CLICK_POSITION) || value.get_uint64().get(position) != simdjson::SUCCESS ||
		    position > UINT16_MAX)
			return false;
		f.parsed.fixed.click_position = (uint16_t)position;
		f.parsed.fixed.flags |= TP_HAS_POSITION;
		return true;
	}
	default:
		return true;
	}
}

constexpr uint32_t required = 1u << TP_FIELD_EVENT_ID | 1u << TP_FIELD_EVENT_TYPE | 1u << TP_FIELD_TIMESTAMP |
			      1u << TP_FIELD_AD_ID | 1u << TP_FIELD_CAMPAIGN_ID | 1u << TP_FIELD_ADVERTISER_ID;

bool event_parse(simdjson::dom::parser &parser, const char *text, size_t bytes, fields &f, bool finish)
{
	std::memset(&f.parsed, 0, sizeof f.parsed);
	f.seen = 0;
	f.ip = {};
	simdjson::dom::object object;
	if (parser.parse(text, bytes, false).get_object().get(object) != simdjson::SUCCESS)
		return false;
	for (auto [key, value] : object)
		if (!field_take(key, value, f))
			return false;
	if ((f.seen & required) != required)
		return false;
	if (!finish)
		return true;
	tp_addr addr;
	if (f.ip.data()) {
		if (tp_addr_parse(f.ip.data(), f.ip.size(), &addr) != 0)
			return false;
		std::memcpy(f.parsed.fixed.ip, addr.byte, sizeof addr.byte);
		f.parsed.fixed.flags |= TP_HAS_IP | TP_IP_SENT;
	}
	tp_str *id = &f.parsed.string[TP_EVENT_ID];
	int uuid;
	f.parsed.fixed.id = tp_id_from_text(id->at, id->bytes, &uuid);
	if (uuid)
		*id = {};
	tp_event_finish(&f.parsed);
	return true;
}

/* As in bench_json. */
uint64_t cpu_ns()
{
	timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t round_run(simdjson::dom::parser &parser, const perf_events &events, mode which)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < events.count; i++) {
		const char *text = events.text + events.start[i];
		size_t bytes = events.start[i + 1] - events.start[i] - 1;
		fields f;
		if (!event_parse(parser, text, bytes, f, which == EVENT)) {
			std::fprintf(stderr, "bench_simdjson: event %u is not taken\n", i);
			std::exit(1);
		}
		sum += f.parsed.fixed.timestamp_ms + (uint64_t)f.parsed.fixed.bid_micros + f.parsed.string[TP_USER_AGENT].bytes;
	}
	return sum;
}

} // namespace

int main(int argc, char **argv)
{
	double seconds = 1;
	uint32_t count = 100000;
	uint64_t seed = 1;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!std::strcmp(argv[i], "--seconds"))
			seconds = std::strtod(argv[i + 1], nullptr);
		else if (!std::strcmp(argv[i], "--events"))
			count = (uint32_t)std::strtoul(argv[i + 1], nullptr, 10);
		else if (!std::strcmp(argv[i], "--seed"))
			seed = std::strtoull(argv[i + 1], nullptr, 10);
		else
			return 2;
	}
	perf_events events;
	if (count == 0 || perf_events_make(&events, seed, count) != 0) {
		std::fprintf(stderr, "bench_simdjson: no memory for %u events\n", count);
		return 1;
	}
	simdjson::dom::parser parser;
	volatile uint64_t sink = 0;
	for (int which = 0; which < MODES; which++) {
		uint64_t best = UINT64_MAX, end = tp_mono_ns() + (uint64_t)(seconds * 1e9);
		do {
			uint64_t began = cpu_ns();
			sink = sink + round_run(parser, events, (mode)which);
			uint64_t took = cpu_ns() - began;
			best = took < best ? took : best;
		} while (tp_mono_ns() < end);
		std::printf("%s %.0f events/s %.3f GB/s (simdjson %s, %.0f bytes)\n", mode_name[which], count * 1e9 / (double)best,
			    (double)events.bytes / (double)best, simdjson::get_active_implementation()->name().c_str(),
			    (double)events.bytes / count);
	}
	perf_events_free(&events);
	return 0;
}
