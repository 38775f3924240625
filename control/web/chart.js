/*
 * A plot over time on a canvas: lines, areas and bars, stacked or not, gaps where nothing is known, and bands where beacons were
 * refused. It reads its colours from the style sheet and draws once per frame at most, so a hidden tab costs nothing.
 *
 *   pointer    hover reads the nearest moment, a drag marks a range for onzoom
 *   keyboard   left and right move the reading, Home and End go to the ends, Escape leaves
 *
 * What it shows is also in its label, for those who cannot see it.
 */

import * as format from "./format.js";
import { h, say } from "./dom.js";

const TICKS = 4;
const steps = [1, 2, 2.5, 5, 10];
/* Distances of the marks on the time axis. */
const marks = [1 / 60, 1 / 12, 1 / 6, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080].map((minutes) => minutes * 60000);
const DAY = 86400000;

export const reasons = {
	no_space: "disk full", starting: "starting", stopping: "stopping", gone: "not running", stalled: "not responding",
	shed: "too busy", unwatched: "not watched",
};

/* The least round number that is not below value. */
function round_up(value, base = 0) {
	if (!(value > 0))
		return 1;
	/* bytes: round in KiB, MiB … */
	if (base && value >= base)
		return base * round_up(value / base, base);
	const power = 10 ** Math.floor(Math.log10(value));
	return power * steps.find((step) => step * power >= value * 0.9999);
}

let palette = new Map();
export function colours_changed() {
	palette = new Map();
	for (const chart of alive)
		chart.redraw();
}
function colour(name) {
	if (!palette.has(name))
		palette.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
	return palette.get(name);
}
/* The same, let through: the style sheet writes colours as #rrggbb. */
function faded(name, share) {
	const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour(name).slice(at, at + 2), 16));
	return `rgba(${red}, ${green}, ${blue}, ${share})`;
}

const alive = new Set();

export class Chart {
	/*
	 * label: what it shows. series: [{key, name, colour, kind: "line"|"area"|"bar", stack, dash, format}]; format: value to text for
	 * axis and reading. size: a class. legend: names under the plot, which switch series off. bare: neither axes nor reading.
	 */
	constructor({ label, series, format: text = format.axis, size = "", legend = true, bare = false, onzoom = null, base = 0 }) {
		Object.assign(this, { label, text, bare, onzoom, base });
		this.canvas = h("canvas", bare ? { "aria-hidden": "true" } : { role: "img", tabindex: "0", "aria-label": label });
		this.tip = h("div.tip", { hidden: true });
		this.box = h(`div.plot.${size || "middle"}`, this.canvas, !bare && this.tip);
		this.legend = legend && !bare ? h("ul.legend") : null;
		this.spoken = h("p.unseen", { "aria-live": "polite" });
		this.node = h("div.chart", this.box, this.legend, !bare && this.spoken);
		this.hidden = new Set();
		this.points = []; /* [x, y0, y1, …], oldest first; null where nothing is known */
		this.bands = []; /* {from_ms, to_ms, reason} */
		this.hover = null; /* the x that is read */
		this.drag = null;
		this.set_series(series);
		new ResizeObserver(() => this.redraw()).observe(this.box);
		alive.add(this);
		if (!bare)
			this.listen();
	}

	close() {
		alive.delete(this);
	}

	set_series(series) {
		this.series = series;
		if (!this.legend)
			return;
		this.values = series.map(() => h("b"));
		this.legend.hidden = series.length === 0;
		this.legend.replaceChildren(...series.map((one, i) => {
			const button = h("button", { type: "button", "aria-pressed": String(!this.hidden.has(one.key)), title: `Show or hide ${one.name}`,
				onclick: () => this.toggle(one.key, button) }, h(`i.of-${one.colour}${one.dash ? ".dashed" : ""}`), one.name, this.values[i]);
			return h("li", button);
		}));
	}

	toggle(key, button) {
		if (!this.hidden.delete(key))
			this.hidden.add(key);
		button.setAttribute("aria-pressed", String(!this.hidden.has(key)));
		this.redraw();
	}

	show(points, from, to, bands = this.bands) {
		Object.assign(this, { points, from, to, bands });
		this.redraw();
	}

	redraw() {
		if (this.wanted)
			return;
		this.wanted = true;
		requestAnimationFrame(() => {
			this.wanted = false;
			if (this.canvas.isConnected)
				this.draw();
		});
	}

	/* ---- pointer and keyboard ---- */

	listen() {
		const at = (event) => event.clientX - this.canvas.getBoundingClientRect().left;
		this.canvas.addEventListener("pointermove", (event) => {
			this.hover = this.time_at(at(event));
			if (this.drag)
				this.drag.to = this.hover;
			this.redraw();
		});
		this.canvas.addEventListener("pointerdown", (event) => {
			this.hover = this.time_at(at(event));
			if (this.onzoom && event.pointerType === "mouse" && event.button === 0) {
				this.drag = { from: this.hover, to: this.hover };
				this.canvas.setPointerCapture(event.pointerId);
			}
			this.redraw();
		});
		this.canvas.addEventListener("pointerup", () => this.zoom());
		this.canvas.addEventListener("pointerleave", () => {
			if (!this.drag)
				this.read(null);
		});
		this.canvas.addEventListener("blur", () => this.read(null));
		this.canvas.addEventListener("keydown", (event) => this.key(event));
	}

	zoom() {
		const drag = this.drag;
		this.drag = null;
		this.redraw();
		if (!drag || !this.area)
			return;
		const [from, to] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
		if ((to - from) / (this.to - this.from) > 0.01)
			this.onzoom(Math.max(this.from, from), Math.min(this.to, to));
	}

	read(x) {
		this.hover = x;
		this.redraw();
	}

	key(event) {
		const known = this.points.filter((point) => point[0] >= this.from && point[0] <= this.to);
		if (!known.length || event.ctrlKey || event.metaKey || event.altKey)
			return;
		const now = this.hover === null ? known.length : known.findIndex((point) => point[0] >= this.hover);
		const leap = event.shiftKey ? 10 : 1;
		const next = { ArrowLeft: now - leap, ArrowRight: now + leap, Home: 0, End: known.length - 1 }[event.key];
		if (event.key === "Escape" && this.hover !== null) {
			this.read(null);
			event.stopPropagation();
		}
		if (next === undefined)
			return;
		event.preventDefault();
		this.read(known[Math.min(known.length - 1, Math.max(0, next))][0]);
		const point = this.nearest();
		say(this.spoken, point ? this.reading(point).join(", ") : "");
	}

	/* ---- places ---- */

	x(value) {
		return this.area.left + ((value - this.from) / (this.to - this.from)) * (this.area.right - this.area.left);
	}

	y(value) {
		return this.area.bottom - (value / this.top) * (this.area.bottom - this.area.top);
	}

	time_at(x) {
		if (!this.area)
			return null;
		return this.from + ((x - this.area.left) / (this.area.right - this.area.left)) * (this.to - this.from);
	}

	shown() {
		return this.series.map((series, i) => [series, i]).filter(([series]) => !this.hidden.has(series.key));
	}

	/* The heights of a point's series, stacked ones on top of one another: [bottom, top] each, null where not known. */
	heights(point) {
		const heights = [];
		let ground = 0;
		for (const [series, i] of this.shown()) {
			const value = point[i + 1];
			if (value === null || value === undefined) {
				heights[i] = null;
			} else if (series.stack) {
				heights[i] = [ground, ground + value];
				ground += value;
			} else {
				heights[i] = [0, value];
			}
		}
		return heights;
	}

	nearest() {
		if (this.hover === null)
			return null;
		let best = null;
		for (const point of this.points) {
			const x = this.bars() ? point[0] + this.width_ms() / 2 : point[0];
			if (point[0] < this.from - 1 || (!best && x > this.hover && best))
				continue;
			if (this.shown().some(([, i]) => point[i + 1] !== null && point[i + 1] !== undefined) &&
			    (!best || Math.abs(x - this.hover) < Math.abs(best.x - this.hover)))
				best = { point, x };
		}
		return best?.point ?? null;
	}

	bars() {
		return this.series.some((series) => series.kind === "bar");
	}

	width_ms() {
		return this.points.length > 1 ? this.points[1][0] - this.points[0][0] : this.to - this.from;
	}

	/* ---- drawing ---- */

	draw() {
		const wide = this.box.clientWidth, high = this.box.clientHeight, ratio = window.devicePixelRatio || 1;
		const width = Math.max(1, Math.round(wide * ratio)), height = Math.max(1, Math.round(high * ratio));
		if (this.canvas.width !== width || this.canvas.height !== height) {
			this.canvas.width = width;
			this.canvas.height = height;
		}
		const pen = this.canvas.getContext("2d");
		pen.setTransform(ratio, 0, 0, ratio, 0, 0);
		pen.clearRect(0, 0, wide, high);
		pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
		if (!(this.to > this.from))
			return;

		let most = 0;
		const heights = this.points.map((point) => this.heights(point));
		this.points.forEach((point, at) => {
			if (point[0] >= this.from - this.width_ms())
				for (const height of heights[at])
					most = Math.max(most, height?.[1] ?? 0);
		});
		this.top = this.bare ? Math.max(most * 1.1, 1e-9) : TICKS * round_up(most / TICKS, this.base);
		this.area = this.bare ? { left: 0, right: wide, top: 2, bottom: high - 1 } : { left: this.left_of(pen), right: wide - 6, top: 10, bottom: high - 20 };
		this.draw_bands(pen);
		if (!this.bare)
			this.draw_axes(pen);
		pen.save();
		pen.beginPath();
		pen.rect(this.area.left, 0, this.area.right - this.area.left + 2, high);
		pen.clip();
		for (const [series, i] of this.shown().reverse()) {
			if (series.kind === "bar")
				this.draw_bars(pen, series, i, heights);
			else
				this.draw_line(pen, series, i, heights);
		}
		this.draw_drag(pen);
		pen.restore();
		if (!this.bare) {
			this.draw_reading(pen, heights);
			this.describe();
		}
	}

	left_of(pen) {
		let wide = 0;
		for (let i = 0; i <= TICKS; i++)
			wide = Math.max(wide, pen.measureText(this.text((this.top * i) / TICKS)).width);
		return Math.ceil(wide) + 12;
	}

	/* Hatched, so that they do not hang on a colour alone; named where there is room. */
	draw_bands(pen) {
		const { left, right, top, bottom } = this.area;
		for (const band of this.bands) {
			if (band.from_ms >= this.to || (band.to_ms ?? this.to) <= this.from)
				continue;
			const from = Math.max(left, this.x(band.from_ms)), to = Math.min(right, Math.max(this.x(band.to_ms ?? this.to), from + 2));
			const name = band.reason === "unwatched" ? "grey" : "red";
			pen.save();
			pen.beginPath();
			pen.rect(from, top, to - from, bottom - top);
			pen.fillStyle = faded(name, 0.13);
			pen.fill();
			pen.clip();
			pen.strokeStyle = faded(name, 0.3);
			pen.lineWidth = 1;
			pen.beginPath();
			for (let x = from - (from % 7) - (bottom - top); x < to; x += 7) {
				pen.moveTo(x, bottom);
				pen.lineTo(x + (bottom - top), top);
			}
			pen.stroke();
			pen.restore();
			pen.fillStyle = colour(name);
			pen.fillRect(from, top - 3, to - from, 3);
			const text = `refused: ${reasons[band.reason] ?? band.reason}`;
			if (!this.bare && to - from > pen.measureText(text).width + 10) {
				pen.textAlign = "left";
				pen.textBaseline = "top";
				pen.fillText(band.reason === "unwatched" ? reasons.unwatched : text, from + 5, top + 4);
			}
		}
	}

	draw_axes(pen) {
		const { left, right, bottom } = this.area;
		pen.lineWidth = 1;
		pen.textBaseline = "middle";
		pen.textAlign = "right";
		for (let i = 0; i <= TICKS; i++) {
			const value = (this.top * i) / TICKS, y = Math.round(this.y(value)) + 0.5;
			pen.strokeStyle = colour(i === 0 ? "edge" : "line");
			pen.beginPath();
			pen.moveTo(left, y);
			pen.lineTo(right, y);
			pen.stroke();
			pen.fillStyle = colour("faint");
			pen.fillText(this.text(value), left - 8, y);
		}
		pen.textBaseline = "top";
		/* marks on whole minutes, hours or days of the chosen zone, as many as have room */
		const room = ((this.to - this.from) * 76) / Math.max(1, right - left);
		const step = marks.find((mark) => mark >= room) ?? marks.at(-1) * Math.ceil(room / marks.at(-1));
		pen.textAlign = "center";
		let end = -Infinity;
		for (let at = this.from; at <= this.to;) {
			const ahead = format.offset_ms(at);
			let value = Math.ceil((at + ahead) / step) * step - ahead;
			value += ahead - format.offset_ms(value); /* where the clock was changed in between */
			if (value > this.to)
				break;
			const midnight = (value + format.offset_ms(value)) % DAY === 0;
			const text = step >= DAY || (midnight && step >= 3600e3) ? format.day(value) : format.time(value, step < 60000);
			const half = pen.measureText(text).width / 2, x = Math.min(Math.max(this.x(value), left + half), right - half);
			if (value >= this.from && x - half > end + 8) {
				pen.fillText(text, x, bottom + 6);
				end = x + half;
			}
			at = Math.max(value, at) + 1;
		}
	}

	draw_line(pen, series, index, heights) {
		let run = [];
		const flush = () => {
			if (run.length && series.kind === "area") {
				const shade = pen.createLinearGradient(0, this.area.top, 0, this.area.bottom);
				shade.addColorStop(0, faded(series.colour, series.stack ? 0.5 : 0.32));
				shade.addColorStop(1, faded(series.colour, series.stack ? 0.22 : 0.02));
				pen.fillStyle = shade;
				pen.beginPath();
				run.forEach(([x, y]) => pen.lineTo(x, y));
				for (let i = run.length - 1; i >= 0; i--)
					pen.lineTo(run[i][0], run[i][2]);
				pen.fill();
			}
			if (run.length) {
				pen.strokeStyle = colour(series.colour);
				pen.lineWidth = series.width ?? 1.6;
				pen.lineJoin = "round";
				pen.setLineDash(series.dash ?? []);
				pen.beginPath();
				run.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
				if (run.length === 1)
					pen.arc(run[0][0], run[0][1], 1, 0, 7);
				pen.stroke();
				pen.setLineDash([]);
			}
			run = [];
		};
		/* the last point before the left edge too: the line comes in from outside */
		let first = this.points.findIndex((point) => point[0] >= this.from);
		first = first < 0 ? this.points.length : Math.max(0, first - 1);
		for (let at = first; at < this.points.length; at++) {
			const height = heights[at][index];
			/* a hole of some seconds in a line of seconds is a gap */
			if (height && run.length && this.gap_ms && this.points[at][0] - this.points[at - 1][0] > this.gap_ms)
				flush();
			if (!height)
				flush();
			else
				run.push([this.x(this.points[at][0]), this.y(height[1]), this.y(height[0])]);
		}
		flush();
	}

	draw_bars(pen, series, index, heights) {
		const wide = Math.abs(this.x(this.from + this.width_ms()) - this.x(this.from)), gap = wide > 5 ? Math.min(3, wide * 0.16) : 0;
		this.points.forEach((point, at) => {
			const height = heights[at][index];
			if (!height || height[1] <= height[0])
				return;
			/* open buckets are paler: their figures may still rise */
			pen.fillStyle = point.final === false ? faded(series.colour, 0.5) : faded(series.colour, 0.92);
			const top = this.y(height[1]), tall = Math.max(1, this.y(height[0]) - top);
			pen.fillRect(this.x(point[0]) + gap / 2, top, Math.max(1, wide - gap), tall);
		});
	}

	draw_drag(pen) {
		if (!this.drag)
			return;
		const from = this.x(Math.min(this.drag.from, this.drag.to)), to = this.x(Math.max(this.drag.from, this.drag.to));
		pen.fillStyle = faded("blue", 0.18);
		pen.fillRect(from, this.area.top, to - from, this.area.bottom - this.area.top);
	}

	/* The lines of a reading: when, each series, and why beacons were refused then. */
	reading(point) {
		const days = this.width_ms() >= DAY / 2;
		const when = days && this.bars() ? format.day(point[0]) : this.to - this.from > DAY / 2 ? format.stamp(point[0]) : format.time(point[0], this.width_ms() < 60000);
		const lines = [`${when}${point.final === false ? " · open" : ""}`];
		for (const [series, i] of this.shown())
			lines.push(`${series.name} ${(series.format ?? this.text)(point[i + 1] ?? null)}`);
		const until = this.bars() ? point[0] + this.width_ms() : point[0] + 1;
		for (const band of this.bands)
			if (band.from_ms < until && (band.to_ms ?? Infinity) > point[0])
				lines.push(`${band.reason === "unwatched" ? "" : "refused: "}${reasons[band.reason] ?? band.reason}`);
		return lines;
	}

	draw_reading(pen, heights) {
		const point = this.nearest();
		this.tip.hidden = !point;
		this.draw_values(point);
		if (!point)
			return;
		const x = this.x(this.bars() ? point[0] + this.width_ms() / 2 : point[0]);
		pen.strokeStyle = colour("faint");
		pen.lineWidth = 1;
		pen.setLineDash([2, 3]);
		pen.beginPath();
		pen.moveTo(x, this.area.top);
		pen.lineTo(x, this.area.bottom);
		pen.stroke();
		pen.setLineDash([]);
		const here = heights[this.points.indexOf(point)];
		for (const [series, i] of this.shown()) {
			if (series.kind === "bar" || !here?.[i])
				continue;
			pen.fillStyle = colour(series.colour);
			pen.strokeStyle = colour("panel");
			pen.lineWidth = 2;
			pen.beginPath();
			pen.arc(x, this.y(here[i][1]), 4, 0, 7);
			pen.fill();
			pen.stroke();
		}
		const [when, ...lines] = this.reading(point), shown = this.shown();
		this.tip.replaceChildren(h("strong", when), ...lines.map((line, i) => h("span", i < shown.length && h(`i.of-${shown[i][0].colour}`), line)));
		const wide = this.tip.offsetWidth, room = this.box.clientWidth;
		this.tip.style.left = `${Math.round(x + 14 + wide > room ? Math.max(0, x - 14 - wide) : x + 14)}px`;
	}

	/* The legend has the newest values, or those that are read. */
	draw_values(point) {
		if (!this.legend)
			return;
		const last = point ?? [...this.points].reverse().find((one) => one.slice(1).some((value) => value !== null && value !== undefined));
		this.series.forEach((series, i) => say(this.values[i], this.bars() && !point ? "" : last ? (series.format ?? this.text)(last[i + 1] ?? null) : ""));
	}

	describe() {
		const now = Date.now();
		if (this.described && now - this.described < 5000)
			return;
		this.described = now;
		const parts = this.shown().map(([series, i]) => {
			const values = this.points.map((point) => point[i + 1]).filter((value) => value !== null && value !== undefined);
			const text = series.format ?? this.text;
			return values.length ? `${series.name}: last ${text(values.at(-1))}, most ${text(values.reduce((a, b) => Math.max(a, b)))}` : `${series.name}: nothing known`;
		});
		const refused = this.bands.filter((band) => band.from_ms < this.to && (band.to_ms ?? Infinity) > this.from && band.reason !== "unwatched").length;
		this.canvas.setAttribute("aria-label", `${this.label}, ${format.stamp(this.from)} to ${format.stamp(this.to)}. ${parts.join(". ")}${refused ? `. Beacons were refused in ${refused} period${refused > 1 ? "s" : ""}` : ""}`);
	}
}
