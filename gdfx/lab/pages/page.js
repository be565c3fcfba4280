// What all pages share: the data, light and dark, and how a chart is drawn.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);

// An element with attributes and children; texts are texts, never markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// In a chart, plotly would read markup in a label.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
const number = (x) => {
  if (x === null || x === undefined) return "not a finite number";
  const small = x !== 0 && Math.abs(x) < 1e-3;
  return small ? x.toExponential(2).replace(/\.?0+e/, "e") : String(+x.toPrecision(3));
};
const clamp = (x, [low, high]) => Math.min(Math.max(x, low), high);
const median = (values) => {
  const sorted = values.map((x) => x ?? Infinity).sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

const dark = () => at("dark").checked;
const colour = (method) => method.colours[+dark()];
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// A loss on its axis: beyond the edge, or no finite number, it lies at the edge.
function onAxis(loss, axis, log) {
  if (!log) return clamp(loss ?? Infinity, axis.linear);
  return clamp(loss ?? Infinity, axis.log.map((x) => 10 ** x));
}
const lossAxis = (axis, log, title) => ({
  title: { text: plain(title) },
  type: log ? "log" : "linear",
  range: log ? axis.log : axis.linear,
  exponentformat: "power",
  ...(log ? { dtick: Math.max(1, Math.ceil((axis.log[1] - axis.log[0]) / 8)) } : {}),
});

function draw(id, caption, traces, layout) {
  at(id).previousElementSibling.textContent = caption;
  const touch = matchMedia("(pointer: coarse)").matches;
  const axes = Object.fromEntries(
    Object.entries(layout)
      .filter(([name]) => /^[xy]axis$/.test(name))
      .map(([name, axis]) => [name, {
        gridcolor: ink("line"), zeroline: false, linecolor: ink("faint"), automargin: true, ...axis,
      }]),
  );
  Plotly.react(
    id,
    traces,
    {
      font: { family: "system-ui, sans-serif", size: 13, color: ink("ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 50, r: 12, t: 8, b: 44 }, showlegend: false,
      hovermode: "closest", dragmode: touch ? false : "zoom",
      hoverlabel: { bgcolor: ink("panel"), bordercolor: ink("line"), font: { color: ink("ink") } },
      ...layout,
      ...axes,
    },
    { displayModeBar: false },
  );
}

// Call what draws now and whenever a control changes.
function begin(drawAll) {
  at("dark").checked = data.dark || matchMedia("(prefers-color-scheme: dark)").matches;
  const show = () => {
    document.documentElement.dataset.theme = dark() ? "dark" : "light";
    drawAll();
  };
  document.addEventListener("input", show);
  show();
  // A chart grows where another is hidden, too, and not with the window alone.
  const sizes = new ResizeObserver((changed) => {
    for (const { target } of changed) if (target.offsetParent) Plotly.Plots.resize(target);
  });
  document.querySelectorAll(".chart").forEach((chart) => sizes.observe(chart));
}
