// An observer in JavaScript. It reads VT_EVENTS from the beginning as docs/observers.md says, validates every event
// against the exported JSON Schema, goes on live, and tries to publish, which the server must refuse.
//
//   node observer.mjs LOGIN SCHEMAS COUNT
//
// Prints one JSON object a line: {"event": …} for each of COUNT events, then {"refused": [subjects]}.

import { readFileSync } from "node:fs";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const [loginFile, schemaFile, count] = process.argv.slice(2);
const login = readLogin(readFileSync(loginFile, "utf-8"));
const schemas = JSON.parse(readFileSync(schemaFile, "utf-8"));
const validators = makeValidators(schemas);
const pattern = `vt.${login.tenant}.evt.>`;

const connection = await connect({
  servers: login.url,
  authenticator: nkeyAuthenticator(new TextEncoder().encode(login.seed)),
  inboxPrefix: `_INBOX.${login.role}`,
  name: "interop",
});
// checkAPI would ask for the account's figures, which an observer may not see.
const manager = await jetstreamManager(connection, { checkAPI: false });

let rang = () => {};
connection.subscribe(`live.${pattern}`, { callback: () => rang() });

let position = 1;
let seen = 0;
while (seen < Number(count)) {
  const bell = new Promise((resolve) => {
    rang = resolve;
    setTimeout(resolve, 5000).unref(); // a bell may be lost: look again without one
  });
  if ((await readOn()) === 0) await bell;
}
process.stdout.write(JSON.stringify({ refused: await tryToPublish() }) + "\n");
await connection.close();

/** Read what is there from `position` on; how many messages there were. */
async function readOn() {
  let found = 0;
  try {
    const batch = await manager.direct.getBatch("VT_EVENTS", { seq: position, batch: 256, next_by_subj: pattern });
    for await (const message of batch) {
      found += 1;
      position = message.seq + 1;
      const headers = message.header;
      if (headers.get("Nats-Expected-Stream") === "VT_EVENTS" && !headers.has("Vt-Requeued")) take(message);
    }
  } catch (problem) {
    if (!/not found/i.test(problem.message)) throw problem; // nothing there yet
  }
  return found;
}

/** Check one message against its schema and its CloudEvents headers, and print it. */
function take(message) {
  const event = message.json();
  const validate = validators[event.type];
  if (validate === undefined) throw new Error(`no schema for ${event.type}`);
  if (!validate(event)) throw new Error(`${event.type} does not fit: ${JSON.stringify(validate.errors)}`);
  for (const [name, value] of [["specversion", "1.0"], ["id", event.id], ["type", event.type]]) {
    const header = message.header.get(`ce-${name}`);
    if (header !== value) throw new Error(`ce-${name} is ${header}, not ${value}`);
  }
  seen += 1;
  process.stdout.write(JSON.stringify({ event: { type: event.type, stream: event.stream, sequence: event.sequence } }) + "\n");
}

/** Publish where an observer must not; the subjects the server refused. */
async function tryToPublish() {
  const subjects = [
    `vt.${login.tenant}.evt.s1.gate_passed._`,
    `vt.${login.tenant}.cmd.s1.decide_gate.operator`,
    `vt.${login.tenant}.tel.s1.observer.progress`,
    "$JS.API.CONSUMER.CREATE.VT_EVENTS.mine",
  ];
  const refused = [];
  const status = connection.status();
  (async () => {
    for await (const { type, error } of status) {
      if (type === "error" && error.operation === "publish") refused.push(error.subject);
    }
  })();
  for (const subject of subjects) connection.publish(subject, "{}");
  await connection.flush(); // the server answers in order: a refusal comes before this answer
  await new Promise((resolve) => setImmediate(resolve));
  return refused;
}

/** The file that `valuetrain credentials observer` prints. */
function readLogin(text) {
  const fields = Object.fromEntries([...text.matchAll(/^(\w+): (.+)$/gm)].map(([, name, value]) => [name, value]));
  return { ...fields, seed: text.match(/^SU[A-Z2-7]+$/m)[0] };
}

/** One compiled schema for each event type. */
function makeValidators(documents) {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats(ajv);
  const events = Object.entries(documents).filter(([name]) => name.startsWith("events/"));
  return Object.fromEntries(events.map(([name, schema]) => [name.slice(7, -5), ajv.compile(schema)]));
}
