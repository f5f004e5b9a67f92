/** No secret that a client sends stands in a log at its most talkative, nor comes back in a message. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { routes } from "../../src/frontend/route-table.ts";
import { build, compileBuilder } from "../support/builds.ts";
import type { ApiResponse } from "../support/call-api.ts";
import { listenHere } from "../support/listen-here.ts";
import { tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon({ args: ["--log-level", "debug"] });

/** Every secret of this file. */
const secrets: string[] = [];
/** Answers that were given to requests with secrets. */
const answers: ApiResponse[] = [];

/** A new secret, plain enough to stand anywhere as it is. */
function secret(): string {
  const value = `hush${secrets.length}hush`;
  secrets.push(value);
  return value;
}

async function call(method: string, path: string, body?: unknown, headers?: Record<string, string>) {
  const answer = await api.call(method, path, body, headers);
  answers.push(answer);
  return answer;
}

/** Waits for the log of all requests so far, and looks for secrets in it. */
async function assertNothingTold(): Promise<void> {
  const { headers } = await api.call("GET", "/_ping");
  await until(() => daemon.output.includes(String(headers["sockerless-request-id"])) || undefined);
  const answered = answers.splice(0).map(({ text }) => text);
  const lines = [...daemon.output.split("\n"), ...answered];
  assert.deepEqual(
    lines.filter((line) => secrets.some((each) => line.includes(each))),
    [],
  );
}

const web = createServer((request, response) => {
  if (request.url === "/archive.tar") {
    void tarOf([{ name: "a", content: "x" }]).then((tar) => response.end(tar));
  } else {
    response.writeHead(404).end();
  }
});
let host = "";
before(async () => {
  await compileBuilder();
  const port = await listenHere(web);
  host = `127.0.0.1:${port}`;
});
after(() => {
  web.closeAllConnections();
  web.close();
});

const authHeader = () =>
  Buffer.from(JSON.stringify({ username: "me", password: secret(), serveraddress: host })).toString(
    "base64url",
  );

test("each route keeps what a header, a query and a body bring", async () => {
  for (const { method, path, hijack } of routes) {
    if (hijack === true || path === "/events") {
      continue; // They answer with streams that have no end.
    }
    const query = new URLSearchParams({
      fromSrc: `http://me:${secret()}@127.0.0.1:1/x`,
      remote: `http://me:${secret()}@127.0.0.1:1/x.git`,
      buildargs: JSON.stringify({ TOKEN: secret() }),
      changes: `ENV TOKEN=${secret()}`,
    });
    const body = { password: secret(), Env: [`TOKEN=${secret()}`], Cmd: ["echo", secret()] };
    const target = path.replaceAll(/\{\w+\}/g, "nobody");
    const hasBody = method !== "GET" && method !== "HEAD";
    await call(method, `${target}?${query.toString()}`, hasBody ? body : undefined, {
      "X-Registry-Auth": authHeader(),
      "X-Registry-Config": Buffer.from(JSON.stringify({ [host]: { password: secret() } })).toString(
        "base64url",
      ),
      Authorization: `Basic ${Buffer.from(`me:${secret()}`).toString("base64")}`,
    });
  }
  await assertNothingTold();
});

test("logins, pulls and pushes keep their credentials", async () => {
  await call("POST", "/auth", { username: "me", password: secret(), serveraddress: host });
  const headers = { "X-Registry-Auth": authHeader() };
  await call("POST", `/images/create?fromImage=${host}/x&tag=1`, undefined, headers);
  await api.call("POST", `/images/busybox/tag?repo=${host}/x&tag=1`);
  await call("POST", `/images/${host}/x/push?tag=1`, undefined, headers);
  await assertNothingTold();
});

test("an import keeps the password of its URL, and so does its image's history", async () => {
  for (const path of ["archive.tar", "absent.tar"]) {
    const url = `http://me:${secret()}@${host}/${path}`;
    await call("POST", `/images/create?fromSrc=${encodeURIComponent(url)}&repo=taken`);
  }
  const history = await call("GET", "/images/taken/history");
  assert.match(history.text, new RegExp(`Imported from http://me:\\*\\*\\*@${host}/archive.tar`));
  await assertNothingTold();
});

test("a build keeps its arguments and the passwords of its sources", async () => {
  const remotes = [
    `http://me:${secret()}@${host}/Dockerfile`,
    `http://me:${secret()}@${host}/x.git`,
    `http://${secret()}@${host}/Dockerfile`,
    `http://${secret()}@127.0.0.1:1/Dockerfile`,
  ];
  for (const remote of remotes) {
    await call("POST", `/build?remote=${encodeURIComponent(remote)}`);
  }
  for (const [user, source] of [
    ["me:", "archive.tar"],
    ["", "archive.tar"],
    ["me:", "absent"],
    ["", "absent"],
  ] as const) {
    const dockerfile = `FROM busybox\nARG TOKEN\nADD http://${user}${secret()}@${host}/${source} /x\n`;
    const buildargs = JSON.stringify({ TOKEN: secret() });
    const { text, error } = await build(daemon.socket, dockerfile, { query: { buildargs } });
    assert.equal(error === undefined, source === "archive.tar", text);
    assert.ok(!secrets.some((each) => text.includes(each) || error?.message.includes(each)), text);
  }
  await assertNothingTold();
});

test("a container keeps its environment and what its commands say", async () => {
  const id = await api.run({ Cmd: ["sleep", "1000"], Env: [`TOKEN=${secret()}`] });
  const exec = await call("POST", `/containers/${id}/exec`, {
    Cmd: ["true"],
    Env: [`TOKEN=${secret()}`],
    AttachStdout: true,
  });
  const { Id } = exec.json() as { readonly Id: string };
  await call("POST", `/exec/${Id}/start`, { Detach: true });
  await api.remove(id);
  await assertNothingTold();
});
