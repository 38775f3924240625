/*
 * What the node does, live: Server-Sent Events from /api/v1/live, one message a second, with ten minutes of history at the start. When the
 * control process goes away the page says so, tries again, and fills the gap from the new history. All state is bounded.
 */
import { ask } from "./api.js";

export const SPAN_MS = 600000;
const STALE_MS = 4000, RETRY_MS = 2000, RETRY_MS_MAX = 15000;
const SAMPLES_MAX = 1000;

/* {time, clicks, flagged, impressions, conversions, received, p50, p99, lag, log, refused: {name: rate}, ways: {name: rate}} */
export const samples = [];
export let last = null; /* the newest message */
let last_at = 0; /* when it came, by our own clock */
let retry_ms = RETRY_MS;
let stream = null, timer = 0, running = false;
const hearers = new Set();

export function hear(hearer) {
	hearers.add(hearer);
	return () => hearers.delete(hearer);
}

function tell(what) {
	for (const hearer of hearers)
		hearer(what);
}

/* What the node's state is to somebody who watches: its own word, or that nothing comes. */
export function state() {
	if (!last)
		return running ? "waiting" : "off";
	return Date.now() - last_at > STALE_MS || lost ? "lost" : last.state;
}
export function age_ms() {
	return last ? Date.now() - last_at : null;
}
let lost = false;

function rates_of(message) {
	const refused = {}, ways = {};
	for (const refusal of message.refusals)
		if (refusal.per_second)
			refused[`${refusal.layer} ${refusal.reason}`] = refusal.per_second;
	for (const { port, ways: all } of message.ports ?? [])
		for (const [way, { per_second }] of Object.entries(all))
			if (per_second)
				ways[`${port} ${way}`] = per_second;
	return { refused, ways };
}

function sample_of(message) {
	const { per_second: now, ack } = message, known = message.connected && now.clicks !== null;
	return {
		time: message.time_ms,
		clicks: known ? now.clicks : null,
		flagged: known ? now.flagged_clicks : null,
		impressions: known ? now.impressions : null,
		conversions: known ? now.conversions : null,
		received: known ? now.received : null,
		p50: ack.p50_ms,
		p99: ack.p99_ms,
		lag: message.connected ? message.watermark_lag_ms : null,
		log: message.log?.bytes_per_second ?? null,
		...rates_of(message),
	};
}

function take(message) {
	last = message;
	last_at = Date.now();
	lost = false;
	retry_ms = RETRY_MS;
	/* a clock that was set back begins the charts anew */
	if (samples.length && samples.at(-1).time > message.time_ms)
		samples.length = 0;
	samples.push(sample_of(message));
	while (samples[0].time < message.time_ms - SPAN_MS || samples.length > SAMPLES_MAX)
		samples.shift();
	tell("message");
}

async function load_history() {
	let history;
	try {
		history = await ask("api/v1/live/history");
	} catch {
		return; /* the stream says so, if the process is away */
	}
	const names = { time_ms: "time", p50_ms: "p50", p99_ms: "p99", lag_ms: "lag", log_bytes: "log" };
	const old = history.samples.map((row) => ({ refused: {}, ways: {}, ...Object.fromEntries(history.fields.map((field, i) => [names[field] ?? field, row[i]])) }));
	if (!old.length)
		return; /* a control process that has just begun: what we have is more */
	for (const sample of old)
		if (sample.clicks !== null)
			sample.clicks = Math.max(0, sample.clicks - (sample.flagged ?? 0)); /* history has all clicks */
	const by_time = new Map(old.map((sample) => [sample.time, sample]));
	for (const kind of ["refused", "ways"])
		for (const [name, list] of Object.entries(history[kind] ?? {}))
			for (const [time, rate] of list)
				if (by_time.has(time))
					by_time.get(time)[kind][name] = rate;
	const before = samples.filter((sample) => sample.time < old[0].time), after = samples.filter((sample) => sample.time > old.at(-1).time);
	samples.splice(0, samples.length, ...before, ...old, ...after);
	tell("history");
}

function connect() {
	clearTimeout(timer);
	stream?.close();
	stream = new EventSource("api/v1/live");
	stream.onopen = () => {
		load_history();
		tell("open");
	};
	stream.onmessage = (event) => take(JSON.parse(event.data));
	stream.onerror = () => {
		lost = true;
		tell("lost");
		/* the browser tries again by itself, but not after a refusal; and it waits long after some errors */
		clearTimeout(timer);
		timer = setTimeout(connect, retry_ms);
		retry_ms = Math.min(RETRY_MS_MAX, retry_ms * 1.5);
	};
}

export function start() {
	if (running)
		return;
	running = true;
	connect();
	/* a machine that slept, or a tab that was frozen, comes back at once */
	window.addEventListener("online", connect);
	document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && age_ms() > STALE_MS && connect());
	setInterval(() => {
		const quiet = age_ms() > STALE_MS;
		if (quiet)
			tell("lost");
		if (age_ms() > 4 * STALE_MS && stream.readyState === EventSource.OPEN)
			connect(); /* open, and yet nothing comes: a proxy that holds it */
	}, 1000);
}
