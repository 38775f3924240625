/* When beacons were refused: at most 512 periods, asked for now and then, for all charts. A node without this page of the API has none. */
import { ask } from "./api.js";
import * as stream from "./stream.js";

const EVERY_MS = 15000;
let periods = [];
let state = "";
const hearers = new Set();

export const bands = () => periods;

export function hear(hearer) {
	hearers.add(hearer);
	return () => hearers.delete(hearer);
}

async function load() {
	try {
		const { items } = await ask("api/v1/live/refused");
		if (JSON.stringify(items) === JSON.stringify(periods))
			return;
		periods = items;
		for (const hearer of hearers)
			hearer();
	} catch {
		/* what is known stays; the stream says that the process is away */
	}
}

export function start() {
	load();
	setInterval(() => document.visibilityState === "visible" && load(), EVERY_MS);
	stream.hear(() => {
		const now = stream.state();
		if (now === state)
			return;
		state = now;
		setTimeout(load, 1200); /* the period is noted by then */
	});
}
