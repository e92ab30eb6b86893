"use strict";
(() => {
  const index = JSON.parse(document.getElementById("index").textContent);
  const main = document.querySelector("main");
  const form = document.querySelector(".controls form");
  const field = (name) => form.elements[name];
  const svgElement = (name) => document.createElementNS("http://www.w3.org/2000/svg", name);
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const short = (label) => label.split(",")[0];
  const share = (value) => (value === 1 ? "100 %" : `${(100 * value).toFixed(0)} %`);

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const table = Uint8Array.from(index.colours.match(/../g), (pair) => parseInt(pair, 16));

  // Maps

  /** Decodes a stored grid; frames are consecutive. */
  function unpack([shape, low, high, signed, codes]) {
    const raw = bytes(codes);
    const [rows, columns] = shape.slice(-2);
    const size = shape.reduce((product, side) => product * side, 1);
    const wide = raw.length > size;
    const step = (high - low) / (wide ? 65535 : 255);
    const values = new Float32Array(size);
    for (let i = 0; i < size; i++) values[i] = low + step * (wide ? raw[2 * i] + 256 * raw[2 * i + 1] : raw[i]);
    return { rows, columns, signed, frames: size / (rows * columns), values };
  }

  /** The positions among `cells` of `count` points spread evenly over [start, start + length] of an axis of `side` pixels. */
  function places(count, start, length, side, cells, nearest) {
    const first = new Int32Array(count), rest = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const at = ((start + ((i + 0.5) / count) * length) * cells) / side;
      const place = nearest ? clamp(Math.floor(at), 0, cells - 1) : clamp(at - 0.5, 0, cells - 1);
      first[i] = Math.min(Math.floor(place), Math.max(0, cells - 2));
      rest[i] = place - first[i];
    }
    return { first, rest };
  }

  /** The heatmap over a rectangle of the network's input, enlarged to width × height values. */
  function enlarge(grid, frame, input, [left, top, across, down], width, height, nearest) {
    const { rows, columns, values, signed } = grid;
    const base = Math.min(frame, grid.frames - 1) * rows * columns;
    const x = places(width, left, across, input[1], columns, nearest);
    const y = places(height, top, down, input[0], rows, nearest);
    const right = columns > 1 ? 1 : 0, below = rows > 1 ? columns : 0;
    const low = signed ? -1 : 0;
    const result = new Float32Array(width * height);
    const line = new Float32Array(columns);
    for (let j = 0, k = 0; j < height; j++) {
      const start = base + y.first[j] * columns;
      for (let c = 0; c < columns; c++) line[c] = (1 - y.rest[j]) * values[start + c] + y.rest[j] * values[start + below + c];
      for (let i = 0; i < width; i++, k++) {
        const place = x.first[i];
        result[k] = clamp((1 - x.rest[i]) * line[place] + x.rest[i] * line[place + right], low, 1);
      }
    }
    return result;
  }

  function paint(canvas, values, signed) {
    const context = canvas.getContext("2d");
    const picture = context.createImageData(canvas.width, canvas.height);
    for (let i = 0, k = 0; i < values.length; i++, k += 4) {
      const size = Math.abs(values[i]);
      const colour = signed ? (values[i] < 0 ? index.against : index.for) : table;
      const at = signed ? 0 : 3 * Math.round(255 * size);
      for (let c = 0; c < 3; c++) picture.data[k + c] = colour[at + c];
      picture.data[k + 3] = 255 * Math.sqrt(size);
    }
    context.putImageData(picture, 0, 0);
  }

  /** The box (left, top, width, height) around the largest component of values above a fraction of their maximum. */
  function impliedBox(values, width, height, threshold) {
    let highest = 0;
    for (const value of values) highest = Math.max(highest, value);
    if (!highest) return null;
    const level = Math.fround(Math.fround(threshold) * highest);
    const open = Uint8Array.from(values, (value) => value >= level && value > 0);
    let best = null, most = 0;
    const stack = [];
    for (let seed = 0; seed < open.length; seed++) {
      if (!open[seed]) continue;
      let count = 0, left = width, top = height, right = -1, bottom = -1;
      open[seed] = 0;
      stack.push(seed);
      while (stack.length) {
        const place = stack.pop(), x = place % width, y = (place - x) / width;
        count++;
        left = Math.min(left, x); right = Math.max(right, x);
        top = Math.min(top, y); bottom = Math.max(bottom, y);
        for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++)
          for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++)
            if (open[v * width + u]) { open[v * width + u] = 0; stack.push(v * width + u); }
      }
      if (count > most) { most = count; best = [left, top, right + 1 - left, bottom + 1 - top]; }
    }
    return best;
  }

  function overlap(a, b) {
    const across = Math.max(0, Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]));
    const down = Math.max(0, Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]));
    const common = across * down;
    return common / (a[2] * a[3] + b[2] * b[3] - common || 1);
  }

  // Photographs

  const state = { method: 0, beside: false, opacity: 0.7, threshold: 0, cells: false };
  let drawn = 0; // counts changes of the state; a card with a lower number is out of date

  const cards = [...main.children].map((article, number) => ({
    article, number, index: index.photographs[number], chosen: 0, drawn: -1, near: false,
  }));

  /** Reads a card's data, and replaces its static text by controls. */
  function prepare(card) {
    if (card.data) return;
    card.data = JSON.parse(card.article.querySelector("script").textContent);
    card.grids = {};
    card.frame = card.data.frame ?? 0;
    card.views = card.article.querySelector(".views");
    card.photo = card.views.querySelector(".photo");
    const { classes } = card.index;
    if (classes.length > 1) {
      const group = element("fieldset", { className: "classes" }, element("legend", { textContent: "Class" }));
      classes.forEach(([name, probability], place) => {
        const input = element("input", { type: "radio", name: `class-${card.number}`, value: place, checked: !place });
        input.addEventListener("change", () => { card.chosen = place; draw(card); });
        group.append(element("label", { title: name }, input, `${short(name)} `, element("span", { textContent: probability })));
      });
      card.article.querySelector(".classes").replaceWith(group);
    } else if (short(classes[0][0]) === classes[0][0]) card.article.querySelector(".classes").remove(); // the caption has it
    if (card.data.frames) {
      const input = element("input", { type: "range", min: 0, max: card.data.frames.length - 1, value: card.frame });
      const told = element("output", { textContent: `${card.frame + 1} of ${card.data.frames.length}` });
      input.addEventListener("input", () => {
        card.frame = Number(input.value);
        told.textContent = `${card.frame + 1} of ${card.data.frames.length}`;
        draw(card);
      });
      card.views.after(element("label", { className: "slices" }, "Slice", input, told));
    }
    if (card.data.cuts?.length) {
      card.cuts = ["row", "column"].map((name, place) => {
        const caption = element("figcaption", { textContent: `cut at ${name} ${Math.floor(card.data.at[place] * card.data.size[1 - place])}, last slice at the top` });
        const picture = element("img", { src: `data:image/jpeg;base64,${card.data.cuts[place]}`, alt: "" });
        const canvas = element("canvas", { width: 256, height: 256, className: "heat" });
        const cut = element("div", { className: "cut" }, picture, canvas);
        cut.setAttribute("role", "img");
        return { canvas, cut, figure: element("figure", {}, cut, caption), caption };
      });
      card.views.after(element("div", { className: "cuts" }, ...card.cuts.map(({ figure }) => figure)));
    }
    card.reading = element("p", { className: "reading" });
    card.reading.setAttribute("role", "status");
    card.views.after(card.reading);
    card.article.classList.add("live");
  }

  const gridOf = (card, method) => {
    const key = `${method} ${card.chosen}`;
    const name = index.methods[method];
    card.grids[key] ??= { ...unpack(card.data.maps[name][card.chosen]), signed: index.signed.includes(name) };
    return card.grids[key];
  };

  /** Redraws a card. */
  function draw(card) {
    prepare(card);
    const methods = state.beside ? index.methods.map((_, place) => place) : [state.method];
    const { size, seen } = card.data;
    while (card.views.children.length > methods.length) card.views.lastChild.remove();
    while (card.views.children.length < methods.length) card.views.append(card.views.firstElementChild.cloneNode(true));
    [...card.views.children].forEach((figure, place) => view(card, figure, methods[place], place));
    if (card.data.frames) {
      const picture = card.views.querySelector("image");
      picture.setAttribute("href", `data:image/jpeg;base64,${card.data.frames[card.frame]}`);
    }
    card.article.querySelectorAll(".findings li").forEach((line) => {
      line.hidden = Number(line.dataset.class) !== card.chosen || !methods.includes(Number(line.dataset.method));
    });
    if (card.cuts) drawCuts(card);
    card.drawn = drawn;
    if (card.probe) read(card);
  }

  /** Draws the heatmap of a volume on the cuts across its slices. */
  function drawCuts(card) {
    const { rows, columns, frames, values, signed } = gridOf(card, state.method);
    const at = [Math.floor(card.data.at[0] * rows), Math.floor(card.data.at[1] * columns)];
    card.cuts.forEach(({ canvas, cut, caption }, place) => {
      const width = place ? rows : columns;
      const plane = new Float32Array(frames * width);
      for (let slice = 0, k = 0; slice < frames; slice++)
        for (let i = 0; i < width; i++, k++)
          plane[k] = values[(frames - 1 - slice) * rows * columns + (place ? i * columns + at[1] : at[0] * columns + i)];
      const grid = { rows: frames, columns: width, frames: 1, signed, values: plane };
      paint(canvas, enlarge(grid, 0, [1, 1], [0, 0, 1, 1], canvas.width, canvas.height, state.cells), signed);
      canvas.style.opacity = state.opacity;
      cut.classList.toggle("signs", signed);
      cut.setAttribute("aria-label", `${card.index.name}, ${index.methods[state.method]}, ${caption.textContent}`);
    });
  }

  /** Shows a method's heatmap in a figure. */
  function view(card, figure, method, place) {
    const { size, seen, input, boxes } = card.data;
    const stack = figure.querySelector(".stack");
    const photo = stack.querySelector(".photo");
    if (place && !photo.querySelector("use")) {
      const copy = svgElement("use");
      copy.setAttribute("href", `#picture-${card.number}`);
      photo.replaceChildren(copy);
    }
    let canvas = stack.querySelector("canvas");
    if (!canvas) {
      const scale = Math.min(1, 512 / Math.max(seen[2] - seen[0], seen[3] - seen[1]));
      canvas = element("canvas", {
        width: Math.max(1, Math.round(scale * (seen[2] - seen[0]))),
        height: Math.max(1, Math.round(scale * (seen[3] - seen[1]))),
      });
      canvas.className = "heat";
      canvas.style.left = `${(100 * seen[0]) / size[0]}%`;
      canvas.style.top = `${(100 * seen[1]) / size[1]}%`;
      canvas.style.width = `${(100 * (seen[2] - seen[0])) / size[0]}%`;
      canvas.style.height = `${(100 * (seen[3] - seen[1])) / size[1]}%`;
      stack.querySelector(".heat").replaceWith(canvas);
    }
    const grid = gridOf(card, method);
    const values = enlarge(grid, card.frame, input, card.data.place, canvas.width, canvas.height, state.cells);
    paint(canvas, values, grid.signed);
    stack.classList.toggle("signs", grid.signed);
    canvas.style.opacity = state.opacity;
    figure.classList.toggle("plain", state.opacity === 0);

    const [name, probability] = card.index.classes[card.chosen];
    let caption = `${index.methods[method]}: ${short(name)} ${probability}`.trim();
    let peak = 0;
    values.forEach((value, at) => { if (value > values[peak]) peak = at; });
    const where = values[peak] > 0
      ? `highest ${share((seen[0] + ((peak % canvas.width) + 0.5) / canvas.width * (seen[2] - seen[0])) / size[0])} from the left and ${
        share((seen[1] + (Math.floor(peak / canvas.width) + 0.5) / canvas.height * (seen[3] - seen[1])) / size[1])} from the top`
      : "nothing found";
    if (!(values[peak] > 0)) caption += ", nothing found";
    stack.setAttribute("aria-label", `${card.index.name}, ${caption}, ${where}`);

    const marks = stack.querySelector(".marks");
    marks.querySelectorAll(".threshold").forEach((old) => old.remove());
    if (state.threshold) {
      const box = implied(card, grid);
      if (box) {
        for (const kind of ["halo", "implied"]) {
          const drawnBox = svgElement("rect");
          drawnBox.setAttribute("class", `${kind} threshold`);
          ["x", "y", "width", "height"].forEach((side, at) => drawnBox.setAttribute(side, box[at]));
          marks.append(drawnBox);
        }
        const best = Math.max(...boxes.map((one) => overlap(one, box)));
        caption += boxes.length ? `; box: IoU ${best.toFixed(2)}` : "";
      }
    }
    figure.querySelector("figcaption").textContent = caption;
  }

  /** The box implied by the threshold, in pixels of the photograph. */
  function implied(card, grid) {
    const { seen, place, input } = card.data;
    const values = enlarge(grid, card.frame, input, [0, 0, input[1], input[0]], input[1], input[0], false);
    const box = impliedBox(values, input[1], input[0], state.threshold);
    if (!box) return null;
    const scale = [(seen[2] - seen[0]) / place[2], (seen[3] - seen[1]) / place[3]];
    const [left, top] = [box[0] - place[0], box[1] - place[1]];
    return [seen[0] + left * scale[0], seen[1] + top * scale[1], box[2] * scale[0], box[3] * scale[1]];
  }

  /** Shows the values at the probe, and marks it. */
  function read(card) {
    const { size, seen, place, input } = card.data;
    const [x, y] = card.probe;
    const told = [];
    [...card.views.children].forEach((figure, at) => {
      const method = state.beside ? at : state.method;
      const inside = x >= seen[0] && x < seen[2] && y >= seen[1] && y < seen[3];
      const spot = [
        place[0] + ((x - seen[0]) / (seen[2] - seen[0])) * place[2],
        place[1] + ((y - seen[1]) / (seen[3] - seen[1])) * place[3], 0, 0,
      ];
      const value = inside ? enlarge(gridOf(card, method), card.frame, input, spot, 1, 1, state.cells)[0].toFixed(2) : "not seen by the network";
      told.push(state.beside ? `${index.methods[method]} ${value}` : value);
      const marks = figure.querySelector(".marks");
      const ring = marks.querySelector(".probe") ?? marks.appendChild(svgElement("circle"));
      ring.setAttribute("class", "probe");
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", y);
      ring.setAttribute("r", Math.max(size[0], size[1]) / 70);
    });
    const step = place[0] + ((x - seen[0]) / (seen[2] - seen[0])) * place[2];
    const where = input[0] === 1 && input[1] > 1 ? `step ${Math.floor(step)}` : `${Math.floor(x)}, ${Math.floor(y)}`;
    card.reading.textContent = `At ${where}: ${told.join(", ")}`;
  }

  function forget(card) {
    card.probe = null;
    card.reading.textContent = "";
    card.article.querySelectorAll(".probe").forEach((ring) => ring.remove());
  }

  const cardOf = (target) => {
    const article = target.closest?.("article");
    return article && cards[Number(article.id.split("-")[1])];
  };

  main.addEventListener("pointermove", (event) => {
    const stack = event.target.closest(".stack"), card = cardOf(event.target);
    if (!stack || !card?.data) return;
    const frame = stack.getBoundingClientRect();
    card.probe = [
      clamp(((event.clientX - frame.left) / frame.width) * card.data.size[0], 0, card.data.size[0] - 1e-6),
      clamp(((event.clientY - frame.top) / frame.height) * card.data.size[1], 0, card.data.size[1] - 1e-6),
    ];
    read(card);
  });
  main.addEventListener("pointerout", (event) => {
    const stack = event.target.closest(".stack"), card = cardOf(event.target);
    if (stack && card?.data && !stack.contains(event.relatedTarget)) forget(card);
  });

  // All photographs

  const redraw = () => {
    drawn++;
    for (const card of cards) if (card.near && !card.article.hidden) draw(card);
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const card = cards[Number(target.id.split("-")[1])];
      card.near = isIntersecting;
      if (isIntersecting && card.drawn < drawn) draw(card);
    }
  }, { rootMargin: "400px" });

  function valueOf(card, key) {
    if (key === "name") return card.index.name;
    if (key === "surprise") return -card.index.surprise;
    if (key === "probability") return card.index.classes[0][2];
    return card.index.metrics[index.methods[state.method]]?.[key.slice(7)];
  }

  function arrange() {
    const key = field("sort").value, order = Number(field("order").value);
    const wanted = field("search").value.trim().toLowerCase(), finding = field("finding").value;
    const sorted = [...cards];
    if (key) {
      sorted.sort((a, b) => {
        const [first, second] = [valueOf(a, key), valueOf(b, key)];
        const absent = (first == null) - (second == null);
        if (absent || first == null) return absent || a.number - b.number;
        const ahead = typeof first === "string" ? first.localeCompare(second) : first - second;
        return order * ahead || a.number - b.number;
      });
    } else if (order < 0) sorted.reverse();
    let count = 0;
    for (const { article, index: one } of sorted) {
      const text = [one.name, ...one.classes.map(([name]) => name)].join("\n").toLowerCase();
      article.hidden = !text.includes(wanted) || (finding && !one.findings.includes(finding));
      count += !article.hidden;
    }
    const articles = sorted.map(({ article }) => article);
    const focused = document.activeElement;
    if (articles.some((article, place) => main.children[place] !== article)) main.append(...articles);
    if (focused !== document.activeElement) focused.focus({ preventScroll: true }); // moving an element removes its focus
    field("count").textContent = `${count} of ${cards.length} shown`;
  }

  // Each name in the maps stands for a method, or for a method at a layer.
  const { named } = index;
  const choices = [0, 1].map((part) => [...new Set(named.map((both) => both[part]))]);
  const groups = ["method", "layer"];

  /** The index of the checked method and layer, or of the next one in a group. */
  function chosen(next) {
    const wanted = groups.map((group, part) => choices[part][(Number(field(group).value) + (group === next)) % choices[part].length]);
    return named.findIndex((both) => both.every((name, part) => name === wanted[part]));
  }

  function choose(method) {
    state.method = method;
    groups.forEach((group, part) => { field(group).value = String(choices[part].indexOf(named[method][part])); });
    if (field("sort").value.startsWith("metric ")) arrange();
    legend();
    redraw();
  }

  /** Shows the legends of the visible maps. */
  function legend() {
    const shown = state.beside ? index.methods : [index.methods[state.method]];
    const key = (name) => document.querySelector(`.legend .${name}`);
    key("unsigned").hidden = shown.every((method) => index.signed.includes(method));
    key("signed").hidden = !shown.some((method) => index.signed.includes(method));
    key("of-implied").hidden = !state.threshold;
  }

  // Controls

  const option = (value, text) => element("option", { value, textContent: text });
  field("sort").append(option("", "original order"), option("name", "name"), option("surprise", "most surprising first"));
  if (cards.some((card) => card.index.classes[0][2] !== null)) field("sort").append(option("probability", "probability"));
  for (const metric of index.metrics) field("sort").append(option(`metric ${metric}`, index.titles[metric] ?? metric));
  const kinds = new Map();
  for (const { index: one } of cards) for (const kind of one.findings) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  for (const [kind, count] of [...kinds].sort()) field("finding").append(option(kind, `${kind} (${count})`));
  field("finding").parentElement.hidden = !kinds.size;
  groups.forEach((group, part) => {
    const fieldset = form.querySelector(`.${group}s`);
    fieldset.hidden = choices[part].length < 2;
    choices[part].forEach((name, place) => {
      const input = element("input", { type: "radio", name: group, value: place, checked: !place });
      fieldset.append(element("label", {}, input, name));
    });
  });
  main.classList.toggle("apart", choices[1].length > 1);
  main.style.setProperty("--layers", choices[1].length);
  form.querySelector(".several").hidden = index.methods.length < 2;
  form.querySelector(".many").hidden = cards.length < 2;

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => {
    const { name } = target;
    if (name === "sort") {
      // The most surprising come first; there is no order to choose.
      field("order").value = "1";
      field("order").parentElement.hidden = target.value === "surprise";
    }
    if (["search", "sort", "order", "finding"].includes(name)) arrange();
    else if (groups.includes(name)) choose(chosen());
    else if (name === "opacity") {
      state.opacity = target.value / 100;
      field("opacity-value").textContent = `${target.value} %`;
      redraw();
    } else {
      state.beside = field("beside").checked;
      state.cells = field("cells").checked;
      state.threshold = field("threshold").value / 100;
      field("threshold-value").textContent = state.threshold ? state.threshold.toFixed(2) : "none";
      main.classList.toggle("beside", state.beside);
      legend();
      redraw();
    }
  });

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  main.addEventListener("keydown", (event) => {
    const card = cardOf(event.target);
    if (!card?.data || event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target !== card.article;
    const shown = [...main.children].filter((article) => !article.hidden);
    const step = (by) => shown[shown.indexOf(card.article) + by]?.focus();
    const { size } = card.data;
    if (event.key in MOVES) {
      if (typing) return;
      const by = Math.max(size[0], size[1]) / 50, [x, y] = MOVES[event.key];
      const [left, top] = card.probe ?? [size[0] / 2, size[1] / 2];
      card.probe = [clamp(left + x * by, 0, size[0] - 1e-6), clamp(top + y * by, 0, size[1] - 1e-6)];
      read(card);
    } else if (event.key === "n") step(1);
    else if (event.key === "p") step(-1);
    else if (event.key === "c") {
      card.article.querySelectorAll(".classes input")[(card.chosen + 1) % card.index.classes.length]?.click();
    } else if (event.key === "m") choose(chosen("method"));
    else if (event.key === "l") choose(chosen("layer"));
    else if (event.key === "s") field("beside").click();
    else if (event.key === "/") field("search").focus();
    else if (event.key === "Escape" && card.probe) forget(card);
    else return;
    event.preventDefault();
  });

  // Print all photographs, including those never scrolled to.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details.all, details.left-out").forEach((folded) => { folded.open = true; });
    for (const card of cards) if (!card.article.hidden && card.drawn < drawn) draw(card);
  });

  document.querySelectorAll("details.left-out").forEach((listed) => { listed.open = false; });
  form.hidden = false;
  arrange();
  for (const card of cards) watcher.observe(card.article);
  legend();
})();
