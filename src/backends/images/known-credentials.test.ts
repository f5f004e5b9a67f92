import assert from "node:assert/strict";
import { test } from "node:test";

import { KnownCredentials } from "./known-credentials.ts";
import { parseNamed } from "./reference.ts";

test("credentials are kept for the repositories that were pulled from last, unless they are overlong", async () => {
  const known = new KnownCredentials(undefined);
  const repository = (n: number) => parseNamed(`registry.test/repository-${n}`);
  const passwordOf = async (n: number) => (await known.ofLayers(repository(n)))?.password;
  const remember = (n: number, password: string) =>
    known.remember(repository(n), { username: "u", password, identityToken: "", registryToken: "" });
  for (let n = 0; n < 1_000; n++) {
    remember(n, "first");
  }
  remember(0, "again");
  remember(1_000, "first");
  remember(2, "x".repeat(2 ** 17));
  assert.equal(await passwordOf(0), "again");
  assert.equal(await passwordOf(1), undefined, "the oldest");
  assert.equal(await passwordOf(2), undefined, "the former ones are not shown instead");
  assert.equal(await passwordOf(1_000), "first");
});
