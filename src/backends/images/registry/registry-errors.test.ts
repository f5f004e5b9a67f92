import assert from "node:assert/strict";
import { test } from "node:test";

import { loginError, pullError, pushError, RegistryRefusal, refusalOf } from "./registry-errors.ts";
import { parseNamed } from "../reference.ts";

const json = { authenticate: "", contentType: "application/json; charset=utf-8" };

test("a refusal is reported in the registry's words", () => {
  const told = (status: number, body: string, contentType = json.contentType) =>
    refusalOf({ ...json, status, body, contentType }).message;
  assert.equal(
    told(429, '{"errors":[{"code":"TOOMANYREQUESTS","message":"out of tokens"}]}'),
    "toomanyrequests: out of tokens",
  );
  assert.equal(
    told(401, '{"errors":[{"Code":"UNAUTHORIZED","message":"a message about it","detail":null}]}'),
    "unauthorized: a message about it",
  );
  assert.equal(told(401, '{"error":"unauthorized"}'), "unauthorized: authentication required");
  assert.equal(
    told(403, '{"error":"no"}'),
    'error parsing HTTP 403 response body: no error details found in HTTP response body: "{\\"error\\":\\"no\\"}"',
  );
  assert.match(told(403, "no way"), /^error parsing HTTP 403 response body: .+: "no way"$/);
  assert.equal(told(403, "no way", "text/plain"), "denied: requested access to the resource is denied");
  assert.equal(told(502, "<html>", "text/html"), "received unexpected HTTP status: 502 Bad Gateway");
});

test("the request that a token server refused is reported once, and not for a push", () => {
  const request = 'Get "https://reg.example.com/v2/"';
  const refused = new RegistryRefusal("", "no basic auth credentials", 401, request);
  const messageOf = (error: unknown) => (error as Error).message;
  assert.equal(messageOf(pushError(refused)), "no basic auth credentials");
  assert.equal(messageOf(pullError(refused, parseNamed("image"))), `${request}: no basic auth credentials`);
  assert.equal(
    messageOf(loginError(refused, "https://reg.example.com/v2/")),
    `${request}: no basic auth credentials`,
  );
});

for (const [code, words] of [
  ["BLOB_UNKNOWN", "blob unknown: blob unknown to registry"],
  ["constructor", "constructor: unknown error"],
  ["__proto__", "  proto  : unknown error"],
] as const) {
  test(`the code ${code} without a message is reported as "${words}"`, () => {
    const body = `{"errors":[{"code":"${code}"}]}`;
    assert.equal(refusalOf({ ...json, status: 404, body }).message, words);
  });
}
