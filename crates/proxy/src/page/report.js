"use strict";
// One report: what was compared in it, what runs there, and what is not proved.

const MAX_FINDINGS_SHOWN = 100;

const MARKS = {
  pass: ["good", "✓ proved"],
  fail: ["bad", "✕ failed"],
  not_proved: ["open", "– not proved"],
};

/** The gravest first. */
const SEVERITIES = { danger: "bad", warning: "open", notice: "soft", info: "soft" };

function definitions(pairs) {
  const list = make("dl");
  for (const [name, ...value] of pairs) list.append(make("dt", "", name), make("dd", "", ...value));
  return list;
}

/** A table whose cells say their column where there is no room for its head. */
function table(columns, rows) {
  const body = make("tbody", "", ...rows.map((row) => make("tr", "", ...row.map((text, at) => {
    // Only what would not fit otherwise is broken within a word.
    const cell = make("td", /\S{25}/.test(text) ? "long" : "", String(text));
    cell.dataset.column = columns[at];
    return cell;
  }))));
  const head = make("tr", "", ...columns.map((name) => {
    const cell = make("th", "", name);
    cell.scope = "col";
    return cell;
  }));
  return make("table", "", make("thead", "", head), body);
}

function checkLine(check) {
  const [className, words] = MARKS[check.status] ?? ["", check.status];
  const compared = about.compared[check.id];
  return make("li", "",
    make("span", `state ${className}`, words),
    make("span", "", check.title,
      make("span", "soft", compared ? ` (compares ${compared})` : ""),
      make("span", "detail", check.detail)));
}

function deploymentParts(deployment, facts) {
  const pairs = [
    ["Manager", make("code", "", deployment.manager ?? "the log does not say")],
    ["Log", `${deployment.actions} actions, ${deployment.first ?? "?"} to ${deployment.last ?? "?"}`],
  ];
  if (facts.booted) pairs.push(["Booted", facts.booted]);
  if (deployment.left_out) pairs.push(["Up", `${deployment.left_out} services more than are listed here`]);
  const parts = [definitions(pairs)];
  if (deployment.up.length === 0) return parts;
  return [...parts, table(["Service", "Image", "File and tag", "Commit", "Since"], deployment.up.map((up) => [
    up.service, up.image ?? "not known: its file is not available", `${up.file}@${up.tag}`, up.commit.slice(0, 12), up.since,
  ]))];
}

/** GPUs that are alike share a row. */
function gpuTable(gpus) {
  const kinds = new Map();
  for (const gpu of gpus) {
    const row = [gpu.chip, gpu.driver, gpu.vbios, gpu.protected_pcie];
    const key = JSON.stringify([...row, gpu.measurements_sha384]);
    const kind = kinds.get(key) ?? { row, devices: [] };
    kind.devices.push(gpu.pdi);
    kinds.set(key, kind);
  }
  return table(["GPUs", "Driver", "VBIOS", "Protected PCIe", "Devices"], [...kinds.values()].map(
    ({ row: [chip, ...rest], devices }) => [`${devices.length} × ${chip}`, ...rest, devices.join(" ")]));
}

function findingParts(findings) {
  const kinds = Object.entries(SEVERITIES).map(([severity, className]) => [
    severity, className, findings.filter((finding) => finding.severity === severity),
  ]).filter(([, , list]) => list.length);
  return kinds.map(([severity, className, list]) => {
    const lines = list.slice(0, MAX_FINDINGS_SHOWN).map((finding) => make("li", "",
      make("span", `state ${className}`, severity),
      make("span", "", finding.topic, make("span", "detail", finding.detail))));
    const more = list.length - lines.length;
    if (more > 0) lines.push(make("li", "", "", make("span", "", `and ${more} more: the verdict's JSON has them`)));
    const element = make("details", "", make("summary", "", `Findings (${severity}): ${list.length}`), make("ul", "findings", ...lines));
    element.open = severity === "danger";
    return element;
  });
}

function changeList(changes) {
  return make("ul", "findings", ...changes.map(({ down, detail }) => make("li", "",
    make("span", `state ${down ? "bad" : "open"}`, down ? "down" : "changed"), make("span", "", detail))));
}

function notProvedParts(report) {
  const open = report.checks.filter((check) => check.status === "not_proved");
  const lines = [
    ...open.map((check) => make("li", "", `${check.title}: `, make("span", "soft", check.detail))),
    ...report.limits.map((limit) => make("li", "", limit)),
  ];
  return lines.length ? [make("h4", "", "Not proved"), make("ul", "open-list", ...lines)] : [];
}

/** In the order of an explanation, by the words of people; what has none comes last. */
function factPairs(facts) {
  const known = about.facts.filter(({ name }) => name in facts);
  const names = new Set(known.map(({ name }) => name));
  const others = Object.keys(facts).filter((name) => !names.has(name)).map((name) => ({ name, words: name }));
  return [...known, ...others].map(({ name, words }) => [words, make("code", "", String(facts[name]))]);
}

/**
 * Old beside new. No command stands here, nor a line for a policy: whoever holds this port can show
 * a page like this one, and people would copy theirs.
 */
function differenceParts(differences) {
  if (differences.length === 0) return [];
  return [make("h4", "", "What differs"), table(["Of", "Expected", "Seen"], differences.map(
    ({ what, expected, seen }) => [what, expected, seen]))];
}

/** In the order of an explanation: from the hardware up to the connection. */
function reportParts(report) {
  const parts = [definitions([
    ["Judged", `${new Date(report.at).toLocaleString()} (${report.at})`],
    ["TLS key", make("code", "", report.spki)],
    ["Policy", `${report.policy.name}${report.policy.hardware_only ? " (HARDWARE ONLY)" : ""}`],
    ["CA chain", report.ca_chain],
    ["Verdict", make("code", "", report.id)],
  ])];
  if (report.message) {
    parts.push(make("h4", "", "Found"), make("p", "detail", report.message), ...differenceParts(report.differences));
  }
  if (report.changes.length) parts.push(make("h4", "", "Changed since it was last seen"), changeList(report.changes));
  for (const { title, proves } of about.groups) {
    const checks = report.checks.filter((check) => check.group === title);
    parts.push(make("h4", "", title), make("p", "soft", proves), make("ul", "checks", ...checks.map(checkLine)));
    if (title === "Deployment") {
      if (report.deployment) parts.push(...deploymentParts(report.deployment, report.facts));
      parts.push(...findingParts(report.findings));
    }
    if (title === "GPUs" && report.gpus.length) parts.push(gpuTable(report.gpus));
  }
  const facts = factPairs(report.facts);
  if (facts.length) {
    parts.push(make("h4", "", "Seen, and compared with nothing unless the policy pins it"), definitions(facts));
  }
  return [...parts, ...notProvedParts(report)];
}

/** Folded until a person opens it; then it reads the report of its verdict. */
function reportDetails(words) {
  const body = make("div");
  const line = make("span", "line");
  const element = make("details", "", make("summary", "", words, line), body);
  let wanted = null;
  let shown = null;
  const read = async () => {
    if (!element.open || shown === wanted) return;
    const id = wanted;
    try {
      const report = await (await ask(`/_proxy/verdicts/${id}`)).json();
      if (id !== wanted) return;
      body.replaceChildren(...reportParts(report));
      shown = id;
    } catch (error) {
      body.replaceChildren(make("p", "bad", error.message));
    }
  };
  element.addEventListener("toggle", read);
  return { element, say: (text) => setText(line, text), show: (id) => { wanted = id; read(); } };
}

