/** Light and dark by the reader's choice, always light on paper. */
export const STYLE = `
:root{color-scheme:light dark;--ink:#1c2733;--soft:#61707f;--line:#d9dee4;--page:#fff;--card:#f6f8fa;--blue:#2f6fde;--grey:#9aa7b4;--green:#23875a;--red:#c53a3a;--amber:#b97412}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9ee;--soft:#9aa7b4;--line:#34404c;--page:#151b21;--card:#1d252d;--blue:#6ea2ff;--grey:#74828f;--green:#58c08f;--red:#f07b7b;--amber:#e0a44c}}
@media print{:root{color-scheme:light;--ink:#1c2733;--soft:#61707f;--line:#d9dee4;--page:#fff;--card:#f6f8fa;--blue:#2f6fde;--grey:#9aa7b4;--green:#23875a;--red:#c53a3a;--amber:#b97412}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1000px;margin:0 auto;padding:2rem 1.2rem 4rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.4rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
p{margin:.5rem 0}.soft{color:var(--soft)}a{color:var(--blue)}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
pre{background:var(--card);padding:.8rem;overflow:auto;font:12px/1.45 ui-monospace,monospace}
.verdict{display:flex;gap:1.2rem;align-items:center;flex-wrap:wrap;background:var(--card);border-left:5px solid var(--soft);padding:.9rem 1.1rem;margin:1.2rem 0}
.verdict.yes{border-color:var(--green)}.verdict.no{border-color:var(--red)}
.verdict b{font-size:1.9rem;line-height:1}.verdict.yes b{color:var(--green)}.verdict.no b{color:var(--red)}.verdict div{flex:1 1 20rem}.verdict svg{max-width:420px;margin-top:.4rem}
.warn{border-left:4px solid var(--amber);padding:.2rem .8rem;margin:.4rem 0;background:var(--card)}.warn.bad{border-color:var(--red)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
th{font-weight:600;text-align:left;color:var(--soft)}th,td{padding:.28rem .9rem .28rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
figure{margin:1rem 0;break-inside:avoid}figcaption{color:var(--soft);font-size:.85rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(215px,1fr));gap:.9rem}
.grid figure{margin:0;background:var(--card);padding:.6rem}.grid figcaption{overflow-wrap:anywhere;font-size:.76rem;line-height:1.35}.grid b{color:var(--ink);font-weight:600}
svg{display:block;width:100%;height:auto}text{fill:var(--ink);font:12px system-ui,sans-serif}text.soft{fill:var(--soft)}.mid{text-anchor:middle}.end{text-anchor:end}
.axis{stroke:var(--line)}.blue{fill:var(--blue);background:var(--blue)}.grey{fill:var(--grey);background:var(--grey)}.green{fill:var(--green);background:var(--green)}.red{fill:var(--red);background:var(--red)}.amber{fill:var(--amber);background:var(--amber)}
.line{fill:none;stroke-width:1.5}.line.blue{stroke:var(--blue);background:none}.line.grey{stroke:var(--grey)}.line.amber{stroke:var(--amber)}.line.red{stroke:var(--red)}.line.green{stroke:var(--green)}.dash{stroke-dasharray:4 3}
.key{display:inline-block;width:.7em;height:.7em;margin:0 .3em 0 .9em;border-radius:2px}.key:first-child{margin-left:0}
summary{cursor:pointer;color:var(--blue);margin:.6rem 0}
@media print{main{max-width:none;padding:0}body{font-size:11px}h2{break-after:avoid}.grid{grid-template-columns:repeat(4,1fr)}}
`;
