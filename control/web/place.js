/*
 * Where the reader is: the URL's fragment, so that a reload and a shared link show the same.
 *
 *   #campaigns/camp_1?range=1h&kind=campaigns&by=country&filter=country:US
 *
 * The first word is the view, the rest its subject; the query holds what differs from the defaults. Range and zone go along from view
 * to view.
 */

const carried = ["range", "from", "to", "tz"];

export const ranges = { "15m": 900e3, "1h": 3600e3, "6h": 21600e3, "1d": 86400e3, "7d": 604800e3, "30d": 2592000e3 };
export const range_names = { "15m": "15 min", "1h": "Hour", "6h": "6 h", "1d": "Day", "7d": "Week", "30d": "30 d" };

export function read() {
	const text = location.hash.replace(/^#\/?/, ""), cut = text.indexOf("?");
	const path = cut < 0 ? text : text.slice(0, cut), query = new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1));
	const [view, ...rest] = path.split("/");
	let id = "";
	try {
		id = decodeURIComponent(rest.join("/"));
	} catch {
		/* a half escape, typed by hand: no subject */
	}
	return { view, id, query: Object.fromEntries(query) };
}

export function write(place) {
	const query = new URLSearchParams(Object.entries(place.query).filter(([, value]) => value !== "" && value !== null && value !== undefined));
	const text = query.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
	return `#${place.view}${place.id ? `/${encodeURIComponent(place.id)}` : ""}${text ? `?${text}` : ""}`;
}

/* A link to another view: with the same range and zone. */
export function link(view, id = "", query = {}) {
	const here = read(), kept = Object.fromEntries(carried.filter((key) => here.query[key]).map((key) => [key, here.query[key]]));
	return write({ view, id, query: { ...kept, ...query } });
}

/* Changes the query of this view. A new entry in the browser's history, unless it is told to replace. */
export function change(query, replace = false) {
	const here = read(), next = write({ ...here, query: { ...here.query, ...query } });
	if (next === location.hash)
		return;
	if (replace)
		history.replaceState(null, "", next);
	else
		history.pushState(null, "", next);
	window.dispatchEvent(new HashChangeEvent("hashchange"));
}

/* The range in ms: [from, to), whether it moves with the clock, and its length. */
export function range_of(query, now_ms, fallback = "1h") {
	const from = Number(query.from), to = Number(query.to);
	if (query.from && query.to && from < to)
		return { from, to, live: false, name: "" };
	const name = ranges[query.range] ? query.range : fallback;
	return { from: now_ms - ranges[name], to: now_ms, live: true, name };
}
