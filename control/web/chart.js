/*
 * A line chart on a canvas: time to the right, one axis from zero, gaps where nothing is known. It reads its colours from the style
 * sheet and draws once per frame at most, so a hidden tab costs nothing.
 */

import * as text_of from "./format.js";

const steps = [1, 2, 2.5, 5, 10];
const TICKS = 4;
/* Distances of the marks on the time axis, in ms. */
const marks = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080].map((minutes) => minutes * 60000);

/* The least round number that is not below value. */
function round_up(value) {
	if (!(value > 0))
		return 1;
	const power = 10 ** Math.floor(Math.log10(value));
	return power * steps.find((step) => step * power >= value * 0.9999);
}

export function colour(name) {
	return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/* The same, let through: the style sheet writes colours as #rrggbb. */
function faded(name, share) {
	const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour(name).slice(at, at + 2), 16));
	return `rgba(${red}, ${green}, ${blue}, ${share})`;
}

export class Chart {
	/* series: [{colour, fill, width}]; format: value to text; spark: without axes; label, hover: time to text */
	constructor(canvas, { series, format, spark = false, bars = false, label = (x) => text_of.time(x),
		hover = (x) => text_of.time(x, true) }) {
		this.canvas = canvas;
		this.series = series;
		this.format = format;
		this.spark = spark;
		this.bars = bars;
		this.label = label;
		this.hover_label = hover;
		this.points = []; /* [x, y0, y1, …], oldest first */
		this.hover = null;
		this.wanted = false;
		new ResizeObserver(() => this.redraw()).observe(canvas.parentElement);
		if (!spark) {
			canvas.addEventListener("pointermove", (event) => this.point_at(event));
			canvas.addEventListener("pointerdown", (event) => this.point_at(event));
			canvas.addEventListener("pointerleave", () => this.point_at(null));
		}
	}

	show(points, from, to) {
		this.points = points;
		this.from = from;
		this.to = to;
		this.redraw();
	}

	redraw() {
		if (this.wanted)
			return;
		this.wanted = true;
		requestAnimationFrame(() => {
			this.wanted = false;
			this.draw();
		});
	}

	point_at(event) {
		this.hover = event ? event.clientX - this.canvas.getBoundingClientRect().left : null;
		this.redraw();
	}

	draw() {
		const box = this.canvas.parentElement.getBoundingClientRect();
		const ratio = window.devicePixelRatio || 1;
		const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
		if (this.canvas.width !== width || this.canvas.height !== height) {
			this.canvas.width = width;
			this.canvas.height = height;
		}
		const pen = this.canvas.getContext("2d");
		pen.setTransform(ratio, 0, 0, ratio, 0, 0);
		pen.clearRect(0, 0, box.width, box.height);
		pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;

		let most = 0;
		for (const point of this.points)
			for (let i = 1; i <= this.series.length; i++)
				most = Math.max(most, point[i] ?? 0);
		this.top = this.spark ? Math.max(most * 1.1, 1e-9) : TICKS * round_up(most / TICKS);
		this.area = this.spark
			? { left: 0, right: box.width, top: 2, bottom: box.height - 1 }
			: { left: 44, right: box.width - 4, top: 8, bottom: box.height - 20 };
		if (!this.spark)
			this.draw_axes(pen);
		this.series.forEach((series, index) => (this.bars ? this.draw_bars(pen, series, index + 1)
			: this.draw_line(pen, series, index + 1)));
		if (!this.spark && this.hover !== null)
			this.draw_hover(pen);
	}

	x(value) {
		return this.area.left + ((value - this.from) / (this.to - this.from)) * (this.area.right - this.area.left);
	}

	y(value) {
		return this.area.bottom - (value / this.top) * (this.area.bottom - this.area.top);
	}

	draw_axes(pen) {
		const { left, right, bottom } = this.area;
		pen.lineWidth = 1;
		pen.textBaseline = "middle";
		pen.textAlign = "right";
		for (let i = 0; i <= TICKS; i++) {
			const value = (this.top * i) / TICKS, y = Math.round(this.y(value)) + 0.5;
			pen.strokeStyle = colour("line");
			pen.beginPath();
			pen.moveTo(left, y);
			pen.lineTo(right, y);
			pen.stroke();
			pen.fillStyle = colour("faint");
			pen.fillText(this.format(value), left - 7, y);
		}
		pen.textBaseline = "top";
		/* marks on whole minutes, hours or days of the reader's clock, as many as have room */
		const zone = new Date(this.to).getTimezoneOffset() * 60000;
		const room = ((this.to - this.from) * 90) / Math.max(1, right - left);
		const step = marks.find((mark) => mark >= room) ?? marks.at(-1) * Math.ceil(room / marks.at(-1));
		pen.textAlign = "center";
		for (let value = Math.ceil((this.from - zone) / step) * step + zone; value <= this.to; value += step) {
			const text = this.label(value), half = pen.measureText(text).width / 2;
			pen.fillText(text, Math.min(Math.max(this.x(value), left + half), right - half), bottom + 6);
		}
	}

	draw_line(pen, series, index) {
		let run = [];
		const flush = () => {
			if (run.length && series.fill) {
				const shade = pen.createLinearGradient(0, this.area.top, 0, this.area.bottom);
				shade.addColorStop(0, faded(series.colour, 0.34));
				shade.addColorStop(1, faded(series.colour, 0.03));
				pen.fillStyle = shade;
				pen.beginPath();
				pen.moveTo(run[0][0], this.area.bottom);
				run.forEach(([x, y]) => pen.lineTo(x, y));
				pen.lineTo(run.at(-1)[0], this.area.bottom);
				pen.fill();
			}
			if (run.length) {
				pen.strokeStyle = colour(series.colour);
				pen.lineWidth = series.width ?? 1.6;
				pen.lineJoin = "round";
				pen.beginPath();
				run.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
				pen.stroke();
			}
			run = [];
		};
		for (const point of this.points) {
			if (point[0] < this.from)
				continue;
			if (point[index] === null || point[index] === undefined)
				flush();
			else
				run.push([this.x(point[0]), this.y(point[index])]);
		}
		flush();
	}

	draw_bars(pen, series, index) {
		const width = (this.area.right - this.area.left) / Math.max(1, this.points.length);
		const gap = width > 4 ? 1 : 0;
		for (const point of this.points) {
			/* open minutes are paler: their figures may still rise */
			pen.fillStyle = point.at(-1) === false ? faded(series.colour, 0.55) : colour(series.colour);
			const y = this.y(point[index]);
			pen.fillRect(this.x(point[0]), y, Math.max(1, width - gap), this.area.bottom - y);
		}
	}

	draw_hover(pen) {
		let best = null;
		for (const point of this.points) {
			const distance = Math.abs(this.x(point[0]) - this.hover);
			if (point[1] !== null && (!best || distance < best.distance))
				best = { point, distance };
		}
		if (!best)
			return;
		const x = this.x(best.point[0]);
		const text = `${this.hover_label(best.point[0])}   ${this.series.map((_, i) => this.format(best.point[i + 1])).join(" · ")}`;
		const wide = pen.measureText(text).width + 16;
		const left = Math.max(this.area.left, Math.min(x - wide / 2, this.area.right - wide));
		pen.strokeStyle = colour("faint");
		pen.lineWidth = 1;
		pen.beginPath();
		pen.moveTo(x, this.area.top);
		pen.lineTo(x, this.area.bottom);
		pen.stroke();
		this.series.forEach((series, i) => {
			pen.fillStyle = colour(series.colour);
			pen.beginPath();
			pen.arc(x, this.y(best.point[i + 1]), 3.5, 0, 7);
			pen.fill();
		});
		pen.fillStyle = colour("ground");
		pen.strokeStyle = colour("line");
		pen.beginPath();
		pen.roundRect(left, this.area.top, wide, 22, 6);
		pen.fill();
		pen.stroke();
		pen.fillStyle = colour("text");
		pen.textAlign = "left";
		pen.textBaseline = "middle";
		pen.fillText(text, left + 8, this.area.top + 11);
	}
}
