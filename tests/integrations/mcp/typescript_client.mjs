// The TypeScript client as a program: node typescript_client.mjs MODULES TRANSPORT TARGET ERA
// It begins a session, looks a price up twice in it, and says in one line of JSON what came back.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, transport, target, era] = process.argv.slice(2);
const from = createRequire(`${modules}/index.js`);
const load = async (name) => import(pathToFileURL(from.resolve(name)).href);
const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");

const connect = () => {
  if (transport === "http") return new StreamableHTTPClientTransport(new URL(target));
  const [command, ...args] = JSON.parse(target);
  return new StdioClientTransport({ command, args, env: { ...process.env } });
};
const mode = era === "legacy" ? "legacy" : { pin: era };
const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } });
await client.connect(connect());
const call = (name, args, meta) => client.callTool({ name, arguments: args, ...(meta ? { _meta: meta } : {}) });

const { tools } = await client.listTools();
const created = await call(
  "create-analysis-session",
  { assets: ["AAPL"], session_type: "equity" },
  { "vscode.conversationId": `typescript-${transport}-${era}` },
);
const session_id = created.structuredContent.session_id;
const first = await call("search-by-symbol", { symbol: "AAPL", session_id });
const bound = await call("search-by-symbol", { symbol: "AAPL" }, {
  "vscode.conversationId": `typescript-${transport}-${era}`,
});
const info = await call("get-session-info", { session_id });
const history = await client.readResource({ uri: `session://${session_id}/history` });
console.log(
  JSON.stringify({
    tools: tools.map((tool) => tool.name).sort(),
    notes: [first._meta.perdure, bound._meta.perdure],
    hits: [first.structuredContent.cache_hit, bound.structuredContent.cache_hit],
    total: info.structuredContent.total_queries,
    history: JSON.parse(history.contents[0].text).total_queries,
    session_id,
  }),
);
await client.close();
