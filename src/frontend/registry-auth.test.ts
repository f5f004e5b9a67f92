import assert from "node:assert/strict";
import { test } from "node:test";

import { registryAuthFromHeader } from "./registry-auth.ts";

test("credentials are read from padded base64url, as Docker's clients write them", () => {
  const auth = registryAuthFromHeader(header({ username: "a", password: "ÿ~?", serveraddress: "r.example" }));
  assert.equal(auth?.username, "a");
  assert.equal(auth?.password, "ÿ~?");
  assert.equal(auth?.serverAddress, "r.example");
  assert.equal(registryAuthFromHeader(header({ identitytoken: "t" }))?.identityToken, "t");
});

test("what cannot be read, or says nothing, is anonymous", () => {
  const cases = [
    undefined,
    "",
    "not base64!",
    Buffer.from('{"username":"a"}').toString("base64url").slice(0, 5),
    Buffer.from("no JSON").toString("base64url").padEnd(12, "="),
    header({}),
    header({ username: 1 }),
    header("auth"),
  ];
  for (const each of cases) {
    assert.equal(registryAuthFromHeader(each), undefined, String(each));
  }
});

function header(value: unknown): string {
  const text = Buffer.from(JSON.stringify(value)).toString("base64url");
  return text.padEnd(Math.ceil(text.length / 4) * 4, "=");
}
