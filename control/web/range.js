/* The choice of a range: lengths that end now, or any from and to. What is chosen stands in the fragment. */
import { choices, h, icon } from "./dom.js";
import * as format from "./format.js";
import * as place from "./place.js";

export function range_picker(fallback = "1h") {
	const lengths = choices("Range", Object.entries(place.range_names), (range) => place.change({ range: range === fallback ? "" : range, from: "", to: "" }));
	const from = h("input", { type: "datetime-local", required: true, "aria-label": "From" }), to = h("input", { type: "datetime-local", required: true, "aria-label": "To" });
	const zone = h("span.note"), problem = h("p.problem", { role: "alert", hidden: true });
	const own = h("details.own", h("summary", icon("calendar"), h("span.what", "Other")),
		h("form.pop", { onsubmit: (event) => {
			event.preventDefault();
			const range = [from, to].map((input) => format.from_input(input.value));
			problem.hidden = range[0] !== null && range[0] < range[1];
			problem.textContent = "The end has to be after the beginning.";
			if (!problem.hidden)
				return;
			own.open = false;
			place.change({ from: range[0], to: range[1], range: "" });
		} }, h("label", "From", from), h("label", "To", to), zone, problem, h("button.primary", { type: "submit" }, "Show")));
	own.addEventListener("keydown", (event) => {
		if (event.key === "Escape" && own.open) {
			own.open = false;
			own.firstChild.focus();
			event.stopPropagation();
		}
	});
	own.addEventListener("focusout", (event) => event.relatedTarget && !own.contains(event.relatedTarget) && (own.open = false));
	return {
		node: h("div.ranges", lengths.node, own),
		show(query) {
			const range = place.range_of(query, Date.now(), fallback);
			lengths.show(range.name);
			own.classList.toggle("chosen", !range.live);
			own.querySelector(".what").textContent = range.live ? "Other" : `${format.stamp(range.from)} – ${format.stamp(range.to)}`;
			if (!own.open) {
				from.value = format.input_time(range.from);
				to.value = format.input_time(range.to);
			}
			zone.textContent = `Times in ${format.zone()}`;
		},
	};
}
