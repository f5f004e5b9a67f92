import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { type ApiResponse, callApi } from "../../../test/support/call-api.ts";
import { serveApi } from "../../../test/support/docker-api.ts";
import { strangeValue } from "../../../test/support/strange-json.ts";
import { routes } from "../route-table.ts";

const name = fc.oneof(
  fc.constantFrom(
    "x",
    "busybox:latest",
    "a/b/c@sha256:00",
    "%2e%2e",
    "..",
    "%00",
    "%ff",
    "%zz",
    "a%2Fb",
    "json",
    "-",
  ),
  fc.string({ maxLength: 8 }).map(encodeURIComponent),
);
const queryValue = fc.oneof(
  fc.constantFrom(
    "",
    "1",
    "0",
    "true",
    "-1",
    "1e9",
    "99999999999999999999",
    "{",
    "null",
    "[]",
    "{}",
    "%00",
    "all",
  ),
  fc.constantFrom('{"label":["a"]}', '{"label":{"a":true}}', '{"x":1}', '{"until":["-5"]}', '{"name":["["]}'),
  fc.string({ maxLength: 10 }),
);
const queryKey = fc.constantFrom(
  ..."all limit size filters tail since until stdout stderr follow timestamps signal t condition h w path name v force".split(
    " ",
  ),
  ..."fromImage repo tag platform names changes stream one-shot ps_args detachKeys details logs stdin container".split(
    " ",
  ),
);
const body = fc.oneof(
  fc.constantFrom(
    "",
    "{",
    "null",
    "[]",
    "1",
    '"text"',
    '{"a":{"a":{"a":[]}}}',
    "[".repeat(5000),
    "\0",
    "\ufeff{}",
  ),
  fc
    .dictionary(
      fc.constantFrom("Image", "Cmd", "HostConfig", "Name", "Detach", "IPAM", "Memory"),
      strangeValue,
    )
    .map((value) =>
      JSON.stringify(value, (_key, each: unknown) => (typeof each === "bigint" ? Number(each) : each)),
    ),
);
const version = fc.constantFrom(
  "",
  "/v1.24",
  "/v1.41",
  "/v1.51",
  "/v1.23",
  "/v9.9",
  "/v1",
  "/v1.51.1",
  "/vx",
);
const contentType = fc.constantFrom(
  "application/json",
  "application/x-tar",
  "text/plain",
  "",
  "a/b;;",
  "application/json; charset=utf-8",
);

// Behind the frontend is a backend that knows no call: what is not refused before is answered with 501.
test("whatever is asked of whichever route, it is answered, and never by an error of ours", async (t) => {
  const api = await serveApi(t, () => {});
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...routes),
      version,
      fc.array(name, { minLength: 1, maxLength: 3 }),
      fc.array(fc.tuple(queryKey, queryValue), { maxLength: 5 }),
      body,
      contentType,
      fc.boolean(),
      async ({ method, path }, prefix, names, query, text, type, upgrade) => {
        let next = 0;
        const filled = path.replaceAll(/\{[^}]*\}/g, () => names[next++ % names.length] ?? "x");
        const url = `${prefix}${filled}?${query.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&")}`;
        const answer: ApiResponse = await callApi(api.socket, method, url, {
          body: method === "GET" || method === "HEAD" ? undefined : text,
          headers: {
            ...(type === "" ? {} : { "Content-Type": type }),
            ...(upgrade ? { Connection: "Upgrade", Upgrade: "tcp" } : {}),
          },
        });
        const told = `${method} ${url} ${JSON.stringify(text.slice(0, 100))}: ${answer.status} ${answer.text.slice(0, 300)}`;
        assert.notEqual(answer.status, 500, told);
        if (
          answer.status >= 400 &&
          method !== "HEAD" &&
          answer.headers["content-type"] === "application/json"
        ) {
          assert.ok((answer.json() as { message: string }).message !== "", told);
        }
      },
    ),
    { numRuns: 800 },
  );
  assert.equal((await api.call("GET", "/_ping")).text, "OK");
});
