"""How the report page looks: on a desk, on a phone and in print."""

STYLE = """
:root { color-scheme: light; --ink: #222; --faint: #666; --line: #ddd; --shade: #f4f4f2; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 1.2rem 1.2rem 3rem; background: white; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .6rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 2px solid var(--ink); }
p { max-width: 76ch; margin: .5rem 0; } ul { padding-left: 1.3rem; } li { margin: .3rem 0; max-width: 104ch; }
.notes li { margin: .1rem 0; }
small, .notes, figcaption, summary { color: var(--faint); }
.phantom { background: #fff3d6; border-left: 6px solid #e69f00; padding: .6rem .9rem; margin: .8rem 0;
  font-weight: 600; }
.question { font-size: 1.08rem; }
nav { font-size: .9rem; margin: .4rem 0 0; display: flex; flex-wrap: wrap; }
nav a { color: var(--accent); margin-right: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .84rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; font-size: .95rem; }
th, td { padding: .22rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody th, .text { text-align: left; } tbody th, td.text { font-weight: 400; }
tbody th, tbody td.text:first-child, thead tr > :first-child { position: sticky; left: 0; z-index: 1;
  background: white; }
caption span { position: sticky; left: 0; display: inline-block; max-width: min(70rem, calc(100vw - 2.5rem)); }
thead th { border-bottom: 1px solid var(--ink); }
thead th[colspan] { text-align: center; border-bottom: 0; }
table.paper td:nth-child(3n+2), table.paper thead tr:first-child th { border-left: 1px solid var(--line); }
table.card { margin-top: .6rem; } table.card td, table.card thead th { line-height: 1.3; vertical-align: top; }
table.card thead th { white-space: normal; min-width: 4.6rem; vertical-align: bottom; }
table.card td small { font-size: .68rem; } table.spread thead th[colspan] { border-left: 1px solid var(--line); }
tr.first > * { border-top: 2px solid var(--faint); }
tr.rival, tr.rival th { background: var(--shade); }
tr.published > * { color: var(--faint); font-style: italic; } tr.published th { padding-left: 1.4rem; }
td.best { font-weight: 700; } td.best small { font-weight: 400; }
td.small-p { font-weight: 700; }
.notes { font-size: .85rem; padding-left: 1.1rem; max-width: 90ch; }
.meanings { columns: 2 330px; column-gap: 2rem; max-width: none; } .meanings li { break-inside: avoid; }
dl { columns: 3 300px; column-gap: 2rem; margin: .4rem 0; font-size: .86rem; }
dl div { display: flex; gap: .6rem; justify-content: space-between; border-bottom: 1px solid var(--line);
  break-inside: avoid; padding: .12rem 0; }
dt { color: var(--faint); white-space: nowrap; } dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
figure { margin: 1.2rem 0 1.8rem; } figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .88rem; margin-top: .3rem; max-width: 90ch; }
details { margin: .5rem 0; } summary { cursor: pointer; }
@media (max-width: 700px) { body { padding: .8rem .8rem 2rem; font-size: 15px; } h1 { font-size: 1.35rem; }
  figure img { max-width: none; width: 760px; }
  tbody th, tbody td.text:first-child, thead > tr > :first-child { white-space: normal; max-width: 8.6rem; }
  tbody th, tbody td.text:first-child { min-width: 8.2rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 6.6pt; } th, td { padding: 1pt 2.5pt; } figure { break-inside: avoid; }
  figure img { max-height: 222mm; width: auto; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
"""
