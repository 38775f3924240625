/* Numbers, bytes, durations and times as the dashboard writes them. Times are in UTC or the viewer's zone: one choice for the page. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const MINUS = "\u2212";

let local = false;

export function set_local(wanted) {
	local = wanted;
}

/* The IANA name, for questions to the API. */
export function zone() {
	return local ? Intl.DateTimeFormat().resolvedOptions().timeZone : "UTC";
}

/* What the zone is ahead of UTC at a moment. */
export function offset_ms(ms) {
	return local ? -new Date(ms).getTimezoneOffset() * 60000 : 0;
}

export function zone_text(ms = Date.now()) {
	const minutes = offset_ms(ms) / 60000;
	if (!minutes)
		return "UTC";
	const size = Math.abs(minutes);
	return `UTC${minutes < 0 ? MINUS : "+"}${Math.floor(size / 60)}${size % 60 ? `:${two(size % 60)}` : ""}`;
}

function two(value) {
	return String(value).padStart(2, "0");
}

function clock(ms) {
	return new Date(ms + offset_ms(ms));
}

/* 13:07, and with seconds where they matter */
export function time(ms, seconds = false) {
	const at = clock(ms);
	return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${seconds ? `:${two(at.getUTCSeconds())}` : ""}`;
}

/* 21 Nov */
export function day(ms) {
	const at = clock(ms);
	return `${at.getUTCDate()} ${months[at.getUTCMonth()]}`;
}

/* 21 Nov 13:07:03, and the year where it is another */
export function stamp(ms, seconds = false) {
	const year = clock(ms).getUTCFullYear();
	return `${day(ms)}${year === clock(Date.now()).getUTCFullYear() ? "" : ` ${year}`} ${time(ms, seconds)}`;
}

export function month(ms) {
	const at = clock(ms);
	return `${months[at.getUTCMonth()]} ${at.getUTCFullYear()}`;
}

/* For <input type=datetime-local>, and back. */
export function input_time(ms) {
	return clock(ms).toISOString().slice(0, 16);
}
export function from_input(text) {
	const utc = Date.parse(`${text}Z`);
	return Number.isNaN(utc) ? null : utc - offset_ms(utc - offset_ms(utc));
}

/* 0.4, 12.5, 1,234, 1.2M; a dash for what is not known */
export function rate(value) {
	if (value === null || value === undefined)
		return "–";
	if (value >= 1e6)
		return short.format(value);
	if (value >= 100 || Number.isInteger(value))
		return whole.format(value);
	return value.toFixed(1);
}

export function count(value) {
	return value === null || value === undefined ? "–" : whole.format(value);
}

export function axis(value) {
	return Math.abs(value) >= 1000 ? short.format(value) : String(Number(value.toPrecision(3)));
}

export function bytes(value) {
	if (value === null || value === undefined)
		return "–";
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let unit = 0;
	for (; value >= 1024 && unit < units.length - 1; unit++)
		value /= 1024;
	return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/* 850 µs, 1.2 ms, 3.4 s */
export function latency(ms) {
	if (ms === null || ms === undefined)
		return "–";
	if (ms < 1)
		return `${(ms * 1000).toFixed(0)} µs`;
	return ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/* 42 s, 5 min 10 s, 3 h 12 min, 12 d 4 h */
export function span(ms) {
	const s = Math.max(0, Math.round(ms / 1000));
	if (s < 120)
		return `${s} s`;
	if (s < 7200)
		return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s / 60} min`;
	if (s < 172800)
		return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
	return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function percent(share) {
	return share === null || share === undefined ? "–" : `${(share * 100).toFixed(Math.abs(share) < 0.0995 ? 2 : 1)}%`;
}

/* +12.3% of the period before; nothing where there was nothing to compare with */
export function change(now, before) {
	if (typeof now !== "number" || typeof before !== "number" || before === 0)
		return null;
	const share = (now - before) / before;
	return { share, text: `${share < 0 ? MINUS : "+"}${Math.abs(share) >= 10 ? whole.format(Math.abs(share) * 100) : Math.abs(share * 100).toFixed(1)}%` };
}

/*
 * Money comes as text with six decimals and stays text: grouped and cut to cents, or with all decimals for a bill. Never through a
 * float.
 */
export function money(spend, currency, all = false) {
	if (spend === null || spend === undefined)
		return "several";
	const [, sign, units, decimals] = /^(-?)(\d+)(?:\.(\d*))?$/.exec(spend) ?? [];
	if (units === undefined)
		return String(spend);
	const grouped = units.replace(/\B(?=(\d{3})+$)/g, ",");
	let fraction = (decimals ?? "").padEnd(6, "0").slice(0, all ? 6 : 2);
	if (!all && grouped === "0" && fraction === "00" && /[1-9]/.test(decimals ?? ""))
		fraction = decimals; /* less than a cent is not nothing */
	return `${sign ? MINUS : ""}${grouped}.${fraction}${currency ? ` ${currency}` : ""}`;
}

/* What was spent, whatever the currencies. */
export function spend_of(sums, all = false) {
	if (sums.spend_by_currency)
		return Object.entries(sums.spend_by_currency).map(([currency, spend]) => money(spend, currency, all)).join(" + ");
	return money(sums.spend, sums.currency, all);
}

/* ip_velocity: IP velocity */
export function words(name) {
	const text = String(name).replaceAll("_", " ");
	return text.replace(/^ip\b/, "IP").replace(/^./, (first) => first.toUpperCase());
}
