/* Numbers, bytes and durations as the dashboard writes them. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/* 0.4, 12.5, 1,234, 1.2M; a dash for what is not known. */
export function rate(value) {
	if (value === null || value === undefined)
		return "–";
	if (value >= 1e6)
		return short.format(value);
	if (value >= 100 || Number.isInteger(value))
		return whole.format(value);
	return value.toFixed(1);
}

/* 13:07, and with seconds where they matter. */
export function time(ms, seconds = false) {
	return new Date(ms).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined });
}

export function count(value) {
	return value === null || value === undefined ? "–" : whole.format(value);
}

export function axis(value) {
	return value >= 1000 ? short.format(value) : String(Number(value.toPrecision(3)));
}

export function bytes(value) {
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
		return `${Math.floor(s / 60)} min ${s % 60} s`;
	if (s < 172800)
		return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
	return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function percent(share) {
	return share === null || share === undefined ? "–" : `${(share * 100).toFixed(share < 0.0995 ? 2 : 1)}%`;
}

/* The six decimals of a bill are for the API; here, the cents. */
export function money(spend, currency) {
	if (spend === null)
		return "several";
	const value = Number(spend);
	return `${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}${currency ? ` ${currency}` : ""}`;
}
