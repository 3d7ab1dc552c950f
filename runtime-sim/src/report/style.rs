//! How a report looks: light and dark, on a phone and on a desk, and on paper.

/// The whole style sheet. Colours are variables, so that drawings follow the reader's choice of light or dark.
pub(super) const CSS: &str = "
:root {
  --ground: #f7f7f5; --paper: #ffffff; --ink: #1c1e21; --faint: #5f6670; --line: #dcdfe3; --soft: #eceef1;
  --main: #2563c9; --second: #b4540a; --good: #18794e; --bad: #c02626; --warn: #8a6100; --note: #f0f4fb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15171a; --paper: #1e2125; --ink: #e8eaed; --faint: #a3abb5; --line: #363b42; --soft: #2a2e34;
    --main: #79a9f5; --second: #f0a15c; --good: #57c38a; --bad: #ff8080; --warn: #e2b64b; --note: #22293a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
main, header, footer { max-width: 1180px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 24px; }
footer { padding: 24px 16px 40px; color: var(--faint); font-size: 14px; }
h1 { margin: 0 0 4px; font-size: 26px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 18px; }
.verdict { display: inline-block; margin: 8px 0; padding: 4px 14px; border-radius: 999px; font-weight: 600; color: var(--paper); background: var(--bad); }
.verdict.good { background: var(--good); }
.what { margin: 4px 0 12px; overflow-wrap: anywhere; }
.sub { color: var(--faint); margin: 0; overflow-wrap: anywhere; }
pre { margin: 8px 0 0; padding: 10px 12px; background: var(--soft); border-radius: 8px; font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
section { margin: 16px 0; padding: 16px; background: var(--paper); border: 1px solid var(--line); border-radius: 12px; min-width: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 12px; margin: 16px 0; }
.tile { padding: 12px 14px; background: var(--paper); border: 1px solid var(--line); border-radius: 12px; }
.tile b { display: block; font-size: 22px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 14px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 16px; }
.grid > section { margin: 0; }
figure { margin: 0; }
figcaption { color: var(--faint); font-size: 14px; margin-top: 6px; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: var(--faint); }
.axis { stroke: var(--line); stroke-width: 1; }
.series { fill: none; stroke: var(--main); stroke-width: 2; stroke-linejoin: round; }
.series.second { stroke: var(--second); }
.bar { fill: var(--main); }
.bar.second { fill: var(--second); opacity: .75; }
.edge { stroke: var(--faint); opacity: .45; }
.node { fill: var(--main); stroke: var(--paper); stroke-width: 1.5; }
.node.cheat { fill: var(--second); }
.node.fault { fill: var(--bad); }
.node.gone { fill: var(--paper); stroke: var(--faint); }
svg text.inside { fill: var(--paper); font-weight: 600; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 8px; padding: 0; list-style: none; font-size: 14px; color: var(--faint); }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 3px; background: var(--main); vertical-align: -1px; }
.key i.second { background: var(--second); } .key i.fault { background: var(--bad); }
table { width: 100%; border-collapse: collapse; font-size: 15px; }
th, td { text-align: left; padding: 4px 8px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--faint); }
td.n, th.n { text-align: right; padding-right: 0; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.b { width: 34%; min-width: 72px; padding-right: 12px; }
.meter { display: block; height: 10px; border-radius: 5px; background: var(--main); min-width: 2px; margin-top: 7px; }
ul.marks { margin: 0; padding-left: 18px; columns: 280px; font-size: 15px; }
ul.marks li { break-inside: avoid; overflow-wrap: anywhere; }
details > summary { cursor: pointer; color: var(--faint); }
details[open] > summary { margin-bottom: 8px; }
pre.lines { white-space: pre; overflow-wrap: normal; width: max-content; min-width: 100%; }
code { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; color: var(--faint); overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
.wide svg { width: auto; max-width: none; }
.none { color: var(--faint); margin: 0; }
@media (max-width: 520px) { h1 { font-size: 22px; } section { padding: 14px 12px; } main, header { padding-left: 12px; padding-right: 12px; } }
@media print { body { background: none; } section, .tile { break-inside: avoid; } }
";
